//! Physical memory by its addresses, through a file of the kernel's. A page that can not be read is zeros, and told.

use std::cell::RefCell;

use evidence::frame::RAW_BYTES;
use evidence::lime::Range;
use nix::errno::Errno;

use super::kcore::{HEAD_BYTES, KcoreError, Layout};
use crate::host::{Asked, Host, HostError, HostFile};

/// Bytes of a page: the unit in which memory is given up.
pub const PAGE: u64 = 4096;

/// Bytes that could not be read: the image has zeros there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub address: u64,
    pub bytes: u64,
}

/// Why memory can not be read this way.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Host(#[from] HostError),
    #[error("{0}")]
    Kcore(#[from] KcoreError),
    #[error("it shows none of memory")]
    Nothing,
}

/// A file that has physical memory.
pub struct Physical<'h> {
    host: &'h Host,
    open: fn(&Host) -> Result<HostFile, HostError>,
    /// The file, opened as often as pieces were read at one time. Each opening is for one read alone: the kernel copies kcore
    /// through one page of it, without a lock (fs/proc/kcore.c), and two reads would get each other's bytes.
    idle: RefCell<Vec<HostFile>>,
    /// Where memory stands in it; without one the offset is the address.
    layout: Option<Layout>,
    vmcoreinfo: Option<Vec<u8>>,
}

impl<'h> Physical<'h> {
    /// `/proc/kcore`.
    ///
    /// # Errors
    /// As the kernel says, or when its headers can not be used.
    pub fn kcore(host: &'h Host) -> Result<Self, OpenError> {
        let open = |host: &Host| host.kernels_own("proc/kcore");
        let file = open(host)?;
        let head = file.read_at(0, HEAD_BYTES, Vec::new())?;
        let layout = Layout::parse(&head)?;
        Ok(Self {
            vmcoreinfo: layout.vmcoreinfo(&head).map(<[u8]>::to_vec),
            layout: Some(layout),
            host,
            open,
            idle: RefCell::new(vec![file]),
        })
    }

    /// `/dev/crash`, which kernels of the RHEL family have (drivers/char/crash.c there): one read never crosses a page.
    ///
    /// # Errors
    /// As the kernel says; ENOENT as well when the kernel knows no such device: another one of that name may do anything.
    pub fn crash(host: &'h Host) -> Result<Self, OpenError> {
        let open = |host: &Host| {
            let number = host.kernels_own("sys/devices/virtual/misc/crash/dev")?;
            let text = number.read_at(0, 64, Vec::new())?;
            let device = device_number(&text).ok_or(HostError::Os(Errno::ENXIO))?;
            host.root().open_device("dev/crash", device)
        };
        Ok(Self {
            idle: RefCell::new(vec![open(host)?]),
            host,
            open,
            layout: None,
            vmcoreinfo: None,
        })
    }

    /// Whether there is anything to be had: a page at the start, in the middle or at the end of one of the ranges.
    ///
    /// # Errors
    /// When there is not.
    pub fn probe(&self, ranges: &[Range]) -> Result<(), OpenError> {
        for range in ranges {
            let pages = range.len() / PAGE;
            for page in [0, pages / 2, pages.saturating_sub(1)] {
                let mut holes = Vec::new();
                let address = range.first() + page * PAGE;
                self.read(address, PAGE as usize, Vec::new(), &mut holes)?;
                if holes.is_empty() {
                    return Ok(());
                }
            }
        }
        Err(OpenError::Nothing)
    }

    /// The ranges that the file shows, where it says so.
    pub fn ram(&self) -> Option<Vec<Range>> {
        self.layout.as_ref().map(Layout::ram)
    }

    /// The kernel's VMCOREINFO, where the file has it.
    pub fn vmcoreinfo(&self) -> Option<&[u8]> {
        self.vmcoreinfo.as_deref()
    }

    /// Exactly `want` bytes from `address`, in the memory of `buffer`; what could not be read is added to `holes`.
    ///
    /// # Errors
    /// When nothing more can be read at all.
    pub fn read(
        &self,
        address: u64,
        want: usize,
        buffer: Vec<u8>,
        holes: &mut Vec<Hole>,
    ) -> Result<Vec<u8>, HostError> {
        self.ask(address, want, buffer)?.answer(holes)
    }

