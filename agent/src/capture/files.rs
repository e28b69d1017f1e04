//! *files*: what a disk keeps, as data: each family is a name, a reason and its globs.
//!
//! In globs `~` stands for the home of each user, `**` for any depth. A file that another family took before is not taken
//! twice.

use std::path::Path;

use evidence::inventory::FileType;

use super::glob::{Pattern, Seen};
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Host, HostError};

/// A family of files.
pub struct Files {
    spec: Spec,
    globs: &'static [&'static str],
}

const fn family(
    name: &'static str,
    what: &'static str,
    why: &'static str,
    globs: &'static [&'static str],
) -> Files {
    let spec = Spec {
        name,
        volatility: Volatility::Files,
        what,
        why,
        deadline_s: 1800,
        max_bytes: 64 << 30,
    };
    Files { spec, globs }
}

/// The families, the smallest and most telling first.
pub static FAMILIES: &[Files] = &[
    family(
        "accounts",
        "users, groups, password hashes, sudo rules",
        "new accounts and rights are the plainest persistence",
        &[
            "/etc/passwd*",
            "/etc/group*",
            "/etc/shadow*",
            "/etc/gshadow*",
            "/etc/subuid*",
            "/etc/subgid*",
            "/etc/sudoers",
            "/etc/sudoers.d/**",
            "/etc/login.defs",
            "/etc/securetty",
            "/etc/nsswitch.conf",
        ],
    ),
    family(
        "ssh",
        "keys, known hosts and settings of SSH, of each user and of the server",
        "added keys let an intruder come back; known hosts show where they went",
        &["~/.ssh/**", "/etc/ssh/**"],
    ),
    family(
        "shell_histories",
        "histories and start-up files of shells and interactive tools",
        "what was typed, and what runs at each login",
        &[
            "~/.*_history",
            "~/.*history",
            "~/.local/share/fish/fish_history",
            "~/.bashrc",
            "~/.bash_profile",
            "~/.bash_login",
            "~/.bash_logout",
            "~/.profile",
            "~/.zshrc",
            "~/.zprofile",
            "~/.zshenv",
            "~/.zlogin",
            "~/.kshrc",
            "~/.cshrc",
            "~/.tcshrc",
            "~/.config/fish/**",
            "~/.viminfo",
            "~/.lesshst",
            "~/.wget-hsts",
            "~/.gitconfig",
        ],
    ),
    family(
        "scheduled_tasks",
        "cron, at and anacron",
        "code that comes back by itself",
        &[
            "/etc/crontab",
            "/etc/cron.*/**",
            "/etc/anacrontab",
            "/etc/at.allow",
            "/etc/at.deny",
            "/etc/cron.allow",
            "/etc/cron.deny",
            "/var/spool/cron/**",
            "/var/spool/at/**",
            "/var/spool/anacron/**",
            "/var/spool/atjobs/**",
        ],
    ),
    family(
        "systemd",
        "units, timers, generators and their drop-ins, of the system and of users",
        "services are where most Linux malware makes itself at home",
        &[
            "/etc/systemd/**",
            "/run/systemd/system/**",
            "/run/systemd/transient/**",
            "/run/systemd/generator/**",
            "/run/systemd/generator.early/**",
            "/run/systemd/generator.late/**",
            "/usr/lib/systemd/system/**",
            "/usr/lib/systemd/user/**",
            "/usr/lib/systemd/system-generators/**",
            "/usr/local/lib/systemd/**",
            "/lib/systemd/system/**",
            "~/.config/systemd/**",
            "/var/lib/systemd/timers/**",
            "/var/lib/systemd/linger/**",
        ],
    ),
    family(
        "audit",
        "logs and rules of the audit daemon",
        "system calls and logins that were recorded by the kernel",
        &["/var/log/audit/**", "/etc/audit/**"],
    ),
    family(
        "journal",
        "the journals of systemd, persistent and volatile",
        "most services log nowhere else",
        &["/run/log/journal/**", "/var/log/journal/**"],
    ),
    family(
        "logs",
        "everything below /var/log",
        "what the system and its services said",
        &["/var/log/**"],
    ),
    family(
        "etc",
        "everything below /etc that no other family took",
        "settings that were changed to come back, to hide or to weaken",
        &["/etc/**"],
    ),
];

impl Artifact for &'static Files {
    fn spec(&self) -> &'static Spec {
        &self.spec
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let mut found = false;
        for pattern in self.globs.iter().flat_map(|glob| Pattern::all(host, glob)) {
            pattern.walk(host, &mut |path, seen| match seen {
                Seen::Folder => sink.check(),
                Seen::Match => {
                    found = true;
                    take(host, path, sink)
                }
                Seen::Failed(error) => {
                    found = true;
                    sink.lost(path, &error)
                }
            })?;
        }
        if found {
            Ok(())
        } else {
            Err(CaptureError::Absent("no such file on this host".to_owned()))
        }
    }
}

/// Puts whatever is at `path` into the collection, by its kind.
fn take(host: &Host, path: &Path, sink: &mut Sink<'_>) -> Result<(), Halt> {
    if sink.has(path) {
        return Ok(());
    }
    let stat = match host.root().stat(path) {
        Ok(stat) => stat,
        Err(error) => return sink.lost(path, &error),
    };
    match stat.file_type() {
        FileType::File => match host.root().open(path) {
            Ok(file) => sink.file(path, file),
            // It was a file a moment ago.
            Err(HostError::NotAFile(_)) => sink.lost(path, &HostError::Changed),
            Err(error) => sink.lost(path, &error),
        },
        FileType::Symlink => sink.link(path, &host.root().read_link(path), Some(&stat)),
        _ => sink.metadata(path, &stat),
    }
}
