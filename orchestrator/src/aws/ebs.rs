//! EBS: volumes, snapshots of them, and their locks.

use std::collections::BTreeMap;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::SnapshotState as SnapshotStateOfEc2;
use aws_sdk_ec2::types::{
    Filter, InstanceSpecification, LockMode, OperationType, ResourceType, SnapshotAttributeName,
    Tag, TagSpecification,
};

use super::ec2::{Instance, MAX_VALUES, filter};
use super::{Account, Refusal};
use crate::case::{Made, SnapshotSeen, SnapshotState, Volume};

/// What new snapshots carry, and by which they are found again.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) description: String,
    pub(crate) tags: Vec<(String, String)>,
}

impl Label {
    fn specification(&self) -> TagSpecification {
        let tags = self
            .tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build());
        TagSpecification::builder()
            .resource_type(ResourceType::Snapshot)
            .set_tags(Some(tags.collect()))
            .build()
    }
}

/// A client that never sends a request twice: there is no token by which EC2 would know the second.
fn once(account: &Account) -> Client {
    let config =
        aws_sdk_ec2::config::Builder::from(&account.config).retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

/// The volumes that are attached to an instance. `default_key` is the one that can not be shared.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn volumes(
    account: &Account,
    instance: &Instance,
    default_key: Option<&str>,
) -> Result<Vec<Volume>, Refusal> {
    let id = std::slice::from_ref(&instance.id);
    let attached = filter("attachment.instance-id", id);
    let mut pages = Client::new(&account.config)
        .describe_volumes()
        .filters(attached)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| Refusal::of(&error, "ec2:DescribeVolumes", "*"))?;
        for volume in page.volumes() {
            let mut attachments = volume.attachments().iter();
            let attachment =
                attachments.find(|attachment| attachment.instance_id() == Some(&instance.id));
            let device = attachment.and_then(|it| it.device()).unwrap_or_default();
            let key = volume.kms_key_id().map(str::to_owned);
            found.push(Volume {
                id: volume.volume_id().unwrap_or_default().to_owned(),
                device: device.to_owned(),
                root: instance.root_device.as_deref() == Some(device),
                size_gib: gib(volume.size()),
                reencrypt: key.is_some() && key.as_deref() == default_key,
                key,
            });
        }
    }
    found.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(found)
}

/// What EC2 says in two types of the SDK: an answer to CreateSnapshots, and a description.
fn made(
    (volume, snapshot): (Option<&str>, Option<&str>),
    size: Option<i32>,
    encrypted: Option<bool>,
    started: Option<&DateTime>,
) -> Made {
    Made {
        volume: volume.unwrap_or_default().to_owned(),
        snapshot: snapshot.unwrap_or_default().to_owned(),
        source: None,
        started: started.and_then(text_of),
        size_gib: gib(size),
        encrypted: encrypted.unwrap_or_default(),
    }
}

/// RFC 3339, UTC.
fn text_of(time: &DateTime) -> Option<String> {
    let time = time::OffsetDateTime::from_unix_timestamp(time.secs()).ok()?;
    Some(crate::custody::text_of(time))
}

/// As policies name a snapshot: without an account.
fn arn(account: &Account, snapshot: &str) -> String {
    let region = account
        .config
        .region()
        .map_or("*", |region| region.as_ref());
    format!("arn:aws:ec2:{region}::snapshot/{snapshot}")
}

fn gib(size: Option<i32>) -> u32 {
    size.and_then(|size| u32::try_from(size).ok())
        .unwrap_or_default()
}

