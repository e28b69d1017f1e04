//! What is planted in the memory of a process is in its core, at the address where it was, and nothing is read that must not be.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::{skip_or_fail, tool};
use serde_json::Value;

use super::plants::Plants;
use super::{Ended, collect, collection, folder};

/// Maps what is asked for and says where, one `name address length` a line.
const PLANT: &str = r#"
import ctypes, fcntl, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
NONE, R, W, X = 0, 1, 2, 4
SHARED, PRIVATE, ANONYMOUS, NORESERVE = 1, 2, 0x20, 0x4000
PAGE = 4096
kept = []
def mapped(name, length, protection, flags, fd=-1, at=None):
    address = libc.mmap(at, length, protection, flags, fd, 0)
    assert address not in (None, 2**64 - 1), (name, ctypes.get_errno())
    print(name, hex(address), length, flush=True)
    return address
def put(address, text):
    ctypes.memmove(address, text, len(text))
def anonymous():
    a = mapped("anonymous", 64 * PAGE, R | W, PRIVATE | ANONYMOUS)
    put(a + 5 * PAGE, b"anon" + b"ymous plant")
    put(a + 40 * PAGE + 100, b"second" + b" plant")
def rwx():
    put(mapped("rwx", PAGE, R | W | X, PRIVATE | ANONYMOUS), b"\xcc\x90shell" + b"code")
def memfd():
    fd = os.memfd_create("plant")
    os.ftruncate(fd, 1 << 30)
    os.pwrite(fd, b"memfd" + b" plant", 512 * PAGE)
    kept.append(fd)
    mapped("memfd", 1 << 30, R, SHARED, fd)
def hidden():
    a = mapped("hidden", 4 * PAGE, R | W, PRIVATE | ANONYMOUS)
    put(a, b"no protection" + b" helps")
    libc.mprotect(a, 4 * PAGE, NONE)
def file():
    path = os.path.join(sys.argv[2], "mapped\nfile")
    with open(path, "wb") as out:
        out.write(b"A" * PAGE + b"B" * PAGE + b"C" * PAGE)
    a = mapped("file", 3 * PAGE, R | W, PRIVATE, os.open(path, os.O_RDONLY))
    assert ctypes.string_at(a, 1) == b"A"
    put(a + PAGE + 7, b"changed" + b" page")
def deleted():
    path = os.path.join(sys.argv[2], "gone")
    with open(path, "wb") as out:
        out.write(b"deleted" + b" file" + bytes(3 * PAGE))
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    mapped("deleted", 4 * PAGE, R | W, PRIVATE, fd)
def reserve():
    mapped("reserve", 64 << 30, NONE, PRIVATE | ANONYMOUS | NORESERVE)
    a = mapped("sparse", 64 << 30, R | W, PRIVATE | ANONYMOUS | NORESERVE)
    put(a + (63 << 30), b"far" + b" away")
def userfaultfd():
    fd = libc.syscall(323, os.O_CLOEXEC)
    assert fd >= 0, ctypes.get_errno()
    kept.append(fd)
    fcntl.ioctl(fd, 0xc018aa3f, struct.pack("QQQ", 0xaa, 0, 0))
    a = mapped("userfaultfd", 16 * PAGE, R | W, PRIVATE | ANONYMOUS)
    put(a, b"before")
    fcntl.ioctl(fd, 0xc020aa00, struct.pack("QQQQ", a, 16 * PAGE, 1, 0))
def secret():
    fd = libc.syscall(447, 0)
    assert fd >= 0, ctypes.get_errno()
    os.ftruncate(fd, 8 * PAGE)
    put(mapped("secret", 8 * PAGE, R | W, SHARED, fd), b"secret" + b" plant")
