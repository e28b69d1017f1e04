//! STS: who we are, and the put-only session of a suspect.

use aws_sdk_sts::Client;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Account, Refusal};
use crate::failure::Failure;

/// Longest session policy, in characters (STS API reference, AssumeRole, Policy).
const MAX_POLICY: usize = 2048;

/// Who the credentials are for.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
}

/// What a suspect gets. Its `Debug` shows no secret.
pub(crate) struct PutOnly {
    pub(crate) access_key_id: String,
    secret: String,
    token: String,
    pub(crate) expires: OffsetDateTime,
}

impl std::fmt::Debug for PutOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutOnly")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl PutOnly {
    /// In the form of the SDKs' `credential_process`, which the agent reads.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "Version": 1,
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret,
            "SessionToken": self.token,
            "Expiration": crate::custody::text_of(self.expires),
        })
    }
}

/// Who `account`'s credentials are for.
///
/// # Errors
/// When there are none, or STS refuses them.
pub(crate) async fn identity(account: &Account, role: Option<&str>) -> Result<Identity, Failure> {
    let answer = Client::new(&account.config)
        .get_caller_identity()
        .send()
        .await;
    let answer = answer.map_err(|error| {
        let refusal = match role {
            Some(role) => Refusal::of(&error, "sts:AssumeRole", role),
            None => Refusal::of(&error, "sts:GetCallerIdentity", "*"),
        };
        let failure = Failure::from(refusal);
        match role {
            Some(role) => failure.while_doing(format!("as {role}")),
            None => failure,
        }
    })?;
    Ok(Identity {
        account: answer.account().unwrap_or_default().to_owned(),
        arn: answer.arn().unwrap_or_default().to_owned(),
    })
}

/// A session of `role` that can put objects below `keys` in `bucket`, and nothing else.
///
/// # Errors
/// When STS refuses.
pub(crate) async fn put_only(
    account: &Account,
    role: &str,
    bucket: &str,
    keys: &str,
    seconds: u32,
) -> Result<PutOnly, Refusal> {
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    let answer = Client::new(&account.config)
        .assume_role()
        .role_arn(role)
        .role_session_name("exhibit-collector")
        .policy(policy(bucket, keys))
        .duration_seconds(seconds)
        .send()
        .await
        .map_err(|error| Refusal::of(&error, "sts:AssumeRole", role))?;
    let given = answer.credentials().ok_or_else(|| Refusal {
        code: String::new(),
        answered: true,
        failure: Failure::new(evidence::Exit::Aws, "STS answers without credentials"),
    })?;
    Ok(PutOnly {
        access_key_id: given.access_key_id().to_owned(),
        secret: given.secret_access_key().to_owned(),
        token: given.session_token().to_owned(),
        expires: OffsetDateTime::from_unix_timestamp(given.expiration().secs())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
    })
}

/// The session policy: an intersection with what the role may, so it can only narrow. New objects alone: a put without
/// `If-None-Match` would shadow an object (S3 user guide, "Enforce conditional writes").
fn policy(bucket: &str, keys: &str) -> String {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": format!("arn:aws:s3:::{bucket}/{keys}*"),
         "Condition": {"Null": {"s3:if-none-match": "false"}}},
        {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*",
         "Condition": {"StringLike": {"kms:ViaService": "s3.*.amazonaws.com",
                                      "kms:EncryptionContext:aws:s3:arn": format!("arn:aws:s3:::{bucket}*")}}},
    ]})
    .to_string();
    debug_assert!(policy.len() <= MAX_POLICY);
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_reaches_one_prefix_and_fits_the_limit() {
        let policy: Value = serde_json::from_str(&policy("bucket", "cases/IR-7/i-1/")).unwrap();
        assert_eq!(
            policy["Statement"][0]["Resource"],
            "arn:aws:s3:::bucket/cases/IR-7/i-1/*"
        );
        assert_eq!(policy["Statement"][0]["Action"], "s3:PutObject");
        let longest = super::policy(&"b".repeat(63), &"k".repeat(900));
        assert!(longest.len() <= MAX_POLICY, "{}", longest.len());
    }

    #[test]
    fn a_session_does_not_show_its_secret() {
        let session = PutOnly {
            access_key_id: "ASIA1".into(),
            secret: "hush".into(),
            token: "quiet".into(),
            expires: OffsetDateTime::UNIX_EPOCH,
        };
        let shown = format!("{session:?}");
        assert!(shown.contains("ASIA1") && !shown.contains("hush") && !shown.contains("quiet"));
    }
}
