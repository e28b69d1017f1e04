//! The analysts' own readers open a collection unchanged, and find in it what is there.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::{judges, or_skip};

use super::{collect, collection, folder};

/// A record of wtmp: type, pid, line, user, host, seconds (utmp(5)).
fn login(kind: i16, user: &str, host: &str, seconds: i32) -> Vec<u8> {
    let mut record = vec![0; 384];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &kind.to_le_bytes());
    put(4, &812_i32.to_le_bytes());
    put(8, b"pts/0");
    put(40, b"ts/0");
    put(44, user.as_bytes());
    put(76, host.as_bytes());
    put(340, &seconds.to_le_bytes());
    record
}

/// 2026-01-01T00:00:00Z
const NEW_YEAR: i32 = 1_767_225_600;

/// A machine that was recorded: logins, logs, a journal, histories, tasks, and names that trap parsers.
fn recorded() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    put(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\n",
    );
    put("etc/hostname", b"victim\n");
    put(
        "run/systemd/system/beacon.service",
        b"[Service]\nExecStart=/usr/local/bin/beacon\n",
    );
    put(
        "etc/crontab",
        b"*/5 * * * * root /usr/local/bin/beacon\n@reboot root /tmp/x\n",
    );
    put(
        "home/alice/.bash_history",
        b"#1767225600\nid\n#1767225660\nwhoami\n",
    );
    put(
        "home/alice/.ssh/authorized_keys",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ alice@laptop\n",
    );
    put("var/log/auth.log", b"Jan  1 00:00:00 victim sshd[1]: Accepted publickey for alice from 192.0.2.1 port 22 ssh2: ED25519 SHA256:0123456789abcdef\n");
    let logins = [
        login(2, "reboot", "6.1.0", NEW_YEAR),
        login(7, "alice", "192.0.2.1", NEW_YEAR + 60),
        login(8, "", "", NEW_YEAR + 120),
    ];
    put("var/log/wtmp", &logins.concat());
    put(
        "var/log/btmp",
        &login(6, "root", "198.51.100.9", NEW_YEAR + 30),
    );
    let journal =
        zstd::decode_all(include_bytes!("../../fixtures/two-entries.journal.zst").as_slice())
            .unwrap();
    put(
        "var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
        &journal,
    );
    for name in [
        b"pipe|name".as_slice(),
        b"new\nline",
        b"esc\x1b[2J",
        b"\xff\xfe",
        b"back\\slash",
    ] {
        std::fs::write(
            root.path()
                .join("var/log")
                .join(std::ffi::OsStr::from_bytes(name)),
            "x",
        )
        .unwrap();
    }
    root
}

/// The collection of the recorded machine, as a plain tar beside its folder.
fn collected(root: &Path, to: &Path) -> (PathBuf, PathBuf) {
    let agent = Agent::built().unwrap();
    let ended = collect(
        &agent,
        to.to_str().unwrap(),
        &["--root", root.to_str().unwrap()],
    );
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    let folder = folder(to, &ended.prefix());
    let tar = to.join("evidence.tar");
    std::fs::write(&tar, collection::raw_tar(&folder)).unwrap();
    (folder, tar)
}

#[test]
fn dissect_reads_the_recorded_machine() {
    let (root, to) = (recorded(), tempfile::tempdir().unwrap());
    let (_, tar) = collected(root.path(), to.path());
    let Some(info) = or_skip(judges::dissect_info(&tar)) else {
        return;
    };
    assert_eq!(
        (info["os_family"].as_str(), info["hostname"].as_str()),
        (Some("linux"), Some("victim"))
    );
    let count = |function: &str| judges::dissect_target_query(&tar, function).unwrap().len();
    for (function, want) in [
        ("users", 2),
        ("wtmp", 3),
        ("btmp", 1),
        ("journal", 2),
        ("authlog", 1),
        ("commandhistory", 2),
        ("openssh.authorized_keys", 1),
        ("cronjobs", 1),
    ] {
        assert_eq!(count(function), want, "{function}");
    }
}

