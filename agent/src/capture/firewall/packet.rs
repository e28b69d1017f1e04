//! What the head of an entry asks of a packet.

use std::net::IpAddr;

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
    /// Of IPv4: only fragments behind the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragments: Option<String>,
    /// Of IPv6: the traffic class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(skip)]
    pub goto: bool,
}

/// What the heads of IPv4 and IPv6 have in common.
struct Internet {
    packet: Packet,
    protocol: String,
    class: u8,
    flags: u8,
    inverted: u8,
}

/// `struct ipt_ip`, with `IPT_F_FRAG` and `IPT_F_GOTO`.
pub fn ipv4(bytes: &[u8]) -> Option<Packet> {
    let head = internet::<4>(bytes, 0)?;
    let is = |flag: u8| head.flags & flag != 0;
    Some(Packet {
        protocol: (head.protocol != "0").then(|| head.protocol()),
        fragments: is(1).then(|| inverting("later".to_owned(), head.inverted & 32 != 0)),
        goto: is(2),
        ..head.packet
    })
}

/// `struct ip6t_ip6`, with `IP6T_F_PROTO`, `IP6T_F_TOS` and `IP6T_F_GOTO`.
pub fn ipv6(bytes: &[u8]) -> Option<Packet> {
    let head = internet::<16>(bytes, 1)?;
    let is = |flag: u8| head.flags & flag != 0;
    Some(Packet {
        protocol: is(1).then(|| head.protocol()),
        class: is(2).then(|| inverting(head.class.to_string(), head.inverted & 4 != 0)),
        goto: is(4),
        ..head.packet
    })
}

impl Internet {
    fn protocol(&self) -> String {
        inverting(self.protocol.clone(), self.inverted & 64 != 0)
    }
}

/// Addresses and masks, interfaces, the protocol, so many bytes of a `class`, flags, what is inverted.
fn internet<const N: usize>(bytes: &[u8], class: usize) -> Option<Internet>
where
    IpAddr: From<[u8; N]>,
{
    let mut reader = Reader::new(bytes);
    let addresses = addresses::<N>(&mut reader)?;
    let interfaces = interfaces(&mut reader)?;
    let (protocol, class) = (reader.u16()?, reader.take(class)?);
    let (flags, inverted) = (reader.u8()?, reader.u8()?);
    let [source, destination] = masked(addresses, [inverted & 8 != 0, inverted & 16 != 0]);
    Some(Internet {
        packet: Packet {
            source,
            destination,
            ..named(&interfaces, inverted)
        },
        protocol: protocol.to_string(),
        class: class.first().copied().unwrap_or(0),
        flags,
        inverted,
    })
}

/// `struct arpt_arp`: hardware addresses are told by the raw entry alone.
pub fn arp(bytes: &[u8]) -> Option<Packet> {
    let mut reader = Reader::new(bytes);
    let addresses = addresses::<4>(&mut reader)?;
    let _hardware = reader.take(66)?;
    let (operation, operation_mask) = (reader.be16()?, reader.be16()?);
    let _types = reader.take(8)?;
    let interfaces = interfaces(&mut reader)?;
    let (_flags, _padding, inverted) = (reader.u8()?, reader.u8()?, reader.u16()?);
    let [source, destination] = masked(addresses, [inverted & 4 != 0, inverted & 8 != 0]);
    let operation = (operation_mask != 0).then(|| operation.to_string());
    Some(Packet {
        source,
        destination,
        protocol: operation.map(|number| inverting(number, inverted & 64 != 0)),
        // The bits for interfaces are the same as elsewhere.
        ..named(&interfaces, (inverted & 3) as u8)
    })
}

/// Source, destination, and the mask of each.
fn addresses<const N: usize>(reader: &mut Reader<'_>) -> Option<[IpAddr; 4]>
where
    IpAddr: From<[u8; N]>,
{
    let mut address = || Some(IpAddr::from(reader.array::<N>()?));
    Some([address()?, address()?, address()?, address()?])
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

/// Source and destination as text; nothing where all fit.
fn masked(
    [source, destination, source_mask, destination_mask]: [IpAddr; 4],
    inverted: [bool; 2],
) -> [Option<String>; 2] {
    let side = |address: IpAddr, mask: IpAddr, inverted| {
        // The mask's bits, from the top.
        let bits = match mask {
            IpAddr::V4(mask) => u128::from(mask.to_bits()) << 96,
            IpAddr::V6(mask) => mask.to_bits(),
        };
        let length = bits.leading_ones();
        let text = match bits.checked_shl(length).unwrap_or(0) {
            0 => format!("{address}/{length}"),
            _ => format!("{address}/{mask}"),
        };
        // Even a mask without bits can be such that nothing fits.
        let asks = bits != 0 || inverted || !address.is_unspecified();
        asks.then(|| inverting(text, inverted))
    };
    let [of_source, of_destination] = inverted;
    [
        side(source, source_mask, of_source),
        side(destination, destination_mask, of_destination),
    ]
}

/// As iptables writes it.
pub fn inverting(text: String, inverted: bool) -> String {
    if inverted { format!("! {text}") } else { text }
}
