//! What a run costs on a host with many files and many processes: cost for each, at three sizes, to see that it stays the same.
//!
//!     cargo bench -p exhibit-tests --bench scale
//!
//! Needs root for a tmpfs of its own, 6 GiB of memory, and `unshare`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that can not be set up has nothing to measure"
)]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use exhibit_tests::rig::agent::Agent;

const FILES: [usize; 3] = [500_000, 1_000_000, 2_000_000];
const FILES_IN_A_FOLDER: usize = 1000;
const PROCESSES: [usize; 3] = [500, 1000, 2000];

/// Set in the process that has a mount namespace of its own.
const WITHIN: &str = "EXHIBIT_BENCH_GROUND";

fn main() {
    let Some(ground) = std::env::var_os(WITHIN) else {
        let ground = tempfile::tempdir().unwrap();
        let mount = "mount -t tmpfs -o nr_inodes=0,size=6g tmpfs \"$1\" && shift && exec \"$@\"";
        let status = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                mount,
                "sh",
            ])
            .arg(ground.path())
            .arg(std::env::current_exe().unwrap())
            .env(WITHIN, ground.path())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    };
    let ground = Path::new(&ground);
    println!(
        "{:>8}  {:>9}  {:>8}  {:>8}  {:>9}  {:>8}",
        "", "", "wall", "CPU", "each", "peak RSS"
    );
    let (tree, to) = (ground.join("tree"), ground.join("to"));
    let mut made = 0;
    for files in FILES {
        made = plant(&tree, made, files);
        let root = ["--root", tree.to_str().unwrap(), "--include", "filesystem"];
        measure("files", files, &root, &to);
    }
    let mut sleepers = Sleepers(Vec::new());
    for processes in PROCESSES {
        while sleepers.0.len() < processes {
            sleepers
                .0
                .push(Command::new("sleep").arg("3600").spawn().unwrap());
        }
        let live = ["--include", "first_sweep,processes,hidden,last_sweep"];
        measure("processes", processes, &live, &to);
    }
}

/// Fills `tree` until it has `files` files; some of them are what families look for.
fn plant(tree: &Path, made: usize, files: usize) -> usize {
    for number in made..files {
        let folder = number / FILES_IN_A_FOLDER;
        let folder = tree.join(format!("srv/data/{}/{folder}", folder % 50));
        if number % FILES_IN_A_FOLDER == 0 {
            std::fs::create_dir_all(&folder).unwrap();
        }
        std::fs::write(folder.join(format!("file-{number}.dat")), "").unwrap();
    }
    files
}

struct Sleepers(Vec<Child>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One run to warm up, then the best of three.
fn measure(what: &str, number: usize, arguments: &[&str], to: &Path) {
    let agent = Agent::built().unwrap();
    let mut best: Option<(f64, f64, u64)> = None;
    for round in 0..4 {
        let output = agent
            .command()
            .args(["collect", "--quiet", "--normal-priority", "--to"])
            .arg(to)
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .unwrap();
        let receipt: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let folder = to.join(receipt["prefix"].as_str().unwrap());
        let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        std::fs::remove_dir_all(to).unwrap();
        let of = |value: &serde_json::Value| value.as_u64().unwrap() as f64;
        let wall = (of(&receipt["ended_utc_ns"]) - of(&receipt["started_utc_ns"])) / 1e9;
        let impact = &manifest["impact"];
        let cpu = (of(&impact["cpu_user_us"]) + of(&impact["cpu_system_us"])) / 1e6;
        let rss = impact["peak_rss_bytes"].as_u64().unwrap();
        let least = best.is_none_or(|(least, ..)| cpu < least);
        if round > 0 && least {
            best = Some((cpu, wall, rss));
        }
    }
    let (cpu, wall, rss) = best.unwrap();
    println!(
        "{number:>8}  {what:<9}  {wall:>6.2} s  {cpu:>6.2} s  {:>6.1} us  {:>4} MiB",
        cpu * 1e6 / number as f64,
        rss >> 20
    );
}
