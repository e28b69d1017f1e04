//! Systems Manager's commands: documents really run, or a script says what would have become of them.

mod clip;
mod commands;
mod document;
mod documents;
mod execute;
mod instance;
mod instances;
mod inventory;
mod invocation;
mod invocations;
mod job;
mod paging;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

pub use commands::Sent;
pub use instance::{Fate, Instance, Runner, Script, Stage, When, Work};

use super::call::Call;
use super::refusal::{Answer, json_response};
use commands::Command;
use document::Document;

/// Everything that Systems Manager knows.
#[derive(Default)]
pub(super) struct Ssm(Mutex<State>);

/// Keys are the account and the id or name.
#[derive(Default)]
struct State {
    instances: BTreeMap<(String, String), Instance>,
    documents: BTreeMap<(String, String), Document>,
    /// By arrival.
    commands: Vec<Command>,
}

impl Ssm {
    /// `None` when the emulator answers this operation well enough.
    pub(super) fn answer(&self, call: &Call) -> Option<Answer> {
        let input = call.json();
        let state = &mut *self.state();
        let result = match call.operation.as_str() {
            "SendCommand" => state.send_command(call, &input),
            "ListCommands" => state.list_commands(call, &input),
            "CancelCommand" => state.cancel_command(call, &input),
            "ListCommandInvocations" => state.list_invocations(call, &input),
            "GetCommandInvocation" => state.get_invocation(call, &input),
            "DescribeInstanceInformation" => state.describe_instances(call, &input),
            "ListInventoryEntries" => state.list_inventory(call, &input),
            "CreateDocument" => state.create_document(call, &input),
            "DescribeDocument" => state.describe_document(call, &input),
            "GetDocument" => state.get_document(call, &input),
            "DeleteDocument" => state.delete_document(call, &input),
            _ => return None,
        };
        Some(result.map(|body| json_response(200, &body)))
    }

    pub(super) fn register(&self, instance: Instance) {
        let key = (instance.account.clone(), instance.id.clone());
        self.state().instances.insert(key, instance);
    }

    pub(super) fn unregister(&self, account: &str, id: &str) {
        let key = (account.into(), id.into());
        self.state().instances.remove(&key);
    }

    pub(super) fn kill(&self, instance: &str) {
        for command in &self.state().commands {
            command.kill(instance);
        }
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.state().commands.iter().map(Command::sent).collect()
    }

    /// Ends whatever still runs, and waits for it.
    pub(super) fn stop(&self) {
        let commands = std::mem::take(&mut self.state().commands);
        commands.into_iter().for_each(Command::stop);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// A time as the JSON protocols write it.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}
