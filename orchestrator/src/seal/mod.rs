//! The seal: what was verified is stated, listed in SHA256SUMS, signed by a key that no suspect has, and held.

mod hold;
mod signer;
mod stamp;

use std::collections::BTreeSet;

use evidence::seal::{SealedObject, Statement};
use evidence::signature::PublicKey;
use evidence::sums::{PUBLIC_KEY, SHA256SUMS, SIGNATURE};
use evidence::verify::Verdict;
use evidence::{Digest, Exit, keys, seal};

pub(crate) use hold::release;
pub(crate) use signer::{Signer, public_key_of, trusted_key};
pub(crate) use stamp::command;

use crate::aws::s3::Bucket;
use crate::case::Event;
use crate::custody::text_of;
use crate::failure::Failure;
use crate::run::Work;
use crate::verify::Checked;

/// Seals a collection that was verified just now. Each object of the seal is stored once: a seal that was cut goes on with what
/// it has stored.
///
/// # Errors
/// When the collection is altered, the key can not be used, or S3 refuses.
pub(crate) async fn seal(
    work: &mut Work<'_>,
    checked: &Checked,
    signer: &Signer,
) -> Result<Event, Failure> {
    if checked.verdict == Verdict::Altered {
        return Err(Failure::new(
            Exit::Altered,
            format!(
                "{} is not what the agent wrote: it can not be sealed; `exhibit verify` names what is wrong",
                checked.prefix
            ),
        ));
    }
    let key = signer.public_key().await?;
    if work
        .journal
        .case()
        .collections
        .get(&checked.prefix)
        .is_none_or(|collection| collection.sealing.is_none())
    {
        work.record(&Event::Sealing {
            prefix: checked.prefix.clone(),
        })
        .await?;
    }
    let base = format!("{}/", work.config.key(&checked.prefix));
    let statement = statement(work, checked, &base).await?;
    let sums = statement.sums().map_err(Failure::internal)?.to_text();
    sign(&work.bucket, &base, sums.as_bytes(), signer, &key).await?;
    let time_stamp = stamp::stamp(work, &base, sums.as_bytes()).await?;
    // Last: its presence says that the seal is whole.
    once(
        &work.bucket,
        &format!("{base}{SHA256SUMS}"),
        sums.as_bytes(),
    )
    .await?;
    hold::hold(work, checked, &base).await?;
    let event = Event::Sealed {
        prefix: checked.prefix.clone(),
        sums_sha256: Digest::of(sums.as_bytes()),
        key: key.fingerprint().map_err(Failure::internal)?,
        objects: statement.objects.len(),
        time_stamp,
    };
    work.record(&event).await?;
    Ok(event)
}

/// The statement that is stored already, or a new one.
async fn statement(work: &Work<'_>, checked: &Checked, base: &str) -> Result<Statement, Failure> {
    let key = format!("{base}{}", seal::STATEMENT);
    let statement = match work.bucket.read(&key, None, seal::MAX_BYTES).await? {
        Some(bytes) => {
            let stored = Statement::parse(&bytes)
                .map_err(|error| Failure::new(Exit::Altered, format!("{key}: {error}")))?;
            let hashes = |objects: &[SealedObject]| {
                objects
                    .iter()
                    .map(|o| (o.key.clone(), o.sha256))
                    .collect::<BTreeSet<_>>()
            };
            if hashes(&stored.objects) != hashes(&objects(checked)?) {
                return Err(Failure::new(
                    Exit::Altered,
                    format!(
                        "{key} states other objects than there are: the collection changed after it was sealed"
                    ),
                ));
            }
            stored
        }
        None => {
            let statement = new_statement(work, checked)?;
            let line = statement.to_line().map_err(Failure::internal)?;
            once(&work.bucket, &key, line.as_bytes()).await?;
            statement
        }
    };
    Ok(statement)
}

fn new_statement(work: &Work<'_>, checked: &Checked) -> Result<Statement, Failure> {
    let collection = work.journal.case().collections.get(&checked.prefix);
    let sealing = collection.and_then(|collection| collection.sealing.clone());
    let sealing =
        sealing.ok_or_else(|| Failure::internal("a seal without its entry in the journal"))?;
    let verdict = match checked.verdict {
        Verdict::Complete => seal::Sealable::Complete,
        Verdict::Partial => seal::Sealable::Partial,
        Verdict::Interrupted | Verdict::Altered => seal::Sealable::Interrupted,
    };
    Ok(Statement {
        seal_version: seal::SEAL_VERSION,
        prefix: checked.prefix.parse().map_err(Failure::internal)?,
        verdict,
        manifest_sha256: checked.manifest_sha256,
        receipt: collection
            .and_then(|collection| collection.receipt.clone())
            .filter(|_| checked.bound_by_receipt),
        journal: seal::Journal {
            records: sealing.records,
            head: sealing.head,
        },
        objects: objects(checked)?,
        sealed_at: sealing.at,
        operator: work.operator().to_owned(),
    })
}

/// The objects of the run.
fn objects(checked: &Checked) -> Result<Vec<SealedObject>, Failure> {
    let of_the_run = checked
        .objects
        .iter()
        .filter(|held| !keys::is_of_the_seal(&held.key));
    let mut objects = Vec::new();
    for held in of_the_run {
        objects.push(SealedObject {
            key: held.key.clone(),
            version_id: Some(held.version.clone()),
            size: held.stored.size,
            sha256: held.stored.sha256.ok_or_else(|| {
                Failure::new(
                    Exit::Altered,
                    format!("S3 states no SHA-256 of {}", held.key),
                )
            })?,
            lock_mode: held.stored.lock_mode.clone(),
            retain_until: held.stored.retain_until.map(text_of),
            legal_hold: Some(held.stored.legal_hold),
        });
    }
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(objects)
}

/// Stores an object, or makes sure that it is there with these bytes.
async fn once(bucket: &Bucket, key: &str, bytes: &[u8]) -> Result<(), Failure> {
    if bucket.put_new(key, bytes).await?
        || bucket.read(key, None, bytes.len() as u64).await?.as_deref() == Some(bytes)
    {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Altered,
        format!("{key} is there already, with other bytes than this seal's"),
    ))
}

/// Signs, unless a signature that holds is there: no two signatures are alike.
async fn sign(
    bucket: &Bucket,
    base: &str,
    sums: &[u8],
    signer: &Signer,
    key: &PublicKey,
) -> Result<(), Failure> {
    let place = format!("{base}{SIGNATURE}");
    let stored = bucket.read(&place, None, 1024).await?;
    match stored {
        Some(signature) if key.verify(sums, &signature).is_ok() => {}
        Some(_) => {
            return Err(Failure::new(
                Exit::Altered,
                format!("{place} is there already, and is by another key than the configured one"),
            ));
        }
        None => {
            let signature = signer.sign(sums).await?;
            key.verify(sums, &signature).map_err(|error| {
                Failure::new(
                    Exit::KeyUnusable,
                    format!("the signature does not hold: {error}"),
                )
            })?;
            once(bucket, &place, &signature).await?;
        }
    }
    let pem = key.to_pem().map_err(Failure::internal)?;
    once(bucket, &format!("{base}{PUBLIC_KEY}"), pem.as_bytes()).await
}
