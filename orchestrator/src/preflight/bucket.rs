//! The bucket, the keys, and the sessions of the account that takes the evidence.

use super::{Light, Table};
use crate::aws::permission::{Answer, Permission};
use crate::aws::s3::{self, Bucket};
use crate::aws::{Account, kms, sts};
use crate::config::{Config, Credentials};
use crate::failure::Failure;
use crate::seal::Signer;

/// The key that a bucket under SSE-KMS has when it names none (S3 user guide, "Using server-side encryption with KMS").
const AWS_S3_KEY: &str = "alias/aws/s3";
/// Why a `no` of KMS is not yet one of S3.
const VIA_S3: &str = "add the statement to the policy of the role or of the key; leave it if the key's policy allows \
                      its use through S3 alone (kms:ViaService), which can not be asked for from here";

pub(super) async fn check(config: &Config, evidence: &Account, table: &mut Table) {
    table.good("evidence account", &evidence.id);
    bucket(config, evidence, table).await;
    seal_key(config, evidence, table).await;
    collector(config, evidence, table).await;
}

async fn bucket(config: &Config, evidence: &Account, table: &mut Table) {
    let place = &config.evidence;
    let bucket = Bucket::new(evidence, &place.bucket, &place.account);
    let protection = match bucket.protection().await {
        Ok(protection) => protection,
        Err(refusal) => return table.failed("bucket", &refusal.failure),
    };
    lights(&protection, table);
    // SSE-KMS in one layer or two: `aws:kms`, `aws:kms:dsse`.
    let by_kms = |name: &String| name.starts_with("aws:kms");
    if protection.encryption.as_ref().is_some_and(by_kms) {
        let key = protection.kms_key.as_deref().unwrap_or(AWS_S3_KEY);
        bucket_key(config, evidence, key, table).await;
    }
}

fn lights(protection: &s3::Protection, table: &mut Table) {
    let on = |on: bool| if on { "on" } else { "off" };
    table.need(
        "bucket: Object Lock",
        protection.object_lock,
        on(protection.object_lock),
        "make a bucket with Object Lock: without it evidence can be deleted",
    );
    table.need(
        "bucket: default retention",
        protection.default_retention.is_some(),
        protection.default_retention.as_deref().unwrap_or("none"),
        "set a default retention: the agent sends no lock headers of its own",
    );
    table.need(
        "bucket: versioning",
        protection.versioning,
        on(protection.versioning),
        "turn versioning on: Object Lock protects versions",
    );
    table.need(
        "bucket: public access blocked",
        protection.public_access_blocked,
        on(protection.public_access_blocked),
        "turn on all four settings of Block Public Access",
    );
    table.want(
        "bucket: TLS only",
        protection.tls_only,
        on(protection.tls_only),
        "deny aws:SecureTransport = false in the bucket policy",
    );
    table.want(
        "bucket: encryption",
        protection.encryption.is_some(),
        protection.encryption.as_deref().unwrap_or("none stated"),
        "set default encryption",
    );
    table.want(
        "bucket: stray uploads",
        protection.aborts_stray_uploads,
        on(protection.aborts_stray_uploads),
        "add a lifecycle rule that aborts incomplete multipart uploads after 7 days or more",
    );
}

/// Whoever may not use the key of the bucket can neither store nor read; and with the key the evidence is lost.
async fn bucket_key(config: &Config, evidence: &Account, key: &str, table: &mut Table) {
    let what = "bucket: KMS key";
    let account = evidence.in_region(&config.evidence.region);
    let found = match kms::describe(&account, key).await {
        Ok(found) => found,
        Err(refusal) if refusal.is_missing() && key == AWS_S3_KEY => {
            return table.good(what, "AWS's own for S3, made with the first object");
        }
        Err(refusal) => return table.failed(what, &refusal.failure),
    };
    let shared = config.collect.credentials == Credentials::InstanceRole
        && config.accounts.values().any(|it| it.id != evidence.id);
    if judge(&found, &evidence.id, shared, table) {
        may_use(&kms::may_encrypt(&account, key).await, table);
    }
}

