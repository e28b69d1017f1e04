//! The chain of custody: what the journal says stands in the bucket, and two journals of one case are noticed.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{BUCKET, Bench};

#[test]
fn every_record_is_an_object_with_the_hash_of_the_one_before() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(0);
    bench.run(&["verify", "IR-7"]).expect(0);
    bench.run(&["seal", "IR-7"]).expect(0);
    let to = bench.path("copy");
    bench
        .run(&["fetch", "IR-7", "--to", to.to_str().unwrap()])
        .expect(0);
    let journal = fs::read_to_string(bench.path("cases/IR-7/journal.jsonl")).unwrap();
    let kinds: Vec<String> = bench
        .journal("IR-7")
        .iter()
        .map(|record| record["event"]["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in [
        "opened",
        "requested",
        "authorised",
        "sending",
        "sent",
        "started",
        "ended",
        "withdrawn",
        "verified",
        "sealing",
        "sealed",
        "accessed",
    ] {
        assert!(
            kinds.iter().any(|found| found == kind),
            "no {kind} in {kinds:?}"
        );
    }
    for (number, line) in journal.split_inclusive('\n').enumerate() {
        let stored = bench
            .cloud
            .moto()
            .read(BUCKET, &format!("cases/IR-7/custody/{number:06}.json"));
        assert_eq!(String::from_utf8(stored).unwrap(), line);
    }
    // One record of the copy is edited: offline, without the journal, it is noticed.
    let record = to.join("custody/000000.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("GuardDuty 1234", "GuardDuty 1235")).unwrap();
    let report = bench
        .run(&["verify", "--offline", to.to_str().unwrap()])
        .expect(20)
        .json();
    assert_eq!(
        report["custody_problems"].as_array().unwrap().len(),
        1,
        "{report:#}"
    );
}

#[test]
fn a_history_that_was_written_anew_contradicts_the_seal() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let collect = ["collect", "--case", "IR-7", "--instance", &instance];
    bench.run(&collect).expect(0);
    bench.run(&["seal", "IR-7"]).expect(0);
    bench.run(&["fetch", "IR-7", "--to", "copy"]).expect(0);
    // Each record has the right hash of the one before: nothing but the seal knows that they are others.
    let mut forged = evidence::Custody::new("IR-7".parse().unwrap());
    for record in bench.journal("IR-7") {
        let mut event = record["event"].as_object().unwrap().clone();
        if event["kind"] == "opened" {
            event["reason"] = "another".into();
        }
        let time = record["time"].as_str().unwrap();
        let record = forged.append(time, "eve", event).unwrap();
        let path = bench.path("copy").join(record.key());
        assert!(path.exists(), "{}", path.display());
        fs::write(path, record.to_line().unwrap()).unwrap();
    }
    let report = bench
        .run(&["verify", "--offline", "copy"])
        .expect(20)
        .json();
    let problem = report["custody_problems"][0].as_str().unwrap();
    assert!(problem.contains("another history"), "{problem}");
}

#[test]
fn two_orchestrators_on_one_case_are_noticed_here_and_elsewhere() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let journal = bench.path("cases/IR-7/journal.jsonl");
    // Another process has the journal.
    let mut holder = Command::new("flock")
        .arg("--no-fork")
        .arg(&journal)
        .args(["sleep", "30"])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let busy = bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(37);
    assert!(busy.stderr.contains("another `exhibit`"), "{}", busy.stderr);
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Another machine went on with the case: its copy of the journal is older than the bucket.
    let old = fs::read(&journal).unwrap();
    bench.run(&["verify", "IR-7"]).expect(0);
    bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(0);
    fs::write(&journal, old).unwrap();
    let busy = bench.run(&["verify", "IR-7"]).expect(37);
    assert!(
        busy.stderr.contains("this journal lacks"),
        "{}",
        busy.stderr
    );
    // And a case of this name can not be opened anew, wherever its journal is.
    fs::remove_dir_all(bench.path("cases/IR-7")).unwrap();
    let exists = bench
        .run(&["case", "open", "IR-7", "--reason", "again"])
        .expect(35);
    assert!(
        exists.stderr.contains("the bucket has a case"),
        "{}",
        exists.stderr
    );
    assert!(!journal.exists());
}

#[test]
fn cases_are_listed_and_shown() {
    let Some(bench) = Bench::start() else { return };
    bench.open("IR-7");
    bench.open("IR-8");
    let list = bench.run(&["case", "list"]).expect(0).json();
    let names: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|case| &case["case"])
        .collect();
    assert_eq!(names, ["IR-7", "IR-8"]);
    let shown = bench.run(&["case", "show", "IR-7"]).expect(0).json();
    assert_eq!(shown[0]["event"]["reason"], "GuardDuty 1234");
    assert_eq!(shown[0]["operator"], "ana");
    fs::write(bench.path("cases/IR-8/journal.jsonl"), "{}\n").unwrap();
    let list = bench.run(&["case", "list"]).expect(38).json();
    assert!(
        list[1]["damaged"].is_string() && list[0]["damaged"].is_null(),
        "{list:#}"
    );
}

#[test]
fn a_release_is_recorded_before_the_legal_hold_is_taken_off() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(0);
    let release = [
        "case",
        "release",
        "IR-7",
        "--to",
        "J. Doe",
        "--reason",
        "case closed",
    ];
    let early = bench.run(&release).expect(2);
    assert!(
        early.stderr.contains("nothing of IR-7 is sealed"),
        "{early:#?}"
    );
    bench.run(&["seal", "IR-7"]).expect(0);
    let prefix = bench.prefix("IR-7", &instance);
    let held = |bench: &Bench| {
        let versions = bench.cloud.moto().versions(BUCKET);
        let keys = versions
            .iter()
            .filter(|version| version.key.starts_with(&prefix));
        let holds = keys.map(|version| {
            let headers = bench.cloud.moto().head(BUCKET, &version.key).unwrap();
            assert!(
                headers.contains_key("x-amz-object-lock-retain-until-date"),
                "{}",
                version.key
            );
            headers
                .get("x-amz-object-lock-legal-hold")
                .is_some_and(|hold| hold == "ON")
        });
        holds.collect::<Vec<bool>>()
    };
    assert!(held(&bench).iter().all(|hold| *hold));
    bench
        .run(&[&release[..], &["--dry-run"]].concat())
        .expect(0);
    assert!(held(&bench).iter().all(|hold| *hold) && bench.events("IR-7", "released").is_empty());

    bench.run(&release).expect(0);
    assert!(held(&bench).iter().all(|hold| !hold));
    let released = bench.events("IR-7", "released");
    assert_eq!((released.len(), &released[0]["to"]), (1, &"J. Doe".into()));
    let status = bench.run(&["status", "IR-7", "--offline"]).expect(0).json();
    assert_eq!(status["collections"][0]["released"], true);
    // It is evidence still.
    let plan = bench.run(&["verify", "IR-7", "--dry-run"]).expect(0).json();
    let verified = bench.events("IR-7", "verified").len();
    assert_eq!((plan.as_array().unwrap().len(), verified), (1, 1));
    bench.run(&["verify", "IR-7"]).expect(0);
}
