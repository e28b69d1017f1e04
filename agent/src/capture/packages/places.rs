//! Where a recorded path really is: `/bin/sh` is at `/usr/bin/sh` since `/bin` became a link.
//!
//! Links are read and followed here, below the host's root, and never by the kernel.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::host::Host;

/// Longest path that Linux takes (PATH_MAX): longer ones are not followed.
const LONGEST: usize = 4096;
/// Links in one path that are followed, as the kernel does (MAXSYMLINKS).
const MOST_LINKS: u32 = 40;
/// Folders that are remembered, of which a large system has 60,000.
const MOST_FOLDERS: usize = 200_000;

/// Real places of folders, each looked up once.
pub struct Places<'a> {
    host: &'a Host,
    /// `None` where the folder is what it is called.
    known: HashMap<Box<[u8]>, Option<Box<[u8]>>>,
}

impl<'a> Places<'a> {
    /// Those of `host`.
    pub fn of(host: &'a Host) -> Self {
        Self {
            host,
            known: HashMap::new(),
        }
    }

    /// The place of `path`: its folder followed, its last name as it is.
    pub fn real(&mut self, path: &[u8]) -> Vec<u8> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let (folder, name) = split(path);
        if path.len() > LONGEST {
            return path.to_vec();
        }
        let mut links = MOST_LINKS;
        let mut real = self.folder(folder, &mut links);
        real.push(b'/');
        real.extend_from_slice(name);
        real
    }

    /// The place of a folder, without a slash at its end.
    fn folder(&mut self, path: &[u8], links: &mut u32) -> Vec<u8> {
        if path.is_empty() || path == b"/" || path.len() > LONGEST {
            return path.strip_suffix(b"/").unwrap_or(path).to_vec();
        }
        if let Some(known) = self.known.get(path) {
            return known.as_deref().unwrap_or(path).to_vec();
        }
        let (above, name) = split(path);
        let above = self.folder(above, links);
        let here = [&above, b"/".as_slice(), name].concat();
        let target = self
            .host
            .root()
            .read_link(Path::new(OsStr::from_bytes(&here)));
        let real = match target {
            Ok(target) if *links > 0 => {
                *links -= 1;
                let target = joined(&above, &target);
                self.folder(&target, links)
            }
            _ => here,
        };
        if self.known.len() >= MOST_FOLDERS {
            self.known.clear();
        }
        let differs = (real != path).then(|| real.clone().into());
        self.known.insert(path.into(), differs);
        real
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    match slash.and_then(|slash| Some((path.get(..slash)?, path.get(slash + 1..)?))) {
        Some(parts) => parts,
        None => (b"", path),
    }
}

/// The target of a link in `folder`, absolute and without dots.
fn joined(folder: &[u8], target: &[u8]) -> Vec<u8> {
    let whole = match target.first() {
        Some(b'/') => target.to_vec(),
        _ => [folder, b"/", target].concat(),
    };
    let mut names: Vec<&[u8]> = Vec::new();
    for name in whole.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
        .iter()
        .fold(Vec::new(), |path, name| [&path[..], b"/", name].concat())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_followed_and_last_names_are_not() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("usr/lib/x")).unwrap();
        symlink("usr/lib", at("lib")).unwrap();
        symlink("/lib/x", at("usr/lib/y")).unwrap();
        symlink("../../lib/./y", at("usr/lib/z")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        symlink("../../../../etc", at("out")).unwrap();
        let host = Host::open(root.path()).unwrap();
        let mut places = Places::of(&host);
        for (path, want) in [
            ("/lib/x/f", "/usr/lib/x/f"),
            ("/lib/y/f", "/usr/lib/x/f"),
            ("/usr/lib/z/f", "/usr/lib/x/f"),
            ("/lib", "/lib"),
            ("/lib/y", "/usr/lib/y"),
            ("/none/at/all", "/none/at/all"),
            // Below the root, whatever the link says.
            ("/out/passwd", "/etc/passwd"),
            ("f", "/f"),
        ] {
            let got = places.real(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), want, "{path}");
        }
        // A circle ends.
        let _ = places.real(b"/a/f");
        let _ = places.real(&b"/x".repeat(4000));
        let _ = places.real(&b"/x".repeat(2040));
    }
}
