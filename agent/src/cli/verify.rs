//! `verify`: offline, or from the bucket.

use std::path::{Path, PathBuf};

use clap::Args;
use evidence::objects::Objects;
use evidence::verify::{Limits, NotVerified, Report, Seal, SealState, Tap, Verdict, verify_sealed};
use evidence::{Exit, PublicKey};
use indicatif::{HumanBytes, ProgressBar};

use super::store::{Place, S3Arguments, operators_file};
use super::{Failure, json_line, print, printable};

const EXAMPLES: &str = "\
Examples:
  A folder, with the manifest's hash from the receipt:
    exhibit-agent verify evidence/IR-7/h-0123456789abcdef/20260102T030405Z-89abcdef --manifest-sha256 51e3...
  Sealed, with the key that you have from those who sealed it:
    exhibit-agent verify evidence/IR-7/h-0123456789abcdef/20260102T030405Z-89abcdef --key pubkey.pem
  In the bucket:
    exhibit-agent verify s3://bucket/prefix/IR-7/i-0123456789abcdef0/20260102T030405Z-89abcdef --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The collection: a directory, or s3://bucket/prefix/<case>/<host>/<collection>
    collection: String,
    /// SHA-256 of manifest.json, from the receipt: proves that the manifest is the one that the agent wrote
    #[arg(long, value_name = "HEX")]
    manifest_sha256: Option<evidence::Digest>,
    /// Public key (PEM, P-256) that the collection must be sealed with; the one beside it proves nothing by itself
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    s3: S3Arguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let place = Place::parse(&arguments.collection)?;
    if let Place::Directory(path) = &place
        && !path.is_dir()
    {
        let message = format!(
            "{} is not a directory: name the collection's folder",
            path.display()
        );
        return Err(Failure::new(Exit::NotACollection, message));
    }
    let trusted = arguments.key.as_deref().map(public_key).transpose()?;
    let objects = place.objects(&arguments.s3)?;
    let trusted = trusted.as_ref();
    let mut report = verified_by(&arguments.collection, &*objects, trusted, &mut ())?;
    if let Some(stated) = arguments.manifest_sha256 {
        report.compare_receipt(stated);
    }
    let text = if arguments.json {
        json_line(&report)?
    } else {
        human(&report)
    };
    print(&text)?;
    Ok(report.verdict.exit())
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let pem = operators_file("--key", path)?;
    let shown = path.display();
    PublicKey::from_pem(&pem).map_err(|error| Failure::usage(format!("--key {shown}: {error}")))
}

/// Verifies the collection at `place`, hands its content to `tap`, and shows on a terminal how far it is.
pub(super) fn verified(
    place: &str,
    objects: &dyn Objects,
    tap: &mut dyn Tap,
) -> Result<Report, Failure> {
    verified_by(place, objects, None, tap)
}

fn verified_by(
    place: &str,
    objects: &dyn Objects,
    trusted: Option<&PublicKey>,
    tap: &mut dyn Tap,
) -> Result<Report, Failure> {
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new_spinner();
    let show = |bytes: u64| {
        bar.set_message(format!("{} verified", HumanBytes(bytes)));
        bar.tick();
    };
    let report = verify_sealed(objects, &Limits::default(), trusted, &show, tap);
    bar.finish_and_clear();
    report.map_err(|error| not_verified(place, &error))
}

fn not_verified(place: &str, error: &NotVerified) -> Failure {
    let exit = match error {
        NotVerified::NotACollection => Exit::NotACollection,
        NotVerified::List(_) if !place.starts_with("s3://") => Exit::NotACollection,
        NotVerified::List(_) => Exit::Unreachable,
    };
    Failure::new(exit, format!("{place}: {error}"))
}

/// The seal in words.
fn told(seal: &Seal) -> String {
    let key = seal.key.map_or_else(
        || "that can not be read".to_owned(),
        |fingerprint| fingerprint.to_string(),
    );
    let when = match (&seal.sealed_at, &seal.operator) {
        (Some(time), Some(operator)) => format!(" at {time} by {operator}"),
        _ => String::new(),
    };
    match seal.state {
        SealState::Unsealed => "none: nobody has signed what is here".to_owned(),
        SealState::Broken => format!("broken; the key beside is {key}"),
        SealState::Untrusted => format!(
            "sealed{when} with the key {key}, which is not trusted: it lies beside, and proves only that all parts fit together; name the right one with --key"
        ),
        SealState::Trusted => format!("sealed{when} with the trusted key {key}"),
    }
}

fn human(report: &Report) -> String {
    let verdict = match report.verdict {
        Verdict::Complete => "COMPLETE: intact, and all that was planned is there",
        Verdict::Partial => "PARTIAL: intact; the manifest names what is missing",
        Verdict::Interrupted => {
            "INTERRUPTED: the run was cut before its manifest; up to the first missing segment all is intact"
        }
        Verdict::Altered => "ALTERED: this is not what the agent wrote",
    };
    let mut text = format!("{verdict}\n");
    let mut line = |what: &str, value: String| text.push_str(&format!("{what:<12} {value}\n"));
    if let Some(prefix) = &report.prefix {
        line("collection", prefix.to_string());
    }
    let stored = HumanBytes(report.stored_bytes);
    line(
        "segments",
        format!(
            "{} ({stored} stored, {} raw)",
            report.segments,
            HumanBytes(report.raw_bytes)
        ),
    );
    line("members", report.members.to_string());
    if let Some(sha256) = report.manifest_sha256 {
        line("manifest", sha256.to_string());
    }
    line("seal", told(&report.seal));
    if let Some(time) = &report.seal.time_stamp {
        line(
            "time stamp",
            format!(
                "{time}, as SHA256SUMS.tsr states; who signed that is not checked here, `openssl ts -verify` does it"
            ),
        );
    }
    report
        .problems
        .iter()
        .for_each(|problem| line("problem", format!("[{}] {problem}", problem.code())));
    report
        .reasons
        .iter()
        .for_each(|reason| line("missing", reason.clone()));
    report
        .unchecked
        .iter()
        .for_each(|key| line("not checked", key.clone()));
    printable(&text)
}
