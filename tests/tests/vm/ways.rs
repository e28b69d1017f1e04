//! Each way to physical memory gives the same image: complete, at the right addresses, and readable by the analysts'
//! own program with symbols from the same collection.
//!
//! The guest has half of its memory above 4 GiB, as every large machine has.

use std::collections::BTreeSet;
use std::path::Path;

use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::volatility::{self, Process};

use super::image::Image;
use super::lab::{Lab, Run, left_over, planted};

const SCRIPT: &str = "
    plant
    processes before
    collect kcore --memory kcore
    processes between
    collect pipe --memory lime $modules
    collect tcp --memory lime --lime-tcp --lime-module /host/single/lime.ko --lime-key /host/key.pem
    processes after
";

#[test]
fn every_way_gives_all_of_memory_at_the_right_place() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.guest().low_memory(256);
    lab.single_module(&guest.share().join("single"));
    let ended = lab.run(guest, SCRIPT);
    assert_eq!(left_over(&ended), "", "a module is left in the kernel");
    let (iomem, planted) = (ended.text("iomem"), planted(&ended));
    let high = planted
        .iter()
        .filter(|page| page.physical > u64::from(u32::MAX));
    assert!(high.count() > 0, "no page was planted above 4 GiB");

    for (name, way, around) in [
        ("kcore", "kcore", Some(("before", "between"))),
        ("pipe", "lime", Some(("between", "after"))),
        ("tcp", "lime", None),
    ] {
        let run = lab.of(&ended, name);
        captured(&lab, &run);
        run.says(&[way]);
        let image = lab.image(&run);
        Image::open(&image).judge(&iomem, &planted);
        info_agrees(&lab, &run, &image);
        if let Some((before, after)) = around {
            let listed = [before, after].map(|moment| ended.text(moment));
            analysts_find_the_processes(&lab, &run, &image, &listed);
        }
    }
}

/// As many machines have it: ranges below and above 4 GiB, and an image that is longer than four bytes can count.
#[test]
fn four_gibibytes_are_read_to_the_last_byte() {
    let Some(lab) = Lab::start() else { return };
    let ended = lab.run(
        lab.guest().memory(4096),
        "plant; collect large --memory kcore",
    );
    let run = lab.of(&ended, "large");
    captured(&lab, &run);
    let image = Image::open(&lab.image(&run));
    image.judge(&ended.text("iomem"), &planted(&ended));
    let last = image.ranges().last().map(|(_, last)| *last);
    assert!(last > Some(u64::from(u32::MAX)), "{last:x?}");
}

/// The run is complete, and says so in each place.
fn captured(lab: &Lab, run: &Run) {
    assert_eq!((run.code, run.outcome()), (0, "captured"), "{run:?}");
    assert_eq!(lab.verdict(run), (0, "complete".into()));
    let peak = run.manifest["impact"]["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < 96 << 20, "{peak} bytes were in use at once");
}

/// `memory info` says the same of the collection and of the image taken out of it.
fn info_agrees(lab: &Lab, run: &Run, image: &Path) {
    let info = |place: &Path| {
        let (code, text) = lab.agent(&["memory", "info", place.to_str().unwrap(), "--json"]);
        assert_eq!(code, 0, "{text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let (of_run, of_image) = (info(&run.folder), info(image));
    assert!(of_run["ranges"].is_array(), "{of_run}");
    assert_eq!(of_run["ranges"], of_image["ranges"]);
}

/// Volatility lists the processes that the guest listed itself, with the symbols that the collection holds.
fn analysts_find_the_processes(lab: &Lab, run: &Run, image: &Path, listed: &[String; 2]) {
    let symbols = image.with_extension("json");
    let (code, _) = lab.agent(&[
        "memory",
        "symbols",
        run.folder.to_str().unwrap(),
        "--to",
        symbols.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "memory symbols");
    if let Some(found) = or_skip(volatility::pslist(image, &symbols)) {
        let [before, after] = listed;
        compare(found, before, after);
    }
}

/// All that were there before and after are found, and nothing that was there neither before nor after.
fn compare(found: Vec<Process>, before: &str, after: &str) {
    let found: BTreeSet<Process> = found.into_iter().map(kernels_name).collect();
    let (before, after) = (listed(before), listed(after));
    let stayed: BTreeSet<Process> = before.intersection(&after).cloned().collect();
    assert!(stayed.len() > 20, "{stayed:?}");
    let missing: Vec<&Process> = stayed.difference(&found).collect();
    assert!(
        missing.is_empty(),
        "not in the image: {missing:?}, but {found:?}"
    );
    let seen: BTreeSet<Process> = before.union(&after).cloned().collect();
    let strange: Vec<&Process> = found
        .difference(&seen)
        .filter(|process| !passing(process))
        .collect();
    assert!(strange.is_empty(), "only in the image: {strange:?}");
}

/// Lines of `pid name`.
fn listed(text: &str) -> BTreeSet<Process> {
    let process = |line: &str| {
        let (pid, name) = line.split_once(' ')?;
        Some(kernels_name(Process {
            pid: pid.parse().ok()?,
            name: name.into(),
        }))
    };
    text.lines().filter_map(process).collect()
}

/// As it stands in memory: /proc adds to the name of a worker what it works on, and takes its idle mark away.
fn kernels_name(mut process: Process) -> Process {
    if process.name.starts_with("kworker/") {
        process.name = process
            .name
            .split(['-', '+'])
            .next()
            .unwrap_or_default()
            .into();
    }
    process.name.truncate(15);
    process
}

/// What comes and goes with a run.
fn passing(process: &Process) -> bool {
    process.name == "exhibit-agent" || process.name.starts_with("kworker/")
}
