//! Where the globs of families start on this host: links in their fixed part and homes, resolved below the host's root.
//!
//! No link is followed by the kernel. Where the fixed start of a glob leads through links, such as `/home -> data/home`,
//! they are resolved by their text; each of them is told of, and one that leads nowhere is a loss.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::host::{Host, HostError, SMALL};

/// Links that one path may lead through.
const MAX_LINKS: usize = 8;
/// Home directories that are looked at.
const MAX_HOMES: usize = 20_000;

/// The real path that `path` leads to, and in `links` those on the way. Links are read, never followed by the kernel.
///
/// # Errors
/// As the kernel says; [`HostError::Link`] after too many.
pub(super) fn resolve(
    host: &Host,
    path: &Path,
    links: &mut Vec<PathBuf>,
) -> Result<PathBuf, HostError> {
    let mut rest: Vec<Vec<u8>> = names(path).into_iter().rev().collect();
    let mut real = PathBuf::from("/");
    let mut left = MAX_LINKS;
    while let Some(name) = rest.pop() {
        if name == b".." {
            real.pop();
            continue;
        }
        let next = real.join(OsStr::from_bytes(&name));
        match host.root().read_link(&next) {
            // EINVAL is the kernel's word for "not a link".
            Err(HostError::Os(Errno::EINVAL)) => real = next,
            Err(error) => return Err(error),
            Ok(target) => {
                left = left.checked_sub(1).ok_or(HostError::Link)?;
                links.push(next);
                let target = PathBuf::from(std::ffi::OsString::from_vec(target));
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                rest.extend(names(&target).into_iter().rev());
            }
        }
    }
    Ok(real)
}

fn names(path: &Path) -> Vec<Vec<u8>> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Home directories by passwd, and those that only have a directory; any bytes.
pub(super) fn homes(host: &Host) -> BTreeSet<PathBuf> {
    let passwd = host
        .root()
        .read("etc/passwd", SMALL)
        .map(|content| content.bytes)
        .unwrap_or_default();
    let field = |line: &[u8]| {
        line.split(|byte| *byte == b':')
            .nth(5)
            .map(|home| PathBuf::from(OsStr::from_bytes(home)))
    };
    let home = resolve(host, Path::new("/home"), &mut Vec::new()).unwrap_or_default();
    let listed = host.root().list(home).unwrap_or_default();
    let named = listed
        .iter()
        .map(|entry| Path::new("/home").join(&entry.name));
    let all = passwd
        .split(|byte| *byte == b'\n')
        .filter_map(field)
        .chain(named)
        .chain([PathBuf::from("/root")]);
    let real = |home: &PathBuf| {
        home.is_absolute() && home.parent().is_some() && !names(home).contains(&b"..".to_vec())
    };
    // `/srv/a/` and `/srv/a` are one home.
    all.filter(real)
        .map(|home| home.components().collect())
        .take(MAX_HOMES)
        .collect()
}
