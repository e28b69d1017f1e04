//! A document: its parameters, and the steps that come of them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use regex::Regex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::refusal::Refusal;

/// The values of a document's parameters.
pub(super) type Values = BTreeMap<String, Vec<String>>;

/// A document as it was registered.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) content: String,
    /// `Command`, `Automation`, ...
    pub(super) kind: String,
    pub(super) created: SystemTime,
    body: Value,
}

/// A step with its parameters put in.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) action: String,
    pub(super) script: String,
    /// In seconds.
    pub(super) timeout: u64,
    /// The platform that its precondition asks for.
    pub(super) platform: Option<String>,
    pub(super) exit_on_failure: bool,
    pub(super) finally: bool,
}

impl Document {
    pub(super) fn parse(name: &str, content: &str, kind: &str) -> Result<Self, Refusal> {
        if content.len() > 64 * 1024 {
            let message = "The size limit of a document is 64 KB.";
            return Err(Refusal::new("MaxDocumentSizeExceeded", message));
        }
        let body = match kind {
            "Command" => command_body(content)?,
            _ => Value::Null,
        };
        Ok(Self {
            name: name.into(),
            content: content.into(),
            kind: kind.into(),
            created: SystemTime::now(),
            body,
        })
    }

    /// In hexadecimal, as Systems Manager tells it.
    pub(super) fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.content.as_bytes()))
    }

    pub(super) fn description(&self) -> &str {
        self.body["description"].as_str().unwrap_or_default()
    }

    /// Name, type, description and default of each parameter.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.body["parameters"].as_object().into_iter().flatten()
    }

    /// What the parameters stand for in one command, each value checked against its rules.
    pub(super) fn bind(&self, given: &Value) -> Result<Values, Refusal> {
        let mut values = Values::new();
        for (name, rules) in self.parameters() {
            let value = given.get(name).or_else(|| rules.get("default"));
            let value = value.ok_or_else(|| wrong(format!("Parameter {name} is required")))?;
            let value = texts(value);
            check(name, rules, &value)?;
            values.insert(name.clone(), value);
        }
        let unknown = given
            .as_object()
            .into_iter()
            .flatten()
            .find(|(name, _)| !values.contains_key(*name));
        match unknown {
            Some((name, _)) => Err(wrong(format!("Parameter {name} is not in the document"))),
            None => Ok(values),
        }
    }

    pub(super) fn steps(&self, values: &Values) -> Vec<Step> {
        let steps = self.body["mainSteps"].as_array().into_iter().flatten();
        steps.map(|step| Step::new(step, values)).collect()
    }
}

impl Step {
    fn new(step: &Value, values: &Values) -> Self {
        let inputs = &step["inputs"];
        let text = |value: &Value| {
            let plain = value.as_str().map(str::to_string);
            put_in(&plain.unwrap_or_else(|| value.to_string()), values)
        };
        let command = &inputs["runCommand"];
        let lines = match command.as_str().and_then(placeholder) {
            // A list of texts is a parameter as a whole.
            Some(name) => values.get(name).cloned().unwrap_or_default(),
            None => texts(command)
                .iter()
                .map(|line| put_in(line, values))
                .collect(),
        };
        let timeout = text(&inputs["timeoutSeconds"]).parse();
        let equals = &step["precondition"]["StringEquals"];
        Self {
            name: step["name"].as_str().unwrap_or_default().into(),
            action: step["action"].as_str().unwrap_or_default().into(),
            script: lines.join("\n") + "\n",
            // As the agent: what is out of bounds counts as the default.
            timeout: timeout
                .ok()
                .filter(|seconds| (5..=172_800).contains(seconds))
                .unwrap_or(3600),
            platform: (equals[0] == "platformType")
                .then(|| equals[1].as_str().unwrap_or_default().into()),
            exit_on_failure: inputs["onFailure"] == "exit",
            finally: inputs["finallyStep"] == true,
        }
    }
}

