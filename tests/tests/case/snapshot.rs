//! Disks: one set of snapshots, copied into a second account and locked there, whatever happens in between.

use std::fs;

use exhibit_tests::rig::cloud::{Call, CloudFault, Ec2, Snapshot, Volume, VolumeKey};
use serde_json::{Value, json};

use super::kill::{calls, kill_at, killed, puts};
use super::{BUCKET, Bench, SUSPECTS};

const FORENSIC: &str = "333333333333";

/// An instance with four volumes: its root in clear, one under the default key, one under a customer's, one in clear.
pub struct Disks {
    pub bench: Bench,
    pub instance: String,
    forensic_key: String,
    customer_key: String,
}

impl Disks {
    pub fn start() -> Option<Self> {
        let bench = Bench::start()?;
        let instance = bench
            .cloud
            .ec2(&Ec2::new(SUSPECTS).tag("Name", "web-1").stopped());
        let [customer_key, snapshot_key] = [(); 2].map(|()| bench.cloud.key(SUSPECTS));
        let forensic_key = bench.cloud.key(FORENSIC);
        for key in [&customer_key, &snapshot_key] {
            bench.cloud.grant_key(key, FORENSIC);
        }
        let keys = [
            ("/dev/sdf", VolumeKey::Default),
            ("/dev/sdg", VolumeKey::Customer(customer_key.clone())),
            ("/dev/sdh", VolumeKey::None),
        ];
        for (device, key) in keys {
            bench
                .cloud
                .volume(&Volume::new(SUSPECTS, &instance, device, key));
        }
        bench.cloud.snapshot_polls(1);
        let path = bench.path("exhibit.toml");
        let text = fs::read_to_string(&path).unwrap();
        let text = text
            + &format!(
                "snapshot_key = \"{snapshot_key}\"\n[forensic]\naccount = \"{FORENSIC}\"\nregion = \"us-east-1\"\n\
                 role = \"arn:aws:iam::{FORENSIC}:role/ExhibitForensic\"\nkey = \"{forensic_key}\"\nlock_mode = \"compliance\"\n"
            );
        fs::write(path, text).unwrap();
        Some(Self {
            bench,
            instance,
            forensic_key,
            customer_key,
        })
    }

    /// `snapshot` of the instance.
    pub fn arguments<'a>(&'a self, case: &'a str) -> [&'a str; 5] {
        ["snapshot", "--case", case, "--instance", &self.instance]
    }

    /// The snapshots of a case in an account, but for those that failed.
    fn of(&self, case: &str, account: &str) -> Vec<Snapshot> {
        let mut all = self.bench.cloud.snapshots();
        all.retain(|it| {
            it.account == account && it.tags["exhibit:case"] == case && it.failure.is_none()
        });
        all
    }

    /// Four originals that may be deleted, four locked copies under the key, and nothing else.
    #[track_caller]
    fn assert_copied(&self, case: &str, what: &str) {
        let (originals, copies) = (self.of(case, SUSPECTS), self.of(case, FORENSIC));
        assert_eq!(
            (originals.len(), copies.len()),
            (4, 4),
            "{what}: {originals:#?} {copies:#?}"
        );
        assert!(
            originals.iter().all(|it| it.lock.is_none()),
            "{what}: {originals:#?}"
        );
        for copy in &copies {
            assert!(
                copy.lock.as_ref().is_some_and(|lock| lock.compliance),
                "{what}: {copy:#?}"
            );
            assert_eq!(
                copy.key,
                VolumeKey::Customer(self.forensic_key.clone()),
                "{what}"
            );
        }
        let mut volumes: Vec<&str> = copies
            .iter()
            .map(|copy| copy.tags["exhibit:volume"].as_str())
            .collect();
        volumes.sort_unstable();
        volumes.dedup();
        assert_eq!(volumes.len(), 4, "{what}: each volume has its copy");
    }

    /// The state and the problems of each volume in a report.
    fn states(report: &Value) -> Vec<(String, String)> {
        let volumes = report[0]["volumes"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        volumes
            .iter()
            .map(|it| (text(&it["state"]), text(&it["problems"][0]["why"])))
            .collect()
    }
}

