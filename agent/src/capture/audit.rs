//! The audit subsystem by its netlink socket: whether it is on, who reads it, what it lost, and the rules that are loaded.
//!
//! A rule that was deleted, or a limit of zero, stands in no file. Numbers are those of `include/uapi/linux/audit.h`.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use serde::Serialize;

use super::processes::parse::text;
use super::sockets::netlink::Channel;
use super::sockets::{Reader, loss};
use super::{Halt, Sink};

/// `AUDIT_GET` and `AUDIT_LIST_RULES`.
const GET: u16 = 1000;
const LIST_RULES: u16 = 1013;
/// Most rules.
const MOST: usize = 100_000;
/// Words of the mask of system calls, and fields of a rule (`AUDIT_BITMASK_SIZE`, `AUDIT_MAX_FIELDS`).
const WORDS: usize = 64;
const FIELDS: usize = 64;
/// Bits of `flags` that say which list a rule is in.
const LIST: u32 = 0x0f;

const LISTS: &[(u32, &str)] = &[
    (0, "user"),
    (1, "task"),
    (2, "entry"),
    (3, "watch"),
    (4, "exit"),
    (5, "exclude"),
    (6, "filesystem"),
    (7, "io_uring"),
];
const ACTIONS: &[(u32, &str)] = &[(0, "never"), (1, "possible"), (2, "always")];
const OPERATORS: &[(u32, &str)] = &[
    (0x0800_0000, "&"),
    (0x1000_0000, "<"),
    (0x2000_0000, ">"),
    (0x3000_0000, "!="),
    (0x4000_0000, "="),
    (0x4800_0000, "&="),
    (0x5000_0000, "<="),
    (0x6000_0000, ">="),
];
const NAMES: &[(u32, &str)] = &[
    (0, "pid"),
    (1, "uid"),
    (2, "euid"),
    (3, "suid"),
    (4, "fsuid"),
    (5, "gid"),
    (6, "egid"),
    (7, "sgid"),
    (8, "fsgid"),
    (9, "auid"),
    (10, "pers"),
    (11, "arch"),
    (12, "msgtype"),
    (13, "subj_user"),
    (14, "subj_role"),
    (15, "subj_type"),
    (16, "subj_sen"),
    (17, "subj_clr"),
    (18, "ppid"),
    (19, "obj_user"),
    (20, "obj_role"),
    (21, "obj_type"),
    (22, "obj_lev_low"),
    (23, "obj_lev_high"),
    (24, "loginuid_set"),
    (25, "sessionid"),
    (26, "fstype"),
    (100, "devmajor"),
    (101, "devminor"),
    (102, "inode"),
    (103, "exit"),
    (104, "success"),
    (105, "path"),
    (106, "perm"),
    (107, "dir"),
    (108, "filetype"),
    (109, "obj_uid"),
    (110, "obj_gid"),
    (111, "field_compare"),
    (112, "exe"),
    (113, "saddr_fam"),
    (200, "a0"),
    (201, "a1"),
    (202, "a2"),
    (203, "a3"),
    (210, "key"),
];
/// Fields whose value is the length of a text.
const TEXTS: &[u32] = &[13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 105, 107, 112, 210];

/// `struct audit_status`; the mask at its start is for questions alone.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked until the next boot.
    enabled: u32,
    /// 0 silent, 1 message, 2 panic.
    failure: u32,
    /// Of the daemon; 0 for none.
    pid: u32,
    rate_limit: u32,
    backlog_limit: u32,
    /// Records that were lost since the boot.
    lost: u32,
    backlog: u32,
}

/// A loaded rule.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    list: String,
    action: String,
    /// Numbers of system calls; empty for all of them.
    syscalls: Vec<usize>,
    /// `name operator value`.
    fields: Vec<String>,
}

/// Records status and rules.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn capture(sink: &mut Sink<'_>) -> Result<(), Halt> {
    let mut channel = match Channel::open(SockProtocol::NetlinkAudit) {
        Ok(channel) => channel,
        Err(Errno::EPROTONOSUPPORT) => {
            sink.note("audit: not in this kernel".to_owned());
            return Ok(());
        }
        Err(errno) => {
            lost(errno, sink);
            return Ok(());
        }
    };
    let mut status = None;
    let answered = channel.dump(GET, &[], |kind, body| {
        status = (kind == GET).then(|| parse_status(body)).flatten();
        false
    });
    match (answered, status) {
        (Ok(_), Some(status)) => sink.record("kernel/audit", &status)?,
        (Ok(_), None) => sink.loss("failed:malformed"),
        // Another user namespace than the first is told nothing.
        (Err(errno), _) => {
            lost(errno, sink);
            return Ok(());
        }
    }
    let mut rules = Vec::new();
    let answered = channel.dump(LIST_RULES, &[], |kind, body| {
        if kind == LIST_RULES {
            rules.push(parse_rule(body));
        }
        rules.len() < MOST
    });
    for rule in &rules {
        match rule {
            Some(rule) => sink.record("kernel/audit_rules", rule)?,
            None => sink.loss("failed:malformed"),
        }
    }
    match answered {
        Ok(_) if rules.len() >= MOST => sink.loss("truncated"),
        Ok(dump) if dump.damaged > 0 => sink.loss("failed:malformed"),
        Ok(_) => {}
        Err(errno) => lost(errno, sink),
    }
    Ok(())
}

