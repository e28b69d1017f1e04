//! dpkg's database (deb-control(5), dpkg-query(1), `lib/dpkg/` of dpkg): a paragraph for each package in `status`, and
//! beside it lists of files and of MD5 digests. Images without a package manager have a file for each package instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::{Algorithm, Ecs, Own, Package, Recorded, Visit};
use super::text::{BROKEN, Paragraphs, cut, lines, nameless};
use crate::capture::processes::parse::text;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, Host, HostError};
use crate::text::rfc3339;

/// Where the database is.
pub const FOLDER: &str = "/var/lib/dpkg";
/// Longest list of one package that is held, in bytes: that of kernel headers has 2 MB.
const LONGEST: usize = 24 << 20;

/// Packages that put a file of another one aside: its path, where it is now, and who did it (dpkg-divert(1)).
#[derive(Debug, Default)]
pub struct Diversions(BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>);

impl Diversions {
    /// Reads `diversions`: three lines each.
    pub fn parse(bytes: &[u8]) -> Self {
        let lines: Vec<&[u8]> = lines(bytes).collect();
        let triples = lines.chunks_exact(3).filter_map(|triple| match triple {
            [from, to, by] => Some((from.to_vec(), (to.to_vec(), by.to_vec()))),
            _ => None,
        });
        Self(triples.collect())
    }

    /// Where the file of `package` at `path` is.
    pub fn place<'a>(&'a self, package: &str, path: &'a [u8]) -> &'a [u8] {
        match self.0.get(path) {
            Some((to, by)) if by != package.as_bytes() => to,
            _ => path,
        }
    }
}

/// A paragraph of `status`, as far as it is used.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stanza {
    pub fields: BTreeMap<String, String>,
    /// Paths and digests of the files of settings.
    pub settings: Vec<(Vec<u8>, String)>,
}

const FIELDS: &[&str] = &[
    "Package",
    "Version",
    "Architecture",
    "Status",
    "Source",
    "Maintainer",
    "Installed-Size",
    "Description",
    "Multi-Arch",
];

/// Reads a paragraph. Lines that begin with a space go on with the field before.
pub fn stanza(bytes: &[u8]) -> Stanza {
    let mut stanza = Stanza::default();
    let mut of_settings = false;
    for line in lines(bytes) {
        if let Some(rest) = line.strip_prefix(b" ") {
            let mut words = rest.split(|byte| *byte == b' ');
            if let (true, Some(path), Some(digest)) = (of_settings, words.next(), words.next()) {
                stanza.settings.push((path.to_vec(), text(digest)));
            }
            continue;
        }
        let Some((name, value)) = cut(line, b":") else {
            continue;
        };
        of_settings = name == b"Conffiles";
        if FIELDS.iter().any(|field| field.as_bytes() == name) {
            let value = text(value.trim_ascii());
            stanza.fields.entry(text(name)).or_insert(value);
        }
    }
    stanza
}

impl Stanza {
    fn field(&self, name: &str) -> Option<String> {
        self.fields.get(name).cloned()
    }

    fn package(&self, database: &Path) -> Option<Package> {
        let kib: Option<u64> = self
            .fields
            .get("Installed-Size")
            .and_then(|s| s.parse().ok());
        Some(Package {
            package: Ecs {
                name: self.field("Package")?,
                version: self.field("Version").unwrap_or_default(),
                architecture: self.field("Architecture").unwrap_or_default(),
                kind: "deb",
                installed: None,
                size: kib.map(|kib| kib.saturating_mul(1024)),
                license: None,
                description: self.field("Description"),
            },
            exhibit: Own {
                database: database.display().to_string(),
                state: self.field("Status"),
                source: self.field("Source"),
                vendor: self.field("Maintainer"),
                ..Own::default()
            },
        })
    }

    /// Names of its lists below `info/`: with the architecture where several can be installed beside each other.
    fn stems(&self) -> Vec<String> {
        let name = self.field("Package").unwrap_or_default();
        let with = |arch: String| format!("{name}:{arch}");
        let architecture = self.field("Architecture").map(with);
        architecture.into_iter().chain([name]).collect()
    }

