//! What a file's metadata says that a responder looks at: rights, marks, odd names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use evidence::inventory::FileType;

use crate::host::{Found, Stat};

/// Attributes that each file has where SELinux or IMA label all of them.
const LABELS: &[&str] = &["security.selinux", "security.ima", "security.evm"];

/// Names of what is notable of `found` in `folder`; empty for most.
pub(super) fn facts(folder: &Path, found: &Found, stat: &Stat) -> Vec<&'static str> {
    let is = |kind| stat.file_type() == kind;
    let (file, directory) = (is(FileType::File), is(FileType::Directory));
    let mode = stat.mode;
    let executable = file && mode & 0o111 != 0;
    let attribute = |wanted: &dyn Fn(&str) -> bool| stat.xattrs.keys().any(|name| wanted(name));
    let device = is(FileType::BlockDevice) || is(FileType::CharDevice);
    let in_dev = folder.starts_with("/dev");
    let found = [
        ("suid", file && mode & 0o4000 != 0),
        ("sgid", executable && mode & 0o2000 != 0),
        (
            "capabilities",
            attribute(&|name| name == "security.capability"),
        ),
        (
            "acl",
            attribute(&|name| name.starts_with("system.posix_acl")),
        ),
        ("xattr", attribute(&is_unusual)),
        ("immutable", stat.immutable),
        ("append_only", stat.append_only),
        ("world_writable_executable", executable && mode & 0o002 != 0),
        (
            "world_writable_directory",
            directory && mode & 0o1002 == 0o002,
        ),
        ("hidden_directory", directory && is_hidden(&found.name)),
        ("odd_name", is_odd(&found.name)),
        (
            "file_in_dev",
            file && in_dev && !folder.starts_with("/dev/shm"),
        ),
        ("device_outside_dev", device && !in_dev),
    ];
    let true_ones = found.into_iter().filter(|(_, holds)| *holds);
    true_ones.map(|(name, _)| name).collect()
}

fn is_unusual(name: &str) -> bool {
    name != "security.capability"
        && !name.starts_with("system.posix_acl")
        && !LABELS.contains(&name)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// A name that a listing would not show as what it is.
fn is_odd(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    let control = |byte: &u8| byte.is_ascii_control();
    let dots = bytes.len() > 2 && bytes.iter().all(|byte| matches!(byte, b'.' | b' '));
    edge(bytes.first())
        || edge(bytes.last())
        || bytes.iter().any(control)
        || dots
        || std::str::from_utf8(bytes).is_err()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(folder: &str, name: &[u8], mode: u32, attribute: &str) -> Vec<&'static str> {
        let stat = Stat {
            mode,
            xattrs: BTreeMap::from([(attribute.to_owned(), String::new())]),
            ..Stat::default()
        };
        let found = Found {
            name: OsStr::from_bytes(name).to_owned(),
            stat: Ok(stat.clone()),
            target: None,
        };
        facts(Path::new(folder), &found, &stat)
    }

    #[test]
    fn each_fact_has_a_file_that_shows_it_and_a_usual_one_shows_none() {
        assert!(of("/usr/bin", b"ls", 0o100_755, "security.selinux").is_empty());
        assert!(of("/tmp", b"x", 0o041_777, "security.selinux").is_empty());
        for (folder, name, mode, attribute, fact) in [
            (
                "/usr/bin",
                &b"su"[..],
                0o104_755,
                "security.selinux",
                "suid",
            ),
            ("/usr/bin", b"wall", 0o102_755, "security.selinux", "sgid"),
            (
                "/usr/bin",
                b"ping",
                0o100_755,
                "security.capability",
                "capabilities",
            ),
            ("/etc", b"x", 0o100_644, "system.posix_acl_access", "acl"),
            ("/etc", b"x", 0o100_644, "user.payload", "xattr"),
            (
                "/srv",
                b"x",
                0o100_757,
                "security.selinux",
                "world_writable_executable",
            ),
            (
                "/srv",
                b"d",
                0o040_777,
                "security.selinux",
                "world_writable_directory",
            ),
            (
                "/usr",
                b".d",
                0o040_755,
                "security.selinux",
                "hidden_directory",
            ),
            ("/usr", b"... ", 0o100_644, "security.selinux", "odd_name"),
            ("/usr", b"a\xff", 0o100_644, "security.selinux", "odd_name"),
            (
                "/dev/mapper",
                b"x",
                0o100_644,
                "security.selinux",
                "file_in_dev",
            ),
            (
                "/opt",
                b"sda",
                0o060_660,
                "security.selinux",
                "device_outside_dev",
            ),
        ] {
            assert_eq!(
                of(folder, name, mode, attribute),
                [fact],
                "{folder} {name:?}"
            );
        }
    }
}
