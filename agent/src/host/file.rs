//! A regular file of the host, read in pieces that each have a deadline.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek, read};

use super::open::SYSFS_MAGIC;
use super::{Asked, Courier, Foreign, HostError, Stat, sys};

/// Size of the pieces, in bytes.
pub(crate) const PIECE: usize = 1 << 20;

/// Largest file that is read while it is opened, in bytes: most are no larger, and each call costs two switches of threads.
const SMALL: usize = 64 << 10;

/// Hole that ends what is taken of a sparse file, in bytes.
const LARGE_HOLE: u64 = 64 << 20;
/// First read of a small file, in bytes: most of `/proc` fits.
const FIRST: usize = 16 << 10;

/// Part of a process's memory that the kernel refused: address, bytes, why.
pub type Refused = (u64, usize, Errno);

/// An open regular file.
pub struct HostFile {
    fd: Arc<OwnedFd>,
    stat: Stat,
    courier: Arc<Courier>,
    small: Option<Box<Small>>,
}

/// A small file that was read while it was opened.
pub(super) struct Small {
    /// Its content, until it is asked for.
    content: Option<Vec<u8>>,
    /// Its size after that, in bytes.
    size: u64,
    /// When that was, in nanoseconds since the epoch.
    at_ns: i64,
}

impl Small {
    /// Reads the file behind `fd` when it is small; otherwise, or when that fails, whoever asks for its content does.
    pub(super) fn read(fd: &OwnedFd, stat: &Stat) -> Option<Self> {
        let most = usize::try_from(stat.size)
            .ok()
            .filter(|size| (1..=SMALL).contains(size))?;
        let mut content = vec![0; most];
        let (filled, error) = fill(fd, &mut content, 0);
        if error.is_some() {
            return None;
        }
        content.truncate(filled);
        Some(Self {
            content: Some(content),
            size: sys::stat(fd.as_fd(), c"", false).ok()?.size,
            at_ns: sys::clocks().utc_ns,
        })
    }
}

impl HostFile {
    pub(super) fn new(fd: OwnedFd, stat: Stat, courier: Arc<Courier>) -> Self {
        Self {
            fd: Arc::new(fd),
            stat,
            courier,
            small: None,
        }
    }

    /// With the content that was read on the way, if it was.
    pub(super) fn with(self, small: Option<Small>) -> Self {
        Self {
            small: small.map(Box::new),
            ..self
        }
    }

    /// Metadata when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// When it was read, in nanoseconds since the epoch, if that was when it was opened.
    pub fn read_at_ns(&self) -> Option<i64> {
        self.small.as_ref().map(|small| small.at_ns)
    }

