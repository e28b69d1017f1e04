//! Requests and answers of `NETLINK_SOCK_DIAG`: `include/uapi/linux/{sock,inet,unix,packet,netlink}_diag.h`.
//!
//! The answers are taken apart by functions of bytes alone. They read what they know and pass over what they do not, since
//! newer kernels add to both ends of a structure's attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bytes::{Attributes, Reader, u32_of, u64_of};
use super::model::{Address, Family, Socket, Source, Timer, kind_name, state_name, timer_name};

/// Message type of requests and answers.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Every state there is and will be: `TCP_NEW_SYN_RECV` and `TCP_BOUND_INACTIVE` too.
const ALL_STATES: u32 = u32::MAX;
/// Length of `struct inet_diag_sockid`.
const SOCKET_ID: usize = 48;

const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_NETLINK: u8 = 16;
const AF_PACKET: u8 = 17;

/// `IPPROTO_MPTCP`, which does not fit into the request's field.
const IPPROTO_MPTCP: u32 = 262;
const INET_DIAG_REQ_PROTOCOL: u16 = 3;
const INET_DIAG_PROTOCOL: u16 = 10;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// `UDIAG_SHOW_NAME | _VFS | _PEER | _RQLEN | _UID`. Not `_ICONS`: a long queue would not fit into a message.
const UNIX_SHOW: u32 = 0x01 | 0x02 | 0x04 | 0x10 | 0x40;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_UID: u16 = 7;

/// `PACKET_SHOW_INFO | PACKET_SHOW_FILTER`.
const PACKET_SHOW: u32 = 0x01 | 0x20;
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_DIAG_UID: u16 = 5;
const PACKET_DIAG_FILTER: u16 = 7;
const PDI_RUNNING: u32 = 1;
/// Most bytes of a filter: `BPF_MAXINSNS` instructions of eight bytes.
const MAX_FILTER: usize = 4096 * 8;

const NDIAG_PROTO_ALL: u8 = 0xFF;
const NDIAG_SHOW_GROUPS: u32 = 2;
const NETLINK_DIAG_GROUPS: u16 = 1;

/// An answer that is shorter than its structure, or of another family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer of this family")]
pub struct Malformed;

/// The question for all sockets of `family`; `None` when there is no way to ask for them.
///
/// Raw sockets are dumped under `IPPROTO_RAW` whatever they speak: `net/ipv4/raw_diag.c` looks at
/// `sdiag_raw_protocol` only when a single one is asked for.
pub fn request(family: Family) -> Option<Vec<u8>> {
    match family {
        Family::Unix => {
            let words = [ALL_STATES, 0, UNIX_SHOW, 0, 0];
            Some(words_behind([AF_UNIX, 0, 0, 0], &words))
        }
        Family::Packet => Some(words_behind([AF_PACKET, 0, 0, 0], &[0, PACKET_SHOW, 0, 0])),
        Family::Netlink => Some(words_behind(
            [AF_NETLINK, NDIAG_PROTO_ALL, 0, 0],
            &[0, NDIAG_SHOW_GROUPS, 0, 0],
        )),
        inet => inet_request(inet),
    }
}

fn words_behind(head: [u8; 4], words: &[u32]) -> Vec<u8> {
    let words = words.iter().flat_map(|word| word.to_ne_bytes());
    head.into_iter().chain(words).collect()
}

/// `struct inet_diag_req_v2`.
fn inet_request(family: Family) -> Option<Vec<u8>> {
    let protocol = match family {
        // `IPPROTO_MPTCP` cut to eight bits, as the kernel expects besides the attribute.
        Family::Tcp | Family::Tcp6 | Family::Mptcp | Family::Mptcp6 => 6,
        Family::Udp | Family::Udp6 => 17,
        Family::Dccp | Family::Dccp6 => 33,
        Family::Sctp | Family::Sctp6 => 132,
        Family::UdpLite | Family::UdpLite6 => 136,
        Family::Raw | Family::Raw6 => 255,
        // There is no ping_diag.
        _ => return None,
    };
    let version = if family.is_v6() { AF_INET6 } else { AF_INET };
    let mut bytes = words_behind([version, protocol, 0, 0], &[ALL_STATES]);
    bytes.extend([0; SOCKET_ID]);
    if matches!(family, Family::Mptcp | Family::Mptcp6) {
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(INET_DIAG_REQ_PROTOCOL.to_ne_bytes());
        bytes.extend(IPPROTO_MPTCP.to_ne_bytes());
    }
    Some(bytes)
}

