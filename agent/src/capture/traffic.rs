//! *traffic*: queueing disciplines, their classes and the filters on them, in every network namespace, asked over rtnetlink.
//!
//! A filter of kind `bpf` runs a program on each packet, and shows neither among links of eBPF nor in a firewall. Programs
//! of XDP stand with their interfaces in *network*. Asking loads no module, and nothing is set.

use std::collections::BTreeSet;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use serde::Serialize;

use super::sockets::namespaces;
use super::sockets::netlink::Channel;
use super::sockets::{self, Attributes, Reader, text_of, u32_of};
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::Host;

/// Control of traffic.
pub struct Traffic;

static SPEC: Spec = Spec {
    name: "traffic",
    volatility: Volatility::Network,
    what: "queueing disciplines, classes and filters of every network namespace, with the eBPF programs that filters run",
    why: "a filter of traffic control can answer to secret packets before any firewall sees them",
    deadline_s: 60,
    max_bytes: 64 << 20,
};

/// `RTM_GETQDISC`, `RTM_GETTCLASS`, `RTM_GETTFILTER`, `include/uapi/linux/rtnetlink.h`; each answer has the number two below.
const GET_QDISC: u16 = 38;
const GET_CLASS: u16 = 42;
const GET_FILTER: u16 = 46;
/// Parents of the filters of `clsact` and `ingress`: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `_EGRESS`.
const CLSACT: [u32; 2] = [0xFFFF_FFF2, 0xFFFF_FFF3];
/// Most objects of one answer and of a namespace, and most questions for filters.
const MOST: usize = 1 << 14;
const MOST_IN_ALL: usize = 1 << 16;
const MOST_QUESTIONS: usize = 4096;

/// A queueing discipline, a class or a filter: `struct tcmsg` and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Control {
    pub netns: u64,
    /// `qdisc`, `class` or `filter`.
    pub of: &'static str,
    pub interface: u32,
    pub kind: String,
    /// Major and minor number, as tc(8) writes them: hexadecimal, without leading zeros.
    pub handle: String,
    pub parent: String,
    /// Ethertype and priority of a filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// Id, name and tag of the eBPF program that a filter of kind `bpf` runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The message behind its header, in hex.
    pub raw: String,
}

#[derive(Serialize)]
struct Finding {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
}

impl Artifact for Traffic {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree has no traffic control".to_owned(),
            ));
        }
        let (all, _) = namespaces::all(host).map_err(CaptureError::host("/proc"))?;
        let record = |netns, (found, failures): Answer, sink: &mut Sink<'_>| {
            for mut control in found {
                control.netns = netns;
                tell(&control, sink)?;
            }
            sockets::lost_answers(&failures, sink);
            Ok(())
        };
        sockets::each_namespace(host, &all, sink, |_| ask, record)?;
        Ok(())
    }
}

fn tell(control: &Control, sink: &mut Sink<'_>) -> Result<(), Halt> {
    sink.record("network/traffic", control)?;
    // A filter with number 0 only heads the chain of those that do something.
    if control.of == "filter" && control.kind == "bpf" && control.handle != "0:0" {
        sink.finding(&Finding {
            rule: "bpf-filters-traffic",
            technique: "T1205.002",
            reason: format!(
                "interface {} of namespace {} runs {} on its packets",
                control.interface,
                control.netns,
                match (control.program_id, control.program.as_deref()) {
                    (Some(id), name) => format!("eBPF program {id} ({})", name.unwrap_or_default()),
                    (None, _) => "a classic BPF program".to_owned(),
                }
            ),
            known_benign: "networks of containers, such as Cilium's",
        })?;
    }
    Ok(())
}

type Answer = (Vec<Control>, Vec<(&'static str, String)>);

fn ask() -> Answer {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    let mut channel = match Channel::open(SockProtocol::NetlinkRoute) {
        Ok(channel) => channel,
        Err(errno) => return (found, vec![("rtnetlink", format!("{errno:?}"))]),
    };
    let mut asked = Asked {
        channel: &mut channel,
        found: &mut found,
        failures: &mut failures,
    };
    let queues = asked.all(GET_QDISC, [0; 2], "qdisc");
    let interfaces: BTreeSet<u32> = queues.iter().map(|(interface, _)| *interface).collect();
    let clsact = |interface: &u32| CLSACT.map(|parent| (*interface, parent));
    // Where filters of programs are before all else: there may be any number of classes.
    asked.filters(interfaces.iter().flat_map(clsact).chain(queues).collect());
    let classes = interfaces.iter();
    let classes = classes.flat_map(|interface| asked.all(GET_CLASS, [*interface, 0], "class"));
    let classes = classes.collect();
    asked.filters(classes);
    (found, failures)
}

/// Questions to one namespace, and what came of them.
struct Asked<'a> {
    channel: &'a mut Channel,
    found: &'a mut Vec<Control>,
    failures: &'a mut Vec<(&'static str, String)>,
}

