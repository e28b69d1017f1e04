//! An S3 bucket with Object Lock as a store.
//!
//! One PUT for each object, with `If-None-Match: *`, its SHA-256 and a body in memory: the form that Object Lock needs
//! and that every S3 understands. The SDK retries; an answer that was lost shows as "exists already" and is settled by
//! comparing checksums.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    retry::RetryConfig,
};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ObjectLockEnabled, ObjectLockLegalHoldStatus, ObjectLockMode,
    ServerSideEncryption,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::digest::Digest;
use evidence::manifest::StoredObject;
use tokio::runtime::Runtime;
use transport::{NetworkOptions, Resolver};

use super::credentials::Provider;
use super::parameter::Parameter;
use super::s3_error::{self, Answer};
use super::s3_intercept::{ReadDate, SignedAs};
use super::{CredentialSource, Kind, Object, Readiness, ShipError, Store};
use crate::host::clocks;

/// Time to connect, and to get a piece of an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(20);

/// How objects are locked when the bucket does not do it by default.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    /// Retention mode, and the time in seconds since the epoch until which it holds.
    pub retention: Option<(ObjectLockMode, i64)>,
    pub legal_hold: bool,
}

/// What the operator said of the bucket.
#[derive(Clone, Debug)]
pub struct S3Options {
    pub bucket: String,
    /// Everything before the object's own key, without a `/` at its end.
    pub prefix: String,
    pub region: Option<String>,
    pub endpoint_url: Option<String>,
    pub credentials: CredentialSource,
    pub kms_key: Option<String>,
    pub lock: Lock,
    pub allow_unlocked: bool,
    /// Attempts for each request, the first included.
    pub attempts: u32,
    pub network: NetworkOptions,
}

/// A bucket, and the place in it.
pub struct S3 {
    pub(super) client: Client,
    pub(super) runtime: Runtime,
    pub(super) options: S3Options,
    resolver: Resolver,
    /// Set once the credentials turn out to be put-only: then nothing more is asked.
    unreadable: AtomicBool,
}