    fn is_installed(&self) -> bool {
        // A removed package leaves its settings, and their list.
        self.fields
            .get("Status")
            .is_none_or(|status| !status.ends_with("not-installed"))
    }

    fn is_unpacked(&self) -> bool {
        self.fields
            .get("Status")
            .is_none_or(|status| !status.ends_with("config-files"))
    }
}

/// Hands packages and their files to `visit`. False when there is no such database.
///
/// # Errors
/// When the artifact has to end.
pub fn each(host: &Host, visit: &mut dyn Visit, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    let folder = match host.root().folder(FOLDER) {
        Ok(folder) => folder,
        Err(error) if error.is_gone() => return Ok(false),
        Err(error) => return sink.lost(Path::new(FOLDER), &error).map(|()| true),
    };
    let diversions = folder
        .read("diversions", LONGEST)
        .map(|content| Diversions::parse(&content.bytes))
        .unwrap_or_default();
    let info = folder.folder("info").ok();
    let mut found = file(&folder, "status", info.as_ref(), &diversions, visit, sink)?;
    // Distroless images: the lists stand beside the paragraph, in a folder of their own.
    if let Ok(parts) = folder.folder("status.d") {
        let names = parts.list("").map_err(|error| sink.count(&error));
        for entry in names.unwrap_or_default() {
            let name = entry.name.to_string_lossy().into_owned();
            if !name.ends_with(".md5sums") {
                found |= file(&parts, &name, Some(&parts), &diversions, visit, sink)?;
            }
        }
    }
    Ok(found)
}

/// The packages of one file of paragraphs; false when it is not there.
fn file(
    folder: &Folder,
    name: &str,
    lists: Option<&Folder>,
    diversions: &Diversions,
    visit: &mut dyn Visit,
    sink: &mut Sink<'_>,
) -> Result<bool, Halt> {
    let path = folder.path().join(name);
    let mut paragraphs = match folder.open(name) {
        Ok(file) => Paragraphs::of(file),
        Err(error) if error.is_gone() => return Ok(false),
        Err(error) => return sink.lost(&path, &error).map(|()| true),
    };
    loop {
        sink.check()?;
        let bytes = match paragraphs.next() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(true),
            Err(error) => return sink.lost(&path, &error).map(|()| true),
        };
        let stanza = stanza(bytes);
        match stanza.package(&path) {
            Some(package) => of_package(package, &stanza, lists, diversions, visit, sink)?,
            None => nameless(bytes, sink),
        }
    }
}

fn of_package(
    mut package: Package,
    stanza: &Stanza,
    lists: Option<&Folder>,
    diversions: &Diversions,
    visit: &mut dyn Visit,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let paths = lists.and_then(|folder| list(folder, stanza, ".list", sink));
    let sums = lists.and_then(|folder| list(folder, stanza, ".md5sums", sink));
    let installed = paths.as_ref().or(sums.as_ref()).and_then(|(_, time)| *time);
    package.package.installed = installed.map(rfc3339);
    visit.package(&package, sink)?;
    if !stanza.is_installed() {
        return Ok(());
    }
    let name = package.package.name.clone();
    let mut file = |path: &[u8], digest: Option<&str>, config, sink: &mut Sink<'_>| {
        let recorded = Recorded {
            path: diversions.place(&name, path),
            digest: digest.map(|digest| (Algorithm::Md5, digest)),
            config,
            // Settings without a digest were never installed, or are to go with the next upgrade.
            optional: !stanza.is_unpacked() || (config && digest.is_none()),
            ..Recorded::default()
        };
        visit.file(&package, &recorded, sink)
    };
    for (path, digest) in &stanza.settings {
        // `newconffile` stands in its place.
        let digest = Some(digest.as_str()).filter(|digest| digest.len() == 32);
        file(path, digest, true, sink)?;
    }
    let sums = sums.map(|(bytes, _)| bytes).unwrap_or_default();
    for line in lines(&sums) {
        match sum(line) {
            Some((digest, path)) => file(&path, Some(&digest), false, sink)?,
            None => sink.loss(BROKEN),
        }
    }
    let paths = paths.map(|(bytes, _)| bytes).unwrap_or_default();
    // What has no digest: links, folders, files that scripts made their own.
    for path in lines(&paths).filter(|path| *path != b"/.") {
        file(path, None, false, sink)?;
    }
    Ok(())
}

