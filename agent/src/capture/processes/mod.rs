//! *processes*: one pass per process, so that no record is torn, and the raw texts under `[root]/proc`.

pub mod parse;
pub mod read;
pub mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use evidence::digest::{Digest, Hasher};
use serde::Serialize;

use super::sensitive::{Class, Policy, mask};
use super::users::Users;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Host, HostError, HostFile};
use crate::text::rfc3339;
use read::{ByName, Process};
use record::{Context, Record};

/// All processes and kernel threads; of their environment what the policy says.
pub struct Processes(pub Policy);

static SPEC: Spec = Spec {
    name: "processes",
    volatility: Volatility::Processes,
    what: "every process and kernel thread: status, arguments, environment, executable and its hash, open files, \
           mappings, threads, namespaces, cgroups, limits, capabilities, kernel stack",
    why: "what runs is what a reboot destroys; most intrusions show here first",
    deadline_s: 600,
    max_bytes: 8 << 30,
};

impl Artifact for Processes {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let mut pass = Pass {
            environment: self.0,
            context: context(host),
            hashes: BTreeMap::new(),
            mount_views: BTreeSet::new(),
        };
        for pid in host.pids().map_err(CaptureError::host("/proc"))? {
            match read::process(host, pid) {
                Ok(Some(process)) => pass.write(process, sink)?,
                Ok(None) => sink.gone(),
                Err(error) => sink.lost(&PathBuf::from(format!("/proc/{pid}")), &error)?,
            }
        }
        Ok(())
    }
}

/// What the records of all processes need of the host.
pub fn context(host: &Host) -> Context {
    let stat = host.line("proc/stat").unwrap_or_default();
    let boot_time = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .unwrap_or(0);
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    Context {
        boot_id: host
            .line("proc/sys/kernel/random/boot_id")
            .unwrap_or_default(),
        boot_time,
        ticks_per_second: ticks.ok().flatten().unwrap_or(100),
        users: Users::read(host),
    }
}

/// Identity of a file: device, inode, size, and the two times that a change of content moves.
type FileId = (u32, u32, u64, u64, String, String);

struct Pass {
    environment: Policy,
    context: Context,
    /// Executables that were hashed already: many processes run the same one.
    hashes: BTreeMap<FileId, Digest>,
    /// Mount namespace and root directory of the mountinfos that were kept.
    mount_views: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

#[derive(Serialize)]
struct StartEvent {
    message: String,
    datetime: String,
    timestamp: i64,
    timestamp_desc: &'static str,
    pid: i32,
}

impl Pass {
    fn write(&mut self, mut process: Process, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let exe = match process.exe.take() {
            Some(Ok(file)) => match self.hash(file, sink)? {
                Ok(digest) => Some(digest),
                Err(error) => {
                    process.exe = Some(Err(error));
                    None
                }
            },
            other => {
                process.exe = other;
                None
            }
        };
        let hashed = self.guard(&mut process);
        let mut record = record::record(&process, &self.context, exe);
        record.exhibit.environment_sha256 = hashed;
        self.raw(&process, sink)?;
        count_losses(&process, sink);
        sink.record("process/processes", &record)?;
        sink.event(&start_event(
            &record,
            self.context.start_ns(process.stat.start_ticks),
        ))?;
        findings(&record, sink)
    }

    /// Takes out of the environment what the policy wants out; the answer is its hash where that is all there will be.
    fn guard(&self, process: &mut Process) -> Option<Digest> {
        match (self.environment, process.texts.get_mut("environ")) {
            (Policy::Mask, Some(Ok(content))) => {
                content.bytes = mask(Class::Environment, &content.bytes);
                None
            }
            (Policy::Hash, Some(Ok(content))) => {
                let digest = Digest::of(&content.bytes);
                process.texts.remove("environ");
                Some(digest)
            }
            _ => None,
        }
    }

