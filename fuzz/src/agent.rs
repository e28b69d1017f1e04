//! The agent's readers of `/proc`, netlink and the system's own records: not to panic, and to end, is all they promise.

use std::path::Path;

use exhibit_agent::capture::memory::iomem;
use exhibit_agent::capture::memory::kcore::{Layout, notes};
use exhibit_agent::capture::network;
use exhibit_agent::capture::packages::{dpkg, rpm};
use exhibit_agent::capture::processes::parse;
use exhibit_agent::capture::sockets::{self, Family, Reader};
use exhibit_agent::capture::{
    audit, containers, ebpf, firewall, hidden, instance, kernel, messages, modules, sessions,
    tracing, traffic, users::Users,
};
use exhibit_agent::memory::symbols::btf::{Btf, Kind};
use exhibit_agent::memory::symbols::kallsyms::Kallsyms;
use exhibit_agent::memory::symbols::vmcoreinfo::Vmcoreinfo;
use exhibit_agent::memory::symbols::{Inputs, write};

use crate::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    ("proc_texts", proc_texts),
    ("utmp", utmp),
    ("sock_diag", |bytes| {
        each_family(bytes, |family, rest| {
            drop(sockets::diag::parse(family, 1, rest))
        })
    }),
    ("proc_net", |bytes| {
        each_family(bytes, |family, rest| {
            drop(sockets::text::parse(family, 1, rest, 10_000))
        })
    }),
    ("netlink", netlink),
    ("rtnetlink", rtnetlink),
    ("network_texts", network_texts),
    ("iomem", |bytes| {
        drop(iomem::ram(&String::from_utf8_lossy(bytes)))
    }),
    ("kcore", core),
    ("btf", btf),
    ("kallsyms", |bytes| drop(Kallsyms::parse(bytes))),
    ("vmcoreinfo", vmcoreinfo),
    ("symbols", written),
    ("ebpf", ebpf),
    ("hidden", hidden),
    ("containers", containers),
    ("rpm_databases", rpm_databases),
    ("rpm_header", rpm_header),
    ("dpkg_texts", |bytes| {
        drop(dpkg::stanza(bytes));
        drop(dpkg::sum(bytes));
        drop(dpkg::Diversions::parse(bytes));
    }),
];

fn ebpf(bytes: &[u8]) {
    drop(ebpf::info::program(bytes));
    drop(ebpf::info::map(bytes));
    drop(ebpf::info::link(bytes));
    drop(ebpf::info::types(bytes));
    drop(ebpf::info::calls(bytes));
    ebpf::held(bytes);
    drop(firewall::tree::tree(bytes, &firewall::tree::RULE));
    drop(firewall::connection(bytes));
    for layout in firewall::Layout::ALL {
        if let Some((info, entries)) = bytes.split_at_checked(layout.info_bytes()) {
            let _ = firewall::rules::<()>(layout, info, entries, &mut |_| Ok(()));
        }
    }
    drop(traffic::control("filter", bytes));
}

fn containers(bytes: &[u8]) {
    drop(containers::cgroup::claims(&String::from_utf8_lossy(bytes)));
    drop(instance::http::parse(bytes, false));
    drop(instance::http::parse(bytes, true));
}

fn hidden(bytes: &[u8]) {
    hidden::numbers(bytes).for_each(drop);
    drop(hidden::options(bytes));
    drop(modules::in_symbols(bytes));
    for line in String::from_utf8_lossy(bytes).lines() {
        tracing::changes_its_target(line);
        drop(tracing::kprobe(line));
    }
}

/// The database and, past a byte that says how long it is in pages, its log.
fn rpm_databases(bytes: &[u8]) {
    let Some((&pages, rest)) = bytes.split_first() else {
        return;
    };
    let (db, wal) = rest.split_at(rest.len().min(usize::from(pages) * 512));
    drop(rpm::sqlite::each(&db, Some(&wal), "Packages", &mut |_| {
        Ok(())
    }));
    drop(rpm::bdb::each(&rest, &mut |_| Ok(())));
    drop(rpm::ndb::each(&rest, &mut |_| Ok(())));
}

