//! Globs over the host's tree: matched as bytes, component by component, from a real directory downwards.
//!
//! No link is followed while walking. Where the fixed start of a glob leads through links, such as `/home -> data/home`,
//! they are resolved by their text, below the host's root; each of them is told of, and one that leads nowhere is a loss.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use evidence::inventory::FileType;
use globset::{GlobBuilder, GlobMatcher};
use nix::errno::Errno;

use super::Halt;
use crate::host::{DirEntry, Host, HostError, SMALL};

/// Depth below a glob's start at which no directory is entered any more.
const MAX_DEPTH: usize = 48;
/// Links that one path may lead through.
const MAX_LINKS: usize = 8;
/// Home directories that are looked at.
const MAX_HOMES: usize = 20_000;

/// What a walk comes across.
pub(crate) enum Seen {
    /// A directory is about to be listed: the time to look at deadlines.
    Folder,
    /// A match, or a link that the glob's start led through.
    Match,
    /// A directory whose content could not be looked at.
    Failed(HostError),
}

/// Is told of everything that a walk comes across, and may end it.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&Path, Seen) -> Result<(), Halt>;

/// A directory, and what below it is wanted.
pub(crate) struct Pattern {
    base: PathBuf,
    matcher: GlobMatcher,
    /// Parts below the base that a match can have; `None` for any number.
    depth: Option<usize>,
}

impl Pattern {
    /// The glob `text` below `start`: `*` and `?` stay within a name, `**` stands for any depth.
    pub(crate) fn new(start: &Path, text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let plain = parts
            .iter()
            .take_while(|part| !part.contains(['*', '?', '[']))
            .count();
        let (fixed, rest) = parts.split_at(plain.min(parts.len().saturating_sub(1)));
        let glob = GlobBuilder::new(&rest.join("/"))
            .literal_separator(true)
            .backslash_escape(false)
            .build();
        Some(Self {
            base: fixed
                .iter()
                .fold(start.to_owned(), |path, part| path.join(part)),
            matcher: glob.ok()?.compile_matcher(),
            depth: (!rest.contains(&"**")).then_some(rest.len()),
        })
    }

    /// The patterns that a glob stands for: one for each home directory when it starts with `~/`.
    pub(crate) fn all(host: &Host, glob: &str) -> Vec<Self> {
        match glob.strip_prefix("~/") {
            Some(rest) => homes(host)
                .iter()
                .filter_map(|home| Self::new(home, rest))
                .collect(),
            None => Self::new(Path::new("/"), glob).into_iter().collect(),
        }
    }

    /// Visits each match, in the order of names, directories included.
    pub(crate) fn walk(&self, host: &Host, visit: Visit<'_>) -> Result<(), Halt> {
        let base = match resolve(host, &self.base, visit)? {
            Ok(base) => base,
            Err(error) if error.is_gone() || error == HostError::Os(Errno::ENOTDIR) => {
                return Ok(());
            }
            Err(error) => return visit(&self.base, Seen::Failed(error)),
        };
        let deepest = self.depth.unwrap_or(MAX_DEPTH);
        let mut folders = vec![(base.clone(), 1)];
        while let Some((folder, depth)) = folders.pop() {
            visit(&folder, Seen::Folder)?;
            let entries = match host.root().list(&folder) {
                Ok(entries) => entries,
                Err(error) if error.is_gone() || error == HostError::Os(Errno::ENOTDIR) => continue,
                Err(error) => {
                    visit(&folder, Seen::Failed(error))?;
                    continue;
                }
            };
            let mut below = Vec::new();
            for entry in entries {
                let path = folder.join(&entry.name);
                if path
                    .strip_prefix(&base)
                    .is_ok_and(|rest| self.matcher.is_match(rest))
                {
                    visit(&path, Seen::Match)?;
                }
                if !is_directory(host, &path, &entry) {
                    continue;
                }
                if depth < deepest {
                    below.push((path, depth + 1));
                } else if self.depth.is_none() {
                    visit(&path, Seen::Failed(HostError::TooDeep))?;
                }
            }
            // The last in is the first out.
            folders.extend(below.into_iter().rev());
        }
        Ok(())
    }
}

/// The paths that match `glob`, for code that needs more than their bytes.
pub(crate) fn matches(host: &Host, glob: &str, visit: Visit<'_>) -> Result<Vec<PathBuf>, Halt> {
    let mut paths = Vec::new();
    for pattern in Pattern::all(host, glob) {
        pattern.walk(host, &mut |path, seen| match seen {
            Seen::Match => {
                paths.push(path.to_owned());
                Ok(())
            }
            seen => visit(path, seen),
        })?;
    }
    Ok(paths)
}