FUSE = r"""
import os, struct, sys
fuse = int(sys.argv[1])
nodes = {b"live": 2, b"gone": 3}
def attributes(node):
    folder = node == 1
    return struct.pack("<QQQQQQIIIIIIIIII", node, 0 if folder else 65536, 128, 0, 0, 0, 0, 0, 0, 0o40755 if folder else 0o100755, 1, 0, 0, 0, 4096, 0)
while True:
    try:
        request = os.read(fuse, 1 << 20)
    except OSError:
        break
    length, operation, unique, node = struct.unpack_from("<IIQQ", request)
    answer = lambda body=b"", error=0: os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
    if operation == 26:
        answer(struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0) + bytes(28))
    elif operation == 1:
        found = nodes.get(request[40:].rstrip(b"\0"))
        answer(struct.pack("<QQQQII", found, 0, 3600, 3600, 0, 0) + attributes(found)) if found else answer(error=-2)
    elif operation == 3:
        answer(struct.pack("<QII", 3600, 0, 0) + attributes(node))
    elif operation == 14 and not os.path.exists(sys.argv[2]):
        answer(struct.pack("<QII", 0, 2, 0))
    elif operation == 10:
        answer()
    elif operation not in (2, 14, 15, 36):
        answer(error=-38)
    # Whoever reads, or opens once the file is there, waits without end, and can not be ended either.
"""
def fuse():
    path = os.path.join(sys.argv[2], "fuse")
    os.mkdir(path)
    assert libc.unshare(0x20000) == 0
    libc.mount(None, b"/", None, 0x44000, None)
    fd = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(fd, True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"slow", path.encode(), b"fuse", 0, options) != 0:
        os._exit(99)
    never = os.path.join(sys.argv[2], "never")
    if os.fork() == 0:
        libc.prctl(1, 9)
        os.execv(sys.executable, ["python3", "-c", FUSE, str(fd), never])
    os.close(fd)
    for name in ("live", "gone"):
        file = os.open(os.path.join(path, name), os.O_RDONLY)
        kept.append(file)
        mapped(name, 16 * PAGE, R | W, PRIVATE, file)
    os.unlink(os.path.join(path, "gone"))
    open(never, "w").close()
    assert libc.umount2(path.encode(), 2) == 0
def many():
    a = mapped("many", 120000 * PAGE, R | W, PRIVATE | ANONYMOUS | NORESERVE)
    for n in range(0, 60000, 2):
        put(a + n * PAGE, b"%d" % n)
        libc.mprotect(a + n * PAGE, PAGE, R)
def scattered():
    a = mapped("scattered", 400000 * PAGE, R | W, PRIVATE | ANONYMOUS | NORESERVE)
    libc.madvise(ctypes.c_void_p(a), ctypes.c_size_t(400000 * PAGE), 15)
    for n in range(0, 400000, 2):
        put(a + n * PAGE, b"%d" % n)
for name in sys.argv[1].split(","):
    globals()[name]()
print("ready", flush=True)
time.sleep(600)
"#;

/// A process with plants, which ends with the value.
struct Plant {
    child: Child,
    places: BTreeMap<String, (u64, u64)>,
}

impl Drop for Plant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plant {
    fn start(what: &str, ground: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PLANT, what])
            .arg(ground)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut places = BTreeMap::new();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines
            .map_while(Result::ok)
            .take_while(|line| line != "ready")
        {
            let words: Vec<&str> = line.split(' ').collect();
            let address = u64::from_str_radix(words[1].trim_start_matches("0x"), 16).unwrap();
            places.insert(words[0].to_owned(), (address, words[2].parse().unwrap()));
        }
        Self { child, places }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn address(&self, name: &str) -> u64 {
        self.places[name].0
    }
}

/// A collection of process memory.
struct Collected {
    ended: Ended,
    members: BTreeMap<Vec<u8>, Vec<u8>>,
    report: Value,
    manifest: Value,
}

fn collected(more: &[&str]) -> Collected {
    let to = tempfile::tempdir().unwrap();
    let agent = Agent::built().unwrap();
    let include = ["--include", "process_memory"];
    let more: Vec<&str> = match more.contains(&"--include") {
        true => more.to_vec(),
        false => include.iter().chain(more).copied().collect(),
    };
    let ended = collect(&agent, to.path().to_str().unwrap(), &more);
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    let folder = folder(to.path(), &ended.prefix());
    let manifest = collection::manifest(&folder);
    Collected {
        ended,
        members: collection::members(&folder),
        report: collection::artifact(&manifest, "process_memory").clone(),
        manifest,
    }
}

impl Collected {
    fn table(&self, name: &str) -> Vec<Value> {
        collection::table(
            &self.members,
            &format!("live_response/process_memory/{name}.jsonl"),
        )
    }

    fn process(&self, pid: u32) -> Value {
        let found = self
            .table("processes")
            .into_iter()
            .find(|row| row["pid"] == pid);
        found.unwrap_or_else(|| panic!("{pid} is not told of: {:?}", self.ended))
    }

    /// The row of the mapping that starts there.
    fn region(&self, pid: u32, address: u64) -> Value {
        let start = format!("{address:#x}");
        let mut rows = self.table("regions").into_iter();
        rows.find(|row| row["pid"] == pid && row["start"] == start)
            .unwrap_or_else(|| panic!("no region at {start}"))
    }

