//! Known facts are planted on this machine and found in the collection, byte for byte.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::skip_or_fail;
use serde_json::Value;

use super::{collect, collection, folder};

/// Processes that end with the test.
pub struct Plants(pub Vec<Child>);

impl Drop for Plants {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Plants {
    /// Starts `command`, which says `ready` when it holds what it should.
    pub fn start(&mut self, command: &mut Command) -> u32 {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a plant");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "ready");
        self.0.push(child);
        self.0.last().unwrap().id()
    }
}

/// A program that sleeps, with `more` bytes behind it that make it unlike any other.
fn program(folder: &Path, name: &str, more: usize) -> (PathBuf, Vec<u8>) {
    let path = folder.join(name);
    let mut bytes = std::fs::read("/bin/sleep").unwrap();
    bytes.extend((0..more).map(|n| (n % 253) as u8));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o755))
        .unwrap();
    (path, bytes)
}

const HOLDER: &str = r#"
import ctypes, mmap, os, sys, time
folder = sys.argv[1]
def held(name, content):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    return fd
open_fd = held("open", b"deleted and open " * 1000)
mapped = held("mapped.so", b"\x7fELF deleted and mapped" + bytes(5000))
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
assert libc.mmap(None, 5000, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, mapped, 0) != 2**64 - 1
os.close(mapped)
memory = os.memfd_create("payload")
os.write(memory, b"only in memory " * 1000)
print("ready", flush=True)
time.sleep(600)
"#;

const MEMFD_EXECUTABLE: &str = r#"
import os, sys
memory = os.memfd_create("runs-from-memory")
os.write(memory, open(sys.argv[1], "rb").read())
print("ready", flush=True)
os.execv(f"/proc/self/fd/{memory}", ["[kworker/0:1]", "600"])
"#;

fn python(script: &str, argument: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(argument);
    command
}

fn wait_for_exe(pid: u32, part: &str) {
    for _ in 0..500 {
        if std::fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.to_string_lossy().contains(part))
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {pid} never ran {part}");
}

