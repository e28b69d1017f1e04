//! What a walk does at a mount point.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::host::{Host, Mount};

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Files.
    Usual,
    /// State of the kernel: entered only by name.
    MadeUp,
    /// Files that are in the tree elsewhere, too.
    Again,
}

/// The mounts of the host, by mount point; of several at one point the last, which covers the others.
pub(super) struct Mounts(HashMap<PathBuf, Mount>);

impl Mounts {
    pub(super) fn of(host: &Host) -> Self {
        let mounts = host.mounts().into_iter();
        Self(mounts.map(|mount| (mount.point.clone(), mount)).collect())
    }

    pub(super) fn kind(&self, path: &Path) -> Kind {
        match self.0.get(path) {
            Some(mount) if mount.is_made_up() => Kind::MadeUp,
            Some(mount) if self.is_elsewhere(mount) => Kind::Again,
            Some(_) => Kind::Usual,
            // A recorded tree has no mounts.
            None if matches!(path.to_str(), Some("/proc" | "/sys")) => Kind::MadeUp,
            None => Kind::Usual,
        }
    }

    /// Whether what `mount` shows is reached by another path, which nothing covers.
    fn is_elsewhere(&self, mount: &Mount) -> bool {
        let other_path = |other: &Mount| {
            let below = mount.root.strip_prefix(&other.root).ok()?;
            let path: PathBuf = other.point.join(below).components().collect();
            // Of two mounts that show the same, one is the first.
            let earlier = path != other.point
                || (path.components().count(), &path)
                    < (mount.point.components().count(), &mount.point);
            let covers = |path: &&Path| *path != other.point && self.0.contains_key(*path);
            let open = !path
                .ancestors()
                .take_while(|path| path.starts_with(&other.point))
                .any(|path| covers(&path));
            (earlier && open).then_some(())
        };
        let mut others = self.0.values();
        others.any(|other| {
            other.device == mount.device
                && other.point != mount.point
                && !mount.point.as_os_str().is_empty()
                && other_path(other).is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(lines: &[(&str, &str, &str, &str)]) -> Mounts {
        let mount = |(device, root, point, kind): &(&str, &str, &str, &str)| Mount {
            point: PathBuf::from(point),
            root: PathBuf::from(root),
            device: (*device).to_owned(),
            kind: (*kind).to_owned(),
            source: String::new(),
        };
        let all = lines.iter().map(mount);
        Mounts(all.map(|mount| (mount.point.clone(), mount)).collect())
    }

    #[test]
    fn what_is_mounted_twice_is_walked_once_unless_the_other_way_is_covered() {
        let found = mounts(&[
            ("8:1", "/", "/", "ext4"),
            ("8:1", "/srv/data", "/mnt/bind", "ext4"),
            ("8:1", "/opt/hidden", "/mnt/peek", "ext4"),
            ("0:9", "/", "/opt/hidden", "tmpfs"),
            ("8:2", "/", "/data", "xfs"),
            ("8:2", "/", "/data2", "xfs"),
            ("0:5", "/", "/sys/kernel/debug", "debugfs"),
        ]);
        for (path, kind) in [
            ("/", Kind::Usual),
            ("/mnt/bind", Kind::Again),
            ("/mnt/peek", Kind::Usual),
            ("/opt/hidden", Kind::Usual),
            ("/data", Kind::Usual),
            ("/data2", Kind::Again),
            ("/sys/kernel/debug", Kind::MadeUp),
            ("/sys", Kind::MadeUp),
            ("/etc", Kind::Usual),
        ] {
            assert_eq!(found.kind(Path::new(path)), kind, "{path}");
        }
    }
}
