//! rpm's databases, of all three kinds, read without rpm.

pub mod bdb;
pub mod damage;
pub mod header;
pub mod ndb;
pub mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::model::{Algorithm, Ecs, Own, Package, Recorded, Visit};
use super::text::BROKEN;
use crate::capture::processes::parse::text;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, Host, HostError, HostFile};
use crate::text::rfc3339;
use damage::{Damage, Take};
use header::{Header, Numbers, tag};

/// Where a database can be; any of them may be a link to another, and is then passed over.
pub const FOLDERS: [&str; 3] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"];
/// Its file by kind, the youngest kind first: an upgrade of the system leaves the older one behind.
const FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

/// Flags of a file (`include/rpm/rpmfiles.h`).
const CONFIG: u64 = 1 << 0;
const MISSING_OK: u64 = 1 << 3;
const GHOST: u64 = 1 << 6;
/// Flag of what `rpm -V` checks of a file: its digest.
const VERIFY_DIGEST: u64 = 1 << 0;

/// Hands packages and their files to `visit`. False when there is no such database.
///
/// # Errors
/// When the artifact has to end.
pub fn each(host: &Host, visit: &mut dyn Visit, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    let mut found = false;
    for path in FOLDERS {
        if let Ok(folder) = host.root().folder(path) {
            found |= of_folder(&folder, visit, sink)?;
        }
    }
    Ok(found)
}

