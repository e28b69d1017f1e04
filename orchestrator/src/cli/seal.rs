//! `seal`: verify, state, sign, hold.

use clap::Args;
use evidence::{CaseId, Exit};

use super::Global;
use super::verify::verified;
use crate::case::Event;
use crate::config::Config;
use crate::failure::Failure;
use crate::seal::{self, Signer};
use crate::verify::{self, Checked, worst};

const EXAMPLES: &str = "\
Examples:
  exhibit seal IR-7 --dry-run
  exhibit seal IR-7
  exhibit seal IR-7 --deep";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Read every byte before
    #[arg(long)]
    deep: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What `verify` will name has to be there.
fn check_certificates(config: &Config) -> Result<(), Failure> {
    let Some(path) = &config.seal.timestamp_certificates else {
        return Ok(());
    };
    let unfit = |why: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "seal.timestamp_certificates, {}: {why}",
            path.display()
        ))
    };
    let pem = std::fs::read(path).map_err(|error| unfit(&error))?;
    transport::check_pem(&pem).map_err(|error| unfit(&error))
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    if work.journal.case().collections.is_empty() {
        let case = &arguments.case;
        let message = format!(
            "{case} has no collection to seal; what was done with its disks stands in its custody"
        );
        return Err(Failure::new(Exit::NotACollection, message));
    }
    let signer = Signer::new(&config, &work.evidence)?;
    check_certificates(&config)?;
    if !arguments.dry_run {
        work.copy_custody().await?;
    }
    let open: Vec<_> = work
        .journal
        .case()
        .collections
        .clone()
        .into_iter()
        .filter(|(_, collection)| !collection.sealed)
        .collect();
    let (mut sealed, mut exits) = (Vec::new(), Vec::new());
    for (prefix, collection) in open {
        let receipt = collection.receipt.as_ref();
        let checked = verify::verify(&work, &prefix, receipt, None, arguments.deep).await?;
        exits.push(checked.exit());
        if arguments.dry_run {
            sealed.push(plan(&config, &checked));
            continue;
        }
        work.record(&verified(&checked)).await?;
        match seal::seal(&mut work, &checked, &signer).await {
            Ok(event) => sealed.extend(sentence(&event)),
            Err(failure) if failure.exit == Exit::Altered => {
                progress.say(&failure.message);
                exits.push(Exit::Altered);
            }
            Err(failure) => return Err(failure),
        }
    }
    progress.end();
    global.print(&sealed, |sealed| {
        sealed.iter().map(|line| line.clone() + "\n").collect()
    })?;
    // An interrupted or partial collection is sealed as such: only what is altered is a failure here.
    let failed = exits.into_iter().filter(|exit| *exit == Exit::Altered);
    Ok(worst(failed))
}

fn plan(config: &Config, checked: &Checked) -> String {
    let stamp = match &config.seal.timestamp_url {
        Some(address) => format!(" a time stamp of {address},"),
        None => String::new(),
    };
    format!(
        "{}: {} objects get SHA256SUMS, a signature,{stamp} legal hold and {} days of retention",
        checked.prefix,
        checked.objects.len(),
        config.evidence.retention_days
    )
}

fn sentence(event: &Event) -> Option<String> {
    let Event::Sealed {
        prefix,
        sums_sha256,
        key,
        time_stamp,
        ..
    } = event
    else {
        return None;
    };
    let stamp = time_stamp
        .as_ref()
        .map(|time| format!(", time stamp {time}"));
    let stamp = stamp.unwrap_or_default();
    Some(format!(
        "{prefix}: sealed, SHA256SUMS {sums_sha256}, key {key}{stamp}"
    ))
}