    fn core(&self, pid: u32) -> &[u8] {
        &self.members[format!("live_response/process_memory/{pid}.core").as_bytes()]
    }

    /// What the core of `pid` has at this address, as its program headers say.
    fn at(&self, pid: u32, address: u64, length: usize) -> Option<&[u8]> {
        let core = self.core(pid);
        let load = loads(core)
            .into_iter()
            .find(|load| (load.address..load.address + load.stored).contains(&address))?;
        let start = (load.offset + (address - load.address)) as usize;
        core.get(start..start + length)
    }
}

struct Load {
    offset: u64,
    address: u64,
    stored: u64,
    memory: u64,
}

fn loads(core: &[u8]) -> Vec<Load> {
    let number = |at: usize, size: usize| {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(&core[at..at + size]);
        u64::from_le_bytes(raw)
    };
    assert_eq!(
        (&core[..4], number(16, 2)),
        (b"\x7fELF".as_slice(), 4),
        "an ELF core"
    );
    let count = match number(56, 2) {
        0xffff => number(number(40, 8) as usize + 44, 4),
        count => count,
    };
    let headers = (0..count as usize).map(|n| number(32, 8) as usize + n * 56);
    let loads = headers.filter(|at| number(*at, 4) == 1);
    loads
        .map(|at| Load {
            offset: number(at + 8, 8),
            address: number(at + 16, 8),
            stored: number(at + 32, 8),
            memory: number(at + 40, 8),
        })
        .collect()
}

fn ready() -> bool {
    let ready = nix::unistd::getuid().is_root() && tool("python3").is_some();
    if !ready {
        skip_or_fail("root and python3 are needed");
    }
    ready
}

fn absent(region: &Value, reason: &str) -> u64 {
    let absent = region["absent"].as_array().into_iter().flatten();
    let bytes = absent.filter(|part| part["reason"] == reason);
    bytes.map(|part| part["bytes"].as_u64().unwrap()).sum()
}

const PAGE: u64 = 4096;

#[test]
fn plants_are_at_their_addresses_and_what_disks_have_is_not_there_twice() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let plant = Plant::start("anonymous,rwx,memfd,hidden,file,deleted", ground.path());
    let (pid, number) = (plant.pid(), plant.pid().to_string());
    let got = collected(&["--process-memory", &number]);
    assert_eq!(
        (got.ended.code, got.report["outcome"].as_str()),
        (0, Some("captured")),
        "{:?}",
        got.report
    );
    for (name, offset, want) in [
        ("anonymous", 5 * PAGE, &b"anonymous plant"[..]),
        ("anonymous", 40 * PAGE + 100, b"second plant"),
        ("rwx", 0, b"\xcc\x90shellcode"),
        ("memfd", 512 * PAGE, b"memfd plant"),
        ("hidden", 0, b"no protection helps"),
        ("file", PAGE + 7, b"changed page"),
        ("file", PAGE, b"BBBBBBB"),
        ("deleted", 0, b"deleted file\0\0"),
    ] {
        let found = got.at(pid, plant.address(name) + offset, want.len());
        assert_eq!(found, Some(want), "{name}");
    }
    // Untouched pages, holes and what the disk has are not stored.
    let region = |name: &str| got.region(pid, plant.address(name));
    assert_eq!(got.at(pid, plant.address("anonymous"), 1), None);
    assert_eq!(region("anonymous")["stored_bytes"], 2 * PAGE);
    assert_eq!(absent(&region("anonymous"), "untouched"), 62 * PAGE);
    assert_eq!(region("memfd")["stored_bytes"], PAGE);
    assert_eq!(absent(&region("memfd"), "hole"), (1 << 30) - PAGE);
    let file = region("file");
    assert_eq!(
        (&file["stored_bytes"], absent(&file, "on_disk")),
        (&PAGE.into(), 2 * PAGE)
    );
    assert!(
        file["path"].as_str().unwrap().ends_with("/mapped\\012file"),
        "{file}"
    );
    assert_eq!(region("deleted")["stored_bytes"], 4 * PAGE);
    assert_eq!(region("rwx")["permissions"], "rwxp");
    // A region is found by its hash.
    let page = got.at(pid, plant.address("rwx"), PAGE as usize).unwrap();
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(page));
    assert_eq!(region("rwx")["sha256"], sha256);
    // The loads are the address space: every mapping is there, none twice, and each region is told of.
    let loads = loads(got.core(pid));
    assert!(
        loads
            .windows(2)
            .all(|two| two[0].address + two[0].memory <= two[1].address)
    );
    let process = got.process(pid);
    assert_eq!(process["chosen_by"], serde_json::json!(["pid"]));
    assert_eq!(
        got.table("regions").len() as u64,
        process["core"]["regions"].as_u64().unwrap()
    );
    assert_eq!(process["core"]["threads_with_program_counter"], 1);
    let asked = got.manifest["collection"]["arguments"].to_string() + &got.manifest.to_string();
    assert!(
        asked.contains("--process-memory"),
        "the request stands in the manifest"
    );
}