    /// Whether the kernel makes it up, as all of `/proc` and `/sys`.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn is_made_up(&self) -> Result<bool, HostError> {
        let fd = Arc::clone(&self.fd);
        let kind = self
            .courier
            .call(move || Ok(fstatfs(&*fd)?.filesystem_type()))?;
        Ok(matches!(kind, PROC_SUPER_MAGIC | SYSFS_MAGIC))
    }

    /// All of it from where reading stands, when that is not more than `cap` bytes.
    ///
    /// # Errors
    /// [`HostError::TooMuch`] when it is; otherwise as the kernel says.
    pub fn whole(&self, cap: usize) -> Result<Vec<u8>, HostError> {
        let fd = Arc::clone(&self.fd);
        let bytes = self.courier.call(move || read_up_to(&fd, cap + 1))?;
        match bytes.len() > cap {
            true => Err(HostError::TooMuch),
            false => Ok(bytes),
        }
    }

    /// Size after it was read, in bytes: logs grow meanwhile.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn size_now(&self) -> Result<u64, HostError> {
        if let Some(small) = &self.small {
            return Ok(small.size);
        }
        let fd = Arc::clone(&self.fd);
        self.courier
            .call(move || Ok(sys::stat(fd.as_fd(), c"", false)?.size))
    }

    /// Where the first data at or after `offset` is: sparse files are mostly holes. `None` when only holes follow.
    ///
    /// # Errors
    /// When the answer did not come in time.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, HostError> {
        match self.seek(offset, Whence::SeekData)? {
            Ok(start) => Ok(Some(start)),
            Err(Errno::ENXIO) => Ok(None),
            // A file system that knows no holes: all of it is data.
            Err(_) => Ok((offset < self.stat.size).then_some(offset)),
        }
    }

    /// Where the data at `offset` ends; the end of the file where no holes are known.
    ///
    /// # Errors
    /// When the answer did not come in time.
    pub fn next_hole(&self, offset: u64) -> Result<u64, HostError> {
        let hole = self.seek(offset, Whence::SeekHole)?.ok();
        // It must move on, whatever the file system says.
        Ok(hole.filter(|hole| *hole > offset).unwrap_or(self.stat.size))
    }

    /// Asks for a place in the file; reading goes on from the start.
    fn seek(&self, offset: u64, whence: Whence) -> Result<Result<u64, Errno>, HostError> {
        let fd = Arc::clone(&self.fd);
        let from = i64::try_from(offset).unwrap_or(i64::MAX);
        self.courier.call(move || {
            let place = lseek(&*fd, from, whence).map(|place| u64::try_from(place).unwrap_or(0));
            lseek(&*fd, 0, Whence::SeekSet)?;
            Ok(place)
        })
    }

    /// Bytes up to the first large hole, or all of them: what can be read without reading zeros that nobody wrote.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn dense_size(&self) -> Result<u64, HostError> {
        let size = self.stat.size;
        if self.stat.allocated >= size || self.small.is_some() {
            return Ok(size);
        }
        let mut end = 0;
        loop {
            let next = self.next_data(end)?.unwrap_or(size);
            if next.saturating_sub(end) > LARGE_HOLE {
                return Ok(end);
            }
            if next >= size {
                return Ok(size);
            }
            end = self.next_hole(next)?;
        }
    }

    /// Up to `want` bytes from `offset`, wherever reading stands, in the memory of `bytes`.
    ///
    /// # Errors
    /// As the kernel says of the first byte: what came before an error is an answer.
    pub fn read_at(&self, offset: u64, want: usize, bytes: Vec<u8>) -> Result<Vec<u8>, HostError> {
        self.ask_at(offset, want, bytes)?.answer()
    }

    /// As [`HostFile::read_at`], while the caller goes on.
    ///
    /// # Errors
    /// As [`Courier::ask`].
    pub fn ask_at(
        &self,
        offset: u64,
        want: usize,
        mut bytes: Vec<u8>,
    ) -> Result<Asked<Vec<u8>>, HostError> {
        let fd = Arc::clone(&self.fd);
        self.courier.ask(move || {
            bytes.resize(want, 0);
            match fill(&fd, &mut bytes, offset) {
                (0, Some(errno)) => Err(errno.into()),
                (filled, _) => {
                    bytes.truncate(filled);
                    Ok(bytes)
                }
            }
        })
    }

    /// Exactly `want` bytes of the memory of a process from `address`, in the memory of `bytes`: pages that the kernel
    /// refuses are zeros, and listed.
    ///
    /// # Errors
    /// ESRCH when there is no such memory any more; otherwise when it did not come in time.
    pub fn read_pages(
        &self,
        address: u64,
        want: usize,
        page: usize,
        mut bytes: Vec<u8>,
    ) -> Result<(Vec<u8>, Vec<Refused>), HostError> {
        let fd = Arc::clone(&self.fd);
        self.courier.call(move || {
            bytes.resize(want, 0);
            let (mut filled, mut refused) = (0, Vec::new());
            while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
                let at = i64::try_from(address + filled as u64).map_err(|_| Errno::EINVAL)?;
                match pread(&*fd, room, at) {
                    // What a memory without users answers: the process ended, or runs another program.
                    Ok(0) => return Err(Errno::ESRCH.into()),
                    Ok(got) => filled += got,
                    Err(Errno::EINTR) => {}
                    Err(errno) => {
                        let end = (filled + 1).next_multiple_of(page).min(want);
                        let lost = bytes.get_mut(filled..end).unwrap_or_default();
                        lost.fill(0);
                        refused.push((address + filled as u64, end - filled, errno));
                        filled = end;
                    }
                }
            }
            Ok((bytes, refused))
        })
    }

    /// Whether it answers from somewhere else, or from a program: a network or user-space file system.
    ///
    /// # Errors
    /// When the answer did not come in time.
    pub fn is_foreign(&self) -> Result<bool, HostError> {
        let fd = Arc::clone(&self.fd);
        let kind = self
            .courier
            .call(move || Ok(fstatfs(&*fd)?.filesystem_type()))?;
        Ok(Foreign::kind_of(kind).is_some())
    }

    /// The next piece of at most `want` bytes, in the memory of `buffer`; empty at the end of the file.
    ///
    /// # Errors
    /// As the kernel says, or when the piece did not come in time.
    pub fn read(&mut self, mut buffer: Vec<u8>, want: usize) -> Result<Vec<u8>, HostError> {
        if let Some(small) = &mut self.small {
            let content = small.content.take().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(content.get(..want).unwrap_or(&content));
            small.content = content.get(want..).map(<[u8]>::to_vec);
            return Ok(buffer);
        }
        let fd = Arc::clone(&self.fd);
        self.courier.call(move || {
            // A buffer that comes back full is not cleared first: that would cost as much as the copy.
            buffer.resize(want.min(PIECE), 0);
            let mut filled = 0;
            while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
                match read(&*fd, room) {
                    Ok(0) => break,
                    Ok(got) => filled += got,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            buffer.truncate(filled);
            Ok(buffer)
        })
    }
}

