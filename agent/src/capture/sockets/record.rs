//! Records of sockets and namespaces, as lines of JSON.
//!
//! Names are those of ECS where it has one. `source` is the local end and `destination` the other, whichever side began:
//! the kernel does not remember that. What ECS has no name for is below `exhibit`.

use std::net::{IpAddr, SocketAddr};

use evidence::inventory::Name;
use serde::Serialize;

use super::model::{
    Address, Family, FamilyScan, Handle, NamespaceScan, Owner, Socket, Source, Timer,
};

/// A socket.
#[derive(Debug, Serialize)]
pub struct SocketRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    process: Vec<Holder>,
    exhibit: Own<'a>,
}

#[derive(Debug, Serialize)]
struct Network {
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iana_number: Option<String>,
}

#[derive(Debug, Serialize)]
struct End {
    ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct User {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A process that has a descriptor for the socket.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    pub pid: i32,
    pub fd: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Own<'a> {
    /// Inode of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u64>,
    family: &'a str,
    state: &'a str,
    inode: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_queue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_queue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<Timer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<Unix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<Packet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netlink: Option<Netlink>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Debug, Serialize)]
struct Unix {
    kind: &'static str,
    #[serde(flatten)]
    path: Option<Name>,
    /// Whether the name is one of the abstract namespace: it starts with NUL and no file stands for it.
    #[serde(rename = "abstract")]
    is_abstract: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_inode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_inode: Option<u32>,
    /// `MAJOR:MINOR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_device: Option<String>,
}

#[derive(Debug, Serialize)]
struct Packet {
    kind: &'static str,
    /// Ethertype; `0x0003` is all of them.
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
    /// Classic BPF, eight bytes an instruction, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
}

#[derive(Debug, Serialize)]
struct Netlink {
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_name: Option<&'static str>,
    port_id: u32,
    groups: Vec<u32>,
}

impl<'a> SocketRecord<'a> {
    /// The record of `socket`; `user_name` is that of its uid.
    pub fn new(socket: &'a Socket, process: Vec<Holder>, user_name: Option<String>) -> Self {
        let raw = matches!(socket.family, Family::Raw | Family::Raw6);
        let end = |end: SocketAddr| End {
            ip: end.ip(),
            port: (!raw).then_some(end.port()),
        };
        let connected = socket
            .remote()
            .filter(|end| end.port() != 0 || !end.ip().is_unspecified());
        Self {
            network: network(socket),
            source: socket.local().map(end),
            destination: connected.map(end),
            user: socket.uid.map(|uid| User {
                id: uid.to_string(),
                name: user_name,
            }),
            process,
            exhibit: own(socket),
        }
    }

    /// The record of a socket that descriptors stand for but that no namespace lists.
    pub fn unlisted(inode: u64, process: Vec<Holder>) -> Self {
        let exhibit = Own {
            family: "unknown",
            state: "unlisted",
            inode,
            ..Own::default()
        };
        Self {
            network: None,
            source: None,
            destination: None,
            user: None,
            process,
            exhibit,
        }
    }
}

fn network(socket: &Socket) -> Option<Network> {
    let Address::Inet { protocol, .. } = socket.address else {
        return None;
    };
    Some(Network {
        transport: match socket.family {
            Family::Raw | Family::Raw6 => None,
            Family::Icmp6 => Some("ipv6-icmp"),
            family => Some(family.transport()),
        },
        kind: if socket.family.is_v6() {
            "ipv6"
        } else {
            "ipv4"
        },
        iana_number: protocol.map(|number| number.to_string()),
    })
}

fn own(socket: &Socket) -> Own<'_> {
    let mut own = Own {
        netns: Some(socket.netns),
        family: socket.family.name(),
        state: socket.state,
        inode: socket.inode,
        interface: socket.interface,
        rx_queue: socket.rx_queue,
        tx_queue: socket.tx_queue,
        timer: socket.timer,
        cgroup_id: socket.cgroup_id,
        cookie: socket.cookie,
        source: Some(socket.source),
        ..Own::default()
    };
    address(&socket.address, &mut own);
    own
}

fn address(address: &Address, own: &mut Own<'_>) {
    match address {
        Address::Inet { .. } => {}
        Address::Unix {
            kind,
            path,
            peer_inode,
            file,
        } => {
            own.unix = Some(Unix {
                kind,
                path: path.as_deref().map(Name::of),
                is_abstract: path.as_ref().is_some_and(|path| path.starts_with(b"\0")),
                peer_inode: *peer_inode,
                file_inode: file.map(|(inode, _)| inode),
                // The kernel's own form of a device number (`MKDEV`): twenty bits for the minor.
                file_device: file
                    .map(|(_, device)| format!("{}:{}", device >> 20, device & 0xF_FFFF)),
            });
        }
        Address::Packet {
            kind,
            protocol,
            running,
            filter,
        } => {
            let (protocol, filter) = (
                format!("0x{protocol:04x}"),
                filter.as_ref().map(hex::encode),
            );
            own.packet = Some(Packet {
                kind,
                protocol,
                running: *running,
                filter,
            });
        }
        Address::Netlink {
            protocol,
            port_id,
            groups,
        } => {
            let groups = (0..64)
                .filter(|bit| groups >> bit & 1 == 1)
                .map(|bit| bit + 1)
                .collect();
            let (protocol, port_id) = (*protocol, *port_id);
            own.netlink = Some(Netlink {
                protocol,
                protocol_name: netlink_name(protocol),
                port_id,
                groups,
            });
        }
    }
}