/// Snapshots of all volumes of an instance, of one moment, but of those that are left out: data volumes by id, and the
/// one that it boots from.
///
/// # Errors
/// When EC2 refuses, or there is no answer: then they may be there all the same.
pub(crate) async fn create(
    account: &Account,
    instance: &str,
    without_data: Vec<String>,
    without_root: bool,
    label: &Label,
) -> Result<Vec<Made>, Refusal> {
    let mut specification = InstanceSpecification::builder().instance_id(instance);
    if without_root {
        specification = specification.exclude_boot_volume(true);
    }
    if !without_data.is_empty() {
        specification = specification.set_exclude_data_volume_ids(Some(without_data));
    }
    let answer = once(account)
        .create_snapshots()
        .instance_specification(specification.build())
        .description(&label.description)
        .tag_specifications(label.specification())
        .send()
        .await;
    let answer = answer.map_err(|error| Refusal::of(&error, "ec2:CreateSnapshots", "*"))?;
    let made = answer.snapshots().iter().map(|snapshot| {
        made(
            (snapshot.volume_id(), snapshot.snapshot_id()),
            snapshot.volume_size(),
            snapshot.encrypted(),
            snapshot.start_time(),
        )
    });
    Ok(made.collect())
}

/// A copy of a snapshot, under `key`, in the account and region that `account` is for.
///
/// # Errors
/// When EC2 refuses, or there is no answer: then it may be there all the same. A key that can not be used is no error
/// here: the copy ends in the state `error` later (EC2 API reference, CopySnapshot, KmsKeyId).
pub(crate) async fn copy(
    account: &Account,
    region: &str,
    source: &str,
    key: &str,
    label: &Label,
) -> Result<String, Refusal> {
    let answer = once(account)
        .copy_snapshot()
        .source_region(region)
        .source_snapshot_id(source)
        .encrypted(true)
        .kms_key_id(key)
        .description(&label.description)
        .tag_specifications(label.specification())
        .send()
        .await;
    let answer = answer
        .map_err(|error| Refusal::of(&error, "ec2:CopySnapshot", "arn:aws:ec2:*::snapshot/*"))?;
    Ok(answer.snapshot_id().unwrap_or_default().to_owned())
}

/// The account's own snapshots with this tag.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn find(account: &Account, tag: (&str, &str)) -> Result<Vec<Made>, Refusal> {
    let tagged = filter(&format!("tag:{}", tag.0), &[tag.1.to_owned()]);
    let mut found = describe(account, tagged).await?;
    // Those that failed first: where another was made, it counts.
    found.sort_by_key(|snapshot| snapshot.state() != Some(&SnapshotStateOfEc2::Error));
    let made = found.iter().map(|snapshot| {
        made(
            (snapshot.volume_id(), snapshot.snapshot_id()),
            snapshot.volume_size(),
            snapshot.encrypted(),
            snapshot.start_time(),
        )
    });
    Ok(made.collect())
}

/// How far the account's own snapshots are. One that EC2 does not list is `Missing`.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn states(
    account: &Account,
    ids: &[String],
) -> Result<BTreeMap<String, SnapshotSeen>, Refusal> {
    let missing = || SnapshotSeen {
        state: SnapshotState::Missing,
        progress: String::new(),
        size_gib: 0,
        key: None,
        owner: String::new(),
        full_bytes: None,
        lock: None,
    };
    let mut states: BTreeMap<String, SnapshotSeen> =
        ids.iter().map(|id| (id.clone(), missing())).collect();
    for ids in ids.chunks(MAX_VALUES) {
        // By filter and not by id: one that is gone would make the whole call fail.
        for snapshot in describe(account, filter("snapshot-id", ids)).await? {
            let state = match snapshot.state().map(|state| state.as_str()) {
                Some("completed") => SnapshotState::Completed,
                Some("error") => SnapshotState::Error(
                    snapshot
                        .state_message()
                        .unwrap_or("no reason given")
                        .to_owned(),
                ),
                _ => SnapshotState::Pending,
            };
            let seen = SnapshotSeen {
                state,
                progress: snapshot.progress().unwrap_or_default().to_owned(),
                size_gib: gib(snapshot.volume_size()),
                key: snapshot.kms_key_id().map(str::to_owned),
                owner: snapshot.owner_id().unwrap_or_default().to_owned(),
                full_bytes: snapshot.full_snapshot_size_in_bytes(),
                lock: None,
            };
            states.insert(snapshot.snapshot_id().unwrap_or_default().to_owned(), seen);
        }
    }
    Ok(states)
}