#[test]
fn three_kinds_of_volumes_end_as_locked_copies_in_the_second_account() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    bench.cloud.trail_event(
        SUSPECTS,
        json!({"eventName": "DetachVolume", "eventTime": "2026-01-02T03:04:05Z",
            "userIdentity": {"arn": "arn:aws:iam::222222222222:user/mallory"},
            "responseElements": {"volumeId": "vol-0gone", "instanceId": disks.instance}}),
    );
    bench.open("IR-7");
    let arguments = disks.arguments("IR-7");
    let plan = bench
        .run(&[&arguments[..], &["--dry-run"]].concat())
        .expect(0)
        .json();
    assert_eq!(plan[0]["volumes"].as_array().unwrap().len(), 4);
    assert_eq!(plan[0]["uncovered"][0]["what"], "vol-0gone");
    assert!(
        bench.cloud.snapshots().is_empty() && bench.events("IR-7", "disks-requested").is_empty()
    );

    let report = bench.run(&arguments).expect(0).json();
    disks.assert_copied("IR-7", "at the end");
    assert!(
        Disks::states(&report)
            .iter()
            .all(|(state, _)| state == "copied"),
        "{report:#}"
    );
    assert!(
        report[0]["uncovered"][0]["why"]
            .as_str()
            .unwrap()
            .contains("mallory")
    );
    assert_eq!(bench.cloud.count("ec2", "CreateSnapshots"), 1);
    assert_eq!(
        bench.cloud.count("ec2", "CopySnapshot"),
        5,
        "one is encrypted anew"
    );

    // The lineage of each copy stands in the custody.
    let events = bench.events("IR-7", "snapshot");
    let made: Vec<&Value> = events
        .iter()
        .filter(|event| event["act"] == "made")
        .collect();
    let sources: Vec<&Value> = made
        .iter()
        .flat_map(|event| event["snapshots"].as_array().unwrap())
        .collect();
    for copy in disks.of("IR-7", FORENSIC) {
        let mut at = copy.id.clone();
        while let Some(source) = sources
            .iter()
            .find(|made| made["snapshot"] == at.as_str())
            .unwrap()["source"]
            .as_str()
        {
            at = source.to_owned();
        }
        assert!(
            disks
                .of("IR-7", SUSPECTS)
                .iter()
                .any(|original| original.id == at),
            "{copy:#?}"
        );
    }
    let status = bench.run(&["status", "IR-7", "--offline"]).expect(0).json();
    assert_eq!(status["disks"], report);

    // Said again it makes nothing; `--again` makes another set.
    bench.run(&arguments).expect(0);
    bench.run(&["resume", "IR-7"]).expect(0);
    assert_eq!(bench.cloud.count("ec2", "CreateSnapshots"), 1);
    let again = bench
        .run(&[&arguments[..], &["--again", "--no-wait"]].concat())
        .expect(0)
        .json();
    assert!(
        Disks::states(&again)
            .iter()
            .all(|(state, _)| state == "original"),
        "{again:#}"
    );
    assert_eq!(bench.cloud.count("ec2", "CreateSnapshots"), 2);
    let due = bench.run(&["resume", "IR-7", "--dry-run"]).expect(0).json();
    assert!(
        due[0]["step"]
            .as_str()
            .unwrap()
            .contains("follow the snapshots"),
        "{due:#}"
    );
    bench.run(&["resume", "IR-7"]).expect(0);
    assert_eq!(disks.of("IR-7", FORENSIC).len(), 8);
}

#[test]
fn a_copy_that_fails_long_after_the_call_is_named_and_tried_again_on_request() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    // A key of the forensic account that is not there: EC2 takes the call all the same.
    let path = bench.path("exhibit.toml");
    let right = fs::read_to_string(&path).unwrap();
    let id = disks.forensic_key.rsplit('/').next().unwrap();
    fs::write(
        &path,
        right.replace(id, "00000000-0000-0000-0000-00000000dead"),
    )
    .unwrap();
    bench.open("IR-7");
    let arguments = disks.arguments("IR-7");
    let report = bench.run(&arguments).expect(42).json();
    for (state, why) in Disks::states(&report) {
        assert!(
            state == "failed" && why.contains("Given key ID is not accessible"),
            "{report:#}"
        );
    }
    assert!(
        disks
            .of("IR-7", SUSPECTS)
            .iter()
            .filter(|it| it.lock.is_some())
            .count()
            == 4,
        "the originals stay locked"
    );
    bench.run(&["resume", "IR-7"]).expect(42);
    assert_eq!(
        disks.of("IR-7", FORENSIC).len(),
        0,
        "it is not tried again by itself"
    );

    fs::write(&path, right).unwrap();
    bench.run(&arguments).expect(0);
    disks.assert_copied("IR-7", "after the key was mended");
    assert_eq!(bench.cloud.count("ec2", "CreateSnapshots"), 1);
}

