//! *integrity*: each file that a package installed, compared with what its database says, and what no package owns.
//!
//! One pass over the databases, a package at a time; of a file only eight bytes are remembered. Nothing is repaired,
//! nothing is decided: settings change, and who changes a file can change its record.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use evidence::inventory::{FileType, Name};
use serde::Serialize;

use super::hash::{self, Content};
use super::model::{Algorithm, Package, Recorded, Visit};
use super::places::Places;
use super::{each, none, unowned};
use crate::capture::processes::parse::text;
use crate::capture::users::Users;
use crate::capture::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Host, HostError, SMALL, Stat};

/// Files against their packages' records.
pub struct Integrity;

static SPEC: Spec = Spec {
    name: "integrity",
    volatility: Volatility::Files,
    what: "files of packages that are missing or not as recorded (content, mode, owner, link), with the content of changed \
           programs; files in the system's folders that no package owns",
    why: "a replaced sshd, a library that was added, a PAM module that nobody installed",
    deadline_s: 3600,
    max_bytes: 16 << 30,
};

/// Findings of one rule: after that, the table has the rest.
pub(super) const MOST_FINDINGS: u64 = 500;
/// Files that can be told apart; 64 MiB of memory.
const MOST_FILES: usize = 8 << 20;

impl Artifact for Integrity {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let mut check = Check::of(host);
        let result = check.all(host, sink);
        check.totals.ended_early = result.is_err();
        if !matches!(result, Ok(false)) {
            sink.note(check.totals.to_string());
            sink.record_late("packages/totals", &check.totals)?;
        }
        match result? {
            true => Ok(()),
            false => Err(none()),
        }
    }
}

/// What the pass added up to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    pub packages: u64,
    /// Paths on record, each once per package.
    pub recorded: u64,
    /// Files whose content was compared, and their bytes.
    pub hashed: u64,
    pub hashed_bytes: u64,
    pub missing: u64,
    /// Content differs, settings apart.
    pub modified: u64,
    pub modified_settings: u64,
    /// Type, mode, owner or link differs.
    pub otherwise: u64,
    pub unreadable: u64,
    pub unowned: u64,
    /// The numbers are those of a part.
    pub ended_early: bool,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} packages, {} recorded files, {} hashed: {} modified, {} settings modified, {} missing, {} with another mode, \
             owner, type or link, {} unreadable; {} owned by no package",
            self.packages,
            self.recorded,
            self.hashed,
            self.modified,
            self.modified_settings,
            self.missing,
            self.otherwise,
            self.unreadable,
            self.unowned
        )
    }
}

/// A line of `packages/integrity.jsonl`.
#[derive(Serialize)]
struct Difference<'a> {
    file: File,
    package: PackageName<'a>,
    exhibit: Own<'a>,
}

#[derive(Serialize)]
struct File {
    #[serde(flatten)]
    path: Name,
    #[serde(flatten)]
    found: Option<Found>,
}

/// ECS field set `file`, of what was found.
#[derive(Serialize)]
pub(super) struct Found {
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: String,
    ctime: String,
}

impl Found {
    /// Of a file's metadata.
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            mode: format!("{:o}", stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            size: stat.size,
            mtime: stat.mtime.to_string(),
            ctime: stat.ctime.to_string(),
        }
    }
}

#[derive(Serialize)]
struct PackageName<'a> {
    name: &'a str,
    version: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Own<'a> {
    /// `missing`, `content`, `type`, `mode`, `user`, `group`, `link`.
    differs: &'a [&'static str],
    /// A file of settings.
    config: bool,
    /// The package itself says that the content changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    expected: bool,
    /// ELF, or a script.
    code: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<Algorithm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found_digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_link: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found_link: Option<Name>,
}

#[derive(Serialize)]
struct Finding<'a> {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    #[serde(flatten)]
    path: Name,
    package: &'a str,
}

/// The pass under way.
struct Check<'a> {
    host: &'a Host,
    places: Places<'a>,
    users: Users,
    groups: Users,
    /// Of the places of all recorded files, under a key that the host can not guess.
    key: RandomState,
    owned: Vec<u64>,
    of_package: HashSet<u64>,
    findings: u64,
    buffer: Vec<u8>,
    totals: Totals,
}

