//! Answers of rtnetlink(7), as functions of bytes: `include/uapi/linux/{rtnetlink,if_link,if_addr,fib_rules,neighbour}.h`.
//!
//! What an attribute of an unexpected size says is left out; the item stays. `None` only for what is shorter than its
//! structure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::{Address, Interface, Neighbour, NextHop, Route, Rule, Statistics};
use super::names::{self, bits, number};
use crate::capture::sockets::{Attributes, Reader, text_of, u32_of};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `INFINITY_LIFE_TIME`, `include/net/addrconf.h`.
const FOR_EVER: u32 = u32::MAX;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;

/// An answer to `RTM_GETLINK`: `struct ifinfomsg`.
pub fn interface(body: &[u8]) -> Option<Interface> {
    let mut reader = Reader::new(body);
    let (_family, _) = (reader.u8()?, reader.u8()?);
    let hardware = reader.u16()?;
    let (index, flags, _change) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let mut link = Interface {
        index,
        hardware: Some(number(hardware.into(), names::HARDWARE)),
        flags: bits(flags, names::LINK_FLAGS),
        ..Interface::default()
    };
    for (kind, value) in Attributes::new(reader.rest()) {
        match kind {
            1 => link.mac = mac(value),
            3 => link.name = text_of(value),
            4 => link.mtu = u32_of(value),
            5 => link.link = u32_of(value).filter(|link| *link != 0 && *link != index),
            6 => link.queueing = Some(text_of(value)),
            7 if link.statistics.is_none() => {
                link.statistics = statistics(value, |reader| reader.u32().map(u64::from))
            }
            10 => link.master = u32_of(value),
            16 => {
                link.state = value
                    .first()
                    .map(|state| number((*state).into(), names::OPERATION))
            }
            18 => link.kind = nested(value, 1).map(text_of),
            20 => link.alias = Some(text_of(value)),
            23 => link.statistics = statistics(value, Reader::u64),
            30 => link.promiscuity = u32_of(value),
            37 => link.link_namespace = u32_of(value).map(u32::cast_signed),
            43 => link.xdp_program = nested(value, 4).and_then(u32_of).filter(|id| *id != 0),
            52 => {
                link.other_names = Attributes::new(value)
                    .filter(|(kind, _)| *kind == 53)
                    .map(|(_, n)| text_of(n))
                    .collect()
            }
            54 => link.permanent_mac = mac(value),
            _ => {}
        }
    }
    link.permanent_mac = link
        .permanent_mac
        .take()
        .filter(|mac| Some(mac) != link.mac.as_ref());
    Some(link)
}

/// The attribute `wanted` among those inside of another.
fn nested(value: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes::new(value)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// `struct rtnl_link_stats64` or `struct rtnl_link_stats`: the first eight counters.
fn statistics<'a>(
    value: &'a [u8],
    mut next: impl FnMut(&mut Reader<'a>) -> Option<u64>,
) -> Option<Statistics> {
    let mut reader = Reader::new(value);
    let mut next = || next(&mut reader);
    Some(Statistics {
        rx_packets: next()?,
        tx_packets: next()?,
        rx_bytes: next()?,
        tx_bytes: next()?,
        rx_errors: next()?,
        tx_errors: next()?,
        rx_dropped: next()?,
        tx_dropped: next()?,
    })
}

fn mac(bytes: &[u8]) -> Option<String> {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (!parts.is_empty()).then(|| parts.join(":"))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|bytes| Ipv6Addr::from(bytes).into())
}

/// An answer to `RTM_GETADDR`: `struct ifaddrmsg`.
pub fn address(body: &[u8]) -> Option<Address> {
    let mut reader = Reader::new(body);
    let (_family, prefix_length) = (reader.u8()?, reader.u8()?);
    let (mut flags, scope) = (u32::from(reader.u8()?), reader.u8()?);
    let interface = reader.u32()?;
    let (mut local, mut other, mut broadcast, mut label, mut valid_s) =
        (None, None, None, None, None);
    for (kind, value) in Attributes::new(reader.rest()) {
        match kind {
            1 => other = ip(value),
            2 => local = ip(value),
            3 => label = Some(text_of(value)),
            4 => broadcast = ip(value),
            // `struct ifa_cacheinfo`: the time for which it is preferred comes first.
            6 => {
                valid_s = value
                    .get(4..8)
                    .and_then(u32_of)
                    .filter(|seconds| *seconds != FOR_EVER)
            }
            8 => flags = u32_of(value).unwrap_or(flags),
            _ => {}
        }
    }
    let address = local.or(other)?;
    Some(Address {
        netns: 0,
        interface,
        interface_name: None,
        address,
        prefix_length,
        peer: other.filter(|other| *other != address),
        broadcast,
        scope: number(scope.into(), names::SCOPES),
        flags: bits(flags, names::ADDRESS_FLAGS),
        label,
        valid_s,
    })
}

