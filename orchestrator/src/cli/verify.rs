//! `verify`: a case in the bucket, or a fetched copy offline.

use std::path::PathBuf;

use clap::Args;
use evidence::{CaseId, Exit};

use super::Global;
use crate::case::Event;
use crate::config::Config;
use crate::failure::Failure;
use crate::seal::{self, trusted_key};
use crate::verify::{self, Checked, SealedAs, worst};

const EXAMPLES: &str = "\
Examples:
  Without a download: checksums, versions and locks of S3 against chain, manifest and receipt
    exhibit verify IR-7
  Every byte:
    exhibit verify IR-7 --deep
  A fetched copy, on any machine, without network:
    exhibit verify --offline ./IR-7 --key pubkey.pem";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7; not needed with --offline
    #[arg(required_unless_present = "offline")]
    case: Option<CaseId>,
    /// Read every byte
    #[arg(long)]
    deep: bool,
    /// Print what would be verified, and neither look at it nor record it
    #[arg(long, conflicts_with = "offline")]
    dry_run: bool,
    /// A fetched copy instead of the bucket
    #[arg(long, value_name = "DIR", conflicts_with = "deep")]
    offline: Option<PathBuf>,
    /// PEM file of the public key that is trusted, for a copy
    #[arg(long, value_name = "FILE", requires = "offline")]
    key: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    if let Some(folder) = &arguments.offline {
        return super::copy::verify_copy(global, folder, arguments.key.as_deref());
    }
    let Some(case) = &arguments.case else {
        return Err(Failure::usage("name a case"));
    };
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, case, &progress).await?;
    let collections = work.journal.case().collections.clone();
    if arguments.dry_run {
        let prefixes: Vec<&String> = collections.keys().collect();
        global.print(&prefixes, |all| {
            all.iter()
                .map(|prefix| format!("verify {prefix}\n"))
                .collect()
        })?;
        return Ok(Exit::Complete);
    }
    work.copy_custody().await?;
    let mut all = Vec::new();
    let trusted = match collections.values().any(|collection| collection.sealed) {
        true => Some(trusted_key(&config, &work.evidence).await?),
        false => None,
    };
    for (prefix, collection) in &collections {
        let key = trusted.as_ref().filter(|_| collection.sealed);
        let sealed = key.map(|key| SealedAs {
            key,
            time_stamp: collection.time_stamp.as_deref(),
        });
        let checked = verify::verify(
            &work,
            prefix,
            collection.receipt.as_ref(),
            sealed.as_ref(),
            arguments.deep,
        )
        .await?;
        work.record(&verified(&checked)).await?;
        all.push(checked);
    }
    progress.end();
    global.print(&all, |all| {
        all.iter().map(|checked| text(checked, &config)).collect()
    })?;
    if all.is_empty() {
        progress.say("the case has no collections yet");
    }
    Ok(worst(all.iter().map(Checked::exit)))
}

/// What the journal says of a verification.
pub(super) fn verified(checked: &Checked) -> Event {
    Event::Verified {
        prefix: checked.prefix.clone(),
        verdict: checked.verdict.exit().word().to_owned(),
        deep: checked.deep,
        manifest_sha256: checked.manifest_sha256,
        problems: checked
            .problems
            .iter()
            .take(20)
            .map(|problem| problem.message.chars().take(300).collect())
            .collect(),
    }
}

fn text(checked: &Checked, config: &Config) -> String {
    let verdict = checked.verdict.exit().word();
    let mut lines = vec![format!(
        "{}: {verdict}, {} segments, {} bytes{}",
        checked.prefix,
        checked.segments,
        checked.stored_bytes,
        if checked.deep {
            ", every byte read"
        } else {
            ""
        }
    )];
    lines.extend(
        checked
            .problems
            .iter()
            .map(|problem| format!("  problem: {}: {}", problem.code, problem.message)),
    );
    lines.extend(
        checked
            .unlocked
            .iter()
            .map(|key| format!("  unlocked: {key} has neither retention nor legal hold")),
    );
    lines.extend(
        checked
            .beyond_gap
            .iter()
            .map(|key| format!("  beyond a gap: {key}")),
    );
    lines.extend(
        checked
            .reasons
            .iter()
            .map(|reason| format!("  missing: {reason}")),
    );
    lines.extend(checked.time_stamp.as_ref().map(|time| {
        let command = seal::command(config.seal.timestamp_certificates.as_deref());
        format!("  time stamp: {time}; who signed it is not checked here, this does: {command}")
    }));
    if checked.manifest_sha256.is_some() && !checked.bound_by_receipt {
        lines.push(
            "  note: no receipt came by way of SSM; only the bucket says what the manifest is"
                .to_owned(),
        );
    }
    lines.join("\n") + "\n"
}
