//! What a kernel or an operator's rule forbids: the agent says which way failed and why, takes the next one when it
//! may, and captures everything else. The guest lives through all of it.

use super::image::{Image, system_ram};
use super::lab::{Lab, Run, left_over, planted};

/// LiME alone was asked for and refused: nothing of memory is there, the rest is, and the reason says this.
fn refused(lab: &Lab, run: &Run, words: &[&str]) {
    assert!(
        ["denied", "skipped", "failed"].contains(&run.outcome()),
        "{} {}",
        run.outcome(),
        run.reason()
    );
    assert_eq!(run.code, 3, "{run:?}");
    run.says(words);
    assert!(
        !run.folder.join("memory").exists(),
        "an image was made all the same"
    );
    assert_eq!(run.artifact("accounts")["outcome"], "captured");
    assert_eq!(lab.verdict(run), (3, "partial".into()));
}

/// Another way was found: the image is whole, and the reason says what was wrong with the first.
fn fell_back(lab: &Lab, run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.outcome()), (0, "captured"), "{run:?}");
    run.says(words);
    run.says(&["kcore"]);
    assert_eq!(lab.verdict(run), (0, "complete".into()));
}

/// `memory check` says beforehand what a run then finds.
fn foretold(check: &str, way: &str, answer: &str, words: &[&str]) {
    let mut lines = check.lines().filter_map(|line| line.strip_prefix(way));
    let said = lines
        .next()
        .unwrap_or_else(|| panic!("no word on {way}: {check}"));
    assert!(said.trim_start().starts_with(answer), "{way}: {said}");
    assert!(
        words.iter().all(|word| said.contains(word)),
        "{way}: {said}"
    );
}

#[test]
fn a_module_that_is_not_the_right_one_is_refused() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.guest().memory(256);
    let release = lab.release().to_string();
    let other = another(&release);
    let store = |name: &str| guest.share().join(name);
    let modules = &lab.modules;
    modules
        .write(&store("absent"), |entry| {
            entry.row["release"] = other.clone().into()
        })
        .unwrap();
    modules
        .write(&store("vermagic"), |entry| {
            entry.set_release(&release, &other)
        })
        .unwrap();
    modules
        .write(&store("versions"), |entry| entry.break_versions())
        .unwrap();
    modules.write(&store("swapped"), |_| ()).unwrap();
    let module = store("swapped").join(&release).join("x86_64/lime.ko");
    let mut bytes = std::fs::read(&module).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&module, bytes).unwrap();
    modules.write(&store("edited"), |_| ()).unwrap();
    let index = store("edited").join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(
        &index,
        text.replace("\"fault_safe\":false", "\"fault_safe\":true"),
    )
    .unwrap();
    modules.write(&store("unsigned"), |_| ()).unwrap();
    std::fs::remove_file(store("unsigned").join("index.json.sig")).unwrap();
    lab.stranger().write(&store("stranger"), |_| ()).unwrap();

    let ended = lab.run(
        guest,
        "for store in absent vermagic versions swapped edited unsigned stranger; do
             collect $store --memory lime --lime-modules /host/$store --lime-key /host/key.pem
         done
         echo 1 >/sys/module/module/parameters/sig_enforce
         collect enforced --memory lime $modules
         dmesg >dmesg",
    );
    let refused = |name: &str, words: &[&str]| refused(&lab, &lab.of(&ended, name), words);
    refused("absent", &["no module", &release]);
    refused("vermagic", &["vermagic"]);
    refused("versions", &["symbol"]);
    refused("swapped", &["sha-256"]);
    refused("edited", &["signature"]);
    refused("unsigned", &["index.json.sig"]);
    refused("stranger", &["signature"]);
    refused("enforced", &["signature"]);
    assert_eq!(left_over(&ended), "");
    let dmesg = ended.text("dmesg");
    let tried = dmesg.matches("disagrees about version of symbol").count();
    assert_eq!(
        tried, 1,
        "only the one with other symbols reached the kernel: {dmesg}"
    );
}

/// A release of the same length that is not the guest's.
fn another(release: &str) -> String {
    let digit = release
        .rfind(|letter: char| letter.is_ascii_digit())
        .unwrap();
    let other = if release.as_bytes()[digit] == b'9' {
        "8"
    } else {
        "9"
    };
    let mut text = release.to_string();
    text.replace_range(digit..=digit, other);
    text
}

#[test]
fn a_locked_down_kernel_is_read_as_far_as_it_allows() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.small_guest().policy("lockdown=integrity");
    let ended = lab.run(
        guest,
        "pages=12 plant
         exhibit-agent memory check $modules >check.integrity
         exhibit-agent memory check $modules --json >check.json
         collect integrity --memory auto $modules
         echo confidentiality >/sys/kernel/security/lockdown
         exhibit-agent memory check $modules >check.confidentiality
         collect confidentiality --memory auto $modules",
    );
    for (state, kcore) in [("integrity", "yes"), ("confidentiality", "no")] {
        let text = ended.text(&format!("check.{state}"));
        foretold(&text, "lime", "no", &["lockdown", state]);
        foretold(&text, "/proc/kcore", kcore, &[]);
    }
    let check: serde_json::Value = serde_json::from_str(&ended.text("check.json")).unwrap();
    let ranges = system_ram(&ended.text("iomem"));
    let bytes: u64 = ranges.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!(check["ram_bytes"], bytes, "{check}");
    assert_eq!(check["ways"][1]["name"], "/proc/kcore", "{check}");
    let run = lab.of(&ended, "integrity");
    fell_back(&lab, &run, &["lime", "lockdown"]);
    Image::open(&lab.image(&run)).judge(&ended.text("iomem"), &planted(&ended));
    let run = lab.of(&ended, "confidentiality");
    refused(
        &lab,
        &run,
        &["lime", "kcore", "lockdown", "confidentiality"],
    );
}

#[test]
fn a_module_left_by_somebody_else_does_not_stand_in_the_way() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.small_guest();
    // Its own module comes out of a bucket here.
    let place = lab.modules_in_bucket(&guest.share().join("modules"));
    let ended = lab.run(
        guest,
        &format!(
            "pages=12 plant
             insmod $lime path=/dev/null format=lime timeout=0
             lsmod | grep -q '^lime ' || exit 8
             collect again --memory lime --lime-modules {place} --lime-key /host/key.pem"
        ),
    );
    let run = lab.of(&ended, "again");
    assert_eq!((run.code, run.outcome()), (0, "captured"), "{run:?}");
    Image::open(&lab.image(&run)).judge(&ended.text("iomem"), &planted(&ended));
    assert_eq!(left_over(&ended), "");
}

/// LiME 1.9.1 crashes a kernel with pages that it can not read, and this kernel does not survive a crash.
#[test]
fn secret_memory_keeps_a_careless_module_away() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.small_guest().policy("secretmem.enable=1 oops=panic");
    let ended = lab.run(
        guest,
        "pages=12 plant
         guest secretmem 4 /host/secret &
         until_there secret
         collect auto --memory auto $modules
         collect lime --memory lime $modules
         echo alive >alive",
    );
    assert_eq!(ended.text("alive"), "alive\n");
    let run = lab.of(&ended, "auto");
    fell_back(&lab, &run, &["lime", "secret"]);
    Image::open(&lab.image(&run)).judge(&ended.text("iomem"), &planted(&ended));
    refused(&lab, &lab.of(&ended, "lime"), &["secret"]);
}
