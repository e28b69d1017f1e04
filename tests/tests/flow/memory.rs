//! Physical memory of a recorded machine: its `/proc/iomem` and a core file in the place of `/proc/kcore`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::{skip_or_fail, tool};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::Value;

use super::collection::{artifact, manifest, members, table};
use super::{BUCKET, Bucket, Ended, collect, folder, run, verify};

const MIB: u64 = 1 << 20;

/// Bytes that do not compress (xorshift).
fn noise(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(next).collect()
}

/// A machine with three ranges of memory, of which the kernel does not show all.
struct Machine {
    root: tempfile::TempDir,
    /// First address and content of each part that it shows.
    shown: Vec<(u64, Vec<u8>)>,
}

impl Machine {
    fn new() -> Self {
        let mut high = noise(2 * MIB, 5);
        high.resize(usize::try_from(40 * MIB).unwrap(), 0);
        let machine = Self {
            root: tempfile::tempdir().unwrap(),
            shown: vec![
                (0x1000, noise(0x9_e000, 3)),
                (MIB, noise(19 * MIB + 4096, 7)),
                (1 << 32, high),
            ],
        };
        fs::create_dir(machine.root.path().join("proc")).unwrap();
        machine.show();
        machine
    }

    fn show(&self) {
        let file = File::create(self.root.path().join("proc/kcore")).unwrap();
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(64, 0);
        (head[16], head[32], head[54]) = (4, 64, 56);
        head[56] = u8::try_from(self.shown.len()).unwrap();
        let mut iomem = String::new();
        for (index, (first, content)) in self.shown.iter().enumerate() {
            let (offset, size) = ((index as u64 + 1) << 28, content.len() as u64);
            head.extend_from_slice(&[1, 0, 0, 0, 7, 0, 0, 0]);
            for field in [
                offset,
                0xffff_8880_0000_0000 + first,
                *first,
                size,
                size,
                4096,
            ] {
                head.extend_from_slice(&field.to_le_bytes());
            }
            file.write_all_at(content, offset).unwrap();
            // A page that is only there in part stands at the end of the first range of every PC.
            let last = first + size - 1 + if index == 0 { 0xc00 } else { 0 };
            iomem += &format!("{first:08x}-{last:08x} : System RAM\n");
        }
        file.write_all_at(&head, 0).unwrap();
        fs::write(self.root.path().join("proc/iomem"), iomem).unwrap();
    }

    /// The image as it must be.
    fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        for (index, (first, content)) in self.shown.iter().enumerate() {
            let rest = if index == 0 { 0xc00 } else { 0 };
            let last = first + content.len() as u64 + rest - 1;
            image.extend_from_slice(b"EMiL\x01\0\0\0");
            image.extend_from_slice(&first.to_le_bytes());
            image.extend_from_slice(&last.to_le_bytes());
            image.extend_from_slice(&[0; 8]);
            image.extend_from_slice(content);
            image.resize(image.len() + usize::try_from(rest).unwrap(), 0);
        }
        image
    }

    fn collect(&self, agent: &Agent, to: &Path, more: &[&str]) -> (Ended, PathBuf) {
        let root = self.root.path().to_str().unwrap();
        let more = [&["--include", "memory,symbols", "--root", root], more].concat();
        let ended = collect(agent, to.to_str().unwrap(), &more);
        let folder = folder(to, &ended.prefix());
        (ended, folder)
    }
}

#[test]
fn an_image_on_a_disk_is_not_kept_in_the_memory_of_the_host() {
    let Some(fincore) = tool("fincore") else {
        return skip_or_fail("fincore is not installed");
    };
    // On a disk: what is on a file system in memory stays there.
    let to = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let on = statfs(to.path()).unwrap().filesystem_type();
    if on == TMPFS_MAGIC {
        return skip_or_fail("the target folder is not on a disk");
    }
    let machine = Machine::new();
    let (_, folder) = machine.collect(&Agent::built().unwrap(), to.path(), &[]);
    let segments = fs::read_dir(folder.join("memory")).unwrap();
    let segments: Vec<PathBuf> = segments.map(|entry| entry.unwrap().path()).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    let told = Command::new(fincore)
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .args(&segments)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let resident: Vec<u64> = told
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(resident.len(), segments.len(), "{told}");
    assert!(resident.iter().sum::<u64>() < MIB, "{told}");
}

