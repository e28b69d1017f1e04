//! A fresh view of `/proc`, and what it shows that mounts over `/proc` cover.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

use super::{Finding, ViewRecord, record};
use crate::capture::kernel::mount;
use crate::capture::processes::parse;
use crate::capture::sockets::word;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, Host, HostError, SMALL, View};

/// Texts and links of a process that is covered.
const TEXTS: &[&str] = &[
    "stat",
    "status",
    "cmdline",
    "comm",
    "environ",
    "maps",
    "cgroup",
    "mountinfo",
];
const LINKS: &[&str] = &["exe", "cwd", "root"];
/// Most bytes of such a text.
const MAX_TEXT: usize = 1 << 20;
/// Most descriptors of a covered process that are told.
const MAX_FDS: usize = 4096;

/// The fresh view; `None` where there can be none, which is said.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn fresh(host: &Host, sink: &mut Sink<'_>) -> Result<Option<Folder>, Halt> {
    let view = "fresh_proc";
    match host.detached(View::Proc) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) => {
            // An old kernel, or a recorded tree: nothing is lost that could have been had.
            if !matches!(error, HostError::NotLive) && error.errno().as_deref() != Some("ENOSYS") {
                sink.count(&error);
            }
            let error = Some(word(&error));
            record(
                sink,
                &ViewRecord {
                    view,
                    error,
                    ..ViewRecord::default()
                },
            )?;
            Ok(None)
        }
    }
}

/// Values of `hidepid` and others among the options of the `/proc` that is looked at, where they are not the usual ones.
pub(super) fn proc_options(host: &Host) -> Option<String> {
    let table = host
        .own()
        .and_then(|own| own.read("mountinfo", SMALL))
        .ok()?;
    options(&table.bytes)
}

/// `hidepid`, `gid` and `subset` of what is mounted last over `/proc`, in the form `hidepid=invisible,gid=4` (proc(5)).
pub fn options(mountinfo: &[u8]) -> Option<String> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(mount);
    let mut of_proc = mounts.filter(|mount| mount.point() == "/proc");
    let top = of_proc.next_back()?;
    let told = top.super_options().split(',').filter(|option| {
        ["hidepid=", "gid=", "subset="]
            .iter()
            .any(|name| option.starts_with(name))
            && !matches!(*option, "hidepid=0" | "hidepid=off")
    });
    let told: Vec<&str> = told.collect();
    (!told.is_empty()).then(|| told.join(","))
}

/// Whether these options keep processes of others from a reader that may not trace them, as we may not.
pub(super) fn hides_from_us(host: &Host, options: &str) -> bool {
    const SYS_PTRACE: u32 = 19;
    let hides = options
        .split(',')
        .any(|option| option.starts_with("hidepid="));
    let status = host.own().and_then(|own| own.read("status", MAX_TEXT));
    let keys = status
        .map(|content| parse::keys_and_values(&content.bytes))
        .unwrap_or_default();
    let mask = keys
        .get("CapEff")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok());
    hides && mask.unwrap_or(0) >> SYS_PTRACE & 1 == 0
}

#[derive(Serialize)]
struct Covered {
    point: String,
    /// The process whose folder, or a part of it, is covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    links: BTreeMap<String, String>,
    /// Texts that lie below `live_response/hidden/proc/PID`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    texts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A record of each mount over `/proc`, with what it covers when that is a process.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn records(host: &Host, fresh: &Folder, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for point in host.mounts_over_proc() {
        let pid = pid_of(&point);
        let told = Covered {
            point: point.display().to_string(),
            pid,
            name: None,
            command_line: None,
            links: BTreeMap::new(),
            texts: Vec::new(),
            error: None,
        };
        let told = match pid {
            Some(pid) => process(fresh, pid, told, sink)?,
            None => told,
        };
        sink.record("hidden/covered", &told)?;
        if let Some(pid) = pid {
            let name = told.name.as_deref().unwrap_or_default();
            let command = told.command_line.as_deref().unwrap_or_default();
            sink.finding(&Finding {
                rule: "covered-process",
                technique: "T1564.013",
                reason: format!(
                    "a mount on {} covers process {pid} ({name}): {command}",
                    told.point
                ),
                known_benign: "none known",
                pid: Some(pid),
                path: None,
            })?;
        }
    }
    Ok(())
}

/// The process that a mount point such as `/proc/12/fd` belongs to.
fn pid_of(point: &Path) -> Option<i32> {
    let below = point.strip_prefix("/proc").ok()?;
    below.iter().next()?.to_str()?.parse().ok()
}

fn process(
    fresh: &Folder,
    pid: i32,
    mut told: Covered,
    sink: &mut Sink<'_>,
) -> Result<Covered, Halt> {
    let folder = match fresh.folder(pid.to_string()) {
        Ok(folder) => folder,
        Err(error) => {
            sink.count(&error);
            told.error = Some(word(&error));
            return Ok(told);
        }
    };
    let names = TEXTS.iter().map(OsString::from).collect();
    for (name, content) in folder.read_all(names, MAX_TEXT).unwrap_or_default() {
        let (Some(name), Ok(content)) = (name.to_str(), content) else {
            continue;
        };
        match name {
            "comm" => told.name = Some(parse::text(content.bytes.trim_ascii_end())),
            "cmdline" => told.command_line = Some(parse::strings(&content.bytes).join(" ")),
            _ => {}
        }
        sink.own(
            &format!("live_response/hidden/proc/{pid}/{name}"),
            &content.bytes,
        )?;
        told.texts.push(name.to_owned());
    }
    let fds = folder.list("fd").unwrap_or_default();
    let fds = fds
        .iter()
        .take(MAX_FDS)
        .filter_map(|entry| Some(format!("fd/{}", entry.name.to_str()?)));
    let names = LINKS
        .iter()
        .map(OsString::from)
        .chain(fds.map(OsString::from));
    for (name, target) in folder.read_links(names.collect()).unwrap_or_default() {
        if let Ok(target) = target {
            let name = name.to_string_lossy().into_owned();
            told.links.insert(name, parse::text(&target));
        }
    }
    Ok(told)
}