/// A client for the bucket of `options`.
///
/// # Errors
/// When there are no credentials, no region, or the TLS roots can not be used.
pub fn connect(options: S3Options) -> Result<S3, ShipError> {
    let internal = |error: String| {
        ShipError::new(
            Kind::StoreFailed,
            format!("the S3 client can not be built: {error}"),
        )
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("s3")
        .enable_all()
        .build()
        .map_err(|error| internal(error.to_string()))?;
    let (http, resolver) = transport::client(&options.network).map_err(internal)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let shared = runtime.block_on(with_credentials(loader, &options.credentials))?;
    if shared.region().is_none() {
        return Err(ShipError::new(
            Kind::Region,
            "no AWS region is known: give --region, or set AWS_REGION",
        ));
    }
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(options.attempts.max(1))
        .with_max_backoff(MAX_BACKOFF);
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .http_client(http)
        .retry_config(retries)
        .timeout_config(timeouts)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(url) = &options.endpoint_url {
        config = config.endpoint_url(url).force_path_style(true);
    }
    let client = Client::from_conf(config.build());
    Ok(S3 {
        client,
        runtime,
        options,
        resolver,
        unreadable: AtomicBool::new(false),
    })
}

/// The configuration with the credentials of `source`, which are looked at once before anything depends on them.
async fn with_credentials(
    loader: aws_config::ConfigLoader,
    source: &CredentialSource,
) -> Result<aws_config::SdkConfig, ShipError> {
    let refused = |why: String| ShipError::new(Kind::Credentials, why);
    match source {
        CredentialSource::Chain => Ok(loader.load().await),
        CredentialSource::Parameter(name) => {
            let own = loader.load().await;
            let parameter = Parameter::new(&own, name);
            parameter.load().await.map_err(refused)?;
            let provider = SharedCredentialsProvider::new(parameter);
            Ok(own.to_builder().credentials_provider(provider).build())
        }
        CredentialSource::File(_) | CredentialSource::Given(_) => {
            let provider = Provider(source.clone());
            provider
                .load()
                .map_err(|error| refused(error.to_string()))?;
            Ok(loader.credentials_provider(provider).load().await)
        }
    }
}

impl S3 {
    pub(super) fn key(&self, key: &str) -> String {
        if self.options.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.options.prefix)
        }
    }

    fn locks_itself(&self) -> bool {
        self.options.lock.retention.is_some() || self.options.lock.legal_hold
    }

    fn unlocked(&self, why: &str, readiness: &mut Readiness) -> Result<(), ShipError> {
        if self.options.allow_unlocked {
            readiness.warnings.push(format!(
                "{why}: anyone with enough rights can delete this evidence"
            ));
            return Ok(());
        }
        let advice = "use a bucket with Object Lock and default retention, or give --allow-unlocked to accept the risk";
        Err(ShipError::new(Kind::Unlocked, format!("{why}: {advice}")))
    }

    /// Looks at the bucket's Object Lock, as far as the credentials allow.
    async fn lock_state(&self, readiness: &mut Readiness) -> Result<(), ShipError> {
        let bucket = &self.options.bucket;
        let theirs = Arc::new(AtomicI64::new(0));
        let request = self
            .client
            .get_object_lock_configuration()
            .bucket(bucket)
            .customize();
        let result = request
            .interceptor(ReadDate(Arc::clone(&theirs)))
            .send()
            .await;
        let theirs = theirs.load(Ordering::Relaxed);
        readiness.clock = (theirs != 0).then(|| (theirs, clocks().utc_ns));
        let configuration = match result {
            Ok(output) => output.object_lock_configuration,
            Err(error) => match s3_error::answer(&error) {
                Answer::Code("ObjectLockConfigurationNotFoundError") => None,
                Answer::Code("AccessDenied") => {
                    readiness.object_lock = "not readable with these credentials".to_owned();
                    return Ok(());
                }
                _ => {
                    return Err(s3_error::classify(
                        &error,
                        &self.options,
                        "look at the bucket",
                    ));
                }
            },
        };
        let enabled = |c: &aws_sdk_s3::types::ObjectLockConfiguration| {
            c.object_lock_enabled == Some(ObjectLockEnabled::Enabled)
        };
        let Some(configuration) = configuration.filter(enabled) else {
            readiness.object_lock = "disabled".to_owned();
            return self.unlocked(&format!("bucket {bucket} has no Object Lock"), readiness);
        };
        readiness.object_lock = "enabled".to_owned();
        let retention = configuration.rule.and_then(|rule| rule.default_retention);
        if retention.is_none() && !self.locks_itself() {
            let why = format!(
                "bucket {bucket} has Object Lock but no default retention, so objects would not be locked"
            );
            return self.unlocked(&why, readiness);
        }
        Ok(())
    }

    async fn put_once(&self, object: &Object) -> Result<StoredObject, ShipError> {
        let checksum = BASE64.encode(object.sha256.as_bytes());
        let mut request = self
            .client
            .put_object()
            .bucket(&self.options.bucket)
            .key(self.key(&object.key))
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(&checksum)
            .content_length(i64::try_from(object.bytes.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(object.bytes.clone()));
        if let Some(key) = &self.options.kms_key {
            request = request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(key);
        }
        if let Some((mode, until)) = &self.options.lock.retention {
            request = request
                .object_lock_mode(mode.clone())
                .object_lock_retain_until_date(DateTime::from_secs(*until));
        }
        if self.options.lock.legal_hold {
            request = request.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On);
        }
        let stored = StoredObject {
            shipped: true,
            ..object.unshipped()
        };
        let request = request.customize().interceptor(SignedAs(object.sha256));
        match request.send().await {
            Ok(output) => {
                if output
                    .checksum_sha256()
                    .is_some_and(|theirs| theirs != checksum)
                {
                    let message = format!(
                        "the store answers with another checksum for {}: it is not what was sent",
                        object.key
                    );
                    return Err(ShipError::new(Kind::StoreFailed, message));
                }
                let stored = StoredObject {
                    version_id: output.version_id().map(str::to_owned),
                    stored_sha256: output.checksum_sha256().and_then(digest),
                    kms_key: output.ssekms_key_id().map(str::to_owned),
                    ..stored
                };
                self.read_back(object, stored).await
            }
            Err(error) if matches!(s3_error::answer(&error), Answer::Code(code) if code == "PreconditionFailed") => {
                self.settle_existing(object, stored).await
            }
            Err(error) => Err(s3_error::classify(
                &error,
                &self.options,
                &format!("store {}", object.key),
            )),
        }
    }

    /// An object is there already: ours, when an answer was lost, or somebody else's.
    async fn settle_existing(
        &self,
        object: &Object,
        stored: StoredObject,
    ) -> Result<StoredObject, ShipError> {
        let stored = self.read_back(object, stored).await?;
        let place = format!("s3://{}/{}", self.options.bucket, self.key(&object.key));
        match stored.stored_sha256 {
            Some(theirs) if theirs == object.sha256 => Ok(stored),
            Some(_) => {
                let message =
                    format!("{place} exists already with other content: find out who wrote it");
                Err(ShipError::new(Kind::Target, message))
            }
            // Put-only credentials can not tell; the orchestrator compares the checksum before it seals.
            None if self.unreadable.load(Ordering::Relaxed) => {
                let unread = "an object is there already, from an attempt whose answer was lost or from somebody else";
                Ok(StoredObject {
                    unread: Some(unread.to_owned()),
                    ..stored
                })
            }
            None => {
                let why = stored
                    .unread
                    .unwrap_or_else(|| "it has no SHA-256".to_owned());
                let message =
                    format!("{place} is said to exist already, but can not be compared: {why}");
                Err(ShipError::new(Kind::StoreFailed, message))
            }
        }
    }

    /// Adds what the store says of the object now: checksum, version, retention.
    async fn read_back(
        &self,
        object: &Object,
        stored: StoredObject,
    ) -> Result<StoredObject, ShipError> {
        const DENIED: &str = "not readable with these credentials";
        if self.unreadable.load(Ordering::Relaxed) {
            return Ok(StoredObject {
                unread: Some(DENIED.to_owned()),
                ..stored
            });
        }
        let request = self
            .client
            .head_object()
            .bucket(&self.options.bucket)
            .key(self.key(&object.key));
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(head) => self.check_lock(object, with_head(stored, &head)),
            Err(error)
                if error
                    .raw_response()
                    .is_some_and(|response| response.status().as_u16() == 403) =>
            {
                self.unreadable.store(true, Ordering::Relaxed);
                Ok(StoredObject {
                    unread: Some(DENIED.to_owned()),
                    ..stored
                })
            }
            Err(error) => {
                let error = s3_error::classify(&error, &self.options, "read back");
                Ok(StoredObject {
                    unread: Some(error.message),
                    ..stored
                })
            }
        }
    }

    fn check_lock(&self, object: &Object, stored: StoredObject) -> Result<StoredObject, ShipError> {
        let locked = stored.retain_until.is_some() || stored.legal_hold == Some(true);
        if locked || self.options.allow_unlocked {
            return Ok(stored);
        }
        let message = format!(
            "{} is stored but not locked: the bucket's retention does not reach it",
            object.key
        );
        Err(ShipError::new(Kind::Unlocked, message))
    }
}

