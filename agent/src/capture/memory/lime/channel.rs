//! How bytes come from the module: a pipe of ours, or a port of this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use evidence::frame::RAW_BYTES;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::LimeFailure;
use crate::host::{Loading, Pipe};

/// What is gathered before it goes on: a frame, which then is not copied. A pipe that holds as much is nearly as fast as a
/// socket.
pub const PIECE: usize = RAW_BYTES;
const POLL_MS: u16 = 100;
/// How long a module that has not opened its path yet is waited for before the path goes.
const OPENING: Duration = Duration::from_secs(5);

/// A way for bytes.
pub enum Channel {
    Pipe(Pipe),
    Port {
        number: u16,
        socket: Option<TcpStream>,
    },
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Bytes(usize),
    /// Nothing within a tenth of a second.
    Nothing,
    /// The other side has closed it.
    End,
}

impl Channel {
    /// A pipe without a name, which nobody else can open.
    ///
    /// # Errors
    /// When there is none.
    pub fn unnamed() -> Result<Self, LimeFailure> {
        Pipe::unnamed(PIECE)
            .map(Self::Pipe)
            .map_err(LimeFailure::rig)
    }

    /// A FIFO in memory, for modules that do not take the other one.
    ///
    /// # Errors
    /// When there is none.
    pub fn named() -> Result<Self, LimeFailure> {
        Pipe::named(PIECE).map(Self::Pipe).map_err(LimeFailure::rig)
    }

    /// A port that is free now: if somebody takes it before LiME does, LiME says so.
    ///
    /// # Errors
    /// When there is none.
    pub fn port() -> Result<Self, LimeFailure> {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(LimeFailure::rig)?;
        Ok(Self::Port {
            number: probe.local_addr().map_err(LimeFailure::rig)?.port(),
            socket: None,
        })
    }

    /// What the module is told.
    pub fn parameters(&self) -> String {
        let path = match self {
            Self::Pipe(pipe) => format!("path={}", pipe.path().display()),
            Self::Port { number, .. } => format!("path=tcp:{number} localhostonly=1"),
        };
        format!("{path} format=lime timeout=0")
    }

    /// Whether the module has opened its side.
    fn is_open(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.write.is_none(),
            Self::Port { socket, .. } => socket.is_some(),
        }
    }

    /// Reads what is there into `room`.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn read(&mut self, room: &mut [u8]) -> Result<Heard, Errno> {
        if let Self::Port { number, socket } = self
            && socket.is_none()
        {
            *socket = connect(*number);
        }
        let fd = match self {
            Self::Pipe(pipe) => pipe.read.as_ref().map(AsFd::as_fd),
            Self::Port { socket, .. } => socket.as_ref().map(AsFd::as_fd),
        };
        let heard = match fd {
            Some(fd) => read_some(fd, room)?,
            None => {
                std::thread::sleep(Duration::from_millis(POLL_MS.into()));
                Heard::Nothing
            }
        };
        // The module has the pipe open now: with ours closed, its end is the end.
        if let (Self::Pipe(pipe), Heard::Bytes(_)) = (self, heard) {
            pipe.write = None;
        }
        Ok(heard)
    }

    /// Reads no more, so that a dump that still runs ends. What the module was told to open stays until it has opened it
    /// or given up: after that the same path could be anybody's.
    pub fn let_go(&mut self, loading: &Loading<'_>) {
        let until = Instant::now() + OPENING;
        let mut scratch = [0; 4096];
        while !self.is_open() && !loading.is_over() && Instant::now() < until {
            if self.read(&mut scratch).is_err() {
                break;
            }
        }
        match self {
            Self::Pipe(pipe) => pipe.read = None,
            Self::Port { socket, .. } => *socket = None,
        }
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket =
        TcpStream::connect_timeout(&address, Duration::from_millis(POLL_MS.into())).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// Reads what is there, and waits for it only when there is nothing.
fn read_some(fd: BorrowedFd<'_>, room: &mut [u8]) -> Result<Heard, Errno> {
    let mut read = nix::unistd::read(fd, &mut *room);
    if read == Err(Errno::EAGAIN) {
        let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
        read = match poll(&mut polled, PollTimeout::from(POLL_MS)) {
            Ok(_) => nix::unistd::read(fd, room),
            Err(errno) => Err(errno),
        };
    }
    match read {
        Ok(0) => Ok(Heard::End),
        Ok(got) => Ok(Heard::Bytes(got)),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(Heard::Nothing),
        Err(errno) => Err(errno),
    }
}
