//! The records of all objects that the kernel tells of.

use std::collections::BTreeMap;

use evidence::digest::{Digest, Hasher};
use nix::errno::Errno;
use serde::Serialize;

use super::info::{self, CODE, Link, MAPS, Map, Program, TYPES_NAME, Types};
use super::owners::Owner;
use super::{Finding, ids};
use crate::capture::sockets::text_of;
use crate::capture::{Halt, Sink};
use crate::host::{BpfKind, BpfSpace, Host, SMALL, clocks};
use crate::text::rfc3339;

/// Most bytes of a program's instructions (a million of eight bytes each is what the verifier allows).
const MAX_CODE: u32 = 16 << 20;
/// Most maps of one program.
const MAX_MAPS: u32 = 4096;
/// Most bytes of a name.
const MAX_NAME: usize = 4096;
/// Functions of the kernel by which a program changes what it watches.
const TELLING: &[&str] = &[
    "bpf_probe_write_user",
    "bpf_override_return",
    "bpf_send_signal",
    "bpf_send_signal_thread",
];

#[derive(Serialize)]
struct ProgramRecord<'a> {
    #[serde(flatten)]
    program: &'a Program,
    loaded: String,
    map_ids: Vec<u32>,
    /// Of its instructions after verification; addresses of the kernel in them differ from boot to boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    xlated_sha256: Option<Digest>,
    /// Member of the tar with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// Functions of the kernel that it calls, where kallsyms tells their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<&'a str>,
    held_by: Vec<Holder>,
}

#[derive(Serialize)]
struct Held<T> {
    #[serde(flatten)]
    object: T,
    held_by: Vec<Holder>,
}

#[derive(Serialize)]
struct Named {
    #[serde(flatten)]
    types: Types,
    name: String,
}

#[derive(Serialize)]
struct Holder {
    pid: i32,
    fd: u32,
}

fn holders(owners: &[Owner], kind: &str, id: u32) -> Vec<Holder> {
    let of = owners
        .iter()
        .filter(|owner| owner.kind == kind && owner.id == id);
    of.map(|owner| Holder {
        pid: owner.pid,
        fd: owner.fd,
    })
    .collect()
}

/// Records all objects; the ids of each kind.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn capture(
    host: &Host,
    owners: &[Owner],
    sink: &mut Sink<'_>,
) -> Result<BTreeMap<&'static str, Vec<u32>>, Halt> {
    let mut found = BTreeMap::new();
    let kernel = Functions::read(host);
    for (word, kind) in [
        ("program", BpfKind::Program),
        ("map", BpfKind::Map),
        ("link", BpfKind::Link),
        ("types", BpfKind::Types),
    ] {
        let listed = match ids(kind) {
            Ok(listed) => listed,
            // Links have ids since Linux 5.8.
            Err(Errno::EINVAL) => continue,
            Err(errno) => {
                sink.count(&errno.into());
                continue;
            }
        };
        for id in &listed {
            sink.check()?;
            let told = match kind {
                BpfKind::Program => program(*id, owners, &kernel, sink)?,
                BpfKind::Map => map(*id)
                    .map(|object| {
                        sink.record(
                            "ebpf/maps",
                            &Held {
                                object,
                                held_by: holders(owners, word, *id),
                            },
                        )
                    })
                    .transpose_halt()?,
                BpfKind::Link => link(*id)
                    .map(|object| {
                        sink.record(
                            "ebpf/links",
                            &Held {
                                object,
                                held_by: holders(owners, word, *id),
                            },
                        )
                    })
                    .transpose_halt()?,
                BpfKind::Types => types(*id)
                    .map(|types| sink.record("ebpf/types", &types))
                    .transpose_halt()?,
            };
            match told {
                Ok(()) => {}
                Err(Errno::ENOENT) => sink.gone(),
                Err(errno) => sink.count(&errno.into()),
            }
        }
        found.insert(word, listed);
    }
    Ok(found)
}

/// A halt ends the artifact; the kernel's error is of one object alone.
trait TransposeHalt {
    fn transpose_halt(self) -> Result<Result<(), Errno>, Halt>;
}

impl TransposeHalt for Result<Result<(), Halt>, Errno> {
    fn transpose_halt(self) -> Result<Result<(), Errno>, Halt> {
        match self {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(halt)) => Err(halt),
            Err(errno) => Ok(Err(errno)),
        }
    }
}

fn space((address, count): (usize, usize), unit: usize, length: usize) -> BpfSpace {
    let bytes = vec![0; length];
    BpfSpace {
        address,
        count,
        unit,
        bytes,
    }
}