/// Families of `include/uapi/linux/netlink.h`.
fn netlink_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0 => "route",
        2 => "usersock",
        4 => "sock_diag",
        5 => "nflog",
        6 => "xfrm",
        7 => "selinux",
        8 => "iscsi",
        9 => "audit",
        10 => "fib_lookup",
        11 => "connector",
        12 => "netfilter",
        13 => "ip6_fw",
        14 => "dnrtmsg",
        15 => "kobject_uevent",
        16 => "generic",
        18 => "scsitransport",
        19 => "ecryptfs",
        20 => "rdma",
        21 => "crypto",
        22 => "smc",
        _ => return None,
    })
}

/// A network namespace, and how its sockets were read.
#[derive(Debug, Serialize)]
pub struct NamespaceRecord<'a> {
    inode: u64,
    /// What keeps it: `own`, `process`, `thread`, `descriptor` or `mount`.
    found_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<Owner>,
    #[serde(flatten)]
    mount: Option<Name>,
    processes: u32,
    sockets: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_entered: Option<&'a str>,
    families: &'a std::collections::BTreeMap<&'static str, FamilyScan>,
}

impl<'a> NamespaceRecord<'a> {
    /// The record of `scan`.
    pub fn new(scan: &'a NamespaceScan) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let (found_by, tid, held_by, mount) = match &scan.handle {
            Handle::Own => ("own", None, None, None),
            Handle::Process(_) => ("process", None, None, None),
            Handle::Thread(_, tid) => ("thread", Some(*tid), None, None),
            Handle::Descriptor(owner) => ("descriptor", None, Some(*owner), None),
            Handle::Mount(path) => (
                "mount",
                None,
                None,
                Some(Name::of(path.as_os_str().as_bytes())),
            ),
        };
        Self {
            inode: scan.inode,
            found_by,
            pid: scan.pid,
            tid,
            held_by,
            mount,
            processes: scan.processes,
            sockets: scan.sockets.len(),
            not_entered: scan.not_entered.as_deref(),
            families: &scan.families,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::state_name;
    use super::*;

    fn socket(family: Family, address: Address) -> Socket {
        Socket {
            family,
            netns: 1,
            inode: 2,
            state: state_name(10),
            uid: Some(0),
            interface: None,
            rx_queue: Some(0),
            tx_queue: Some(128),
            timer: None,
            cgroup_id: None,
            cookie: None,
            address,
            source: Source::SockDiag,
        }
    }

    fn json(socket: &Socket) -> serde_json::Value {
        let holder = Holder {
            pid: 7,
            fd: 3,
            name: Some("sshd".to_owned()),
            cgroup: None,
        };
        serde_json::to_value(SocketRecord::new(
            socket,
            vec![holder],
            Some("root".to_owned()),
        ))
        .unwrap()
    }

    #[test]
    fn a_listener_has_a_source_and_no_destination() {
        let local = "[::]:22".parse().unwrap();
        let remote = "[::]:0".parse().unwrap();
        let got = json(&socket(
            Family::Tcp6,
            Address::Inet {
                local,
                remote,
                protocol: None,
            },
        ));
        let want = serde_json::json!({
            "network": {"transport": "tcp", "type": "ipv6"},
            "source": {"ip": "::", "port": 22},
            "user": {"id": "0", "name": "root"},
            "process": [{"pid": 7, "fd": 3, "name": "sshd"}],
            "exhibit": {"netns": 1, "family": "tcp6", "state": "listen", "inode": 2, "rx_queue": 0, "tx_queue": 128,
                        "source": "sock_diag"},
        });
        assert_eq!(got, want);
    }

    #[test]
    fn names_that_are_no_text_are_kept() {
        let unix = |path: &[u8]| {
            let address = Address::Unix {
                kind: "stream",
                path: Some(path.into()),
                peer_inode: None,
                file: None,
            };
            json(&socket(Family::Unix, address))["exhibit"]["unix"].clone()
        };
        let want = serde_json::json!({"kind": "stream", "path": "\0x", "abstract": true});
        assert_eq!(unix(b"\0x"), want);
        let want = serde_json::json!({"kind": "stream", "path_b64": "L3RtcC//", "abstract": false});
        assert_eq!(unix(b"/tmp/\xff"), want);
    }

    #[test]
    fn filters_groups_and_protocols_are_shown() {
        let filter = Some(vec![6, 0, 0, 0, 0, 0, 4, 0].into());
        let packet = Address::Packet {
            kind: "raw",
            protocol: 3,
            running: Some(true),
            filter,
        };
        let got = json(&socket(Family::Packet, packet));
        let want = serde_json::json!({
            "kind": "raw", "protocol": "0x0003", "running": true, "filter": "0600000000000400",
        });
        assert_eq!(got["exhibit"]["packet"], want);
        let netlink = Address::Netlink {
            protocol: 0,
            port_id: 7,
            groups: 0x8000_0000_0000_0005,
        };
        let got = json(&socket(Family::Netlink, netlink));
        let want = serde_json::json!({"protocol": 0, "protocol_name": "route", "port_id": 7, "groups": [1, 3, 64]});
        assert_eq!(got["exhibit"]["netlink"], want);
        let (local, remote) = ("10.0.0.1:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
        let got = json(&socket(
            Family::Raw,
            Address::Inet {
                local,
                remote,
                protocol: Some(1),
            },
        ));
        assert_eq!(
            got["network"],
            serde_json::json!({"type": "ipv4", "iana_number": "1"})
        );
        assert_eq!(got["source"], serde_json::json!({"ip": "10.0.0.1"}));
    }
}
