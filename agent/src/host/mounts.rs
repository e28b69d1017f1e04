//! File systems that answer from somewhere else, or from a program: they are named, not touched.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::FsType;

use super::{Folder, SMALL};

/// Type names of `/proc/self/mountinfo`, and magic numbers of `statfs(2)`, of network and user-space file systems.
const KINDS: &[(&str, u32)] = &[
    ("nfs", 0x6969),
    ("nfs4", 0x6969),
    ("cifs", 0xFF53_4D42),
    ("smb3", 0xFE53_4D42),
    ("fuse", 0x6573_5546),
    ("fuseblk", 0x6573_5546),
    ("ceph", 0x00C3_6400),
    ("9p", 0x0102_1997),
    ("afs", 0x5346_414F),
    ("coda", 0x7375_7245),
    ("lustre", 0x0BD0_0BD0),
    ("gfs2", 0x0116_1970),
    ("autofs", 0x0187),
    ("vboxsf", 0x786F_4256),
];

/// Mount points of such file systems.
#[derive(Debug, Default)]
pub struct Foreign(Vec<(PathBuf, String)>);

impl Foreign {
    /// The kind of file system at `path`, when it is one that is not touched.
    pub fn kind_at(&self, path: &Path) -> Option<&str> {
        self.0
            .iter()
            .find(|(mount, _)| path.starts_with(mount))
            .map(|(_, kind)| kind.as_str())
    }

    /// The mount points and their kinds.
    pub fn mounts(&self) -> &[(PathBuf, String)] {
        &self.0
    }

    pub(super) fn kind_of(magic: FsType) -> Option<&'static str> {
        let number = magic.0 as u32;
        KINDS
            .iter()
            .find(|(_, magic)| *magic == number)
            .map(|(name, _)| *name)
    }
}

pub(super) fn foreign(root: &Folder, own: i32) -> Foreign {
    let Ok(content) = root.read(format!("proc/{own}/mountinfo"), SMALL) else {
        return Foreign::default();
    };
    Foreign(
        content
            .bytes
            .split(|byte| *byte == b'\n')
            .filter_map(foreign_mount)
            .collect(),
    )
}

/// Mount points below `/proc`, each of which hides what the kernel shows there. The kernel's own is left out.
pub(super) fn over_proc(root: &Folder, own: i32) -> Vec<PathBuf> {
    let Ok(content) = root.read(format!("proc/{own}/mountinfo"), SMALL) else {
        return Vec::new();
    };
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
    let points = content.bytes.split(|byte| *byte == b'\n').filter_map(point);
    let hides =
        |point: &Vec<u8>| point.starts_with(b"/proc/") && point != b"/proc/sys/fs/binfmt_misc";
    points
        .filter(hides)
        .map(|point| PathBuf::from(std::ffi::OsString::from_vec(point)))
        .collect()
}

/// The mount point and type of a line of mountinfo, if it is foreign (proc_pid_mountinfo(5)).
fn foreign_mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let kind = String::from_utf8_lossy(kind).into_owned();
    let family = kind.split('.').next().unwrap_or_default();
    let foreign = KINDS.iter().any(|(name, _)| *name == family);
    // A mount over `/` itself would hide the whole machine from us; its files still have their own check when opened.
    (foreign && point != b"/").then(|| (PathBuf::from(std::ffi::OsString::from_vec(point)), kind))
}

/// Space, tab, newline and backslash stand as octal escapes in mountinfo.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let value = octal.map(|digits| {
            digits
                .iter()
                .fold(0_u32, |sum, d| sum * 8 + u32::from(d - b'0'))
        });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_user_space_mounts_are_found_and_local_ones_not() {
        let line = b"40 1 0:35 / /mnt/a\\040b rw,relatime shared:7 - fuse.sshfs x:/ rw";
        assert_eq!(
            foreign_mount(line),
            Some((PathBuf::from("/mnt/a b"), "fuse.sshfs".to_owned()))
        );
        assert!(foreign_mount(b"41 1 0:36 / /data rw - nfs4 srv:/data rw").is_some());
        assert!(foreign_mount(b"25 1 254:0 / /data rw,relatime - ext4 /dev/vda rw").is_none());
        assert!(foreign_mount(b"").is_none() && foreign_mount(b"1 2 3 4 5").is_none());
        let foreign = Foreign(vec![(PathBuf::from("/mnt"), "nfs".to_owned())]);
        assert_eq!(foreign.kind_at(Path::new("/mnt/x")), Some("nfs"));
        assert_eq!(foreign.kind_at(Path::new("/mnt2")), None);
    }

    #[test]
    fn only_octal_escapes_are_undone() {
        assert_eq!(unescape(b"a\\040b\\134\\"), b"a b\\\\");
        assert_eq!(unescape(b"\\777\\9"), b"\\777\\9");
    }
}
