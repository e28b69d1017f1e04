//! Whether asking the kernel makes it load a module.
//!
//! A question to `NETLINK_SOCK_DIAG` for a family whose handler is not there makes the kernel run the host's modprobe
//! (`sock_diag_rcv_msg`, `net/core/sock_diag.c`): a program of a suspect host runs as root, and the module stays. So a
//! family is only asked for when its handlers are in the kernel already; otherwise `/proc` has to do.

use std::collections::BTreeSet;

use nix::sys::utsname::uname;

use super::model::Family;
use crate::host::{Host, HostError, SMALL};

/// What is known of the kernel's modules.
#[derive(Debug, Default)]
pub struct Modules {
    /// Whether asking is free: the kernel loads none, or has no program to do so.
    loads_none: bool,
    /// Names of those that are loaded or known to be built in, with `_` for `-`.
    present: BTreeSet<String>,
}

impl Modules {
    /// Reads what the host says of its modules.
    pub fn read(host: &Host) -> Self {
        let loaded = host.root().read("proc/modules", SMALL);
        let modprobe = host.line("proc/sys/kernel/modprobe");
        // Without CONFIG_MODULES neither file is there, and `request_module` does nothing. Without a path of modprobe it
        // does nothing either.
        let no_modules = loaded.as_ref().is_err_and(HostError::is_gone) && modprobe.is_none();
        let no_modprobe = modprobe.is_some_and(|path| path.is_empty());
        let mut modules = Self {
            loads_none: no_modules || no_modprobe,
            ..Self::default()
        };
        if modules.loads_none {
            return modules;
        }
        let loaded = loaded.map(|content| content.bytes).unwrap_or_default();
        modules.present = names(&loaded, |line| line.split(' ').next());
        modules.present.extend(named_in_sys(host));
        if handlers().any(|name| !modules.present.contains(name)) {
            modules.present.extend(built_in(host));
        }
        modules
    }

    /// Which of `names` are not in the kernel, loaded or built in, in words; `None` when asking loads nothing.
    pub fn missing(&self, host: &Host, names: &[&str]) -> Option<String> {
        let absent = |known: &BTreeSet<String>| -> Vec<String> {
            let missing = names.iter().filter(|name| !known.contains(**name));
            missing.map(|name| (*name).to_owned()).collect()
        };
        if self.loads_none || absent(&self.present).is_empty() {
            return None;
        }
        let mut known = built_in(host);
        known.extend(self.present.iter().cloned());
        let missing = absent(&known);
        (!missing.is_empty()).then(|| missing.join(" and "))
    }

    /// Why the kernel is not asked for `family`; `None` when it may be.
    pub fn objection(&self, family: Family) -> Option<String> {
        if self.loads_none {
            return None;
        }
        let missing: Vec<&str> = needed(family)
            .iter()
            .copied()
            .filter(|name| !self.present.contains(*name))
            .collect();
        let what = missing.join(" and ");
        (!missing.is_empty())
            .then(|| format!("{what} not in the kernel; asking would make it run modprobe"))
    }
}

/// Modules that answer for a family. Those of inet are two: one for the addresses, one for the transport.
fn needed(family: Family) -> &'static [&'static str] {
    match family {
        Family::Tcp | Family::Tcp6 => &["inet_diag", "tcp_diag"],
        Family::Udp | Family::Udp6 | Family::UdpLite | Family::UdpLite6 => {
            &["inet_diag", "udp_diag"]
        }
        Family::Raw | Family::Raw6 => &["inet_diag", "raw_diag"],
        Family::Mptcp | Family::Mptcp6 => &["inet_diag", "tcp_diag", "mptcp_diag"],
        Family::Sctp | Family::Sctp6 => &["inet_diag", "sctp_diag"],
        Family::Dccp | Family::Dccp6 => &["inet_diag", "dccp_diag"],
        Family::Icmp | Family::Icmp6 => &[],
        Family::Unix => &["unix_diag"],
        Family::Packet => &["af_packet_diag"],
        Family::Netlink => &["netlink_diag"],
    }
}

