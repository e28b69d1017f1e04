//! What makes the memory of a process worth having unasked: a table of rules over a few facts.
//!
//! A rule is a place to look, not a verdict: each has its well-known innocent causes.

use serde::Serialize;

use super::maps::Maps;
use crate::capture::processes::parse::{self, Stat};
use crate::host::{Folder, Host, HostError};

/// What the rules look at.
#[derive(Default)]
pub struct Facts {
    pub stat: Stat,
    /// What the link `exe` says; `None` without one.
    pub exe: Option<Vec<u8>>,
    /// Whether a file stands where a deleted executable stood.
    pub replaced: bool,
    pub command_line: Vec<u8>,
    pub environment: Vec<u8>,
    pub maps: Maps,
    /// Whether it runs, and the listing of `/proc` does not have it.
    pub hidden: bool,
}

/// Why a process is suspicious.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    pub rule: &'static str,
    pub technique: &'static str,
    pub detail: String,
    pub known_benign: &'static str,
}

struct Rule {
    name: &'static str,
    /// Of MITRE ATT&CK.
    technique: &'static str,
    known_benign: &'static str,
    /// What of the facts meets it.
    meets: fn(&Facts) -> Option<String>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "hidden-process",
        technique: "T1014",
        known_benign: "none known",
        meets: |facts| {
            facts
                .hidden
                .then(|| "it runs and is not in the listing of /proc".to_owned())
        },
    },
    Rule {
        name: "memfd-executable",
        technique: "T1620",
        known_benign: "runc, snap",
        meets: |facts| exe(facts, |exe| exe.starts_with(b"/memfd:")),
    },
    Rule {
        name: "deleted-executable",
        technique: "T1070.004",
        known_benign: "package upgrades",
        meets: deleted,
    },
    Rule {
        name: "temporary-folder",
        technique: "T1036.005",
        known_benign: "installers, builds",
        meets: |facts| {
            let is_in = |exe: &[u8]| TEMPORARY.iter().any(|folder| exe.starts_with(folder));
            exe(facts, is_in)
        },
    },
    Rule {
        name: "false-kernel-thread",
        technique: "T1036.004",
        known_benign: "none known",
        meets: posing,
    },
    Rule {
        name: "preload-in-environment",
        technique: "T1574.006",
        known_benign: "jemalloc, monitoring agents",
        meets: |facts| {
            let mut variables = facts.environment.split(|byte| *byte == 0);
            let preload = variables.find(|variable| {
                PRELOAD
                    .iter()
                    .any(|name| variable.strip_prefix(*name).is_some_and(|v| !v.is_empty()))
            });
            preload.map(parse::text)
        },
    },
    Rule {
        name: "writable-executable-memory",
        technique: "T1055",
        known_benign: "just-in-time compilers",
        meets: |facts| {
            let is_so = |permissions: &[u8; 4], inode: u64, _: &[u8]| {
                inode == 0 && permissions.contains(&b'w') && permissions.contains(&b'x')
            };
            mapping(facts, is_so)
        },
    },
    Rule {
        name: "executable-memory-of-no-file",
        technique: "T1055",
        known_benign: "package upgrades, just-in-time compilers that map a memfd twice",
        meets: |facts| {
            let is_so = |permissions: &[u8; 4], inode: u64, name: &[u8]| {
                inode != 0 && permissions.contains(&b'x') && is_deleted(name)
            };
            mapping(facts, is_so)
        },
    },
];

const TEMPORARY: &[&[u8]] = &[b"/tmp/", b"/var/tmp/", b"/dev/shm/", b"/run/shm/"];
const PRELOAD: &[&[u8]] = &[b"LD_PRELOAD=", b"LD_AUDIT="];
/// How names of the kernel's own threads start.
const KERNEL_NAMES: &[&str] = &[
    "kworker/",
    "ksoftirqd/",
    "kthreadd",
    "kswapd",
    "kcompactd",
    "khugepaged",
    "kdevtmpfs",
    "kauditd",
    "khungtaskd",
    "oom_reaper",
    "migration/",
    "cpuhp/",
    "idle_inject/",
    "watchdogd",
    "rcu_",
    "jbd2/",
    "xfsaild/",
    "irq/",
    "scsi_eh_",
    "nvme-",
    "mm_percpu_wq",
    "netns",
];

/// All that speaks against a process.
pub fn suspicions(facts: &Facts) -> Vec<Suspicion> {
    let found = RULES.iter().filter_map(|rule| {
        Some(Suspicion {
            rule: rule.name,
            technique: rule.technique,
            detail: (rule.meets)(facts)?,
            known_benign: rule.known_benign,
        })
    });
    found.collect()
}

fn exe(facts: &Facts, is_so: impl Fn(&[u8]) -> bool) -> Option<String> {
    let exe = facts.exe.as_deref()?;
    is_so(exe).then(|| format!("its executable is {}", parse::text(exe)))
}

fn deleted(facts: &Facts) -> Option<String> {
    let is_so = |exe: &[u8]| is_deleted(exe) && !exe.starts_with(b"/memfd:");
    exe(facts, is_so).map(|detail| match facts.replaced {
        true => format!("{detail}, and another file is there now, as after an upgrade"),
        false => detail,
    })
}

/// A name of a kernel thread, or one in brackets, of what has an executable.
fn posing(facts: &Facts) -> Option<String> {
    facts.exe.as_ref()?;
    let command = parse::text(&facts.command_line);
    let (command, name) = (command.trim_start(), facts.stat.comm.as_str());
    let is_kernels = |name: &str| KERNEL_NAMES.iter().any(|known| name.starts_with(known));
    let poses = command.starts_with('[') || is_kernels(command) || is_kernels(name);
    let shown = command.split('\0').next().unwrap_or_default();
    poses.then(|| format!("it names itself {shown:?} ({name:?}) and is no kernel thread"))
}

