//! The texts below `/proc/PID/net` that list sockets (proc_net(5)): what is left when the kernel is not asked over netlink.
//!
//! They tell less: no cookie, no cgroup, no other end of a unix socket, no filter of a packet socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::model::{Address, Family, Socket, Source, Timer, kind_name, state_name, timer_name};

/// `__SO_ACCEPTCON`: a unix socket that listens.
const ACCEPTS: u32 = 0x1_0000;
/// Timers are told in `USER_HZ`: hundredths of a second.
const TICK_MS: u32 = 10;

/// The sockets that the text `bytes` of `family` lists, at most `most`; each line that makes no sense is counted.
pub fn parse(family: Family, netns: u64, bytes: &[u8], most: usize) -> Parsed {
    let mut parsed = Parsed::default();
    // The first line names the columns.
    for line in bytes
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
    {
        if parsed.sockets.len() >= most {
            parsed.truncated = true;
            break;
        }
        match socket(family, line) {
            Some(socket) => parsed.sockets.push(Socket { netns, ..socket }),
            None if family == Family::Unix => parsed.continued(line),
            None => parsed.malformed += 1,
        }
    }
    parsed
}

/// The sockets of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub sockets: Vec<Socket>,
    pub malformed: u64,
    pub truncated: bool,
}

impl Parsed {
    /// The path of a unix socket may contain newlines, which the kernel does not escape. A path that holds a whole false
    /// line can not be told from a true one; its inode then belongs to no descriptor.
    fn continued(&mut self, line: &[u8]) {
        match self.sockets.last_mut().map(|socket| &mut socket.address) {
            Some(Address::Unix {
                path: Some(path), ..
            }) => *path = [path, &b"\n"[..], line].concat().into(),
            _ => self.malformed += 1,
        }
    }
}

fn socket(family: Family, line: &[u8]) -> Option<Socket> {
    match family {
        Family::Unix => unix(line),
        Family::Packet => packet(line),
        Family::Netlink => netlink(line),
        family => inet(family, line),
    }
}

fn blank(family: Family, address: Address) -> Socket {
    Socket {
        family,
        netns: 0,
        inode: 0,
        state: state_name(7),
        uid: None,
        interface: None,
        rx_queue: None,
        tx_queue: None,
        timer: None,
        cgroup_id: None,
        cookie: None,
        address,
        source: Source::Proc,
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &str> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map_while(|word| std::str::from_utf8(word).ok())
}

fn hex(word: &str) -> Option<u32> {
    // `from_str_radix` takes a sign, the kernel writes none.
    u32::from_str_radix(word, 16)
        .ok()
        .filter(|_| !word.starts_with('+'))
}

/// `sl local remote st tx:rx tr:when retransmits uid timeout inode ...` (`get_tcp4_sock`, `net/ipv4/tcp_ipv4.c`).
fn inet(family: Family, line: &[u8]) -> Option<Socket> {
    let mut words = words(line);
    words.next()?.strip_suffix(':')?;
    let ((local, local_port), (remote, remote_port)) =
        (end(family, words.next()?)?, end(family, words.next()?)?);
    let state = u8::try_from(hex(words.next()?)?).ok()?;
    let (tx_queue, rx_queue) = words.next()?.split_once(':')?;
    let (timer, when) = words.next()?.split_once(':')?;
    let retransmits = hex(words.next()?)?;
    let uid: u32 = words.next()?.parse().ok()?;
    let inode: u64 = words.nth(1)?.parse().ok()?;
    let expires_ms = hex(when)?.saturating_mul(TICK_MS);
    let raw = matches!(family, Family::Raw | Family::Raw6);
    let port = |port: u16| if raw { 0 } else { port };
    let address = Address::Inet {
        local: SocketAddr::new(local, port(local_port)),
        remote: SocketAddr::new(remote, port(remote_port)),
        // The port of a raw socket is its protocol.
        protocol: u8::try_from(local_port).ok().filter(|_| raw),
    };
    Some(Socket {
        inode,
        state: state_name(state),
        uid: (inode != 0 || uid != 0).then_some(uid),
        rx_queue: Some(hex(rx_queue)?),
        tx_queue: Some(hex(tx_queue)?),
        timer: timer_name(hex(timer)?).map(|kind| Timer {
            kind,
            expires_ms,
            retransmits,
        }),
        ..blank(family, address)
    })
}

/// `ADDRESS:PORT`. The address is in words of 32 bits that are printed as numbers, so their bytes are in the host's order.
fn end(family: Family, word: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = word.split_once(':')?;
    let port = u16::try_from(hex(port)?).ok()?;
    let word = |index: usize| hex(address.get(index * 8..index * 8 + 8)?).map(u32::to_ne_bytes);
    if !family.is_v6() {
        let ip = Ipv4Addr::from(word(0)?);
        return (address.len() == 8).then_some((ip.into(), port));
    }
    let mut bytes = [0; 16];
    for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(index)?);
    }
    (address.len() == 32).then_some((Ipv6Addr::from(bytes).into(), port))
}

