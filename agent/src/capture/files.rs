//! *files*: what a disk keeps, as data: each family is a name, a reason and its globs.
//!
//! Globs are matched component by component from a real directory downwards; no link is followed. `~` stands for the
//! home of each user in passwd, `**` for any depth. A file that another family took before is not taken twice.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use evidence::inventory::FileType;
use globset::{GlobBuilder, GlobMatcher};
use nix::errno::Errno;

use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{DirEntry, Host, HostError, SMALL};

/// Depth below which no directory is entered.
const MAX_DEPTH: usize = 48;

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
        for glob in self.globs.iter().flat_map(|glob| with_homes(host, glob)) {
            let Some(pattern) = Pattern::new(&glob) else {
                continue;
            };
            let mut visit = |path: &Path, error: Option<HostError>| {
                found = true;
                match error {
                    None => take(host, path, sink),
                    Some(error) => sink.lost(path, &error),
                }
            };
            walk(host, &pattern, &mut visit)?;
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
            Err(error) => sink.lost(path, &error),
        },
        FileType::Symlink => sink.link(path, &host.root().read_link(path), Some(&stat)),
        _ => sink.metadata(path, &stat),
    }
}

/// The paths that match `glob`, for code that needs more than their bytes.
pub fn glob(host: &Host, glob: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if let Some(pattern) = Pattern::new(glob) {
        // The visitor never halts.
        let _ = walk(host, &pattern, &mut |path, error| {
            if error.is_none() {
                paths.push(path.to_owned());
            }
            Ok(())
        });
    }
    paths
}

/// The glob once for each home directory, when it starts with `~`.
fn with_homes(host: &Host, glob: &str) -> Vec<String> {
    match glob.strip_prefix("~/") {
        Some(rest) => homes(host)
            .into_iter()
            .map(|home| format!("{home}/{rest}"))
            .collect(),
        None => vec![glob.to_owned()],
    }
}

/// Home directories by passwd, and those of users that only have a directory.
fn homes(host: &Host) -> BTreeSet<String> {
    let passwd = host
        .root()
        .read("etc/passwd", SMALL)
        .map(|content| content.bytes)
        .unwrap_or_default();
    let fields = String::from_utf8_lossy(&passwd)
        .lines()
        .filter_map(|l| l.split(':').nth(5).map(str::to_owned))
        .collect::<Vec<_>>();
    let listed = host.root().list("home").unwrap_or_default();
    let named = listed
        .iter()
        .filter_map(|entry| Some(format!("/home/{}", entry.name.to_str()?)));
    let real = |home: &String| {
        home.starts_with('/') && home.len() > 1 && !home.contains(['*', '?', '[', '{', '\\'])
    };
    fields
        .into_iter()
        .map(|home| home.trim_end_matches('/').to_owned())
        .chain(named)
        .chain(["/root".to_owned()])
        .filter(real)
        .collect()
}

/// A glob, and the directory below which all its matches are.
struct Pattern {
    base: PathBuf,
    matcher: GlobMatcher,
    /// Parts below the base that a match can have; `None` for any number.
    depth: Option<usize>,
}

impl Pattern {
    fn new(glob: &str) -> Option<Self> {
        let matcher = GlobBuilder::new(glob)
            .literal_separator(true)
            .backslash_escape(false)
            .build()
            .ok()?
            .compile_matcher();
        let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
        let plain = parts
            .iter()
            .take_while(|part| !part.contains(['*', '?', '[']))
            .count()
            .min(parts.len().saturating_sub(1));
        let base = parts
            .iter()
            .take(plain)
            .fold(PathBuf::from("/"), |path, part| path.join(part));
        let depth = (!parts.contains(&"**")).then(|| parts.len() - plain);
        Some(Self {
            base,
            matcher,
            depth,
        })
    }
}

/// What [`walk`] tells of: a match, or a directory that could not be listed and why.
type Visit<'a> = &'a mut dyn FnMut(&Path, Option<HostError>) -> Result<(), Halt>;

