//! SendCommand, ListCommands and CancelCommand.

use std::time::{Duration, SystemTime};

use regex::Regex;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::call::Call;
use super::super::refusal::Refusal;
use super::document::{Step, Values};
use super::documents::check_version;
use super::instance::{Fate, Instance, Work};
use super::invocation::{Invocation, Way, is_final};
use super::job::{Job, Order};
use super::paging::page;
use super::{State, seconds};

/// A command as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: String,
    pub account: String,
    pub document: String,
    pub comment: String,
    pub parameters: Values,
    /// The instances that it went to.
    pub instances: Vec<String>,
    pub timeout_seconds: u64,
}

/// A command and what becomes of it.
pub(super) struct Command {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) document: String,
    pub(super) comment: String,
    pub(super) requested: SystemTime,
    pub(super) invocations: Vec<Invocation>,
    values: Values,
    timeout: u64,
    cancelled: bool,
    /// As it was asked for.
    input: Value,
}

impl Command {
    pub(super) fn sent(&self) -> Sent {
        let instances = self.invocations.iter().map(|it| it.instance.clone());
        Sent {
            id: self.id.clone(),
            account: self.account.clone(),
            document: self.document.clone(),
            comment: self.comment.clone(),
            parameters: self.values.clone(),
            instances: instances.collect(),
            timeout_seconds: self.timeout,
        }
    }

    pub(super) fn kill(&self, instance: &str) {
        let meant = self.invocations.iter().filter(|it| it.instance == instance);
        meant.for_each(Invocation::kill);
    }

    /// Ends what still runs.
    pub(super) fn stop(mut self) {
        self.invocations.iter_mut().for_each(Invocation::cancel);
        self.invocations.into_iter().for_each(Invocation::stop);
    }

    /// The status of the whole.
    fn status(&self, statuses: &[(String, String)]) -> (&'static str, &'static str) {
        let any = |wanted: &str| statuses.iter().any(|(status, _)| status == wanted);
        let all = |wanted: &str| statuses.iter().all(|(status, _)| status == wanted);
        match statuses {
            [] => ("Success", "NoInstancesInTag"),
            _ if statuses.iter().all(|(status, _)| is_final(status)) => {
                if all("TimedOut") {
                    ("TimedOut", "DeliveryTimedOut")
                } else if any("Failed") || any("TimedOut") {
                    ("Failed", "Failed")
                } else if any("Cancelled") {
                    ("Cancelled", "Cancelled")
                } else {
                    ("Success", "Success")
                }
            }
            _ if self.cancelled => ("Cancelling", "Cancelling"),
            _ if all("Pending") => ("Pending", "Pending"),
            _ => ("InProgress", "InProgress"),
        }
    }

    fn describe(&self) -> Value {
        let views = self.invocations.iter().map(Invocation::view);
        let statuses: Vec<_> = views.map(|view| (view.status, view.details)).collect();
        let count = |is: &dyn Fn(&str, &str) -> bool| {
            statuses
                .iter()
                .filter(|(status, details)| is(status, details))
                .count()
        };
        let late = count(&|_, details| details == "DeliveryTimedOut");
        let failed = count(&|status, _| ["Failed", "TimedOut"].contains(&status));
        let (status, details) = self.status(&statuses);
        let given = |name: &str, default: Value| self.input.get(name).cloned().unwrap_or(default);
        json!({
            "CommandId": self.id, "DocumentName": self.document, "DocumentVersion": "$DEFAULT",
            "Comment": self.comment, "Parameters": self.values,
            "InstanceIds": given("InstanceIds", json!([])), "Targets": given("Targets", json!([])),
            "MaxConcurrency": given("MaxConcurrency", json!("50")), "MaxErrors": given("MaxErrors", json!("0")),
            "RequestedDateTime": seconds(self.requested),
            "ExpiresAfter": seconds(self.requested + Duration::from_secs(self.timeout)),
            "Status": status, "StatusDetails": details, "TargetCount": statuses.len(),
            "CompletedCount": count(&|status, _| is_final(status)), "ErrorCount": failed - late,
            "DeliveryTimedOutCount": late, "TimeoutSeconds": self.timeout, "OutputS3BucketName": "",
            "OutputS3KeyPrefix": "", "ServiceRole": "",
        })
    }
}

