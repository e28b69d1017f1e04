//! Documents: registered, described, read back.

use serde_json::{Value, json};

use super::super::call::Call;
use super::super::refusal::Refusal;
use super::document::Document;
use super::{State, seconds};

type Output = Result<Value, Refusal>;

impl State {
    /// The document of this name, or of this ARN in another account.
    pub(super) fn document(&self, call: &Call, name: &str) -> Result<&Document, Refusal> {
        let arn: Vec<&str> = name.splitn(6, ':').collect();
        let (account, name) = match arn.as_slice() {
            [_, _, _, _, account, resource] => (*account, resource.trim_start_matches("document/")),
            _ => (call.account.as_str(), name),
        };
        let key = (account.to_string(), place(&call.region, name));
        let missing = || {
            Refusal::new(
                "InvalidDocument",
                format!("Document with name {name} does not exist."),
            )
        };
        self.documents.get(&key).ok_or_else(missing)
    }

    pub(super) fn create_document(&mut self, call: &Call, input: &Value) -> Output {
        let text = |name: &str| input[name].as_str().unwrap_or_default();
        let name = text("Name");
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if !(3..=128).contains(&name.len()) || !name.chars().all(good) {
            return Err(Refusal::invalid(format!(
                "Value '{name}' at 'name' failed to satisfy constraint"
            )));
        }
        if !["", "JSON"].contains(&text("DocumentFormat")) {
            return Err(Refusal::invalid("this rig reads documents in JSON only"));
        }
        let kind = input["DocumentType"].as_str().unwrap_or("Command");
        let key = (call.account.clone(), place(&call.region, name));
        if self.documents.contains_key(&key) {
            let message = format!("Document with same name {name} already exists");
            return Err(Refusal::new("DocumentAlreadyExists", message));
        }
        let document = Document::parse(name, text("Content"), kind)?;
        let description = describe(&document, &call.account);
        self.documents.insert(key, document);
        Ok(json!({"DocumentDescription": description}))
    }

    pub(super) fn describe_document(&mut self, call: &Call, input: &Value) -> Output {
        let document = self.wanted(call, input)?;
        Ok(json!({"Document": describe(document, &call.account)}))
    }

    pub(super) fn get_document(&mut self, call: &Call, input: &Value) -> Output {
        let document = self.wanted(call, input)?;
        Ok(json!({
            "Name": document.name, "DocumentVersion": "1", "Status": "Active", "Content": document.content,
            "DocumentType": document.kind, "DocumentFormat": "JSON", "CreatedDate": seconds(document.created),
        }))
    }

    pub(super) fn delete_document(&mut self, call: &Call, input: &Value) -> Output {
        let name = self.wanted(call, input)?.name.clone();
        let key = (call.account.clone(), place(&call.region, &name));
        self.documents.remove(&key);
        Ok(json!({}))
    }

    fn wanted(&self, call: &Call, input: &Value) -> Result<&Document, Refusal> {
        check_version(input)?;
        let name = input["Name"].as_str().unwrap_or_default();
        self.document(call, name)
    }
}

/// A document is in one region.
fn place(region: &str, name: &str) -> String {
    format!("{region}/{name}")
}

/// Every document has one version here.
pub(super) fn check_version(input: &Value) -> Result<(), Refusal> {
    match input["DocumentVersion"].as_str() {
        None | Some("" | "1" | "$DEFAULT" | "$LATEST") => Ok(()),
        Some(other) => Err(Refusal::new(
            "InvalidDocumentVersion",
            format!("Document version {other} does not exist."),
        )),
    }
}

fn describe(document: &Document, owner: &str) -> Value {
    let parameters: Vec<Value> = document
        .parameters()
        .map(|(name, rules)| {
            let mut parameter = json!({"Name": name, "Type": rules["type"]});
            if let Some(text) = rules["description"].as_str() {
                parameter["Description"] = text.into();
            }
            if let Some(default) = rules.get("default") {
                let plain = default.as_str().map(str::to_string);
                parameter["DefaultValue"] = plain.unwrap_or_else(|| default.to_string()).into();
            }
            parameter
        })
        .collect();
    json!({
        "Name": document.name, "Hash": document.sha256(), "HashType": "Sha256", "Owner": owner,
        "CreatedDate": seconds(document.created), "Status": "Active", "DocumentVersion": "1",
        "LatestVersion": "1", "DefaultVersion": "1", "Description": document.description(),
        "Parameters": parameters, "PlatformTypes": ["Linux", "MacOS", "Windows"],
        "DocumentType": document.kind, "SchemaVersion": "2.2", "DocumentFormat": "JSON", "Tags": [],
    })
}