fn rpm_header(bytes: &[u8]) {
    if let Some(header) = rpm::header::Header::parse(bytes) {
        header.is_intact();
        drop(rpm::package(Path::new("/db"), &header));
        let _ = rpm::files(&header, &mut |_| Ok(()));
    }
}

/// What a layout finds lies within numbers that a file can have.
fn core(bytes: &[u8]) {
    notes(bytes).take(10_000).for_each(drop);
    let Ok(layout) = Layout::parse(bytes) else {
        return;
    };
    layout.vmcoreinfo(bytes);
    for address in [0, 0x1000, 1 << 20, 1 << 32, u64::MAX] {
        if let Some((offset, follow)) = layout.locate(address) {
            assert!(follow > 0 && i64::try_from(offset + (follow - 1)).is_ok());
        }
    }
}

/// The first byte chooses the family.
fn each_family(bytes: &[u8], parse: impl Fn(Family, &[u8])) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    parse(Family::ALL[usize::from(*first) % Family::ALL.len()], rest);
}

/// A datagram, message by message.
fn netlink(bytes: &[u8]) {
    let mut datagram = Reader::new(bytes);
    while sockets::netlink::next(&mut datagram, 1).is_some() {}
    drop(audit::parse_status(bytes));
    drop(audit::parse_rule(bytes));
}

fn proc_texts(bytes: &[u8]) {
    drop(parse::stat(bytes));
    drop(parse::keys_and_values(bytes));
    drop(parse::strings(bytes));
    drop(parse::limits(bytes));
    drop(parse::mappings(bytes));
    drop(Users::parse(bytes));
    bytes
        .split(|byte| *byte == b'\n')
        .for_each(|line| drop(kernel::mount(line)));
    for line in String::from_utf8_lossy(bytes).lines() {
        drop(parse::capabilities(line));
        drop(kernel::module(line));
        drop(messages::message(line));
    }
}

fn utmp(bytes: &[u8]) {
    drop(sessions::login(bytes));
    drop(sessions::last_login(bytes));
}

fn rtnetlink(bytes: &[u8]) {
    use network::parse;
    drop(parse::interface(bytes));
    drop(parse::address(bytes));
    drop(parse::route(bytes));
    drop(parse::rule(bytes));
    drop(parse::neighbour(bytes));
}

fn network_texts(bytes: &[u8]) {
    use network::text;
    for line in String::from_utf8_lossy(bytes).lines() {
        drop(text::interface(line));
        drop(text::address(line));
        drop(text::route(line));
        drop(text::route_v6(line));
        drop(text::neighbour(line));
    }
}

/// What was checked once is never refused again.
fn btf(bytes: &[u8]) {
    let Ok(table) = Btf::parse(bytes) else {
        return;
    };
    for next in table.iter() {
        let (id, declared) = next.unwrap();
        match declared.kind {
            Kind::Struct(of) | Kind::Union(of) => {
                assert!(table.members(id, of).all(|member| member.is_ok()));
            }
            Kind::Enumeration(of) => assert!(table.values(id, of).all(|value| value.is_ok())),
            _ => {}
        }
    }
}

fn vmcoreinfo(bytes: &[u8]) {
    if let Ok(info) = Vmcoreinfo::parse(bytes) {
        let _ = (info.kernel_offset(), info.phys_base(), info.page_size());
        info.symbols()
            .for_each(|(name, address)| assert_eq!(info.symbol(name), Some(address)));
    }
}

/// The four inputs of the symbols: two bytes for the length of each of the first three (little-endian), then its bytes;
/// the types are the rest. What is written is JSON.
fn written(bytes: &[u8]) {
    let mut rest = bytes;
    let mut next = || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (part, behind) = behind.split_at(length);
        rest = behind;
        Some(part)
    };
    let (Some(version), Some(kallsyms), Some(vmcoreinfo)) = (next(), next(), next()) else {
        return;
    };
    let inputs = Inputs {
        btf: rest,
        kallsyms,
        version,
        vmcoreinfo: Some(vmcoreinfo).filter(|text| !text.is_empty()),
    };
    let mut out = Vec::new();
    if write(&inputs, &mut out).is_ok() {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
    }
}