#[test]
fn what_only_processes_hold_is_recovered_whole() {
    if exhibit_tests::rig::tool("python3").is_none() {
        return skip_or_fail("python3 is missing");
    }
    let (ground, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut plants = Plants(Vec::new());
    let (small, small_bytes) = program(ground.path(), "small", 10);
    let (large, large_bytes) = program(ground.path(), "large", 64 << 20);
    let (replaced, replaced_bytes) = program(ground.path(), "replaced", 20);
    for path in [&small, &large, &replaced] {
        plants
            .0
            .push(Command::new(path).arg("600").spawn().unwrap());
    }
    let pids: Vec<u32> = plants.0.iter().map(Child::id).collect();
    pids.iter()
        .zip(["small", "large", "replaced"])
        .for_each(|(pid, name)| wait_for_exe(*pid, name));
    std::fs::remove_file(&small).unwrap();
    std::fs::remove_file(&large).unwrap();
    std::fs::remove_file(&replaced).unwrap();
    std::fs::write(&replaced, "innocent").unwrap();
    let holder = plants.start(&mut python(HOLDER, ground.path()));
    let (payload, payload_bytes) = program(ground.path(), "payload", 30);
    let from_memory = plants.start(&mut python(MEMFD_EXECUTABLE, &payload));
    wait_for_exe(from_memory, "memfd:runs-from-memory");

    let agent = Agent::built().unwrap();
    let ended = collect(
        &agent,
        to.path().to_str().unwrap(),
        &["--include", "processes,recovered"],
    );
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    let recovered = collection::table(&members, "live_response/process/recovered.jsonl");
    let content = |pid: u32, held: &str, part: &str| -> &[u8] {
        let row = recovered.iter().find(|r| {
            r["pid"] == pid && r["held"] == held && r["target"].as_str().unwrap().contains(part)
        });
        let member =
            row.unwrap_or_else(|| panic!("{held} {part} of {pid} is not recovered"))["member"]
                .as_str()
                .unwrap();
        &members[member.as_bytes()]
    };
    assert!(content(pids[0], "executable", "small") == small_bytes);
    assert!(
        content(pids[1], "executable", "large") == large_bytes,
        "a large one is whole"
    );
    assert!(
        content(pids[2], "executable", "replaced") == replaced_bytes,
        "not what stands at its path now"
    );
    assert!(content(from_memory, "executable", "memfd:runs-from-memory") == payload_bytes);
    assert!(content(holder, "open", "/open (deleted)") == b"deleted and open ".repeat(1000));
    assert!(
        content(holder, "mapped", "mapped.so")
            == [b"\x7fELF deleted and mapped".as_slice(), &[0; 5000]].concat()
    );
    assert!(content(holder, "open", "memfd:payload") == b"only in memory ".repeat(1000));

    let processes = collection::table(&members, "live_response/process/processes.jsonl");
    let process = |pid: u32| {
        processes
            .iter()
            .find(|p| p["process"]["pid"] == pid)
            .unwrap()
    };
    let sha256 = |bytes: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    assert_eq!(
        process(pids[2])["process"]["hash"]["sha256"],
        sha256(&replaced_bytes)
    );
    assert_eq!(
        process(from_memory)["process"]["hash"]["sha256"],
        sha256(&payload_bytes)
    );
    let findings = collection::table(&members, "findings.jsonl");
    let found = |pid: u32, rule: &str| {
        findings
            .iter()
            .any(|f| f["pid"] == pid && f["rule"] == rule)
    };
    assert!(found(pids[0], "deleted-executable") && found(from_memory, "memfd-executable"));
    assert!(
        found(from_memory, "false-kernel-thread"),
        "a name in brackets fools nobody"
    );
}

#[test]
fn a_record_holds_what_proc_says_and_nothing_of_another_process() {
    let to = tempfile::tempdir().unwrap();
    let mut plants = Plants(Vec::new());
    let odd = "odd\n\u{1b}[31m|\"name\u{202e}";
    let mut sleep = Command::new("/bin/sleep");
    sleep
        .arg0(odd)
        .arg("600")
        .env_clear()
        .env("EXHIBIT_PLANT", odd)
        .current_dir(to.path());
    plants.0.push(sleep.spawn().unwrap());
    let pid = plants.0[0].id();
    wait_for_exe(pid, "sleep");
    let agent = Agent::built().unwrap();
    let ended = collect(
        &agent,
        to.path().to_str().unwrap(),
        &["--include", "processes"],
    );
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    let raw = |name: &str| members[format!("[root]/proc/{pid}/{name}").as_bytes()].clone();
    assert_eq!(raw("cmdline"), [odd.as_bytes(), b"\x00600\0"].concat());
    assert_eq!(
        raw("environ"),
        format!("EXHIBIT_PLANT={odd}\0").into_bytes()
    );
    assert_eq!(
        raw("limits"),
        std::fs::read(format!("/proc/{pid}/limits")).unwrap()
    );
    assert_eq!(
        raw("cgroup"),
        std::fs::read(format!("/proc/{pid}/cgroup")).unwrap()
    );

    let records = collection::table(&members, "live_response/process/processes.jsonl");
    let record = records
        .iter()
        .find(|record| record["process"]["pid"] == pid)
        .unwrap();
    let own: &Value = &record["exhibit"];
    assert_eq!(record["process"]["args"], serde_json::json!([odd, "600"]));
    assert_eq!(
        record["process"]["working_directory"],
        to.path().to_str().unwrap()
    );
    assert_eq!(record["process"]["parent"]["pid"], std::process::id());
    let link = |name: &str| {
        std::fs::read_link(format!("/proc/{pid}/{name}"))
            .unwrap()
            .display()
            .to_string()
    };
    assert_eq!(record["process"]["executable"], link("exe"));
    for namespace in ["net", "mnt", "pid", "user", "uts"] {
        assert_eq!(
            own["namespaces"][namespace],
            link(&format!("ns/{namespace}")),
            "{namespace}"
        );
    }
    assert_eq!(own["threads"][0]["tid"], pid);
    assert_eq!(own["kernel_thread"], false);
    let fds: Vec<&Value> = own["fds"].as_array().unwrap().iter().collect();
    assert_eq!(
        fds.len(),
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    );
    for fd in fds {
        assert_eq!(fd["target"], link(&format!("fd/{}", fd["fd"])));
        assert!(fd["info"]["flags"].is_string(), "{fd}");
    }
    // Every process of this machine that can have no memory of its own is told by the kernel's mark.
    let kernel = records
        .iter()
        .filter(|record| record["exhibit"]["kernel_thread"] == true);
    for thread in kernel {
        assert!(
            thread["process"]["executable"].is_null()
                && thread["process"]["args"].as_array().unwrap().is_empty(),
            "{thread}"
        );
    }
    let log = members.keys().any(|name| name.contains(&0x1b));
    assert!(!log, "hostile names do not reach names of members of ours");
}

/// Starts 300 processes a second, in bursts, until it is killed.
const STORM: &str = r#"
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
begun, made = time.monotonic(), 0
while True:
    while made < (time.monotonic() - begun) * 300:
        os.posix_spawn("/bin/true", ["storm"], {})
        made += 1
    time.sleep(0.01)
"#;

/// Processes that were ever made, by the kernel's count.
fn forks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "));
    line.unwrap().parse().unwrap()
}

#[test]
fn under_a_storm_of_forks_no_record_is_torn_and_none_is_called_hidden() {
    if exhibit_tests::rig::tool("python3").is_none() {
        return skip_or_fail("python3 is missing");
    }
    let to = tempfile::tempdir().unwrap();
    let mut plants = Plants(Vec::new());
    plants.start(Command::new("python3").args(["-c", STORM]));
    let agent = Agent::built().unwrap();
    let before = forks();
    for _ in 0..20 {
        let ended = collect(
            &agent,
            to.path().to_str().unwrap(),
            &[
                "--include",
                "first_sweep,processes,hidden,last_sweep",
                "--normal-priority",
            ],
        );
        assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
        let folder = folder(to.path(), &ended.prefix());
        let manifest = collection::manifest(&folder);
        assert_ne!(
            collection::artifact(&manifest, "processes")["outcome"],
            "failed"
        );
        let members = collection::members(&folder);
        let findings = collection::table(&members, "findings.jsonl");
        let mut hidden = findings.iter().filter(|f| f["rule"] == "hidden-process");
        assert!(hidden.next().is_none(), "{findings:?}");
        for record in collection::table(&members, "live_response/process/processes.jsonl") {
            let pid = &record["process"]["pid"];
            let stat = &members[format!("[root]/proc/{pid}/stat").as_bytes()];
            let stat = String::from_utf8_lossy(stat).into_owned();
            assert!(stat.starts_with(&format!("{pid} (")), "{stat}");
            let start: u64 = stat
                .rsplit_once(") ")
                .unwrap()
                .1
                .split(' ')
                .nth(19)
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(record["exhibit"]["start_ticks"], start);
            let status = &members[format!("[root]/proc/{pid}/status").as_bytes()];
            assert!(String::from_utf8_lossy(status).contains(&format!("\nPid:\t{pid}\n")));
        }
    }
    let stormed = forks() - before;
    assert!(stormed > 20 * 100, "only {stormed} processes: no storm");
}
