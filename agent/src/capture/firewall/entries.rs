//! The entries of a table of iptables, ip6tables or arptables: `include/uapi/linux/netfilter/x_tables.h`, and beside it
//! `netfilter_ipv4/ip_tables.h`, `netfilter_ipv6/ip6_tables.h`, `netfilter_arp/arp_tables.h`.
//!
//! A table is one block of entries. Each built-in chain starts at an offset that the table's head names and ends with its
//! policy; each chain of the operator's starts with an entry whose target is `ERROR` and has the chain's name. What a match
//! or a target wants is told where it is known, else kept in hex.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::extensions::{self, Extension};
use super::packet::{self, Packet};
use crate::capture::sockets::{Reader, text_of};

/// `XT_TABLE_MAXNAMELEN`.
pub const NAME: usize = 32;

/// How entries of a family are laid out, in bytes.
pub struct Layout {
    pub family: &'static str,
    /// The file below `/proc/net` with the names of its tables.
    pub names: &'static str,
    pub level: i32,
    /// The number of the question for a table's head; that for its entries is one more.
    pub get_info: i32,
    /// Chains, by the number of their hook.
    hooks: &'static [&'static str],
    /// Where `target_offset` is, which `next_offset` follows.
    offsets: usize,
    counters: usize,
    packet: fn(&[u8]) -> Option<Packet>,
}

impl Layout {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self {
            family: "ip",
            names: "ip_tables_names",
            level: libc::IPPROTO_IP,
            get_info: 64,
            hooks: INTERNET,
            offsets: 88,
            counters: 96,
            packet: packet::ipv4,
        },
        Self {
            family: "ip6",
            names: "ip6_tables_names",
            level: libc::IPPROTO_IPV6,
            get_info: 64,
            hooks: INTERNET,
            offsets: 140,
            counters: 152,
            packet: packet::ipv6,
        },
        Self {
            family: "arp",
            names: "arp_tables_names",
            level: libc::IPPROTO_IP,
            get_info: 96,
            hooks: &["INPUT", "OUTPUT", "FORWARD"],
            offsets: 164,
            counters: 176,
            packet: packet::arp,
        },
    ];

    /// Length of a table's head: name, hooks that it has, their starts, their policies, number of entries, their bytes.
    pub fn info_bytes(&self) -> usize {
        NAME + 4 * (3 + 2 * self.hooks.len())
    }

    /// Bytes of all entries, by a table's head.
    pub fn size(&self, info: &[u8]) -> Option<usize> {
        let last = info.get(self.info_bytes() - 4..)?;
        usize::try_from(Reader::new(last).u32()?).ok()
    }

    /// Where the matches of an entry begin.
    fn length(&self) -> usize {
        self.counters + 16
    }
}

/// `enum nf_inet_hooks`, `include/uapi/linux/netfilter.h`.
const INTERNET: &[&str] = &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// A rule. What is inverted begins with `! `, as iptables writes it; what is not there fits all.
#[derive(Debug, Serialize)]
pub struct Rule {
    /// Several with a comma between them when they share it.
    pub chain: String,
    /// Where its entry is in the table.
    pub offset: usize,
    /// Whether it is what the chain ends with when no rule fitted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policy: bool,
    #[serde(flatten)]
    pub packet: Packet,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Extension>,
    /// `ACCEPT`, `DROP`, `RETURN`, `QUEUE`, a chain, a module's name; empty when it only counts.
    pub target: String,
    /// Whether a chain is gone to for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub goto: bool,
    /// What a module's target is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_options: Option<Extension>,
    pub packets: u64,
    pub bytes: u64,
    /// The entry as the kernel gave it, in hex.
    pub raw: String,
}

/// An entry's place and parts.
struct Entry<'a> {
    at: usize,
    end: usize,
    bytes: &'a [u8],
    matches: &'a [u8],
    target: &'a [u8],
}

/// Hands the rules of a table, by its head and its entries, to `take`; the answer is whether all of it made sense.
///
/// # Errors
/// What `take` says.
pub fn rules<E>(
    layout: &Layout,
    info: &[u8],
    bytes: &[u8],
    take: &mut dyn FnMut(&Rule) -> Result<(), E>,
) -> Result<bool, E> {
    let entries = entries(layout, bytes);
    let mut whole = entries.last().map_or(0, |last| last.end) == bytes.len();
    let Some(hooks) = hooks(layout, info) else {
        return Ok(false);
    };
    let heads: BTreeMap<usize, String> = entries.iter().filter_map(chain).collect();
    let first_of: BTreeMap<usize, &str> = entries
        .iter()
        .filter_map(|entry| Some((entry.end, heads.get(&entry.at)?.as_str())))
        .collect();
    let mut own = "";
    for entry in &entries {
        if let Some(name) = heads.get(&entry.at) {
            own = name;
            continue;
        }
        // The kernel lets chains that are built in share their rules.
        let of_hooks = hooks.iter().filter(|hook| hook.rules.contains(&entry.at));
        let of_hooks: Vec<&str> = of_hooks.map(|hook| hook.name).collect();
        let is_last = hooks.iter().any(|hook| *hook.rules.end() == entry.at);
        match rule(layout, entry, &first_of) {
            Some(rule) => take(&Rule {
                chain: match of_hooks.as_slice() {
                    [] => own.to_owned(),
                    several => several.join(","),
                },
                policy: is_last || heads.contains_key(&entry.end),
                ..rule
            })?,
            None => whole = false,
        }
    }
    Ok(whole)
}