/// The line of a key that is there; whether there is more to ask. `shared`: other accounts put objects, too.
fn judge(key: &kms::Key, account: &str, shared: bool, table: &mut Table) -> bool {
    let what = "bucket: KMS key";
    if key.state != "Enabled" {
        table.add(
            Light::Red,
            what,
            format!("{} is {}", key.arn, key.state),
            "enable it, or cancel its deletion: nothing can be stored or read meanwhile, and a deleted key loses the \
             evidence",
        );
        return false;
    }
    if key.of_aws {
        // Its policy lets nobody use it but through S3, and nobody of another account.
        table.need(
            what,
            !shared,
            format!("AWS's own for S3, {}", key.arn),
            "use a key of your own: with collect.credentials = \"instance-role\" other accounts have to use it",
        );
        return false;
    }
    table.want(
        what,
        key.arn.split(':').nth(4) == Some(account),
        &key.arn,
        "use a key of the bucket's account: whoever can delete the key can destroy the evidence",
    );
    true
}

fn may_use(asked: &[Permission], table: &mut Table) {
    let mut allowed = Vec::new();
    for Permission { action, answer } in asked {
        let what = format!("bucket: {action}");
        match answer {
            Answer::Allowed => allowed.push(*action),
            Answer::Denied(failure) => table.add(Light::Amber, &what, failure, VIA_S3),
            Answer::Open(failure) => table.unknown(&what, failure),
        }
    }
    if !allowed.is_empty() {
        table.good("bucket: use of the key", allowed.join(", "));
    }
}

async fn seal_key(config: &Config, evidence: &Account, table: &mut Table) {
    let signer = match Signer::new(config, evidence) {
        Ok(signer) => signer,
        Err(failure) => return table.failed("seal key", &failure),
    };
    let key = signer.public_key().await;
    match key.and_then(|key| key.fingerprint().map_err(Failure::internal)) {
        Ok(fingerprint) => table.good("seal key", fingerprint),
        Err(failure) => table.failed("seal key", &failure),
    }
    if let Signer::Kms { account, key } = &signer {
        let asked = kms::may_sign(account, key).await;
        match &asked.answer {
            // A key that is disabled, of another kind, not there: nothing would be sealed.
            Answer::Open(failure) => table.failed("seal key: kms:Sign", failure),
            _ => table.permissions("seal key", "may sign", &[asked], ""),
        }
    }
}

/// Whether a suspect's session can be made: a session is asked for and thrown away.
async fn collector(config: &Config, evidence: &Account, table: &mut Table) {
    let Some(role) = config
        .evidence
        .collector_role
        .as_ref()
        .filter(|_| config.collect.credentials == Credentials::Session)
    else {
        return;
    };
    let keys = config.key("doctor/");
    let seconds = config.collect.session_seconds;
    match sts::put_only(evidence, role, &config.evidence.bucket, &keys, seconds).await {
        Ok(session) => table.good(
            "put-only sessions",
            format!("until {}", crate::custody::text_of(session.expires)),
        ),
        Err(refusal) => table.failed("put-only sessions", &refusal.failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colour, and whether more is asked.
    fn key(state: &str, of_aws: bool, account: &str, shared: bool) -> (Light, bool) {
        let key = kms::Key {
            arn: format!("arn:aws:kms:eu-central-1:{account}:key/1"),
            state: state.to_owned(),
            of_aws,
        };
        let mut table = Table::default();
        let more = judge(&key, "111111111111", shared, &mut table);
        (table.0.remove(0).light, more)
    }

    #[test]
    fn a_key_has_to_be_enabled_ours_and_within_reach() {
        let (own, other) = ("111111111111", "333333333333");
        assert_eq!(key("Disabled", false, own, false), (Light::Red, false));
        assert_eq!(
            key("PendingDeletion", false, own, false),
            (Light::Red, false)
        );
        assert_eq!(key("Enabled", false, own, true), (Light::Green, true));
        assert_eq!(key("Enabled", false, other, false), (Light::Amber, true));
        assert_eq!(key("Enabled", true, own, false), (Light::Green, false));
        assert_eq!(key("Enabled", true, own, true), (Light::Red, false));
    }
}
