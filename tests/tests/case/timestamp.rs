//! The time stamp of a seal: openssl accepts it, another one is named, and an authority that fails leaves nothing half done.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::tsa::{Tsa, TsaFault};

use super::kill::{kill_at, killed, puts};
use super::{BUCKET, Bench};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/verify.sh");

/// A case with one collection, an authority that its seal will ask, and the collection's prefix in the bucket.
fn collected() -> Option<(Bench, Tsa, String)> {
    let tsa = or_skip(Tsa::start())?;
    let mut bench = Bench::start()?;
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let collect = ["collect", "--case", "IR-7", "--instance", &instance];
    bench.run(&collect).expect(0);
    let prefix = bench.prefix("IR-7", &instance);
    Some((bench, tsa, prefix))
}

fn ask(bench: &Bench, url: &str, certificates: &Path) {
    bench.configure("");
    let certificates = certificates.display();
    let lines = format!("timestamp_url = \"{url}\"\ntimestamp_certificates = \"{certificates}\"");
    bench.configure_section("seal", &lines);
}

fn output(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it is installed");
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    (status.code().unwrap_or(-1), text.into_owned())
}

/// What is there of the seal.
fn stored(bench: &Bench, prefix: &str) -> Vec<String> {
    let keys = bench.cloud.moto().keys(BUCKET);
    let names = keys.iter().filter_map(|key| key.strip_prefix(prefix));
    names
        .filter(|name| name.starts_with("/SHA256SUMS"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn openssl_accepts_the_time_stamp_of_a_seal() {
    let Some((bench, tsa, prefix)) = collected() else {
        return;
    };
    ask(&bench, &tsa.url(), &tsa.certificates());
    let plan = bench.run(&["seal", "IR-7", "--dry-run"]).expect(0).json();
    assert_eq!((&plan[0]["authority"], tsa.asked()), (&tsa.url().into(), 0));
    let sealed = bench.run(&["seal", "IR-7"]).expect(0).json();
    let stated = sealed[0]["time_stamp"].as_str().unwrap_or_default();
    assert!(stated.starts_with("20"), "{sealed:#}");
    bench.run(&["seal", "IR-7"]).expect(0);
    assert_eq!(tsa.asked(), 1);

    let time = bench.events("IR-7", "sealed")[0]["time_stamp"].clone();
    assert!(time.is_string(), "{time}");
    let held = bench
        .cloud
        .moto()
        .head(BUCKET, &format!("{prefix}/SHA256SUMS.tsr"));
    assert_eq!(held.unwrap()["x-amz-object-lock-legal-hold"], "ON");
    for arguments in [&["verify", "IR-7"][..], &["verify", "IR-7", "--deep"]] {
        let verified = bench.run(arguments).expect(0).json();
        assert_eq!(verified[0]["time_stamp"], time, "{verified:#}");
    }
    let fetched = bench
        .run(&["fetch", "IR-7", "--to", "copy"])
        .expect(0)
        .json();
    let report = &fetched["collections"][0]["report"];
    assert_eq!(report["seal"]["time_stamp"], time, "{report:#}");
    assert!(report["unchecked"].as_array().unwrap().is_empty());

    judged(&bench, &tsa, &prefix);
}

/// openssl and the script agree on the copy, and on what becomes of it with a time stamp over something else.
fn judged(bench: &Bench, tsa: &Tsa, prefix: &str) {
    let place = prefix.strip_prefix("cases/IR-7/").unwrap();
    let copy = bench.path("copy").join(place);
    let sentence = {
        // The command that `verify` names, with the file of the configuration.
        let mut command = bench.exhibit.command();
        command.args(["--operator", "ana", "verify", "IR-7"]);
        output(command.current_dir(bench.path(""))).1
    };
    let (_, command) = sentence
        .split_once("this does: openssl ")
        .expect("a command");
    let arguments = command.lines().next().unwrap().split(' ');
    let mut openssl = Command::new("openssl");
    let (code, text) = output(openssl.args(arguments).current_dir(&copy));
    assert!(code == 0 && text.contains("Verification: OK"), "{text}");

    let script = |certificates: bool| {
        let mut command = Command::new("sh");
        command.arg(SCRIPT);
        if certificates {
            command.arg("-t").arg(tsa.certificates());
        }
        output(command.arg(&copy))
    };
    let offline = |code: i32| {
        let copy = bench.path("copy");
        let arguments = ["verify", "--offline", copy.to_str().unwrap()];
        bench.run(&arguments).expect(code).json()
    };
    let codes = |value: &serde_json::Value| -> Vec<String> {
        let problems = &value["collections"][0]["report"]["problems"];
        let problems = problems.as_array().unwrap().iter();
        problems
            .map(|problem| problem["code"].as_str().unwrap().to_owned())
            .collect()
    };
    let (code, text) = script(true);
    assert!(
        code == 0 && text.contains("of a trusted authority"),
        "{text}"
    );
    assert_eq!(script(false).0, 0);
    offline(0);

    let token = copy.join("SHA256SUMS.tsr");
    let right = fs::read(&token).unwrap();
    fs::write(&token, tsa.stamp(b"other sums")).unwrap();
    assert_eq!(codes(&offline(20)), ["time-stamp"]);
    let (code, text) = script(false);
    assert!(code == 20 && text.contains("problem: time-stamp"), "{text}");

    // Another authority's is over the right bytes: only who has certificates, or the records, sees it.
    let other = Tsa::start().unwrap();
    let sums = fs::read(copy.join("SHA256SUMS")).unwrap();
    fs::write(&token, other.stamp(&sums)).unwrap();
    assert_eq!((script(false).0, script(true).0), (0, 20));
    let told = offline(20);
    assert!(
        told["custody_problems"][0]
            .as_str()
            .unwrap()
            .contains("time stamp"),
        "{told:#}"
    );
    fs::remove_file(&token).unwrap();
    offline(20);
    fs::write(&token, right).unwrap();
    offline(0);
}

#[test]
fn an_authority_that_fails_leaves_nothing_half_done() {
    let Some((bench, tsa, prefix)) = collected() else {
        return;
    };
    let gone = Tsa::start().unwrap().url();
    ask(&bench, &gone, &tsa.certificates());
    let told = bench.run(&["seal", "IR-7"]).expect(46);
    assert!(
        told.stderr.contains("no answer") && told.stderr.contains(&gone),
        "{told:?}"
    );
    ask(&bench, &tsa.url(), &tsa.certificates());
    for (fault, why) in [
        (TsaFault::Close, "no answer"),
        (TsaFault::Status(500), "HTTP status 500"),
        (TsaFault::Status(302), "HTTP status 302"),
        (TsaFault::Refuse, "grants nothing: status 2"),
        (TsaFault::OtherNonce, "its nonce is not ours"),
        (TsaFault::OtherHash, "is not over SHA256SUMS"),
        (TsaFault::Cut, "is not an answer of RFC 3161"),
        (TsaFault::Endless, "longer than 65536 bytes"),
    ] {
        tsa.fault(Some(fault));
        let told = bench.run(&["seal", "IR-7"]).expect(46);
        let plain = told.stderr.contains(why) && told.stderr.contains("nothing is sealed yet");
        assert!(plain, "{fault:?}: {}", told.stderr);
        assert_eq!(stored(&bench, &prefix), ["/SHA256SUMS.sig"], "{fault:?}");
    }
    assert!(bench.events("IR-7", "sealed").is_empty());
    tsa.fault(None);
    bench.run(&["seal", "IR-7"]).expect(0);
    let due = ["/SHA256SUMS", "/SHA256SUMS.sig", "/SHA256SUMS.tsr"];
    assert_eq!(stored(&bench, &prefix), due);
    assert_eq!(bench.events("IR-7", "sealing").len(), 1);

    fs::write(bench.path("no.pem"), "text").unwrap();
    ask(&bench, &tsa.url(), &bench.path("no.pem"));
    let told = bench.run(&["seal", "IR-7"]).expect(2);
    assert!(told.stderr.contains("timestamp_certificates"), "{told:?}");
}

#[test]
fn a_seal_that_is_killed_keeps_its_time_stamp() {
    let Some((bench, tsa, prefix)) = collected() else {
        return;
    };
    ask(&bench, &tsa.url(), &tsa.certificates());
    // Not stored: another one is asked for. Stored: it stays.
    for (object, after, asked) in [
        ("SHA256SUMS.tsr", false, 1),
        ("SHA256SUMS.tsr", true, 2),
        ("SHA256SUMS", false, 2),
        ("SHA256SUMS", true, 2),
    ] {
        let pid = kill_at(&bench, puts(format!("/{BUCKET}/{prefix}/{object}")), after);
        assert!(
            killed(&bench, &["seal", "IR-7"], &pid),
            "{object} is never reached"
        );
        assert_eq!(tsa.asked(), asked, "{object} {after}");
    }
    bench.run(&["seal", "IR-7"]).expect(0);
    assert_eq!(tsa.asked(), 2);
    let versions = bench.cloud.moto().versions(BUCKET);
    let key = format!("{prefix}/SHA256SUMS.tsr");
    assert_eq!(
        versions.iter().filter(|version| version.key == key).count(),
        1
    );
    let verified = bench.run(&["verify", "IR-7"]).expect(0).json();
    let time = &bench.events("IR-7", "sealed")[0]["time_stamp"];
    assert_eq!(&verified[0]["time_stamp"], time);
}

#[test]
fn what_somebody_else_laid_there_is_named() {
    let Some((bench, tsa, prefix)) = collected() else {
        return;
    };
    let key = format!("{prefix}/SHA256SUMS.tsr");
    let moto = bench.cloud.moto();
    bench.run(&["seal", "IR-7"]).expect(0);
    let problems = |arguments: &[&str], code: i32| -> Vec<String> {
        let report = bench.run(arguments).expect(code).json();
        let problems = report[0]["problems"].as_array().unwrap().iter();
        problems
            .map(|problem| problem["code"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(problems(&["verify", "IR-7"], 0).is_empty());
    moto.put(BUCKET, &key, &tsa.stamp(b"other sums"));
    assert_eq!(problems(&["verify", "IR-7"], 20), ["time-stamp"]);
    assert_eq!(problems(&["verify", "IR-7", "--deep"], 20), ["time-stamp"]);
}

#[test]
fn what_somebody_else_laid_there_before_is_not_sealed() {
    let Some((bench, tsa, prefix)) = collected() else {
        return;
    };
    let key = format!("{prefix}/SHA256SUMS.tsr");
    bench
        .cloud
        .moto()
        .put(BUCKET, &key, &tsa.stamp(b"other sums"));
    ask(&bench, &tsa.url(), &tsa.certificates());
    let told = bench.run(&["seal", "IR-7"]).expect(20);
    assert!(told.stderr.contains("is not this seal's"), "{told:?}");
    assert!(bench.events("IR-7", "sealed").is_empty() && tsa.asked() == 0);
}
