//! What reading physical memory costs, against others, in one guest: ratios between what runs beside each other, never
//! claims about real machines, because the processor is emulated.
//!
//!     cargo bench -p exhibit-tests --bench memory
//!
//! `avml` comes from crates.io and is built once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that can not be set up has nothing to measure"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::vm::{Guest, Kernel, Modules};

const MEBIBYTES: u32 = 1024;
const AVML: &str = "0.20.0";

/// Each line of `times` is a name, a round, and the time since boot before and after.
const SCRIPT: &str = "
    timed() {
        name=$1; shift
        sync; echo 3 >/proc/sys/vm/drop_caches
        read -r before rest </proc/uptime
        \"$@\" >/host/$name.log 2>&1 || echo \"$name: failed with $?\" >>/host/failed
        read -r after rest </proc/uptime
        echo \"$name $round $before $after\" >>/host/times
        rm -rf /disk/*
    }
    collect() {
        way=$1; shift
        exhibit-agent collect --normal-priority --include memory --to /disk/$way --memory $way \"$@\"
        code=$?
        cat /disk/$way/*/*/*/manifest.json | tr ',' '\\n' | grep -E 'peak_rss|cpu_' >/host/$way.impact
        return $code
    }
    lime_discarded() {
        mkfifo /tmp/pipe
        guest discard /tmp/pipe &
        insmod /host/modules/$release/x86_64/lime.ko path=/tmp/pipe format=lime timeout=0
        wait
        rmmod lime
        rm /tmp/pipe
    }
    for round in 1 2 3 4 5; do
        timed kcore_discarded guest kcore
        timed kcore_collected collect kcore
        timed avml_compressed avml acquire --source /proc/kcore --compress /disk/avml.lime
        timed lime_discarded lime_discarded
        timed lime_collected collect lime --lime-modules /host/modules --lime-key /host/key.pem
    done
";

fn main() {
    let Some(kernel) = or_skip(Kernel::ensure()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let modules = Modules::new(&kernel, folder.path()).unwrap();
    let guest = Guest::new(&kernel)
        .unwrap()
        .memory(MEBIBYTES)
        .disk(MEBIBYTES)
        .patience(std::time::Duration::from_secs(1800))
        // Each finds the same memory, not what the one before it left there.
        .policy("init_on_free=1")
        .program("exhibit-agent", Agent::built().unwrap().program())
        .program("guest", Path::new(env!("CARGO_BIN_EXE_guest")))
        .program("avml", &avml());
    modules
        .write(&guest.share().join("modules"), |_| ())
        .unwrap();
    std::fs::write(guest.share().join("key.pem"), modules.public_key().unwrap()).unwrap();
    let script = format!("release={}\n{SCRIPT}", kernel.release());
    let ended = guest.run(&script).unwrap().well();
    let failed = std::fs::read_to_string(ended.path("failed")).unwrap_or_default();
    assert_eq!(failed, "", "{ended}");
    let times = ended.text("times");
    let seconds = seconds(&times);
    for (name, of_name) in &seconds {
        let best = of_name.iter().copied().fold(f64::MAX, f64::min);
        let median = median(of_name.iter().copied());
        println!(
            "{name:<16} {best:6.2} s at best, {median:6.2} s and {:6.1} MiB/s in the median",
            f64::from(MEBIBYTES) / median
        );
    }
    for (name, other) in [
        ("kcore_collected", "avml_compressed"),
        ("kcore_collected", "kcore_discarded"),
        ("lime_collected", "lime_discarded"),
    ] {
        let rounds = seconds[name].iter().zip(&seconds[other]);
        let ratio = median(rounds.map(|(of_name, of_other)| of_other / of_name));
        println!("{name}: {ratio:.2} times the throughput of {other} (median of the rounds)");
    }
    for way in ["kcore", "lime"] {
        println!(
            "{way}: {}",
            ended.text(&format!("{way}.impact")).replace('\n', " ")
        );
    }
}

/// Seconds by name, in the order of the rounds.
fn seconds(lines: &str) -> BTreeMap<&str, Vec<f64>> {
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, _, before, after] = words[..] else {
            panic!("{line}")
        };
        let number = |text: &str| text.parse::<f64>().unwrap();
        let took = number(after) - number(before);
        seconds.entry(name).or_default().push(took);
    }
    seconds
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Builds avml, unless it is there.
fn avml() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("avml-{AVML}"));
    let program = root.join("bin/avml");
    if !program.is_file() {
        let built = Command::new(env!("CARGO"))
            .args([
                "install",
                "--quiet",
                "--locked",
                "--version",
                AVML,
                "avml",
                "--root",
            ])
            .arg(&root)
            .args(["--target", "x86_64-unknown-linux-gnu"])
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("CARGO_TARGET_DIR", root.join("target"))
            .current_dir("/")
            .status()
            .expect("cargo starts");
        assert!(built.success(), "avml can not be built");
    }
    program
}