fn memory(agent: &Agent, arguments: &[&str]) -> Ended {
    run(agent.command().arg("memory").args(arguments))
}

#[test]
fn the_image_is_the_memory_byte_for_byte_and_can_be_taken_out_again() {
    let (machine, agent) = (Machine::new(), Agent::built().unwrap());
    let to = tempfile::tempdir().unwrap();
    let (ended, collection) = machine.collect(&agent, to.path(), &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = artifact(&manifest(&collection), "memory").clone();
    assert_eq!(
        (&report["outcome"], &report["items"]),
        (&"captured".into(), &3.into())
    );
    let reason = report["reason"].as_str().unwrap();
    assert!(
        reason.contains("lime: no module store") && reason.contains("captured by /proc/kcore"),
        "{reason}"
    );

    let image = to.path().join("memory.lime");
    let place = collection.to_str().unwrap();
    let extracted = memory(&agent, &["extract", place, "--to", image.to_str().unwrap()]);
    assert_eq!(extracted.code, 0, "{extracted:?}");
    assert!(fs::read(&image).unwrap() == machine.image());
    let sha256 = evidence::Digest::of(&machine.image()).to_string();
    assert!(extracted.stdout.starts_with(&sha256), "{extracted:?}");
    for place in [place, image.to_str().unwrap()] {
        let info = memory(&agent, &["info", "--json", place]);
        let info: Value = serde_json::from_str(&info.stdout).unwrap();
        assert_eq!(
            (&info["whole"], info["ranges"].as_array().unwrap().len()),
            (&true.into(), 3)
        );
        assert_eq!(info["ranges"][2]["first"], "0x100000000");
    }
    let again = memory(&agent, &["extract", place, "--to", image.to_str().unwrap()]);
    assert_eq!(again.code, 2, "an image is never overwritten: {again:?}");
}

#[test]
fn each_range_tells_when_it_was_read_and_what_of_it_was_not() {
    let mut machine = Machine::new();
    // The kernel shows less than there is: memory that was taken offline.
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let iomem = fs::read_to_string(machine.root.path().join("proc/iomem")).unwrap();
    machine.shown[1]
        .1
        .truncate(usize::try_from(10 * MIB).unwrap());
    machine.show();
    fs::write(machine.root.path().join("proc/iomem"), iomem).unwrap();
    let (ended, collection) = machine.collect(&agent, to.path(), &[]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let report = artifact(&manifest(&collection), "memory").clone();
    assert_eq!(report["outcome"], "partial");
    assert_eq!(report["losses"]["failed:unreadable_memory"], 10);
    let ranges = table(&members(&collection), "live_response/memory/ranges.jsonl");
    assert_eq!(ranges.len(), 3);
    assert_eq!(
        ranges[0]["unreadable_bytes"], 0xc00,
        "the partial page is told"
    );
    assert_eq!(ranges[1]["unreadable"][0]["first"], "0xb00000");
    assert_eq!(ranges[1]["unreadable_bytes"], 9 * MIB + 4096);
    assert!(ranges[2]["trailing_zero_bytes"].as_u64().unwrap() >= 38 * MIB);
    for range in &ranges {
        let [started, ended] =
            ["started_utc_ns", "ended_utc_ns"].map(|key| range[key].as_i64().unwrap());
        assert!(0 < started && started <= ended, "{range}");
    }
    assert_eq!(
        verify(&agent, collection.to_str().unwrap()).1["verdict"],
        "partial"
    );
}

#[test]
fn a_part_of_an_image_is_written_as_a_range_or_at_its_place() {
    let (machine, agent) = (Machine::new(), Agent::built().unwrap());
    let to = tempfile::tempdir().unwrap();
    let (_, collection) = machine.collect(&agent, to.path(), &[]);
    let place = collection.to_str().unwrap();
    let out = |name: &str| to.path().join(name);
    let extract = |name: &str, more: &[&str]| {
        let path = out(name);
        let arguments = [&["extract", place, "--to", path.to_str().unwrap()], more].concat();
        let ended = memory(&agent, &arguments);
        assert_eq!(ended.code, 0, "{ended:?}");
        path
    };
    let part = fs::read(extract("part", &["--range", "0x100010-0x10001f"])).unwrap();
    assert_eq!(part.len(), 32 + 16);
    assert_eq!(part[32..], machine.shown[1].1[16..32]);
    let padded = File::open(extract("padded", &["--format", "padded"])).unwrap();
    let mut bytes = vec![0; 4096];
    padded.read_exact_at(&mut bytes, MIB + 4096).unwrap();
    assert_eq!(bytes, machine.shown[1].1[4096..8192]);
    padded.read_exact_at(&mut bytes, 1 << 32).unwrap();
    assert_eq!(bytes, machine.shown[2].1[..4096]);
}

#[test]
fn an_image_of_an_altered_collection_is_not_passed_off_as_one() {
    let (machine, agent) = (Machine::new(), Agent::built().unwrap());
    let to = tempfile::tempdir().unwrap();
    let (_, collection) = machine.collect(&agent, to.path(), &[]);
    let segment = collection.join("memory/00000.lime.zst");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&segment).unwrap();
    fs::write(&segment, bytes).unwrap();
    let (place, image) = (collection.to_str().unwrap(), to.path().join("image"));
    let extracted = memory(&agent, &["extract", place, "--to", image.to_str().unwrap()]);
    assert_eq!(extracted.code, 20, "{extracted:?}");
    assert!(
        extracted.stderr.contains("memory/00000.lime.zst"),
        "{extracted:?}"
    );
    assert!(!image.exists());
    let info = memory(&agent, &["info", place]);
    assert_eq!(info.code, 20);
    assert!(info.stdout.starts_with("NOT WHOLE"), "{info:?}");
}

#[test]
fn memory_is_left_out_or_named_where_there_is_none() {
    let (machine, agent) = (Machine::new(), Agent::built().unwrap());
    let to = tempfile::tempdir().unwrap();
    let outcome = |folder: &Path| {
        let report = artifact(&manifest(folder), "memory").clone();
        let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
        (text("outcome"), text("reason"))
    };
    let (_, off) = machine.collect(&agent, &to.path().join("off"), &["--memory", "off"]);
    assert_eq!(outcome(&off), ("skipped".into(), "--memory off".into()));
    fs::remove_file(machine.root.path().join("proc/kcore")).unwrap();
    let (ended, none) = machine.collect(&agent, &to.path().join("none"), &[]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let (word, reason) = outcome(&none);
    assert!(
        word == "failed" && reason.contains("/proc/kcore: this kernel has no such file"),
        "{word} {reason}"
    );
    fs::write(
        machine.root.path().join("proc/iomem"),
        "00000000-00000000 : System RAM\n",
    )
    .unwrap();
    let (_, hidden) = machine.collect(&agent, &to.path().join("hidden"), &[]);
    let (word, reason) = outcome(&hidden);
    assert!(
        word == "denied" && reason.contains("CAP_SYS_ADMIN"),
        "{word} {reason}"
    );
    fs::remove_file(machine.root.path().join("proc/iomem")).unwrap();
    let (_, tree) = machine.collect(&agent, &to.path().join("tree"), &[]);
    assert_eq!(outcome(&tree).0, "absent");
}

#[test]
fn files_that_are_no_images_are_named() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let place = to.path().join("image");
    let whole = Machine::new().image();
    fs::write(&place, &whole[..whole.len() - 5000]).unwrap();
    let cut = memory(&agent, &["info", place.to_str().unwrap()]);
    assert_eq!(cut.code, 20);
    assert!(
        cut.stdout.contains("ends 5000 bytes before the end"),
        "{cut:?}"
    );
    fs::write(&place, "no image").unwrap();
    assert_eq!(memory(&agent, &["info", place.to_str().unwrap()]).code, 22);
    let nothing = memory(&agent, &["info", "/nonexistent"]);
    assert!(
        nothing.code == 22 && nothing.stderr.contains("/nonexistent"),
        "{nothing:?}"
    );
}

#[test]
fn what_somebody_put_in_the_place_of_the_kernels_files_is_refused() {
    let (true, Some(unshare)) = (super::manners::is_root(), tool("unshare")) else {
        return skip_or_fail("root and unshare are needed");
    };
    let (machine, agent) = (Machine::new(), Agent::built().unwrap());
    let to = tempfile::tempdir().unwrap();
    // The map alone: without kcore nothing says what there is. Its text is a file of `/proc` too, of another process.
    let script = r#"mount --bind "$3/proc/iomem" /proc/iomem; "$1" collect --quiet --include memory --to "$2"; code=$?
        umount /proc/iomem; exit $code"#;
    let mut command = std::process::Command::new(unshare);
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command
        .arg(agent.program())
        .arg(to.path())
        .arg(machine.root.path());
    let ended = run(&mut command);
    let report = artifact(&manifest(&folder(to.path(), &ended.prefix())), "memory").clone();
    assert!(
        report["outcome"] == "failed" && report["items"] == 0,
        "{report}"
    );
    let reason = report["reason"].as_str().unwrap();
    assert!(
        reason.contains("/proc/iomem: something is mounted over it"),
        "{reason}"
    );
    assert_eq!(report["losses"]["failed:iomem_covered"], 1, "{report}");
}

#[test]
fn an_image_is_listed_and_taken_out_of_the_bucket() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let machine = Machine::new();
    let root = machine.root.path().to_str().unwrap();
    let ended = bucket.collect(&["--include", "memory", "--root", root]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let place = format!("s3://{BUCKET}/cases/{}", ended.prefix());
    let to = tempfile::tempdir().unwrap();
    let image = to.path().join("memory.lime");
    let way = bucket.way();
    let of_bucket = |arguments: &[&str]| {
        let way = way.iter().map(String::as_str);
        let arguments: Vec<&str> = arguments.iter().copied().chain(way).collect();
        memory(&bucket.agent, &arguments)
    };
    let info = of_bucket(&["info", &place]);
    assert!(
        info.code == 0 && info.stdout.starts_with("WHOLE: 59.62 MiB in 3 ranges"),
        "{info:?}"
    );
    let extracted = of_bucket(&["extract", &place, "--to", image.to_str().unwrap()]);
    assert_eq!(extracted.code, 0, "{extracted:?}");
    assert!(fs::read(&image).unwrap() == machine.image());
}

/// The same command as the child of a shell. The peak of a process without a `/proc` to ask is that of getrusage(2), which
/// starts with the memory of the one that it was forked from: of these tests, hundreds of MiB.
fn by_a_small_process(command: &Command) -> Command {
    let mut small = Command::new("sh");
    small
        .args(["-c", "\"$@\"; exit $?", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    small
}

/// A host that says that it has a TiB gets segments of 64 MiB: fewer objects, and still less than a GiB of its memory.
#[test]
fn a_tebibyte_makes_large_segments_within_a_gibibyte() {
    let (mut machine, agent) = (Machine::new(), Agent::built().unwrap());
    // Each frame is as long as a piece of this, so none of it compresses.
    machine.shown = vec![(1 << 32, noise(MIB, 9).repeat(400))];
    machine.show();
    let meminfo = format!("MemTotal:       {} kB\n", 1_u64 << 30);
    fs::write(machine.root.path().join("proc/meminfo"), meminfo).unwrap();
    let to = tempfile::tempdir().unwrap();
    let (_, none) = machine.collect(&agent, &to.path().join("auto"), &[]);
    let reason = artifact(&manifest(&none), "memory")["reason"].to_string();
    assert!(reason.contains("memory may take 1048576 MiB"), "{reason}");
    let mut collect = agent.command();
    collect
        .args(["collect", "--quiet", "--include", "memory,symbols"])
        .args(["--memory", "kcore", "--root"])
        .args([machine.root.path(), "--to".as_ref(), to.path()]);
    let ended = run(&mut by_a_small_process(&collect));
    assert_eq!(ended.code, 0, "{ended:?}");
    let manifest = manifest(&folder(to.path(), &ended.prefix()));
    let memory = manifest["streams"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["stream"] == "memory");
    let [segments, bytes] = ["segments", "bytes"].map(|key| memory.unwrap()[key].as_u64().unwrap());
    assert!(
        bytes > 380 * MIB && segments == bytes.div_ceil(65 * MIB),
        "{segments} of {bytes}"
    );
    let peak = manifest["impact"]["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < 1 << 30, "{peak}");
}
