//! Questions about eBPF objects: bpf(2). Nothing is loaded, attached, pinned or changed.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::detached::own;

/// Length of `union bpf_attr` here: what is behind the part that a command knows has to be zero.
const ATTRIBUTES: usize = 128;
/// Length of the answers: longer than `struct bpf_prog_info`, the longest there is (232 bytes in Linux 6.12).
const INFO: usize = 320;
/// `BPF_OBJ_GET_INFO_BY_FD`, `enum bpf_cmd`, `include/uapi/linux/bpf.h`.
const GET_INFO: libc::c_long = 15;

/// A kind of object that has ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfKind {
    Program,
    Map,
    Link,
    Types,
}

impl BpfKind {
    /// `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`.
    fn commands(self) -> (libc::c_long, libc::c_long) {
        match self {
            Self::Program => (11, 13),
            Self::Map => (12, 14),
            Self::Link => (31, 30),
            Self::Types => (23, 19),
        }
    }

    /// The lowest id above `after`; `None` when there is none.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN; EINVAL when this kernel has no such objects; ENOSYS without bpf(2).
    pub fn next(self, after: u32) -> Result<Option<u32>, Errno> {
        let mut attributes = [0; ATTRIBUTES];
        put(&mut attributes, 0, &after.to_ne_bytes());
        match bpf(self.commands().0, &mut attributes) {
            Ok(_) => Ok(Some(number(&attributes, 4))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the object `id`.
    ///
    /// # Errors
    /// ENOENT when it is gone.
    pub fn open(self, id: u32) -> Result<BpfObject, Errno> {
        let mut attributes = [0; ATTRIBUTES];
        put(&mut attributes, 0, &id.to_ne_bytes());
        own(bpf(self.commands().1, &mut attributes)?).map(BpfObject)
    }
}

/// Memory that the kernel is to fill, and where the answer's structure has its address and its count.
#[derive(Debug)]
pub struct BpfSpace {
    /// Offset of the address, 64 bits.
    pub address: usize,
    /// Offset of the count, 32 bits.
    pub count: usize,
    /// Bytes that one of the count stands for.
    pub unit: usize,
    pub bytes: Vec<u8>,
}

/// An eBPF object that is held open.
#[derive(Debug)]
pub struct BpfObject(OwnedFd);

impl BpfObject {
    /// The structure that describes it, as long as this kernel has it. `spaces` are filled as far as the counts in the
    /// answer say, at most to their end.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn info(&self, spaces: &mut [BpfSpace]) -> Result<Vec<u8>, Errno> {
        let mut info = [0; INFO];
        for space in spaces.iter_mut() {
            let units = space.bytes.len() / space.unit.max(1);
            let count = u32::try_from(units).map_err(|_| Errno::E2BIG)?;
            put(
                &mut info,
                space.address,
                &(space.bytes.as_mut_ptr().addr() as u64).to_ne_bytes(),
            );
            put(&mut info, space.count, &count.to_ne_bytes());
            // The address leaves Rust here; the kernel writes behind it.
            let _ = space.bytes.as_mut_ptr().expose_provenance();
        }
        let mut attributes = [0; ATTRIBUTES];
        let address = info.as_mut_ptr().expose_provenance() as u64;
        put(&mut attributes, 0, &self.0.as_raw_fd().to_ne_bytes());
        put(&mut attributes, 4, &(INFO as u32).to_ne_bytes());
        put(&mut attributes, 8, &address.to_ne_bytes());
        bpf(GET_INFO, &mut attributes)?;
        let length = usize::try_from(number(&attributes, 4)).unwrap_or(INFO);
        Ok(info.get(..length.min(INFO)).unwrap_or_default().to_vec())
    }
}

fn bpf(command: libc::c_long, attributes: &mut [u8; ATTRIBUTES]) -> Result<libc::c_long, Errno> {
    // SAFETY: the attributes are valid for their length. Of the commands used here one alone has addresses in them: that of
    // a zeroed structure whose only addresses are those of `BpfSpace`s, each valid for the count beside it.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), ATTRIBUTES)
    })
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let end = offset.saturating_add(value.len());
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(value);
    }
}

fn number(bytes: &[u8], offset: usize) -> u32 {
    let found = bytes.get(offset..offset.saturating_add(4));
    found
        .and_then(|found| found.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}