#[test]
fn readelf_reads_the_core_without_complaint() {
    let Some(readelf) = tool("readelf").filter(|_| ready()) else {
        return skip_or_fail("readelf is missing");
    };
    let ground = tempfile::tempdir().unwrap();
    let plant = Plant::start("anonymous,file,many", ground.path());
    let got = collected(&["--process-memory", &plant.pid().to_string()]);
    let path = ground.path().join("core");
    std::fs::write(&path, got.core(plant.pid())).unwrap();
    let output = Command::new(readelf)
        .args(["--wide", "-h", "-l", "-n"])
        .arg(&path)
        .output()
        .unwrap();
    let (text, complaints) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    for part in [
        "CORE (Core file)",
        "NT_PRSTATUS",
        "NT_PRPSINFO",
        "NT_AUXV",
        "NT_FILE",
    ] {
        assert!(text.contains(part), "{part}");
    }
    // Not every readelf shows names; they are as long as they are, newline and all.
    let name = b"/mapped\nfile\0";
    let core = got.core(plant.pid());
    assert!(collection::contains(core, name));
    let count = text
        .lines()
        .filter(|line| line.trim_start().starts_with("LOAD"))
        .count();
    assert!(count >= 30_000, "{count}");
}

#[test]
fn reserves_stay_small_and_what_blocks_or_is_refused_is_named() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let plant = Plant::start("reserve,userfaultfd,secret", ground.path());
    let pid = plant.pid();
    let begun = Instant::now();
    let got = collected(&["--process-memory", &pid.to_string()]);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    assert!(got.core(pid).len() < 64 << 20);
    assert_eq!(
        got.at(pid, plant.address("sparse") + (63 << 30), 8),
        Some(&b"far away"[..])
    );
    let region = |name: &str| got.region(pid, plant.address(name));
    assert_eq!(absent(&region("reserve"), "untouched"), 64 << 30);
    // Whoever registers a range hides nothing that is in it, and nobody is waited for.
    assert_eq!(
        got.at(pid, plant.address("userfaultfd"), 6),
        Some(&b"before"[..])
    );
    assert_eq!(absent(&region("userfaultfd"), "userfaultfd"), 15 * PAGE);
    let secret = region("secret");
    assert_eq!(
        (&secret["stored_bytes"], absent(&secret, "EIO")),
        (&0.into(), PAGE)
    );
    let zeros = got.at(pid, plant.address("secret"), PAGE as usize).unwrap();
    assert!(
        zeros.iter().all(|byte| *byte == 0),
        "what is refused is zeros"
    );
    assert_eq!(
        (got.ended.code, got.report["outcome"].as_str()),
        (3, Some("partial"))
    );
    assert_eq!(got.process(pid)["outcome"], "partial");
    assert_eq!(
        got.report["losses"]["skipped:userfaultfd"], 1,
        "{:?}",
        got.report
    );
    // Everything else of it is there, and the process goes on.
    assert!(got.process(pid)["core"]["stored_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(Path::new(&format!("/proc/{pid}/stat")).exists());
}

#[test]
fn a_mapping_that_a_program_never_answers_for_is_not_touched() {
    if !ready() {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        return skip_or_fail("/dev/fuse is missing");
    }
    let ground = tempfile::tempdir().unwrap();
    // Unmounted, so that no mount table tells of it; one of its files is deleted, which makes it one to be recovered.
    let plant = Plant::start("anonymous,memfd,fuse", ground.path());
    let pid = plant.pid();
    let got = collected(&[
        "--include",
        "recovered,process_memory",
        "--process-memory",
        &pid.to_string(),
    ]);
    let at = plant.address("anonymous") + 5 * PAGE;
    assert_eq!(got.at(pid, at, 15), Some(&b"anonymous plant"[..]));
    for name in ["live", "gone"] {
        let region = got.region(pid, plant.address(name));
        assert_eq!(absent(&region, "not_resident"), 16 * PAGE, "{region}");
    }
    assert_eq!(got.manifest["impact"]["abandoned_reads"], 0);
    let recovered = collection::artifact(&got.manifest, "recovered");
    assert_eq!(recovered["outcome"], "partial", "{recovered}");
    assert!(
        recovered["losses"]["skipped"].as_u64() >= Some(2),
        "{recovered}"
    );
}

#[test]
fn memory_in_many_pieces_costs_a_bounded_amount_of_ours() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let plant = Plant::start("scattered", ground.path());
    let pid = plant.pid();
    let got = collected(&["--process-memory", &pid.to_string(), "--threads", "1"]);
    for page in [0, 2, 131_072, 399_998_u64] {
        let want = format!("{page}\0");
        let address = plant.address("scattered") + page * PAGE;
        assert_eq!(got.at(pid, address, want.len()), Some(want.as_bytes()));
    }
    assert!(loads(got.core(pid)).len() <= 1 << 18);
    let peak = got.manifest["impact"]["peak_rss_bytes"].as_u64();
    let peak = peak.unwrap_or_else(|| panic!("{}", got.manifest));
    assert!(peak < 96 << 20, "{peak}");
}