/// A chain that is built in.
struct Hook {
    name: &'static str,
    /// From its first rule to its policy.
    rules: RangeInclusive<usize>,
}

fn hooks(layout: &Layout, info: &[u8]) -> Option<Vec<Hook>> {
    let mut reader = Reader::new(info.get(NAME..)?);
    let valid = reader.u32()?;
    let mut offsets = || {
        let read = layout.hooks.iter().map(|_| reader.u32());
        read.collect::<Option<Vec<u32>>>()
    };
    let (starts, policies) = (offsets()?, offsets()?);
    let of = |(number, ((name, start), policy)): (usize, ((&&'static str, u32), u32))| {
        let place = |offset: u32| usize::try_from(offset).ok();
        let rules = place(start)?..=place(policy)?;
        (valid & 1 << number != 0).then_some(Hook { name, rules })
    };
    let hooks = layout.hooks.iter().zip(starts).zip(policies).enumerate();
    Some(hooks.filter_map(of).collect())
}

/// The entries, up to the first whose lengths make no sense.
fn entries<'a>(layout: &Layout, bytes: &'a [u8]) -> Vec<Entry<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(entry) = entry(layout, bytes, at) {
        at = entry.end;
        found.push(entry);
    }
    found
}

fn entry<'a>(layout: &Layout, bytes: &'a [u8], at: usize) -> Option<Entry<'a>> {
    let rest = bytes.get(at..)?;
    let mut offsets = Reader::new(rest.get(layout.offsets..)?);
    let (target, next) = (usize::from(offsets.u16()?), usize::from(offsets.u16()?));
    let bytes = rest.get(..next)?;
    let entry = Entry {
        at,
        end: at + next,
        bytes,
        matches: bytes.get(layout.length()..target)?,
        target: bytes.get(target..)?,
    };
    (entry.target.len() >= extensions::HEAD).then_some(entry)
}

/// Place and name of a chain of the operator's, when this is its head.
fn chain(entry: &Entry<'_>) -> Option<(usize, String)> {
    let (name, _, data) = extensions::parts(entry.target)?;
    (name == "ERROR").then(|| (entry.at, text_of(data)))
}

fn rule(layout: &Layout, entry: &Entry<'_>, first_of: &BTreeMap<usize, &str>) -> Option<Rule> {
    let packet = (layout.packet)(entry.bytes)?;
    let mut counters = Reader::new(entry.bytes.get(layout.counters..)?);
    let (packets, bytes) = (counters.u64()?, counters.u64()?);
    let mut matches = Vec::new();
    let mut rest = entry.matches;
    while !rest.is_empty() {
        let length = usize::from(Reader::new(rest).u16()?);
        let (this, after) = rest.split_at_checked(length.max(extensions::HEAD))?;
        matches.push(extensions::of_match(this)?);
        rest = after;
    }
    let (name, revision, data) = extensions::parts(entry.target)?;
    let (target, target_options) = match name.as_str() {
        "" => (verdict(Reader::new(data).u32()?, entry.end, first_of), None),
        _ => (
            name.clone(),
            Some(extensions::of_target(name, revision, data, layout.family)),
        ),
    };
    Some(Rule {
        chain: String::new(),
        offset: entry.at,
        policy: false,
        goto: packet.goto,
        packet,
        matches,
        target,
        target_options,
        packets,
        bytes,
        raw: hex::encode(entry.bytes),
    })
}

/// A verdict of the kernel's is `-number - 1` (`XT_STANDARD_TARGET`), a jump the offset of a chain's first rule.
fn verdict(number: u32, next: usize, first_of: &BTreeMap<usize, &str>) -> String {
    let jump = || {
        let to = usize::try_from(number).ok()?;
        let chain = first_of.get(&to).map(|name| (*name).to_owned());
        (to == next).then(String::new).or(chain)
    };
    match number.cast_signed() {
        -1 => "DROP".to_owned(),
        -2 => "ACCEPT".to_owned(),
        -4 => "QUEUE".to_owned(),
        -5 => "RETURN".to_owned(),
        other => jump().unwrap_or_else(|| other.to_string()),
    }
}