async fn describe(
    account: &Account,
    filter: Filter,
) -> Result<Vec<aws_sdk_ec2::types::Snapshot>, Refusal> {
    let mut pages = Client::new(&account.config)
        .describe_snapshots()
        .owner_ids("self")
        .filters(filter)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| Refusal::of(&error, "ec2:DescribeSnapshots", "*"))?;
        found.extend_from_slice(page.snapshots());
    }
    Ok(found)
}

/// Locks a snapshot for so many days from now; answers until when, in RFC 3339.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn lock(
    account: &Account,
    snapshot: &str,
    mode: &str,
    days: u32,
) -> Result<String, Refusal> {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    let answer = Client::new(&account.config)
        .lock_snapshot()
        .snapshot_id(snapshot)
        .lock_mode(LockMode::from(mode))
        .lock_duration(days)
        .send()
        .await;
    let answer =
        answer.map_err(|error| Refusal::of(&error, "ec2:LockSnapshot", &arn(account, snapshot)))?;
    Ok(answer
        .lock_expires_on()
        .and_then(text_of)
        .unwrap_or_default())
}

/// The locks that hold of the account's own snapshots: the state, and until when.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn locks(
    account: &Account,
    snapshots: &[String],
) -> Result<BTreeMap<String, (String, String)>, Refusal> {
    let mut locks = BTreeMap::new();
    for few in snapshots.chunks(MAX_VALUES) {
        let mut request = Client::new(&account.config)
            .describe_locked_snapshots()
            .set_snapshot_ids(Some(few.to_vec()));
        loop {
            let answer = request.clone().send().await;
            let answer =
                answer.map_err(|error| Refusal::of(&error, "ec2:DescribeLockedSnapshots", "*"))?;
            for it in answer.snapshots() {
                let state = it
                    .lock_state()
                    .map(|state| state.as_str())
                    .unwrap_or_default();
                let until = it.lock_expires_on().and_then(text_of).unwrap_or_default();
                if let Some(id) = it.snapshot_id().filter(|_| state != "expired") {
                    locks.insert(id.to_owned(), (state.to_owned(), until));
                }
            }
            match answer.next_token() {
                Some(next) if !next.is_empty() => request = request.next_token(next),
                _ => break,
            }
        }
    }
    Ok(locks)
}

/// Takes a lock off. A snapshot that has none stays as it is.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn unlock(account: &Account, snapshot: &str) -> Result<(), Refusal> {
    if locks(account, &[snapshot.to_owned()]).await?.is_empty() {
        return Ok(());
    }
    let answer = Client::new(&account.config)
        .unlock_snapshot()
        .snapshot_id(snapshot)
        .send()
        .await;
    answer
        .map(|_| ())
        .map_err(|error| Refusal::of(&error, "ec2:UnlockSnapshot", &arn(account, snapshot)))
}

/// Lets an account make copies of a snapshot.
///
/// # Errors
/// When EC2 refuses: it does so for the account's default key.
pub(crate) async fn share(account: &Account, snapshot: &str, with: &str) -> Result<(), Refusal> {
    let answer = Client::new(&account.config)
        .modify_snapshot_attribute()
        .snapshot_id(snapshot)
        .attribute(SnapshotAttributeName::CreateVolumePermission)
        .operation_type(OperationType::Add)
        .user_ids(with)
        .send()
        .await;
    answer.map(|_| ()).map_err(|error| {
        Refusal::of(
            &error,
            "ec2:ModifySnapshotAttribute",
            &arn(account, snapshot),
        )
    })
}

/// Deletes a snapshot. One that is gone already is no error.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn delete(account: &Account, snapshot: &str) -> Result<(), Refusal> {
    let answer = Client::new(&account.config)
        .delete_snapshot()
        .snapshot_id(snapshot)
        .send()
        .await;
    match answer.map_err(|error| Refusal::of(&error, "ec2:DeleteSnapshot", &arn(account, snapshot)))
    {
        Err(refusal) if !refusal.is_missing() => Err(refusal),
        _ => Ok(()),
    }
}
