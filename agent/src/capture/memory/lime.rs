//! LiME: a kernel module that writes physical memory into a pipe of ours while it is being loaded.
//!
//! The call that loads it returns when the dump is over, so one thread loads and this one reads. It is always given
//! `timeout=0` (after a second without a reader LiME goes on with zeros) and never `digest=` (a third of the speed, and
//! no protection from that). Whatever happens, it is unloaded again, and both are recorded as changes of the host.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use evidence::lime::{LimeError, Piece, Range, Walker};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::image::Image;
use super::physical::Physical;
use super::zeros;
use crate::capture::{CaptureError, Halt};
use crate::host::{Host, Loading, Pipe};

/// The module's name, once it is loaded.
pub const NAME: &str = "lime";
/// What it reads and writes at once; a pipe as large as this is nearly as fast as a socket.
const PIECE: usize = 1 << 20;
/// Silence after which LiME is taken to hang, as it did on old Xen hosts.
const SILENCE: Duration = Duration::from_secs(120);
const POLL_MS: u16 = 100;

/// Why LiME gave no image.
#[derive(Debug, thiserror::Error)]
pub enum LimeFailure {
    #[error("{}", refusal(*.0))]
    Refused(Errno),
    #[error("a pipe, a port or a thread can not be made: {0}")]
    Rig(String),
    #[error("it was loaded and wrote nothing")]
    Nothing,
    #[error("what it wrote is not its format: {0}")]
    Format(#[from] LimeError),
    #[error("it wrote nothing for {} seconds and was given up", SILENCE.as_secs())]
    Silent,
    #[error("reading from it failed: {0}")]
    Read(Errno),
}

/// What the kernel means by an errno of finit_module(2) (measured with LiME 1.9.1).
fn refusal(errno: Errno) -> String {
    let meaning = match errno {
        Errno::EINVAL => "LiME takes not the parameters that it was given",
        Errno::EEXIST => "a module of this name is loaded already",
        Errno::EADDRINUSE => "the port is in use",
        Errno::ENOENT => {
            "the pipe's path can not be opened, or a symbol that the module needs is not there"
        }
        Errno::EISDIR => "the pipe's path is a directory",
        Errno::ENOEXEC => {
            "the module was built for another kernel: a symbol has another version, or the file is damaged"
        }
        Errno::EKEYREJECTED | Errno::ENOKEY => {
            "the kernel takes only modules that are signed with a key it knows (module.sig_enforce, Secure Boot)"
        }
        Errno::EPERM => {
            "the kernel loads no such module: lockdown, kernel.modules_disabled, or CAP_SYS_MODULE is missing"
        }
        Errno::EBUSY => "the kernel is busy with a module of this name",
        _ => "the kernel does not load the module",
    };
    format!("{meaning} ({errno:?})")
}

/// How bytes come from the module.
enum Way {
    Pipe(Pipe),
    Port(u16),
}

impl Way {
    /// The ways that are tried, one after the other.
    fn all(over_port: bool) -> &'static [fn() -> Result<Self, LimeFailure>] {
        match over_port {
            true => &[Self::port],
            false => &[
                || Ok(Self::Pipe(Pipe::unnamed(PIECE).map_err(rig)?)),
                || Ok(Self::Pipe(Pipe::named(PIECE).map_err(rig)?)),
            ],
        }
    }

    fn port() -> Result<Self, LimeFailure> {
        // Free now: if somebody takes it before LiME does, LiME says so.
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(rig)?;
        Ok(Self::Port(probe.local_addr().map_err(rig)?.port()))
    }

    fn parameters(&self) -> String {
        let path = match self {
            Self::Pipe(pipe) => format!("path={}", pipe.path().display()),
            Self::Port(port) => format!("path=tcp:{port} localhostonly=1"),
        };
        format!("{path} format=lime timeout=0")
    }
}

fn rig(error: impl std::fmt::Display) -> LimeFailure {
    LimeFailure::Rig(error.to_string())
}