/// `POINTER: references protocol flags type state inode path` (`unix_seq_show`, `net/unix/af_unix.c`).
fn unix(line: &[u8]) -> Option<Socket> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_ascii_start();
        let end = rest
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        std::str::from_utf8(word).ok()
    };
    let pointer = word()?.strip_suffix(':')?;
    u64::from_str_radix(pointer, 16).ok()?;
    let (_references, _protocol) = (hex(word()?)?, hex(word()?)?);
    let (flags, kind, state) = (hex(word()?)?, hex(word()?)?, hex(word()?)?);
    let inode = word()?.parse().ok()?;
    // A single space stands before the path.
    let path = rest.get(1..).filter(|path| !path.is_empty()).map(unix_name);
    // `enum socket_state`, `include/uapi/linux/net.h`: 2 and 3 are connected ones.
    let state = match state {
        _ if flags & ACCEPTS != 0 => state_name(10),
        2 | 3 => state_name(1),
        _ => state_name(7),
    };
    let address = Address::Unix {
        kind: kind_name(kind),
        path,
        peer_inode: None,
        file: None,
    };
    Some(Socket {
        inode,
        state,
        ..blank(Family::Unix, address)
    })
}

/// `@` stands for NUL. A relative path that starts with `@` looks the same as a name of the abstract namespace.
fn unix_name(path: &[u8]) -> Box<[u8]> {
    match path.strip_prefix(b"@") {
        Some(name) => [b"\0", name].concat().into(),
        None => path.into(),
    }
}

/// `pointer references type protocol interface running memory uid inode` (`packet_seq_show`, `net/packet/af_packet.c`).
fn packet(line: &[u8]) -> Option<Socket> {
    let mut words = words(line).skip(2);
    let kind = words.next()?.parse().ok()?;
    let protocol = u16::try_from(hex(words.next()?)?).ok()?;
    let interface: u32 = words.next()?.parse().ok()?;
    let running = words.next()? != "0";
    let rx_queue = words.next()?.parse().ok()?;
    let uid = words.next()?.parse().ok()?;
    let inode = words.next()?.parse().ok()?;
    let address = Address::Packet {
        kind: kind_name(kind),
        protocol,
        running: Some(running),
        filter: None,
    };
    Some(Socket {
        inode,
        uid: Some(uid),
        interface: (interface != 0).then_some(interface),
        rx_queue: Some(rx_queue),
        ..blank(Family::Packet, address)
    })
}

/// `pointer protocol port groups rmem wmem dump locks drops inode` (`netlink_native_seq_show`,
/// `net/netlink/af_netlink.c`). Kernels before 5.8 tell the port with a sign.
fn netlink(line: &[u8]) -> Option<Socket> {
    let mut words = words(line).skip(1);
    let protocol = words.next()?.parse().ok()?;
    let port_id = words.next()?;
    let port_id = port_id
        .parse()
        .ok()
        .or_else(|| port_id.parse().ok().map(i32::cast_unsigned))?;
    let groups = hex(words.next()?)?.into();
    let rx_queue = words.next()?.parse().ok();
    let tx_queue = words.next()?.parse().ok();
    let inode = words.nth(3)?.parse().ok()?;
    let address = Address::Netlink {
        protocol,
        port_id,
        groups,
    };
    Some(Socket {
        inode,
        rx_queue,
        tx_queue,
        ..blank(Family::Netlink, address)
    })
}

#[cfg(test)]
mod tests;
