//! Limits and manners: nothing blocks the agent, signals and deadlines end it well, less rights mean less and say so.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::{skip_or_fail, tool};

use super::{Ended, collect, collection, folder, run, verify};

/// Starts a run that takes long, because it may use five percent of a core.
fn slow(agent: &Agent, to: &Path) -> Child {
    let mut command = agent.command();
    command
        .args(["collect", "--quiet", "--cpu-limit", "5", "--to"])
        .arg(to);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder of the only collection below `to`, once it has this segment.
fn segment(to: &Path, number: u32) -> PathBuf {
    let end = Instant::now() + Duration::from_secs(180);
    while Instant::now() < end {
        let level = |folder: PathBuf| {
            std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path())
        };
        let mut found = level(to.into()).flat_map(level).flat_map(level);
        if let Some(folder) = found.find(|folder| {
            folder
                .join(format!("evidence/{number:05}.tar.zst"))
                .exists()
        }) {
            return folder;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("segment {number} never appeared");
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn the_first_signal_finishes_the_manifest() {
    let agent = Agent::built().unwrap();
    for name in ["TERM", "INT"] {
        let to = tempfile::tempdir().unwrap();
        let child = slow(&agent, to.path());
        let folder = segment(to.path(), 1);
        signal(&child, name);
        let ended = Ended::of(&child.wait_with_output().unwrap());
        assert_eq!(
            (ended.code, ended.receipt()["result"].as_str()),
            (3, Some("partial")),
            "{ended:?}"
        );
        let manifest = collection::manifest(&folder);
        assert!(
            manifest["reasons"][0]
                .as_str()
                .unwrap()
                .contains("interrupted by a signal"),
            "{}",
            manifest["reasons"]
        );
        let (verified, report) = verify(&agent, folder.to_str().unwrap());
        assert_eq!(
            (verified.code, report["problems"].as_array().unwrap().len()),
            (3, 0),
            "{report}"
        );
    }
}

#[test]
fn the_second_signal_ends_it_at_once_and_the_prefix_verifies() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    // At 100 bytes a second, what the first signal leaves to be sent takes half a minute.
    let mut command = agent.command();
    command
        .args(["collect", "--quiet", "--rate-limit", "100", "--to"])
        .arg(to.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let folder = segment(to.path(), 0);
    signal(&child, "TERM");
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        child.try_wait().unwrap().is_none(),
        "one signal lets it finish"
    );
    signal(&child, "INT");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert_eq!(ended.stdout, b"", "no receipt");
    assert_eq!(verify(&agent, folder.to_str().unwrap()).0.code, 21);
}

#[test]
fn killed_at_any_moment_what_is_there_verifies() {
    let agent = Agent::built().unwrap();
    for round in 0..12 {
        let to = tempfile::tempdir().unwrap();
        let mut command = agent.command();
        command
            .args(["collect", "--quiet", "--cpu-limit", "20", "--to"])
            .arg(to.path());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let folder = segment(to.path(), 0);
        std::thread::sleep(Duration::from_millis(round * 90));
        child.kill().unwrap();
        child.wait().unwrap();
        let (ended, report) = verify(&agent, folder.to_str().unwrap());
        // The kill may come after the manifest: then it is a whole collection.
        assert!(
            [21, 0, 3].contains(&ended.code),
            "round {round}: {report} {ended:?}"
        );
        assert!(
            report["problems"].as_array().unwrap().is_empty(),
            "round {round}: {report}"
        );
    }
}

#[test]
fn a_deadline_ends_the_run_with_what_there_is_and_whoever_waits_is_told_how_far_it_is() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let to_here = ["--to", to.path().to_str().unwrap(), "--case", "IR-7"];
    let more = [
        "--json",
        "--include",
        "accounts,kernel,systemd,persistence,etc",
        "--cpu-limit",
        "1",
        "--deadline",
        "15s",
    ];
    let ended = run(agent.command().arg("collect").args(to_here).args(more));
    assert_eq!(ended.code, 3, "{ended:?}");
    let mut lines = ended.stderr.lines();
    let told = lines.any(|line| line.contains("\"event\":\"progress\"") && line.contains("items"));
    assert!(told, "{}", ended.stderr);
    let folder = folder(to.path(), &ended.prefix());
    let manifest = collection::manifest(&folder);
    let etc = collection::artifact(&manifest, "etc");
    assert!(
        etc["reason"]
            .as_str()
            .unwrap()
            .contains("the run's deadline passed"),
        "{etc}"
    );
    assert!(
        etc["outcome"] == "timed_out" || etc["outcome"] == "partial",
        "{etc}"
    );
    assert_eq!(verify(&agent, folder.to_str().unwrap()).0.code, 3);
}

#[test]
fn large_files_are_cut_and_named() {
    let agent = Agent::built().unwrap();
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(root.path().join("var/log")).unwrap();
    std::fs::write(root.path().join("var/log/big"), vec![b'x'; 5000]).unwrap();
    let root = root.path().to_str().unwrap().to_owned();
    let ended = collect(
        &agent,
        to.path().to_str().unwrap(),
        &[
            "--root",
            &root,
            "--include",
            "logs",
            "--max-file-size",
            "1K",
        ],
    );
    assert_eq!(ended.code, 3, "{ended:?}");
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    assert_eq!(members[b"[root]/var/log/big".as_slice()].len(), 1024);
    let inventory = collection::table(&members, "inventory.jsonl");
    let big = inventory
        .iter()
        .find(|entry| entry["path"] == "[root]/var/log/big")
        .unwrap();
    assert_eq!(
        (big["status"].as_str(), big["metadata"]["size"].as_u64()),
        (Some("truncated"), Some(5000))
    );
}

#[test]
fn fifos_sockets_devices_and_odd_names_are_no_trap() {
    let agent = Agent::built().unwrap();
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = root.path().join("var/log");
    std::fs::create_dir_all(&log).unwrap();
    let names: [&[u8]; 6] = [
        b"new\nline",
        b"esc\x1b[31m",
        b"pipe|name",
        b"\xff\xfe",
        "rtl\u{202e}gpj.exe".as_bytes(),
        &[b'n'; 255],
    ];
    for name in names {
        std::fs::write(
            log.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)),
            name,
        )
        .unwrap();
    }
    assert!(
        Command::new("mkfifo")
            .arg(log.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(log.join("socket")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", log.join("link")).unwrap();
    let root_path = root.path().to_str().unwrap();
    let ended = collect(
        &agent,
        to.path().to_str().unwrap(),
        &["--root", root_path, "--include", "logs"],
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    let folder = folder(to.path(), &ended.prefix());
    let members = collection::members(&folder);
    for name in names {
        assert_eq!(
            members[[b"[root]/var/log/".as_slice(), name].concat().as_slice()],
            name,
            "{}",
            name.escape_ascii()
        );
    }
    let inventory = collection::table(&members, "inventory.jsonl");
    let kind = |path: &str| {
        inventory
            .iter()
            .find(|e| e["path"] == path)
            .unwrap_or_else(|| panic!("{path}"))["type"]
            .clone()
    };
    assert_eq!(kind("[root]/var/log/fifo"), "fifo");
    assert_eq!(kind("[root]/var/log/socket"), "socket");
    assert_eq!(kind("[root]/var/log/link"), "symlink");
    assert_eq!(
        members[b"[root]/var/log/link".as_slice()],
        b"",
        "the link is stored, not what it names"
    );
    assert_eq!(verify(&agent, folder.to_str().unwrap()).0.code, 0);
}

/// Mounts a FUSE file system that never answers on the folder given, in a namespace of its own, then runs the rest.
const DEAD_FUSE: &str = r#"
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
libc.mount(None, b"/", None, 0x44000, None)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"dead", sys.argv[1].encode(), b"fuse", 0, options) != 0:
    sys.exit(99)
sys.exit(subprocess.run(sys.argv[2:], pass_fds=[fuse]).returncode)
"#;

fn with_dead_fuse(agent: &Agent, mount: &Path, arguments: &[&str]) -> Option<Ended> {
    if tool("python3").is_none() || !Path::new("/dev/fuse").exists() {
        skip_or_fail("python3 or /dev/fuse is missing");
        return None;
    }
    let command = agent.command();
    let program = command.get_program().to_owned();
    let mut python = Command::new("python3");
    python
        .args(["-c", DEAD_FUSE])
        .arg(mount)
        .arg(program)
        .args(arguments)
        .env_clear();
    python.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let ended = run(&mut python);
    if ended.code == 99 {
        skip_or_fail("FUSE can not be mounted");
        return None;
    }
    Some(ended)
}

#[test]
fn a_mount_that_never_answers_is_named_and_not_touched() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let mount = Path::new("/var/log").join(format!("exhibit-test-{}", std::process::id()));
    if std::fs::create_dir(&mount).is_err() {
        return skip_or_fail("/var/log can not be written");
    }
    let ended = with_dead_fuse(
        &agent,
        &mount,
        &[
            "collect",
            "--quiet",
            "--include",
            "logs",
            "--to",
            to.path().to_str().unwrap(),
        ],
    );
    std::fs::remove_dir(&mount).unwrap();
    let Some(ended) = ended else { return };
    assert_eq!(ended.code, 3, "{ended:?}");
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    let inventory = collection::table(&members, "inventory.jsonl");
    let path = format!("[root]{}", mount.display());
    let entry = inventory
        .iter()
        .find(|entry| entry["path"] == path.as_str())
        .expect("the mount is listed");
    assert_eq!(entry["status"], "skipped");
    assert!(
        entry["reason"].as_str().unwrap().contains("fuse"),
        "{entry}"
    );
}

#[test]
fn a_read_that_never_returns_costs_its_deadline_and_is_named() {
    let agent = Agent::built().unwrap();
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A tree of its own has no mountinfo, so the mount is only met when it is touched.
    std::fs::create_dir_all(root.path().join("var/log/dead")).unwrap();
    std::fs::write(root.path().join("var/log/alive"), "alive").unwrap();
    let arguments = [
        "collect",
        "--quiet",
        "--include",
        "logs",
        "--root",
        root.path().to_str().unwrap(),
        "--to",
        to.path().to_str().unwrap(),
    ];
    let Some(ended) = with_dead_fuse(&agent, &root.path().join("var/log/dead"), &arguments) else {
        return;
    };
    assert_eq!(ended.code, 3, "{ended:?}");
    let folder = folder(to.path(), &ended.prefix());
    let members = collection::members(&folder);
    assert_eq!(members[b"[root]/var/log/alive".as_slice()], b"alive");
    let inventory = collection::table(&members, "inventory.jsonl");
    assert!(
        inventory.iter().any(|entry| entry["status"] == "timed_out"),
        "{inventory:?}"
    );
    assert!(
        collection::manifest(&folder)["impact"]["abandoned_reads"]
            .as_u64()
            .unwrap()
            >= 1
    );
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A folder into which anybody may write, and a program in it that anybody may run.
fn for_anybody() -> (tempfile::TempDir, PathBuf) {
    let to = tempfile::tempdir().unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(to.path(), all).unwrap();
    let program = to.path().join("agent");
    std::fs::copy(Agent::built().unwrap().program(), &program).unwrap();
    (to, program)
}

#[test]
fn without_root_it_collects_less_and_names_each_loss() {
    if !is_root() {
        return skip_or_fail("only root can become somebody else");
    }
    let (to, program) = for_anybody();
    let nobody = Agent::at(&program);
    let mut command = nobody.command();
    command
        .uid(65534)
        .gid(65534)
        .current_dir(to.path())
        .args(["collect", "--quiet", "--to", "out"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, 3, "{ended:?}");
    let folder = folder(&to.path().join("out"), &ended.prefix());
    let manifest = collection::manifest(&folder);
    assert_eq!(
        (
            manifest["host"]["uid"].as_u64(),
            manifest["status"].as_str()
        ),
        (Some(65534), Some("partial"))
    );
    assert!(
        collection::artifact(&manifest, "processes")["losses"]["denied:EACCES"]
            .as_u64()
            .unwrap()
            > 0
    );
    let members = collection::members(&folder);
    let inventory = collection::table(&members, "inventory.jsonl");
    let shadow = inventory
        .iter()
        .find(|entry| entry["path"] == "[root]/etc/shadow")
        .unwrap();
    assert_eq!(
        (shadow["status"].as_str(), shadow["errno"].as_str()),
        (Some("denied"), Some("EACCES"))
    );
    assert!(
        members.contains_key(b"[root]/etc/passwd".as_slice()),
        "what can be read is there"
    );
}

#[test]
fn without_the_right_to_trace_the_loss_is_named() {
    let (true, Some(setpriv)) = (is_root(), tool("setpriv")) else {
        return skip_or_fail("root and setpriv are needed");
    };
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let mut other = Command::new("/bin/sleep")
        .arg("600")
        .uid(65534)
        .spawn()
        .unwrap();
    let mut command = Command::new(setpriv);
    command
        .args([
            "--bounding-set",
            "-sys_ptrace,-dac_override,-dac_read_search",
        ])
        .arg(agent.program())
        .args(["collect", "--quiet", "--include", "processes", "--to"])
        .arg(to.path());
    let ended = run(&mut command);
    let _ = other.kill();
    let _ = other.wait();
    assert_eq!(ended.code, 3, "{ended:?}");
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    let records = collection::table(&members, "live_response/process/processes.jsonl");
    let record = records
        .iter()
        .find(|record| record["process"]["pid"] == other.id())
        .unwrap();
    assert_eq!(record["exhibit"]["errors"]["environ"], "EACCES", "{record}");
}

#[test]
fn in_a_container_it_sees_the_container() {
    let (true, Some(unshare)) = (is_root(), tool("unshare")) else {
        return skip_or_fail("root and unshare are needed");
    };
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let mut command = Command::new(unshare);
    command
        .args([
            "--pid",
            "--fork",
            "--mount",
            "--mount-proc",
            "--net",
            "--uts",
            "--ipc",
        ])
        .arg(agent.program())
        .args(["collect", "--quiet", "--to"])
        .arg(to.path());
    let ended = run(&mut command);
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    let folder = folder(to.path(), &ended.prefix());
    let members = collection::members(&folder);
    let records = collection::table(&members, "live_response/process/processes.jsonl");
    assert_eq!(records.len(), 1, "the agent alone");
    assert_eq!(
        verify(&agent, folder.to_str().unwrap()).1["problems"],
        serde_json::json!([])
    );
}

#[test]
fn what_hidepid_hides_is_told_and_called_hidden_by_nobody() {
    let (true, Some(unshare)) = (is_root(), tool("unshare")) else {
        return skip_or_fail("root and unshare are needed");
    };
    let (to, program) = for_anybody();
    // A /proc of its own, in which nobody but root sees the processes of others; then as root, and as nobody.
    let script = r#"mount -t proc -o hidepid=2 proc /proc; sleep 600 & echo $! >"$2/pid"
        for uid in 0 65534; do
            setpriv --reuid $uid --regid $uid --clear-groups "$1" collect --quiet --include first_sweep,processes,hidden --to "$2/$uid"
        done"#;
    let mut command = Command::new(unshare);
    command.args(["--mount", "--pid", "--fork", "sh", "-c", script, "sh"]);
    let ended = run(command.arg(&program).arg(to.path()));
    let receipts: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pid: i64 = std::fs::read_to_string(to.path().join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let seen = |number: usize, uid: &str| {
        let prefix = receipts[number]["prefix"].as_str().unwrap();
        let members = collection::members(&folder(&to.path().join(uid), prefix));
        let findings = collection::table(&members, "findings.jsonl");
        let hidden = findings.iter().any(|row| row["rule"] == "hidden-process");
        assert!(!hidden, "{uid}: {findings:?}");
        let processes = collection::table(&members, "live_response/process/processes.jsonl");
        let listed = processes.iter().any(|row| row["process"]["pid"] == pid);
        let hidden = collection::table(&members, "live_response/hidden/processes.jsonl");
        let explained = hidden.iter().find(|row| row["pid"] == pid).cloned();
        (listed, explained)
    };
    assert_eq!(seen(0, "0"), (true, None));
    let (listed, explained) = seen(1, "65534");
    let explained = explained.expect("it answers by number");
    let why = explained["explained_by"].as_str().unwrap();
    assert!(!listed && why.contains("hidepid"), "{explained}");
}

#[test]
fn what_hides_below_proc_is_named() {
    let (true, Some(unshare)) = (is_root(), tool("unshare")) else {
        return skip_or_fail("root and unshare are needed");
    };
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let script = r#"sleep 600 & mkdir "$2/empty"; mount --bind "$2/empty" /proc/$!; "$1" collect --quiet --include first_sweep,processes --to "$2"; code=$?; kill $!; exit $code"#;
    let mut command = Command::new(unshare);
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(agent.program()).arg(to.path());
    let ended = run(&mut command);
    assert_eq!(ended.code, 3, "{ended:?}");
    let folder = folder(to.path(), &ended.prefix());
    let manifest = collection::manifest(&folder);
    let losses = &collection::artifact(&manifest, "first_sweep")["losses"];
    assert_eq!(losses["failed:covered_by_a_mount"], 1, "{losses}");
    let findings = collection::table(&collection::members(&folder), "findings.jsonl");
    assert!(
        findings
            .iter()
            .any(|finding| finding["rule"] == "mount-over-proc"),
        "{findings:?}"
    );
}

#[test]
fn a_false_proc_is_no_success() {
    let (true, Some(unshare)) = (is_root(), tool("unshare")) else {
        return skip_or_fail("root and unshare are needed");
    };
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    // Links that lead our own descriptors to another file.
    let script = r#"mount -t tmpfs none /proc && mkdir -p /proc/self/fd && for n in $(seq 3 60); do ln -s /etc/hostname /proc/self/fd/$n; done; "$1" collect --quiet --include accounts --to "$2""#;
    let mut command = Command::new(unshare);
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(agent.program()).arg(to.path());
    let ended = run(&mut command);
    assert_eq!(
        ended.code, 3,
        "only names could be had, nothing be opened safely: {ended:?}"
    );
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    assert!(
        !members.contains_key(b"[root]/etc/passwd".as_slice()),
        "no other file under its name"
    );
    let inventory = collection::table(&members, "inventory.jsonl");
    let passwd = inventory
        .iter()
        .find(|entry| entry["path"] == "[root]/etc/passwd")
        .unwrap();
    assert_eq!(passwd["status"], "failed", "{passwd}");
}