#[test]
fn shared_memory_is_stored_once_and_pointed_at() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let first = Plant::start("memfd", ground.path());
    let opener = "import mmap, os, sys, time\n\
        fd = os.open(sys.argv[1], os.O_RDWR)\n\
        held = mmap.mmap(fd, 1 << 30)\n\
        print('ready', flush=True)\n\
        time.sleep(600)";
    let held = std::fs::read_dir(format!("/proc/{}/fd", first.pid())).unwrap();
    let fd = held
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let target = std::fs::read_link(path).unwrap();
            target.to_string_lossy().contains("memfd:plant")
        })
        .unwrap();
    let mut others = Plants(Vec::new());
    let second = others.start(Command::new("python3").args(["-c", opener]).arg(fd));
    let both = format!("{},{}", first.pid(), second);
    let got = collected(&["--process-memory", &both]);
    let rows = got.table("regions");
    let of = |pid: u32| {
        let mut found = rows.iter().filter(|row| {
            row["pid"] == pid
                && row["path"]
                    .as_str()
                    .is_some_and(|path| path.starts_with("/memfd:plant"))
        });
        found.next().unwrap().clone()
    };
    let (mut stored, mut points) = (of(first.pid()), of(second));
    if stored["stored_bytes"] == 0 {
        std::mem::swap(&mut stored, &mut points);
    }
    assert_eq!(stored["stored_bytes"], PAGE);
    assert_eq!(absent(&points, "duplicate"), PAGE);
    let there = &points["duplicate_of"][0];
    let address = u64::from_str_radix(&stored["start"].as_str().unwrap()[2..], 16).unwrap();
    assert_eq!(
        (&there["pid"], &there["bytes"]),
        (&stored["pid"], &PAGE.into())
    );
    assert_eq!(there["address"], format!("{:#x}", address + 512 * PAGE));
}

#[test]
fn who_has_no_memory_is_named_and_we_are_never_among_them() {
    if !ready() {
        return;
    }
    let mut zombie = Command::new("true").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let got = collected(&[
        "--process-memory",
        "2,999999",
        "--process-memory",
        &zombie.id().to_string(),
    ]);
    let dead = got.process(zombie.id());
    zombie.wait().unwrap();
    assert_eq!(dead["outcome"], "no_memory", "{dead}");
    assert!(dead["reason"].as_str().unwrap().contains("zombie"));
    let missing = got.process(999_999);
    assert_eq!(missing["outcome"], "vanished");
    assert!(
        got.report["losses"]["failed:no_such_process"]
            .as_u64()
            .is_some(),
        "{:?}",
        got.report
    );
    assert_eq!(got.ended.code, 3);
    assert!(!got.members.keys().any(|name| name.ends_with(b".core")));
}

#[test]
fn nobody_is_taken_unasked() {
    let got = collected(&["--include", "process_memory,clock"]);
    assert_eq!(got.report["outcome"], "skipped");
    assert!(
        got.report["reason"]
            .as_str()
            .unwrap()
            .contains("--process-memory PID, all or suspicious")
    );
}

