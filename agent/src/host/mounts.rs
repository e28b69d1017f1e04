//! File systems that answer from somewhere else, or from a program: they are named, not touched.

use std::collections::BTreeMap;
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

/// File systems that the kernel makes up: what they hold is state, not files.
const MADE_UP: &[&str] = &[
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "bpf",
    "configfs",
    "hugetlbfs",
    "fusectl",
    "binfmt_misc",
    "rpc_pipefs",
    "nsfs",
    "selinuxfs",
    "efivarfs",
    "nfsd",
];

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    /// What of the file system is mounted there: `/`, or a directory in it.
    pub root: PathBuf,
    /// `major:minor`.
    pub device: String,
    /// Type of the file system.
    pub kind: String,
    pub source: String,
}

impl Mount {
    /// Whether the kernel makes up what is there.
    pub fn is_made_up(&self) -> bool {
        MADE_UP.contains(&self.kind.as_str())
    }

    /// Whether it answers from somewhere else, or from a program.
    pub fn is_foreign(&self) -> bool {
        let family = self.kind.split('.').next().unwrap_or_default();
        KINDS.iter().any(|(name, _)| *name == family)
    }

    /// Major and minor number.
    pub fn device_numbers(&self) -> Option<(u32, u32)> {
        let (major, minor) = self.device.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// A line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = String::from_utf8_lossy(fields.next()?).into_owned();
        let path = |field: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)));
        let (root, point) = (path(fields.next()?), path(fields.next()?));
        let mut after = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = String::from_utf8_lossy(after.next()?).into_owned();
        let source = after.next().map(unescape).unwrap_or_default();
        Some(Self {
            point,
            root,
            device,
            kind,
            source: String::from_utf8_lossy(&source).into_owned(),
        })
    }
}

/// What is mounted, in the order of mountinfo; empty when it can not be read.
pub(super) fn mounts(root: &Folder, own: i32) -> Vec<Mount> {
    let content = root.read(format!("proc/{own}/mountinfo"), SMALL);
    parse(&content.map(|content| content.bytes).unwrap_or_default())
}

/// The lines of mountinfo.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(Mount::parse).collect()
}

/// Such file systems: where they are mounted, and their devices.
#[derive(Debug, Default)]
pub struct Foreign {
    mounts: Vec<(PathBuf, String)>,
    devices: BTreeMap<(u32, u32), String>,
}

impl Foreign {
    /// The kind of file system at `path`, when it is one that is not touched.
    pub fn kind_at(&self, path: &Path) -> Option<&str> {
        self.mounts
            .iter()
            .find(|(mount, _)| path.starts_with(mount))
            .map(|(_, kind)| kind.as_str())
    }

    /// The kind of file system of a device, when it is one that is not touched.
    pub fn kind_on(&self, device: (u32, u32)) -> Option<&str> {
        self.devices.get(&device).map(String::as_str)
    }

    /// The mount points and their kinds.
    pub fn mounts(&self) -> &[(PathBuf, String)] {
        &self.mounts
    }

    pub(super) fn kind_of(magic: FsType) -> Option<&'static str> {
        let number = magic.0 as u32;
        KINDS
            .iter()
            .find(|(_, magic)| *magic == number)
            .map(|(name, _)| *name)
    }
}

/// By the mounts of `own`, and by FUSE's own list of what programs answer for, which also has what is mounted elsewhere or
/// nowhere any more: its names are the devices (`fuse_ctl_add_conn`, `fs/fuse/control.c`).
pub(super) fn foreign(root: &Folder, own: i32, of_fuse: Option<&Folder>) -> Foreign {
    let mounts = mounts(root, own);
    let names = of_fuse.and_then(|folder| folder.list("").ok());
    let numbers = names.into_iter().flatten();
    let numbers = numbers.filter_map(|entry| entry.name.to_str()?.parse::<u32>().ok());
    let mut foreign = Foreign {
        mounts: Vec::new(),
        devices: numbers
            .map(|device| ((device >> 20, device & 0xF_FFFF), "fuse".to_owned()))
            .collect(),
    };
    for mount in mounts {
        let device = mount.device_numbers();
        if !mount.is_foreign() {
            // Such as virtiofs, which is FUSE to the kernel alone.
            device.and_then(|device| foreign.devices.remove(&device));
            continue;
        }
        if let Some(device) = device {
            foreign.devices.insert(device, mount.kind.clone());
        }
        // A mount over `/` itself would hide the whole machine from us; its files still have their own check when opened.
        if mount.point != Path::new("/") {
            foreign.mounts.push((mount.point, mount.kind));
        }
    }
    foreign
}

/// Mount points below `/proc`, each of which hides what the kernel shows there. The kernel's own is left out.
pub(super) fn over_proc(root: &Folder, own: i32) -> Vec<PathBuf> {
    let points = mounts(root, own).into_iter().map(|mount| mount.point);
    let hides = |point: &PathBuf| {
        point.starts_with("/proc")
            && point != Path::new("/proc")
            && point != Path::new("/proc/sys/fs/binfmt_misc")
    };
    points.filter(hides).collect()
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
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert_eq!(
            (mount.kind.as_str(), mount.source.as_str()),
            ("fuse.sshfs", "x:/")
        );
        let foreign = |line: &[u8]| Mount::parse(line).is_some_and(|mount| mount.is_foreign());
        assert!(foreign(line) && foreign(b"41 1 0:36 / /data rw - nfs4 srv:/data rw"));
        assert!(!foreign(
            b"25 1 254:0 / /data rw,relatime - ext4 /dev/vda rw"
        ));
        assert!(Mount::parse(b"").is_none() && Mount::parse(b"1 2 3 4 5").is_none());
    }

    #[test]
    fn what_answers_from_elsewhere_is_known_by_place_and_by_device() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let table = "1 0 0:50 / / rw - fuse.root x rw\n2 1 0:51 / /mnt rw - nfs srv:/ rw\n3 1 0:52 / /v rw - virtiofs v rw\n";
        write("proc/1/mountinfo", table);
        for name in ["52", "77", "8388609", "x"] {
            write(&format!("connections/{name}"), "");
        }
        let host = super::super::Host::open(folder.path()).unwrap();
        let connections = host.root().folder("connections").unwrap();
        let foreign = foreign(host.root(), 1, Some(&connections));
        assert_eq!(foreign.kind_at(Path::new("/mnt/x")), Some("nfs"));
        assert_eq!(foreign.kind_at(Path::new("/mnt2")), None);
        for (device, kind) in [
            ((0, 50), Some("fuse.root")),
            ((0, 51), Some("nfs")),
            ((0, 52), None),
            ((0, 77), Some("fuse")),
            ((8, 1), Some("fuse")),
            ((0, 1), None),
        ] {
            assert_eq!(foreign.kind_on(device), kind, "{device:?}");
        }
    }

    #[test]
    fn only_octal_escapes_are_undone() {
        assert_eq!(unescape(b"a\\040b\\134\\"), b"a b\\\\");
        assert_eq!(unescape(b"\\777\\9"), b"\\777\\9");
    }
}
