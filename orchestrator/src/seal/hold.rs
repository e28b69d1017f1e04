//! Legal hold and retention: set with the seal, and the hold taken off when the evidence is released.

use evidence::keys;
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use crate::aws::Refusal;
use crate::aws::s3::Bucket;
use crate::failure::Failure;
use crate::run::Work;
use crate::verify::Checked;

/// Requests side by side.
const AT_ONCE: usize = 16;
/// Mode of the retention of objects that have none.
const MODE: &str = "GOVERNANCE";

/// What a version gets.
#[derive(Clone, Copy)]
enum Protection {
    /// A legal hold, and retention until then.
    Held(OffsetDateTime),
    /// No legal hold. Its retention stays.
    Released,
}

/// Puts every version under legal hold and extends its retention.
///
/// # Errors
/// When S3 refuses: what is held by then stays so.
pub(super) async fn hold(work: &Work<'_>, checked: &Checked, base: &str) -> Result<(), Failure> {
    let until =
        crate::clock::now() + Duration::days(i64::from(work.config.evidence.retention_days));
    let belongs = |key: &str, version: &str| {
        let mut objects = checked.objects.iter();
        keys::is_of_the_seal(key) || objects.any(|held| held.key == key && held.version == version)
    };
    protect(work, base, belongs, Protection::Held(until)).await
}

/// Takes the legal hold off everything of a collection; answers nothing, because the retention decides now.
///
/// # Errors
/// When S3 refuses: it can be said again.
pub(crate) async fn release(work: &Work<'_>, prefix: &str) -> Result<(), Failure> {
    let base = format!("{}/", work.config.key(prefix));
    protect(work, &base, |_, _| true, Protection::Released).await
}

/// Does it to each version below `base` that `belongs`, by its key below it and its id.
async fn protect(
    work: &Work<'_>,
    base: &str,
    belongs: impl Fn(&str, &str) -> bool,
    protection: Protection,
) -> Result<(), Failure> {
    let versions = work
        .bucket
        .versions(base)
        .await?
        .into_iter()
        .filter(|version| {
            let key = version.key.strip_prefix(base).unwrap_or_default();
            version.size.is_some() && belongs(key, &version.id)
        });
    let objects: Vec<(String, String)> =
        versions.map(|version| (version.key, version.id)).collect();
    let meter = work.progress.meter("legal hold", objects.len() as u64);
    for (number, few) in objects.chunks(AT_ONCE).enumerate() {
        let mut under_way = JoinSet::new();
        for (key, version) in few.iter().cloned() {
            under_way.spawn(protect_one(work.bucket.clone(), key, version, protection));
        }
        while let Some(ended) = under_way.join_next().await {
            ended.map_err(Failure::internal)??;
        }
        meter.at((number * AT_ONCE) as u64);
    }
    Ok(())
}

async fn protect_one(
    bucket: Bucket,
    key: String,
    version: String,
    protection: Protection,
) -> Result<(), Refusal> {
    let stored = bucket.head(&key, &version).await?;
    let wanted = matches!(protection, Protection::Held(_));
    if stored.legal_hold != wanted {
        bucket.hold(&key, &version, wanted).await?;
    }
    match protection {
        Protection::Held(until) if stored.retain_until.is_none_or(|now| now < until) => {
            let mode = stored.lock_mode.as_deref().unwrap_or(MODE);
            bucket.retain(&key, &version, mode, until).await
        }
        _ => Ok(()),
    }
}