#[test]
fn what_is_refused_for_one_volume_does_not_stop_the_others() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    let path = bench.path("exhibit.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace("snapshot_key = ", "# snapshot_key = ")).unwrap();
    bench.open("IR-7");
    let arguments = disks.arguments("IR-7");
    let report = bench.run(&arguments).expect(3).json();
    let states = Disks::states(&report);
    let failed: Vec<_> = states
        .iter()
        .filter(|(state, _)| state == "failed")
        .collect();
    assert!(
        failed.len() == 1 && failed[0].1.contains("accounts.web.snapshot_key"),
        "{report:#}"
    );
    assert_eq!(disks.of("IR-7", FORENSIC).len(), 3);
    fs::write(&path, right).unwrap();
    // Nobody may lock, share or copy: each is told with the statement that allows it.
    let denied = CloudFault::Status(
        403,
        "UnauthorizedOperation",
        "You are not authorized to perform this operation.",
    );
    bench.cloud.fault(
        1,
        |call| call.is("ec2", "ModifySnapshotAttribute"),
        denied.clone(),
    );
    let report = bench.run(&arguments).expect(3).json();
    assert!(
        report
            .to_string()
            .contains(r#"\"Action\":\"ec2:ModifySnapshotAttribute\""#),
        "{report:#}"
    );
    let resource = r#"\"Resource\":\"arn:aws:ec2:us-east-1::snapshot/snap-"#;
    assert!(report.to_string().contains(resource), "{report:#}");
    bench.run(&arguments).expect(0);
    disks.assert_copied("IR-7", "once all is allowed");

    bench.cloud.fault(
        4,
        |call| call.is("ec2", "LockSnapshot") && call.account == SUSPECTS,
        denied,
    );
    bench.open("IR-8");
    let report = bench.run(&disks.arguments("IR-8")).expect(3).json();
    assert!(
        Disks::states(&report)
            .iter()
            .all(|(state, why)| state == "copied" && why.contains("LockSnapshot")),
        "{report:#}"
    );
    disks.assert_copied("IR-8", "without locks of the originals");
}

#[test]
fn detachments_that_are_too_many_to_look_at_are_said_to_be() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    let detached = |instance: &str| json!({"eventName": "DetachVolume", "responseElements": {"volumeId": "vol-0gone", "instanceId": instance}});
    bench.cloud.trail_event(SUSPECTS, detached(&disks.instance));
    for _ in 0..1000 {
        bench.cloud.trail_event(SUSPECTS, detached("i-0other"));
    }
    bench.open("IR-7");
    let arguments = [&disks.arguments("IR-7")[..], &["--dry-run"]].concat();
    let plan = bench.run(&arguments).expect(0).json();
    let uncovered = &plan[0]["uncovered"][0];
    assert_eq!(uncovered["what"], "volumes detached before");
    assert!(uncovered["why"].as_str().unwrap().contains("not all"));
}

#[test]
fn what_ec2_does_not_know_yet_is_tried_again() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    let missing = CloudFault::Status(400, "InvalidSnapshot.NotFound", "It does not exist.");
    for operation in ["LockSnapshot", "CopySnapshot"] {
        for account in [SUSPECTS, FORENSIC] {
            bench.cloud.fault(
                1,
                move |call| call.is("ec2", operation) && call.account == account,
                missing.clone(),
            );
        }
    }
    bench.open("IR-7");
    let report = bench.run(&disks.arguments("IR-7")).expect(0).json();
    disks.assert_copied("IR-7", "in the end");
    assert!(
        Disks::states(&report).iter().all(|(_, why)| why.is_empty()),
        "{report:#}"
    );
}