#[test]
fn the_suspicious_are_chosen_with_their_reasons_and_the_others_are_left_alone() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let odd = Plant::start("rwx", ground.path());
    let plain = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let plain = Plant {
        child: plain,
        places: BTreeMap::new(),
    };
    let program = ground.path().join("gone");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let gone = Command::new(&program)
        .arg("600")
        .env("LD_PRELOAD", "/nonexistent.so")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let gone = Plant {
        child: gone,
        places: BTreeMap::new(),
    };
    std::thread::sleep(Duration::from_millis(500));
    std::fs::remove_file(&program).unwrap();
    let got = collected(&[
        "--include",
        "hidden,process_memory",
        "--process-memory",
        "suspicious",
        // Whoever else is suspicious on this machine keeps its memory to itself.
        "--max-file-size",
        "4K",
    ]);
    let rules = |pid: u32| -> Vec<String> {
        let rows = got.table("processes");
        let row = rows.iter().find(|row| row["pid"] == pid);
        let found = row
            .into_iter()
            .flat_map(|row| row["suspicions"].as_array().unwrap());
        found
            .map(|found| found["rule"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(rules(odd.pid()).contains(&"writable-executable-memory".to_owned()));
    let gone = rules(gone.pid());
    for rule in [
        "deleted-executable",
        "temporary-folder",
        "preload-in-environment",
    ] {
        assert!(gone.contains(&rule.to_owned()), "{rule}: {gone:?}");
    }
    assert!(rules(plain.pid()).is_empty());
    assert!(
        !got.table("processes")
            .iter()
            .any(|row| row["pid"] == plain.pid())
    );
}

#[test]
fn a_core_that_a_limit_cuts_is_partial_and_says_so() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let plant = Plant::start("anonymous", ground.path());
    let pid = plant.pid();
    let got = collected(&[
        "--process-memory",
        &pid.to_string(),
        "--max-file-size",
        "1M",
    ]);
    assert_eq!(got.core(pid).len(), 1 << 20);
    let process = got.process(pid);
    assert_eq!(process["outcome"], "partial");
    assert!(
        process["core"]["not_stored_bytes"]["cut"].as_u64().unwrap() > 0,
        "{process}"
    );
    assert_eq!(
        (got.ended.code, got.report["outcome"].as_str()),
        (3, Some("partial"))
    );
    let inventory = collection::table(&got.members, "inventory.jsonl");
    let member = format!("live_response/process_memory/{pid}.core");
    let entry = inventory
        .iter()
        .find(|entry| entry["path"] == member.as_str())
        .unwrap();
    assert_eq!(entry["status"], "truncated");
    assert!(
        entry["reason"]
            .as_str()
            .unwrap()
            .contains("--max-file-size"),
        "{entry}"
    );
}

#[test]
fn a_process_that_ends_midway_leaves_a_core_that_is_well_formed() {
    if !ready() {
        return;
    }
    let ground = tempfile::tempdir().unwrap();
    let script = "import time\nheld = bytearray(b'x' * (300 << 20))\nprint('ready', flush=True)\ntime.sleep(600)";
    let mut held = Plants(Vec::new());
    let pid = held.start(Command::new("python3").args(["-c", script]));
    let agent = Agent::built().unwrap();
    let to = ground.path().join("out");
    let mut command = agent.command();
    command.args([
        "collect",
        "--case",
        "IR-7",
        "--quiet",
        "--include",
        "process_memory",
    ]);
    command.args([
        "--cpu-limit",
        "20",
        "--process-memory",
        &pid.to_string(),
        "--to",
    ]);
    let run = command.arg(&to).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    drop(held);
    let ended = Ended::of(&run.wait_with_output().unwrap());
    let folder = folder(&to, &ended.prefix());
    let members = collection::members(&folder);
    let rows = collection::table(&members, "live_response/process_memory/processes.jsonl");
    let row = rows.iter().find(|row| row["pid"] == pid).unwrap();
    assert_eq!(
        (ended.code, row["outcome"].as_str()),
        (3, Some("partial")),
        "{row}"
    );
    assert_eq!(row["core"]["ended_meanwhile"], true);
    assert!(
        row["core"]["not_stored_bytes"]["ended"].as_u64().unwrap() > 0,
        "{row}"
    );
    let core = &members[format!("live_response/process_memory/{pid}.core").as_bytes()];
    let last = loads(core)
        .into_iter()
        .map(|load| load.offset + load.stored)
        .max();
    assert_eq!(
        last,
        Some(core.len() as u64),
        "zeros stand for what did not come"
    );
}
