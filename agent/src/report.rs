//! What a run says of itself: the log that opens the tar, the agent's own members, the manifest.

use evidence::digest::{Digest, Hasher};
use evidence::manifest::{
    ArtifactReport, Case, ChainTotals, Clock, Completeness, Host as HostFacts, Impact, Instant,
    Manifest, Store as StoreFacts, Tool,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::bundle::{self, BundleEnd, Stopped, Writer};
use crate::capture::{self, Spec, processes::parse};
use crate::host::{Host, SMALL, clocks, usage};
use crate::run::{Options, Run};
use crate::ship::{Readiness, Shipped};
use crate::text::rfc3339;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("EXHIBIT_COMMIT");

/// The log that is the first member of the tar: public clients know an extracted collection by it.
pub fn opening(options: &Options, started: Instant) -> String {
    let prefix = &options.prefix;
    format!(
        "{NAME} {VERSION} ({COMMIT})\n\
         Case: {}\nHost: {}\nCollection: {}\nOperator: {}\nReason: {}\nStarted (UTC, host clock): {}\n\
         Layout: [root]/ holds raw bytes of the host, live_response/ what was parsed from them, inventory.jsonl all of it\n",
        prefix.case,
        prefix.host,
        prefix.collection,
        escaped(&options.operator),
        escaped(&options.reason),
        rfc3339(started.utc_ns),
    )
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[derive(Serialize)]
struct Action<'a> {
    artifact: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    started: String,
    ended: String,
    items: u64,
    bytes: u64,
}

/// Members that describe the run: each artifact's times and outcome, the profile, the version.
///
/// # Errors
/// [`Stopped`] never leaves here when the store failed: then there is nothing more to write.
pub fn agent_members(
    options: &Options,
    reports: &[ArtifactReport],
    bundle: &mut Writer,
) -> Result<(), serde_json::Error> {
    let mut log = Vec::new();
    for report in reports {
        let action = Action {
            artifact: &report.name,
            outcome: report.outcome.word(),
            reason: report.reason.as_deref(),
            started: rfc3339(report.started.utc_ns),
            ended: rfc3339(report.ended.utc_ns),
            items: report.items,
            bytes: report.bytes,
        };
        serde_json::to_writer(&mut log, &action)?;
        log.push(b'\n');
    }
    let plan = &options.capture;
    let artifacts = capture::artifacts(plan.clone());
    let specs: Vec<&Spec> = artifacts.iter().map(|artifact| artifact.spec()).collect();
    let profile = serde_json::json!({
        "profile": plan.profile,
        "artifacts": specs,
        "include": plan.selection.include,
        "exclude": plan.selection.exclude,
        "sensitive": plan.policies.words(),
        "since_ns": plan.since_ns,
    });
    let version = serde_json::json!({ "name": NAME, "version": VERSION, "commit": COMMIT });
    let members = [
        ("agent/action_log.jsonl", log),
        ("agent/profile.json", serde_json::to_vec(&profile)?),
        ("agent/version.json", serde_json::to_vec(&version)?),
        ("agent/clock.json", serde_json::to_vec(&clocks())?),
    ];
    let _: Result<bool, Stopped> = members.into_iter().try_fold(true, |_, (name, bytes)| {
        bundle.add(bundle::own(name.as_bytes(), "agent"), &bytes)
    });
    Ok(())
}

/// The manifest of the run.
pub(crate) fn manifest(
    run: &Run<'_>,
    tool: Tool,
    artifacts: Vec<ArtifactReport>,
    end: &BundleEnd,
    shipped: &Shipped,
) -> Manifest {
    let Run {
        options,
        host,
        store,
        readiness,
        ..
    } = *run;
    let reasons = reasons(&artifacts, shipped, run.interrupted.load(Ordering::Relaxed));
    let chain = &end.pack.chain;
    Manifest {
        format_version: evidence::FORMAT_VERSION,
        status: if reasons.is_empty() {
            Completeness::Complete
        } else {
            Completeness::Partial
        },
        reasons,
        case: Case {
            prefix: options.prefix.clone(),
            operator: options.operator.clone(),
            reason: options.reason.clone(),
            arguments: options.arguments.clone(),
            profile: Some(options.capture.profile.name.clone()),
            sensitive: options.capture.policies.words(),
        },
        tool,
        host: host_facts(host),
        clock: clock(run.started, readiness),
        streams: end.pack.streams.clone(),
        chain: ChainTotals {
            records: u32::try_from(chain.records().len()).unwrap_or(u32::MAX),
            head: chain.head(),
            sha256: Digest::of(chain.to_text().as_bytes()),
        },
        inventory: end.inventory.clone(),
        artifacts,
        store: StoreFacts {
            kind: store.kind().to_owned(),
            place: store.place(),
            object_lock: readiness.object_lock.clone(),
            resolved_by: store.resolved_by(),
            spool: options
                .spool
                .as_ref()
                .map(|path| path.display().to_string()),
            failure: shipped.failure.as_ref().map(ToString::to_string),
        },
        objects: shipped.objects.clone(),
        impact: impact(run),
    }
}

fn reasons(artifacts: &[ArtifactReport], shipped: &Shipped, interrupted: bool) -> Vec<String> {
    let incomplete = artifacts
        .iter()
        .filter(|report| report.outcome.is_loss())
        .map(|report| {
            let why = report.reason.as_deref().unwrap_or("no reason given");
            format!("{}: {}: {why}", report.name, report.outcome.word())
        });
    let stopped = interrupted.then(|| "the run was interrupted by a signal".to_owned());
    let failed = shipped
        .failure
        .as_ref()
        .map(|error| format!("the store failed: {error}"));
    let spool = shipped
        .spool_failure
        .as_ref()
        .map(|error| format!("the spool failed: {error}"));
    stopped
        .into_iter()
        .chain(failed)
        .chain(spool)
        .chain(incomplete)
        .collect()
}

/// The program, with the hash of its own file, read through the kernel's link to it.
pub(crate) fn tool(host: &Host) -> Tool {
    let own = host.itself().and_then(|own| own.open_magic("exe"));
    let sha256 = own.ok().and_then(|mut file| {
        let mut hasher = Hasher::default();
        let mut buffer = Vec::new();
        loop {
            buffer = file.read(buffer, usize::MAX).ok()?;
            if buffer.is_empty() {
                return Some(hasher.finish());
            }
            hasher.update(&buffer);
        }
    });
    Tool {
        name: NAME.to_owned(),
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        sha256,
    }
}

fn host_facts(host: &Host) -> HostFacts {
    let status = host
        .own()
        .and_then(|own| own.read("status", SMALL))
        .map(|c| parse::keys_and_values(&c.bytes));
    HostFacts {
        hostname: host.line("proc/sys/kernel/hostname"),
        machine_id: host.line("etc/machine-id"),
        boot_id: host.line("proc/sys/kernel/random/boot_id"),
        kernel_release: host.line("proc/sys/kernel/osrelease"),
        kernel_version: host.line("proc/sys/kernel/version"),
        architecture: Some(std::env::consts::ARCH.to_owned()),
        uid: nix::unistd::geteuid().as_raw(),
        capabilities: status.ok().and_then(|status| status.get("CapEff").cloned()),
    }
}

fn clock(started: Instant, readiness: &Readiness) -> Clock {
    let ended = clocks();
    let passed = |clock: fn(&Instant) -> i64| clock(&ended) - clock(&started);
    Clock {
        started,
        ended,
        step_ns: passed(|i| i.utc_ns) - passed(|i| i.monotonic_ns),
        offset_ms: readiness
            .clock
            .map(|(theirs, ours)| (ours - theirs) / 1_000_000),
        offset_source: readiness
            .clock
            .map(|_| "Date header of the store, whole seconds".to_owned()),
    }
}

/// Bytes that disks gave to this process and took from it: `/proc/self/io` (proc_pid_io(5)). The kernel goes on counting
/// over execve(2), so what a run did is a difference.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    read: Option<u64>,
    written: Option<u64>,
}

