//! `seal`: verify, state, sign, hold.

use clap::Args;
use evidence::{CaseId, Digest, Exit};
use serde::Serialize;

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
            sealed.push(Sealed::planned(&config, &checked));
            continue;
        }
        work.record(&verified(&checked)).await?;
        match seal::seal(&mut work, &checked, &signer).await {
            Ok(event) => sealed.extend(Sealed::of(event)),
            Err(failure) if failure.exit == Exit::Altered => {
                progress.say(&failure.message);
                exits.push(Exit::Altered);
            }
            Err(failure) => return Err(failure),
        }
    }
    progress.end();
    global.print(&sealed, |sealed| {
        sealed.iter().map(|it| it.text(&config)).collect()
    })?;
    // An interrupted or partial collection is sealed as such: only what is altered is a failure here.
    let failed = exits.into_iter().filter(|exit| *exit == Exit::Altered);
    Ok(worst(failed))
}

/// A collection that is sealed, or would be.
#[derive(Debug, Serialize)]
struct Sealed {
    prefix: String,
    /// Objects of the run that the seal lists.
    objects: usize,
    /// Absent in a plan, as are those below.
    sums_sha256: Option<Digest>,
    key: Option<Digest>,
    time_stamp: Option<String>,
    /// The authority that would be asked for a time stamp; in a plan only.
    authority: Option<String>,
}

impl Sealed {
    fn planned(config: &Config, checked: &Checked) -> Self {
        Self {
            prefix: checked.prefix.clone(),
            objects: checked.objects.len(),
            sums_sha256: None,
            key: None,
            time_stamp: None,
            authority: config.seal.timestamp_url.clone(),
        }
    }

    fn of(event: Event) -> Option<Self> {
        match event {
            Event::Sealed {
                prefix,
                sums_sha256,
                key,
                objects,
                time_stamp,
            } => Some(Self {
                prefix,
                objects,
                sums_sha256: Some(sums_sha256),
                key: Some(key),
                time_stamp,
                authority: None,
            }),
            _ => None,
        }
    }

    fn text(&self, config: &Config) -> String {
        let Self {
            prefix, objects, ..
        } = self;
        let (Some(sums), Some(key)) = (self.sums_sha256, self.key) else {
            let stamp = self.authority.as_ref();
            let stamp = stamp.map(|address| format!(" a time stamp of {address},"));
            return format!(
                "{prefix}: {objects} objects get SHA256SUMS, a signature,{} legal hold and {} days of retention\n",
                stamp.unwrap_or_default(),
                config.evidence.retention_days
            );
        };
        let stamp = self
            .time_stamp
            .as_ref()
            .map(|time| format!(", time stamp {time}"));
        format!(
            "{prefix}: sealed, SHA256SUMS {sums}, key {key}{}\n",
            stamp.unwrap_or_default()
        )
    }
}