#[test]
fn a_copy_that_fails_before_it_is_locked_is_made_again_on_request() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    bench.cloud.snapshot_polls(0);
    let path = bench.path("exhibit.toml");
    let right = fs::read_to_string(&path).unwrap();
    let id = disks.forensic_key.rsplit('/').next().unwrap();
    fs::write(
        &path,
        right.replace(id, "00000000-0000-0000-0000-00000000dead"),
    )
    .unwrap();
    let unfit = CloudFault::Status(400, "IncorrectState", "The snapshot is in the state error.");
    bench.cloud.fault(
        4,
        |call| call.is("ec2", "LockSnapshot") && call.account == FORENSIC,
        unfit,
    );
    bench.open("IR-7");
    let arguments = disks.arguments("IR-7");
    let report = bench.run(&arguments).expect(42).json();
    for (_, why) in Disks::states(&report) {
        assert!(why.contains("Given key ID is not accessible"), "{report:#}");
    }
    fs::write(&path, right).unwrap();
    bench.run(&arguments).expect(0);
    disks.assert_copied("IR-7", "after the key was mended");
    assert_eq!(bench.cloud.count("ec2", "CreateSnapshots"), 1);
}

#[test]
fn a_customer_key_that_the_forensic_account_may_not_use_is_told() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    let other = bench.cloud.key(SUSPECTS);
    bench.cloud.volume(&Volume::new(
        SUSPECTS,
        &disks.instance,
        "/dev/sdi",
        VolumeKey::Customer(other),
    ));
    bench.open("IR-7");
    let report = bench.run(&disks.arguments("IR-7")).expect(3).json();
    let failed = Disks::states(&report)
        .into_iter()
        .filter(|(state, _)| state == "failed");
    assert_eq!(
        failed.count(),
        1,
        "{} is granted: {report:#}",
        disks.customer_key
    );
    assert_eq!(disks.of("IR-7", FORENSIC).len(), 4);
}

#[test]
fn a_snapshot_that_ec2_does_not_know_yet_is_waited_for() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    let unknown = CloudFault::Status(400, "InvalidSnapshot.NotFound", "It does not exist.");
    for operation in ["LockSnapshot", "ModifySnapshotAttribute"] {
        bench
            .cloud
            .fault(2, move |call| call.is("ec2", operation), unknown.clone());
    }
    let copies = |call: &Call| call.is("ec2", "CopySnapshot") && call.account == FORENSIC;
    bench.cloud.fault(1, copies, unknown);
    bench.open("IR-7");
    bench.run(&disks.arguments("IR-7")).expect(0);
    disks.assert_copied("IR-7", "at the end");
}

#[test]
fn disks_that_can_not_go_on_stop_nothing_else_and_can_be_given_up() {
    let Some(disks) = Disks::start() else { return };
    let mut disks = disks;
    let instance = disks.bench.instance(&[], |runner| runner);
    let bench = &disks.bench;
    bench.open("IR-7");
    let arguments = disks.arguments("IR-7");
    bench
        .run(&[&arguments[..], &["--no-wait"]].concat())
        .expect(0);
    // The forensic account lets nobody look any more.
    let denied = CloudFault::Status(403, "UnauthorizedOperation", "You are not authorized.");
    let looks = |call: &Call| call.is("ec2", "DescribeSnapshots") || call.is("ec2", "CopySnapshot");
    bench.cloud.fault(usize::MAX, looks, denied);
    let collected = bench.run(&["collect", "--case", "IR-7", "--instance", &instance]);
    let collected = collected.expect(0);
    assert!(collected.stderr.contains("can not go on"), "{collected:#?}");
    assert_eq!(bench.events("IR-7", "ended")[0]["outcome"], "received");
    bench.run(&["resume", "IR-7"]).expect(40);

    let plan = bench.run(&["cancel", "IR-7", "--dry-run"]).expect(0).json();
    assert_eq!(plan.as_array().unwrap().len(), 1);
    let ended = bench.run(&["cancel", "IR-7"]).expect(3).json();
    assert_eq!(ended["disks"][0]["given_up"], true);
    bench.cloud.heal();
    let made = bench.cloud.snapshots().len();
    bench.run(&["resume", "IR-7"]).expect(3);
    assert_eq!(bench.cloud.snapshots().len(), made);
    // Asked for again, it is another set.
    bench.run(&arguments).expect(0);
    assert_eq!(disks.of("IR-7", FORENSIC).len(), 4);
}

#[test]
fn a_configuration_that_changed_in_between_is_not_followed_silently() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    bench.open("IR-7");
    let arguments = disks.arguments("IR-7");
    bench
        .run(&[&arguments[..], &["--no-wait"]].concat())
        .expect(0);
    let path = bench.path("exhibit.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace(FORENSIC, "444444444444")).unwrap();
    let ended = bench.run(&["resume", "IR-7"]).expect(39);
    let told = ended.stderr.contains(FORENSIC) && ended.stderr.contains("444444444444");
    assert!(told, "{ended:#?}");
    fs::write(&path, right).unwrap();
    bench.run(&["resume", "IR-7"]).expect(0);
    disks.assert_copied("IR-7", "with the configuration of before");
}

