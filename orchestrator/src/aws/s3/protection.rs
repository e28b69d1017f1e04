//! How a bucket protects what is in it: a question for each setting. One that was never made is off.

use aws_sdk_s3::types::DefaultRetention;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde_json::Value;

use super::{Bucket, Refusal};

/// How the bucket protects what is in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protection {
    pub(crate) object_lock: bool,
    pub(crate) default_retention: Option<String>,
    pub(crate) versioning: bool,
    pub(crate) public_access_blocked: bool,
    pub(crate) tls_only: bool,
    pub(crate) encryption: Option<String>,
    /// The key of the default encryption, where it names one.
    pub(crate) kms_key: Option<String>,
    pub(crate) aborts_stray_uploads: bool,
}

impl Bucket {
    /// How the bucket protects what is in it.
    ///
    /// # Errors
    /// When S3 refuses to tell.
    pub(crate) async fn protection(&self) -> Result<Protection, Refusal> {
        let (object_lock, default_retention) = self.object_lock().await?;
        let (encryption, kms_key) = self.encryption().await?;
        Ok(Protection {
            object_lock,
            default_retention,
            versioning: self.versioning().await?,
            public_access_blocked: self.public_access_blocked().await?,
            tls_only: self.tls_only().await?,
            encryption,
            kms_key,
            aborts_stray_uploads: self.aborts_stray_uploads().await?,
        })
    }

    /// Whether Object Lock is on, and the retention that new objects get.
    async fn object_lock(&self) -> Result<(bool, Option<String>), Refusal> {
        let request = self
            .client
            .get_object_lock_configuration()
            .bucket(&self.name);
        let answer = request.expected_bucket_owner(&self.owner).send().await;
        let answer = absent(answer, "s3:GetBucketObjectLockConfiguration", &self.own())?;
        let lock = answer.and_then(|answer| answer.object_lock_configuration);
        let on = lock
            .as_ref()
            .is_some_and(|lock| lock.object_lock_enabled().is_some());
        let rule = lock
            .as_ref()
            .and_then(|lock| lock.rule()?.default_retention());
        Ok((on, rule.map(in_words)))
    }

    /// Whether older versions are kept.
    async fn versioning(&self) -> Result<bool, Refusal> {
        let request = self.client.get_bucket_versioning().bucket(&self.name);
        let answer = request.expected_bucket_owner(&self.owner).send().await;
        let answer = absent(answer, "s3:GetBucketVersioning", &self.own())?;
        let status = answer.and_then(|answer| answer.status);
        Ok(status.is_some_and(|status| status.as_str() == "Enabled"))
    }

    /// Whether all four settings of Block Public Access are on.
    async fn public_access_blocked(&self) -> Result<bool, Refusal> {
        let request = self.client.get_public_access_block().bucket(&self.name);
        let answer = request.expected_bucket_owner(&self.owner).send().await;
        let answer = absent(answer, "s3:GetBucketPublicAccessBlock", &self.own())?;
        let settings = answer.and_then(|answer| answer.public_access_block_configuration);
        Ok(settings.is_some_and(|it| {
            let all = [
                it.block_public_acls,
                it.ignore_public_acls,
                it.block_public_policy,
                it.restrict_public_buckets,
            ];
            all.iter().all(|on| *on == Some(true))
        }))
    }

    /// Whether requests without TLS are denied.
    async fn tls_only(&self) -> Result<bool, Refusal> {
        let request = self.client.get_bucket_policy().bucket(&self.name);
        let answer = request.expected_bucket_owner(&self.owner).send().await;
        let answer = absent(answer, "s3:GetBucketPolicy", &self.own())?;
        let policy = answer.and_then(|answer| answer.policy);
        Ok(policy.is_some_and(|policy| denies_plain_http(&policy)))
    }

    /// The algorithm of the default encryption, and its key where it names one.
    async fn encryption(&self) -> Result<(Option<String>, Option<String>), Refusal> {
        let request = self.client.get_bucket_encryption().bucket(&self.name);
        let answer = request.expected_bucket_owner(&self.owner).send().await;
        let answer = absent(answer, "s3:GetEncryptionConfiguration", &self.own())?;
        let rules = answer.and_then(|answer| answer.server_side_encryption_configuration);
        let rule = rules.and_then(|rules| rules.rules.into_iter().next());
        let default = rule.and_then(|rule| rule.apply_server_side_encryption_by_default);
        let algorithm = default
            .as_ref()
            .map(|default| default.sse_algorithm.as_str().to_owned());
        Ok((
            algorithm,
            default.and_then(|default| default.kms_master_key_id),
        ))
    }

    /// Whether uploads that never end are cleared away.
    async fn aborts_stray_uploads(&self) -> Result<bool, Refusal> {
        let request = self
            .client
            .get_bucket_lifecycle_configuration()
            .bucket(&self.name);
        let answer = request.expected_bucket_owner(&self.owner).send().await;
        let answer = absent(answer, "s3:GetLifecycleConfiguration", &self.own())?;
        Ok(answer.is_some_and(|answer| {
            let mut rules = answer.rules().iter();
            rules.any(|rule| rule.abort_incomplete_multipart_upload().is_some())
        }))
    }
}

fn in_words(rule: &DefaultRetention) -> String {
    let mode = rule.mode().map(|mode| mode.as_str()).unwrap_or_default();
    match (rule.days(), rule.years()) {
        (Some(days), _) => format!("{mode} {days} days"),
        (_, Some(years)) => format!("{mode} {years} years"),
        _ => mode.to_owned(),
    }
}

/// `None` for a setting that was never made.
fn absent<T, E, R>(
    answer: Result<T, SdkError<E, R>>,
    action: &str,
    resource: &str,
) -> Result<Option<T>, Refusal>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match answer.map_err(|error| Refusal::of(&error, action, resource)) {
        Ok(answer) => Ok(Some(answer)),
        // A bucket that is not there is not a setting that is not there.
        Err(refusal) if refusal.is_missing() && refusal.code != "NoSuchBucket" => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Whether a bucket policy denies everybody requests without TLS.
fn denies_plain_http(policy: &str) -> bool {
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    let statements = policy
        .get("Statement")
        .and_then(|s| s.as_array())
        .cloned()
        .unwrap_or_default();
    statements.iter().any(|statement| {
        let plain = statement.pointer("/Condition/Bool/aws:SecureTransport");
        statement
            .get("Effect")
            .is_some_and(|effect| effect == "Deny")
            && plain.is_some_and(|value| value == "false" || value == &Value::Bool(false))
    })
}