fn handlers() -> impl Iterator<Item = &'static str> {
    Family::ALL
        .iter()
        .flat_map(|family| needed(*family))
        .copied()
}

/// Folders of `/sys/module`: loaded modules, and built-in ones that have parameters.
fn named_in_sys(host: &Host) -> Vec<String> {
    let Ok(entries) = host.root().list("sys/module") else {
        return Vec::new();
    };
    entries
        .into_iter()
        .filter_map(|entry| entry.name.into_string().ok())
        .collect()
}

/// Modules that are part of the kernel's image (kernel.org, Documentation/kbuild/kbuild.rst, `modules.builtin`). `/lib`
/// is a link on hosts of today, and links are not followed.
fn built_in(host: &Host) -> BTreeSet<String> {
    let Ok(name) = uname() else {
        return BTreeSet::new();
    };
    let release = name.release().to_string_lossy();
    let text = ["usr/lib", "lib"].iter().find_map(|lib| {
        let path = format!("{lib}/modules/{release}/modules.builtin");
        host.root().read(path, SMALL).ok()
    });
    names(&text.unwrap_or_default().bytes, |line| {
        line.rsplit('/').next()?.split('.').next()
    })
}

fn names(text: &[u8], name: impl Fn(&str) -> Option<&str>) -> BTreeSet<String> {
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| Some(name(line)?.replace('-', "_")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::open(folder.path()).unwrap();
        (folder, host)
    }

    #[test]
    fn a_kernel_without_modules_is_asked_for_everything() {
        let (_folder, host) = host(&[("proc/version", "Linux")]);
        let modules = Modules::read(&host);
        assert!(
            Family::ALL
                .iter()
                .all(|family| modules.objection(*family).is_none())
        );
    }

    #[test]
    fn only_what_is_in_the_kernel_is_asked_for() {
        let release = uname().unwrap().release().to_string_lossy().into_owned();
        let builtin = format!("usr/lib/modules/{release}/modules.builtin");
        let (_folder, host) = host(&[
            (
                "proc/modules",
                "tcp_diag 16384 0 - Live 0x0\ninet_diag 24576 1 tcp_diag, Live 0x0\n",
            ),
            ("proc/sys/kernel/modprobe", "/sbin/modprobe\n"),
            ("sys/module/netlink_diag/initstate", "live\n"),
            (
                builtin.as_str(),
                "kernel/net/unix/unix_diag.ko\nkernel/net/packet/af-packet-diag.ko\n",
            ),
        ]);
        let modules = Modules::read(&host);
        for family in [
            Family::Tcp,
            Family::Tcp6,
            Family::Unix,
            Family::Packet,
            Family::Netlink,
            Family::Icmp,
        ] {
            assert_eq!(modules.objection(family), None, "{family:?}");
        }
        let why = modules.objection(Family::Udp).unwrap();
        assert!(why.starts_with("udp_diag not in the kernel"), "{why}");
        assert!(modules.objection(Family::Raw6).is_some());
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_folder, host) = host(&[
            ("proc/modules", "nfnetlink 1 0 - Live 0x0\n"),
            ("proc/sys/kernel/modprobe", "/sbin/modprobe\n"),
        ]);
        let modules = Modules::read(&host);
        assert_eq!(modules.missing(&host, &["nfnetlink"]), None);
        let missing = modules.missing(&host, &["nfnetlink", "nf_tables"]);
        assert_eq!(missing.as_deref(), Some("nf_tables"));
    }

    #[test]
    fn what_is_not_known_is_not_asked_for() {
        let (_folder, host) = host(&[
            ("proc/modules", ""),
            ("proc/sys/kernel/modprobe", "/sbin/modprobe\n"),
        ]);
        let why = Modules::read(&host).objection(Family::Tcp).unwrap();
        assert!(why.starts_with("inet_diag and tcp_diag"), "{why}");
    }

    #[test]
    fn without_a_path_of_modprobe_asking_is_free() {
        let (_folder, host) = host(&[
            ("proc/modules", "x 1 0 - Live 0x0\n"),
            ("proc/sys/kernel/modprobe", "\n"),
        ]);
        assert_eq!(Modules::read(&host).objection(Family::Tcp), None);
    }
}
