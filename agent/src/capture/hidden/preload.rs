//! Libraries that are loaded into each program before its own: what all tools of the host that use libc would have seen
//! through them. This program is static: no library of the host is loaded into it.

use serde::Serialize;

use super::Finding;
use crate::capture::processes::parse;
use crate::capture::sockets::word;
use crate::capture::{Halt, Sink};
use crate::host::{Host, SMALL};

/// What ld.so(8) loads into every program.
const FILE: &str = "/etc/ld.so.preload";
/// What it loads into programs with such an environment; the last one is told for its context.
const VARIABLES: &[&str] = &["LD_PRELOAD=", "LD_AUDIT=", "LD_LIBRARY_PATH="];
/// Most bytes of an environment, and of the file.
const MAX_ENVIRON: usize = 2 << 20;

#[derive(Serialize)]
struct Preload {
    /// `/etc/ld.so.preload`, or the variable.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    value: String,
    /// Libraries named by it that are mapped by the process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mapped: Vec<String>,
}

/// Records what is preloaded; processes with such an environment are findings of the artifact *processes*.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn capture(host: &Host, sink: &mut Sink<'_>) -> Result<(), Halt> {
    file(host, sink)?;
    for pid in host.pids().unwrap_or_default() {
        sink.check()?;
        let Ok(folder) = host.process(pid) else {
            continue;
        };
        let environ = match folder.read("environ", MAX_ENVIRON) {
            Ok(environ) => environ,
            Err(error) => {
                sink.count(&error);
                continue;
            }
        };
        for (by, value) in variables(&environ.bytes) {
            let maps = folder
                .read("maps", SMALL)
                .map(|maps| maps.bytes)
                .unwrap_or_default();
            let mapped = mapped(&value, &maps);
            sink.record(
                "hidden/preload",
                &Preload {
                    by,
                    pid: Some(pid),
                    value,
                    mapped,
                },
            )?;
        }
    }
    Ok(())
}

fn file(host: &Host, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let content = match host.root().read(FILE, MAX_ENVIRON) {
        Ok(content) => content,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => {
            sink.note(format!("{FILE}: {}", word(&error)));
            return sink.lost(FILE.as_ref(), &error);
        }
    };
    let listed = host.root().list("etc").unwrap_or_default();
    let listed = listed.iter().any(|entry| entry.name == "ld.so.preload");
    let value = parse::text(content.bytes.trim_ascii());
    let (rule, reason) = match listed {
        true => (
            "preload-for-all",
            format!("{FILE} loads into every program: {value}"),
        ),
        false => (
            "hidden-preload",
            format!("{FILE} is there and is not listed in /etc: {value}"),
        ),
    };
    let (by, pid, mapped) = (FILE.to_owned(), None, Vec::new());
    sink.record(
        "hidden/preload",
        &Preload {
            by,
            pid,
            value,
            mapped,
        },
    )?;
    sink.finding(&Finding {
        rule,
        technique: "T1574.006",
        reason,
        known_benign: "some monitoring agents, which list their own library",
        pid: None,
        path: Some(FILE),
    })
}

/// The variables of an environment that make ld.so load or find other libraries, each with its value.
pub(super) fn variables(environ: &[u8]) -> Vec<(String, String)> {
    let strings = parse::strings(environ);
    let found = strings.iter().filter_map(|string| {
        let name = VARIABLES.iter().find(|name| string.starts_with(**name))?;
        Some((
            name.trim_end_matches('=').to_owned(),
            string.get(name.len()..)?.to_owned(),
        ))
    });
    found.collect()
}

/// The libraries of a value that `maps` shows.
pub(super) fn mapped(value: &str, maps: &[u8]) -> Vec<String> {
    let maps = parse::text(maps);
    let names = value
        .split([' ', ':', '\n', '\t'])
        .filter(|name| name.contains('/'));
    let shown = |name: &&str| maps.lines().any(|line| line.ends_with(name));
    names.filter(shown).map(str::to_owned).collect()
}