/// Bytes of a list, and its time in nanoseconds since the epoch.
fn list(
    folder: &Folder,
    stanza: &Stanza,
    suffix: &str,
    sink: &mut Sink<'_>,
) -> Option<(Vec<u8>, Option<i64>)> {
    for stem in stanza.stems() {
        let name = format!("{stem}{suffix}");
        let file = match folder.open(PathBuf::from(&name)) {
            Ok(file) => file,
            Err(error) => {
                sink_unless_gone(&error, sink);
                continue;
            }
        };
        let time = file.stat().mtime.seconds.checked_mul(1_000_000_000);
        match file.whole(LONGEST) {
            Ok(bytes) => return Some((bytes, time)),
            Err(error) => sink_unless_gone(&error, sink),
        }
    }
    None
}

fn sink_unless_gone(error: &HostError, sink: &mut Sink<'_>) {
    if !error.is_gone() {
        sink.count(error);
    }
}

/// A line of `md5sums`: a digest, two spaces, a path without the slash at its start.
pub fn sum(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let (digest, path) = line.split_at_checked(32)?;
    let path = path.strip_prefix(b"  ")?;
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let digest = std::str::from_utf8(digest).ok()?.to_ascii_lowercase();
    Some((digest, [b"/", path].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] = b"Package: base-files\nStatus: install ok installed\nInstalled-Size: 340\nArchitecture: amd64\nVersion: 12.4+deb12u5\nConffiles:\n /etc/debian_version 7ae3b8 obsolete\n /etc/issue newconffile\nDescription: Debian base\n /not/a/setting 00\nVersion: 2";

    #[test]
    fn a_paragraph_has_fields_and_settings() {
        let stanza = stanza(STATUS);
        assert_eq!(stanza.fields["Version"], "12.4+deb12u5", "the first counts");
        assert_eq!(
            stanza.settings,
            [
                (b"/etc/debian_version".to_vec(), "7ae3b8".to_owned()),
                (b"/etc/issue".to_vec(), "newconffile".to_owned())
            ]
        );
        let package = stanza.package(Path::new("/s")).unwrap();
        assert_eq!(package.package.size, Some(340 * 1024));
        assert_eq!(stanza.stems(), ["base-files:amd64", "base-files"]);
        for end in 0..STATUS.len() {
            let _ = super::stanza(&STATUS[..end]);
        }
    }

    #[test]
    fn diverted_files_are_elsewhere_for_all_but_who_diverted_them() {
        let diversions =
            Diversions::parse(b"/bin/sh\n/bin/sh.distrib\ndash\n/bin/ls\n/bin/ls.real\n");
        assert_eq!(diversions.place("bash", b"/bin/sh"), b"/bin/sh.distrib");
        assert_eq!(diversions.place("dash", b"/bin/sh"), b"/bin/sh");
        assert_eq!(
            diversions.place("x", b"/bin/ls"),
            b"/bin/ls",
            "a torn entry"
        );
    }

    #[test]
    fn sums_are_lines_of_md5sum() {
        let line = b"D41D8CD98F00B204E9800998ECF8427E  usr/bin/a b";
        assert_eq!(
            sum(line),
            Some((
                "d41d8cd98f00b204e9800998ecf8427e".to_owned(),
                b"/usr/bin/a b".to_vec()
            ))
        );
        for wrong in [&b""[..], b"short  x", &line[..33], &[0xFF; 40]] {
            assert_eq!(sum(wrong), None);
        }
    }
}