/// The real directory that `path` leads to. Links are read, never followed by the kernel, and each is visited.
fn resolve(host: &Host, path: &Path, visit: Visit<'_>) -> Result<Result<PathBuf, HostError>, Halt> {
    let mut rest: Vec<Vec<u8>> = names(path).into_iter().rev().collect();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            real.pop();
            continue;
        }
        let next = real.join(OsStr::from_bytes(&name));
        match host.root().read_link(&next) {
            // EINVAL is the kernel's word for "not a link".
            Err(HostError::Os(Errno::EINVAL)) => real = next,
            Err(error) => return Ok(Err(error)),
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(Err(HostError::Link));
                }
                visit(&next, Seen::Match)?;
                let target = PathBuf::from(std::ffi::OsString::from_vec(target));
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                rest.extend(names(&target).into_iter().rev());
            }
        }
    }
    Ok(Ok(real))
}

fn names(path: &Path) -> Vec<Vec<u8>> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn is_directory(host: &Host, path: &Path, entry: &DirEntry) -> bool {
    let ask = || {
        host.root()
            .stat(path)
            .is_ok_and(|stat| stat.file_type() == FileType::Directory)
    };
    entry.is_directory.unwrap_or_else(ask)
}

/// Home directories by passwd, and those that only have a directory; any bytes.
fn homes(host: &Host) -> BTreeSet<PathBuf> {
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
    let home = resolve(host, Path::new("/home"), &mut |_, _| Ok(()));
    let home = home.ok().and_then(Result::ok).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn host(files: &[&str]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let host = Host::open(root.path()).unwrap();
        (root, host)
    }

    fn found(host: &Host, glob: &str) -> (Vec<PathBuf>, usize) {
        let mut failed = 0;
        let paths = matches(host, glob, &mut |_, seen| {
            failed += usize::from(matches!(seen, Seen::Failed(_)));
            Ok(())
        });
        (paths.unwrap(), failed)
    }

    #[test]
    fn globs_match_whole_components_and_hidden_names() {
        let (_root, host) = host(&[
            "/var/log/a.log",
            "/var/log/deep/er/b.log",
            "/var/log/.hidden",
            "/var/logs/no",
        ]);
        assert_eq!(
            found(&host, "/var/log/*.log").0,
            [Path::new("/var/log/a.log")]
        );
        assert_eq!(
            found(&host, "/var/log/**").0.len(),
            5,
            "three files and two directories"
        );
        assert_eq!(
            found(&host, "/var/*/a.log").0,
            [Path::new("/var/log/a.log")]
        );
        assert_eq!(found(&host, "/nowhere/**"), (Vec::new(), 0));
    }

    #[test]
    fn links_below_the_start_are_found_and_never_followed() {
        let (root, host) = host(&["/etc/real/secret"]);
        symlink("real", root.path().join("etc/link")).unwrap();
        symlink("/etc", root.path().join("etc/loop")).unwrap();
        let (paths, _) = found(&host, "/etc/**");
        let names: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/etc/link", "/etc/loop", "/etc/real", "/etc/real/secret"]
        );
    }

    #[test]
    fn a_start_that_is_a_link_is_resolved_below_the_root_and_told_of() {
        let (root, host) = host(&["/data/home/ana/.bash_history", "/secret"]);
        symlink("data/home", root.path().join("home")).unwrap();
        let (paths, failed) = found(&host, "~/.*_history");
        assert!(
            paths.contains(&PathBuf::from("/home")) && failed == 0,
            "{paths:?}"
        );
        assert!(
            paths.contains(&PathBuf::from("/data/home/ana/.bash_history")),
            "{paths:?}"
        );
        symlink("../../../../data", root.path().join("up")).unwrap();
        assert!(
            found(&host, "/up/**")
                .0
                .contains(&PathBuf::from("/data/home/ana/.bash_history"))
        );
        symlink("round", root.path().join("round")).unwrap();
        assert_eq!(found(&host, "/round/*").1, 1, "a loop is a loss");
    }

    #[test]
    fn what_lies_too_deep_is_a_loss() {
        let deep = format!("/etc/{}payload", "d/".repeat(MAX_DEPTH + 5));
        let (_root, host) = host(&[&deep]);
        let (paths, failed) = found(&host, "/etc/**");
        assert_eq!((paths.len(), failed), (MAX_DEPTH, 1));
    }

    #[test]
    fn homes_of_any_name_are_looked_at() {
        let (root, host) = host(&["/srv/a[1]/.bash_history", "/srv/b}/.bash_history"]);
        let odd = root.path().join(OsStr::from_bytes(b"home/us\xe9r"));
        std::fs::create_dir_all(&odd).unwrap();
        std::fs::write(odd.join(".bash_history"), "").unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        let passwd =
            "a:x:1:1::/srv/a[1]/:/bin/sh\nb:x:2:2::/srv/b}:/bin/sh\nevil:x:3:3::../../etc:/\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        assert_eq!(found(&host, "~/.*_history").0.len(), 3);
    }
}
