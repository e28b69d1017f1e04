//! The judges read what is there, and say so when they cannot.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use exhibit_tests::rig::judges;
use exhibit_tests::rig::or_skip;
use tempfile::TempDir;

/// 2026-01-01T00:00:00Z
const NEW_YEAR: u32 = 1_767_225_600;

const MEMBERS: [(&str, &str); 8] = [
    ("uac.log", ""),
    (
        "[root]/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\n",
    ),
    ("[root]/etc/hostname", "victim\n"),
    ("[root]/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
    (
        "[root]/etc/crontab",
        "*/5 * * * * root /usr/local/bin/beacon\n",
    ),
    (
        "[root]/home/alice/.bash_history",
        "#1767225600\nid\n#1767225660\nwhoami\n",
    ),
    (
        "[root]/var/log/auth.log",
        "Jan  1 00:00:00 victim sshd[1]: Accepted publickey for alice from 192.0.2.1 port 22 ssh2\n",
    ),
    ("[root]/run/motd", "welcome\n"),
];

/// A host as UAC packs it, in the smallest form that a reader takes for a Linux.
fn host_tar(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("host.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    for (name, text) in MEMBERS {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(NEW_YEAR.into());
        header.set_size(text.len() as u64);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().sync_all().unwrap();
    path
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn dissect_finds_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let tar = host_tar(&folder);
    let Some(info) = or_skip(judges::dissect_info(&tar)) else {
        return;
    };
    assert_eq!(
        (info["os_family"].as_str(), info["hostname"].as_str()),
        (Some("linux"), Some("victim"))
    );
    let query = |function| judges::dissect_target_query(&tar, function).unwrap();
    assert_eq!(query("users").len(), 2);
    assert_eq!(query("cronjobs").len(), 1);
    let history = query("commandhistory");
    assert_eq!(history.len(), 2);
    assert!(
        history[1].contains(r#""command": "whoami""#),
        "{}",
        history[1]
    );

    let garbage = file(&folder, "garbage.tar", &[7; 20_000]);
    let os = judges::dissect_info(&garbage).map(|info| info["os_family"].clone());
    assert_ne!(os.ok(), Some("linux".into()));
}

#[test]
fn plaso_finds_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let Some(counts) = or_skip(judges::plaso_counts(&host_tar(&folder))) else {
        return;
    };
    assert_eq!(counts["text/bash_history"], 2, "{counts:?}");
    assert_eq!(counts["bash:history:entry"], 2, "{counts:?}");
    assert_eq!(counts["syslog:ssh:login"], 1, "{counts:?}");
    assert!(judges::plaso_counts(&folder.path().join("absent.tar")).is_err());
}

#[test]
fn mactime_shows_what_it_understands() {
    let folder = tempfile::tempdir().unwrap();
    let line = |name: &str| {
        format!("0|{name}|5|r/rrw-r--r--|0|0|1|{NEW_YEAR}|{NEW_YEAR}|{NEW_YEAR}.5|0\n")
    };
    let names = [
        "/etc/passwd",
        r#"/tmp/a,"b""#,
        r"/tmp/a\x7cb",
        "/bin/sh -> /bin/dash",
    ];
    let body: String = names
        .iter()
        .map(|name| line(name))
        .chain([line("/tmp/hidden|name")])
        .collect();
    let Some(shown) = or_skip(judges::mactime_names(&file(
        &folder,
        "body",
        body.as_bytes(),
    ))) else {
        return;
    };
    assert_eq!(
        shown,
        names
            .map(str::to_string)
            .into_iter()
            .collect::<BTreeSet<_>>()
    );
    assert!(judges::mactime_names(&folder.path().join("absent")).is_err());
}

#[test]
fn both_tars_list_every_member() {
    let folder = tempfile::tempdir().unwrap();
    let tar = host_tar(&folder);
    let names = MEMBERS.map(|(name, _)| name);
    // Within a member's data: GNU tar takes one that ends within a header for complete.
    let cut = file(&folder, "cut.tar", &fs::read(&tar).unwrap()[..1100]);
    for list in [judges::gnu_tar_list, judges::bsdtar_list] {
        let Some(listed) = or_skip(list(&tar)) else {
            continue;
        };
        assert_eq!(listed, names);
        assert!(list(&cut).is_err(), "an archive cut short passed");
    }
}

#[test]
fn last_reads_a_copy_of_wtmp() {
    let folder = tempfile::tempdir().unwrap();
    let wtmp = file(&folder, "wtmp", &login("alice", "pts/0", "192.0.2.1"));
    let Some(sessions) = or_skip(judges::last_f(&wtmp)) else {
        return;
    };
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    for part in ["alice", "pts/0", "192.0.2.1", "2026-01-01T00:00:00+00:00"] {
        assert!(sessions[0].contains(part), "{sessions:?}");
    }
    assert_eq!(
        judges::last_f(&file(&folder, "empty", b"")).unwrap(),
        Vec::<String>::new()
    );
    assert!(judges::last_f(&folder.path().join("absent")).is_err());
}

/// A record of a login as in `utmp(5)`.
fn login(user: &str, line: &str, host: &str) -> Vec<u8> {
    let mut record = vec![0; 384];
    record[0] = 7;
    record[4] = 1;
    for (at, text) in [(8, line), (40, "p0"), (44, user), (76, host)] {
        record[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    record[340..344].copy_from_slice(&NEW_YEAR.to_le_bytes());
    record
}

#[test]
fn journalctl_reads_a_copy_of_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/two-entries.journal.zst");
    let unpacked = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
    let journal = file(&folder, "host.journal", &unpacked);
    let Some(entries) = or_skip(judges::journalctl_file(&journal)) else {
        return;
    };
    let messages: Vec<_> = entries
        .iter()
        .map(|entry| entry["MESSAGE"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        ["Accepted publickey for alice", "module verification failed"]
    );
    assert!(judges::journalctl_file(&file(&folder, "bad.journal", b"garbage")).is_err());
}
