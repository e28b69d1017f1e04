//! Questions to the kernel over netlink(7), each with a deadline. Only dumps are asked for: nothing is ever set.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

use super::bytes::Reader;

/// How long the kernel may take for the next piece of an answer.
const PIECE_DEADLINE_S: i64 = 2;
/// How long a whole answer may take.
const DUMP_DEADLINE: Duration = Duration::from_secs(20);
/// Largest datagram, in bytes. The kernel fills 32 KiB at most, unless a single message is larger.
const BUFFER: usize = 256 << 10;

/// `struct nlmsghdr`, `include/uapi/linux/netlink.h`.
const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// What can be said of an answer besides its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// The kernel says that things changed while it answered: something may be missing or there twice.
    pub interrupted: bool,
    /// Datagrams that were larger than our memory for them, or whose lengths make no sense.
    pub damaged: u32,
}

/// A netlink socket in the network namespace of the thread that opened it.
pub struct Channel {
    fd: OwnedFd,
    protocol: SockProtocol,
    buffer: Vec<u8>,
    sequence: u32,
    /// Whether an answer was left unread: the kernel takes no second question then.
    unread: bool,
}

/// What a message means for the dump.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Item(u16, &'a [u8]),
    /// The end, in peace.
    Done,
    Failed(Errno),
    /// Not for us.
    Other,
}

impl Channel {
    /// Opens a socket.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(protocol: SockProtocol) -> Result<Self, Errno> {
        Ok(Self {
            fd: connect(protocol)?,
            protocol,
            buffer: vec![0; BUFFER],
            sequence: 0,
            unread: false,
        })
    }

    /// Asks for all there is of `kind`; `each` gets type and body of each message and says whether it wants more.
    ///
    /// # Errors
    /// The kernel's error; EAGAIN or ETIMEDOUT when it did not answer in time.
    pub fn dump(
        &mut self,
        kind: u16,
        request: &[u8],
        mut each: impl FnMut(u16, &[u8]) -> bool,
    ) -> Result<Dump, Errno> {
        if self.unread {
            self.fd = connect(self.protocol)?;
        }
        self.sequence += 1;
        self.unread = true;
        send(
            self.fd.as_raw_fd(),
            &message(kind, self.sequence, request),
            MsgFlags::empty(),
        )?;
        let started = Instant::now();
        let mut dump = Dump::default();
        loop {
            if started.elapsed() > DUMP_DEADLINE {
                return Err(Errno::ETIMEDOUT);
            }
            let Some(length) = self.receive(&mut dump)? else {
                continue;
            };
            let mut datagram = Reader::new(self.buffer.get(..length).unwrap_or_default());
            while !datagram.rest().is_empty() {
                let Some((flags, message)) = next(&mut datagram, self.sequence) else {
                    dump.damaged += 1;
                    break;
                };
                dump.interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match message {
                    Message::Item(kind, body) if !each(kind, body) => return Ok(dump),
                    Message::Item(..) | Message::Other => {}
                    Message::Done => {
                        self.unread = false;
                        return Ok(dump);
                    }
                    Message::Failed(errno) => return Err(errno),
                }
            }
        }
    }

    /// Length of the next datagram of the kernel; `None` when it came from somewhere else.
    fn receive(&mut self, dump: &mut Dump) -> Result<Option<usize>, Errno> {
        let mut pieces = [IoSliceMut::new(&mut self.buffer)];
        let received = loop {
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut pieces, None, MsgFlags::empty())
            {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        // A process may send to our port too; the kernel's own port is 0.
        let from_kernel = received.address.is_some_and(|from| from.pid() == 0);
        dump.damaged += u32::from(from_kernel && received.flags.contains(MsgFlags::MSG_TRUNC));
        Ok(from_kernel.then_some(received.bytes))
    }
}

fn connect(protocol: SockProtocol) -> Result<OwnedFd, Errno> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    setsockopt(&fd, ReceiveTimeout, &TimeVal::new(PIECE_DEADLINE_S, 0))?;
    Ok(fd)
}

