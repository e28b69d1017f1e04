//! Snapshots keep AWS's rules: who may see, share, copy, lock and delete them.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    Filter, InstanceSpecification, LockMode, ResourceType, SnapshotAttributeName, Tag,
    TagSpecification,
};
use exhibit_tests::rig::cloud::{DEFAULT_ACCOUNT, Volume, VolumeKey};

use super::cloud::{Bench, OTHER};

/// A cloud, an instance with a root volume and clients of two accounts.
struct Lab {
    bench: Bench,
    instance: String,
    own: Client,
    other: Client,
}

impl Lab {
    fn start() -> Option<Self> {
        let bench = Bench::start()?;
        bench.cloud.access_key("AKIAOTHER", OTHER);
        let instance = bench.cloud.run_instance(DEFAULT_ACCOUNT, &[]);
        Some(Self {
            own: Client::new(&bench.config_of("AKIARIG")),
            other: Client::new(&bench.config_of("AKIAOTHER")),
            instance,
            bench,
        })
    }

    fn volume(&self, device: &str, key: VolumeKey) -> String {
        let volume = Volume::new(DEFAULT_ACCOUNT, &self.instance, device, key);
        self.bench.cloud.volume(&volume)
    }

    /// Makes a snapshot of each data volume; volume and snapshot of each.
    fn create(&self) -> Result<Vec<(String, String)>, String> {
        let instance = InstanceSpecification::builder().instance_id(&self.instance);
        let tag = Tag::builder().key("case").value("7").build();
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::Snapshot)
            .tags(tag);
        let call = self.own.create_snapshots();
        let call = call
            .instance_specification(instance.exclude_boot_volume(true).build())
            .tag_specifications(tags.build());
        let output = self.bench.call(call.send())?;
        let pair = |it: &aws_sdk_ec2::types::SnapshotInfo| {
            assert_eq!(it.progress(), Some("0%"));
            (
                it.volume_id.clone().unwrap(),
                it.snapshot_id.clone().unwrap(),
            )
        };
        Ok(output.snapshots().iter().map(pair).collect())
    }

    /// As an account sees it: state, progress and message.
    fn state(&self, client: &Client, id: &str) -> Result<(String, String, String), String> {
        let output = self
            .bench
            .call(client.describe_snapshots().snapshot_ids(id).send())?;
        let it = &output.snapshots()[0];
        Ok((
            it.state().unwrap().as_str().into(),
            it.progress().unwrap_or_default().into(),
            it.state_message().unwrap_or_default().into(),
        ))
    }

    fn settle(&self, client: &Client, id: &str) -> (String, String) {
        let mut seen = self.state(client, id).unwrap();
        while seen.0 == "pending" {
            seen = self.state(client, id).unwrap();
        }
        (seen.0, seen.2)
    }

    fn share(&self, id: &str) -> Result<(), String> {
        let call = self.own.modify_snapshot_attribute().snapshot_id(id);
        let call = call
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .operation_type("add".into())
            .user_ids(OTHER);
        self.bench.call(call.send()).map(drop)
    }

    fn copy(&self, client: &Client, id: &str, key: Option<&str>) -> Result<String, String> {
        let call = client.copy_snapshot().source_snapshot_id(id);
        let call = call
            .source_region("us-east-1")
            .encrypted(true)
            .set_kms_key_id(key.map(str::to_string));
        let output = self.bench.call(call.send())?;
        Ok(output.snapshot_id.unwrap())
    }
}

#[test]
fn snapshots_take_their_time() {
    let Some(lab) = Lab::start() else { return };
    let volume = lab.volume("/dev/sdf", VolumeKey::None);
    lab.bench.cloud.snapshot_polls(3);
    let made = lab.create().unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].0, volume);
    let states: Vec<String> = (0..4)
        .map(|_| {
            let (state, progress, _) = lab.state(&lab.own, &made[0].1).unwrap();
            format!("{state} {progress}")
        })
        .collect();
    let expected = [
        "pending 33%",
        "pending 66%",
        "completed 100%",
        "completed 100%",
    ];
    assert_eq!(states, expected);

    lab.bench.cloud.snapshot_polls(100);
    for _ in 0..5 {
        lab.create().unwrap();
    }
    assert_eq!(lab.create().unwrap_err(), "ConcurrentSnapshotLimitExceeded");
    lab.bench.cloud.snapshot_polls(0);
    lab.bench.cloud.fail_snapshots(1);
    lab.volume("/dev/sdg", VolumeKey::None);
    assert_eq!(
        lab.create().unwrap_err(),
        "ConcurrentSnapshotLimitExceeded",
        "one volume is enough"
    );

    let filter = Filter::builder().name("tag:case").values("7").build();
    let pages = lab.own.describe_snapshots().filters(filter).max_results(5);
    let mut pages = pages.owner_ids("self").into_paginator().items().send();
    let mut count = 0;
    while let Some(item) = lab.bench.wait(pages.next()) {
        item.unwrap();
        count += 1;
    }
    assert_eq!((count, lab.bench.cloud.snapshots().len()), (6, 6));
}