/// The socket that an answer to [`request`] for `family` tells of.
///
/// # Errors
/// When it is too short or of another family.
pub fn parse(family: Family, netns: u64, body: &[u8]) -> Result<Socket, Malformed> {
    let socket = match family {
        Family::Unix => unix(body),
        Family::Packet => packet(body),
        Family::Netlink => netlink(body),
        family => inet(family, body),
    };
    socket
        .map(|socket| Socket { netns, ..socket })
        .ok_or(Malformed)
}

fn blank(family: Family, address: Address) -> Socket {
    Socket {
        family,
        netns: 0,
        inode: 0,
        state: state_name(0),
        uid: None,
        interface: None,
        rx_queue: None,
        tx_queue: None,
        timer: None,
        cgroup_id: None,
        cookie: None,
        address,
        source: Source::SockDiag,
    }
}

/// `struct inet_diag_msg`.
fn inet(family: Family, body: &[u8]) -> Option<Socket> {
    let mut reader = Reader::new(body);
    let version = reader.u8()?;
    if version != if family.is_v6() { AF_INET6 } else { AF_INET } {
        return None;
    }
    let (state, timer, retransmits) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let (local_port, remote_port) = (reader.be16()?, reader.be16()?);
    let (local, remote) = (reader.array()?, reader.array()?);
    let interface = reader.u32()?;
    let cookie = cookie(&mut reader)?;
    let (expires_ms, rx_queue, tx_queue) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (uid, inode) = (reader.u32()?, reader.u32()?);
    let raw = matches!(family, Family::Raw | Family::Raw6);
    let port = |port: u16| if raw { 0 } else { port };
    let mut socket = Socket {
        inode: u64::from(inode),
        state: state_name(state),
        uid: known_uid(inode, uid),
        interface: (interface != 0).then_some(interface),
        rx_queue: Some(rx_queue),
        tx_queue: Some(tx_queue),
        timer: timer_name(u32::from(timer)).map(|kind| Timer {
            kind,
            expires_ms,
            retransmits: retransmits.into(),
        }),
        cookie,
        ..blank(
            family,
            Address::Inet {
                local: SocketAddr::new(ip(family, local), port(local_port)),
                remote: SocketAddr::new(ip(family, remote), port(remote_port)),
                // The port of a raw socket is its protocol.
                protocol: u8::try_from(local_port).ok().filter(|_| raw),
            },
        )
    };
    for (kind, value) in Attributes::new(reader.rest()) {
        match (kind, value, &mut socket.address) {
            (INET_DIAG_CGROUP_ID, id, _) => socket.cgroup_id = u64_of(id),
            (INET_DIAG_PROTOCOL, [number], Address::Inet { protocol, .. }) if raw => {
                *protocol = Some(*number)
            }
            _ => {}
        }
    }
    Some(socket)
}

/// What waits for its end or its begin has no inode, and 0 for a user that is not known.
fn known_uid(inode: u32, uid: u32) -> Option<u32> {
    (inode != 0 || uid != 0).then_some(uid)
}

fn ip(family: Family, address: [u8; 16]) -> IpAddr {
    if family.is_v6() {
        Ipv6Addr::from(address).into()
    } else {
        let [a, b, c, d, ..] = address;
        Ipv4Addr::new(a, b, c, d).into()
    }
}

/// Two words, the low one first (`sock_diag_save_cookie`).
fn cookie(reader: &mut Reader<'_>) -> Option<Option<u64>> {
    let (low, high) = (reader.u32()?, reader.u32()?);
    let cookie = u64::from(high) << 32 | u64::from(low);
    Some((cookie != 0).then_some(cookie))
}

