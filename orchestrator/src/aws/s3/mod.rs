//! S3: the bucket of the evidence. Every request names the account that has to own it.

mod protection;

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    ObjectLockRetention, ObjectLockRetentionMode,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::digest::Digest;
use time::OffsetDateTime;

pub(crate) use protection::Protection;

use super::{Account, Refusal};
use crate::failure::Failure;

/// The bucket, through the role that reads and seals.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    client: Client,
    pub(crate) name: String,
    owner: String,
}

/// A version of an object, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) latest: bool,
    /// Absent for the marker of a deletion.
    pub(crate) size: Option<u64>,
}

/// What S3 says of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) size: u64,
    pub(crate) sha256: Option<Digest>,
    pub(crate) lock_mode: Option<String>,
    pub(crate) retain_until: Option<OffsetDateTime>,
    pub(crate) legal_hold: bool,
}

/// Objects and bytes below a prefix, and whether the run's last object is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) manifest: bool,
}

impl Bucket {
    /// The bucket `name`, owned by `account`.
    pub(crate) fn new(account: &Account, name: &str, owner: &str) -> Self {
        let config = aws_sdk_s3::config::Builder::from(&account.config)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        Self {
            client: Client::from_conf(config.build()),
            name: name.to_owned(),
            owner: owner.to_owned(),
        }
    }

    fn resource(&self, key: &str) -> String {
        format!("arn:aws:s3:::{}/{key}", self.name)
    }

    fn own(&self) -> String {
        format!("arn:aws:s3:::{}", self.name)
    }

    /// Stores a new object; the answer is false when there is one already.
    ///
    /// # Errors
    /// When S3 refuses for another reason.
    pub(crate) async fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool, Refusal> {
        let checksum = BASE64.encode(Digest::of(bytes).as_bytes());
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .expected_bucket_owner(&self.owner)
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(checksum)
            .body(ByteStream::from(bytes.to_vec()));
        match request
            .send()
            .await
            .map_err(|error| Refusal::of(&error, "s3:PutObject", &self.resource(key)))
        {
            Ok(_) => Ok(true),
            Err(refusal)
                if ["PreconditionFailed", "ConditionalRequestConflict"]
                    .contains(&refusal.code.as_str()) =>
            {
                Ok(false)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The bytes of an object's latest version or of a given one, at most `limit`; `None` when there is none.
    ///
    /// # Errors
    /// When S3 refuses, or the object is longer.
    pub(crate) async fn read(
        &self,
        key: &str,
        version: Option<&str>,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let Some(mut body) = self.open(key, version, None).await? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        while let Some(piece) = body.try_next().await.map_err(|error| {
            Failure::new(
                evidence::Exit::Unreachable,
                format!("{key} broke off: {error}"),
            )
        })? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                return Err(Failure::new(
                    evidence::Exit::Altered,
                    format!("{key} is longer than {limit} bytes"),
                ));
            }
        }
        Ok(Some(bytes))
    }

    /// The body of an object, or of the first `length` bytes of it.
    ///
    /// # Errors
    /// When S3 refuses.
    pub(crate) async fn open(
        &self,
        key: &str,
        version: Option<&str>,
        length: Option<u64>,
    ) -> Result<Option<ByteStream>, Refusal> {
        let request = self
            .client
            .get_object()
            .bucket(&self.name)
            .expected_bucket_owner(&self.owner)
            .key(key)
            .set_version_id(version.map(str::to_owned))
            .set_range(length.map(|length| format!("bytes=0-{}", length.saturating_sub(1))));
        match request
            .send()
            .await
            .map_err(|error| Refusal::of(&error, "s3:GetObject", &self.resource(key)))
        {
            Ok(answer) => Ok(Some(answer.body)),
            Err(refusal) if refusal.is_missing() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// All versions and markers of deletions below `prefix`, over all pages.
    ///
    /// # Errors
    /// When S3 refuses.
    pub(crate) async fn versions(&self, prefix: &str) -> Result<Vec<Version>, Refusal> {
        let (mut found, mut key, mut id) = (Vec::new(), None, None);
        loop {
            let request = self
                .client
                .list_object_versions()
                .bucket(&self.name)
                .expected_bucket_owner(&self.owner)
                .prefix(prefix)
                .set_key_marker(key.take())
                .set_version_id_marker(id.take());
            let page = request.send().await;
            let page =
                page.map_err(|error| Refusal::of(&error, "s3:ListBucketVersions", &self.own()))?;
            found.extend(page.versions().iter().map(|version| Version {
                key: version.key().unwrap_or_default().to_owned(),
                id: version.version_id().unwrap_or_default().to_owned(),
                latest: version.is_latest().unwrap_or_default(),
                size: version.size().and_then(|size| u64::try_from(size).ok()),
            }));
            found.extend(page.delete_markers().iter().map(|marker| Version {
                key: marker.key().unwrap_or_default().to_owned(),
                id: marker.version_id().unwrap_or_default().to_owned(),
                latest: marker.is_latest().unwrap_or_default(),
                size: None,
            }));
            key = page.next_key_marker().map(str::to_owned);
            id = page.next_version_id_marker().map(str::to_owned);
            if key.is_none() || page.is_truncated() != Some(true) {
                return Ok(found);
            }
        }
    }

    /// What has arrived below `prefix`, for each collection (`<host>/<collection>` below `case`).
    ///
    /// # Errors
    /// When S3 refuses.
    pub(crate) async fn arrived(
        &self,
        prefix: &str,
        base: &str,
    ) -> Result<BTreeMap<String, Arrived>, Refusal> {
        let mut found: BTreeMap<String, Arrived> = BTreeMap::new();
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .expected_bucket_owner(&self.owner)
            .prefix(prefix);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Refusal::of(&error, "s3:ListBucket", &self.own()))?;
            for object in page.contents() {
                let key = object
                    .key()
                    .and_then(|key| key.strip_prefix(base))
                    .unwrap_or_default();
                let mut parts = key.splitn(4, '/');
                let (Some(case), Some(host), Some(collection), Some(rest)) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    continue;
                };
                let arrived = found
                    .entry(format!("{case}/{host}/{collection}"))
                    .or_default();
                arrived.manifest |= rest == evidence::keys::MANIFEST;
                if evidence::Stream::of_key(rest).is_some() {
                    arrived.segments += 1;
                    arrived.bytes += object
                        .size()
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or_default();
                }
            }
        }
        Ok(found)
    }