/// Loads `module`, writes what it dumps to `image`, unloads it. `ranges` is what has to come.
///
/// # Errors
/// The outer error ends the artifact; the inner one says why this way gave nothing.
pub fn capture(
    host: &Host,
    module: &[u8],
    over_port: bool,
    ranges: &[Range],
    image: &mut Image<'_, '_>,
) -> Result<Result<(), LimeFailure>, CaptureError> {
    let mut failure = LimeFailure::Nothing;
    for way in Way::all(over_port) {
        let loaded = way().and_then(|way| {
            let loading = host.load_module(NAME, module, &way.parameters());
            Ok((way, loading.map_err(rig)?))
        });
        let dumped = match loaded {
            Ok((way, loading)) => {
                let dumped = dump(way, loading, ranges, Physical::kcore(host).ok(), image);
                host.unload_module(NAME);
                dumped?
            }
            Err(failure) => Err(failure),
        };
        match dumped {
            // The pipe's path, not the module, is what the kernel did not take: the next one has another.
            Err(LimeFailure::Refused(Errno::ENOENT | Errno::EACCES | Errno::ENXIO))
            | Err(LimeFailure::Nothing | LimeFailure::Rig(_)) => {
                failure = dumped.err().unwrap_or(failure)
            }
            dumped => return Ok(dumped),
        }
    }
    Ok(Err(failure))
}

/// Reads what a module dumps while it is being loaded.
fn dump(
    mut way: Way,
    loading: Loading,
    ranges: &[Range],
    check: Option<Physical>,
    image: &mut Image<'_, '_>,
) -> Result<Result<(), LimeFailure>, CaptureError> {
    let mut dump = Dump {
        walker: Walker::default(),
        expected: ranges,
        check,
        image,
    };
    let read = dump.read(&mut way, &loading);
    // Nobody reads any more: a dump that still runs ends with an error of its own.
    drop(way);
    let loaded = loading.end();
    dump.end(read, loaded)
}

/// What is read from LiME, and judged as it comes.
struct Dump<'d, 'a, 'b> {
    walker: Walker,
    expected: &'d [Range],
    /// A second look, to tell memory that is zero from memory that was not read.
    check: Option<Physical>,
    image: &'d mut Image<'a, 'b>,
}

/// How reading ended.
enum End {
    /// The module closed its side.
    Closed,
    Failed(LimeFailure),
    Halted(Halt),
}