#[test]
fn dissect_sees_the_processes_and_sockets_that_we_see() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = tempfile::tempdir().unwrap();
    let (folder, tar) = collected(Path::new("/"), to.path());
    let members = collection::members(&folder);
    let Some(processes) = or_skip(judges::dissect_target_query(&tar, "processes")) else {
        return;
    };
    let ours = collection::table(&members, "live_response/process/processes.jsonl");
    let pids = |records: &[serde_json::Value],
                pid: &dyn Fn(&serde_json::Value) -> serde_json::Value| {
        records
            .iter()
            .map(|record| pid(record).as_i64().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let theirs: Vec<serde_json::Value> = processes
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        pids(&ours, &|r| r["process"]["pid"].clone()),
        pids(&theirs, &|r| r["pid"].clone())
    );
    // Sockets that no process holds any more, in TIME_WAIT, have no inode and are not shown.
    let inodes = |name: &str| -> BTreeSet<i64> {
        let text = members
            .get(name.as_bytes())
            .map(|bytes| String::from_utf8_lossy(bytes))
            .unwrap_or_default();
        let inode = |line: &str| line.split_ascii_whitespace().nth(9)?.parse().ok();
        text.lines()
            .skip(1)
            .filter_map(inode)
            .filter(|inode| *inode != 0)
            .collect()
    };
    let raw: BTreeSet<i64> = &inodes("[root]/proc/net/tcp") | &inodes("[root]/proc/net/tcp6");
    let rows: Vec<serde_json::Value> = judges::dissect_target_query(&tar, "sockets.tcp")
        .unwrap()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let theirs: BTreeSet<i64> = rows
        .iter()
        .filter_map(|row| row["inode"].as_i64())
        .filter(|inode| *inode != 0)
        .collect();
    // dissect shows the sockets of which it finds a holder among the descriptors.
    assert!(
        !theirs.is_empty() && theirs.is_subset(&raw),
        "{theirs:?} of {raw:?}"
    );
    let ours = rows
        .iter()
        .find(|row| row["local_port"] == port)
        .expect("our own listener");
    assert_eq!(ours["pid"], std::process::id());
    for function in ["cmdline", "environ", "sockets.unix", "users"] {
        assert!(
            !judges::dissect_target_query(&tar, function)
                .unwrap()
                .is_empty(),
            "{function}"
        );
    }
}

#[test]
fn plaso_finds_the_events() {
    let (root, to) = (recorded(), tempfile::tempdir().unwrap());
    let (_, tar) = collected(root.path(), to.path());
    let Some(counts) = or_skip(judges::plaso_counts(&tar)) else {
        return;
    };
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(count("text/bash_history"), 2, "{counts:?}");
    assert_eq!(
        count("utmp"),
        3,
        "wtmp; btmp is not read by plaso: {counts:?}"
    );
    assert_eq!(count("systemd_journal"), 2, "{counts:?}");
    assert!(count("filestat") > 20, "{counts:?}");
}

#[test]
fn mactime_names_every_line_of_the_bodyfile() {
    let (root, to) = (recorded(), tempfile::tempdir().unwrap());
    let (folder, _) = collected(root.path(), to.path());
    let body = collection::members(&folder)[b"bodyfile/bodyfile.txt".as_slice()].clone();
    let path = to.path().join("bodyfile.txt");
    std::fs::write(&path, &body).unwrap();
    let Some(shown) = or_skip(judges::mactime_names(&path)) else {
        return;
    };
    let text = String::from_utf8(body).expect("the bodyfile is UTF-8");
    let written: BTreeSet<&str> = text
        .lines()
        .map(|line| line.split('|').nth(1).unwrap())
        .collect();
    assert!(
        text.lines().all(|line| line.split('|').count() == 11),
        "{text}"
    );
    assert!(
        written.contains("/var/log/pipe\\x7cname") && written.contains("/var/log/new\\x0aline"),
        "{written:?}"
    );
    assert_eq!(shown.len(), written.len(), "{shown:?}");
}

#[test]
fn both_tars_list_every_member() {
    let (root, to) = (recorded(), tempfile::tempdir().unwrap());
    let (folder, tar) = collected(root.path(), to.path());
    let members = collection::members(&folder).len();
    let Some(gnu) = or_skip(judges::gnu_tar_list(&tar)) else {
        return;
    };
    assert_eq!(gnu.len(), members);
    let Some(bsd) = or_skip(judges::bsdtar_list(&tar)) else {
        return;
    };
    assert_eq!(bsd.len(), members);
}

#[test]
fn native_readers_open_the_copies() {
    let (root, to) = (recorded(), tempfile::tempdir().unwrap());
    let (folder, _) = collected(root.path(), to.path());
    let members = collection::members(&folder);
    let copy = |name: &str, file: &str| {
        let path = to.path().join(file);
        std::fs::write(&path, &members[format!("[root]{name}").as_bytes()]).unwrap();
        path
    };
    let wtmp = copy("/var/log/wtmp", "wtmp");
    let journal = copy(
        "/var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
        "system.journal",
    );
    if let Some(last) = or_skip(judges::last_f(&wtmp)) {
        assert!(
            last.iter()
                .any(|line| line.contains("alice") && line.contains("192.0.2.1")),
            "{last:?}"
        );
    }
    if let Some(entries) = or_skip(judges::journalctl_file(&journal)) {
        assert_eq!(entries.len(), 2);
    }
    let logins = collection::table(&members, "live_response/system/logins.jsonl");
    assert_eq!(logins.len(), 4);
    let alice = logins
        .iter()
        .find(|login| login["user"] == "alice")
        .unwrap();
    assert_eq!(
        (alice["type"].as_str(), alice["time"].as_str()),
        (Some("user_process"), Some("2026-01-01T00:01:00Z"))
    );
}