fn command_body(content: &str) -> Result<Value, Refusal> {
    let invalid = |message: &str| Refusal::new("InvalidDocumentContent", message);
    let body: Value = serde_json::from_str(content)
        .map_err(|error| invalid(&format!("JSON not well-formed: {error}")))?;
    if body["schemaVersion"] != "2.2" {
        let message = "The version of the document schema isn't supported.";
        return Err(Refusal::new("InvalidDocumentSchemaVersion", message));
    }
    let steps = body["mainSteps"].as_array();
    let steps = steps.ok_or_else(|| invalid("mainSteps is missing"))?;
    let whole = |step: &Value| {
        step["name"].is_string() && step["action"].is_string() && step["inputs"].is_object()
    };
    if steps.is_empty() || !steps.iter().all(whole) {
        return Err(invalid("a step lacks its name, action or inputs"));
    }
    Ok(body)
}

fn wrong(message: String) -> Refusal {
    Refusal::new("InvalidParameters", message)
}

/// A text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    let plain = |value: &Value| {
        let text = value.as_str().map(str::to_string);
        text.unwrap_or_else(|| value.to_string())
    };
    match value {
        Value::Array(values) => values.iter().map(plain).collect(),
        value => vec![plain(value)],
    }
}

fn check(name: &str, rules: &Value, values: &[String]) -> Result<(), Refusal> {
    if rules["type"] == "String" && values.len() != 1 {
        return Err(wrong(format!("Parameter {name} takes one value")));
    }
    let pattern = match rules["allowedPattern"].as_str() {
        Some(pattern) => Some(
            Regex::new(pattern)
                .map_err(|error| wrong(format!("allowedPattern of {name}: {error}")))?,
        ),
        None => None,
    };
    let length = |rule: &str| rules[rule].as_u64().and_then(|rule| rule.try_into().ok());
    for value in values {
        let size = value.chars().count();
        let fits = pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(value))
            && length("minChars").is_none_or(|least: usize| size >= least)
            && length("maxChars").is_none_or(|most: usize| size <= most)
            && rules["allowedValues"]
                .as_array()
                .is_none_or(|allowed| allowed.iter().any(|allowed| allowed == value));
        if !fits {
            let message = format!("The value of parameter {name} is not allowed: {value}");
            return Err(wrong(message));
        }
    }
    Ok(())
}

/// The name, when the text is one `{{ Name }}` and nothing else.
fn placeholder(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    (!name.contains(['{', '}'])).then_some(name)
}

/// Puts the values in place of `{{ Name }}`, as text and with no quoting, just as Systems Manager does.
fn put_in(text: &str, values: &Values) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        done += before;
        let known = after
            .split_once("}}")
            .and_then(|(name, after)| Some((values.get(name.trim())?, after)));
        match known {
            Some((value, after)) => {
                done += &value.join(" ");
                rest = after;
            }
            None => {
                done += "{{";
                rest = after;
            }
        }
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(parameters: &Value, command: &Value) -> Document {
        let body = json!({
            "schemaVersion": "2.2", "description": "d", "parameters": parameters,
            "mainSteps": [{"name": "s", "action": "aws:runShellScript", "inputs": {"runCommand": command}}],
        });
        Document::parse("d", &body.to_string(), "Command").unwrap()
    }

    #[test]
    fn values_are_put_in_as_text() {
        let rules = json!({"A": {"type": "String", "allowedPattern": "^[a-z;]+$"}, "L": {"type": "StringList"}});
        let lines = document(&rules, &json!(["x={{ A }}{{A}} {{ B }} {{", "{{ L }}"]));
        let values = lines.bind(&json!({"A": ["a;b"], "L": ["1", "2"]})).unwrap();
        assert_eq!(lines.steps(&values)[0].script, "x=a;ba;b {{ B }} {{\n1 2\n");
        let whole = document(&rules, &json!("{{ L }}"));
        assert_eq!(whole.steps(&values)[0].script, "1\n2\n");
        for wrong in [
            json!({"A": ["A"], "L": []}),
            json!({"A": ["a", "b"], "L": []}),
            json!({"A": ["a"]}),
            json!({"A": ["a"], "L": [], "B": ["b"]}),
        ] {
            let refusal = lines.bind(&wrong).unwrap_err();
            assert_eq!(refusal.code, "InvalidParameters", "{wrong}");
        }
    }
}
