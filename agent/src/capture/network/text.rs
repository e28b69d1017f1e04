//! The texts below `/proc/PID/net` (proc_net(5)), for recorded trees and namespaces that can not be entered. They tell less:
//! no tables but `main` for IPv4, no rules, no neighbours of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::{Address, Interface, Neighbour, Route, State, Statistics};
use super::names::{self, bits, number};
use crate::capture::sockets::word;
use crate::host::{Folder, SMALL};

/// `RTF_REJECT`, `include/uapi/linux/route.h`.
const REJECT: u32 = 0x0200;
/// `ATF_COM` and `ATF_PERM`, `include/uapi/linux/if_arp.h`.
const COMPLETE: u32 = 0x02;
const PERMANENT: u32 = 0x04;

/// What the texts in `folder` tell.
pub fn read(folder: &Folder) -> State {
    let mut state = State::default();
    let failures = &mut state.failures;
    state.interfaces = lines(folder, "dev", 2, interface, failures);
    state.addresses = lines(folder, "if_inet6", 0, address, failures);
    state.routes = lines(folder, "route", 1, route, failures);
    state
        .routes
        .extend(lines(folder, "ipv6_route", 0, route_v6, failures));
    state.neighbours = lines(folder, "arp", 1, neighbour, failures);
    // `/proc/net/dev` has no indexes, the addresses of IPv6 have both.
    for interface in &mut state.interfaces {
        let same = state
            .addresses
            .iter()
            .find(|address| address.interface_name.as_deref() == Some(&interface.name));
        interface.index = same.map_or(0, |address| address.interface);
    }
    state
}

fn lines<T>(
    folder: &Folder,
    name: &'static str,
    head: usize,
    parse: impl Fn(&str) -> Option<T>,
    failures: &mut Vec<(&'static str, String)>,
) -> Vec<T> {
    let text = match folder.read(name, SMALL) {
        Ok(content) => String::from_utf8_lossy(&content.bytes).into_owned(),
        Err(error) => {
            if !error.is_gone() {
                failures.push((name, word(&error)));
            }
            return Vec::new();
        }
    };
    let lines = || {
        text.lines()
            .skip(head)
            .filter(|line| !line.trim().is_empty())
    };
    let items: Vec<T> = lines().filter_map(parse).collect();
    if items.len() < lines().count() {
        failures.push((name, "malformed".to_owned()));
    }
    items
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word, 16).ok()
}

/// A line of `dev`: `NAME: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes packets errs drop ...`.
pub fn interface(line: &str) -> Option<Interface> {
    // The name itself may contain a colon, as that of an alias does.
    let (name, counters) = line.rsplit_once(':')?;
    let counters: Vec<u64> = counters
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let &[
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = counters.as_slice()
    else {
        return None;
    };
    let statistics = Statistics {
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        rx_errors,
        tx_errors,
        rx_dropped,
        tx_dropped,
    };
    Some(Interface {
        name: name.trim().to_owned(),
        statistics: Some(statistics),
        ..Interface::default()
    })
}

/// A line of `if_inet6`: `ADDRESS INDEX LENGTH SCOPE FLAGS NAME`.
pub fn address(line: &str) -> Option<Address> {
    let mut words = line.split_whitespace();
    let address = ip_v6(words.next()?)?;
    let interface = hex(words.next()?)?;
    let prefix_length = u8::try_from(hex(words.next()?)?).ok()?;
    // `IPV6_ADDR_*`, `include/net/ipv6.h`.
    let scope = match hex(words.next()?)? {
        0x00 => "global",
        0x10 => "host",
        0x20 => "link",
        0x40 => "site",
        _ => "unknown",
    };
    let flags = bits(hex(words.next()?)?, names::ADDRESS_FLAGS);
    Some(Address {
        netns: 0,
        interface,
        interface_name: Some(words.next()?.to_owned()),
        address: address.into(),
        prefix_length,
        peer: None,
        broadcast: None,
        scope: scope.to_owned(),
        flags,
        label: None,
        valid_s: None,
    })
}

/// A line of `route`: `NAME DESTINATION GATEWAY FLAGS references use METRIC MASK mtu window irtt`. Addresses are numbers
/// whose bytes are in the host's order.
pub fn route(line: &str) -> Option<Route> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let mut ip = || hex(words.next()?).map(|word| Ipv4Addr::from(word.to_ne_bytes()));
    let (destination, gateway) = (ip()?, ip()?);
    let flags = hex(words.next()?)?;
    let metric = words.nth(2)?.parse().ok()?;
    let length = hex(words.next()?)?.count_ones();
    let kind = match name {
        _ if flags & REJECT != 0 => "unreachable",
        "*" => "blackhole",
        _ => "unicast",
    };
    Some(Route {
        family: "ipv4".to_owned(),
        kind: kind.to_owned(),
        destination: if length == 0 {
            "default".to_owned()
        } else {
            format!("{destination}/{length}")
        },
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        interface_name: (name != "*").then(|| name.to_owned()),
        metric: Some(metric),
        table: number(254, names::TABLES),
        ..Route::default()
    })
}

/// A line of `ipv6_route`: `DESTINATION LENGTH SOURCE LENGTH GATEWAY METRIC references use FLAGS NAME`. All tables are in it,
/// without their numbers.
pub fn route_v6(line: &str) -> Option<Route> {
    let mut words = line.split_whitespace();
    let mut prefix = || Some((ip_v6(words.next()?)?, hex(words.next()?)?));
    let ((destination, length), (source, source_length)) = (prefix()?, prefix()?);
    let gateway = ip_v6(words.next()?)?;
    let metric = hex(words.next()?)?;
    let flags = hex(words.nth(2)?)?;
    Some(Route {
        family: "ipv6".to_owned(),
        kind: if flags & REJECT == 0 {
            "unicast"
        } else {
            "unreachable"
        }
        .to_owned(),
        destination: if length == 0 {
            "default".to_owned()
        } else {
            format!("{destination}/{length}")
        },
        source: (source_length != 0).then(|| format!("{source}/{source_length}")),
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        interface_name: Some(words.next()?.to_owned()),
        metric: Some(metric),
        ..Route::default()
    })
}

/// A line of `arp`: `ADDRESS HARDWARE FLAGS MAC MASK NAME`.
pub fn neighbour(line: &str) -> Option<Neighbour> {
    let mut words = line.split_whitespace();
    let address: Ipv4Addr = words.next()?.parse().ok()?;
    let flags = hex(words.nth(1)?.strip_prefix("0x")?)?;
    let mac = words.next()?.to_owned();
    let state = match flags {
        _ if flags & PERMANENT != 0 => "permanent",
        _ if flags & COMPLETE != 0 => "complete",
        _ => "incomplete",
    };
    Some(Neighbour {
        family: "ipv4".to_owned(),
        address: Some(IpAddr::from(address)),
        mac: Some(mac),
        interface_name: Some(words.nth(1)?.to_owned()),
        state: vec![state.to_owned()],
        ..Neighbour::default()
    })
}

fn ip_v6(word: &str) -> Option<Ipv6Addr> {
    // `from_str_radix` takes a sign and fewer digits.
    let whole = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole
        .then(|| u128::from_str_radix(word, 16).ok().map(Ipv6Addr::from))
        .flatten()
}

#[cfg(test)]
mod tests;