    /// What S3 says of a version, its checksum and its lock among it.
    ///
    /// # Errors
    /// When S3 refuses.
    pub(crate) async fn head(&self, key: &str, version: &str) -> Result<Stored, Refusal> {
        let request = self
            .client
            .head_object()
            .bucket(&self.name)
            .expected_bucket_owner(&self.owner)
            .key(key)
            .version_id(version)
            .checksum_mode(ChecksumMode::Enabled);
        let answer = request
            .send()
            .await
            .map_err(|error| Refusal::of(&error, "s3:GetObjectVersion", &self.resource(key)))?;
        let sha256 = answer
            .checksum_sha256()
            .and_then(|text| BASE64.decode(text).ok());
        let until = answer.object_lock_retain_until_date();
        Ok(Stored {
            size: answer
                .content_length()
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or_default(),
            sha256: sha256.and_then(|bytes| hex::encode(bytes).parse().ok()),
            lock_mode: answer
                .object_lock_mode()
                .map(|mode| mode.as_str().to_owned()),
            retain_until: until
                .and_then(|until| OffsetDateTime::from_unix_timestamp(until.secs()).ok()),
            legal_hold: answer.object_lock_legal_hold_status()
                == Some(&ObjectLockLegalHoldStatus::On),
        })
    }

    /// Sets the legal hold of a version, or takes it off.
    ///
    /// # Errors
    /// When S3 refuses.
    pub(crate) async fn hold(&self, key: &str, version: &str, on: bool) -> Result<(), Refusal> {
        let status = if on {
            ObjectLockLegalHoldStatus::On
        } else {
            ObjectLockLegalHoldStatus::Off
        };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let request = self
            .client
            .put_object_legal_hold()
            .bucket(&self.name)
            .expected_bucket_owner(&self.owner)
            .key(key)
            .version_id(version)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .legal_hold(hold);
        let sent = request.send().await;
        sent.map(|_| ())
            .map_err(|error| Refusal::of(&error, "s3:PutObjectLegalHold", &self.resource(key)))
    }

    /// Extends the retention of a version; `mode` is the one that it has.
    ///
    /// # Errors
    /// When S3 refuses.
    pub(crate) async fn retain(
        &self,
        key: &str,
        version: &str,
        mode: &str,
        until: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::from(mode))
            .retain_until_date(DateTime::from_secs(until.unix_timestamp()))
            .build();
        let request = self
            .client
            .put_object_retention()
            .bucket(&self.name)
            .expected_bucket_owner(&self.owner)
            .key(key)
            .version_id(version)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .retention(retention);
        let sent = request.send().await;
        sent.map(|_| ())
            .map_err(|error| Refusal::of(&error, "s3:PutObjectRetention", &self.resource(key)))
    }
}
