//! apk's database of installed packages (Alpine), as apk-v2 of apk-tools describes it: lines of a letter, a colon and a
//! value; files follow the folder they are in.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::model::{Algorithm, Ecs, Own, Package, Recorded, Visit};
use super::text::{Paragraphs, lines, nameless};
use crate::capture::processes::parse::text;
use crate::capture::{Halt, Sink};
use crate::host::Host;
use crate::text::rfc3339;

/// Where the database is; the second since Alpine 3.22.
pub const FILES: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// Hands packages and their files to `visit`. False when there is no such database.
///
/// # Errors
/// When the artifact has to end.
pub fn each(host: &Host, visit: &mut dyn Visit, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    let mut found = false;
    for path in FILES.map(Path::new) {
        let mut paragraphs = match host.root().open(path) {
            Ok(file) => Paragraphs::of(file),
            Err(error) => {
                // Either may be a link to the other.
                if !error.is_gone() && !matches!(error, crate::host::HostError::Link) {
                    sink.lost(path, &error)?;
                    found = true;
                }
                continue;
            }
        };
        found = true;
        loop {
            sink.check()?;
            match paragraphs.next() {
                Ok(Some(bytes)) => of_package(path, bytes, visit, sink)?,
                Ok(None) => break,
                Err(error) => {
                    sink.lost(path, &error)?;
                    break;
                }
            }
        }
    }
    Ok(found)
}

fn of_package(
    database: &Path,
    bytes: &[u8],
    visit: &mut dyn Visit,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let Some(package) = package(database, bytes) else {
        nameless(bytes, sink);
        return Ok(());
    };
    visit.package(&package, sink)?;
    let (mut folder, mut name, mut mode) = (Vec::new(), None, None);
    for (letter, value) in lines(bytes).filter_map(field) {
        match letter {
            b'F' => folder = [b"/", value].concat(),
            b'R' => {
                // The file before had no digest.
                if let Some(path) = name.replace(join(&folder, value)) {
                    file(&package, &path, None, mode.take(), visit, sink)?;
                }
            }
            b'a' => mode = permissions(value),
            b'Z' => {
                if let Some(path) = name.take() {
                    file(&package, &path, digest(value), mode.take(), visit, sink)?;
                }
            }
            _ => {}
        }
    }
    match name {
        Some(path) => file(&package, &path, None, mode, visit, sink),
        None => Ok(()),
    }
}

fn file(
    package: &Package,
    path: &[u8],
    digest: Option<String>,
    mode: Option<u32>,
    visit: &mut dyn Visit,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let recorded = Recorded {
        path,
        digest: digest.as_deref().map(|digest| (Algorithm::Sha1, digest)),
        permissions: mode,
        // apk protects all of /etc from its own updates.
        config: path.starts_with(b"/etc/"),
        ..Recorded::default()
    };
    visit.file(package, &recorded, sink)
}

fn field(line: &[u8]) -> Option<(u8, &[u8])> {
    match line {
        [letter, b':', value @ ..] => Some((*letter, value)),
        _ => None,
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if folder.ends_with(b"/") { b"" } else { b"/" };
    [folder, slash, name].concat()
}

/// User, group and permissions, which are octal.
fn permissions(value: &[u8]) -> Option<u32> {
    let value = std::str::from_utf8(value).ok()?;
    u32::from_str_radix(value.split(':').nth(2)?, 8).ok()
}

/// `Q1` and a SHA-1 in base64. That of a link is of its target.
fn digest(value: &[u8]) -> Option<String> {
    let bytes = BASE64.decode(value.strip_prefix(b"Q1")?).ok()?;
    (bytes.len() == 20).then(|| hex::encode(bytes))
}

fn package(database: &Path, bytes: &[u8]) -> Option<Package> {
    let value = |wanted: u8| {
        let mut fields = lines(bytes).filter_map(field);
        let found = fields.find(|(letter, _)| *letter == wanted);
        found.map(|(_, value)| text(value))
    };
    let built = value(b't').and_then(|time| time.parse::<i64>().ok());
    Some(Package {
        package: Ecs {
            name: value(b'P')?,
            version: value(b'V').unwrap_or_default(),
            architecture: value(b'A').unwrap_or_default(),
            kind: "apk",
            installed: None,
            size: value(b'I').and_then(|size| size.parse().ok()),
            license: value(b'L'),
            description: value(b'T'),
        },
        exhibit: Own {
            database: database.display().to_string(),
            source: value(b'o'),
            vendor: value(b'm'),
            built: built.map(|time| rfc3339(time.saturating_mul(1_000_000_000))),
            ..Own::default()
        },
    })
}