    /// As [`Physical::read`], while the caller goes on.
    ///
    /// # Errors
    /// When nothing more can be read at all.
    pub fn ask(
        &self,
        address: u64,
        want: usize,
        buffer: Vec<u8>,
    ) -> Result<AskedPiece<'_>, HostError> {
        let idle = self.idle.borrow_mut().pop();
        let file = idle.map_or_else(|| (self.open)(self.host), Ok)?;
        let place = self
            .layout
            .as_ref()
            .and_then(|layout| layout.locate(address));
        let whole = match place {
            Some((offset, follow)) if follow >= want as u64 => {
                Some(file.ask_at(offset, want, buffer)?)
            }
            _ => None,
        };
        Ok(AskedPiece {
            physical: self,
            file,
            address,
            want,
            whole,
        })
    }

    /// Up to `want` bytes within one page.
    fn page(&self, file: &HostFile, address: u64, want: usize) -> Result<Vec<u8>, HostError> {
        let place = match &self.layout {
            None => Some((address, want as u64)),
            Some(layout) => layout.locate(address),
        };
        let Some((offset, follow)) = place else {
            return Ok(Vec::new());
        };
        let want = want.min(usize::try_from(follow).unwrap_or(want));
        or_nothing(file.read_at(offset, want, Vec::new()))
    }
}

/// A piece of memory that is being read.
pub struct AskedPiece<'p> {
    physical: &'p Physical<'p>,
    file: HostFile,
    address: u64,
    want: usize,
    /// Where the file has all of it in one place; what it does not have is read page by page.
    whole: Option<Asked<Vec<u8>>>,
}

impl AskedPiece<'_> {
    /// What is missing when there is no answer.
    pub fn as_hole(&self) -> Hole {
        Hole {
            address: self.address,
            bytes: self.want as u64,
        }
    }

    /// All of its bytes; what could not be read is zeros, and added to `holes`.
    ///
    /// # Errors
    /// When nothing more can be read at all.
    pub fn answer(self, holes: &mut Vec<Hole>) -> Result<Vec<u8>, HostError> {
        let mut bytes = match self.whole {
            Some(asked) => or_nothing(asked.answer())?,
            None => Vec::with_capacity(self.want),
        };
        while bytes.len() < self.want {
            let at = self.address + bytes.len() as u64;
            let to_page = usize::try_from(PAGE - at % PAGE).unwrap_or(self.want);
            let now = to_page.min(self.want - bytes.len());
            let piece = self.physical.page(&self.file, at, now)?;
            let short = now - piece.len();
            bytes.extend_from_slice(&piece);
            if short > 0 {
                bytes.resize(bytes.len() + short, 0);
                tell(holes, at + piece.len() as u64, short as u64);
            }
        }
        // Not where an answer did not come: that read may still be under way.
        self.physical.idle.borrow_mut().push(self.file);
        Ok(bytes)
    }
}

/// How many of `left` bytes are read at once: those of a frame, which then is not copied.
pub fn piece(left: u64) -> usize {
    usize::try_from(left).unwrap_or(RAW_BYTES).min(RAW_BYTES)
}

/// An error of the page, such as EFAULT or EIO, is no bytes; one of the file is an error.
fn or_nothing(result: Result<Vec<u8>, HostError>) -> Result<Vec<u8>, HostError> {
    match result {
        Err(HostError::Os(errno)) if !matches!(errno, Errno::EPERM | Errno::EACCES) => {
            Ok(Vec::new())
        }
        result => result,
    }
}

