//! The structures with which the kernel describes eBPF objects: `include/uapi/linux/bpf.h`. An older kernel's are shorter:
//! what is not there is `None`, or zero.

use serde::Serialize;

use super::names;
use crate::capture::sockets::text_of;

/// Offsets in `struct bpf_prog_info` of what is filled on demand.
pub const CODE: (usize, usize) = (32, 20);
pub const MAPS: (usize, usize) = (56, 52);
/// Offsets in `struct bpf_btf_info`: the name.
pub const TYPES_NAME: (usize, usize) = (16, 24);

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Program {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    /// Hash of its instructions as they were loaded, in hex; the kernel's.
    pub tag: String,
    /// Nanoseconds from boot to its loading.
    pub loaded_boottime_ns: u64,
    pub uid: u32,
    /// Bytes of its instructions after verification, and of the machine's own.
    pub xlated_bytes: u32,
    pub jited_bytes: u32,
    #[serde(skip)]
    pub maps: u32,
    pub gpl: bool,
    /// Interface that it is offloaded to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_time_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// The function in the kernel's types that it is attached to, and whose types those are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_types_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_function_id: Option<u32>,
}

/// Reads `struct bpf_prog_info`; `None` when it is too short for the oldest form.
pub fn program(bytes: &[u8]) -> Option<Program> {
    let at = Fields(bytes);
    Some(Program {
        kind: names::program(at.u32(0)?),
        id: at.u32(4)?,
        tag: hex::encode(at.bytes(8, 8)?),
        jited_bytes: at.u32(16)?,
        xlated_bytes: at.u32(20)?,
        loaded_boottime_ns: at.u64(40).unwrap_or(0),
        uid: at.u32(48).unwrap_or(0),
        maps: at.u32(52).unwrap_or(0),
        name: at.bytes(64, 16).map(text_of).unwrap_or_default(),
        interface: at.some(80),
        gpl: at.u32(84).unwrap_or(0) & 1 == 1,
        types_id: at.some(128),
        run_time_ns: at.u64(192).filter(|time| *time != 0),
        runs: at.u64(200).filter(|runs| *runs != 0),
        attach_types_id: at.some(220),
        attach_function_id: at.some(224),
    })
}

/// A map. What it holds is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Map {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub key_bytes: u32,
    pub value_bytes: u32,
    pub max_entries: u32,
    pub flags: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types_id: Option<u32>,
}

/// Reads `struct bpf_map_info`.
pub fn map(bytes: &[u8]) -> Option<Map> {
    let at = Fields(bytes);
    Some(Map {
        kind: names::map(at.u32(0)?),
        id: at.u32(4)?,
        key_bytes: at.u32(8)?,
        value_bytes: at.u32(12)?,
        max_entries: at.u32(16)?,
        flags: at.u32(20)?,
        name: at.bytes(24, 16).map(text_of).unwrap_or_default(),
        types_id: at.some(64),
    })
}

/// What ties a program to where it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub program_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    /// Program or types, and the function in them, that it is attached to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_function_id: Option<u32>,
    /// How many functions it is attached to at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// Family, hook and priority of netfilter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netfilter: Option<(u32, u32, i32)>,
    /// Name of the function, file or trace point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
}

/// Reads `struct bpf_link_info`, and where the name of its target is to be asked for: the offsets of address and length.
pub fn link(bytes: &[u8]) -> Option<(Link, Option<(usize, usize)>)> {
    let at = Fields(bytes);
    let kind = at.u32(0)?;
    let mut link = Link {
        kind: names::link(kind),
        id: at.u32(4)?,
        program_id: at.u32(8)?,
        ..Link::default()
    };
    let attach = |offset| at.u32(offset).map(names::attach);
    let mut name = None;
    match kind {
        1 | 4 => name = Some((16, 24)),
        2 => {
            link.attach = attach(16);
            (link.target_id, link.target_function_id) = (at.some(20), at.some(24));
        }
        3 => (link.cgroup_id, link.attach) = (at.u64(16), attach(24)),
        5 => (link.netns, link.attach) = (at.some(16), attach(20)),
        6 => link.interface = at.some(16),
        7 => {
            link.attach = at.some(16).map(names::perf_event);
            // 1 to 5 are of functions and trace points, which have names.
            name = matches!(at.u32(16), Some(1..=5)).then_some((24, 32));
            link.offset = at.some(36).filter(|_| matches!(at.u32(16), Some(1..=4)));
        }
        8 => link.functions = at.some(24),
        10 => {
            let priority = at.u32(24).map(u32::cast_signed);
            link.netfilter = at
                .u32(16)
                .zip(at.u32(20))
                .zip(priority)
                .map(|((pf, hook), priority)| (pf, hook, priority));
        }
        11 | 13 => (link.interface, link.attach) = (at.some(16), attach(20)),
        12 => {
            name = Some((16, 48));
            link.functions = at.some(52);
        }
        _ => {}
    }
    Some((link, name))
}

/// A table of types.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Types {
    pub id: u32,
    pub bytes: u32,
    /// Whether it describes the kernel or a module of it.
    pub of_kernel: bool,
}

/// Reads `struct bpf_btf_info`.
pub fn types(bytes: &[u8]) -> Option<Types> {
    let at = Fields(bytes);
    Some(Types {
        bytes: at.u32(8)?,
        id: at.u32(12)?,
        of_kernel: at.u32(28).unwrap_or(0) != 0,
    })
}

/// A structure, by offset.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(offset..offset.checked_add(length)?)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes(offset, 4)?.try_into().ok()?))
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(offset, 8)?.try_into().ok()?))
    }

    /// A number of which 0 means that there is none.
    fn some(&self, offset: usize) -> Option<u32> {
        self.u32(offset).filter(|number| *number != 0)
    }
}

/// The addresses that the calls of verified instructions go to, as distances from `__bpf_call_base`, each once
/// (`struct bpf_insn`, eight bytes: code, registers, offset, value; `BPF_JMP | BPF_CALL` with source register 0).
pub fn calls(code: &[u8]) -> std::collections::BTreeSet<i32> {
    const CALL: u8 = 0x85;
    let call = |instruction: &[u8]| {
        let (code, registers) = (*instruction.first()?, *instruction.get(1)?);
        let value = i32::from_ne_bytes(instruction.get(4..8)?.try_into().ok()?);
        (code == CALL && registers >> 4 == 0).then_some(value)
    };
    code.chunks_exact(8).filter_map(call).collect()
}
