//! What speaks against loading LiME, found out without changing anything.

use super::lime;
use super::module::Entry;
use crate::capture::processes::parse;
use crate::host::{Host, SMALL};

/// Bit of CAP_SYS_MODULE (include/uapi/linux/capability.h).
const CAP_SYS_MODULE: u32 = 16;

/// Why LiME is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Risk {
    #[error("only a live system has memory to load a module into")]
    NotLive,
    #[error("CAP_SYS_MODULE is missing")]
    Capability,
    #[error("kernel.modules_disabled is 1: no module can be loaded until the next boot")]
    ModulesDisabled,
    #[error(
        "lockdown is `{0}`: only modules that are signed with a key of the kernel's are loaded"
    )]
    Lockdown(String),
    #[error(
        "module.sig_enforce is set: the kernel wants a signature that it knows on every module"
    )]
    SignatureEnforced,
    #[error("a module lime is loaded and in use: somebody else dumps memory now")]
    InUse,
    #[error(
        "this kernel allows secret memory (memfd_secret), on which this LiME ({version}) crashes: build a newer one"
    )]
    SecretMemory { version: String },
    #[error("this is not the first network namespace: LiME's port can not be reached from here")]
    Namespace,
}

impl Risk {
    /// Whether it is a policy of the kernel's.
    pub fn is_policy(&self) -> bool {
        matches!(
            self,
            Self::Capability | Self::ModulesDisabled | Self::Lockdown(_) | Self::SignatureEnforced
        )
    }
}

/// What speaks against it whatever the module is.
pub fn of_the_host(host: &Host, over_port: bool) -> Option<Risk> {
    if !host.is_live() {
        return Some(Risk::NotLive);
    }
    if host.line("proc/sys/kernel/modules_disabled").as_deref() == Some("1") {
        return Some(Risk::ModulesDisabled);
    }
    let lockdown = host
        .line("sys/kernel/security/lockdown")
        .unwrap_or_default();
    if let Some(level) = chosen(&lockdown).filter(|level| *level != "none") {
        return Some(Risk::Lockdown(level.to_owned()));
    }
    if is_set(host, "sys/module/module/parameters/sig_enforce") {
        return Some(Risk::SignatureEnforced);
    }
    if !has_capability(host, CAP_SYS_MODULE) {
        return Some(Risk::Capability);
    }
    if leftover(host) == Some(false) {
        return Some(Risk::InUse);
    }
    (over_port && !in_first_network(host)).then_some(Risk::Namespace)
}

/// What speaks against this module on this host. Whether there is secret memory now can not be known: its pages stay out
/// of the kernel's map after they are unmapped, and more may come while memory is read.
pub fn of_the_module(host: &Host, entry: &Entry) -> Option<Risk> {
    let allowed = is_set(host, "sys/module/secretmem/parameters/enable");
    (allowed && !entry.fault_safe).then(|| Risk::SecretMemory {
        version: entry.lime_version.clone(),
    })
}

/// Whether a module lime is there, left behind by a run that was killed: true when it can be unloaded, false when it is
/// being loaded or in use.
pub fn leftover(host: &Host) -> Option<bool> {
    let modules = host.root().read("proc/modules", SMALL).ok()?;
    let text = String::from_utf8_lossy(&modules.bytes).into_owned();
    let mut fields = text
        .lines()
        .map(|line| line.split(' '))
        .find_map(|mut fields| (fields.next() == Some(lime::NAME)).then_some(fields))?;
    // Size, references, users, state (Documentation: proc(5)).
    let (references, state) = (fields.nth(1)?, fields.nth(1)?);
    Some(references == "0" && state == "Live")
}

/// The word in brackets of a line such as `none [integrity] confidentiality`.
pub fn chosen(line: &str) -> Option<&str> {
    let word = line.split_once('[')?.1.split_once(']')?.0;
    // The kernel's words are short; a longer one is somebody else's.
    (word.len() < 32).then_some(word)
}

/// Whether the effective set of capabilities has `bit`.
pub fn has_capability(host: &Host, bit: u32) -> bool {
    let status = host.own().and_then(|own| own.read("status", SMALL));
    let mask = status.ok().and_then(|content| {
        let fields = parse::keys_and_values(&content.bytes);
        u64::from_str_radix(fields.get("CapEff")?, 16).ok()
    });
    mask.is_some_and(|mask| mask >> bit & 1 == 1)
}

fn is_set(host: &Host, path: &str) -> bool {
    matches!(host.line(path).as_deref(), Some("Y" | "1"))
}

fn in_first_network(host: &Host) -> bool {
    let network = |pid: &str| host.root().read_link(format!("proc/{pid}/ns/net")).ok();
    let own = host.own_pid().unwrap_or(1).to_string();
    network("1").is_some() && network("1") == network(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::open(root.path()).unwrap();
        (root, host)
    }

    fn entry(fault_safe: bool) -> Entry {
        Entry {
            release: "r".to_owned(),
            architecture: "x86_64".to_owned(),
            vermagic: "r".to_owned(),
            path: "p".to_owned(),
            sha256: evidence::Digest::of(b""),
            lime_version: "1.9.1".to_owned(),
            fault_safe,
        }
    }

    #[test]
    fn a_module_left_behind_is_told_from_one_in_use() {
        for (line, want) in [
            ("lime 20480 0 - Live 0xffffffffc0000000 (OE)", Some(true)),
            (
                "lime 20480 1 - Loading 0xffffffffc0000000 (OE+)",
                Some(false),
            ),
            ("lime 20480 1 other, Live 0xffffffffc0000000", Some(false)),
            ("slime 20480 0 - Live 0xffffffffc0000000", None),
        ] {
            let text = format!("ext4 1 2 - Live 0x0\n{line}\n");
            let (_root, host) = host(&[("proc/modules", &text)]);
            assert_eq!(leftover(&host), want, "{line}");
        }
    }

    #[test]
    fn secret_memory_keeps_an_old_module_out() {
        let enabled = ("sys/module/secretmem/parameters/enable", "Y\n");
        let (_root, allowed) = host(&[enabled]);
        let risk = of_the_module(&allowed, &entry(false)).unwrap();
        assert!(risk.to_string().contains("secret memory"), "{risk}");
        assert_eq!(of_the_module(&allowed, &entry(true)), None);
        let (_root, off) = host(&[(enabled.0, "N\n")]);
        assert_eq!(of_the_module(&off, &entry(false)), None);
        let (_root, unknown) = host(&[]);
        assert_eq!(of_the_module(&unknown, &entry(false)), None);
    }

    #[test]
    fn the_chosen_word_is_in_brackets() {
        assert_eq!(
            chosen("none [integrity] confidentiality"),
            Some("integrity")
        );
        assert_eq!(chosen("none"), None);
    }
}