/// `major:minor`, as sysfs writes it.
fn device_number(text: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(text).ok()?.trim_end().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn tell(holes: &mut Vec<Hole>, address: u64, bytes: u64) {
    match holes.last_mut() {
        Some(last) if last.address + last.bytes == address => last.bytes += bytes,
        _ => holes.push(Hole { address, bytes }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// A core file with memory at these places: physical address and content.
    pub(crate) fn core_file(path: &std::path::Path, memory: &[(u64, &[u8])]) {
        let file = std::fs::File::create(path).unwrap();
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(64, 0);
        head[16] = 4;
        head[32] = 64;
        head[54] = 56;
        head[56] = u8::try_from(memory.len()).unwrap();
        for (index, (address, content)) in memory.iter().enumerate() {
            let offset = (index as u64 + 1) << 24;
            let size = content.len() as u64;
            let fields = [
                offset,
                0xffff_8880_0000_0000 + address,
                *address,
                size,
                size,
                4096,
            ];
            head.extend_from_slice(&1_u32.to_le_bytes());
            head.extend_from_slice(&7_u32.to_le_bytes());
            fields
                .iter()
                .for_each(|field| head.extend_from_slice(&field.to_le_bytes()));
            file.write_all_at(content, offset).unwrap();
        }
        file.write_all_at(&head, 0).unwrap();
    }

    #[test]
    fn holes_between_segments_are_zeros_and_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let (low, high) = ([7; 8192], [9; 4096]);
        core_file(
            &root.path().join("proc/kcore"),
            &[(0x1000, &low), (0x5000, &high)],
        );
        let host = Host::open(root.path()).unwrap();
        let physical = Physical::kcore(&host).unwrap();
        let mut holes = Vec::new();
        let got = physical
            .read(0x1000, 0x5c00, Vec::new(), &mut holes)
            .unwrap();
        let want = [low.as_slice(), &[0; 8192], &high, &[0; 0xc00]].concat();
        assert!(got == want);
        let hole = |address, bytes| Hole { address, bytes };
        assert_eq!(holes, [hole(0x3000, 0x2000), hole(0x6000, 0xc00)]);
        let whole = physical.read(0x1800, 100, got, &mut holes).unwrap();
        assert_eq!((whole, holes.len()), (vec![7; 100], 2));
    }

    #[test]
    fn each_of_two_pieces_that_are_read_at_once_has_the_file_for_itself() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let content = [[7; 4096], [9; 4096]].concat();
        core_file(&root.path().join("proc/kcore"), &[(0x1000, &content)]);
        let host = Host::open(root.path()).unwrap();
        let physical = Physical::kcore(&host).unwrap();
        for _ in 0..2 {
            let asked = [0x1000, 0x2000].map(|at| physical.ask(at, 4096, Vec::new()).unwrap());
            assert!(physical.idle.borrow().is_empty());
            let bytes = asked.map(|piece| piece.answer(&mut Vec::new()).unwrap());
            assert_eq!(bytes.concat(), content);
            assert_eq!(physical.idle.borrow().len(), 2);
        }
    }

    #[test]
    fn a_file_without_memory_is_told_before_it_is_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        core_file(&root.path().join("proc/kcore"), &[(0x10_0000, &[7; 8192])]);
        let host = Host::open(root.path()).unwrap();
        let physical = Physical::kcore(&host).unwrap();
        let range = |first, last| Range::new(first, last).unwrap();
        assert!(physical.probe(&[range(0x10_0000, 0x10_1fff)]).is_ok());
        let elsewhere = physical.probe(&[range(0x1000, 0x9fff)]);
        assert!(matches!(elsewhere, Err(OpenError::Nothing)));
        assert_eq!(physical.ram(), Some(vec![range(0x10_0000, 0x10_1fff)]));
    }

    #[test]
    fn no_device_is_opened_that_the_kernel_does_not_call_by_this_name() {
        let host = Host::open(std::path::Path::new("/")).unwrap();
        let null = host.root().open_device("dev/null", (1, 5));
        assert!(matches!(null, Err(HostError::NotAFile(_))));
        assert!(host.root().open_device("dev/null", (1, 3)).is_ok());
        assert_eq!(device_number(b"10:61\n"), Some((10, 61)));
        assert_eq!(device_number(b"10"), None);
    }

    #[test]
    fn a_file_that_ends_early_leaves_holes_not_an_end() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let path = root.path().join("proc/kcore");
        core_file(&path, &[(0x1000, &[7; 8192])]);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len((1 << 24) + 5000)
            .unwrap();
        let host = Host::open(root.path()).unwrap();
        let mut holes = Vec::new();
        let physical = Physical::kcore(&host).unwrap();
        let got = physical.read(0x1000, 8192, Vec::new(), &mut holes).unwrap();
        assert_eq!(got.iter().filter(|byte| **byte == 7).count(), 5000);
        assert_eq!(
            holes,
            [Hole {
                address: 0x1000 + 5000,
                bytes: 8192 - 5000
            }]
        );
    }
}
