//! A run, from the first look to the receipt. Everything else hangs below this page.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use evidence::manifest::{ArtifactReport, Manifest, Outcome, Tool};
use evidence::{Chain, Exit, Prefix, Receipt, keys, segment};

use crate::bundle::{self, BundleEnd, Writer};
use crate::capture::{self, Artifact, runner};
use crate::host::{Host, clocks};
use crate::limits::{Rate, Throttle};
use crate::report;
use crate::ship::{Directory, Drained, Object, Queue, Readiness, ShipError, Store};

/// What the operator asked for.
pub struct Options {
    pub prefix: Prefix,
    pub operator: String,
    pub reason: String,
    pub arguments: Vec<String>,
    /// What is captured.
    pub capture: capture::Plan,
    pub spool: Option<std::path::PathBuf>,
    pub deadline: Option<Duration>,
    pub max_file_bytes: u64,
    /// Most bytes of the evidence stream before it is compressed.
    pub max_total_bytes: Option<u64>,
    pub rate_limit: Option<u64>,
    pub cpu_percent: Option<u32>,
    /// zstd's level, and threads that compress.
    pub level: i32,
    pub workers: usize,
}

/// What happens during a run, for whoever shows it.
pub enum Event<'a> {
    Ready(&'a Readiness),
    Started {
        artifact: &'a str,
        number: usize,
        of: usize,
    },
    /// An artifact that takes long.
    Progress {
        artifact: &'a str,
        step: capture::Step,
    },
    Ended(&'a ArtifactReport),
    Shipped {
        bytes: u64,
    },
    Closing,
    /// The store, or the spool, failed for good.
    Failed(&'a ShipError),
}

/// What a run knows from its beginning.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) host: &'a Host,
    pub(crate) store: &'a dyn Store,
    pub(crate) readiness: &'a Readiness,
    pub(crate) started: evidence::manifest::Instant,
    pub(crate) disk_before: report::Disk,
    pub(crate) interrupted: &'a AtomicBool,
}

/// Why there is no collection at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Store(#[from] ShipError),
    #[error("a thread can not be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the threads that compress ended early; nothing can be sealed")]
    Pipeline(#[from] bundle::Stopped),
    #[error("the manifest can not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl RunError {
    /// The exit code for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Thread(_) | Self::Pipeline(_) | Self::Json(_) => Exit::Internal,
        }
    }
}