/// Visits each match below the pattern's base, in the order of names, directories included.
fn walk(host: &Host, pattern: &Pattern, visit: Visit<'_>) -> Result<(), Halt> {
    let deepest = pattern.depth.unwrap_or(MAX_DEPTH);
    let base_parts = parts(&pattern.base);
    let mut folders = vec![pattern.base.clone()];
    while let Some(folder) = folders.pop() {
        let depth = parts(&folder) - base_parts + 1;
        let entries = match host.root().list(&folder) {
            Ok(entries) => entries,
            Err(error) if is_elsewhere(&error) => continue,
            Err(error) => {
                visit(&folder, Some(error))?;
                continue;
            }
        };
        let mut below = Vec::new();
        for entry in entries {
            let path = folder.join(&entry.name);
            if pattern.matcher.is_match(&path) {
                visit(&path, None)?;
            }
            if depth < deepest && is_directory(host, &path, &entry) {
                below.push(path);
            }
        }
        // The last in is the first out.
        folders.extend(below.into_iter().rev());
    }
    Ok(())
}

fn parts(path: &Path) -> usize {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .count()
}

/// Not there, or a link to what another glob names by its real path.
fn is_elsewhere(error: &HostError) -> bool {
    error.is_gone() || matches!(error, HostError::Link | HostError::Os(Errno::ENOTDIR))
}

fn is_directory(host: &Host, path: &Path, entry: &DirEntry) -> bool {
    entry.is_directory.unwrap_or_else(|| {
        host.root()
            .stat(path)
            .is_ok_and(|stat| stat.file_type() == FileType::Directory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn host(files: &[&str]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let host = Host::open(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn globs_match_whole_components_and_hidden_names() {
        let (_root, host) = host(&[
            "/var/log/a.log",
            "/var/log/deep/er/b.log",
            "/var/log/.hidden",
            "/var/logs/no",
        ]);
        let found = |pattern: &str| {
            glob(&host, pattern)
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("/var/log/*.log"), ["/var/log/a.log"]);
        assert_eq!(
            found("/var/log/**").len(),
            5,
            "three files and two directories"
        );
        assert_eq!(found("/var/*/a.log"), ["/var/log/a.log"]);
        assert!(found("/nowhere/**").is_empty());
    }

    #[test]
    fn links_are_found_and_never_followed() {
        let (root, host) = host(&["/etc/real/secret"]);
        std::os::unix::fs::symlink("real", root.path().join("etc/link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("etc/loop")).unwrap();
        let found: Vec<PathBuf> = glob(&host, "/etc/**");
        assert!(
            found.contains(&PathBuf::from("/etc/link"))
                && found.contains(&PathBuf::from("/etc/loop"))
        );
        let below =
            |path: &PathBuf| path.components().count() > 3 && !path.starts_with("/etc/real");
        assert!(!found.iter().any(below), "{found:?}");
        assert!(glob(&host, "/etc/link/*").is_empty());
    }

    #[test]
    fn odd_names_match_as_bytes() {
        let (root, host) = host(&["/var/log/x"]);
        let odd = std::ffi::OsString::from_vec(b"a\xff\n|".to_vec());
        std::fs::write(root.path().join("var/log").join(&odd), "").unwrap();
        let found = glob(&host, "/var/log/a*");
        assert_eq!(found, [Path::new("/var/log").join(&odd)]);
    }

    #[test]
    fn homes_come_from_passwd_and_from_the_disk() {
        let (_root, host) = host(&["/etc/passwd", "/home/ghost/.bash_history"]);
        std::fs::write(
            _root.path().join("etc/passwd"),
            "a:x:1:1::/srv/a/:/bin/sh\nevil:x:2:2::/*:/bin/sh\n",
        )
        .unwrap();
        let homes: Vec<String> = homes(&host).into_iter().collect();
        assert_eq!(homes, ["/home/ghost", "/root", "/srv/a"]);
    }
}
