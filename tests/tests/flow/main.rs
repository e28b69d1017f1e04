//! Flows of the built agent: into a directory, into a bucket, with faults on the way, on hostile ground.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests say what went wrong by failing"
)]

mod bad_input;
mod bucket;
mod collection;
mod directory;
mod distributions;
mod families;
mod ground;
mod hostile;
mod judges;
mod known_paths;
mod manners;
mod memory;
mod packages;
mod plants;
mod process_memory;
mod static_binary;
mod store_faults;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::moto::Moto;
use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy};
use serde_json::Value;

/// A bucket with Object Lock, and the region that the proxy stands for.
pub const BUCKET: &str = "evidence-bucket";
pub const REGION: &str = "us-east-1";

/// What an ended agent left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout.clone()).expect("standard output is ASCII"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The receipt, which is the only line on standard output.
    pub fn receipt(&self) -> Value {
        assert!(
            self.stdout.is_ascii() && self.stdout.lines().count() == 1,
            "{self:?}"
        );
        serde_json::from_str(&self.stdout).expect("the receipt is JSON")
    }

    pub fn prefix(&self) -> String {
        self.receipt()["prefix"]
            .as_str()
            .expect("a prefix")
            .to_owned()
    }
}

pub fn run(command: &mut Command) -> Ended {
    Ended::of(
        &command
            .stdin(Stdio::null())
            .output()
            .expect("the agent starts"),
    )
}

/// What reads whole disks, which one test does and the others need not wait for.
pub const DISKS: [&str; 2] = [
    "--exclude",
    "filesystem,executables,integrity,installed,package_databases,temporary_files,places",
];

/// `collect` of what `more` includes or roots, else of everything but [`DISKS`].
pub fn collect(agent: &Agent, to: &str, more: &[&str]) -> Ended {
    let narrow = more
        .iter()
        .any(|word| ["--include", "--root", "--profile"].contains(word));
    run(agent
        .command()
        .args(["collect", "--case", "IR-7", "--quiet", "--to", to])
        .args(more)
        .args(if narrow { &[][..] } else { &DISKS[..] }))
}

/// Artifacts that make a few small segments and need no privileges.
pub const SMALL: [&str; 2] = ["--include", "accounts,clock"];

pub fn verify(agent: &Agent, place: &str) -> (Ended, Value) {
    let ended = run(agent.command().args(["verify", "--json", place]));
    let report = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
    (ended, report)
}

/// A moto with one locked bucket behind a checking proxy, and an agent that may use it.
pub struct Bucket {
    pub moto: Moto,
    pub proxy: Proxy,
    pub agent: Agent,
}

impl Bucket {
    pub fn start() -> Option<Self> {
        let moto = or_skip(Moto::start())?;
        moto.create_locked_bucket(BUCKET);
        moto.set_default_retention(BUCKET, "COMPLIANCE", 30);
        let proxy = Proxy::start(moto.address());
        let agent = Agent::built().expect("an agent").credentials(ACCESS_KEY);
        Some(Self { moto, proxy, agent })
    }

    /// The arguments that lead to the bucket.
    pub fn way(&self) -> Vec<String> {
        ["--endpoint-url", &self.proxy.endpoint(), "--region", REGION]
            .map(str::to_owned)
            .to_vec()
    }

    pub fn collect(&self, more: &[&str]) -> Ended {
        let to = format!("s3://{BUCKET}/cases");
        let way = self.way();
        let more: Vec<&str> = way
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        collect(&self.agent, &to, &more)
    }

    pub fn verify(&self, prefix: &str) -> (Ended, Value) {
        let place = format!("s3://{BUCKET}/cases/{prefix}");
        let ended = run(self
            .agent
            .command()
            .args(["verify", "--json", &place])
            .args(self.way()));
        let report = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
        (ended, report)
    }

    /// The manifest as the bucket has it.
    pub fn manifest(&self, prefix: &str) -> Value {
        let bytes = self
            .moto
            .read(BUCKET, &format!("cases/{prefix}/manifest.json"));
        serde_json::from_slice(&bytes).expect("a manifest")
    }
}

/// The folder of a collection below `to`.
pub fn folder(to: &Path, prefix: &str) -> PathBuf {
    to.join(prefix)
}
