//! *firewall*: tables, chains, rules and sets of nftables in every network namespace, asked over netlink.
//!
//! Only where nf_tables is in the kernel already: asking loads it otherwise. Nothing is set, and counters stay. What sets
//! hold is not asked for.

pub mod tree;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use serde::Serialize;
use serde_json::Value;

use super::sockets::namespaces::{self, visit};
use super::sockets::netlink::Channel;
use super::sockets::{self, Modules};
use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::Host;
use tree::{CHAIN, Known, RULE, SET, TABLE, tree};

/// Rules of the firewall.
pub struct Firewall;

static SPEC: Spec = Spec {
    name: "firewall",
    volatility: Volatility::Network,
    what: "tables, chains, rules and sets of nftables in every network namespace, decoded and as they are",
    why: "a rule can redirect, hide or let in traffic, and ends with the next boot",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// `NFNL_SUBSYS_NFTABLES`, `include/uapi/linux/netfilter/nfnetlink.h`.
const SUBSYSTEM: u16 = 10 << 8;
/// What is asked for, its number (that of the answer is in front of it), and its attributes.
const QUESTIONS: &[(&str, u16, &Known)] = &[
    ("table", 1, &TABLE),
    ("chain", 4, &CHAIN),
    ("rule", 7, &RULE),
    ("set", 10, &SET),
];
/// Length of `struct nfgenmsg`; all zero asks for all families.
const HEAD: usize = 4;
/// Most messages of a kind, and bytes of them.
const MOST: usize = 1 << 17;
const MAX_BYTES: usize = 64 << 20;

#[derive(Serialize)]
struct Record<'a> {
    netns: u64,
    kind: &'static str,
    family: String,
    #[serde(flatten)]
    attributes: Value,
    /// The message behind its header, in hex.
    raw: &'a str,
}

/// What one namespace answers: messages by kind, and what could not be asked for.
#[derive(Default)]
struct Answer {
    messages: Vec<(usize, Vec<u8>)>,
    failures: Vec<(&'static str, String)>,
}

impl Artifact for Firewall {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree has no nftables".to_owned(),
            ));
        }
        if let Some(missing) = Modules::read(host).missing(host, &["nfnetlink", "nf_tables"]) {
            return Err(CaptureError::Absent(format!(
                "{missing} not in the kernel: there are no rules, and asking would load it"
            )));
        }
        let (mut all, _) = namespaces::of_processes(host).map_err(CaptureError::host("/proc"))?;
        all.extend(namespaces::kept(host, &sockets::owners(host), &all));
        for namespace in &all {
            sink.check()?;
            let Some(open) = namespaces::open(host, namespace) else {
                sink.gone();
                continue;
            };
            if let Some(why) = open.refused {
                sockets::lost_namespace(&why, sink);
                continue;
            }
            match visit(open.fd, ask) {
                Ok(answer) => records(namespace.inode, &answer, sink)?,
                Err(why) => sockets::lost_namespace(&why, sink),
            }
        }
        Ok(())
    }
}

fn ask() -> Answer {
    let mut answer = Answer::default();
    let mut channel = match Channel::open(SockProtocol::NetlinkNetFilter) {
        Ok(channel) => channel,
        // The kernel has no netfilter.
        Err(Errno::EPROTONOSUPPORT) => return answer,
        Err(errno) => {
            answer.failures.push(("nfnetlink", format!("{errno:?}")));
            return answer;
        }
    };
    let mut bytes = 0;
    for (index, (name, get, _)) in QUESTIONS.iter().enumerate() {
        let before = answer.messages.len();
        let messages = &mut answer.messages;
        let result = channel.dump(SUBSYSTEM | get, &[0; HEAD], |kind, body| {
            if kind == (SUBSYSTEM | (get - 1)) {
                bytes += body.len();
                messages.push((index, body.to_vec()));
            }
            messages.len() - before < MOST && bytes < MAX_BYTES
        });
        let truncated = messages.len() - before >= MOST || bytes >= MAX_BYTES;
        match result {
            Ok(_) if truncated => answer.failures.push((name, "truncated".to_owned())),
            Ok(dump) if dump.interrupted => answer.failures.push((name, "interrupted".to_owned())),
            Ok(dump) if dump.damaged > 0 => answer.failures.push((name, "malformed".to_owned())),
            Ok(_) => {}
            // nfnetlink without nftables.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {}
            Err(errno) => answer.failures.push((name, format!("{errno:?}"))),
        }
    }
    answer
}

fn records(netns: u64, answer: &Answer, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    for (index, body) in &answer.messages {
        let Some((kind, _, known)) = QUESTIONS.get(*index) else {
            continue;
        };
        let (Some(head), Some(attributes)) = (body.first(), body.get(HEAD..)) else {
            sink.loss("failed:malformed");
            continue;
        };
        let record = Record {
            netns,
            kind,
            family: family(*head),
            attributes: tree(attributes, known),
            raw: &hex::encode(body),
        };
        sink.record("network/nftables", &record)?;
    }
    for (what, why) in &answer.failures {
        sink.loss(&format!("{}:{what}", sockets::loss(why)));
    }
    Ok(())
}

/// `NFPROTO_*`, `include/uapi/linux/netfilter.h`.
fn family(number: u8) -> String {
    match number {
        1 => "inet".to_owned(),
        2 => "ip".to_owned(),
        3 => "arp".to_owned(),
        5 => "netdev".to_owned(),
        7 => "bridge".to_owned(),
        10 => "ip6".to_owned(),
        other => other.to_string(),
    }
}