fn with_head(stored: StoredObject, head: &HeadObjectOutput) -> StoredObject {
    let date = |date: &DateTime| date.fmt(DateTimeFormat::DateTime).ok();
    StoredObject {
        version_id: head.version_id().map(str::to_owned).or(stored.version_id),
        stored_sha256: head
            .checksum_sha256()
            .and_then(digest)
            .or(stored.stored_sha256),
        lock_mode: head.object_lock_mode().map(|mode| mode.as_str().to_owned()),
        retain_until: head.object_lock_retain_until_date().and_then(date),
        legal_hold: head
            .object_lock_legal_hold_status()
            .map(|status| *status == ObjectLockLegalHoldStatus::On),
        kms_key: head.ssekms_key_id().map(str::to_owned).or(stored.kms_key),
        ..stored
    }
}

fn digest(base64: &str) -> Option<Digest> {
    hex::encode(BASE64.decode(base64).ok()?).parse().ok()
}

impl Store for S3 {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn place(&self) -> String {
        format!("s3://{}/{}", self.options.bucket, self.options.prefix)
    }

    fn prepare(&self) -> Result<Readiness, ShipError> {
        let mut readiness = Readiness::default();
        self.runtime.block_on(self.lock_state(&mut readiness))?;
        Ok(readiness)
    }

    fn put(&self, object: &Object) -> Result<StoredObject, ShipError> {
        self.runtime.block_on(self.put_once(object))
    }

    fn resolved_by(&self) -> Option<String> {
        self.resolver.used().map(|server| server.to_string())
    }
}