impl State {
    pub(super) fn send_command(&mut self, call: &Call, input: &Value) -> Result<Value, Refusal> {
        let timeout = check_limits(input)?;
        check_version(input)?;
        let document = self.document(call, input["DocumentName"].as_str().unwrap_or_default())?;
        if let Some(hash) = input["DocumentHash"].as_str()
            && (input["DocumentHashType"].as_str().unwrap_or("Sha256") != "Sha256"
                || hash != document.sha256())
        {
            let message = "The document hash does not match the document.";
            return Err(Refusal::new("InvalidDocument", message));
        }
        let values = document.bind(&input["Parameters"])?;
        let steps = document.steps(&values);
        let targets = self.targets(call, input)?;
        let invocations = targets
            .iter()
            .map(|instance| start(instance, &steps, &call.region))
            .collect();
        let command = Command {
            id: format!("5e2d0000-0000-4000-8000-{:012x}", self.commands.len() + 1),
            account: call.account.clone(),
            document: input["DocumentName"].as_str().unwrap_or_default().into(),
            comment: input["Comment"].as_str().unwrap_or_default().into(),
            requested: SystemTime::now(),
            invocations,
            values,
            timeout,
            cancelled: false,
            input: input.clone(),
        };
        let description = command.describe();
        self.commands.push(command);
        Ok(json!({"Command": description}))
    }

    pub(super) fn list_commands(&mut self, call: &Call, input: &Value) -> Result<Value, Refusal> {
        let filters = input["Filters"].as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for command in self.commands.iter().rev() {
            let id = input["CommandId"].as_str();
            let instance = input["InstanceId"].as_str();
            let on = |id: &str| command.invocations.iter().any(|it| it.instance == id);
            if command.account != call.account
                || id.is_some_and(|id| id != command.id)
                || !instance.is_none_or(on)
            {
                continue;
            }
            let description = command.describe();
            let mut passes = true;
            for filter in &filters {
                passes &= matches(command, &description, filter)?;
            }
            if passes {
                found.push(description);
            }
        }
        let (found, next) = page(found, input, (1, 50), 50)?;
        let mut output = Map::new();
        output.insert("Commands".into(), found.into());
        output.extend(next.map(|next| ("NextToken".into(), next.into())));
        Ok(output.into())
    }

    pub(super) fn cancel_command(&mut self, call: &Call, input: &Value) -> Result<Value, Refusal> {
        let id = input["CommandId"].as_str().unwrap_or_default();
        let command = self
            .command_mut(&call.account, id)
            .ok_or_else(|| Refusal::new("InvalidCommandId", ""))?;
        let some = strings(&input["InstanceIds"]);
        command.cancelled |= some.is_empty();
        for invocation in &mut command.invocations {
            if some.is_empty() || some.contains(&invocation.instance) {
                invocation.cancel();
            }
        }
        Ok(json!({}))
    }

    pub(super) fn command_mut(&mut self, account: &str, id: &str) -> Option<&mut Command> {
        self.commands
            .iter_mut()
            .find(|command| command.account == account && command.id == id)
    }

    /// The instances that are meant. Those named must all be there; of those with a tag, the ones that are online.
    fn targets(&self, call: &Call, input: &Value) -> Result<Vec<Instance>, Refusal> {
        let ids = strings(&input["InstanceIds"]);
        let targets = input["Targets"].as_array().cloned().unwrap_or_default();
        if ids.is_empty() == targets.is_empty() {
            return Err(Refusal::invalid("either InstanceIds or Targets"));
        }
        if ids.len() > 50 || targets.len() > 5 {
            return Err(Refusal::invalid(
                "at most 50 InstanceIds, at most 5 Targets",
            ));
        }
        let online =
            |instance: &&Instance| instance.ping == "Online" && instance.region == call.region;
        let find = |id: &String| {
            let key = (call.account.clone(), id.clone());
            let instance = self.instances.get(&key).filter(online).cloned();
            instance.ok_or_else(|| {
                let account = &call.account;
                let message =
                    format!("Instances [[{id}]] not in a valid state for account {account}");
                Refusal::new("InvalidInstanceId", message)
            })
        };
        if !ids.is_empty() {
            return ids.iter().map(find).collect();
        }
        let meant = |instance: &&Instance| targets.iter().all(|target| is_meant(instance, target));
        let all = self.instances.values().filter(online);
        let own = all.filter(|instance| instance.account == call.account);
        Ok(own.filter(meant).cloned().collect())
    }
}