/// Fills `bytes` from `offset`, up to the end of the file or an error: how many there are, and the error.
fn fill(fd: &OwnedFd, bytes: &mut [u8], offset: u64) -> (usize, Option<Errno>) {
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        let at = i64::try_from(offset + filled as u64).unwrap_or(i64::MAX);
        match pread(fd, room, at) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(Errno::EINTR) => {}
            Err(errno) => return (filled, Some(errno)),
        }
    }
    (filled, None)
}

/// Up to `cap` bytes, in memory that is not larger than it has to be: thousands of small files are held at once.
pub(super) fn read_up_to(fd: &OwnedFd, cap: usize) -> Result<Vec<u8>, HostError> {
    let mut bytes = vec![0; FIRST.min(cap)];
    let mut filled = 0;
    while filled < cap {
        if filled == bytes.len() {
            bytes.resize((2 * filled).min(cap), 0);
        }
        match read(fd, bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(filled);
    bytes.shrink_to_fit();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Host;
    use super::*;

    #[test]
    fn streams_hold_every_byte_whatever_the_size() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::open(root.path()).unwrap();
        for size in [0, 1, FIRST, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
            let want: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            std::fs::write(root.path().join("file"), &want).unwrap();
            let mut file = host.root().open("file").unwrap();
            let (mut got, mut piece) = (Vec::new(), Vec::new());
            loop {
                piece = file.read(piece, usize::MAX).unwrap();
                if piece.is_empty() {
                    break;
                }
                got.extend_from_slice(&piece);
            }
            assert!(got == want, "{size} bytes");
            assert_eq!(host.root().read("file", size).unwrap().bytes, want);
        }
    }

    #[test]
    fn caps_cut_and_say_so() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "12345").unwrap();
        let host = Host::open(root.path()).unwrap();
        let cut = host.root().read("file", 3).unwrap();
        assert_eq!(
            (cut.bytes.as_slice(), cut.truncated),
            (b"123".as_slice(), true)
        );
        assert!(
            !host.root().read("file", 5).unwrap().truncated,
            "all of it is there"
        );
        let whole = |cap| host.root().open("file").unwrap().whole(cap);
        assert_eq!(whole(5).unwrap(), b"12345");
        assert_eq!(whole(4), Err(HostError::TooMuch));
    }

    #[test]
    fn small_holes_are_read_and_large_ones_end_the_file() {
        use std::os::unix::fs::FileExt;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sparse");
        let file = std::fs::File::create(&path).unwrap();
        let size = |root: &std::path::Path| {
            let mut file = Host::open(root).unwrap().root().open("sparse").unwrap();
            let size = file.dense_size().unwrap();
            assert_eq!(
                file.read(Vec::new(), 4).unwrap(),
                b"data",
                "reading starts at the start"
            );
            size
        };
        file.write_all_at(b"data", 0).unwrap();
        file.write_all_at(b"more", 1 << 20).unwrap();
        assert_eq!(size(root.path()), (1 << 20) + 4);
        file.set_len(1 << 40).unwrap();
        let dense = size(root.path());
        assert!(((1 << 20) + 4..=2 << 20).contains(&dense), "{dense}");
    }

    #[test]
    fn sparse_files_are_read_by_their_data() {
        use std::os::unix::fs::FileExt;
        let root = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(root.path().join("sparse")).unwrap();
        file.write_all_at(b"data", 1 << 40).unwrap();
        let file = Host::open(root.path())
            .unwrap()
            .root()
            .open("sparse")
            .unwrap();
        let start = file.next_data(0).unwrap().unwrap();
        assert!(start > (1 << 40) - (1 << 20) && start <= 1 << 40, "{start}");
        assert_eq!(file.read_at(1 << 40, 100, Vec::new()).unwrap(), b"data");
        assert_eq!(file.next_data((1 << 40) + 5000).unwrap(), None);
        assert_eq!(
            file.dense_size().unwrap(),
            0,
            "nothing but a hole comes first"
        );
    }
}
