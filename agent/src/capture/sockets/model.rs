//! Sockets as plain data, whichever way the kernel told of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What a socket speaks, and over which version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Tcp,
    Tcp6,
    Udp,
    Udp6,
    UdpLite,
    UdpLite6,
    Raw,
    Raw6,
    /// `SOCK_DGRAM` with `IPPROTO_ICMP`: ping without privileges.
    Icmp,
    Icmp6,
    /// Multipath TCP; its subflows are among [`Family::Tcp`], without an owner.
    Mptcp,
    Mptcp6,
    Sctp,
    Sctp6,
    Dccp,
    Dccp6,
    Unix,
    Packet,
    Netlink,
}

impl Family {
    /// All of them, in the order in which they are asked for: what changes fastest first.
    pub const ALL: &[Self] = &[
        Self::Tcp,
        Self::Tcp6,
        Self::Udp,
        Self::Udp6,
        Self::Raw,
        Self::Raw6,
        Self::Icmp,
        Self::Icmp6,
        Self::UdpLite,
        Self::UdpLite6,
        Self::Mptcp,
        Self::Mptcp6,
        Self::Sctp,
        Self::Sctp6,
        Self::Dccp,
        Self::Dccp6,
        Self::Packet,
        Self::Netlink,
        Self::Unix,
    ];

    /// The word in records, which is also the name of the file below `/proc/PID/net` where there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
            Self::UdpLite => "udplite",
            Self::UdpLite6 => "udplite6",
            Self::Raw => "raw",
            Self::Raw6 => "raw6",
            Self::Icmp => "icmp",
            Self::Icmp6 => "icmp6",
            Self::Mptcp => "mptcp",
            Self::Mptcp6 => "mptcp6",
            Self::Sctp => "sctp",
            Self::Sctp6 => "sctp6",
            Self::Dccp => "dccp",
            Self::Dccp6 => "dccp6",
            Self::Unix => "unix",
            Self::Packet => "packet",
            Self::Netlink => "netlink",
        }
    }

    /// Whether it is spoken over IPv6.
    pub fn is_v6(self) -> bool {
        self.name().ends_with('6')
    }

    /// Whether its sockets have addresses of IP.
    pub fn is_inet(self) -> bool {
        !matches!(self, Self::Unix | Self::Packet | Self::Netlink)
    }

    /// Whether it has a file below `/proc/PID/net` that is understood here.
    pub fn has_file(self) -> bool {
        !matches!(
            self,
            Self::Mptcp | Self::Mptcp6 | Self::Sctp | Self::Sctp6 | Self::Dccp | Self::Dccp6
        )
    }

    /// The transport, as ECS wants it for `network.transport`.
    pub fn transport(self) -> &'static str {
        self.name().trim_end_matches('6')
    }
}

/// How it was learned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `NETLINK_SOCK_DIAG`.
    SockDiag,
    /// A text below `/proc/PID/net`.
    Proc,
}

/// A socket as the kernel tells of it. What was not told is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub family: Family,
    /// Inode of its network namespace.
    pub netns: u64,
    /// Inode of the socket, as in the target of `/proc/PID/fd/N`; 0 when no descriptor stands for it.
    pub inode: u64,
    /// The kernel's name of its state in lower case, such as `established`, `listen`, `close`.
    pub state: &'static str,
    pub uid: Option<u32>,
    /// Interface that it is bound to.
    pub interface: Option<u32>,
    /// Bytes that wait to be read; connections that wait, when it listens.
    pub rx_queue: Option<u32>,
    /// Bytes that are not acknowledged; most connections that may wait, when it listens.
    pub tx_queue: Option<u32>,
    pub timer: Option<Timer>,
    /// Id of its cgroup v2, which is the inode of the cgroup's directory.
    pub cgroup_id: Option<u64>,
    /// What the kernel calls it, different for each socket since boot.
    pub cookie: Option<u64>,
    pub address: Address,
    pub source: Source,
}

/// A running timer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Timer {
    /// `retransmit`, `keepalive`, `time_wait` or `probe`.
    pub kind: &'static str,
    pub expires_ms: u32,
    pub retransmits: u32,
}

/// Which end of what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Inet {
        local: SocketAddr,
        /// All zero when it is not connected.
        remote: SocketAddr,
        /// Number of the protocol of IP, for raw sockets.
        protocol: Option<u8>,
    },
    Unix {
        /// `stream`, `dgram` or `seqpacket`.
        kind: &'static str,
        /// What it is bound to; starts with NUL when it is no file but a name of the abstract namespace.
        path: Option<Box<[u8]>>,
        /// Inode of the socket at the other end.
        peer_inode: Option<u64>,
        /// Inode and device of the file that it is bound to.
        file: Option<(u32, u32)>,
    },
    Packet {
        /// `raw`, `dgram` or `packet`.
        kind: &'static str,
        /// Ethertype, 3 (`ETH_P_ALL`) for all frames.
        protocol: u16,
        /// Whether it receives.
        running: Option<bool>,
        /// Classic BPF program that picks the frames: instructions of eight bytes (`struct sock_filter`).
        filter: Option<Box<[u8]>>,
    },
    Netlink {
        /// Number of the netlink family, such as 0 for `NETLINK_ROUTE`.
        protocol: u8,
        /// Mostly the pid of the process; 0 for the kernel's own.
        port_id: u32,
        /// Multicast groups, each bit one; the first is group 1.
        groups: u64,
    },
}

