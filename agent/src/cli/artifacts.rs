//! `artifacts`: what can be captured.

use clap::Args;
use evidence::Exit;

use super::{Failure, print};
use crate::capture;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// One JSON array instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let artifacts = capture::artifacts(Default::default());
    let specs: Vec<&capture::Spec> = artifacts.iter().map(|artifact| artifact.spec()).collect();
    if arguments.json {
        let json = serde_json::to_string_pretty(&specs)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        print(&format!("{json}\n"))?;
        return Ok(Exit::Complete);
    }
    let mut text = String::from("In this order, the most volatile first:\n");
    for (number, spec) in specs.iter().enumerate() {
        let class = serde_json::to_value(spec.volatility)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned));
        text.push_str(&format!(
            "\n{:2}. {}  ({}; at most {} s{})\n    {}\n    Why: {}\n",
            number + 1,
            spec.name,
            class.unwrap_or_default().replace('_', " "),
            spec.deadline_s,
            cap(spec),
            spec.what,
            spec.why
        ));
    }
    print(&text).map(|()| Exit::Complete)
}

fn cap(spec: &capture::Spec) -> String {
    match spec.max_bytes {
        u64::MAX => String::new(),
        bytes => format!(" and {} MiB", bytes >> 20),
    }
}
