//! What `exhibit snapshot` needs, where `[forensic]` is configured: rights on snapshots, and keys that can be used.

use super::Table;
use crate::aws::permission;
use crate::aws::{Account, Caller, kms};
use crate::config::Config;
use crate::snapshot;

/// The account that gets copies of disks, and the key that they are encrypted with.
pub(super) async fn forensic(config: &Config, caller: &Caller, table: &mut Table) {
    let Some(place) = &config.forensic else {
        return;
    };
    let what = "forensic account";
    match caller
        .account(&place.account, place.role.as_deref(), &place.region)
        .await
    {
        Ok(account) => {
            table.good(what, format!("{} in {}", account.id, place.region));
            key(&account, "forensic account: key", &place.key, table).await;
        }
        Err(failure) => table.failed(what, &failure),
    }
}

/// An account with suspects: what may be done with snapshots there, and the key that makes them shareable.
pub(super) async fn suspects(config: &Config, account: &Account, name: &str, table: &mut Table) {
    let Some(forensic) = &config.forensic else {
        return;
    };
    let what = format!("account {name}");
    let asked = permission::to_snapshot(account, &forensic.account, snapshot::TAG).await;
    let note = match asked.len() {
        1 => {
            "; not asked, because there is no snapshot of exhibit's to ask about: ec2:CopySnapshot, \
             ec2:ModifySnapshotAttribute, ec2:LockSnapshot"
        }
        _ => "",
    };
    table.permissions(&what, "may snapshot", &asked, note);
    let entry = config.accounts.get(name);
    if let Some(arn) = entry.and_then(|entry| entry.snapshot_key.as_ref()) {
        key(account, &format!("{what}: snapshot_key"), arn, table).await;
    }
}

/// EC2 takes a copy under a key that is no use, and fails it in the end.
async fn key(account: &Account, what: &str, arn: &str, table: &mut Table) {
    match kms::describe(account, arn).await {
        Ok(key) => table.need(
            what,
            key.state == "Enabled",
            format!("{} is {}", key.arn, key.state),
            "enable it, or cancel its deletion: copies under it fail after they have begun",
        ),
        Err(refusal) => table.failed(what, &refusal.failure),
    }
}