fn of_folder(folder: &Folder, visit: &mut dyn Visit, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    for name in FILES {
        let path = folder.path().join(name);
        match folder.open(name) {
            // rpm makes an empty file of the old kind beside the new one.
            Ok(file) if file.stat().size == 0 => {}
            Ok(file) => {
                of_file(folder, &path, name, &file, visit, sink)?;
                return Ok(true);
            }
            Err(error) if error.is_gone() => {}
            Err(error) => {
                sink.lost(&path, &error)?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn of_file(
    folder: &Folder,
    path: &Path,
    name: &str,
    file: &HostFile,
    visit: &mut dyn Visit,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let mut broken = 0;
    let mut take = |blob: &[u8]| {
        sink.check()?;
        match Header::parse(blob) {
            Some(header) => of_package(path, &header, visit, sink),
            None => {
                broken += 1;
                Ok(())
            }
        }
    };
    let torn = match name {
        "rpmdb.sqlite" => with_log(folder, file, &mut take),
        "Packages.db" => ndb::each(file, &mut take),
        _ => bdb::each(file, &mut take),
    };
    for _ in 0..broken {
        sink.loss(BROKEN);
    }
    match torn {
        Ok(torn) => {
            for _ in 0..torn.min(1000) {
                sink.loss(BROKEN);
            }
            Ok(())
        }
        Err(Damage::Halt(halt)) => Err(halt),
        Err(Damage::Host(error)) => sink.lost(path, &error),
        Err(Damage::Malformed(why)) => {
            sink.loss("failed:package_database");
            sink.note(format!("{}: {why}", path.display()));
            Ok(())
        }
    }
}

fn with_log(folder: &Folder, file: &HostFile, take: &mut Take<'_>) -> Result<u64, Damage> {
    let log = match folder.open("rpmdb.sqlite-wal") {
        Ok(log) => Some(log),
        Err(HostError::Os(nix::errno::Errno::ENOENT)) => None,
        Err(error) => return Err(error.into()),
    };
    let log = log.as_ref().map(|log| log as &dyn super::bytes::Bytes);
    sqlite::each(file, log, "Packages", take)
}

fn of_package(
    database: &Path,
    header: &Header<'_>,
    visit: &mut dyn Visit,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let package = package(database, header);
    visit.package(&package, sink)?;
    files(header, &mut |file| visit.file(&package, file, sink))
}

/// What a header says of its package. Keys that rpm trusts are packages too, named `gpg-pubkey`.
pub fn package(database: &Path, header: &Header<'_>) -> Package {
    let text = |tag| header.text(tag).unwrap_or_default();
    let time = |tag| {
        let seconds = i64::try_from(header.number(tag)?).ok()?;
        Some(rfc3339(seconds.checked_mul(1_000_000_000)?))
    };
    let epoch = header.number(tag::EPOCH);
    let epoch = epoch.map_or_else(String::new, |epoch| format!("{epoch}:"));
    Package {
        package: Ecs {
            name: text(tag::NAME),
            version: format!("{epoch}{}-{}", text(tag::VERSION), text(tag::RELEASE)),
            architecture: text(tag::ARCH),
            kind: "rpm",
            installed: time(tag::INSTALL_TIME),
            size: header.number(tag::SIZE),
            license: header.text(tag::LICENSE),
            description: header.text(tag::SUMMARY),
        },
        exhibit: Own {
            database: database.display().to_string(),
            state: None,
            source: header.text(tag::SOURCE),
            vendor: header.text(tag::VENDOR),
            built: time(tag::BUILD_TIME),
            signature_present: Some(tag::SIGNATURES.iter().any(|tag| header.has(*tag))),
            record_intact: header.is_intact(),
        },
    }
}

/// Columns of the table of files.
struct Table<'a> {
    modes: Numbers<'a>,
    flags: Numbers<'a>,
    states: Numbers<'a>,
    verify: Numbers<'a>,
    algorithm: Algorithm,
}

/// Hands each file of a package to `take`.
///
/// # Errors
/// What `take` says.
pub fn files(
    header: &Header<'_>,
    take: &mut dyn FnMut(&Recorded<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let folders: Vec<&[u8]> = header.texts(tag::DIR_NAMES).collect();
    let indexes = header.numbers(tag::DIR_INDEXES);
    let table = Table {
        modes: header.numbers(tag::FILE_MODES),
        flags: header.numbers(tag::FILE_FLAGS),
        states: header.numbers(tag::FILE_STATES),
        verify: header.numbers(tag::VERIFY_FLAGS),
        algorithm: algorithm(header.number(tag::DIGEST_ALGORITHM)),
    };
    let mut digests = header.texts(tag::FILE_DIGESTS);
    let mut links = header.texts(tag::FILE_LINKS);
    let mut users = header.texts(tag::FILE_USERS);
    let mut groups = header.texts(tag::FILE_GROUPS);
    // Packages of the time before rpm 4 have whole paths.
    let whole = header.texts(tag::OLD_FILE_NAMES).map(<[u8]>::to_vec);
    let split = header
        .texts(tag::BASE_NAMES)
        .enumerate()
        .map_while(|(number, name)| {
            let folder = folders.get(usize::try_from(indexes.at(number)?).ok()?)?;
            Some([folder, name].concat())
        });
    for (number, path) in split.chain(whole).enumerate() {
        let digest = digests.next().map(text).unwrap_or_default();
        let columns = [links.next(), users.next(), groups.next()];
        take(&table.file(number, &path, &digest, columns))?;
    }
    Ok(())
}

impl Table<'_> {
    fn file<'b>(
        &self,
        number: usize,
        path: &'b [u8],
        digest: &'b str,
        [link, user, group]: [Option<&'b [u8]>; 3],
    ) -> Recorded<'b> {
        let flags = self.flags.at(number).unwrap_or(0);
        let state = self.states.at(number).unwrap_or(0);
        // Not installed, or another package's file now: only its name is kept.
        let optional = flags & (GHOST | MISSING_OK) != 0 || state != 0;
        if flags & GHOST != 0 || state != 0 {
            return Recorded {
                path,
                optional,
                ..Recorded::default()
            };
        }
        let mode = self
            .modes
            .at(number)
            .and_then(|mode| u32::try_from(mode).ok());
        let verified = self.verify.at(number).unwrap_or(VERIFY_DIGEST) & VERIFY_DIGEST != 0;
        Recorded {
            path,
            digest: (!digest.is_empty()).then_some((self.algorithm, digest)),
            mode,
            permissions: None,
            user,
            group,
            link: link.filter(|link| !link.is_empty()),
            config: flags & CONFIG != 0,
            optional,
            volatile: !verified,
        }
    }
}

/// The hash of files by its number in OpenPGP (RFC 9580, section 9.5); MD5 where none is given.
fn algorithm(number: Option<u64>) -> Algorithm {
    match number {
        Some(2) => Algorithm::Sha1,
        Some(8) => Algorithm::Sha256,
        Some(9) => Algorithm::Sha384,
        Some(10) => Algorithm::Sha512,
        Some(11) => Algorithm::Sha224,
        _ => Algorithm::Md5,
    }
}
