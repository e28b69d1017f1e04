//! Interfaces, addresses, routes, rules and neighbours, as the records of them.

use std::net::IpAddr;

use serde::Serialize;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Inode of the network namespace.
    pub netns: u64,
    pub index: u32,
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What it is made of, such as `ether`, `loopback`, `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Driver of a virtual one, such as `veth`, `bridge`, `tun`, `wireguard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The address of the hardware, when another was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permanent_mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    pub flags: Vec<String>,
    /// How many want all frames: sniffers count here and do not show among the flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promiscuity: Option<u32>,
    /// State of operation (RFC 2863).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Index of the bridge or bond that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// Index of the interface below it or at its other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<u32>,
    /// Number by which this namespace knows the one of `link`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_namespace: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queueing: Option<String>,
    /// Id of the BPF program that sees each frame first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_program: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
}

/// Counters of an interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    pub netns: u64,
    pub interface: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    pub address: IpAddr,
    pub prefix_length: u8,
    /// The other end of a point-to-point link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<IpAddr>,
    pub scope: String,
    pub flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// For how long it stays, in seconds; `None` for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_s: Option<u32>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Route {
    pub netns: u64,
    pub family: String,
    pub kind: String,
    /// `ADDRESS/LENGTH`, or `default`.
    pub destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    pub table: String,
    /// Who made it.
    pub protocol: String,
    pub scope: String,
    pub flags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<NextHop>,
    /// Id of a next hop that is kept apart from routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_id: Option<u32>,
    /// `lwtunnel_encap_types`, `include/uapi/linux/lwtunnel.h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<u16>,
}

/// One of several ways of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextHop {
    pub interface: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    pub weight: u32,
    pub flags: Vec<String>,
}

/// A rule that picks a table of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub netns: u64,
    pub family: String,
    pub priority: u32,
    pub action: String,
    pub table: String,
    /// Whether it applies to all that does not match.
    pub inverted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark_mask: Option<u32>,
    /// First and last user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_protocol: Option<u8>,
    /// First and last port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<(u16, u16)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<(u16, u16)>,
    /// Priority of the rule to go on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goto: Option<u32>,
    /// Routes with a shorter prefix do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppress_prefix_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// A neighbour on a link (ARP, NDP).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    pub netns: u64,
    pub family: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    pub interface: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    pub state: Vec<String>,
    pub flags: Vec<String>,
}

/// All of it, in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub interfaces: Vec<Interface>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    pub neighbours: Vec<Neighbour>,
    /// What could not be read, by kind: the kernel's error, or a word.
    pub failures: Vec<(&'static str, String)>,
}

impl State {
    /// Fills in the namespace and the names of interfaces.
    pub fn named(mut self, netns: u64) -> Self {
        let names: std::collections::BTreeMap<u32, String> = self
            .interfaces
            .iter()
            .map(|interface| (interface.index, interface.name.clone()))
            .collect();
        let index = |name: &Option<String>| {
            let found = names
                .iter()
                .find(|(_, other)| Some(*other) == name.as_ref());
            found.map(|(index, _)| *index)
        };
        self.interfaces
            .iter_mut()
            .for_each(|interface| interface.netns = netns);
        self.rules.iter_mut().for_each(|rule| rule.netns = netns);
        for address in &mut self.addresses {
            address.netns = netns;
            address.interface_name = names
                .get(&address.interface)
                .cloned()
                .or(address.interface_name.take());
        }
        for route in &mut self.routes {
            route.netns = netns;
            route.interface = route.interface.or_else(|| index(&route.interface_name));
            let name = route.interface.and_then(|index| names.get(&index).cloned());
            route.interface_name = name.or(route.interface_name.take());
        }
        for neighbour in &mut self.neighbours {
            neighbour.netns = netns;
            if neighbour.interface == 0 {
                neighbour.interface = index(&neighbour.interface_name).unwrap_or(0);
            }
            let name = names.get(&neighbour.interface).cloned();
            neighbour.interface_name = name.or(neighbour.interface_name.take());
        }
        self
    }
}