#[test]
fn a_snapshot_is_copied_where_it_was_shared() {
    let Some(lab) = Lab::start() else { return };
    let cloud = &lab.bench.cloud;
    let (key, key_there) = (cloud.key(DEFAULT_ACCOUNT), cloud.key(OTHER));
    lab.volume("/dev/sdf", VolumeKey::Default);
    let id = lab.create().unwrap()[0].1.clone();
    assert_eq!(lab.copy(&lab.own, &id, None).unwrap_err(), "IncorrectState");
    lab.settle(&lab.own, &id);
    assert_eq!(lab.share(&id).unwrap_err(), "OperationNotPermitted");

    let copy = lab.copy(&lab.own, &id, Some(&key)).unwrap();
    let completed = ("completed".to_string(), String::new());
    assert_eq!(lab.settle(&lab.own, &copy), completed);
    let kept = cloud.snapshots().pop().unwrap();
    assert_eq!((kept.volume.as_str(), kept.tags.len()), ("vol-ffffffff", 0));
    assert_eq!(kept.source, Some(id));

    let missing = "InvalidSnapshot.NotFound";
    assert_eq!(lab.state(&lab.other, &copy).unwrap_err(), missing);
    assert_eq!(
        lab.copy(&lab.other, &copy, Some(&key_there)).unwrap_err(),
        missing
    );
    lab.share(&copy).unwrap();
    let call = lab.own.describe_snapshot_attribute().snapshot_id(&copy);
    let call = call.attribute(SnapshotAttributeName::CreateVolumePermission);
    let shared = lab.bench.call(call.send()).unwrap();
    let who = shared.create_volume_permissions()[0].user_id();
    assert_eq!(who, Some(OTHER));

    let unreadable = lab.copy(&lab.other, &copy, Some(&key_there)).unwrap();
    let (state, message) = lab.settle(&lab.other, &unreadable);
    assert_eq!(state, "error", "no grant for the source's key");
    assert!(message.contains("not accessible"), "{message}");
    cloud.grant_key(&key, OTHER);
    let wrong = format!("arn:aws:kms:us-east-1:{OTHER}:key/no-such-key");
    let lost = lab.copy(&lab.other, &copy, Some(&wrong)).unwrap();
    assert_eq!(lab.settle(&lab.other, &lost).0, "error");
    let there = lab.copy(&lab.other, &copy, Some(&key_there)).unwrap();
    assert_eq!(lab.settle(&lab.other, &there), completed);
    assert_eq!(lab.state(&lab.own, &there).unwrap_err(), missing);
}

#[test]
fn a_lock_holds() {
    let Some(lab) = Lab::start() else { return };
    lab.volume("/dev/sdf", VolumeKey::None);
    let id = lab.create().unwrap()[0].1.clone();
    let lock = |mode: LockMode, days: i32| {
        let call = lab.own.lock_snapshot().snapshot_id(&id);
        call.lock_mode(mode).lock_duration(days)
    };
    let delete = || {
        let call = lab.own.delete_snapshot().snapshot_id(&id);
        lab.bench.call(call.send()).map(drop)
    };
    let state = || {
        let call = lab.own.describe_locked_snapshots().snapshot_ids(&id);
        let output = lab.bench.call(call.send()).unwrap();
        let locks = output.snapshots().iter();
        let states = locks.map(|it| it.lock_state().unwrap().as_str().to_string());
        states.collect::<Vec<_>>().join(" ")
    };
    let locked = lab.bench.call(lock(LockMode::Governance, 30).send());
    assert_eq!(locked.unwrap().lock_duration(), Some(30));
    assert_eq!(
        (state().as_str(), delete()),
        ("governance", Err("SnapshotLocked".into()))
    );
    lab.bench
        .call(lab.own.unlock_snapshot().snapshot_id(&id).send())
        .unwrap();
    lab.bench
        .call(lock(LockMode::Compliance, 30).send())
        .unwrap();
    assert_eq!(state(), "compliance");
    let unlock = lab.own.unlock_snapshot().snapshot_id(&id).send();
    let refused = lab.bench.call(unlock).unwrap_err();
    assert_eq!(refused, "OperationNotPermitted");
    let shorter = lab.bench.call(lock(LockMode::Compliance, 29).send());
    assert_eq!(shorter.unwrap_err(), "OperationNotPermitted");
    assert!(
        lab.bench
            .call(lock(LockMode::Compliance, 31).send())
            .is_ok()
    );
}

#[test]
fn a_lock_that_makes_no_sense_is_refused() {
    let Some(lab) = Lab::start() else { return };
    lab.volume("/dev/sdf", VolumeKey::None);
    let id = lab.create().unwrap()[0].1.clone();
    let lock = |mode: LockMode| lab.own.lock_snapshot().snapshot_id(&id).lock_mode(mode);
    let refused = [
        (
            lock(LockMode::Compliance).lock_duration(30).dry_run(true),
            "DryRunOperation",
        ),
        (
            lock(LockMode::Governance)
                .lock_duration(30)
                .cool_off_period(1),
            "InvalidParameterCombination",
        ),
        (
            lock(LockMode::Governance).lock_duration(36_501),
            "InvalidParameterValue",
        ),
        (lock(LockMode::Governance), "InvalidParameterCombination"),
    ];
    for (call, code) in refused {
        assert_eq!(lab.bench.call(call.send()).unwrap_err(), code);
    }
    assert_eq!(lab.bench.cloud.snapshots()[0].lock, None);
    let tag = Tag::builder().key("note").value("x").build();
    let call = lab.own.create_tags().resources(&id).tags(tag);
    lab.bench.call(call.send()).unwrap();
    let kept = lab.bench.cloud.snapshots().pop().unwrap();
    assert_eq!((&*kept.tags["case"], &*kept.tags["note"]), ("7", "x"));
}
