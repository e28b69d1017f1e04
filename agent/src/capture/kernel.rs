//! *kernel*: modules, taint, mounts, sysctl, and the texts of `/proc` that describe the running system.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

use super::processes::parse::text;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Content, Folder, Host, HostError, SMALL, unescape};

/// The state of the kernel as it tells it.
pub struct Kernel;

static SPEC: Spec = Spec {
    name: "kernel",
    volatility: Volatility::Kernel,
    what: "modules with state and taint, command line, version, uptime, mounts, sysctl, swaps, interrupts, symbols, \
           and the other texts of /proc",
    why: "a rootkit in the kernel shows in modules, taint, symbols and changed settings",
    deadline_s: 120,
    max_bytes: 1 << 30,
};

/// Texts below `/proc`, taken as they are.
const TEXTS: &[&str] = &[
    "version",
    "version_signature",
    "cmdline",
    "bootconfig",
    "uptime",
    "stat",
    "loadavg",
    "meminfo",
    "vmstat",
    "swaps",
    "interrupts",
    "softirqs",
    "modules",
    "partitions",
    "diskstats",
    "filesystems",
    "devices",
    "misc",
    "crypto",
    "iomem",
    "ioports",
    "kallsyms",
    "cpuinfo",
    "buddyinfo",
    "pagetypeinfo",
    "slabinfo",
    "zoneinfo",
    "vmallocinfo",
    "locks",
    "key-users",
    "keys",
    "consoles",
    "execdomains",
    "cgroups",
    "fb",
    "mtrr",
    "schedstat",
    "timer_list",
    "config.gz",
    "sysvipc/msg",
    "sysvipc/sem",
    "sysvipc/shm",
    "tty/drivers",
    "pressure/cpu",
    "pressure/io",
    "pressure/memory",
];

/// Attributes of a module below `/sys/module/NAME`.
const MODULE_ATTRIBUTES: &[&str] = &[
    "coresize",
    "initsize",
    "initstate",
    "refcnt",
    "taint",
    "version",
    "srcversion",
    "sections/.text",
];

/// Letters of `/proc/sys/kernel/tainted` by bit (Documentation/admin-guide/tainted-kernels.rst).
const TAINTS: &[(&str, &str)] = &[
    ("P", "proprietary module"),
    ("F", "module force-loaded"),
    ("S", "out of specification"),
    ("R", "module force-unloaded"),
    ("M", "machine check"),
    ("B", "bad page"),
    ("U", "user request"),
    ("D", "kernel died: oops or BUG"),
    ("A", "ACPI table overridden"),
    ("W", "warning"),
    ("C", "staging driver"),
    ("I", "firmware workaround"),
    ("O", "out-of-tree module"),
    ("E", "unsigned module"),
    ("L", "soft lockup"),
    ("K", "live-patched"),
    ("X", "auxiliary"),
    ("T", "randstruct"),
    ("N", "in-kernel test"),
    ("J", "fwctl"),
];

impl Artifact for Kernel {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let proc = host
            .root()
            .folder("proc")
            .map_err(CaptureError::host("/proc"))?;
        let names = TEXTS.iter().map(OsString::from).collect();
        for (name, content) in proc
            .read_all(names, SMALL)
            .map_err(CaptureError::host("/proc"))?
        {
            sink.raw_if_there(&proc.path().join(name), &content)?;
        }
        mounts(host, sink)?;
        modules(host, &proc, sink)?;
        sink.record("kernel/kernel", &summary(host))?;
        Ok(sysctl(host, sink)?)
    }
}

#[derive(Serialize)]
struct Summary {
    version: Option<String>,
    command_line: Option<String>,
    uptime_s: Option<String>,
    tainted: Option<u64>,
    taints: Vec<String>,
    lockdown: Option<String>,
    modules_disabled: Option<String>,
    lsm: Option<String>,
}

fn summary(host: &Host) -> Summary {
    let tainted = host
        .line("proc/sys/kernel/tainted")
        .and_then(|mask| mask.parse().ok());
    Summary {
        version: host.line("proc/version"),
        command_line: host.line("proc/cmdline"),
        uptime_s: host
            .line("proc/uptime")
            .and_then(|line| line.split(' ').next().map(str::to_owned)),
        tainted,
        taints: taints(tainted.unwrap_or(0)),
        lockdown: host.line("sys/kernel/security/lockdown"),
        modules_disabled: host.line("proc/sys/kernel/modules_disabled"),
        lsm: host.line("sys/kernel/security/lsm"),
    }
}

