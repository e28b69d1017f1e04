//! *modules*: the kernel's modules as `/proc/modules`, `/sys/module` and kallsyms tell of them, compared.
//!
//! A module that takes itself out of one list mostly stays in another. Views are asked twice, as modules come and go: what
//! disagrees both times is a finding. The table *kernel/modules* has what each module says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use serde::Serialize;

use super::kernel::module;
use super::processes::parse::text;
use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::{Host, SMALL};

/// Modules that hide.
pub struct Modules;

static SPEC: Spec = Spec {
    name: "modules",
    volatility: Volatility::Kernel,
    what: "the modules that /proc/modules, /sys/module and the symbols of the kernel show, side by side, and taint without \
           a module that explains it",
    why: "a rootkit takes its module out of the list that tools read, and forgets the others",
    deadline_s: 60,
    max_bytes: 64 << 20,
};

/// Names in brackets in kallsyms that are no modules: JIT-compiled eBPF, trampolines of ftrace and kprobes.
const NO_MODULES: &[&str] = &["bpf", "__builtin__ftrace", "__builtin__kprobes"];
/// Taints that only a module brings, by bit and letter (Documentation/admin-guide/tainted-kernels.rst).
const OF_MODULES: &[(u32, char)] = &[(0, 'P'), (1, 'F'), (12, 'O'), (13, 'E')];
/// Most bytes of kallsyms.
const MAX_SYMBOLS: usize = 4 * SMALL;

/// The names that each view shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    pub listed: BTreeSet<String>,
    /// Letters of taint of those that are listed.
    pub taints: String,
    pub in_sys: BTreeSet<String>,
    pub in_symbols: BTreeSet<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    in_proc_modules: bool,
    in_sys_module: bool,
    in_symbols: bool,
}

#[derive(Serialize)]
struct Finding<'a> {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
}

impl Artifact for Modules {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let first = views(host, sink)?;
        let second = views(host, sink)?;
        let all: BTreeSet<&String> = [&first.listed, &first.in_sys, &first.in_symbols]
            .into_iter()
            .flatten()
            .collect();
        for name in all {
            sink.record(
                "kernel/module_views",
                &Row {
                    name,
                    in_proc_modules: first.listed.contains(name),
                    in_sys_module: first.in_sys.contains(name),
                    in_symbols: first.in_symbols.contains(name),
                },
            )?;
        }
        for (name, reason) in hidden(&first, &second) {
            let module = Some(name.as_str());
            let (rule, technique, known_benign) = ("hidden-module", "T1014", "none known");
            sink.finding(&Finding {
                rule,
                technique,
                reason,
                known_benign,
                module,
            })?;
        }
        let mask = host
            .line("proc/sys/kernel/tainted")
            .and_then(|mask| mask.parse().ok());
        for letter in unexplained(mask.unwrap_or(0), &second.taints) {
            sink.finding(&Finding {
                rule: "taint-without-module",
                technique: "T1547.006",
                reason: format!("the kernel is tainted ({letter}) by a module, and no module that is listed has that taint"),
                known_benign: "a module that was unloaded",
                module: None,
            })?;
        }
        Ok(())
    }
}

fn views(host: &Host, sink: &mut Sink<'_>) -> Result<Views, CaptureError> {
    sink.check()?;
    let mut views = Views::default();
    let listed = match host.root().read("proc/modules", SMALL) {
        Ok(listed) => listed,
        Err(error) if error.is_gone() => {
            return Err(CaptureError::Absent(
                "this kernel has no modules".to_owned(),
            ));
        }
        Err(error) => return Err(CaptureError::host("/proc/modules")(error)),
    };
    for (name, taint) in text(&listed.bytes)
        .lines()
        .filter_map(module)
        .map(|module| module.named())
    {
        views.listed.insert(name);
        views.taints.push_str(&taint);
    }
    if let Ok(sys) = host.root().folder("sys/module") {
        let names = sys.list("").map_err(CaptureError::host("/sys/module"))?;
        let states = names.iter().map(|entry| {
            let mut path = entry.name.clone();
            path.push("/initstate");
            path
        });
        let states: Vec<OsString> = states.collect();
        let read = sys
            .read_all(states, SMALL)
            .map_err(CaptureError::host("/sys/module"))?;
        // Built-in code has a folder for its parameters, but no state; one that is just coming or going is not told.
        let loaded = names.iter().zip(read).filter(|(_, (_, state))| {
            state
                .as_ref()
                .is_ok_and(|state| state.bytes.trim_ascii() == b"live")
        });
        views
            .in_sys
            .extend(loaded.map(|(entry, _)| entry.name.to_string_lossy().into_owned()));
    }
    match host.root().read("proc/kallsyms", MAX_SYMBOLS) {
        Ok(symbols) => views.in_symbols = in_symbols(&symbols.bytes),
        Err(error) => sink.count(&error),
    }
    Ok(views)
}