/// An answer to `RTM_GETROUTE`: `struct rtmsg`.
pub fn route(body: &[u8]) -> Option<Route> {
    let mut reader = Reader::new(body);
    let (family, to_length, from_length, _tos) =
        (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let (table, protocol, scope, kind) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let flags = reader.u32()?;
    let (mut table, mut to, mut from) = (u32::from(table), None, None);
    let mut route = Route {
        family: number(family.into(), names::FAMILIES),
        kind: number(kind.into(), names::ROUTE_KINDS),
        protocol: number(protocol.into(), names::PROTOCOLS),
        scope: number(scope.into(), names::SCOPES),
        flags: bits(flags, names::ROUTE_FLAGS),
        ..Route::default()
    };
    for (kind, value) in Attributes::new(reader.rest()) {
        match kind {
            1 => to = ip(value),
            2 => from = ip(value),
            4 => route.interface = u32_of(value),
            5 => route.gateway = ip(value),
            6 => route.metric = u32_of(value),
            7 => route.preferred_source = ip(value),
            9 => route.next_hops = next_hops(value),
            15 => table = u32_of(value).unwrap_or(table),
            // `struct rtvia`: a gateway of another family.
            18 => route.gateway = value.get(2..).and_then(ip),
            21 => route.encapsulation = value.try_into().ok().map(u16::from_ne_bytes),
            30 => route.next_hop_id = u32_of(value),
            _ => {}
        }
    }
    route.table = number(table, names::TABLES);
    route.destination = prefix(family, to, to_length).unwrap_or_else(|| "default".to_owned());
    route.source = prefix(family, from, from_length);
    Some(route)
}

/// `ADDRESS/LENGTH`; `None` for everything.
fn prefix(family: u8, address: Option<IpAddr>, length: u8) -> Option<String> {
    match (address, family) {
        (Some(address), _) => Some(format!("{address}/{length}")),
        (None, _) if length == 0 => None,
        // The kernel leaves out an address that is all zero.
        (None, AF_INET) => Some(format!("0.0.0.0/{length}")),
        (None, AF_INET6) => Some(format!("::/{length}")),
        (None, _) => Some(format!("?/{length}")),
    }
}

/// A sequence of `struct rtnexthop`, each with attributes.
fn next_hops(value: &[u8]) -> Vec<NextHop> {
    let mut reader = Reader::new(value);
    std::iter::from_fn(|| {
        let length = usize::from(reader.u16()?);
        let (flags, hops, interface) = (reader.u8()?, reader.u8()?, reader.u32()?);
        let attributes = reader.take(length.checked_sub(8)?)?;
        let padding = length.next_multiple_of(4) - length;
        reader.take(padding.min(reader.rest().len()))?;
        let gateway = Attributes::new(attributes).find_map(|(kind, value)| match kind {
            5 => ip(value),
            18 => value.get(2..).and_then(ip),
            _ => None,
        });
        Some(NextHop {
            interface,
            gateway,
            weight: u32::from(hops) + 1,
            flags: bits(flags.into(), names::ROUTE_FLAGS),
        })
    })
    .collect()
}

/// An answer to `RTM_GETRULE`: `struct fib_rule_hdr`.
pub fn rule(body: &[u8]) -> Option<Rule> {
    let mut reader = Reader::new(body);
    let (family, to_length, from_length, _tos) =
        (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let (table, _, _, action) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let flags = reader.u32()?;
    let (mut table, mut to, mut from) = (u32::from(table), None, None);
    let mut rule = Rule {
        family: number(family.into(), names::FAMILIES),
        action: number(action.into(), names::ACTIONS),
        inverted: flags & INVERT != 0,
        ..Rule::default()
    };
    for (kind, value) in Attributes::new(reader.rest()) {
        match kind {
            1 => to = ip(value),
            2 => from = ip(value),
            3 => rule.in_interface = Some(text_of(value)),
            4 => rule.goto = u32_of(value),
            6 => rule.priority = u32_of(value).unwrap_or(0),
            10 => rule.mark = u32_of(value),
            14 => rule.suppress_prefix_length = u32_of(value).filter(|length| *length != u32::MAX),
            15 => table = u32_of(value).unwrap_or(table),
            16 => rule.mark_mask = u32_of(value),
            17 => rule.out_interface = Some(text_of(value)),
            20 => {
                rule.users = value
                    .get(..4)
                    .and_then(u32_of)
                    .zip(value.get(4..).and_then(u32_of))
            }
            21 => {
                rule.protocol = value
                    .first()
                    .map(|protocol| number((*protocol).into(), names::PROTOCOLS))
            }
            22 => rule.ip_protocol = value.first().copied(),
            23 => rule.source_ports = ports(value),
            24 => rule.destination_ports = ports(value),
            _ => {}
        }
    }
    rule.table = number(table, names::TABLES);
    rule.destination = prefix(family, to, to_length);
    rule.source = prefix(family, from, from_length);
    Some(rule)
}

/// `struct fib_rule_port_range`.
fn ports(value: &[u8]) -> Option<(u16, u16)> {
    let mut reader = Reader::new(value);
    Some((reader.u16()?, reader.u16()?))
}

/// An answer to `RTM_GETNEIGH`: `struct ndmsg`.
pub fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let mut reader = Reader::new(body);
    let (family, _, _) = (reader.u8()?, reader.u8()?, reader.u16()?);
    let interface = reader.u32()?;
    let (state, flags, _kind) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let mut neighbour = Neighbour {
        family: number(family.into(), names::FAMILIES),
        interface,
        state: bits(state.into(), names::NEIGHBOUR_STATES),
        flags: bits(flags.into(), names::NEIGHBOUR_FLAGS),
        ..Neighbour::default()
    };
    for (kind, value) in Attributes::new(reader.rest()) {
        match kind {
            1 => neighbour.address = ip(value),
            2 => neighbour.mac = mac(value),
            _ => {}
        }
    }
    Some(neighbour)
}

#[cfg(test)]
mod tests;