impl Disk {
    /// Up to now.
    pub fn now(host: &Host) -> Self {
        let io = own_values(host, "io");
        let number = |key: &str| io.get(key)?.parse().ok();
        Self {
            read: number("read_bytes"),
            written: number("write_bytes"),
        }
    }

    fn since(self, before: Self) -> Self {
        let passed = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            read: passed(self.read, before.read),
            written: passed(self.written, before.written),
        }
    }
}

/// A text of `/proc/self` that has a key and a value in each line.
fn own_values(host: &Host, name: &str) -> BTreeMap<String, String> {
    let text = host.itself().and_then(|own| own.read(name, SMALL));
    text.map(|text| parse::keys_and_values(&text.bytes))
        .unwrap_or_default()
}

fn impact(run: &Run<'_>) -> Impact {
    let Run { options, host, .. } = run;
    let usage = usage();
    let own = host.itself().ok();
    let status = own_values(host, "status");
    let disk = Disk::now(host).since(run.disk_before);
    // getrusage(2) also counts what this process was before its execve(2): the memory of who started it.
    let peak = |text: &String| text.strip_suffix(" kB")?.parse::<u64>().ok();
    let peak = status.get("VmHWM").and_then(peak);
    let exe = own.as_ref().and_then(|own| own.read_link("exe").ok());
    let wrote = (run.store.kind() == "directory")
        .then(|| format!("wrote the collection to {}", run.store.place()));
    let spool = options
        .spool
        .as_ref()
        .map(|path| format!("may have written to the spool {}", path.display()));
    Impact {
        pid: std::process::id(),
        executable: exe.map(|path| parse::text(&path)),
        cpu_user_us: usage.cpu_user_us,
        cpu_system_us: usage.cpu_system_us,
        peak_rss_bytes: peak.map_or(usage.peak_rss_bytes, |kib| kib.saturating_mul(1024)),
        disk_read_bytes: disk.read,
        disk_write_bytes: disk.written,
        abandoned_reads: host.abandoned_reads(),
        changes: wrote
            .into_iter()
            .chain(spool)
            .chain(host.changes())
            .collect(),
    }
}