/// Collects from `host` into `store`.
///
/// # Errors
/// When nothing was collected; a collection that is not complete is no error, its receipt says so.
pub fn run(
    options: &Options,
    host: &Host,
    store: Arc<dyn Store>,
    interrupted: &AtomicBool,
    show: &dyn Fn(Event<'_>),
) -> Result<Receipt, RunError> {
    let (started, disk_before) = (clocks(), report::Disk::now(host));
    let readiness = store.prepare()?;
    show(Event::Ready(&readiness));
    let run = Run {
        options,
        host,
        store: &*store,
        readiness: &readiness,
        started,
        disk_before,
        interrupted,
    };

    let spool = options
        .spool
        .as_ref()
        .map(|spool| Directory::new(&spool.join(options.prefix.to_string())));
    let queue = Queue::start(Arc::clone(&store), spool, Rate::new(options.rate_limit))?;
    let chain = Chain::new(options.prefix.clone());
    let shape = bundle::Shape {
        level: options.level,
        workers: options.workers,
        memory_segment: segment::target_bytes(host.managed_memory()),
    };
    let mut bundle = Writer::start(chain, shape, Box::new(queue.take()))?;

    // The first object says what will be done, and proves that the store takes evidence, before anything is read.
    bundle.add(
        bundle::own(b"uac.log", "log"),
        report::opening(options, started).as_bytes(),
    )?;
    bundle.flush()?;
    queue.first()?;

    let (reports, tool) = thread::scope(|scope| {
        let tool = scope.spawn(|| report::tool(host));
        (capture(&run, &mut bundle, &queue, show), tool.join())
    });
    let tool = tool.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    show(Event::Closing);
    report::agent_members(options, &reports, &mut bundle)?;
    let end = bundle.finish()?;
    let drained = queue.drain();
    let receipt = seal(&run, tool, reports, &end, &drained)?;
    let shipped = drained.shipped();
    shipped
        .failure
        .iter()
        .chain(&shipped.spool_failure)
        .for_each(|error| show(Event::Failed(error)));
    Ok(receipt)
}

/// Runs the artifacts in order of volatility.
fn capture(
    run: &Run<'_>,
    bundle: &mut Writer,
    queue: &Queue,
    show: &dyn Fn(Event<'_>),
) -> Vec<ArtifactReport> {
    let options = run.options;
    let limits = runner::Limits {
        // A deadline beyond what the clock can count is none.
        run_deadline: options
            .deadline
            .and_then(|deadline| Instant::now().checked_add(deadline)),
        max_file_bytes: options.max_file_bytes,
        total_left: options.max_total_bytes.unwrap_or(u64::MAX).into(),
        throttle: Throttle::new(options.cpu_percent),
        watch: &|artifact, step| show(Event::Progress { artifact, step }),
    };
    let artifacts = capture::artifacts(options.capture.clone());
    let of = artifacts.len();
    let mut reports = Vec::new();
    for (index, artifact) in artifacts.iter().enumerate() {
        let name = artifact.spec().name;
        let report = match left_out(options, &**artifact) {
            Some(reason) => runner::skipped(&**artifact, &reason),
            None => {
                show(Event::Started {
                    artifact: name,
                    number: index + 1,
                    of,
                });
                runner::run(&**artifact, run.host, bundle, &limits, run.interrupted)
            }
        };
        show(Event::Ended(&report));
        show(Event::Shipped {
            bytes: queue.shipped_bytes(),
        });
        reports.push(report);
    }
    reports
}

fn left_out(options: &Options, artifact: &dyn Artifact) -> Option<Cow<'static, str>> {
    let selection = &options.capture.selection;
    let by_name = selection.left_out(artifact.spec().name);
    by_name.map(Cow::from).or_else(|| artifact.left_out())
}

/// Fixes the chain and every outcome, and stores the manifest last.
fn seal(
    run: &Run<'_>,
    tool: Tool,
    reports: Vec<ArtifactReport>,
    end: &BundleEnd,
    drained: &Drained,
) -> Result<Receipt, RunError> {
    // A tar without its end must get no manifest: the run then shows as what it is, interrupted.
    let put = |object: &Object| match end.whole && drained.shipped().spool_failure.is_none() {
        true => drained.put(object),
        false => object.unshipped(),
    };
    let options = run.options;
    let chain = put(&Object::new(
        keys::CHAIN,
        end.pack.chain.to_text().into_bytes(),
    ));
    let mut shipped = drained.shipped();
    shipped.objects.push(chain);
    let manifest = report::manifest(run, tool, reports, end, &shipped);
    let manifest_object = Object::new(keys::MANIFEST, manifest.to_bytes()?);
    let manifest_stored = put(&manifest_object);
    let last = drained.shipped();
    let exit = exit(&manifest, last.failure.as_ref());
    let spooled = options.spool.is_some() && last.spool_failure.is_none();
    let kept = end.whole && (manifest_stored.shipped || spooled);
    Ok(Receipt {
        receipt_version: 1,
        result: exit.word().to_owned(),
        exit_code: exit.code(),
        prefix: options.prefix.clone(),
        manifest_sha256: kept.then_some(manifest_object.sha256),
        manifest_version_id: manifest_stored.version_id,
        chain_head: manifest.chain.head,
        segments: manifest.streams.iter().map(|totals| totals.segments).sum(),
        bytes: manifest.streams.iter().map(|totals| totals.bytes).sum(),
        members: end.inventory.members,
        artifacts: u32::try_from(manifest.artifacts.len()).unwrap_or(u32::MAX),
        incomplete: u32::try_from(
            manifest
                .artifacts
                .iter()
                .filter(|a| a.outcome.is_loss())
                .count(),
        )
        .unwrap_or(u32::MAX),
        tool_version: manifest.tool.version,
        tool_sha256: manifest.tool.sha256,
        started_utc_ns: run.started.utc_ns,
        ended_utc_ns: clocks().utc_ns,
    })
}

fn exit(manifest: &Manifest, failure: Option<&ShipError>) -> Exit {
    use evidence::manifest::Completeness;
    let captured = |a: &ArtifactReport| {
        matches!(a.outcome, Outcome::Captured | Outcome::Partial) && a.items > 0
    };
    match (failure.map(|error| error.exit()), manifest.status) {
        (Some(Exit::NoSpace), _) => Exit::NoSpace,
        (Some(_), _) => Exit::StoreFailed,
        _ if !manifest.artifacts.iter().any(captured) => Exit::NothingCollected,
        (None, Completeness::Complete) => Exit::Complete,
        (None, Completeness::Partial) => Exit::Partial,
    }
}