/// `struct unix_diag_msg`.
fn unix(body: &[u8]) -> Option<Socket> {
    let mut reader = Reader::new(body);
    let (AF_UNIX, kind, state, _) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?) else {
        return None;
    };
    let inode = reader.u32()?;
    let cookie = cookie(&mut reader)?;
    let (mut path, mut peer_inode, mut file) = (None, None, None);
    let (mut queues, mut uid) = (None, None);
    for (attribute, value) in Attributes::new(reader.rest()) {
        match attribute {
            UNIX_DIAG_NAME => path = Some(unix_name(value).into()),
            UNIX_DIAG_VFS => file = pair(value),
            UNIX_DIAG_PEER => peer_inode = u32_of(value).map(u64::from),
            UNIX_DIAG_RQLEN => queues = pair(value),
            UNIX_DIAG_UID => uid = u32_of(value),
            _ => {}
        }
    }
    let address = Address::Unix {
        kind: kind_name(kind.into()),
        path,
        peer_inode,
        file,
    };
    let (rx_queue, tx_queue) = queues.unzip();
    Some(Socket {
        inode: u64::from(inode),
        state: state_name(state),
        uid,
        rx_queue,
        tx_queue,
        cookie,
        ..blank(Family::Unix, address)
    })
}

/// Names of the abstract namespace are all of their bytes; paths end at the NUL that the kernel keeps behind them.
fn unix_name(bytes: &[u8]) -> &[u8] {
    if bytes.first() == Some(&0) {
        return bytes;
    }
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn pair(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut reader = Reader::new(bytes);
    Some((reader.u32()?, reader.u32()?))
}

/// `struct packet_diag_msg`.
fn packet(body: &[u8]) -> Option<Socket> {
    let mut reader = Reader::new(body);
    let (AF_PACKET, kind, protocol) = (reader.u8()?, reader.u8()?, reader.u16()?) else {
        return None;
    };
    let inode = reader.u32()?;
    let cookie = cookie(&mut reader)?;
    let (mut interface, mut uid, mut running, mut filter) = (None, None, None, None);
    for (attribute, value) in Attributes::new(reader.rest()) {
        match attribute {
            // `struct packet_diag_info`: the index comes first, the flags sixth.
            PACKET_DIAG_INFO => {
                interface = value.get(..4).and_then(u32_of).filter(|index| *index != 0);
                running = value
                    .get(20..24)
                    .and_then(u32_of)
                    .map(|flags| flags & PDI_RUNNING != 0);
            }
            PACKET_DIAG_UID => uid = u32_of(value),
            PACKET_DIAG_FILTER if !value.is_empty() && value.len() <= MAX_FILTER => {
                filter = Some(value.into())
            }
            _ => {}
        }
    }
    let address = Address::Packet {
        kind: kind_name(kind.into()),
        protocol,
        running,
        filter,
    };
    Some(Socket {
        inode: u64::from(inode),
        state: state_name(7),
        interface,
        uid,
        cookie,
        ..blank(Family::Packet, address)
    })
}

/// `struct netlink_diag_msg`.
fn netlink(body: &[u8]) -> Option<Socket> {
    let mut reader = Reader::new(body);
    let (AF_NETLINK, _, protocol, state) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?)
    else {
        return None;
    };
    let (port_id, _to_port, _to_group) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let inode = reader.u32()?;
    let cookie = cookie(&mut reader)?;
    let mut groups = 0;
    for (attribute, value) in Attributes::new(reader.rest()) {
        if attribute == NETLINK_DIAG_GROUPS {
            // An array of `unsigned long`; the families of today have fewer than 64 groups.
            groups = value
                .get(..8)
                .and_then(u64_of)
                .or_else(|| u32_of(value).map(u64::from))
                .unwrap_or(0);
        }
    }
    // `enum` of `net/netlink/af_netlink.h`.
    let state = if state == 1 {
        state_name(1)
    } else {
        state_name(7)
    };
    let address = Address::Netlink {
        protocol,
        port_id,
        groups,
    };
    Some(Socket {
        inode: u64::from(inode),
        state,
        cookie,
        ..blank(Family::Netlink, address)
    })
}

#[cfg(test)]
mod tests;