    /// The hash of an executable, read through the process, not through its path.
    fn hash(
        &mut self,
        mut file: HostFile,
        sink: &Sink<'_>,
    ) -> Result<Result<Digest, HostError>, Halt> {
        let stat = file.stat();
        let id = (
            stat.major,
            stat.minor,
            stat.inode,
            stat.size,
            stat.mtime.to_string(),
            stat.ctime.to_string(),
        );
        if let Some(known) = self.hashes.get(&id) {
            return Ok(Ok(*known));
        }
        let mut hasher = Hasher::default();
        let mut buffer = Vec::new();
        loop {
            sink.check()?;
            match file.read(buffer, usize::MAX) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => {
                    hasher.update(&piece);
                    buffer = piece;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let digest = hasher.finish();
        self.hashes.insert(id, digest);
        Ok(Ok(digest))
    }

    fn raw(&mut self, process: &Process, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let folder = process.folder.path();
        let link = |name: &str| {
            process
                .links
                .get(name)
                .and_then(|l| l.as_ref().ok())
                .cloned()
                .unwrap_or_default()
        };
        // The mount table is large and the same for all that share namespace and root: kept once.
        let known_mounts = !self.mount_views.insert((link("ns/mnt"), link("root")));
        for (name, content) in process
            .texts
            .iter()
            .chain(&process.threads)
            .chain(&process.fdinfo)
        {
            match content {
                Ok(_) if name == "mountinfo" && known_mounts => {}
                Ok(content) if name == "environ" && self.environment == Policy::Mask => {
                    sink.masked_part(&folder.join(name), content, Class::Environment)?;
                }
                Ok(content) => sink.raw_part(&folder.join(name), content)?,
                // Stands in the record's `errors`, and is counted once for the record.
                Err(_) => {}
            }
        }
        for (name, target) in process.links.iter().chain(&process.fds) {
            if let Ok(target) = target {
                sink.link_part(&folder.join(name), target)?;
            }
        }
        Ok(())
    }
}

/// Counts refusals and time-outs. What is merely not there, such as a file that this kernel lacks, is no loss.
fn count_losses(process: &Process, sink: &mut Sink<'_>) {
    fn count<T>(items: &ByName<T>, sink: &mut Sink<'_>) {
        let errors = items.values().filter_map(|item| item.as_ref().err());
        errors
            .filter(|error| !error.is_gone() && !is_absence(error))
            .for_each(|error| sink.count(error));
    }
    count(&process.texts, sink);
    count(&process.threads, sink);
    count(&process.fdinfo, sink);
    count(&process.links, sink);
    count(&process.fds, sink);
    let exe = process.exe.iter().filter_map(|exe| exe.as_ref().err());
    exe.chain(process.listings.values())
        .filter(|error| !error.is_gone())
        .for_each(|error| sink.count(error));
}

/// EINVAL is what `attr/current` answers without an LSM, and `loginuid` in a kernel without audit.
fn is_absence(error: &HostError) -> bool {
    matches!(
        error,
        HostError::Os(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOTDIR)
    )
}

fn start_event(record: &Record, start_ns: i64) -> StartEvent {
    StartEvent {
        message: format!(
            "process {} started: {}",
            record.process.pid, record.process.command_line
        ),
        datetime: rfc3339(start_ns),
        timestamp: start_ns / 1000,
        timestamp_desc: "Process Start",
        pid: record.process.pid,
    }
}

#[derive(Serialize)]
struct Finding<'a> {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    pid: i32,
    entity_id: &'a str,
}

/// What is odd at first sight. A finding is a place to look, not a verdict.
fn findings(record: &Record, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let (process, own) = (&record.process, &record.exhibit);
    let exe = process.executable.as_deref().unwrap_or_default();
    let preload = process
        .env_vars
        .iter()
        .find(|v| v.starts_with("LD_PRELOAD=") || v.starts_with("LD_AUDIT="));
    let poses = !own.kernel_thread && process.command_line.trim_start().starts_with('[');
    let found = [
        exe.starts_with("/memfd:").then(|| {
            (
                "memfd-executable",
                "T1620",
                format!("runs from memory: {exe}"),
                "runc, snap",
            )
        }),
        (exe.ends_with(" (deleted)") && !exe.starts_with("/memfd:")).then(|| {
            (
                "deleted-executable",
                "T1070.004",
                format!("its executable was deleted: {exe}"),
                "package upgrades",
            )
        }),
        poses.then(|| {
            let reason = format!(
                "names itself {} without being a kernel thread",
                process.command_line
            );
            ("false-kernel-thread", "T1036.004", reason, "none known")
        }),
        preload.map(|value| {
            (
                "preload-in-environment",
                "T1574.006",
                value.clone(),
                "jemalloc, monitoring agents",
            )
        }),
    ];
    for (rule, technique, reason, known_benign) in found.into_iter().flatten() {
        let entity_id = &process.entity_id;
        sink.finding(&Finding {
            rule,
            technique,
            reason,
            known_benign,
            pid: process.pid,
            entity_id,
        })?;
    }
    Ok(())
}