/// The modules whose symbols kallsyms lists: `address type name\t[module]`.
pub fn in_symbols(kallsyms: &[u8]) -> BTreeSet<String> {
    let module = |line: &[u8]| {
        let name = line
            .strip_suffix(b"]")?
            .rsplit(|byte| *byte == b'[')
            .next()?;
        Some(text(name))
    };
    let modules = kallsyms.split(|byte| *byte == b'\n').filter_map(module);
    modules
        .filter(|name| !NO_MODULES.contains(&name.as_str()))
        .collect()
}

/// Modules that one view shows both times and the list, or sysfs, neither time; each with the words for it.
pub fn hidden(first: &Views, second: &Views) -> BTreeMap<String, String> {
    let both = |view: fn(&Views) -> &BTreeSet<String>| -> BTreeSet<String> {
        view(first).intersection(view(second)).cloned().collect()
    };
    let (listed, in_sys) = (both(|views| &views.listed), both(|views| &views.in_sys));
    let in_symbols = both(|views| &views.in_symbols);
    let mut found = BTreeMap::new();
    for name in in_sys.union(&in_symbols) {
        if !first.listed.contains(name) && !second.listed.contains(name) {
            let place = if in_sys.contains(name) {
                "/sys/module"
            } else {
                "kallsyms"
            };
            found.insert(
                name.clone(),
                format!("module {name} is in {place} and not in /proc/modules"),
            );
        }
    }
    // Without sysfs there is nothing to compare with.
    for name in listed.iter().filter(|_| !in_sys.is_empty()) {
        if !first.in_sys.contains(name) && !second.in_sys.contains(name) {
            found.insert(
                name.clone(),
                format!("module {name} is in /proc/modules and not in /sys/module"),
            );
        }
    }
    found
}

/// Letters of the taints of `mask` that only modules bring and that no listed module has.
pub fn unexplained(mask: u64, taints: &str) -> Vec<char> {
    let set = OF_MODULES.iter().filter(|(bit, _)| mask >> bit & 1 == 1);
    set.map(|(_, letter)| *letter)
        .filter(|letter| !taints.contains(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(listed: &[&str], in_sys: &[&str], in_symbols: &[&str]) -> Views {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Views {
            listed: set(listed),
            in_sys: set(in_sys),
            in_symbols: set(in_symbols),
            taints: String::new(),
        }
    }

    #[test]
    fn a_module_in_one_view_alone_is_hidden_when_it_stays_so() {
        let agree = views(&["a", "b"], &["a", "b"], &["a"]);
        assert!(
            hidden(&agree, &agree).is_empty(),
            "a module without symbols of its own is none"
        );
        let unlisted = views(&["a"], &["a", "evil"], &["a"]);
        assert_eq!(hidden(&unlisted, &unlisted).len(), 1);
        assert!(hidden(&unlisted, &agree).is_empty(), "it was unloaded");
        let loaded = views(&["a", "evil"], &["a", "evil"], &["a"]);
        assert!(hidden(&unlisted, &loaded).is_empty(), "it was just loaded");
        let symbols = views(&["a"], &["a"], &["a", "evil"]);
        assert!(hidden(&symbols, &symbols)["evil"].contains("kallsyms"));
        let no_sys = views(&["a", "evil"], &["a"], &[]);
        assert!(hidden(&no_sys, &no_sys)["evil"].contains("not in /sys/module"));
        assert!(
            hidden(&views(&["a"], &[], &[]), &views(&["a"], &[], &[])).is_empty(),
            "no sysfs"
        );
    }

    #[test]
    fn symbols_tell_their_modules() {
        let text = b"ffffffff81000000 T _text\nffffffffc0000000 t f\t[evil]\n0 t g\t[evil]\n0 t bpf_prog_1\t[bpf]\n0 t x\t[__builtin__ftrace]\n]\n\xff]";
        let found = in_symbols(text);
        assert!(
            found.contains("evil")
                && !found.contains("bpf")
                && !found.contains("__builtin__ftrace")
        );
    }

    #[test]
    fn taints_of_modules_want_a_module() {
        assert_eq!(unexplained(1 << 12 | 1 << 13 | 1 << 9, "OP"), ['E']);
        assert!(unexplained(0, "").is_empty());
    }

    #[test]
    fn a_line_gives_name_and_taint() {
        let read = module("a 1 0 - Live 0x0 (OE)").unwrap().named();
        assert_eq!(read, ("a".to_owned(), "OE".to_owned()));
        let read = module("b 1 0 - Live 0x0").unwrap().named();
        assert_eq!(read, ("b".to_owned(), String::new()));
    }
}