impl Dump<'_, '_, '_> {
    fn read(&mut self, way: &mut Way, loading: &Loading) -> End {
        let mut socket = None;
        let mut buffer = vec![0; PIECE];
        let (mut filled, mut heard) = (0, Instant::now());
        loop {
            if let Err(halt) = self.image.sink().check() {
                return self.flush(buffer, filled, End::Halted(halt));
            }
            if let (Way::Port(port), None) = (&*way, &socket) {
                socket = connect(*port);
            }
            let fd = match (&*way, &socket) {
                (Way::Pipe(pipe), _) => Some(pipe.read.as_fd()),
                (Way::Port(_), socket) => socket.as_ref().map(AsFd::as_fd),
            };
            let room = buffer.get_mut(filled..).unwrap_or_default();
            match fd.map(|fd| read_some(fd, room)).unwrap_or_else(pause) {
                Ok(Some(0)) => return self.flush(buffer, filled, End::Closed),
                Ok(Some(got)) => {
                    // The module has the pipe open now: with ours closed, its end is the end.
                    if let Way::Pipe(pipe) = way {
                        pipe.write = None;
                    }
                    (filled, heard) = (filled + got, Instant::now());
                    if filled == PIECE {
                        match self.take(buffer, filled) {
                            Ok(next) => (buffer, filled) = (next, 0),
                            Err(end) => return end,
                        }
                    }
                }
                Ok(None) if loading.is_over() && socket.is_none() && filled == 0 => {
                    // It ended without ever opening the pipe or the port.
                    if !matches!(way, Way::Pipe(pipe) if pipe.write.is_none()) {
                        return End::Closed;
                    }
                }
                Ok(None) if heard.elapsed() >= SILENCE => {
                    return self.flush(buffer, filled, End::Failed(LimeFailure::Silent));
                }
                Ok(None) => {}
                Err(errno) => {
                    return self.flush(buffer, filled, End::Failed(LimeFailure::Read(errno)));
                }
            }
        }
    }

    /// Gives what is in the buffer to the image before reading ends.
    fn flush(&mut self, buffer: Vec<u8>, filled: usize, end: End) -> End {
        match self.take(buffer, filled) {
            Ok(_) => end,
            Err(other) => other,
        }
    }

    /// Looks at the first `filled` bytes and hands those that are right to the image.
    fn take(&mut self, mut buffer: Vec<u8>, filled: usize) -> Result<Vec<u8>, End> {
        let judged = self.judge(buffer.get(..filled).unwrap_or_default());
        let (right, failure) = match judged {
            Ok(()) => (filled, None),
            Err((right, end)) => (right, Some(end)),
        };
        buffer.truncate(right);
        let mut next = self.image.write(buffer).map_err(End::Halted)?;
        next.resize(PIECE, 0);
        failure.map_or(Ok(next), Err)
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<(), (usize, End)> {
        let mut rest = bytes;
        loop {
            let before = bytes.len() - rest.len();
            match self.walker.step(&mut rest) {
                Ok(Some(Piece::Start(range))) => {
                    let ended = self.image.start(range);
                    let judged = ended.and_then(|ended| self.judge_range(ended));
                    judged.map_err(|halt| (before, End::Halted(halt)))?;
                }
                Ok(Some(Piece::Bytes { bytes, .. })) => self.image.content(bytes),
                Ok(None) => return Ok(()),
                Err(error) => return Err((before, End::Failed(error.into()))),
            }
        }
    }

    /// Looks again at a range that ends with many zeros.
    fn judge_range(&mut self, ended: Option<super::image::RangeRecord>) -> Result<(), Halt> {
        if let Some(record) = ended
            && let Some(why) = zeros::suspicion(&record, self.check.as_ref())
        {
            self.image.sink().loss(why);
        }
        Ok(())
    }

    fn end(
        &mut self,
        read: End,
        loaded: Result<(), Errno>,
    ) -> Result<Result<(), LimeFailure>, CaptureError> {
        let ended = self.image.end();
        ended.and_then(|ended| self.judge_range(ended))?;
        let nothing = self.walker.ranges().is_empty();
        match (read, loaded) {
            (End::Halted(halt), _) => Err(halt.into()),
            (_, Err(errno)) if nothing => Ok(Err(LimeFailure::Refused(errno))),
            (End::Failed(failure), _) => Ok(Err(failure)),
            (End::Closed, _) if nothing => Ok(Err(LimeFailure::Nothing)),
            (End::Closed, _) => {
                self.compare();
                Ok(Ok(()))
            }
        }
    }

    /// Each header against the range of `/proc/iomem` that it stands for.
    fn compare(&mut self) {
        let ranges = self.walker.ranges().to_vec();
        let missing = self
            .expected
            .iter()
            .filter(|range| !ranges.contains(range))
            .count();
        (0..missing).for_each(|_| self.image.sink().loss("missing:range"));
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(POLL_MS.into())).ok()
}

/// What a descriptor has, within a tenth of a second: `None` when that is nothing yet.
fn read_some(fd: std::os::fd::BorrowedFd<'_>, room: &mut [u8]) -> Result<Option<usize>, Errno> {
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::from(POLL_MS)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(errno) => return Err(errno),
    }
    match nix::unistd::read(fd, room) {
        Ok(got) => Ok(Some(got)),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn pause() -> Result<Option<usize>, Errno> {
    std::thread::sleep(Duration::from_millis(POLL_MS.into()));
    Ok(None)
}

#[cfg(test)]
mod tests;
