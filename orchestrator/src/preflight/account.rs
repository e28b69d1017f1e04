//! An account with suspects: the role, the document, who may do what, and what AWS writes down itself.

use super::{Light, Table, disks};
use crate::aws::permission::{self, NOT_ASKED};
use crate::aws::{Account, Caller, ec2, ssm, trail};
use crate::config::Config;

/// The lines of an account; the account, if it can be used.
pub(super) async fn check(
    config: &Config,
    caller: &Caller,
    name: &str,
    table: &mut Table,
) -> Option<Account> {
    let what = format!("account {name}");
    let (_, entry) = config.account(Some(name)).ok()?;
    let account = match caller
        .account(&entry.id, entry.role.as_deref(), &entry.region)
        .await
    {
        Ok(account) => account,
        Err(failure) => {
            table.failed(&what, &failure);
            return None;
        }
    };
    table.good(&what, format!("{} in {}", account.id, entry.region));
    document(config, &account, &format!("{what}: SSM document"), table).await;
    table.permissions(
        &what,
        "may collect",
        &permission::to_collect(&account).await,
        &format!("; not asked, because SSM has no dry run: {NOT_ASKED}"),
    );
    disks::suspects(config, &account, name, table).await;
    trails(&account, &format!("{what}: CloudTrail"), table).await;
    let what = format!("{what}: EBS encryption by default");
    match ec2::encrypts_by_default(&account).await {
        Ok(on) => table.want(
            &what,
            on,
            if on { "on" } else { "off" },
            "turn it on: copies of disks are then never in clear",
        ),
        Err(refusal) => table.unknown(&what, &refusal.failure),
    }
    Some(account)
}

async fn document(config: &Config, account: &Account, what: &str, table: &mut Table) {
    let stated = config.collect.document_sha256;
    match ssm::document_sha256(account, &config.collect.document).await {
        Ok(Some(found)) if stated.is_none_or(|stated| stated == found) => {
            table.want(
                what,
                stated.is_some(),
                format!("SHA-256 {found}"),
                "state collect.document_sha256, so that another document is refused",
            );
        }
        Ok(Some(found)) => table.add(
            Light::Red,
            what,
            format!("SHA-256 {found}, another than configured"),
            "find out who changed it; register the one of ssm-documents/ again",
        ),
        Ok(None) => table.add(
            Light::Red,
            what,
            "SSM states no SHA-256",
            "register the document of ssm-documents/ again",
        ),
        Err(refusal) => table.add(
            Light::Red,
            what,
            &refusal.failure,
            "register the document in this region, as ssm-documents/README.md says",
        ),
    }
}

async fn trails(account: &Account, what: &str, table: &mut Table) {
    match trail::trails(account).await {
        Ok(trails) => {
            let good = trails.iter().find(|trail| trail.logging && trail.validates);
            let found = match (good, trails.first()) {
                (Some(trail), _) => trail.name.clone(),
                (None, Some(trail)) => format!(
                    "{}: logging {}, validation {}",
                    trail.name, trail.logging, trail.validates
                ),
                (None, None) => "none".to_owned(),
            };
            table.want(
                what,
                good.is_some(),
                found,
                "make a trail that logs, with log file validation: it proves who did what",
            );
        }
        Err(refusal) => table.unknown(what, &refusal.failure),
    }
}
