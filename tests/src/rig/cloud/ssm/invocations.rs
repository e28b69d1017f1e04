//! GetCommandInvocation and ListCommandInvocations.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::call::Call;
use super::super::refusal::Refusal;
use super::commands::Command;
use super::invocation::{Plugin, View};
use super::paging::page;
use super::{State, clip, seconds};

/// What GetCommandInvocation shows of stdout and stderr, and what a list shows of a step, in characters.
const STDOUT: usize = 24_000;
const STDERR: usize = 8_000;
const LISTED: usize = 2_500;

impl State {
    pub(super) fn get_invocation(&mut self, call: &Call, input: &Value) -> Result<Value, Refusal> {
        let text = |name: &str| input[name].as_str().unwrap_or_default();
        let missing = || {
            let message =
                "The command ID and managed node ID you specified didn't match any invocations.";
            Refusal::new("InvocationDoesNotExist", message)
        };
        let command = self
            .command_mut(&call.account, text("CommandId"))
            .ok_or_else(missing)?;
        let invocation = command
            .invocations
            .iter_mut()
            .find(|invocation| invocation.instance == text("InstanceId"))
            .ok_or_else(missing)?;
        if invocation.lost > 0 {
            invocation.lost -= 1;
            return Err(missing());
        }
        let view = invocation.poll();
        let plugin = match (input["PluginName"].as_str(), view.plugins.as_slice()) {
            (None, [plugin]) => Some(plugin),
            (Some(name), plugins) => plugins.iter().find(|plugin| plugin.name == name),
            (None, _) => None,
        };
        let plugin = plugin
            .ok_or_else(|| Refusal::new("InvalidPluginName", "The plugin name isn't valid."))?;
        Ok(one(command, text("InstanceId"), &view, plugin))
    }

    pub(super) fn list_invocations(
        &mut self,
        call: &Call,
        input: &Value,
    ) -> Result<Value, Refusal> {
        let wanted = input["CommandId"].as_str();
        let instance = input["InstanceId"].as_str();
        if let Some(id) = wanted
            && self.command_mut(&call.account, id).is_none()
        {
            return Err(Refusal::new("InvalidCommandId", ""));
        }
        let details = input["Details"] == true;
        let mut found = Vec::new();
        for (number, command) in self.commands.iter_mut().enumerate() {
            if command.account != call.account || wanted.is_some_and(|id| id != command.id) {
                continue;
            }
            for (place, invocation) in command.invocations.iter_mut().enumerate() {
                if instance.is_some_and(|id| id != invocation.instance) {
                    continue;
                }
                if invocation.lost > 0 {
                    invocation.lost -= 1;
                } else if passes(input, &invocation.view()) {
                    found.push((number, place));
                }
            }
        }
        let (found, next) = page(found, input, (1, 50), 50)?;
        let shown = found.into_iter().map(|(number, place)| {
            let command = &mut self.commands[number];
            let invocation = &mut command.invocations[place];
            let (instance, view) = (invocation.instance.clone(), invocation.poll());
            listed(command, &instance, &view, details)
        });
        let mut output = Map::new();
        output.insert("CommandInvocations".into(), shown.collect());
        output.extend(next.map(|next| ("NextToken".into(), next.into())));
        Ok(output.into())
    }
}

/// Whether it passes the filter by status, the one that this list knows here.
fn passes(input: &Value, view: &View) -> bool {
    let mut filters = input["Filters"].as_array().into_iter().flatten();
    filters.all(|filter| filter["key"] != "Status" || filter["value"] == view.status.as_str())
}

fn one(command: &Command, instance: &str, view: &View, plugin: &Plugin) -> Value {
    let single = view.plugins.len() == 1;
    let (status, details) = if single {
        (&view.status, &view.details)
    } else {
        (&plugin.status, &plugin.details)
    };
    let date = |time: Option<SystemTime>| {
        let date = time.and_then(|time| OffsetDateTime::from(time).format(&Rfc3339).ok());
        date.unwrap_or_default()
    };
    let elapsed = match (plugin.started, plugin.ended) {
        (Some(started), Some(ended)) => ended.duration_since(started).unwrap_or_default(),
        _ => Default::default(),
    };
    json!({
        "CommandId": command.id, "InstanceId": instance, "Comment": command.comment,
        "DocumentName": command.document, "DocumentVersion": "$DEFAULT", "PluginName": plugin.name,
        "ResponseCode": plugin.code, "ExecutionStartDateTime": date(plugin.started),
        "ExecutionElapsedTime": format!("PT{:.3}S", elapsed.as_secs_f64()),
        "ExecutionEndDateTime": date(plugin.ended), "Status": status, "StatusDetails": details,
        "StandardOutputContent": clip::stream(&plugin.stdout, STDOUT), "StandardOutputUrl": "",
        "StandardErrorContent": clip::stream(&plugin.stderr, STDERR), "StandardErrorUrl": "",
    })
}

fn listed(command: &Command, instance: &str, view: &View, details: bool) -> Value {
    let plugins: Vec<Value> = match details {
        true => view.plugins.iter().map(step).collect(),
        false => Vec::new(),
    };
    json!({
        "CommandId": command.id, "InstanceId": instance, "InstanceName": "", "Comment": command.comment,
        "DocumentName": command.document, "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": seconds(command.requested), "Status": view.status, "StatusDetails": view.details,
        "StandardOutputUrl": "", "StandardErrorUrl": "", "CommandPlugins": plugins,
    })
}

fn step(plugin: &Plugin) -> Value {
    let mut step = json!({
        "Name": plugin.name, "Status": plugin.status, "StatusDetails": plugin.details,
        "ResponseCode": plugin.code, "Output": clip::both(&plugin.stdout, &plugin.stderr, LISTED),
        "StandardOutputUrl": "", "StandardErrorUrl": "",
    });
    let mut time = |name: &str, time: Option<SystemTime>| {
        if let Some(time) = time {
            step[name] = seconds(time).into();
        }
    };
    time("ResponseStartDateTime", plugin.started);
    time("ResponseFinishDateTime", plugin.ended);
    step
}
