//! Trees that want to stop a run, or to make it forget the rest: too much of something, and files that are damaged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::{skip_or_fail, tool};

use super::tree::{Found, Ground};
use super::{Ended, collection, folder, manners, run, verify};

/// Fills a directory in memory that nobody else sees, then runs the agent on it.
const FULL: &str = r#"
import os, subprocess, sys
root, names, folders = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=0,size=4g", "none", root], check=True)
for path in ("var/log/many", "var/log/zzz", "srv/folders"):
    os.makedirs(f"{root}/{path}")
for path in ("var/log/aaa", "var/log/zzz/last"):
    with open(f"{root}/{path}", "w") as file:
        file.write("what matters\n")
os.chdir(f"{root}/var/log/many")
open("0", "w").close()
for number in range(1, names):
    os.link("0", str(number))
os.chdir(f"{root}/srv/folders")
for number in range(folders):
    os.mkdir(str(number))
os.chdir("/")
os.execv(sys.argv[4], sys.argv[4:] + ["--root", root])
"#;

#[test]
fn a_directory_with_a_million_names_costs_neither_memory_nor_the_rest() {
    if !manners::is_root() {
        return skip_or_fail("only root can mount");
    }
    for name in ["python3", "unshare"] {
        if tool(name).is_none() {
            return skip_or_fail(&format!("{name} is missing"));
        }
    }
    let agent = Agent::built().unwrap();
    let ground = Ground::new(&[]);
    let (names, folders) = (1_000_000, 140_000);
    let ended: Ended = run(Command::new("unshare")
        .args(["--mount", "python3", "-c", FULL])
        .arg(ground.root.path())
        .args([names.to_string(), folders.to_string()])
        .arg(agent.program())
        .args(["collect", "--quiet", "--include", "filesystem,logs", "--to"])
        .arg(ground.to.path()));
    assert_eq!(ended.code, 3, "{ended:?}");
    let found = Found::of(&folder(ground.to.path(), &ended.prefix()), ended);
    for path in ["var/log/aaa", "var/log/zzz/last"] {
        let content = found.content(path);
        assert_eq!(content, Some(b"what matters\n".as_slice()), "{path}");
    }
    // An eighth of what the family may have.
    let taken = 1 << 15;
    let report = collection::artifact(&found.manifest, "logs");
    let reason = report["reason"].as_str().unwrap();
    let left_out = format!("{} names did not fit", names - taken);
    assert!(reason.contains(&left_out), "{reason}");
    // Every name is in the bodyfile, also of what was not taken; what is below too many directories is named.
    let bodyfile = |(name, _): &(&Vec<u8>, &Vec<u8>)| name.starts_with(b"bodyfile/");
    let lines = found.members.iter().filter(bodyfile);
    let lines: usize = lines
        .map(|(_, text)| text.iter().filter(|byte| **byte == b'\n').count())
        .sum();
    assert!(lines >= names + folders, "{lines}");
    let unentered = found.inventory.iter().filter(|line| {
        let path = line["path"].as_str().unwrap_or_default();
        line["status"] == "truncated" && path.starts_with("[root]/srv/folders/")
    });
    assert_eq!(unentered.count(), folders - (1 << 17));
    let peak = found.manifest["impact"]["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < 96 << 20, "{peak}");
}

/// A journal of two entries, as journald writes them.
fn journal() -> Vec<u8> {
    let packed = include_bytes!("../../fixtures/two-entries.journal.zst");
    zstd::decode_all(packed.as_slice()).unwrap()
}

/// Files that are damaged, each in its way.
fn damaged() -> Vec<(Vec<u8>, Vec<u8>)> {
    let noise: Vec<u8> = (0..2_000_u32).map(|n| (n * 7919 % 251) as u8).collect();
    let journal = journal();
    let id = "a".repeat(64);
    let mut files: Vec<(Vec<u8>, Vec<u8>)> = [
        ("run/utmp", noise[..384 * 3].to_vec()),
        ("var/log/wtmp", noise[..384 + 100].to_vec()),
        ("var/log/btmp", vec![0; 383]),
        ("var/log/lastlog", noise[..100].to_vec()),
        (
            "var/log/journal/x/system.journal",
            journal[..journal.len() / 2].to_vec(),
        ),
        ("var/log/journal/x/short.journal", journal[..40].to_vec()),
        ("var/log/journal/x/noise.journal", noise.clone()),
        ("var/lib/dpkg/status", noise.clone()),
        ("var/lib/dpkg/info/x.md5sums", noise.clone()),
        (
            "var/lib/rpm/rpmdb.sqlite",
            [b"SQLite format 3\0".as_slice(), &noise].concat(),
        ),
        (
            "usr/lib/sysimage/rpm/Packages.db",
            [b"RpmP".as_slice(), &noise].concat(),
        ),
        ("lib/apk/db/installed", noise.clone()),
        (
            "etc/passwd",
            [b"root:x:0\nana:x:x:x\n\xff\n".as_slice(), &noise].concat(),
        ),
        ("etc/group", b":::::\n".to_vec()),
    ]
    .map(|(path, content)| (path.as_bytes().to_vec(), content))
    .into();
    let config = format!("var/lib/docker/containers/{id}/config.v2.json");
    files.push((
        config.into_bytes(),
        format!(r#"{{"ID":"{id}","State":{{"Pid":"#).into_bytes(),
    ));
    files.push((
        [b"var/log/".as_slice(), &[0xFF; 255]].concat(),
        b"odd".to_vec(),
    ));
    files.push((b"var/log/new\nline\x1b[31m".to_vec(), b"odd".to_vec()));
    files
}

#[test]
fn what_is_damaged_is_taken_as_it_is_and_its_reading_is_told() {
    let ground = Ground::new(&[]);
    let at = |path: &[u8]| ground.root.path().join(OsStr::from_bytes(path));
    let files = damaged();
    for (path, content) in &files {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        std::fs::write(at(path), content).unwrap();
    }
    // Links that lead to themselves, to each other, and up.
    for (link, target) in [
        ("var/log/self", "self"),
        ("var/log/a", "b"),
        ("var/log/b", "a"),
        ("var/log/up", "../.."),
        ("etc/cron.d", "cron.d"),
        ("home", "/home"),
    ] {
        symlink(target, at(link.as_bytes())).unwrap();
    }
    let found = ground.collect(&["--profile", "full", "--sensitive", "private_keys=collect"]);
    assert_eq!(found.ended.code, 3, "{:?}", found.ended);
    for (path, content) in &files {
        let member = found.members.get(&[b"[root]/".as_slice(), path].concat());
        assert!(
            member == Some(content),
            "{}: {:?}",
            path.escape_ascii(),
            member.map(Vec::len)
        );
    }
    assert_eq!(found.line("var/log/self")["target"]["path"], "self");
    let reason = |artifact: &str| {
        let report = collection::artifact(&found.manifest, artifact);
        report["reason"].as_str().unwrap_or_default().to_owned()
    };
    // What could be read of it is told, and what could not.
    let logins = collection::table(&found.members, "live_response/system/logins.jsonl");
    assert_eq!(logins.len(), 3 + 1, "{logins:?}");
    for cut in ["wtmp ends with 100 bytes", "btmp ends with 383 bytes"] {
        assert!(reason("sessions").contains(cut), "{}", reason("sessions"));
    }
    assert!(
        ["partial", "failed"].contains(&found.outcome("installed")),
        "{}: {}",
        found.outcome("installed"),
        reason("installed")
    );
    for database in ["rpmdb.sqlite", "Packages.db"] {
        assert!(
            reason("installed").contains(database),
            "{}",
            reason("installed")
        );
    }
    assert!(
        ["partial", "failed"].contains(&found.outcome("contained")),
        "{}: {}",
        found.outcome("contained"),
        reason("contained")
    );
    // Nothing ended early.
    for report in found.manifest["artifacts"].as_array().unwrap() {
        let reason = report["reason"].as_str().unwrap_or_default();
        assert!(!reason.contains("deadline"), "{report}");
    }
    let place = folder(ground.to.path(), &found.ended.prefix());
    let agent = Agent::built().unwrap();
    assert_eq!(verify(&agent, place.to_str().unwrap()).0.code, 3);
}
