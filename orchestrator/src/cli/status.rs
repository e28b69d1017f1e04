//! `status`: how far a case is, from its journal and the bucket. It changes nothing, and needs no lock.

use std::time::Duration;

use clap::Args;
use evidence::{CaseId, Exit};
use indicatif::HumanBytes;
use serde::Serialize;

use super::Global;
use super::snapshot::DisksSummary;
use crate::aws::Caller;
use crate::aws::s3::{Arrived, Bucket};
use crate::case::{Case, Journal, Outcome, Refused};
use crate::config::Config;
use crate::failure::Failure;
use crate::run;

const EXAMPLES: &str = "\
Examples:
  exhibit status IR-7
  exhibit status IR-7 --watch
  exhibit status IR-7 --offline --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Look again and again, until all has ended
    #[arg(long)]
    watch: bool,
    /// Only the journal: ask AWS nothing
    #[arg(long)]
    offline: bool,
}

/// A case.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    case: String,
    reason: String,
    pub(super) requests: Vec<RequestSummary>,
    pub(super) disks: Vec<DisksSummary>,
    collections: Vec<CollectionSummary>,
}

/// A request.
#[derive(Debug, Serialize)]
pub(super) struct RequestSummary {
    id: String,
    account: String,
    done: bool,
    cancelled: bool,
    pub(super) refused: Vec<Refused>,
    pub(super) instances: Vec<HostSummary>,
}

/// An instance of a request.
#[derive(Debug, Serialize)]
pub(super) struct HostSummary {
    instance: String,
    /// `waiting`, `started` or `ended`.
    state: &'static str,
    pub(super) outcome: Option<Outcome>,
    /// SSM's word.
    status: Option<String>,
    pub(super) exit_code: Option<i32>,
    why: Option<String>,
    /// Where its collection is, below the configured prefix.
    prefix: String,
    segments: Option<u64>,
    bytes: Option<u64>,
}

/// A collection.
#[derive(Debug, Serialize)]
struct CollectionSummary {
    prefix: String,
    verdict: Option<String>,
    sealed: bool,
    released: bool,
}

impl Summary {
    /// Of one request, or of all.
    pub(super) fn of(case: &Case, request: Option<&str>) -> Self {
        let wanted = case
            .requests
            .iter()
            .filter(|requested| request.is_none_or(|id| requested.request.id == id));
        let requests = wanted.map(|requested| RequestSummary {
            id: requested.request.id.clone(),
            account: requested.request.account.clone(),
            done: requested.is_done(),
            cancelled: requested.cancelled,
            refused: requested.request.refused.clone(),
            instances: requested
                .hosts
                .iter()
                .map(|(instance, host)| HostSummary {
                    instance: instance.clone(),
                    state: match (&host.ended, host.started) {
                        (Some(_), _) => "ended",
                        (None, true) => "started",
                        (None, false) => "waiting",
                    },
                    outcome: host.ended.as_ref().map(|end| end.outcome),
                    status: host.ended.as_ref().map(|end| end.status.clone()),
                    exit_code: host.ended.as_ref().and_then(|end| end.exit_code),
                    why: host.ended.as_ref().and_then(|end| end.why.clone()),
                    prefix: case.prefix(&requested.request, instance),
                    segments: None,
                    bytes: None,
                })
                .collect(),
        });
        let collections = case
            .collections
            .iter()
            .map(|(prefix, collection)| CollectionSummary {
                prefix: prefix.clone(),
                verdict: collection.verdict.clone(),
                sealed: collection.sealed,
                released: collection.released,
            });
        Self {
            case: case.id.clone(),
            reason: case.reason.clone(),
            requests: requests.collect(),
            disks: DisksSummary::of(case, request),
            collections: collections.collect(),
        }
    }

    fn fill(&mut self, arrived: &std::collections::BTreeMap<String, Arrived>) {
        for host in self
            .requests
            .iter_mut()
            .flat_map(|request| &mut request.instances)
        {
            let arrived = arrived.get(&host.prefix).copied().unwrap_or_default();
            (host.segments, host.bytes) = (Some(arrived.segments), Some(arrived.bytes));
        }
    }
}

/// For people.
pub(super) fn text(summary: &Summary) -> String {
    let mut lines = vec![format!("case {}: {}", summary.case, summary.reason)];
    for request in &summary.requests {
        let state = match (request.done, request.cancelled) {
            (true, _) => "done",
            (false, true) => "being cancelled",
            (false, false) => "under way",
        };
        lines.push(format!(
            "request {} in {}: {state}",
            request.id, request.account
        ));
        lines.extend(request.instances.iter().map(host_line));
        lines.extend(request.refused.iter().map(|refused| {
            format!(
                "  {}  left out ({}): {}",
                refused.instance, refused.code, refused.why
            )
        }));
    }
    lines.extend(summary.disks.iter().map(DisksSummary::text));
    for collection in &summary.collections {
        let verdict = collection.verdict.as_deref().unwrap_or("not verified");
        let sealed = match (collection.sealed, collection.released) {
            (_, true) => "released",
            (true, false) => "sealed",
            (false, false) => "not sealed",
        };
        lines.push(format!(
            "collection {}: {verdict}, {sealed}",
            collection.prefix
        ));
    }
    lines.join("\n") + "\n"
}

fn host_line(host: &HostSummary) -> String {
    let outcome = match host.outcome {
        None => host.state,
        Some(Outcome::Received) => "received",
        Some(Outcome::Interrupted) => "interrupted",
        Some(Outcome::Nothing) => "nothing collected",
    };
    let code = host
        .exit_code
        .map(|code| format!(", exit {code}"))
        .unwrap_or_default();
    let arrived = host.segments.map(|segments| {
        format!(
            ", {segments} segments, {}",
            HumanBytes(host.bytes.unwrap_or_default())
        )
    });
    let why = host
        .why
        .as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    format!(
        "  {}  {outcome}{code}{}{why}",
        host.instance,
        arrived.unwrap_or_default()
    )
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let folder = config.case_folder(&arguments.case);
    let bucket = match arguments.offline {
        true => None,
        false => Some(bucket(&config).await?),
    };
    loop {
        let (case, _) = Journal::peek(&folder, &arguments.case)?;
        let mut summary = Summary::of(&case, None);
        if let Some(bucket) = &bucket {
            let base = config.key("");
            summary.fill(
                &bucket
                    .arrived(&config.key(&format!("{}/", arguments.case)), &base)
                    .await?,
            );
        }
        global.print(&summary, text)?;
        if !arguments.watch || case.open_requests() == 0 {
            return Ok(Exit::Complete);
        }
        tokio::time::sleep(Duration::from_secs(config.collect.poll_seconds)).await;
    }
}

async fn bucket(config: &Config) -> Result<Bucket, Failure> {
    let evidence = run::evidence_account(config, &Caller::load().await?).await?;
    Ok(Bucket::new(
        &evidence,
        &config.evidence.bucket,
        &config.evidence.account,
    ))
}