fn message(kind: u16, sequence: u32, request: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + request.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + request.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(request);
    bytes
}

/// The next message of a datagram and its flags; `None` when its length makes no sense.
pub fn next<'a>(datagram: &mut Reader<'a>, sequence: u32) -> Option<(u16, Message<'a>)> {
    let length = usize::try_from(datagram.u32()?).ok()?;
    let (kind, flags) = (datagram.u16()?, datagram.u16()?);
    let (answered, _port) = (datagram.u32()?, datagram.u32()?);
    let body = datagram.take(length.checked_sub(HEADER)?)?;
    let padding = length.next_multiple_of(4) - length;
    datagram.take(padding.min(datagram.rest().len()))?;
    let status = || Reader::new(body).u32().map(u32::cast_signed);
    let message = match kind {
        _ if answered != sequence => Message::Other,
        NLMSG_NOOP => Message::Other,
        NLMSG_ERROR => ended(status()?),
        // The status behind it is newer than the message; without one all is well.
        NLMSG_DONE => ended(status().unwrap_or(0)),
        NLMSG_OVERRUN => Message::Failed(Errno::EOVERFLOW),
        kind => Message::Item(kind, body),
    };
    Some((flags, message))
}

fn ended(status: i32) -> Message<'static> {
    match status {
        0.. => Message::Done,
        negative => Message::Failed(Errno::from_raw(negative.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = message(kind, sequence, body);
        bytes[6..8].copy_from_slice(&NLM_F_DUMP_INTR.to_ne_bytes());
        bytes
    }

    #[test]
    fn errors_ends_and_strangers_are_told_apart() {
        let minus_two = (-2_i32).to_ne_bytes();
        for (bytes, want) in [
            (datagram(20, 7, b"body"), Message::Item(20, b"body")),
            (datagram(20, 6, b"body"), Message::Other),
            (datagram(NLMSG_NOOP, 7, b""), Message::Other),
            (datagram(NLMSG_DONE, 7, b""), Message::Done),
            (datagram(NLMSG_DONE, 7, &[0; 4]), Message::Done),
            (
                datagram(NLMSG_DONE, 7, &minus_two),
                Message::Failed(Errno::ENOENT),
            ),
            (
                datagram(NLMSG_ERROR, 7, &minus_two),
                Message::Failed(Errno::ENOENT),
            ),
            (
                datagram(NLMSG_ERROR, 7, &i32::MIN.to_ne_bytes()),
                Message::Failed(Errno::UnknownErrno),
            ),
            (
                datagram(NLMSG_OVERRUN, 7, b""),
                Message::Failed(Errno::EOVERFLOW),
            ),
        ] {
            let mut reader = Reader::new(&bytes);
            assert_eq!(next(&mut reader, 7), Some((NLM_F_DUMP_INTR, want)));
            assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn a_cut_or_lying_message_ends_the_datagram() {
        let bytes = datagram(20, 7, b"body");
        for cut in 0..bytes.len() {
            assert_eq!(next(&mut Reader::new(&bytes[..cut]), 7), None);
        }
        let mut lying = bytes.clone();
        lying[0] = 8;
        assert_eq!(
            next(&mut Reader::new(&lying), 7),
            None,
            "shorter than its header"
        );
        assert_eq!(
            next(&mut Reader::new(&datagram(NLMSG_ERROR, 7, b"")), 7),
            None
        );
    }

    #[test]
    fn the_kernel_answers_and_refuses() {
        let mut channel = Channel::open(SockProtocol::NetlinkRoute).unwrap();
        let mut links = 0;
        // RTM_GETLINK with `struct ifinfomsg`.
        let asked = channel.dump(18, &[0; 16], |kind, _| {
            links += u32::from(kind == 16);
            true
        });
        assert!(asked.is_ok() && links > 0, "{asked:?}");
        let refused = channel.dump(0x7FFF, &[0; 16], |_, _| true);
        assert!(refused.is_err(), "{refused:?}");
    }
}
