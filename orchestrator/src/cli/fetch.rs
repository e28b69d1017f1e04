//! `fetch`: a case onto this machine, verified when it is there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use evidence::{CaseId, Exit};
use indicatif::HumanBytes;
use serde_json::json;

use super::{Global, copy};
use crate::case::Event;
use crate::failure::Failure;
use crate::fetch;
use crate::seal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
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
    let trusted = match seal::trusted_key(&config, &work.evidence).await {
        Ok(key) => Some(key),
        Err(failure) => {
            progress.say(&format!("no key to check the seal with: {failure}"));
            None
        }
    };
    progress.say(&format!(
        "{} objects fetched, {} were there; verifying",
        fetched.fetched, fetched.kept
    ));
    let sealed: BTreeSet<String> = work
        .journal
        .case()
        .collections
        .iter()
        .filter(|(_, collection)| collection.sealed)
        .filter_map(|(prefix, _)| Some(prefix.split_once('/')?.1.to_owned()))
        .collect();
    copy::check(global, &arguments.to, &|place| {
        trusted.as_ref().filter(|_| sealed.contains(place))
    })
}