fn lost(errno: Errno, sink: &mut Sink<'_>) {
    // How the kernel refuses who is in another namespace of users.
    let errno = match errno {
        Errno::ECONNREFUSED => Errno::EPERM,
        errno => errno,
    };
    sink.loss(&format!("{}:audit", loss(&format!("{errno:?}"))));
}

/// Reads a `struct audit_status`, of which newer kernels have more.
pub fn parse_status(bytes: &[u8]) -> Option<Status> {
    let mut reader = Reader::new(bytes);
    let _mask = reader.u32()?;
    Some(Status {
        enabled: reader.u32()?,
        failure: reader.u32()?,
        pid: reader.u32()?,
        rate_limit: reader.u32()?,
        backlog_limit: reader.u32()?,
        lost: reader.u32()?,
        backlog: reader.u32()?,
    })
}

/// Reads a `struct audit_rule_data`.
pub fn parse_rule(bytes: &[u8]) -> Option<Rule> {
    let mut reader = Reader::new(bytes);
    let (flags, action, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let count = usize::try_from(count).ok()?;
    let mask = numbers(&mut reader, WORDS)?;
    let names = numbers(&mut reader, FIELDS)?;
    let values = numbers(&mut reader, FIELDS)?;
    let operators = numbers(&mut reader, FIELDS)?;
    let length = usize::try_from(reader.u32()?).ok()?;
    let mut texts = Reader::new(reader.take(length)?);
    let mut fields = Vec::new();
    let each = names.iter().zip(&values).zip(&operators);
    for ((name, value), operator) in each.take(count) {
        let value = match TEXTS.contains(name) {
            true => text(texts.take(usize::try_from(*value).ok()?)?),
            false => value.to_string(),
        };
        let (name, operator) = (word(NAMES, *name), word(OPERATORS, *operator));
        fields.push(format!("{name} {operator} {value}"));
    }
    let all = mask.iter().all(|word| *word == u32::MAX);
    let bit = |number: &usize| {
        let word = mask.get(number / 32).copied().unwrap_or_default();
        word >> (number % 32) & 1 == 1
    };
    Some(Rule {
        list: word(LISTS, flags & LIST),
        action: word(ACTIONS, action),
        syscalls: match all {
            true => Vec::new(),
            false => (0..WORDS * 32).filter(bit).collect(),
        },
        fields,
    })
}

/// The word for a number, or the number.
fn word(words: &[(u32, &str)], number: u32) -> String {
    let known = words.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
}

fn numbers(reader: &mut Reader<'_>, count: usize) -> Option<Vec<u32>> {
    (0..count).map(|_| reader.u32()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule as the kernel sends it: `-w PATH -p wa -k KEY`.
    fn watch(path: &str, key: &str) -> Vec<u8> {
        let mut words = vec![4_u32, 2, 3];
        words.extend([u32::MAX; WORDS]);
        let padded =
            |values: [u32; 3]| (0..FIELDS).map(move |at| values.get(at).copied().unwrap_or(0));
        let lengths = [path, key].map(|text| u32::try_from(text.len()).unwrap());
        words.extend(padded([105, 106, 210]));
        words.extend(padded([lengths[0], 6, lengths[1]]));
        words.extend(padded([0x4000_0000; 3]));
        words.push(lengths[0] + lengths[1]);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(path.bytes().chain(key.bytes()));
        bytes
    }

    #[test]
    fn a_watch_is_read_with_its_texts() {
        let rule = parse_rule(&watch("/etc/shadow", "secrets")).unwrap();
        assert_eq!(
            (rule.list.as_str(), rule.action.as_str()),
            ("exit", "always")
        );
        assert!(rule.syscalls.is_empty());
        assert_eq!(
            rule.fields,
            ["path = /etc/shadow", "perm = 6", "key = secrets"]
        );
    }

    #[test]
    fn system_calls_are_those_of_the_mask_and_odd_numbers_stay_numbers() {
        let mut bytes = watch("/x", "k");
        // The mask starts behind three words: execve is 59, and all else is cleared.
        bytes[12..12 + 4 * WORDS].fill(0);
        bytes[12 + 59 / 8] = 1 << (59 % 8);
        bytes[0] = 9;
        bytes[4] = 77;
        let rule = parse_rule(&bytes).unwrap();
        assert_eq!(rule.syscalls, [59]);
        assert_eq!((rule.list.as_str(), rule.action.as_str()), ("9", "77"));
    }

    #[test]
    fn what_is_cut_or_lies_about_its_lengths_is_no_rule() {
        let whole = watch("/etc/shadow", "secrets");
        for cut in 0..whole.len() {
            assert_eq!(parse_rule(&whole[..cut]), None, "{cut}");
        }
        let mut lies = whole.clone();
        let lengths = 4 * (3 + WORDS + FIELDS);
        lies[lengths..lengths + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse_rule(&lies), None);
        let mut many = whole;
        many[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse_rule(&many).unwrap().fields.len(), FIELDS);
        assert_eq!(parse_status(&[0; 31]), None);
    }
}