impl Asked<'_> {
    /// The filters at these interfaces and parents.
    fn filters(&mut self, parents: BTreeSet<(u32, u32)>) {
        if parents.len() > MOST_QUESTIONS {
            self.failures.push(("filter", "truncated".to_owned()));
        }
        for (interface, parent) in parents.into_iter().take(MOST_QUESTIONS) {
            self.all(GET_FILTER, [interface, parent], "filter");
        }
    }

    /// All of a kind at an interface and a parent, both 0 for everywhere: the interface and number of each.
    fn all(
        &mut self,
        get: u16,
        [interface, parent]: [u32; 2],
        of: &'static str,
    ) -> Vec<(u32, u32)> {
        // `struct tcmsg`: family and padding, interface, handle, parent, info.
        let request: Vec<u8> = [0, interface, 0, parent, 0]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let (mut places, mut malformed) = (Vec::new(), false);
        let result = self.channel.dump(get, &request, |kind, body| {
            match control(of, body).filter(|_| kind == get - 2) {
                Some((control, handle)) => {
                    places.push((control.interface, handle));
                    self.found.push(control);
                }
                None => malformed = true,
            }
            places.len() < MOST && self.found.len() < MOST_IN_ALL
        });
        let full = places.len() >= MOST || self.found.len() >= MOST_IN_ALL;
        let wrong = match result {
            Ok(_) if full => "truncated".to_owned(),
            Ok(dump) if dump.interrupted => "interrupted".to_owned(),
            Ok(dump) if malformed || dump.damaged > 0 => "malformed".to_owned(),
            Ok(_) => return places,
            // No such place, or a kernel without traffic control.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT) => return places,
            Err(errno) => format!("{errno:?}"),
        };
        self.failures.push((of, wrong));
        places
    }
}

/// What a message tells, and its handle as a number: `TCA_KIND` 1, `TCA_OPTIONS` 2, and of a filter of kind `bpf`
/// `TCA_BPF_NAME` 7, `_TAG` 10, `_ID` 11 (`include/uapi/linux/pkt_cls.h`).
pub fn control(of: &'static str, body: &[u8]) -> Option<(Control, u32)> {
    let mut reader = Reader::new(body);
    let (_family, interface, handle) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (parent, info) = (reader.u32()?, reader.u32()?);
    let written = |number: u32| format!("{:x}:{:x}", number >> 16, number & 0xFFFF);
    let filter = of == "filter";
    let mut control = Control {
        of,
        interface,
        handle: written(handle),
        parent: written(parent),
        priority: u16::try_from(info >> 16).ok().filter(|_| filter),
        protocol: u16::try_from(info & 0xFFFF)
            .ok()
            .filter(|_| filter)
            .map(u16::from_be),
        raw: hex::encode(body),
        ..Control::default()
    };
    let mut options = None;
    for (number, value) in Attributes::new(reader.rest()) {
        match number {
            1 => control.kind = text_of(value),
            2 => options = Some(value),
            _ => {}
        }
    }
    if filter && control.kind == "bpf" {
        for (number, value) in Attributes::new(options.unwrap_or_default()) {
            match number {
                7 => control.program = Some(text_of(value)),
                10 => control.tag = Some(hex::encode(value)),
                11 => control.program_id = u32_of(value),
                _ => {}
            }
        }
    }
    Some((control, handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(number.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_filter_names_the_program_that_it_runs() {
        let info = 49152 << 16 | u32::from(0x0003_u16.to_be());
        let head = [0, 4, 1, 0xFFFF_FFF2, info];
        let head: Vec<u8> = head
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let options = [
            attribute(7, b"evil.o:[tc]\0"),
            attribute(10, &[0xAB; 8]),
            attribute(11, &77_u32.to_ne_bytes()),
        ];
        let body = [
            head,
            attribute(1, b"bpf\0"),
            attribute(2, &options.concat()),
        ]
        .concat();
        let (read, handle) = control("filter", &body).unwrap();
        assert_eq!((handle, read.interface, read.kind.as_str()), (1, 4, "bpf"));
        assert_eq!(
            (read.parent.as_str(), read.protocol, read.priority),
            ("ffff:fff2", Some(3), Some(49152))
        );
        assert_eq!(
            (read.program.as_deref(), read.program_id),
            (Some("evil.o:[tc]"), Some(77))
        );
        assert_eq!(read.tag.as_deref(), Some("abababababababab"));
        for cut in 0..body.len() {
            assert_eq!(control("filter", &body[..cut]).is_some(), cut >= 20);
        }
        let (qdisc, _) = control("qdisc", &body).unwrap();
        assert_eq!((qdisc.program_id, qdisc.priority), (None, None));
    }
}
