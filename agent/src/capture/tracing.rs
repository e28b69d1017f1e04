//! *tracing*: probes and hooks in the kernel: kprobes, uprobes, ftrace, and all instances of the tracer.
//!
//! Only texts that stay as they are when they are read: never `trace_pipe`, which empties, nor `trace`, which stops. Where
//! tracefs or debugfs is not mounted it is looked at detached, so that no mount table changes.

use serde::Serialize;

use super::processes::parse::text;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Folder, Host, HostError, View};

/// Probes and hooks.
pub struct Tracing;

static SPEC: Spec = Spec {
    name: "tracing",
    volatility: Volatility::Kernel,
    what: "kprobes, uprobes, dynamic events, functions that ftrace diverts, tracers and filters of all instances",
    why: "rootkits hook the kernel's functions by kprobes and ftrace; both show here and nowhere on a disk",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// Texts of tracefs, and of each instance below `instances`.
const TEXTS: &[&str] = &[
    "current_tracer",
    "tracing_on",
    "kprobe_events",
    "kprobe_profile",
    "uprobe_events",
    "uprobe_profile",
    "dynamic_events",
    "synthetic_events",
    "enabled_functions",
    "set_event",
    "set_event_pid",
    "set_ftrace_filter",
    "set_ftrace_notrace",
    "set_ftrace_pid",
    "set_graph_function",
];
/// Most bytes of a text, and most instances.
const MAX_TEXT: usize = 16 << 20;
const MAX_INSTANCES: usize = 256;
/// Parts of names of functions that hide what they show when they are hooked.
const TELLING: &[&str] = &[
    "getdents",
    "filldir",
    "iterate_dir",
    "sys_kill",
    "tcp4_seq_show",
    "tcp6_seq_show",
    "udp4_seq_show",
    "udp6_seq_show",
    "proc_pid_readdir",
    "proc_fill_cache",
    "next_tgid",
    "m_show",
    "sys_bpf",
    "sys_read",
    "sys_statx",
    "kallsyms_lookup_name",
    "commit_creds",
];

impl Artifact for Tracing {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let mut missing = Vec::new();
        match open(host, View::Tracefs) {
            Ok(folder) => tracefs(&folder, sink)?,
            Err(error) => missing.push(lack("tracefs", &error, sink)),
        }
        match open(host, View::Debugfs) {
            Ok(folder) => kprobes(&folder, sink)?,
            Err(error) => missing.push(lack("debugfs", &error, sink)),
        }
        match missing.len() {
            2 if sink.tally().losses.is_empty() => Err(CaptureError::Absent(missing.join("; "))),
            _ => {
                missing.into_iter().for_each(|why| sink.note(why));
                Ok(())
            }
        }
    }
}

/// The place where it is mounted, or a detached view of it.
fn open(host: &Host, view: View) -> Result<Folder, HostError> {
    match host.mounted(view) || !host.is_live() {
        true => host.root().folder(view.usual_place()),
        false => host.detached(view),
    }
}

fn lack(what: &str, error: &HostError, sink: &mut Sink<'_>) -> String {
    // ENODEV: not in this kernel. ENOSYS: not mounted, and too old for a detached view.
    let absent = matches!(
        error.errno().as_deref(),
        Some("ENODEV" | "ENOSYS" | "ENOENT")
    );
    if !absent {
        sink.count(error);
    }
    format!("{what}: {error}")
}