fn taints(mask: u64) -> Vec<String> {
    let set = TAINTS
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1);
    set.map(|(_, (letter, meaning))| format!("{letter}: {meaning}"))
        .collect()
}

/// A module, as `/proc/modules` and `/sys/module` tell of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    name: String,
    size: Option<u64>,
    references: Option<u64>,
    used_by: Vec<String>,
    state: Option<String>,
    address: Option<String>,
    /// Letters that `/proc/modules` shows in brackets.
    taint: Option<String>,
    in_proc_modules: bool,
    /// Whether `/sys/module/NAME/initstate` is there, as it is for all that were loaded.
    in_sys_module: bool,
    attributes: BTreeMap<String, String>,
}

impl Module {
    /// Its name, and the letters of its taint.
    pub(crate) fn named(self) -> (String, String) {
        (self.name, self.taint.unwrap_or_default())
    }
}

/// Modules as `/proc/modules` and as `/sys/module` tell them, side by side: a module in one alone is hiding.
fn modules(host: &Host, proc: &Folder, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    let listed = proc
        .read("modules", SMALL)
        .map(|content| text(&content.bytes))
        .unwrap_or_default();
    let mut modules: BTreeMap<String, Module> = listed
        .lines()
        .filter_map(module)
        .map(|module| (module.name.clone(), module))
        .collect();
    let Ok(sys) = host.root().folder("sys/module") else {
        return modules
            .values()
            .try_for_each(|module| Ok(sink.record("kernel/modules", module)?));
    };
    let names = sys.list("").map_err(CaptureError::host("/sys/module"))?;
    for name in names.iter().filter_map(|entry| entry.name.to_str()) {
        let paths = MODULE_ATTRIBUTES
            .iter()
            .map(|attribute| OsString::from(format!("{name}/{attribute}")))
            .collect();
        let mut attributes = BTreeMap::new();
        for (path, content) in sys
            .read_all(paths, SMALL)
            .map_err(CaptureError::host("/sys/module"))?
        {
            sink.raw_if_there(&sys.path().join(&path), &content)?;
            if let (Some(attribute), Ok(content)) = (
                MODULE_ATTRIBUTES
                    .iter()
                    .find(|a| Path::new(&path).ends_with(a)),
                content,
            ) {
                attributes.insert(
                    (*attribute).to_owned(),
                    text(content.bytes.trim_ascii_end()),
                );
            }
        }
        // Built-in code has a folder for its parameters, but no state.
        if attributes.contains_key("initstate") {
            let module = modules.entry(name.to_owned()).or_insert_with(|| Module {
                name: name.to_owned(),
                ..Module::default()
            });
            module.in_sys_module = true;
            module.attributes = attributes;
        }
    }
    modules
        .values()
        .try_for_each(|module| Ok(sink.record("kernel/modules", module)?))
}

/// A line of `/proc/modules`: name, size, references, users, state, address, taint.
pub fn module(line: &str) -> Option<Module> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    let (size, references) = (fields.next()?.parse().ok(), fields.next()?.parse().ok());
    let users = fields.next()?;
    Some(Module {
        name,
        size,
        references,
        used_by: users
            .split(',')
            .filter(|user| !matches!(*user, "" | "-"))
            .map(str::to_owned)
            .collect(),
        state: fields.next().map(str::to_owned),
        address: fields.next().map(str::to_owned),
        taint: fields
            .next()
            .map(|letters| letters.trim_matches(['(', ')']).to_owned()),
        in_proc_modules: true,
        ..Module::default()
    })
}

/// A mount, as our own mount namespace shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    id: u32,
    parent: u32,
    device: String,
    root: String,
    point: String,
    options: String,
    kind: String,
    source: String,
    super_options: String,
}

impl Mount {
    /// Where it is mounted.
    pub(crate) fn point(&self) -> &str {
        &self.point
    }

    /// Type of the file system, such as `ext4`.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Options of the file system, apart by commas.
    pub(crate) fn super_options(&self) -> &str {
        &self.super_options
    }
}