impl Visit for Check<'_> {
    fn package(&mut self, _: &Package, _: &mut Sink<'_>) -> Result<(), Halt> {
        self.totals.packages += 1;
        self.of_package.clear();
        Ok(())
    }

    fn file(
        &mut self,
        package: &Package,
        file: &Recorded<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        sink.check()?;
        let place = self.places.real(file.path);
        let hash = self.key.hash_one(&place);
        if !self.of_package.insert(hash) {
            return Ok(());
        }
        if self.owned.len() < MOST_FILES {
            self.owned.push(hash);
        }
        self.totals.recorded += 1;
        let path = Path::new(OsStr::from_bytes(&place));
        match self.host.root().stat(path) {
            Ok(stat) => self.compare(package, file, path, &stat, sink),
            Err(error) if is_missing(&error) => match file.optional {
                true => Ok(()),
                false => {
                    self.totals.missing += 1;
                    self.tell(package, file, path, None, &Compared::missing(), sink)
                }
            },
            Err(error) => self.unreadable(path, &error, sink),
        }
    }
}

/// A folder that became a file hides what was below it.
fn is_missing(error: &HostError) -> bool {
    error.is_gone() || *error == HostError::Os(nix::errno::Errno::ENOTDIR)
}

/// How a file compares with its record.
#[derive(Default)]
struct Compared {
    differs: Vec<&'static str>,
    content: Option<Content>,
    link: Option<Vec<u8>>,
}

impl Compared {
    fn missing() -> Self {
        Self {
            differs: vec!["missing"],
            ..Self::default()
        }
    }
}

