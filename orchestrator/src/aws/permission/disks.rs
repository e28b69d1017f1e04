//! Whether the caller may do what `snapshot` does. Most of it is asked about a snapshot that `exhibit` made, because a
//! policy may allow it on no other.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    InstanceSpecification, LockMode, OperationType, Snapshot, SnapshotAttributeName,
};

use super::super::Account;
use super::super::ec2::filter;
use super::Permission;

/// What EC2 may say of the snapshot instead: that it is locked, or not, or in use, or not finished. It is taken for a yes:
/// the permission comes first. The reference has no codes for it (EC2 API reference, UnlockSnapshot, DryRun); one that is
/// not here is neither a yes nor a no.
const OF_ITS_STATE: [&str; 4] = [
    "OperationNotPermitted",
    "SnapshotLocked",
    "InvalidSnapshot.InUse",
    "IncorrectState",
];

/// What was asked, and what was not because there is no snapshot to ask about.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) asked: Vec<Permission>,
    pub(crate) not_asked: &'static [&'static str],
}

/// What `snapshot` does with originals in an account with suspects, which it shares with the account `with`; `key` is the
/// one that makes them shareable. `tag` is what snapshots of `exhibit` have.
pub(crate) async fn of_originals(
    account: &Account,
    tag: &str,
    with: &str,
    key: Option<&str>,
) -> Asked {
    let client = Client::new(&account.config);
    let mut asked = vec![
        describe(&client, tag).await,
        describe_locked(&client).await,
        look_up_events(account).await,
    ];
    let Some(subject) = Subject::find(account, client, tag).await else {
        return Asked {
            asked,
            not_asked: &[
                "ec2:CopySnapshot",
                "ec2:ModifySnapshotAttribute",
                "ec2:LockSnapshot",
                "ec2:UnlockSnapshot",
                "ec2:DeleteSnapshot",
            ],
        };
    };
    asked.extend([
        subject.copy(key).await,
        subject.share(with).await,
        subject.lock().await,
        subject.unlock().await,
        subject.delete().await,
    ]);
    Asked {
        asked,
        not_asked: &[],
    }
}

/// What `snapshot` does in the account that gets copies, under `key`.
pub(crate) async fn of_copies(account: &Account, tag: &str, key: &str) -> Asked {
    let client = Client::new(&account.config);
    let mut asked = vec![describe(&client, tag).await];
    let Some(subject) = Subject::find(account, client, tag).await else {
        return Asked {
            asked,
            not_asked: &["ec2:CopySnapshot", "ec2:LockSnapshot"],
        };
    };
    asked.extend([subject.copy(Some(key)).await, subject.lock().await]);
    Asked {
        asked,
        not_asked: &[],
    }
}

/// Whether snapshots of all volumes of an instance may be made.
pub(crate) async fn to_snapshot_instance(account: &Account, instance: &str) -> Permission {
    let whole = InstanceSpecification::builder()
        .instance_id(instance)
        .build();
    let result = Client::new(&account.config)
        .create_snapshots()
        .instance_specification(whole)
        .dry_run(true)
        .send()
        .await;
    Permission::of(result, "ec2:CreateSnapshots", "*", &[])
}

async fn describe(client: &Client, tag: &str) -> Permission {
    let result = client
        .describe_snapshots()
        .owner_ids("self")
        .filters(filter("tag-key", &[tag.to_owned()]))
        .max_results(5)
        .dry_run(true)
        .send()
        .await;
    Permission::of(result, "ec2:DescribeSnapshots", "*", &[])
}

async fn describe_locked(client: &Client) -> Permission {
    let result = client
        .describe_locked_snapshots()
        .max_results(5)
        .dry_run(true)
        .send()
        .await;
    Permission::of(result, "ec2:DescribeLockedSnapshots", "*", &[])
}

/// For the volumes that were detached before.
async fn look_up_events(account: &Account) -> Permission {
    let result = aws_sdk_cloudtrail::Client::new(&account.config)
        .lookup_events()
        .max_results(1)
        .send()
        .await;
    Permission::of(result, "cloudtrail:LookupEvents", "*", &[])
}

/// The snapshot that is asked about.
struct Subject {
    client: Client,
    region: Option<String>,
    id: String,
}

impl Subject {
    /// One that may be shared, if there is one: EC2 refuses to share those under the account's default key.
    async fn find(account: &Account, client: Client, tag: &str) -> Option<Self> {
        let described = client
            .describe_snapshots()
            .owner_ids("self")
            .filters(filter("tag-key", &[tag.to_owned()]))
            .max_results(5)
            .send()
            .await;
        let found = described.ok()?;
        let plain = |it: &&Snapshot| it.encrypted() == Some(false);
        let mut snapshots = found.snapshots().iter();
        let usable = snapshots.find(plain).or(found.snapshots().first());
        let id = usable?.snapshot_id()?.to_owned();
        Some(Self {
            client,
            region: account.config.region().map(ToString::to_string),
            id,
        })
    }

    async fn copy(&self, key: Option<&str>) -> Permission {
        let result = self
            .client
            .copy_snapshot()
            .source_snapshot_id(&self.id)
            .set_source_region(self.region.clone())
            .set_encrypted(key.map(|_| true))
            .set_kms_key_id(key.map(str::to_owned))
            .dry_run(true)
            .send()
            .await;
        Permission::of(result, "ec2:CopySnapshot", "*", &OF_ITS_STATE)
    }

    async fn share(&self, with: &str) -> Permission {
        let result = self
            .client
            .modify_snapshot_attribute()
            .snapshot_id(&self.id)
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .operation_type(OperationType::Add)
            .user_ids(with)
            .dry_run(true)
            .send()
            .await;
        Permission::of(result, "ec2:ModifySnapshotAttribute", "*", &[])
    }

    async fn lock(&self) -> Permission {
        let result = self
            .client
            .lock_snapshot()
            .snapshot_id(&self.id)
            .lock_mode(LockMode::Governance)
            .lock_duration(1)
            .dry_run(true)
            .send()
            .await;
        Permission::of(result, "ec2:LockSnapshot", "*", &OF_ITS_STATE)
    }

    async fn unlock(&self) -> Permission {
        let result = self
            .client
            .unlock_snapshot()
            .snapshot_id(&self.id)
            .dry_run(true)
            .send()
            .await;
        Permission::of(result, "ec2:UnlockSnapshot", "*", &OF_ITS_STATE)
    }

    async fn delete(&self) -> Permission {
        let result = self
            .client
            .delete_snapshot()
            .snapshot_id(&self.id)
            .dry_run(true)
            .send()
            .await;
        Permission::of(result, "ec2:DeleteSnapshot", "*", &OF_ITS_STATE)
    }
}
