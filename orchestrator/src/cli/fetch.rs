//! `fetch`: a case onto this machine, verified when it is there.

use std::path::PathBuf;

use clap::Args;
use evidence::signature::PublicKey;
use evidence::{CaseId, Exit};
use indicatif::HumanBytes;
use serde_json::json;

use super::{Global, copy};
use crate::case::Event;
use crate::failure::Failure;
use crate::fetch;
use crate::run::Work;
use crate::seal;

const EXAMPLES: &str = "\
Examples:
  exhibit fetch IR-7 --to ./IR-7
  Then, on any machine, without network:
    exhibit verify --offline ./IR-7 --key pubkey.pem";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Folder that gets the copy: custody/ and <host>/<collection>/. What is there with the right bytes stays
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    if arguments.dry_run {
        let plan = fetch::fetch(&work, &arguments.to, true).await?;
        global.print(
            &json!({"bytes": plan.bytes, "collections": plan.collections}),
            |_| {
                format!(
                    "fetch {} in {} collections to {}\n",
                    HumanBytes(plan.bytes),
                    plan.collections.len(),
                    arguments.to.display()
                )
            },
        )?;
        return Ok(Exit::Complete);
    }
    // Who has read the evidence is written down before it is read.
    for prefix in work
        .journal
        .case()
        .collections
        .keys()
        .cloned()
        .collect::<Vec<_>>()
    {
        let to = arguments.to.display().to_string();
        work.record(&Event::Accessed { prefix, to }).await?;
    }
    let fetched = fetch::fetch(&work, &arguments.to, false).await?;
    progress.end();
    for key in &fetched.strange {
        progress.say(&format!("not fetched, Exhibit writes no such key: {key}"));
    }
    let trusted = trusted(&work).await;
    progress.say(&format!(
        "{} objects fetched, {} were there; verifying",
        fetched.fetched, fetched.kept
    ));
    let case = work.journal.case();
    let copy = crate::copy::examine_sealed(case, &arguments.to, trusted.as_ref())?;
    copy::print(global, &copy)
}

/// The key that has signed what is sealed, or `None` after saying why there is none.
pub(super) async fn trusted(work: &Work<'_>) -> Option<PublicKey> {
    match seal::trusted_key(work.config, &work.evidence).await {
        Ok(key) => Some(key),
        Err(failure) => {
            work.progress
                .say(&format!("no key to check the seal with: {failure}"));
            None
        }
    }
}