fn mounts(host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    let own = host.own().map_err(CaptureError::host("/proc/self"))?;
    // `/proc/mounts` is a link to a file of the reader: our view is the one under which everything was read.
    sink.raw_if_there(Path::new("/proc/mounts"), &own.read("mounts", SMALL))?;
    let table = own
        .read("mountinfo", SMALL)
        .map_err(CaptureError::host("mountinfo"))?;
    for mount in table.bytes.split(|byte| *byte == b'\n').filter_map(mount) {
        sink.record("system/mounts", &mount)?;
    }
    Ok(())
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
pub fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let field = |index: usize| fields.get(index).map(|field| text(&unescape(field)));
    Some(Mount {
        id: field(0)?.parse().ok()?,
        parent: field(1)?.parse().ok()?,
        device: field(2)?,
        root: field(3)?,
        point: field(4)?,
        options: field(5)?,
        kind: field(dash + 1)?,
        source: field(dash + 2)?,
        super_options: field(dash + 3).unwrap_or_default(),
    })
}

/// Values of `/proc/sys` that only do something when they are read, or that nothing may read.
const SYSCTL_LEFT_OUT: &[&str] = &["stat_refresh", "flush", "compact_memory", "drop_caches"];
/// Depth of `/proc/sys`, with room to spare.
const SYSCTL_DEPTH: usize = 8;

#[derive(Serialize)]
struct Setting {
    name: String,
    value: String,
}

fn sysctl(host: &Host, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let Ok(root) = host.root().folder("proc/sys") else {
        return Ok(());
    };
    let mut folders = vec![(root, 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = folder
            .list("")
            .map_err(|error| sink.count(&error))
            .unwrap_or_default();
        let mut files = Vec::new();
        let left_out: BTreeSet<&str> = SYSCTL_LEFT_OUT.iter().copied().collect();
        for entry in entries {
            if entry.is_directory == Some(true) && depth < SYSCTL_DEPTH {
                folders.extend(
                    folder
                        .folder(&entry.name)
                        .ok()
                        .map(|folder| (folder, depth + 1)),
                );
            } else if entry
                .name
                .to_str()
                .is_some_and(|name| !left_out.contains(name))
            {
                files.push(entry.name);
            }
        }
        let contents = folder
            .read_all(files, SMALL)
            .map_err(|error| sink.count(&error))
            .unwrap_or_default();
        for (name, content) in contents {
            setting(&folder.path().join(name), content, sink)?;
        }
    }
    Ok(())
}

fn setting(
    path: &Path,
    content: Result<Content, HostError>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    use nix::errno::Errno::{EACCES, EINVAL, EIO, ENODEV, EPERM};
    match &content {
        // Write-only settings, such as those that trigger something, and those of absent devices.
        Err(HostError::Os(EACCES | EPERM | EIO | EINVAL | ENODEV)) => Ok(()),
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => sink.lost(path, error),
        Ok(bytes) => {
            sink.raw_part(path, bytes)?;
            let name = path
                .strip_prefix("/proc/sys")
                .unwrap_or(path)
                .to_string_lossy()
                .replace('/', ".");
            sink.record(
                "kernel/sysctl",
                &Setting {
                    name,
                    value: text(bytes.bytes.trim_ascii_end()),
                },
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_lines_with_and_without_taint_are_read() {
        let plain =
            module("nf_tables 319488 4 nft_compat,nft_ct, Live 0xffffffffc0a00000").unwrap();
        assert_eq!((plain.used_by.len(), plain.taint), (2, None));
        let odd = module("evil 16384 0 - Unloading 0x0 (OE)").unwrap();
        assert_eq!(
            (
                odd.state.as_deref(),
                odd.taint.as_deref(),
                odd.used_by.len()
            ),
            (Some("Unloading"), Some("OE"), 0)
        );
        assert_eq!(module("junk"), None);
    }

    #[test]
    fn taint_bits_have_letters_and_meanings() {
        assert_eq!(taints(0), Vec::<String>::new());
        assert_eq!(
            taints(1 << 12 | 1 << 13),
            ["O: out-of-tree module", "E: unsigned module"]
        );
    }

    #[test]
    fn mounts_with_escapes_and_optional_fields_are_read() {
        let got = mount(b"36 35 98:0 /a\\040b /mnt rw,noatime master:1 shared:2 - ext3 /dev/x rw,errors=continue").unwrap();
        assert_eq!(
            (got.root.as_str(), got.kind.as_str(), got.source.as_str()),
            ("/a b", "ext3", "/dev/x")
        );
        assert_eq!(mount(b"36 35 98:0"), None);
    }
}
