//! Tables, chains, rules and sets of nftables, asked over netlink. What sets hold is not asked for.

use serde::Serialize;
use serde_json::Value;

use super::Failures;
use super::nfnetlink::{self, HEAD, family};
use super::tree::{CHAIN, Known, RULE, SET, TABLE, tree};
use crate::capture::{Halt, Sink};

/// What has to be in the kernel already: asking loads it otherwise.
pub const MODULES: &[&str] = &["nfnetlink", "nf_tables"];
/// `NFNL_SUBSYS_NFTABLES`, `include/uapi/linux/netfilter/nfnetlink.h`.
const SUBSYSTEM: u16 = 10 << 8;
/// What is asked for, its number, and its attributes.
const QUESTIONS: &[(&str, u16, &Known)] = &[
    ("table", 1, &TABLE),
    ("chain", 4, &CHAIN),
    ("rule", 7, &RULE),
    ("set", 10, &SET),
];
/// Most bytes of a namespace.
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
pub struct Answer {
    messages: Vec<(usize, Vec<u8>)>,
    pub failures: Failures,
}

/// Asks in the network namespace of this thread.
pub fn ask() -> Answer {
    let mut answer = Answer::default();
    let mut channel = match nfnetlink::open() {
        Ok(Some(channel)) => channel,
        Ok(None) => return answer,
        Err(why) => {
            answer.failures.push(("nfnetlink", why));
            return answer;
        }
    };
    let mut room = MAX_BYTES;
    for (index, (name, get, _)) in QUESTIONS.iter().enumerate() {
        let (messages, failure) = nfnetlink::dump(&mut channel, SUBSYSTEM | get, &mut room);
        answer
            .messages
            .extend(messages.into_iter().map(|body| (index, body)));
        answer.failures.extend(failure.map(|why| (*name, why)));
    }
    answer
}

/// Records what a namespace answered.
///
/// # Errors
/// When the artifact has to end.
pub fn records(netns: u64, answer: &Answer, sink: &mut Sink<'_>) -> Result<(), Halt> {
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
    Ok(())
}
