use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::capture::rehearsal::{Rehearsed, rehearse};

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sleeper {
    fn start() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a process for the test to look at"
        )]
        let mut command = Command::new("sleep");
        let child = command.arg("600").stdin(Stdio::null()).spawn().unwrap();
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