fn mapping(facts: &Facts, is_so: impl Fn(&[u8; 4], u64, &[u8]) -> bool) -> Option<String> {
    let maps = &facts.maps;
    let mut found = maps
        .mappings
        .iter()
        .filter(|mapping| is_so(&mapping.permissions, mapping.inode, maps.names.of(mapping)));
    let first = found.next()?;
    let name = parse::text(maps.names.of(first));
    let more = found.count();
    let place = format!("{:#x}-{:#x} {name}", first.start, first.end);
    Some(match more {
        0 => place.trim_end().to_owned(),
        more => format!("{} and {more} more", place.trim_end()),
    })
}

/// A file that no folder has, shared memory of the usual kinds apart.
fn is_deleted(name: &[u8]) -> bool {
    name.ends_with(b" (deleted)") && !name.starts_with(b"/SYSV") && !name.starts_with(b"/dev/zero")
}

/// Most bytes of a command line or an environment that are looked at.
const TEXT: usize = 2 << 20;

/// The facts of a process; `maps` is what of it is mapped.
pub fn facts(host: &Host, folder: &Folder, stat: Stat, maps: Maps, hidden: bool) -> Facts {
    let exe = folder.read_link("exe").ok();
    let path = exe
        .as_deref()
        .and_then(|exe| exe.strip_suffix(b" (deleted)"))
        .filter(|path| path.starts_with(b"/"));
    let replaced = path.is_some_and(|path| {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        host.root().stat(path).is_ok()
    });
    let text = |name: &str| -> Result<Vec<u8>, HostError> { Ok(folder.read(name, TEXT)?.bytes) };
    Facts {
        stat,
        exe,
        replaced,
        command_line: text("cmdline").unwrap_or_default(),
        environment: text("environ").unwrap_or_default(),
        maps,
        hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::super::maps::Parser;
    use super::*;

    fn rules(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
        let mut facts = Facts {
            exe: Some(b"/usr/bin/sleep".to_vec()),
            command_line: b"sleep\x0060\0".to_vec(),
            environment: b"PATH=/bin\0LD_PRELOAD=\0".to_vec(),
            ..Facts::default()
        };
        facts.stat.comm = "sleep".to_owned();
        facts.maps =
            maps(b"1000-2000 r-xp 0 8:1 5 /usr/bin/sleep\n3000-4000 rw-p 0 0:0 0 [heap]\n");
        change(&mut facts);
        suspicions(&facts).iter().map(|found| found.rule).collect()
    }

    fn maps(text: &[u8]) -> Maps {
        let mut parser = Parser::default();
        parser.feed(text);
        parser.end()
    }

    #[test]
    fn each_rule_has_its_own_sign_and_a_plain_process_has_none() {
        assert!(rules(|_| ()).is_empty());
        let exe = |path: &'static [u8]| rules(|facts| facts.exe = Some(path.to_vec()));
        assert_eq!(exe(b"/memfd:x (deleted)"), ["memfd-executable"]);
        assert_eq!(exe(b"/usr/bin/x (deleted)"), ["deleted-executable"]);
        assert_eq!(exe(b"/dev/shm/x"), ["temporary-folder"]);
        assert_eq!(
            exe(b"/tmp/x (deleted)"),
            ["deleted-executable", "temporary-folder"]
        );
        assert!(exe(b"/tmpx/x").is_empty());
        assert_eq!(rules(|facts| facts.hidden = true), ["hidden-process"]);
        let preload = rules(|facts| facts.environment = b"LD_PRELOAD=/tmp/x.so\0".to_vec());
        assert_eq!(preload, ["preload-in-environment"]);
    }

    #[test]
    fn memory_that_runs_is_told_from_memory_of_files() {
        let of = |text: &'static [u8]| rules(|facts| facts.maps = maps(text));
        assert_eq!(
            of(b"1000-2000 rwxp 0 0:0 0\n"),
            ["writable-executable-memory"]
        );
        assert_eq!(
            of(b"1000-2000 r-xp 0 0:1 7 /memfd:jit (deleted)\n"),
            ["executable-memory-of-no-file"]
        );
        for plain in [
            &b"1000-2000 r-xp 0 0:0 0 [vdso]\n"[..],
            b"1000-2000 rw-s 0 0:1 7 /memfd:x (deleted)\n",
            b"1000-2000 rwxs 0 0:1 7 /SYSV00000000 (deleted)\n",
            b"1000-2000 r-xp 0 8:1 7 /usr/lib/x.so\n",
        ] {
            assert!(of(plain).is_empty(), "{}", plain.escape_ascii());
        }
    }

    #[test]
    fn names_of_the_kernels_are_not_for_programs() {
        let named = |command: &'static [u8], name: &'static str| {
            rules(|facts| {
                facts.command_line = command.to_vec();
                facts.stat.comm = name.to_owned();
            })
        };
        assert_eq!(named(b"[kworker/0:1]\0", "x"), ["false-kernel-thread"]);
        assert_eq!(named(b"x\0", "kworker/u4:2"), ["false-kernel-thread"]);
        assert!(named(b"kworkers\0", "kworkers").is_empty());
        let thread = rules(|facts| {
            facts.exe = None;
            facts.stat.comm = "kworker/0:1".to_owned();
            facts.command_line = Vec::new();
        });
        assert!(thread.is_empty());
    }

    #[test]
    fn an_upgrade_is_told_and_still_a_reason() {
        let facts = Facts {
            exe: Some(b"/usr/sbin/sshd (deleted)".to_vec()),
            replaced: true,
            ..Facts::default()
        };
        let found = suspicions(&facts);
        assert!(found[0].detail.contains("as after an upgrade"), "{found:?}");
    }
}
