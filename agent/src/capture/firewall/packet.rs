//! What the head of an entry asks of a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::capture::sockets::{Reader, text_of};

/// What a packet must be. What is inverted begins with `! `; what is not there fits all.
#[derive(Debug, Default, Serialize)]
pub struct Packet {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// A number of IANA's, or for ARP the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip)]
    pub goto: bool,
}

/// `struct ipt_ip`.
pub fn ipv4(bytes: &[u8]) -> Option<Packet> {
    let mut reader = Reader::new(bytes);
    let mut address = || Some(Ipv4Addr::from(reader.array::<4>()?));
    let (source, destination, source_mask, destination_mask) =
        (address()?, address()?, address()?, address()?);
    let interfaces = interfaces(&mut reader)?;
    let (protocol, flags, inverted) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let with = |mask: Ipv4Addr| (u128::from(mask.to_bits()) << 96, mask.into());
    Some(Packet {
        source: masked(source.into(), with(source_mask), inverted & 8 != 0),
        destination: masked(
            destination.into(),
            with(destination_mask),
            inverted & 16 != 0,
        ),
        protocol: (protocol != 0).then(|| inverting(protocol.to_string(), inverted & 64 != 0)),
        goto: flags & 2 != 0,
        ..named(&interfaces, inverted)
    })
}

/// `struct ip6t_ip6`.
pub fn ipv6(bytes: &[u8]) -> Option<Packet> {
    let mut reader = Reader::new(bytes);
    let mut address = || Some(Ipv6Addr::from(reader.array::<16>()?));
    let (source, destination, source_mask, destination_mask) =
        (address()?, address()?, address()?, address()?);
    let interfaces = interfaces(&mut reader)?;
    let protocol = reader.u16()?;
    let (_class, flags, inverted) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let with = |mask: Ipv6Addr| (mask.to_bits(), mask.into());
    Some(Packet {
        source: masked(source.into(), with(source_mask), inverted & 8 != 0),
        destination: masked(
            destination.into(),
            with(destination_mask),
            inverted & 16 != 0,
        ),
        protocol: (protocol != 0).then(|| inverting(protocol.to_string(), inverted & 64 != 0)),
        goto: flags & 4 != 0,
        ..named(&interfaces, inverted)
    })
}

/// `struct arpt_arp`: hardware addresses are told by the raw entry alone.
pub fn arp(bytes: &[u8]) -> Option<Packet> {
    let mut reader = Reader::new(bytes);
    let mut address = || Some(Ipv4Addr::from(reader.array::<4>()?));
    let (source, destination, source_mask, destination_mask) =
        (address()?, address()?, address()?, address()?);
    let _hardware = reader.take(66)?;
    let (operation, operation_mask) = (reader.be16()?, reader.be16()?);
    let _types = reader.take(8)?;
    let interfaces = interfaces(&mut reader)?;
    let (_flags, _padding, inverted) = (reader.u8()?, reader.u8()?, reader.u16()?);
    let with = |mask: Ipv4Addr| (u128::from(mask.to_bits()) << 96, mask.into());
    let operation = (operation_mask != 0).then(|| operation.to_string());
    Some(Packet {
        source: masked(source.into(), with(source_mask), inverted & 4 != 0),
        destination: masked(
            destination.into(),
            with(destination_mask),
            inverted & 8 != 0,
        ),
        protocol: operation.map(|number| inverting(number, inverted & 64 != 0)),
        ..named(&interfaces, inverted.to_le_bytes()[0])
    })
}

/// Names of the interfaces in and out, then which of their bytes count.
fn interfaces(reader: &mut Reader<'_>) -> Option<[[u8; 16]; 4]> {
    Some([
        reader.array()?,
        reader.array()?,
        reader.array()?,
        reader.array()?,
    ])
}

fn named([input, output, input_mask, output_mask]: &[[u8; 16]; 4], inverted: u8) -> Packet {
    let name = |bytes: &[u8; 16], mask: &[u8; 16], inverted: bool| {
        let counts = mask.iter().filter(|byte| **byte != 0).count();
        let name = text_of(bytes.get(..counts)?);
        // Where the NUL does not count, any name that begins so will do.
        let more = if counts > name.len() { "" } else { "+" };
        (counts > 0).then(|| inverting(format!("{name}{more}"), inverted))
    };
    Packet {
        input: name(input, input_mask, inverted & 1 != 0),
        output: name(output, output_mask, inverted & 2 != 0),
        ..Packet::default()
    }
}

/// An address and its mask, whose bits are given from the top; nothing where all fit.
fn masked(address: IpAddr, (bits, mask): (u128, IpAddr), inverted: bool) -> Option<String> {
    let length = bits.leading_ones();
    let text = match bits.checked_shl(length).unwrap_or(0) {
        0 => format!("{address}/{length}"),
        _ => format!("{address}/{mask}"),
    };
    (bits != 0).then(|| inverting(text, inverted))
}

/// As iptables writes it.
pub fn inverting(text: String, inverted: bool) -> String {
    if inverted { format!("! {text}") } else { text }
}