fn is_meant(instance: &Instance, target: &Value) -> bool {
    let (key, values) = (
        target["Key"].as_str().unwrap_or_default(),
        strings(&target["Values"]),
    );
    match key.strip_prefix("tag:") {
        Some(tag) => instance.tags.get(tag).is_some_and(|it| values.contains(it)),
        None => key == "InstanceIds" && values.contains(&instance.id),
    }
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_string).collect()
}

/// Checks what has bounds of its own; returns the time to start within.
fn check_limits(input: &Value) -> Result<u64, Refusal> {
    let timeout = input["TimeoutSeconds"].as_u64().unwrap_or(3600);
    if !(30..=2_592_000).contains(&timeout) {
        return Err(Refusal::invalid("TimeoutSeconds is between 30 and 2592000"));
    }
    let comment = input["Comment"].as_str().unwrap_or_default();
    if comment.chars().count() > 100 {
        return Err(Refusal::invalid("Comment has at most 100 characters"));
    }
    let limits = [
        ("MaxConcurrency", "^([1-9][0-9]*|[1-9][0-9]?%|100%)$"),
        ("MaxErrors", "^([0-9]|[1-9][0-9]*|[1-9]?[0-9]%|100%)$"),
    ];
    for (name, pattern) in limits {
        let pattern = Regex::new(pattern).expect("a pattern of the rig");
        let value = input[name].as_str();
        if value.is_some_and(|value| value.len() > 7 || !pattern.is_match(value)) {
            return Err(Refusal::invalid(format!(
                "{name} is neither a number nor a percentage"
            )));
        }
    }
    Ok(timeout)
}

fn matches(command: &Command, description: &Value, filter: &Value) -> Result<bool, Refusal> {
    let (key, value) = (
        filter["key"].as_str().unwrap_or_default(),
        filter["value"].as_str().unwrap_or_default(),
    );
    let date = || {
        OffsetDateTime::parse(value, &Rfc3339)
            .map_err(|_| Refusal::new("InvalidFilterKey", format!("no date: {value}")))
    };
    let requested = OffsetDateTime::from(command.requested);
    match key {
        "InvokedAfter" => Ok(requested > date()?),
        "InvokedBefore" => Ok(requested < date()?),
        "Status" => Ok(description["Status"] == value),
        "DocumentName" => Ok(command.document == value),
        "ExecutionStage" => {
            let status = description["Status"].as_str().unwrap_or_default();
            Ok(is_final(status) == (value == "Complete"))
        }
        _ => Err(Refusal::new("InvalidFilterKey", key)),
    }
}

/// Begins the work on one instance.
fn start(instance: &Instance, steps: &[Step], region: &str) -> Invocation {
    let way = match &instance.work {
        Work::Scripted(script) => Way::Script(script.clone()),
        Work::Run(runner) if runner.fate == Fate::Undeliverable => Way::Undeliverable,
        Work::Run(runner) => {
            let own = [
                ("AWS_SSM_INSTANCE_ID", instance.id.as_str()),
                ("AWS_SSM_REGION_NAME", region),
            ];
            let own = own.map(|(name, value)| (name.to_string(), value.to_string()));
            let job = Job::start(Order {
                steps: steps.to_vec(),
                runner: runner.clone(),
                platform: instance.platform.clone(),
                env: [runner.env.clone(), own.to_vec()].concat(),
            });
            Way::Job(job, runner.fate.clone())
        }
    };
    let names = steps.iter().map(|step| step.name.clone()).collect();
    Invocation::new(&instance.id, instance.lost_at_first, names, way)
}
