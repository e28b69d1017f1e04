//! What of a mapping is to be read: decided by what stands behind it, before anything of it is touched.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use super::maps::Mapping;
use super::region::Reason;
use crate::host::{Folder, Host, HostError, HostFile};

/// Which pages of a mapping are read, and why the others are not.
pub enum Take {
    Nothing(Reason),
    Whole,
    /// Pages that only this process has: copies of what it wrote to.
    Own(Reason),
    /// Pages in memory or in swap. Gaps between them may be read when they hold nothing but zeros.
    Resident {
        rest: Reason,
        gaps: bool,
    },
    /// What is data in the file, and the process's own pages.
    File(HostFile),
}

/// File systems that keep nothing on a disk.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs", "devtmpfs"];

/// What stands behind the mappings of a process.
pub struct Backings<'p> {
    folder: &'p Folder,
    disks: BTreeSet<(u32, u32)>,
    /// Devices whose files answer from elsewhere, or not at all.
    foreign: BTreeSet<(u32, u32)>,
    /// Why a file could not be looked at, of those that should have been.
    pub error: Option<HostError>,
}

impl<'p> Backings<'p> {
    /// Of the process in `folder`, by the mounts that it and we see.
    pub fn new(host: &Host, pid: i32, folder: &'p Folder) -> Self {
        let mut backings = Self {
            folder,
            disks: BTreeSet::new(),
            foreign: BTreeSet::new(),
            error: None,
        };
        for mount in host.mounts_of(pid).into_iter().chain(host.mounts()) {
            let Some(device) = mount.device_numbers() else {
                continue;
            };
            if mount.is_foreign() {
                backings.foreign.insert(device);
            } else if !mount.is_made_up() && !IN_MEMORY.contains(&mount.kind.as_str()) {
                backings.disks.insert(device);
            }
        }
        backings
    }

    /// What is to be read of `mapping`, whose name is `name`.
    pub fn take(&mut self, mapping: &Mapping, name: &[u8]) -> Take {
        if mapping.is_device {
            return match name.starts_with(b"[vvar") {
                true => Take::Nothing(Reason::KernelPage),
                false => Take::Nothing(Reason::Device),
            };
        }
        // A page that is there causes no fault; one that is not is answered with an error, since a look from outside
        // never waits for a program (`handle_userfault` in fs/userfaultfd.c, without FAULT_FLAG_ALLOW_RETRY).
        if mapping.is_userfaultfd {
            return Take::Resident {
                rest: Reason::Userfaultfd,
                gaps: false,
            };
        }
        match (mapping.inode, name) {
            (0, b"[vsyscall]") => Take::Nothing(Reason::KernelPage),
            (0, b"[vdso]") => Take::Whole,
            (0, _) => Take::Resident {
                rest: Reason::Untouched,
                gaps: true,
            },
            // To touch another of its pages would take a huge one from a pool that may be empty.
            _ if mapping.is_hugetlb => Take::Resident {
                rest: Reason::Hole,
                gaps: false,
            },
            _ if self.foreign.contains(&mapping.device) => ELSEWHERE,
            _ if self.disks.contains(&mapping.device) && !name.ends_with(b" (deleted)") => {
                own(mapping, Reason::OnDisk)
            }
            _ => self.held(mapping),
        }
    }

    /// A file that no disk has under a name: of a tmpfs, a memfd, shared memory, or deleted.
    fn held(&mut self, mapping: &Mapping) -> Take {
        let link = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        let file = self.folder.open_magic(OsStr::new(&link));
        let opened = file.and_then(|file| Ok((file.is_foreign()?, file)));
        match opened {
            Ok((false, file)) => Take::File(file),
            Ok((true, _)) | Err(HostError::Foreign(_)) => {
                self.foreign.insert(mapping.device);
                ELSEWHERE
            }
            // A character device, or what the kernel made for a descriptor, such as the rings of io_uring.
            Err(HostError::NotAFile(_)) => own(mapping, Reason::Device),
            Err(error) => {
                if matches!(error, HostError::TimedOut | HostError::Stuck) {
                    self.foreign.insert(mapping.device);
                }
                if !error.is_gone() {
                    self.error = Some(error);
                }
                ELSEWHERE
            }
        }
    }
}

const ELSEWHERE: Take = Take::Resident {
    rest: Reason::NotResident,
    gaps: false,
};

fn own(mapping: &Mapping, rest: Reason) -> Take {
    match mapping.is_shared() {
        true => Take::Nothing(rest),
        false => Take::Own(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: (u32, u32) = (254, 1);
    const NFS: (u32, u32) = (0, 40);

    fn take(mapping: Mapping, name: &[u8]) -> Take {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/1");
        std::fs::create_dir_all(&folder).unwrap();
        let mounts = "21 1 254:1 / / rw - ext4 /dev/vda rw\n22 1 0:40 / /mnt rw - nfs4 srv:/ rw\n\
                      23 1 0:6 / /dev rw - devtmpfs dev rw\n24 1 0:4 / /proc rw - proc proc rw\n";
        std::fs::write(folder.join("mountinfo"), mounts).unwrap();
        let host = Host::open(root.path()).unwrap();
        let folder = host.process(1).unwrap();
        Backings::new(&host, 1, &folder).take(&mapping, name)
    }

    fn file(device: (u32, u32), permissions: &[u8; 4]) -> Mapping {
        Mapping {
            start: 0x1000,
            end: 0x2000,
            inode: 9,
            device,
            permissions: *permissions,
            ..Mapping::default()
        }
    }

    #[test]
    fn devices_are_never_read_and_no_program_is_asked_for_pages() {
        let device = Mapping {
            is_device: true,
            ..file((0, 6), b"rw-s")
        };
        assert!(matches!(
            take(device, b"/dev/mem"),
            Take::Nothing(Reason::Device)
        ));
        assert!(matches!(
            take(device, b"[vvar]"),
            Take::Nothing(Reason::KernelPage)
        ));
        let answered = Mapping {
            is_userfaultfd: true,
            ..Mapping::default()
        };
        assert!(matches!(
            take(answered, b"[heap]"),
            Take::Resident {
                rest: Reason::Userfaultfd,
                gaps: false
            }
        ));
    }

    #[test]
    fn of_files_on_disk_only_what_was_written_to_is_taken() {
        assert!(matches!(
            take(file(DISK, b"r-xp"), b"/bin/sh"),
            Take::Own(Reason::OnDisk)
        ));
        assert!(matches!(
            take(file(DISK, b"rw-s"), b"/var/db"),
            Take::Nothing(Reason::OnDisk)
        ));
        // Not a live host: what a mapping of a deleted file holds can not be asked for, so no page that is not there is.
        let deleted = take(file(DISK, b"r-xp"), b"/tmp/x (deleted)");
        assert!(matches!(
            deleted,
            Take::Resident {
                rest: Reason::NotResident,
                gaps: false
            }
        ));
    }

    #[test]
    fn of_what_answers_from_elsewhere_only_what_is_in_memory_is_taken() {
        for name in [&b"/mnt/x"[..], b"/mnt/x (deleted)"] {
            assert!(matches!(
                take(file(NFS, b"r--p"), name),
                Take::Resident {
                    rest: Reason::NotResident,
                    gaps: false
                }
            ));
        }
        assert!(matches!(
            take(Mapping::default(), b"[heap]"),
            Take::Resident {
                rest: Reason::Untouched,
                gaps: true
            }
        ));
        assert!(matches!(take(Mapping::default(), b"[vdso]"), Take::Whole));
    }
}