impl<'a> Check<'a> {
    fn of(host: &'a Host) -> Self {
        let groups = host.root().read("etc/group", SMALL).unwrap_or_default();
        Self {
            host,
            places: Places::of(host),
            users: Users::read(host),
            groups: Users::parse(&groups.bytes),
            key: RandomState::new(),
            owned: Vec::new(),
            of_package: HashSet::new(),
            findings: 0,
            buffer: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// False when there is no database.
    fn all(&mut self, host: &Host, sink: &mut Sink<'_>) -> Result<bool, Halt> {
        if !each(host, self, sink)? {
            return Ok(false);
        }
        if self.owned.len() >= MOST_FILES {
            sink.loss("truncated:owned_files");
            return Ok(true);
        }
        if self.totals.recorded == 0 {
            // A database that could not be read makes all files unowned.
            return Ok(true);
        }
        self.owned.sort_unstable();
        self.owned.dedup();
        let owns = |path: &[u8]| {
            let hash = self.key.hash_one(path);
            self.owned.binary_search(&hash).is_ok()
        };
        unowned::walk(host, &owns, &mut self.totals.unowned, sink)?;
        Ok(true)
    }

    fn compare(
        &mut self,
        package: &Package,
        file: &Recorded<'_>,
        path: &Path,
        stat: &Stat,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let mut compared = Compared::default();
        self.metadata(file, stat, &mut compared);
        self.link(file, path, stat, &mut compared);
        if let (Some((algorithm, recorded)), FileType::File) = (file.digest, stat.file_type()) {
            match self.content(path, algorithm, sink)? {
                Ok(content) => {
                    if !content.digest.eq_ignore_ascii_case(recorded) {
                        compared.differs.push("content");
                    }
                    compared.content = Some(content);
                }
                Err(error) if error.is_gone() => {}
                Err(error) => self.unreadable(path, &error, sink)?,
            }
        }
        match compared.differs.as_slice() {
            [] => Ok(()),
            [.., "content"] if file.config => {
                self.totals.modified_settings += 1;
                self.tell(package, file, path, Some(stat), &compared, sink)
            }
            [.., "content"] => {
                self.totals.modified += 1;
                self.tell(package, file, path, Some(stat), &compared, sink)?;
                self.modified(package, file, path, stat, &compared, sink)
            }
            _ => {
                self.totals.otherwise += 1;
                self.tell(package, file, path, Some(stat), &compared, sink)
            }
        }
    }

    fn metadata(&self, file: &Recorded<'_>, stat: &Stat, compared: &mut Compared) {
        if let Some(mode) = file.mode {
            if mode & libc::S_IFMT != stat.mode & libc::S_IFMT {
                compared.differs.push("type");
            } else if mode != stat.mode && stat.file_type() != FileType::Symlink {
                compared.differs.push("mode");
            }
        }
        if let Some(permissions) = file.permissions
            && permissions != stat.mode & 0o7777
            && stat.file_type() != FileType::Symlink
        {
            compared.differs.push("mode");
        }
        let owners = [
            ("user", file.user, self.users.name(stat.uid), stat.uid),
            ("group", file.group, self.groups.name(stat.gid), stat.gid),
        ];
        for (word, recorded, name, id) in owners {
            // A name that this host has lost is root's, as rpm unpacks it.
            let same = |recorded: &[u8]| match &name {
                Some(name) => name.as_bytes() == recorded,
                None => id == 0 && recorded == b"root",
            };
            if recorded.is_some_and(|recorded| !same(recorded)) {
                compared.differs.push(word);
            }
        }
    }

    fn link(&self, file: &Recorded<'_>, path: &Path, stat: &Stat, compared: &mut Compared) {
        if stat.file_type() != FileType::Symlink {
            return;
        }
        let target = self.host.root().read_link(path).unwrap_or_default();
        let same = match (file.link, file.digest) {
            (Some(link), _) => link == target,
            // apk's digest of a link is that of its target; other managers have none for links.
            (None, Some((Algorithm::Sha1, digest))) => {
                let mut hasher = Algorithm::Sha1.start();
                hasher.update(&target);
                hex::encode(hasher.finalize()) == digest
            }
            (None, Some(_)) => false,
            (None, None) => true,
        };
        if !same {
            let word = if file.link.is_some() { "link" } else { "type" };
            compared.differs.push(word);
            compared.link = Some(target);
        }
    }

    fn content(
        &mut self,
        path: &Path,
        algorithm: Algorithm,
        sink: &Sink<'_>,
    ) -> Result<Result<Content, HostError>, Halt> {
        let file = match self.host.root().open(path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let content = hash::content(file, algorithm, sink, &mut self.buffer)?;
        if let Ok(content) = &content {
            self.totals.hashed += 1;
            self.totals.hashed_bytes += content.size;
        }
        Ok(content)
    }

    fn unreadable(
        &mut self,
        path: &Path,
        error: &HostError,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        self.totals.unreadable += 1;
        sink.lost(path, error)
    }

    /// Programs and libraries that are not what was installed are evidence themselves.
    fn modified(
        &mut self,
        package: &Package,
        file: &Recorded<'_>,
        path: &Path,
        stat: &Stat,
        compared: &Compared,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let code = compared.content.as_ref().is_some_and(Content::is_code);
        if file.volatile || !(code || stat.mode & 0o111 != 0) {
            return Ok(());
        }
        self.findings += 1;
        if self.findings <= MOST_FINDINGS {
            sink.finding(&Finding {
                rule: "package-file-modified",
                technique: "T1554",
                reason: format!(
                    "{} is not what {} {} installed",
                    path.display(),
                    package.package.name,
                    package.package.version
                ),
                known_benign: "prelink, local patches, files that scripts of packages change",
                path: Name::of(path.as_os_str().as_bytes()),
                package: &package.package.name,
            })?;
        }
        match self.host.root().open(path) {
            Ok(content) if !sink.has(path) => sink.file(path, content),
            _ => Ok(()),
        }
    }

    fn tell(
        &mut self,
        package: &Package,
        file: &Recorded<'_>,
        path: &Path,
        stat: Option<&Stat>,
        compared: &Compared,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let found = compared.content.as_ref();
        let has = |word| compared.differs.contains(&word);
        let digest = file.digest.filter(|_| has("content") || has("missing"));
        let owner = |word, name: Option<&[u8]>| name.filter(|_| has(word)).map(text);
        let difference = Difference {
            file: File {
                path: Name::of(path.as_os_str().as_bytes()),
                found: stat.map(Found::of),
            },
            package: PackageName {
                name: &package.package.name,
                version: &package.package.version,
                kind: package.package.kind,
            },
            exhibit: Own {
                differs: &compared.differs,
                config: file.config,
                expected: file.volatile,
                code: found.is_some_and(Content::is_code),
                algorithm: digest.map(|(algorithm, _)| algorithm),
                recorded_digest: digest.map(|(_, digest)| digest),
                found_digest: found.map(|found| found.digest.as_str()),
                recorded_mode: file
                    .mode
                    .or(file.permissions)
                    .filter(|_| has("mode") || has("type"))
                    .map(|mode| format!("{mode:o}")),
                recorded_user: owner("user", file.user),
                recorded_group: owner("group", file.group),
                recorded_link: file.link.filter(|_| has("link")).map(Name::of),
                found_link: compared.link.as_deref().map(Name::of),
            },
        };
        sink.record("packages/integrity", &difference)
    }
}
