//! *installed* and *integrity*: what dpkg, rpm and apk say is installed, and whether the files still are what they installed.
//!
//! The databases are read as files, without the programs and the libraries that own them. They are the host's word: who
//! could change a file could change its record. Compare with the distribution's own where it matters. The databases
//! themselves are taken by the family *packages* of the files.

pub mod apk;
pub mod bytes;
pub mod dpkg;
mod hash;
mod integrity;
mod model;
mod places;
pub mod rpm;
#[cfg(test)]
mod tests;
mod text;
mod unowned;

use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::Host;
use model::{Package, Recorded, Visit};
use serde::Serialize;

pub use integrity::Integrity;

/// The packages that are on record.
pub struct Packages;

static SPEC: Spec = Spec {
    name: "installed",
    volatility: Volatility::Files,
    what: "the packages that dpkg, rpm and apk have on record, parsed without them",
    why: "what was installed, when and from where; old versions are open doors, odd vendors are new ones",
    deadline_s: 600,
    max_bytes: 1 << 30,
};

impl Artifact for Packages {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        match each(host, &mut Listing, sink)? {
            true => Ok(()),
            false => Err(none()),
        }
    }
}

fn none() -> CaptureError {
    CaptureError::Absent("no database of dpkg, rpm or apk".to_owned())
}

/// Hands what all databases hold to `visit`. False when there is none.
fn each(host: &Host, visit: &mut dyn Visit, sink: &mut Sink<'_>) -> Result<bool, Halt> {
    let dpkg = dpkg::each(host, visit, sink)?;
    let rpm = rpm::each(host, visit, sink)?;
    let apk = apk::each(host, visit, sink)?;
    Ok(dpkg || rpm || apk)
}

/// Writes a line for each package.
struct Listing;

/// A place to look, of this family.
#[derive(Serialize)]
struct Finding<'a> {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    package: &'a str,
}

impl Visit for Listing {
    fn package(&mut self, package: &Package, sink: &mut Sink<'_>) -> Result<(), Halt> {
        sink.record("packages/packages", package)?;
        if package.exhibit.record_intact == Some(false) {
            sink.finding(&Finding {
                rule: "package-record-altered",
                technique: "T1565.001",
                reason: format!(
                    "the record of {} in {} is not what the package was built with",
                    package.package.name, package.exhibit.database
                ),
                known_benign: "none known",
                package: &package.package.name,
            })?;
        }
        Ok(())
    }

    fn file(&mut self, _: &Package, _: &Recorded<'_>, _: &mut Sink<'_>) -> Result<(), Halt> {
        Ok(())
    }
}
