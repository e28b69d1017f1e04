//! Matches and targets of modules: told where they are known, else kept in hex.

use std::net::IpAddr;

use serde::Serialize;

use super::packet::inverting;
use crate::capture::sockets::{Reader, text_of};

/// `struct xt_entry_match`, `struct xt_entry_target`: length, name, revision; then the data.
pub const HEAD: usize = 32;

/// A match or a target of a module.
#[derive(Debug, Default, Serialize)]
pub struct Extension {
    pub name: String,
    pub revision: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Where to an address is translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// In hex.
    pub data: String,
}

/// Name, revision and data of a match or a target.
pub fn parts(bytes: &[u8]) -> Option<(String, u8, &[u8])> {
    let mut reader = Reader::new(bytes);
    let _length = reader.u16()?;
    let name = text_of(reader.take(29)?);
    Some((name, reader.u8()?, reader.rest()))
}

/// What a match asks.
pub fn of_match(bytes: &[u8]) -> Option<Extension> {
    let (name, revision, data) = parts(bytes)?;
    let mut told = Extension {
        revision,
        data: hex::encode(data),
        ..Extension::default()
    };
    match name.as_str() {
        // `struct xt_tcp`, `struct xt_udp`: two ranges of ports, and which are inverted.
        "tcp" | "udp" => {
            let mut reader = Reader::new(data);
            let mut range = || Some((reader.u16()?, reader.u16()?));
            let (source, destination) = (range()?, range()?);
            let inverted = data.get(if name == "tcp" { 11 } else { 8 })?;
            told.source_ports = ports(source, inverted & 1 != 0);
            told.destination_ports = ports(destination, inverted & 2 != 0);
        }
        "comment" => told.comment = Some(text_of(data)),
        _ => {}
    }
    told.name = name;
    Some(told)
}

fn ports((first, last): (u16, u16), inverted: bool) -> Option<String> {
    let range = match first == last {
        true => first.to_string(),
        false => format!("{first}:{last}"),
    };
    ((first, last) != (0, u16::MAX)).then(|| inverting(range, inverted))
}

/// What the target of a module is told.
pub fn of_target(name: String, revision: u8, data: &[u8], family: &str) -> Extension {
    let to = match (name.as_str(), revision, family) {
        ("DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE" | "NETMAP", 0, "ip") => old_range(data),
        ("DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE" | "NETMAP", ..) => {
            range(data, family == "ip6")
        }
        _ => None,
    };
    Extension {
        name,
        revision,
        to,
        data: hex::encode(data),
        ..Extension::default()
    }
}

/// The first of `struct nf_nat_ipv4_multi_range_compat`, `include/uapi/linux/netfilter/nf_nat.h`.
fn old_range(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let (_count, flags) = (reader.u32()?, reader.u32()?);
    let mut address = || Some(IpAddr::from(reader.array::<4>()?));
    let addresses = (address()?, address()?);
    translated(flags, addresses, (reader.be16()?, reader.be16()?))
}

/// `struct nf_nat_range` and, with one field more, `struct nf_nat_range2`.
fn range(data: &[u8], six: bool) -> Option<String> {
    let mut reader = Reader::new(data);
    let flags = reader.u32()?;
    let mut address = || {
        let bytes = reader.array::<16>()?;
        let four = bytes.first_chunk::<4>().copied();
        Some(match six {
            true => IpAddr::from(bytes),
            false => IpAddr::from(four?),
        })
    };
    let addresses = (address()?, address()?);
    translated(flags, addresses, (reader.be16()?, reader.be16()?))
}

/// `NF_NAT_RANGE_MAP_IPS` is 1, `NF_NAT_RANGE_PROTO_SPECIFIED` 2.
fn translated(flags: u32, addresses: (IpAddr, IpAddr), ports: (u16, u16)) -> Option<String> {
    let several = |first: String, last: String| match first == last {
        true => first,
        false => format!("{first}-{last}"),
    };
    let with_ports = flags & 2 != 0;
    let written = |address: IpAddr| match address {
        IpAddr::V6(six) if with_ports => format!("[{six}]"),
        address => address.to_string(),
    };
    let mut to = String::new();
    if flags & 1 != 0 {
        to = several(written(addresses.0), written(addresses.1));
    }
    if with_ports {
        let ports = several(ports.0.to_string(), ports.1.to_string());
        to = format!("{to}:{ports}");
    }
    (!to.is_empty()).then_some(to)
}