fn tracefs(folder: &Folder, sink: &mut Sink<'_>) -> Result<(), Halt> {
    instance(folder, "", sink)?;
    let instances = folder.list("instances").unwrap_or_default();
    if instances.len() > MAX_INSTANCES {
        sink.loss("truncated");
    }
    for entry in instances.iter().take(MAX_INSTANCES) {
        let path = std::path::Path::new("instances").join(&entry.name);
        if let Ok(below) = folder.folder(path) {
            instance(&below, &entry.name.to_string_lossy(), sink)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Line<'a> {
    /// Empty for the main one.
    instance: &'a str,
    /// The text that it stands in.
    file: &'a str,
    line: &'a str,
}

fn instance(folder: &Folder, name: &str, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for file in TEXTS {
        let content = match folder.read(file, MAX_TEXT) {
            Ok(content) => content,
            Err(error) if error.is_gone() => continue,
            Err(error) => {
                sink.lost(&folder.path().join(file), &error)?;
                continue;
            }
        };
        sink.raw_part(&folder.path().join(file), &content)?;
        let lines = text(&content.bytes);
        // What says that there is no filter, or that nothing is set.
        for line in lines
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            sink.record(
                "kernel/tracing",
                &Line {
                    instance: name,
                    file,
                    line,
                },
            )?;
            if *file == "enabled_functions" {
                diverted(line, sink)?;
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Finding<'a> {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    function: &'a str,
}

fn diverted(line: &str, sink: &mut Sink<'_>) -> Result<(), Halt> {
    match changes_its_target(line) {
        Some(function) => sink.finding(&Finding {
            rule: "ftrace-diverts-a-function",
            technique: "T1014",
            reason: format!("ftrace lets somebody change where {function} goes: {line}"),
            known_benign: "live patches",
            function,
        }),
        None => Ok(()),
    }
}

/// The function of a line of `enabled_functions` whose hook may change the instruction pointer, which is marked by `I`
/// (`t_show`, `kernel/trace/ftrace.c`): `name [module] (count) R I D ...`.
pub fn changes_its_target(line: &str) -> Option<&str> {
    let (name, rest) = line.split_once(" (")?;
    let (_count, flags) = rest.split_once(')')?;
    let mut flags = flags
        .split_ascii_whitespace()
        .take_while(|word| word.len() == 1);
    flags
        .any(|flag| flag == "I")
        .then(|| name.split(' ').next().unwrap_or(name))
}

/// A probe, as `kprobes/list` of debugfs tells of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Kprobe {
    pub address: String,
    /// `k` at an instruction, `r` at a return.
    pub kind: String,
    pub function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Such as `DISABLED`, `OPTIMIZED`, `FTRACE`, `GONE`.
    pub flags: Vec<String>,
}

/// Reads a line of `kprobes/list` (`report_probe`, `kernel/kprobes.c`).
pub fn kprobe(line: &str) -> Option<Kprobe> {
    let mut words = line.split_ascii_whitespace();
    let (address, kind, function) = (words.next()?, words.next()?, words.next()?);
    let rest: Vec<&str> = words.collect();
    let marks = rest.join("");
    let flags = marks.split(['[', ']']).filter(|mark| !mark.is_empty());
    Some(Kprobe {
        address: address.to_owned(),
        kind: kind.to_owned(),
        function: function.to_owned(),
        module: rest
            .first()
            .filter(|word| !word.starts_with('['))
            .map(|word| (*word).to_owned()),
        flags: flags
            .filter(|flag| flag.chars().all(|c| c.is_ascii_uppercase()))
            .map(str::to_owned)
            .collect(),
    })
}

fn kprobes(debugfs: &Folder, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for file in ["kprobes/enabled", "kprobes/list"] {
        let content = debugfs.read(file, MAX_TEXT);
        sink.raw_if_there(&debugfs.path().join(file), &content)?;
        let (Ok(content), "kprobes/list") = (content, file) else {
            continue;
        };
        for probe in text(&content.bytes).lines().filter_map(kprobe) {
            sink.record("kernel/kprobes", &probe)?;
            if TELLING.iter().any(|part| probe.function.contains(part)) {
                sink.finding(&Finding {
                    rule: "kprobe-on-what-shows-things",
                    technique: "T1014",
                    reason: format!("a kprobe stands on {}", probe.function),
                    known_benign: "security agents and tracers",
                    function: &probe.function,
                })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_with_and_without_modules() {
        let plain =
            kprobe("ffffffff81234560  k  __x64_sys_kill+0x0    [DISABLED][FTRACE]").unwrap();
        assert_eq!((plain.kind.as_str(), plain.module), ("k", None));
        assert_eq!(plain.flags, ["DISABLED", "FTRACE"]);
        let of_module = kprobe("ffffffffc0000000  r  f+0x4  evil  [OPTIMIZED]").unwrap();
        assert_eq!(of_module.module.as_deref(), Some("evil"));
        assert_eq!(of_module.flags, ["OPTIMIZED"]);
        assert_eq!(kprobe("junk k"), None);
        assert_eq!(kprobe(""), None);
    }

    #[test]
    fn only_functions_that_are_diverted_count() {
        for (line, want) in [
            (
                "__x64_sys_getdents64 (1) R I     \ttramp: 0xffffffffc0 (evil+0x0/0x10 [evil])",
                Some("__x64_sys_getdents64"),
            ),
            ("f [evil] (2)  I D", Some("f")),
            (
                "schedule (1) R       \ttramp: ftrace_regs_caller+0x0/0x65 ->I+0x0",
                None,
            ),
            ("schedule (1", None),
            ("", None),
        ] {
            assert_eq!(changes_its_target(line), want, "{line}");
        }
    }
}
