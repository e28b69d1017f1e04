//! The steps of one command on one instance, run one after the other in a thread.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::document::Step;
use super::execute::{Running, Stop, wait_for};
use super::instance::Runner;
use super::invocation::{Plugin, View};

/// What runs, and what has become of it.
#[derive(Default)]
pub(super) struct Job {
    state: Mutex<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    plugins: Vec<Plugin>,
    running: Option<Running>,
    cancelled: bool,
    ended: Option<Instant>,
}

/// What a job is to do.
pub(super) struct Order {
    pub(super) steps: Vec<Step>,
    pub(super) runner: Runner,
    pub(super) platform: String,
    /// The agent's own variables included.
    pub(super) env: Vec<(String, String)>,
}

impl Job {
    pub(super) fn start(order: Order) -> Arc<Self> {
        let job = Arc::new(Self::default());
        job.state.lock().unwrap().plugins = order
            .steps
            .iter()
            .map(|step| Plugin::pending(&step.name))
            .collect();
        let thread = thread::spawn({
            let job = Arc::clone(&job);
            move || job.work(&order)
        });
        *job.thread.lock().unwrap() = Some(thread);
        job
    }

    /// Ends the step that runs; those after it do not start.
    pub(super) fn cancel(&self) {
        self.state.lock().unwrap().cancelled = true;
    }

    /// Kills what runs, as someone on the host can.
    pub(super) fn kill(&self) {
        let state = self.state.lock().unwrap();
        state.running.iter().for_each(Running::kill);
    }

    /// Ends it and waits for it.
    pub(super) fn stop(&self) {
        self.cancel();
        let thread = self.thread.lock().unwrap().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// When all was over.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.state.lock().unwrap().ended
    }

    pub(super) fn view(&self) -> View {
        let state = self.state.lock().unwrap();
        let has = |status: &str| state.plugins.iter().any(|plugin| plugin.status == status);
        let started = state
            .plugins
            .iter()
            .any(|plugin| plugin.status != "Pending");
        let (status, details) = match state.ended {
            None if state.cancelled => ("Cancelling", "Cancelling"),
            None if started => ("InProgress", "InProgress"),
            None => ("Pending", "Pending"),
            Some(_) if has("Cancelled") => ("Cancelled", "Cancelled"),
            Some(_) if has("TimedOut") => ("TimedOut", "ExecutionTimedOut"),
            Some(_) if has("Failed") => ("Failed", "Failed"),
            Some(_) => ("Success", "Success"),
        };
        View {
            status: status.into(),
            details: details.into(),
            plugins: state.plugins.clone(),
        }
    }

    fn work(&self, order: &Order) {
        let mut left_out = false;
        for (number, step) in order.steps.iter().enumerate() {
            if left_out && !step.finally {
                continue;
            }
            let mut plugin = Plugin::pending(&step.name);
            plugin.status = "InProgress".into();
            plugin.details = "InProgress".into();
            plugin.started = Some(SystemTime::now());
            self.state.lock().unwrap().plugins[number] = plugin.clone();
            self.step(step, order, &mut plugin);
            left_out |= plugin.status != "Success"
                && (step.exit_on_failure || plugin.status == "Cancelled");
            self.state.lock().unwrap().plugins[number] = plugin;
        }
        self.state.lock().unwrap().ended = Some(Instant::now());
    }

    fn step(&self, step: &Step, order: &Order, plugin: &mut Plugin) {
        let other = |platform: &String| *platform != order.platform;
        if step.platform.as_ref().is_some_and(other) {
            plugin.stdout = format!(
                "Step execution skipped due to unsatisfied preconditions. Step name: {}",
                step.name
            );
            return plugin.end("Success", "Skipped", 0);
        }
        if step.action != "aws:runShellScript" {
            plugin.stderr = format!("Plugin {} is not supported by this rig", step.action);
            return plugin.end("Failed", "Failed", 1);
        }
        match Running::start(&step.script, &order.env, &order.runner.noise) {
            Ok(running) => self.state.lock().unwrap().running = Some(running),
            Err(error) => {
                plugin.stderr = format!("failed to run commands: {error}");
                return plugin.end("Failed", "Failed", 1);
            }
        }
        let seconds = u32::try_from(step.timeout).unwrap_or(u32::MAX);
        self.watch(order.runner.second * seconds, plugin);
    }

    /// Waits for the running script's end, or ends it.
    fn watch(&self, limit: Duration, plugin: &mut Plugin) {
        let over = wait_for(limit, || {
            let mut state = self.state.lock().unwrap();
            state.cancelled || state.running.as_mut().is_none_or(Running::ended)
        });
        // Taken out under the lock: a kill from outside must not meet a number that is another's.
        let (running, stop) = {
            let mut state = self.state.lock().unwrap();
            let Some(mut running) = state.running.take() else {
                return;
            };
            let stop = match (running.ended(), over) {
                (true, _) => None,
                (false, true) => Some(Stop::Cancelled),
                (false, false) => Some(Stop::TimedOut),
            };
            if stop.is_some() {
                running.kill();
            }
            (running, stop)
        };
        running.finish(stop, plugin);
    }
}
