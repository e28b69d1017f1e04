//! What `exhibit snapshot` needs, where `[forensic]` is configured: rights on snapshots, and keys that can be used.

use super::instance::Suspects;
use super::{Light, Table};
use crate::aws::permission::disks::{self as permission, Asked};
use crate::aws::{Account, Caller, kms};
use crate::case::Volume;
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
            let asked = permission::of_copies(&account, snapshot::TAG, &place.key).await;
            rights(what, "may copy", &asked, table);
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
    let entry = config.accounts.get(name);
    let snapshot_key = entry.and_then(|entry| entry.snapshot_key.as_deref());
    let tag = snapshot::TAG;
    let asked = permission::of_originals(account, tag, &forensic.account, snapshot_key).await;
    rights(&what, "may snapshot", &asked, table);
    if let Some(arn) = snapshot_key {
        key(account, &format!("{what}: snapshot_key"), arn, table).await;
    }
}

fn rights(place: &str, what: &str, it: &Asked, table: &mut Table) {
    let note = match it.not_asked {
        [] => String::new(),
        left => format!(
            "; not asked, because no snapshot of exhibit's was found to ask about: {}",
            left.join(", ")
        ),
    };
    table.permissions(place, what, &it.asked, &note);
}

/// An instance: whether snapshots of its volumes may be made.
pub(super) async fn instance(suspects: &Suspects<'_>, what: &str, id: &str, table: &mut Table) {
    if suspects.config.forensic.is_some() {
        let asked = permission::to_snapshot_instance(suspects.account, id).await;
        table.permissions(what, "may snapshot", &[asked], "");
    }
}

/// The account's default key, where snapshots under it would have to be shared; none when it does not matter.
pub(super) async fn default_key(suspects: &Suspects<'_>, table: &mut Table) -> Option<String> {
    let forensic = suspects.config.forensic.as_ref()?;
    if forensic.account == suspects.entry.id {
        return None;
    }
    match kms::arn_of(suspects.account, kms::DEFAULT_OF_EBS).await {
        Ok(key) => key,
        Err(refusal) => {
            let what = format!("account {}: default key of EBS", suspects.name);
            table.failed(&what, &refusal.failure);
            None
        }
    }
}

/// Volumes under the default key, which another account gets only by way of a key that can be shared.
pub(super) fn shareable(
    suspects: &Suspects<'_>,
    what: &str,
    volumes: &[Volume],
    table: &mut Table,
) {
    let bound: Vec<&str> = volumes
        .iter()
        .filter(|volume| volume.reencrypt)
        .map(|volume| volume.id.as_str())
        .collect();
    if bound.is_empty() || suspects.entry.snapshot_key.is_some() {
        return;
    }
    table.add(
        Light::Red,
        &format!("{what}: snapshot_key"),
        format!(
            "none, and under the account's default key, which can not be shared: {}",
            bound.join(", ")
        ),
        &format!(
            "set accounts.{}.snapshot_key to the ARN of a customer key in {} whose policy lets account {} use it",
            suspects.name,
            suspects.entry.region,
            suspects.config.forensic.as_ref().map_or("", |it| &it.account),
        ),
    );
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
