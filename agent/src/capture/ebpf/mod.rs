//! *ebpf*: programs, maps, links and types of eBPF, and who holds them.
//!
//! The kernel is asked by id, so what no file and no descriptor stands for is there too. What maps hold is not read:
//! reading some of them changes them. No bpf file system is mounted, since that makes some kernels run a program.

pub mod info;
mod names;
mod objects;
mod owners;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::Serialize;

use super::kernel::mount;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{BpfKind, Host, SMALL};
pub use owners::held;

/// eBPF.
pub struct Ebpf;

static SPEC: Spec = Spec {
    name: "ebpf",
    volatility: Volatility::Kernel,
    what: "programs with their instructions, maps, links and types of eBPF, what they are attached to, the processes that \
           hold them, and the names below /sys/fs/bpf",
    why: "a rootkit in eBPF needs no module and no file, and ends with the next boot",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// Most objects of a kind.
const MOST: u32 = 100_000;
/// Most names below bpf file systems, and how deep they lie.
const MOST_PINNED: usize = 100_000;
const DEPTH: usize = 16;

impl Artifact for Ebpf {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        pinned(host, sink)?;
        let owners = owners::read(host, sink)?;
        owners
            .iter()
            .try_for_each(|owner| sink.record("ebpf/holders", owner))?;
        if !host.is_live() {
            return Ok(());
        }
        match BpfKind::Program.next(0) {
            Ok(_) => {}
            Err(Errno::ENOSYS | Errno::EINVAL) => {
                return Err(CaptureError::Absent(
                    "this kernel has no eBPF, or no ids for it".to_owned(),
                ));
            }
            Err(Errno::EPERM | Errno::EACCES) => {
                return Err(CaptureError::Denied(
                    "the kernel does not let us ask for eBPF objects (EPERM)".to_owned(),
                ));
            }
            Err(errno) => {
                return Err(CaptureError::Impossible(format!(
                    "bpf(2): {}",
                    errno.desc()
                )));
            }
        }
        let found = objects::capture(host, &owners, sink)?;
        Ok(unlisted(host, &owners, found, sink)?)
    }
}

/// Ids of the objects of a kind.
///
/// # Errors
/// As the kernel says, of the first that it did not tell.
pub(super) fn ids(kind: BpfKind) -> Result<Vec<u32>, Errno> {
    let (mut ids, mut last) = (Vec::new(), 0);
    while let Some(next) = kind.next(last)? {
        // A kernel that tells the same again would go on for ever.
        if next <= last || ids.len() >= MOST as usize {
            break;
        }
        ids.push(next);
        last = next;
    }
    Ok(ids)
}

#[derive(Serialize)]
struct Finding {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
}

/// Objects that a descriptor stands for and that the kernel does not tell of, asked again.
fn unlisted(
    host: &Host,
    owners: &[owners::Owner],
    found: BTreeMap<&'static str, Vec<u32>>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    for owner in owners {
        let Some(listed) = found.get(owner.kind) else {
            continue;
        };
        let kind = owners::kind(owner.kind);
        let again = || {
            kind.and_then(|kind| ids(kind).ok())
                .is_none_or(|ids| ids.contains(&owner.id))
        };
        if listed.contains(&owner.id) || again() || !owners::still(host, owner) {
            continue;
        }
        sink.finding(&Finding {
            rule: "hidden-ebpf",
            technique: "T1014",
            reason: format!(
                "process {} holds eBPF {} {}, which bpf(2) does not list",
                owner.pid, owner.kind, owner.id
            ),
            known_benign: "none known",
            pid: Some(owner.pid),
        })?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Pinned {
    path: String,
    directory: bool,
}

/// Names below mounted bpf file systems. They are not opened: that takes BPF_OBJ_GET, and makes a descriptor of them.
fn pinned(host: &Host, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let table = host.own().and_then(|own| own.read("mountinfo", SMALL));
    let bytes = table.map(|content| content.bytes).unwrap_or_default();
    let mounts = bytes.split(|byte| *byte == b'\n').filter_map(mount);
    let points = mounts
        .filter(|mount| mount.kind() == "bpf")
        .map(|mount| PathBuf::from(mount.point()));
    let mut folders: Vec<(PathBuf, usize)> = points.map(|point| (point, 0)).collect();
    let mut told = 0;
    while let Some((path, depth)) = folders.pop() {
        let entries = match host.root().list(&path) {
            Ok(entries) => entries,
            Err(error) => {
                sink.lost(&path, &error)?;
                continue;
            }
        };
        for entry in entries {
            told += 1;
            if told > MOST_PINNED {
                sink.loss("truncated");
                return Ok(());
            }
            let path = path.join(&entry.name);
            let directory = entry.is_directory == Some(true);
            let shown = path.to_string_lossy().into_owned();
            sink.record(
                "ebpf/pinned",
                &Pinned {
                    path: shown,
                    directory,
                },
            )?;
            if directory && depth < DEPTH {
                folders.push((path, depth + 1));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