#[test]
fn a_case_with_disks_alone_can_be_exported_and_has_nothing_to_seal() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    bench.open("IR-7");
    bench.run(&disks.arguments("IR-7")).expect(0);
    let ended = bench.run(&["seal", "IR-7"]).expect(22);
    assert!(ended.stderr.contains("no collection to seal"), "{ended:#?}");
    bench
        .run(&["case", "export", "IR-7", "--to", "bag"])
        .expect(0);
    let records = fs::read_dir(bench.path("bag/data/custody"))
        .unwrap()
        .count();
    assert_eq!(records, bench.journal("IR-7").len());
    let told = fs::read_to_string(bench.path("bag/case.jsonld")).unwrap();
    assert!(
        told.contains(&disks.instance),
        "the instance is an object of the acts"
    );
}

#[test]
fn bad_input_is_told_before_anything_is_made() {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    bench.open("IR-7");
    for (arguments, code, word) in [
        (
            ["snapshot", "--case", "IR-7", "--instance", "web-1"],
            2,
            "web-1",
        ),
        (
            [
                "snapshot",
                "--case",
                "IR-7",
                "--instance",
                "i-00000000000000000",
            ],
            30,
            "i-00000000000000000",
        ),
        (
            ["snapshot", "--case", "IR-9", "--instance", &disks.instance],
            36,
            "IR-9",
        ),
    ] {
        let ended = bench.run(&arguments).expect(code);
        assert!(ended.stderr.contains(word), "{ended:#?}");
    }
    let path = bench.path("exhibit.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.split("[forensic]").next().unwrap()).unwrap();
    let ended = bench.run(&disks.arguments("IR-7")).expect(2);
    assert!(ended.stderr.contains("[forensic]"), "{ended:#?}");
    fs::write(
        &path,
        right.replace(&format!("{FORENSIC}:role"), "444444444444:role"),
    )
    .unwrap();
    let ended = bench.run(&disks.arguments("IR-7")).expect(39);
    assert!(ended.stderr.contains("444444444444"), "{ended:#?}");
    assert!(bench.cloud.snapshots().is_empty());
}

#[test]
fn killed_at_any_act_before_it_is_carried_out_it_makes_nothing_twice() {
    kill_everywhere(false, &[]);
}

#[test]
fn killed_at_any_act_whose_answer_is_lost_it_makes_nothing_twice() {
    kill_everywhere(true, &[]);
}

#[test]
fn killed_at_any_of_its_first_entries_it_makes_nothing_twice() {
    // requested, making, made, locked (4), made (shareable), shared (3), making, made
    kill_everywhere(false, &[2, 3, 4, 7, 8, 9, 12, 15, 20, 25, 30]);
}

/// Kills it once at each act, or before each of these entries is in the bucket, and resumes.
fn kill_everywhere(after: bool, records: &[usize]) {
    let Some(disks) = Disks::start() else { return };
    let bench = &disks.bench;
    let acts = [
        "CreateSnapshots",
        "LockSnapshot",
        "CopySnapshot",
        "ModifySnapshotAttribute",
        "UnlockSnapshot",
        "DeleteSnapshot",
    ];
    let acts = acts
        .iter()
        .filter(|_| records.is_empty())
        .map(|act| ((*act).to_owned(), calls("ec2", act)));
    let record = |(number, record): (usize, &usize)| {
        let path = format!("/{BUCKET}/cases/IR-{number}/custody/{record:06}.json");
        (format!("record {record}"), puts(path))
    };
    let places: Vec<_> = acts.chain(records.iter().enumerate().map(record)).collect();
    for (number, (name, matches)) in places.into_iter().enumerate() {
        let case = format!("IR-{number}");
        bench.open(&case);
        let pid = kill_at(bench, matches, after);
        assert!(
            killed(bench, &disks.arguments(&case), &pid),
            "{name} is never reached"
        );
        bench.run(&["resume", &case]).expect(0);
        if bench.events(&case, "disks-requested").is_empty() {
            panic!("{name}: nothing is written down");
        }
        disks.assert_copied(&case, &format!("killed at {name}"));
    }
}
