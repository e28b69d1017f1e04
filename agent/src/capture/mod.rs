//! What is captured: one file per artifact, one explicit list, ordered by volatility (RFC 3227, section 2.1).
//!
//! An artifact reads and writes; the [`runner`] holds its deadline, its cap, its times and its outcome. It runs no
//! command of the host and never ends the run: what it can not get, it names.

pub mod audit;
mod clock;
pub mod containers;
pub mod ebpf;
pub mod files;
mod filesystem;
pub mod firewall;
pub mod hidden;
pub mod instance;
pub mod kernel;
pub mod memory;
pub mod messages;
pub mod modules;
pub mod network;
pub mod packages;
pub mod plan;
pub mod process_memory;
pub mod processes;
mod recovered;
#[cfg(test)]
pub(crate) mod rehearsal;
pub mod runner;
mod security;
pub mod sensitive;
pub mod sessions;
pub(crate) mod sink;
pub mod sockets;
mod sweep;
pub mod symbols;
pub mod tracing;
pub mod traffic;
pub mod users;
mod walk;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::host::{Host, HostError};
pub use plan::Plan;
pub use sink::{Halt, Sink, Step, Tally};

/// Order of volatility: what dies first is captured first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatility {
    /// The quick look that comes before everything.
    FirstSweep,
    /// Physical memory: what all else only shows a part of.
    Memory,
    /// Connections, routes, neighbours.
    Network,
    /// The process table and what only processes hold.
    Processes,
    /// Modules, kernel messages, kernel statistics.
    Kernel,
    /// Sessions, clock.
    System,
    /// Every name on the file systems, and files that a reboot clears.
    VolatileFiles,
    /// What a disk would keep.
    Files,
    /// The quick look again: the difference is evidence too.
    LastSweep,
}

/// What an artifact is, for people and for the runner.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Spec {
    /// The word in `--include`, the manifest and the documents.
    pub name: &'static str,
    pub volatility: Volatility,
    /// What it captures.
    pub what: &'static str,
    /// Why a responder wants it.
    pub why: &'static str,
    /// Time after which it is ended, in seconds.
    pub deadline_s: u64,
    /// Bytes of content after which it is ended.
    pub max_bytes: u64,
}

impl Spec {
    /// Time after which it is ended.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s)
    }
}

/// Something that is captured.
pub trait Artifact {
    /// What it is.
    fn spec(&self) -> &'static Spec;

    /// Why the operator wants it left out, beside `--include` and `--exclude`.
    fn left_out(&self) -> Option<Cow<'static, str>> {
        None
    }

    /// Reads it from `host` into `sink`.
    ///
    /// # Errors
    /// When it as a whole can not be captured. Single items that can not are told to the sink.
    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError>;
}

/// Everything that can be captured, in the order in which it is.
pub fn artifacts(plan: Plan) -> Vec<Box<dyn Artifact>> {
    let (first_sweep, last_sweep) = sweep::pair();
    let memory = memory::Memory::new(plan.memory.clone());
    let environment = plan.policies.of(sensitive::Class::Environment);
    let hidden = hidden::Hidden::new(plan.families.iter().flat_map(|family| &family.globs));
    let process_memory = process_memory::ProcessMemory {
        choice: plan.process_memory.clone(),
        hidden: Rc::clone(&hidden.found),
    };
    let survey = Rc::new(filesystem::Survey::new(plan));
    let mut artifacts: Vec<Box<dyn Artifact>> = vec![
        Box::new(first_sweep),
        // Small, and without them the image is of little use.
        Box::new(symbols::Symbols),
        Box::new(memory),
        Box::new(sockets::Sockets),
        Box::new(network::Network),
        Box::new(firewall::Firewall),
        Box::new(traffic::Traffic),
        Box::new(processes::Processes(environment)),
        Box::new(containers::Contained(environment)),
        Box::new(hidden),
        Box::new(recovered::Recovered),
        Box::new(process_memory),
        Box::new(kernel::Kernel),
        Box::new(modules::Modules),
        Box::new(ebpf::Ebpf),
        Box::new(tracing::Tracing),
        Box::new(security::Security),
        Box::new(messages::KernelMessages),
        Box::new(clock::Clock),
        Box::new(sessions::Sessions),
        Box::new(instance::Instance::from_environment(environment)),
        Box::new(filesystem::Filesystem(Rc::clone(&survey))),
    ];
    artifacts.extend(files::artifacts(&survey));
    artifacts.push(Box::new(packages::Packages));
    artifacts.push(Box::new(packages::Integrity));
    artifacts.push(Box::new(last_sweep));
    // Stable: within one class the order of this list holds.
    artifacts.sort_by_key(|artifact| artifact.spec().volatility);
    artifacts
}

/// Why an artifact ended early.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// This host has no such thing.
    #[error("{0}")]
    Absent(String),
    /// It can not be had here.
    #[error("{0}")]
    Impossible(String),
    /// The kernel refuses it.
    #[error("{0}")]
    Denied(String),
    /// The host did not answer.
    #[error("{what}: {source}")]
    Host { what: String, source: HostError },
    /// The runner ended it.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl CaptureError {
    /// For `map_err`: the host did not answer for `what`.
    pub fn host(what: &str) -> impl Fn(HostError) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Host {
            what: what.clone(),
            source,
        }
    }
}
