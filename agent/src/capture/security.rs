//! *security*: what the kernel's security modules say of themselves, as texts, and the audit subsystem by netlink.
//!
//! Where securityfs is not mounted it is looked at detached. Nothing is set.

use serde::Serialize;

use super::processes::parse::text;
use super::{Artifact, CaptureError, Sink, Spec, Volatility, audit};
use crate::host::{Folder, Host, HostError, View};

/// Security modules.
pub struct Security;

static SPEC: Spec = Spec {
    name: "security",
    volatility: Volatility::Kernel,
    what: "loaded security modules, lockdown, AppArmor profiles, SELinux and IMA state, status and loaded rules of the audit subsystem",
    why: "an intruder who switched a protection off left it switched off",
    deadline_s: 30,
    max_bytes: 64 << 20,
};

/// Texts of securityfs.
const SECURITYFS: &[&str] = &[
    "lsm",
    "lockdown",
    "apparmor/profiles",
    "ima/policy",
    "ima/runtime_measurements_count",
    "ima/violations",
    "ima/ascii_runtime_measurements",
    "evm",
    "tomoyo/profile",
];
/// Texts of selinuxfs, where it is mounted.
const SELINUX: &[&str] = &[
    "enforce",
    "mls",
    "policyvers",
    "deny_unknown",
    "checkreqprot",
];
/// Most bytes of one: IMA may have measured many files.
const MAX_TEXT: usize = 16 << 20;
/// Most bytes of a text that stands in a record too.
const SHORT: usize = 256;

#[derive(Serialize)]
struct State<'a> {
    of: &'a str,
    name: &'a str,
    value: String,
}

impl Artifact for Security {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        match open(host) {
            Ok(folder) => texts("securityfs", &folder, SECURITYFS, sink)?,
            Err(error) => {
                let absent = matches!(
                    error.errno().as_deref(),
                    Some("ENODEV" | "ENOSYS" | "ENOENT")
                );
                if !absent {
                    sink.count(&error);
                }
                sink.note(format!("securityfs: {error}"));
            }
        }
        if let Ok(folder) = host.root().folder("sys/fs/selinux") {
            texts("selinux", &folder, SELINUX, sink)?;
        }
        if host.is_live() {
            audit::capture(sink)?;
        }
        Ok(())
    }
}

fn open(host: &Host) -> Result<Folder, HostError> {
    match host.mounted(View::Securityfs) || !host.is_live() {
        true => host.root().folder(View::Securityfs.usual_place()),
        false => host.detached(View::Securityfs),
    }
}

fn texts(
    of: &'static str,
    folder: &Folder,
    names: &[&str],
    sink: &mut Sink<'_>,
) -> Result<(), CaptureError> {
    for name in names {
        let content = folder.read(name, MAX_TEXT);
        sink.raw_if_there(&folder.path().join(name), &content)?;
        if let Ok(content) = content
            && content.bytes.len() <= SHORT
        {
            let value = text(content.bytes.trim_ascii_end());
            sink.record("kernel/security", &State { of, name, value })?;
        }
    }
    Ok(())
}