fn program(
    id: u32,
    owners: &[Owner],
    kernel: &Functions,
    sink: &mut Sink<'_>,
) -> Result<Result<(), Errno>, Halt> {
    let read = || -> Result<_, Errno> {
        let object = BpfKind::Program.open(id)?;
        let program = info::program(&object.info(&mut [])?).ok_or(Errno::EBADMSG)?;
        let code = program.xlated_bytes.min(MAX_CODE) as usize;
        let maps = program.maps.min(MAX_MAPS) as usize * 4;
        let mut spaces = [space(CODE, 1, code), space(MAPS, 4, maps)];
        let again = object.info(&mut spaces)?;
        // Without the right to see addresses the kernel gives no instructions, and says so by a null in their place.
        let given = again
            .get(CODE.0..CODE.0 + 8)
            .is_some_and(|address| address != [0; 8]);
        let [code, maps] = spaces.map(|space| space.bytes);
        Ok((program, code, maps, given))
    };
    let (program, code, maps, given) = match read() {
        Ok(read) => read,
        Err(errno) => return Ok(Err(errno)),
    };
    let given = given && !code.is_empty();
    let member = given.then(|| format!("live_response/ebpf/programs/{id}.xlated"));
    if let Some(member) = &member {
        sink.own(member, &code)?;
    }
    let now = clocks();
    let loaded = i64::try_from(program.loaded_boottime_ns).unwrap_or(0);
    let calls = kernel.called(&code);
    sink.record(
        "ebpf/programs",
        &ProgramRecord {
            program: &program,
            loaded: rfc3339(
                now.utc_ns
                    .saturating_sub(now.boottime_ns)
                    .saturating_add(loaded),
            ),
            map_ids: maps
                .chunks_exact(4)
                .filter_map(|id| Some(u32::from_ne_bytes(id.try_into().ok()?)))
                .collect(),
            xlated_sha256: given.then(|| {
                let mut hasher = Hasher::default();
                hasher.update(&code);
                hasher.finish()
            }),
            member,
            calls: calls.clone(),
            held_by: holders(owners, "program", id),
        },
    )?;
    for call in calls.iter().filter(|call| TELLING.contains(call)) {
        sink.finding(&Finding {
            rule: "ebpf-that-interferes",
            technique: "T1014",
            reason: format!(
                "eBPF program {id} ({}, {}) calls {call}",
                program.name, program.kind
            ),
            known_benign: "security agents that stop processes",
            pid: owners
                .iter()
                .find(|owner| owner.kind == "program" && owner.id == id)
                .map(|owner| owner.pid),
        })?;
    }
    Ok(Ok(()))
}

fn map(id: u32) -> Result<Map, Errno> {
    info::map(&BpfKind::Map.open(id)?.info(&mut [])?).ok_or(Errno::EBADMSG)
}

fn link(id: u32) -> Result<Link, Errno> {
    let object = BpfKind::Link.open(id)?;
    let (mut link, name) = info::link(&object.info(&mut [])?).ok_or(Errno::EBADMSG)?;
    if let Some(place) = name {
        let mut spaces = [space(place, 1, MAX_NAME)];
        // A kernel without names answers in its own way: the link is told all the same.
        if object.info(&mut spaces).is_ok() {
            let [name] = spaces.map(|space| text_of(&space.bytes));
            link.target = (!name.is_empty()).then_some(name);
        }
    }
    Ok(link)
}

fn types(id: u32) -> Result<Named, Errno> {
    let object = BpfKind::Types.open(id)?;
    let types = info::types(&object.info(&mut [])?).ok_or(Errno::EBADMSG)?;
    let mut spaces = [space(TYPES_NAME, 1, MAX_NAME)];
    let named = object.info(&mut spaces).is_ok();
    let [name] = spaces.map(|space| {
        if named {
            text_of(&space.bytes)
        } else {
            String::new()
        }
    });
    Ok(Named { types, name })
}

/// Functions of the kernel that programs may call, by their distance from `__bpf_call_base`.
#[derive(Debug, Default)]
pub(super) struct Functions(BTreeMap<i32, String>);

impl Functions {
    fn read(host: &Host) -> Self {
        let text = host.root().read("proc/kallsyms", SMALL * 4);
        text.map(|text| Self::parse(&text.bytes))
            .unwrap_or_default()
    }

    pub(super) fn parse(kallsyms: &[u8]) -> Self {
        let mut functions = BTreeMap::new();
        let mut base = None;
        for line in kallsyms.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(address) = u64::from_str_radix(address, 16) else {
                continue;
            };
            match name {
                "__bpf_call_base" => base = Some(address).filter(|address| *address != 0),
                // Of modules' names, and programs' own (`bpf_prog_TAG`), nothing is called as a helper.
                name if name.starts_with("bpf_")
                    && words.next().is_none()
                    && !name.starts_with("bpf_prog_") =>
                {
                    functions.insert(address, name.to_owned());
                }
                _ => {}
            }
        }
        let Some(base) = base else {
            return Self::default();
        };
        let distance = |(address, name): (u64, String)| {
            let distance = address.wrapping_sub(base).cast_signed();
            Some((i32::try_from(distance).ok()?, name))
        };
        Self(functions.into_iter().filter_map(distance).collect())
    }

    /// The functions that `code` calls.
    pub(super) fn called(&self, code: &[u8]) -> Vec<&str> {
        let called = info::calls(code);
        called
            .iter()
            .filter_map(|call| self.0.get(call))
            .map(String::as_str)
            .collect()
    }
}