impl Socket {
    /// Local address and port; the port of a raw socket is 0.
    pub fn local(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Inet { local, .. } => Some(local),
            _ => None,
        }
    }

    /// Address and port at the other end, all zero when there is none.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Inet { remote, .. } => Some(remote),
            _ => None,
        }
    }

    /// Path or abstract name (which starts with NUL) of a unix socket.
    pub fn path(&self) -> Option<&[u8]> {
        match &self.address {
            Address::Unix { path, .. } => path.as_deref(),
            _ => None,
        }
    }

    /// Inode of the unix socket at the other end.
    pub fn peer_inode(&self) -> Option<u64> {
        match self.address {
            Address::Unix { peer_inode, .. } => peer_inode,
            _ => None,
        }
    }

    /// Protocol of IP of a raw socket, ethertype of a packet socket, family of a netlink socket.
    pub fn protocol(&self) -> Option<u16> {
        match self.address {
            Address::Inet { protocol, .. } => protocol.map(u16::from),
            Address::Packet { protocol, .. } => Some(protocol),
            Address::Netlink { protocol, .. } => Some(u16::from(protocol)),
            Address::Unix { .. } => None,
        }
    }
}

/// Name of a state of `include/net/tcp_states.h`, which all families use.
pub fn state_name(state: u8) -> &'static str {
    const NAMES: &[&str] = &[
        "unknown",
        "established",
        "syn_sent",
        "syn_recv",
        "fin_wait1",
        "fin_wait2",
        "time_wait",
        "close",
        "close_wait",
        "last_ack",
        "listen",
        "closing",
        "new_syn_recv",
        "bound_inactive",
    ];
    NAMES.get(usize::from(state)).copied().unwrap_or("unknown")
}

/// Name of a socket type of `include/linux/net.h`.
pub fn kind_name(kind: u32) -> &'static str {
    match kind {
        1 => "stream",
        2 => "dgram",
        3 => "raw",
        4 => "rdm",
        5 => "seqpacket",
        10 => "packet",
        _ => "unknown",
    }
}

/// Name of a timer of `include/uapi/linux/inet_diag.h`, `idiag_timer`; `None` when none runs.
pub fn timer_name(timer: u32) -> Option<&'static str> {
    match timer {
        0 => None,
        1 => Some("retransmit"),
        2 => Some("keepalive"),
        3 => Some("time_wait"),
        4 => Some("probe"),
        _ => Some("unknown"),
    }
}

/// A descriptor that stands for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Owner {
    pub pid: i32,
    pub fd: u32,
}

/// Descriptors of all processes that matter here.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// By inode of the socket.
    pub sockets: BTreeMap<u64, Vec<Owner>>,
    /// Descriptors that hold a network namespace open, one for each, by inode of the namespace.
    pub namespaces: BTreeMap<u64, Owner>,
    /// Processes whose descriptors could not be read, by error.
    pub failures: BTreeMap<String, u32>,
}

impl Owners {
    /// The descriptors that stand for the socket with this inode.
    pub fn of(&self, inode: u64) -> &[Owner] {
        self.sockets.get(&inode).map_or(&[], Vec::as_slice)
    }
}

/// Where a network namespace was found, and how it is entered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handle {
    /// Our own.
    Own,
    Process(i32),
    /// A thread that left the namespace of its process: pid and tid.
    Thread(i32, i32),
    /// No process lives in it, but one holds it open.
    Descriptor(Owner),
    /// No process lives in it, but it is mounted.
    Mount(std::path::PathBuf),
}

/// A family of sockets in a namespace, and how far it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FamilyScan {
    /// How the sockets were read; `None` when they were not.
    pub source: Option<Source>,
    pub sockets: u64,
    /// Why the kernel was not asked over netlink, or what it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why nothing was read, when that is a loss: an errno, or a word such as `TimedOut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The kernel says that things changed while it answered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Messages or lines that make no sense.
    #[serde(skip_serializing_if = "is_zero")]
    pub malformed: u64,
    /// Whether there were more than are kept in memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A network namespace and the sockets in it.
#[derive(Clone, Debug)]
pub struct NamespaceScan {
    /// Inode of the namespace; 0 in a recorded tree that does not say.
    pub inode: u64,
    pub handle: Handle,
    /// The process whose `/proc/PID/net` shows it, when one lives in it.
    pub pid: Option<i32>,
    /// Processes that live in it.
    pub processes: u32,
    /// Why it could not be entered.
    pub not_entered: Option<String>,
    pub families: BTreeMap<&'static str, FamilyScan>,
    pub sockets: Vec<Socket>,
}

/// All sockets of the host at about one moment.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Our own namespace first.
    pub namespaces: Vec<NamespaceScan>,
    pub owners: Owners,
    /// What could not be done for the host as a whole: the kernel's error by what was tried.
    pub failures: BTreeMap<String, String>,
}

impl Scan {
    /// The sockets of all namespaces.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.namespaces
            .iter()
            .flat_map(|namespace| &namespace.sockets)
    }

    /// Inodes that descriptors stand for but that no namespace lists: other families, such as vsock or the kernel's
    /// crypto interface; TCP sockets that are neither bound nor connected; what was opened meanwhile; sockets of a
    /// namespace that only they keep; or something that hides.
    pub fn unlisted(&self) -> impl Iterator<Item = (u64, &[Owner])> {
        let listed: std::collections::HashSet<u64> =
            self.sockets().map(|socket| socket.inode).collect();
        let all = self.owners.sockets.iter();
        all.filter(move |(inode, _)| !listed.contains(inode))
            .map(|(inode, owners)| (*inode, owners.as_slice()))
    }
}
