//! Dumps of netfilter's parts over netlink: `include/uapi/linux/netfilter/nfnetlink.h`.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use crate::capture::sockets::netlink::Channel;

/// Length of `struct nfgenmsg`; all zero asks for all families.
pub const HEAD: usize = 4;
/// Most messages of one answer.
const MOST: usize = 1 << 18;

/// A socket in the network namespace of this thread; `None` when the kernel has no netfilter.
///
/// # Errors
/// The kernel's error.
pub fn open() -> Result<Option<Channel>, String> {
    match Channel::open(SockProtocol::NetlinkNetFilter) {
        Ok(channel) => Ok(Some(channel)),
        Err(Errno::EPROTONOSUPPORT) => Ok(None),
        Err(errno) => Err(format!("{errno:?}")),
    }
}

/// What comes to the question `get` (the number of the answer is one below), as long as there is `room` for its bytes; and
/// what is wrong with it.
pub fn dump(channel: &mut Channel, get: u16, room: &mut usize) -> (Vec<Vec<u8>>, Option<String>) {
    let mut messages = Vec::new();
    let mut truncated = false;
    let result = channel.dump(get, &[0; HEAD], |kind, body| {
        truncated = messages.len() >= MOST || body.len() > *room;
        if kind == get - 1 && !truncated {
            *room -= body.len();
            messages.push(body.to_vec());
        }
        !truncated
    });
    let wrong = match result {
        Ok(_) if truncated => Some("truncated".to_owned()),
        Ok(dump) if dump.interrupted => Some("interrupted".to_owned()),
        Ok(dump) if dump.damaged > 0 => Some("malformed".to_owned()),
        Ok(_) => None,
        // nfnetlink without this part.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => None,
        Err(errno) => Some(format!("{errno:?}")),
    };
    (messages, wrong)
}

/// `NFPROTO_*`, `include/uapi/linux/netfilter.h`.
pub fn family(number: u8) -> String {
    match number {
        1 => "inet".to_owned(),
        2 => "ip".to_owned(),
        3 => "arp".to_owned(),
        5 => "netdev".to_owned(),
        7 => "bridge".to_owned(),
        10 => "ip6".to_owned(),
        other => other.to_string(),
    }
}
