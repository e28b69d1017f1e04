//! Processes that hold eBPF objects, from `/proc/PID/fd` and `/proc/PID/fdinfo`.

use std::ffi::OsString;

use serde::Serialize;

use crate::capture::processes::parse;
use crate::capture::{CaptureError, Sink};
use crate::host::{BpfKind, Host};

/// Most descriptors of one process.
const MOST: usize = 65_536;
const SMALL_TEXT: usize = 16 << 10;

/// A descriptor that stands for an eBPF object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    pub pid: i32,
    pub fd: u32,
    /// `program`, `map`, `link` or `types`.
    pub kind: &'static str,
    pub id: u32,
}

/// All of them.
///
/// # Errors
/// When `/proc` can not be listed, or the artifact has to end.
pub(super) fn read(host: &Host, sink: &mut Sink<'_>) -> Result<Vec<Owner>, CaptureError> {
    let mut owners = Vec::new();
    for pid in host.pids().map_err(CaptureError::host("/proc"))? {
        sink.check()?;
        let Ok(folder) = host.process(pid) else {
            continue;
        };
        let entries = match folder.list("fd") {
            Ok(entries) => entries,
            Err(error) => {
                sink.count(&error);
                continue;
            }
        };
        let numbers = entries
            .iter()
            .take(MOST)
            .filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok());
        let numbers: Vec<u32> = numbers.collect();
        let names = numbers.iter().map(|fd| OsString::from(format!("fd/{fd}")));
        let targets = folder.read_links(names.collect()).unwrap_or_default();
        for (fd, (_, target)) in numbers.into_iter().zip(targets) {
            if target.is_ok_and(|target| {
                target.starts_with(b"anon_inode:bpf") || target == b"anon_inode:btf"
            }) && let Ok(text) = folder.read(format!("fdinfo/{fd}"), SMALL_TEXT)
                && let Some((kind, id)) = held(&text.bytes)
            {
                owners.push(Owner { pid, fd, kind, id });
            }
        }
    }
    Ok(owners)
}

/// What the `fdinfo` of an eBPF object says it is (`bpf_prog_show_fdinfo` and its siblings, `kernel/bpf/syscall.c`).
pub fn held(fdinfo: &[u8]) -> Option<(&'static str, u32)> {
    let keys = parse::keys_and_values(fdinfo);
    // A link tells its program too: what it is comes first.
    let kinds = [
        ("link_id", "link"),
        ("map_id", "map"),
        ("prog_id", "program"),
        ("btf_id", "types"),
    ];
    kinds
        .iter()
        .find_map(|(key, kind)| Some((*kind, keys.get(*key)?.parse().ok()?)))
}

/// Whether the descriptor still stands for it.
pub(super) fn still(host: &Host, owner: &Owner) -> bool {
    let path = format!("fdinfo/{}", owner.fd);
    let text = host
        .process(owner.pid)
        .and_then(|folder| folder.read(path, SMALL_TEXT));
    text.is_ok_and(|text| held(&text.bytes) == Some((owner.kind, owner.id)))
}

/// The kind of a word.
pub(super) fn kind(word: &str) -> Option<BpfKind> {
    match word {
        "program" => Some(BpfKind::Program),
        "map" => Some(BpfKind::Map),
        "link" => Some(BpfKind::Link),
        "types" => Some(BpfKind::Types),
        _ => None,
    }
}
