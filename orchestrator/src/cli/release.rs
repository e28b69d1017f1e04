//! `case release`: the end of custody.

use clap::Args;
use evidence::{CaseId, Exit};

use super::Global;
use crate::case::Event;
use crate::failure::Failure;
use crate::seal;

const EXAMPLES: &str = "\
Examples:
  exhibit case release IR-7 --to 'J. Doe, legal department' --reason 'case closed, file 2026/17'

The objects stay where they are, under their retention: without legal hold they can be deleted once it has ended.
Locks of snapshots are not touched, they end by themselves.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Who is responsible for the evidence from now on
    #[arg(long, value_name = "TEXT")]
    to: String,
    /// On whose decision, and why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    let collections = work.journal.case().collections.iter();
    let sealed: Vec<String> = collections
        .filter(|(_, collection)| collection.sealed)
        .map(|(prefix, _)| prefix.clone())
        .collect();
    if sealed.is_empty() {
        return Err(Failure::usage(format!(
            "nothing of {} is sealed, so there is no legal hold to take off",
            arguments.case
        )));
    }
    if !arguments.dry_run {
        for prefix in &sealed {
            let (to, reason) = (arguments.to.clone(), arguments.reason.clone());
            // Who has it now is written down before anything can be deleted.
            work.record(&Event::Released {
                prefix: prefix.clone(),
                to,
                reason,
            })
            .await?;
            seal::release(&work, prefix).await?;
        }
        progress.end();
    }
    global.print(&sealed, |sealed| {
        let does = if arguments.dry_run {
            "would lose its legal hold"
        } else {
            "released, its retention stays"
        };
        sealed
            .iter()
            .map(|prefix| format!("{prefix}: {does}\n"))
            .collect()
    })?;
    Ok(Exit::Complete)
}
