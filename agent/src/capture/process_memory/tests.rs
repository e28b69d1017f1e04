use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::layout::Layout;
use super::maps::Mapping;
use super::region::{Reason, Region};
use super::*;
use crate::bundle::Piece;
use crate::capture::rehearsal::{Rehearsed, rehearse};

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a process for the test to look at"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

impl Sleeper {
    fn start() -> Self {
        let child = command("sleep").arg("600").spawn().unwrap();
        // Until it runs its own program.
        std::thread::sleep(std::time::Duration::from_millis(200));
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

fn of(words: &[Word], root: &Path) -> Rehearsed {
    let artifact = ProcessMemory {
        choice: Choice::of(words),
        hidden: hidden::Found::default(),
    };
    rehearse(&artifact, root)
}

#[test]
fn a_child_of_ours_has_a_core_with_its_stack() {
    let child = Sleeper::start();
    let got = of(&[Word::Pid(child.pid())], Path::new("/"));
    let processes = got.table("process_memory/processes");
    let process = &processes[0];
    assert_eq!(process["outcome"], "captured", "{process}");
    let core = &got.members[process["core"]["member"].as_str().unwrap()];
    assert_eq!(process["core"]["bytes"], core.len());
    assert_eq!(&core[..4], b"\x7fELF");
    let regions = got.table("process_memory/regions");
    let stack = regions.iter().find(|row| row["path"] == "[stack]").unwrap();
    assert!(stack["stored_bytes"].as_u64().unwrap() > 0 && stack["sha256"].is_string());
    let program = regions
        .iter()
        .find(|row| row["permissions"] == "r-xp" && row["file"].is_object());
    assert!(
        program.unwrap()["absent"][0]["reason"] == "on_disk",
        "{program:?}"
    );
}

#[test]
fn we_are_left_out_and_so_are_our_threads() {
    let own = i32::try_from(std::process::id()).unwrap();
    let thread = std::thread::spawn(|| nix::unistd::gettid().as_raw()).join();
    let tid = nix::unistd::gettid().as_raw();
    let got = of(&[Word::Pid(own), Word::Pid(tid)], Path::new("/"));
    for row in got.table("process_memory/processes") {
        assert_eq!(row["outcome"], "left_out", "{row} {thread:?}");
    }
    assert!(!got.members.keys().any(|name| name.ends_with(".core")));
}

#[test]
fn a_recorded_tree_has_no_memory() {
    let root = tempfile::tempdir().unwrap();
    let got = of(&[Word::All], root.path());
    assert_eq!(got.report.outcome, evidence::manifest::Outcome::Absent);
}

#[test]
fn it_is_left_out_until_it_is_asked_for() {
    let artifact = |words: &[Word]| ProcessMemory {
        choice: Choice::of(words),
        hidden: hidden::Found::default(),
    };
    assert!(
        artifact(&[])
            .left_out()
            .unwrap()
            .contains("--process-memory")
    );
    assert!(artifact(&[Word::Suspicious]).left_out().is_none());
}

/// Three pages: one that is there, one that only a program that never does would answer for, one that is there.
const SILENT: &str = r#"
import ctypes, fcntl, mmap, struct, time
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
held = mmap.mmap(-1, 3 * page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
held[0:5], held[2 * page:2 * page + 4] = b"first", b"last"
start = ctypes.addressof(ctypes.c_char.from_buffer(held))
fd = libc.syscall(323, 0)
fcntl.ioctl(fd, 0xc018aa3f, struct.pack("QQQ", 0xaa, 0, 0))
fcntl.ioctl(fd, 0xc020aa00, struct.pack("QQQQ", start + page, page, 1, 0))
print(start, flush=True)
time.sleep(600)
"#;

#[test]
fn memory_that_a_program_begins_to_answer_for_costs_itself_alone() {
    let Ok(child) = command("python3")
        .args(["-c", SILENT])
        .stderr(Stdio::null())
        .spawn()
    else {
        return;
    };
    let mut child = Sleeper(child);
    let mut line = String::new();
    let stdout = child.0.stdout.take().unwrap();
    std::io::BufReader::new(stdout)
        .read_line(&mut line)
        .unwrap();
    // Without the right to it, or on another processor, there is no such memory.
    let Ok(start) = line.trim().parse::<u64>() else {
        return;
    };
    let host = Host::open(Path::new("/")).unwrap();
    let memory = host.process(child.pid()).unwrap().open("mem").unwrap();
    let page = page();
    let mut layout = Layout::default();
    for number in 0..3_u64 {
        let mapping = Mapping {
            start: start + number * page,
            end: start + (number + 1) * page,
            ..Mapping::default()
        };
        let index = layout.runs.len();
        layout.runs.push(mapping.start..mapping.end);
        layout
            .regions
            .push(Region::new(mapping, index..index + 1, Reason::Untouched));
    }
    let mut stream = Stream::new(Vec::new(), &mut layout, &memory, page);
    let mut content = Vec::new();
    while (content.len() as u64) < 3 * page {
        match stream.next(3 * page - content.len() as u64, Vec::new()) {
            Piece::Bytes(bytes) => content.extend_from_slice(&bytes),
            Piece::Short { reason, .. } => panic!("{reason}"),
        }
    }
    stream.end();
    let at = |number: u64| {
        content
            .get(usize::try_from(number * page).unwrap()..)
            .unwrap()
    };
    assert!(at(0).starts_with(b"first") && at(2).starts_with(b"last"));
    assert!(at(1).starts_with(&[0; 64]));
    let absent: Vec<_> = layout
        .regions
        .iter()
        .map(|region| region.absent.first().map(|absent| absent.reason))
        .collect();
    // Kernels refuse such a page at once where they can not let go of the lock meanwhile; else the deadline ends it.
    assert!(
        matches!(
            absent[..],
            [None, Some(Reason::TimedOut | Reason::Refused(_)), None]
        ),
        "{absent:?}"
    );
    let stored: Vec<_> = layout.regions.iter().map(|region| region.stored).collect();
    assert_eq!(stored, [page, 0, page]);
}
