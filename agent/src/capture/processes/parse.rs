//! The texts of `/proc/PID` as values. Pure, and hostile input gives less, never a panic.

use std::collections::BTreeMap;

use serde::Serialize;

/// `PF_KTHREAD` of `include/linux/sched.h`: the only mark of a kernel thread that a process can not fake.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What is used of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stat {
    pub pid: i32,
    /// Name of the main thread, bytes as they are made text.
    pub comm: String,
    pub state: char,
    pub ppid: i32,
    pub pgrp: i32,
    pub session: i32,
    pub tty: i64,
    pub flags: u64,
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub threads: u64,
    /// Clock ticks after boot; with the pid it names the process for good.
    pub start_ticks: u64,
}

impl Stat {
    /// Whether it is a thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }
}

/// Reads `stat`. The name stands between the first `(` and the last `)`: it may contain both.
pub fn stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|b| *b == b'(')?;
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let pid = std::str::from_utf8(bytes.get(..open)?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let comm = text(bytes.get(open + 1..close)?);
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the manual page is the first one here.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |n: usize| field(n)?.parse::<i64>().ok();
    let unsigned = |n: usize| field(n)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        comm,
        state: field(3)?.chars().next()?,
        ppid: i32::try_from(number(4)?).ok()?,
        pgrp: i32::try_from(number(5)?).ok()?,
        session: i32::try_from(number(6)?).ok()?,
        tty: number(7)?,
        flags: unsigned(9)?,
        user_ticks: unsigned(14)?,
        system_ticks: unsigned(15)?,
        threads: unsigned(20)?,
        start_ticks: unsigned(22)?,
    })
}

/// Lines `Key:\tvalue` of `status` and `fdinfo`.
pub fn keys_and_values(bytes: &[u8]) -> BTreeMap<String, String> {
    let lines = bytes.split(|b| *b == b'\n').map(text);
    lines
        .filter_map(|line| {
            line.split_once(':')
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The strings of `cmdline` and `environ`, which end with NUL each.
pub fn strings(bytes: &[u8]) -> Vec<String> {
    let body = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if body.is_empty() {
        Vec::new()
    } else {
        body.split(|b| *b == 0).map(text).collect()
    }
}

/// Bytes as text; what is not UTF-8 becomes U+FFFD. The bytes themselves are in the tar.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names of capabilities by bit (`include/uapi/linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Names of the capabilities in a mask such as `000001ffffffffff`; unknown bits as `bit_N`.
pub fn capabilities(mask: &str) -> Option<Vec<String>> {
    let mask = u64::from_str_radix(mask, 16).ok()?;
    let set = (0..64_usize).filter(|bit| mask >> bit & 1 == 1);
    Some(
        set.map(|bit| {
            CAPABILITIES
                .get(bit)
                .map_or_else(|| format!("bit_{bit}"), |name| (*name).to_owned())
        })
        .collect(),
    )
}

/// A limit of `limits`: soft and hard, `unlimited` or a number, and its unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub soft: String,
    pub hard: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
}

/// The table of `limits`, by name.
pub fn limits(bytes: &[u8]) -> BTreeMap<String, Limit> {
    text(bytes).lines().skip(1).filter_map(limit).collect()
}

fn limit(line: &str) -> Option<(String, Limit)> {
    // Names hold single spaces; columns are apart by two at least.
    let (name, rest) = line.split_once("  ")?;
    let mut fields = rest.split_ascii_whitespace().map(str::to_owned);
    let limit = Limit {
        soft: fields.next()?,
        hard: fields.next()?,
        unit: fields.next().unwrap_or_default(),
    };
    Some((name.trim().to_lowercase().replace(' ', "_"), limit))
}

/// A mapping of a file, from `maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// `start-end`, as in the name below `map_files`.
    pub range: String,
    pub executable: bool,
    pub writable: bool,
    pub device: String,
    pub inode: u64,
    /// Path as the kernel writes it; `\n` stands as `\012` in it.
    pub path: String,
}

/// All mappings of `maps`; those without a file have inode 0.
pub fn mappings(bytes: &[u8]) -> Vec<Mapping> {
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| mapping(&text(line)))
        .collect()
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (range, permissions, _offset) = (fields.next()?, fields.next()?, fields.next()?);
    let (device, inode) = (fields.next()?, fields.next()?.parse().ok()?);
    Some(Mapping {
        range: range.to_owned(),
        executable: permissions.contains('x'),
        writable: permissions.contains('w'),
        device: device.to_owned(),
        inode,
        path: fields.next().unwrap_or_default().trim_start().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"812 (a) (b) R 3) S 1 812 812 34816 900 4194560 5 0 0 0 7 8 0 0 20 0 3 0 123456 1000 50 18446744073709551615 1 1 0 0 0 0 0 0 65536 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_name_full_of_brackets_does_not_shift_the_fields() {
        let stat = stat(STAT).unwrap();
        assert_eq!(
            (stat.pid, stat.comm.as_str(), stat.state),
            (812, "a) (b) R 3", 'S')
        );
        assert_eq!((stat.ppid, stat.threads, stat.start_ticks), (1, 3, 123_456));
        assert!(!stat.is_kernel_thread());
        let kernel = String::from_utf8_lossy(STAT).replace("4194560", "2129984");
        assert!(super::stat(kernel.as_bytes()).unwrap().is_kernel_thread());
    }

    #[test]
    fn cut_texts_give_less_and_never_panic() {
        for end in 0..STAT.len() {
            let _ = stat(&STAT[..end]);
            let _ = mappings(&STAT[..end]);
            let _ = limits(&STAT[..end]);
        }
        assert_eq!(stat(b""), None);
        assert_eq!(stat(b"1 )("), None);
    }

    #[test]
    fn strings_keep_empty_arguments() {
        assert_eq!(strings(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert!(strings(b"").is_empty());
        assert_eq!(strings(b"no-end"), ["no-end"]);
    }

    #[test]
    fn capabilities_have_names() {
        assert_eq!(
            capabilities("0000000000002001").unwrap(),
            ["chown", "net_raw"]
        );
        assert_eq!(capabilities("8000000000000000").unwrap(), ["bit_63"]);
        assert_eq!(capabilities("000001ffffffffff").unwrap().len(), 41);
        assert_eq!(capabilities("zz"), None);
    }

    #[test]
    fn limits_and_mappings_are_read() {
        let limits = limits(b"Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \nMax nice priority         0                    0                    \n");
        assert_eq!(
            limits["max_open_files"],
            Limit {
                soft: "1024".into(),
                hard: "524288".into(),
                unit: "files".into()
            }
        );
        assert_eq!(limits["max_nice_priority"].unit, "");
        let maps = mappings(b"7f0-7f1 r-xp 00000000 fe:00 42                         /tmp/a b.so (deleted)\n7f2-7f3 rw-p 00000000 00:00 0 \n");
        assert_eq!(
            (maps[0].path.as_str(), maps[0].inode, maps[0].executable),
            ("/tmp/a b.so (deleted)", 42, true)
        );
        assert_eq!((maps[1].path.as_str(), maps[1].inode), ("", 0));
    }
}
