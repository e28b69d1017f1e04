//! Everything that S3 says of a collection, without judging it.

use std::collections::BTreeMap;

use evidence::sums::{self, SHA256SUMS, SIGNATURE};
use evidence::timestamp::{self, TIME_STAMP};
use evidence::{Digest, Exit, Manifest, Receipt, Stream, chain, keys, manifest};
use tokio::task::JoinSet;

use crate::aws::Refusal;
use crate::aws::s3::{Bucket, Stored, Version};
use crate::failure::Failure;
use crate::run::Work;

/// Requests side by side.
const AT_ONCE: usize = 16;
/// Bytes that hold the link of a segment: a frame's header, a prefix, a key and a hash.
const LINK_BYTES: u64 = 512;

/// Longest signature that is read, in bytes: one over P-256 has 72 at most.
const MAX_SIGNATURE: u64 = 1024;

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// All versions of each key, relative to the collection, the newest first.
    pub(super) versions: BTreeMap<String, Vec<Version>>,
    /// What S3 says of each version, by key and version.
    pub(super) stored: BTreeMap<(String, String), Stored>,
    pub(super) manifest: Option<Text>,
    pub(super) chain: Option<Text>,
    /// First bytes of segments, where CHAIN is missing.
    pub(super) links: BTreeMap<String, Vec<u8>>,
    pub(super) sums: Option<Text>,
    pub(super) signature: Option<Text>,
    /// Also absent when it is longer than any.
    pub(super) time_stamp: Option<Text>,
}

/// An object that was read.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
}

/// Asks S3 for all of it.
///
/// # Errors
/// When S3 refuses, or there is nothing below the prefix.
pub(super) async fn gather(
    work: &Work<'_>,
    prefix: &str,
    receipt: Option<&Receipt>,
) -> Result<Gathered, Failure> {
    let base = format!("{}/", work.config.key(prefix));
    let mut gathered = Gathered::default();
    for version in work.bucket.versions(&base).await? {
        let key = version
            .key
            .strip_prefix(&base)
            .unwrap_or_default()
            .to_owned();
        gathered.versions.entry(key).or_default().push(version);
    }
    if gathered.versions.is_empty() {
        return Err(Failure::new(
            Exit::NotACollection,
            format!("there is no collection at s3://{}/{base}", work.bucket.name),
        ));
    }
    heads(&work.bucket, &mut gathered).await?;
    let stated = receipt.and_then(|receipt| receipt.manifest_sha256);
    gathered.manifest = text(
        &work.bucket,
        &gathered,
        keys::MANIFEST,
        stated,
        manifest::MAX_BYTES,
    )
    .await?;
    let parsed = gathered
        .manifest
        .as_ref()
        .and_then(|text| Manifest::parse(&text.bytes).ok());
    let stated = parsed.map(|manifest| manifest.chain.sha256);
    gathered.chain = text(
        &work.bucket,
        &gathered,
        keys::CHAIN,
        stated,
        chain::MAX_BYTES,
    )
    .await?;
    let (bucket, none) = (&work.bucket, None);
    gathered.sums = text(bucket, &gathered, SHA256SUMS, none, sums::MAX_BYTES).await?;
    gathered.signature = text(bucket, &gathered, SIGNATURE, none, MAX_SIGNATURE).await?;
    let fits = |stored: &Stored| stored.size <= timestamp::MAX_BYTES;
    if oldest(&gathered, TIME_STAMP).is_some_and(fits) {
        let limit = timestamp::MAX_BYTES;
        gathered.time_stamp = text(bucket, &gathered, TIME_STAMP, none, limit).await?;
    }
    if gathered.chain.is_none() {
        links(&work.bucket, &base, &mut gathered).await?;
    }
    Ok(gathered)
}

/// Asks for each version, side by side.
async fn heads(bucket: &Bucket, gathered: &mut Gathered) -> Result<(), Failure> {
    let all = gathered
        .versions
        .iter()
        .flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)));
    let objects: Vec<(String, Version)> = all
        .filter(|(_, v)| v.size.is_some())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for few in objects.chunks(AT_ONCE) {
        let mut under_way = JoinSet::new();
        for (key, version) in few.iter().cloned() {
            let bucket = bucket.clone();
            under_way.spawn(async move {
                let stored = bucket.head(&version.key, &version.id).await?;
                Ok::<_, Refusal>(((key, version.id), stored))
            });
        }
        while let Some(ended) = under_way.join_next().await {
            let (key, stored) = ended.map_err(Failure::internal)??;
            gathered.stored.insert(key, stored);
        }
    }
    Ok(())
}

/// Reads a text: the version with the hash that is stated elsewhere, else the oldest, which nobody can have put in its place.
async fn text(
    bucket: &Bucket,
    gathered: &Gathered,
    key: &str,
    stated: Option<Digest>,
    limit: u64,
) -> Result<Option<Text>, Failure> {
    let versions = gathered
        .versions
        .get(key)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let objects: Vec<&Version> = versions
        .iter()
        .filter(|version| version.size.is_some())
        .collect();
    let sha256 = |version: &&&Version| {
        gathered
            .stored
            .get(&(key.to_owned(), version.id.clone()))
            .and_then(|stored| stored.sha256)
    };
    let as_stated = objects
        .iter()
        .find(|version| stated.is_some() && sha256(version) == stated);
    let Some(version) = as_stated.or(objects.last()) else {
        return Ok(None);
    };
    let bytes = bucket.read(&version.key, Some(&version.id), limit).await?;
    Ok(bytes.map(|bytes| Text { bytes }))
}

/// What S3 says of the oldest version of an object.
fn oldest<'a>(gathered: &'a Gathered, key: &str) -> Option<&'a Stored> {
    let mut versions = gathered.versions.get(key)?.iter();
    let version = versions.rfind(|version| version.size.is_some())?;
    gathered.stored.get(&(key.to_owned(), version.id.clone()))
}

/// Reads the first bytes of each segment's oldest version.
async fn links(bucket: &Bucket, base: &str, gathered: &mut Gathered) -> Result<(), Failure> {
    let segments = gathered
        .versions
        .iter()
        .filter(|(key, _)| Stream::of_key(key).is_some());
    let oldest = segments.filter_map(|(key, versions)| {
        Some((
            key.clone(),
            versions.iter().rfind(|v| v.size.is_some())?.id.clone(),
        ))
    });
    for (key, version) in oldest.collect::<Vec<_>>() {
        let body = bucket
            .open(&format!("{base}{key}"), Some(&version), Some(LINK_BYTES))
            .await?;
        let Some(mut body) = body else { continue };
        let mut bytes = Vec::new();
        while let Ok(Some(piece)) = body.try_next().await {
            bytes.extend_from_slice(&piece);
        }
        gathered.links.insert(key, bytes);
    }
    Ok(())
}
