//! What of the facts a responder should look at first. A finding is a place to look, not a verdict.

use std::path::Path;

use serde::Serialize;

use super::super::{Halt, Sink};
use crate::host::Stat;

#[derive(Serialize)]
struct Finding {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    #[serde(rename = "file.path")]
    path: String,
}

/// Directories that everybody can write to, or that no package puts programs in.
const ODD_PLACES: &[&str] = &[
    "/tmp", "/var/tmp", "/dev", "/run", "/home", "/root", "/srv", "/var/www", "/mnt", "/media",
];

pub(super) fn of(
    path: &Path,
    stat: &Stat,
    facts: &[&str],
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let has = |fact: &str| facts.contains(&fact);
    let odd_place = ODD_PLACES.iter().any(|place| path.starts_with(place));
    let hidden = path
        .components()
        .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    let system = ["/etc", "/usr", "/bin", "/sbin", "/lib", "/boot"]
        .iter()
        .any(|place| path.starts_with(place));
    let rules = [
        (
            has("suid") && stat.uid == 0 && (odd_place || hidden),
            (
                "suid-in-odd-place",
                "T1548.001",
                "runs as root for whoever starts it, where no package puts such a program",
                "containers' file systems below a home",
            ),
        ),
        (
            has("capabilities") && (odd_place || hidden),
            (
                "capabilities-in-odd-place",
                "T1548.001",
                "a program with capabilities of its own, where no package puts such a program",
                "development builds",
            ),
        ),
        (
            has("file_in_dev"),
            (
                "file-in-dev",
                "T1564.001",
                "a plain file among devices",
                "a RAID's or a hypervisor's state",
            ),
        ),
        (
            has("device_outside_dev"),
            (
                "device-outside-dev",
                "T1006",
                "a device node outside /dev opens a disk or memory to whoever reaches it",
                "root file systems of containers, chroots",
            ),
        ),
        (
            has("immutable") && (system || odd_place),
            (
                "immutable-file",
                "T1222.002",
                "marked so that not even root changes it by mistake: a way to keep a file in place",
                "/etc/resolv.conf, hardened hosts",
            ),
        ),
        (
            has("odd_name"),
            (
                "odd-name",
                "T1564.001",
                "a name that a listing does not show as what it is",
                "file names in other encodings",
            ),
        ),
        (
            has("world_writable_executable") && system,
            (
                "world-writable-executable",
                "T1574",
                "a program of the system that everybody can change",
                "none",
            ),
        ),
    ];
    for (holds, (rule, technique, reason, known_benign)) in rules {
        if holds {
            sink.finding(&Finding {
                rule,
                technique,
                reason: reason.to_owned(),
                known_benign,
                path: path.display().to_string(),
            })?;
        }
    }
    Ok(())
}
