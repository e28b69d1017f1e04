//! A regular file of the host, read in pieces that each have a deadline.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek, read};

use super::{Courier, HostError, Stat, sys};

/// Size of the pieces, in bytes.
pub(crate) const PIECE: usize = 1 << 20;

/// First read of a small file, in bytes: most of `/proc` fits.
const FIRST: usize = 16 << 10;

/// An open regular file.
pub struct HostFile {
    fd: Arc<OwnedFd>,
    stat: Stat,
    courier: Arc<Courier>,
}

impl HostFile {
    pub(super) fn new(fd: OwnedFd, stat: Stat, courier: Arc<Courier>) -> Self {
        Self {
            fd: Arc::new(fd),
            stat,
            courier,
        }
    }

    /// Metadata when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Size now, in bytes: logs grow while they are read.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn size_now(&self) -> Result<u64, HostError> {
        use std::os::fd::AsFd;
        let fd = Arc::clone(&self.fd);
        self.courier
            .call(move || Ok(sys::stat(fd.as_fd(), c"", false)?.size))
    }

    /// Where the first data at or after `offset` is: sparse files are mostly holes. `None` when only holes follow.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, HostError> {
        let fd = Arc::clone(&self.fd);
        let size = self.stat.size;
        self.courier.call(move || {
            match lseek(
                &*fd,
                i64::try_from(offset).unwrap_or(i64::MAX),
                Whence::SeekData,
            ) {
                Ok(start) => Ok(u64::try_from(start).ok()),
                Err(Errno::ENXIO) => Ok(None),
                // A file system that knows no holes: all of it is data.
                Err(_) => Ok((offset < size).then_some(offset)),
            }
        })
    }

    /// Up to `want` bytes from `offset`, wherever reading stands.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn read_at(&self, offset: u64, want: usize) -> Result<Vec<u8>, HostError> {
        let fd = Arc::clone(&self.fd);
        self.courier.call(move || {
            let mut bytes = vec![0; want];
            let mut filled = 0;
            while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
                let at = i64::try_from(offset + filled as u64).unwrap_or(i64::MAX);
                match pread(&*fd, room, at) {
                    Ok(0) => break,
                    Ok(got) => filled += got,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        })
    }

    /// The next piece of at most `want` bytes, in the memory of `buffer`; empty at the end of the file.
    ///
    /// # Errors
    /// As the kernel says, or when the piece did not come in time.
    pub fn read(&mut self, mut buffer: Vec<u8>, want: usize) -> Result<Vec<u8>, HostError> {
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
        assert_eq!(file.read_at(1 << 40, 100).unwrap(), b"data");
        assert_eq!(file.next_data((1 << 40) + 5000).unwrap(), None);
    }
}
