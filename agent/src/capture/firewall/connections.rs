//! Connections that the kernel tracks, asked over netlink: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.
//!
//! Whom an address translation or a forwarded packet really goes to is told here alone: no socket of the host shows it.

use std::net::IpAddr;

use serde::Serialize;

use super::Failures;
use super::nfnetlink::{self, HEAD, family};
use crate::capture::sockets::{Attributes, u32_of};
use crate::capture::{Halt, Sink};

/// What has to be in the kernel already: asking loads it otherwise.
pub const MODULES: &[&str] = &["nfnetlink", "nf_conntrack_netlink"];
/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`, which leaves the counters.
const GET: u16 = 1 << 8 | 1;
/// Most bytes of a namespace: some 150,000 connections.
const MAX_BYTES: usize = 32 << 20;

/// What one namespace answers.
#[derive(Default)]
pub struct Answer {
    messages: Vec<Vec<u8>>,
    pub failures: Failures,
}

/// A connection as it began, and as answers to it come back.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connection {
    pub netns: u64,
    pub family: String,
    pub original: Tuple,
    pub reply: Tuple,
    /// Of TCP, by nf_conntrack's names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Bits of `enum ip_conntrack_status`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<&'static str>,
    /// Until the kernel forgets it, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// Only where `net.netfilter.nf_conntrack_timestamp` is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_utc_ns: Option<u64>,
    /// The message behind its header, in hex.
    pub raw: String,
}

/// One direction of a connection. Packets are only counted where `net.netfilter.nf_conntrack_acct` is on.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tuple {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// A number of IANA's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Asks in the network namespace of this thread.
pub fn ask() -> Answer {
    let mut answer = Answer::default();
    match nfnetlink::open() {
        Ok(None) => {}
        Ok(Some(mut channel)) => {
            let (messages, failure) = nfnetlink::dump(&mut channel, GET, &mut { MAX_BYTES });
            answer.messages = messages;
            answer
                .failures
                .extend(failure.map(|why| ("connections", why)));
        }
        Err(why) => answer.failures.push(("nfnetlink", why)),
    }
    answer
}

/// Records what a namespace answered.
///
/// # Errors
/// When the artifact has to end.
pub fn records(netns: u64, answer: &Answer, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for body in &answer.messages {
        match connection(body) {
            Some(connection) => sink.record(
                "network/connections",
                &Connection {
                    netns,
                    ..connection
                },
            )?,
            None => sink.loss("failed:malformed:connections"),
        }
    }
    Ok(())
}

/// What a message tells.
pub fn connection(body: &[u8]) -> Option<Connection> {
    let (head, attributes) = (body.first()?, body.get(HEAD..)?);
    let mut told = Connection {
        family: family(*head),
        raw: hex::encode(body),
        ..Connection::default()
    };
    for (number, value) in Attributes::new(attributes) {
        match number {
            1 => tuple(value, &mut told.original),
            2 => tuple(value, &mut told.reply),
            3 => told.status = status(be32(value)?),
            4 => told.state = inside(inside(Some(value), 1), 1).and_then(state),
            7 => told.timeout_s = be32(value),
            8 => told.mark = be32(value).filter(|mark| *mark != 0),
            9 => counters(value, &mut told.original),
            10 => counters(value, &mut told.reply),
            18 => told.zone = be16(value),
            20 => told.started_utc_ns = inside(Some(value), 1).and_then(be64),
            _ => {}
        }
    }
    told.original.source.is_some().then_some(told)
}

/// `enum ctattr_tuple`, and in it `ctattr_ip` and `ctattr_l4proto`.
fn tuple(bytes: &[u8], told: &mut Tuple) {
    for (number, value) in Attributes::new(inside(Some(bytes), 1).unwrap_or_default()) {
        let four = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
        let six = || <[u8; 16]>::try_from(value).ok().map(IpAddr::from);
        match number {
            1 => told.source = four(),
            2 => told.destination = four(),
            3 => told.source = six(),
            4 => told.destination = six(),
            _ => {}
        }
    }
    for (number, value) in Attributes::new(inside(Some(bytes), 2).unwrap_or_default()) {
        match number {
            1 => told.protocol = value.first().copied(),
            2 => told.source_port = be16(value),
            3 => told.destination_port = be16(value),
            _ => {}
        }
    }
}

/// `enum ctattr_counters`.
fn counters(bytes: &[u8], told: &mut Tuple) {
    told.packets = inside(Some(bytes), 1).and_then(be64);
    told.bytes = inside(Some(bytes), 2).and_then(be64);
}

/// The attribute of this number among those in `bytes`.
fn inside(bytes: Option<&[u8]>, number: u16) -> Option<&[u8]> {
    let mut attributes = Attributes::new(bytes?);
    attributes.find_map(|(found, value)| (found == number).then_some(value))
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

fn be32(bytes: &[u8]) -> Option<u32> {
    u32_of(bytes).map(u32::from_be)
}

fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// `enum tcp_conntrack`, `include/uapi/linux/netfilter/nf_conntrack_tcp.h`.
const STATES: &[&str] = &[
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

fn state(value: &[u8]) -> Option<String> {
    let number = value.first()?;
    let known = STATES.get(usize::from(*number));
    Some(known.map_or_else(|| number.to_string(), |name| (*name).to_owned()))
}

/// `enum ip_conntrack_status`, `include/uapi/linux/netfilter/nf_conntrack_common.h`, by bit.
const STATUS: &[&str] = &[
    "expected",
    "seen-reply",
    "assured",
    "confirmed",
    "src-nat",
    "dst-nat",
    "sequence-adjusted",
    "src-nat-done",
    "dst-nat-done",
    "dying",
    "fixed-timeout",
    "template",
    "untracked",
    "helper",
    "offloaded",
    "offloaded-to-hardware",
];

fn status(bits: u32) -> Vec<&'static str> {
    let named = STATUS.iter().enumerate();
    named
        .filter(|(bit, _)| bits & 1 << bit != 0)
        .map(|(_, name)| *name)
        .collect()
}
