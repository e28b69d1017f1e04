//! Verification in the bucket: what S3 says of each object against chain, manifest and receipt; nothing is downloaded but
//! those texts. `deep` reads every byte.

mod deep;
mod examine;
mod gather;

use evidence::signature::PublicKey;
use evidence::verify::Verdict;
use evidence::{Digest, Exit, Receipt};
use serde::Serialize;

use crate::aws::s3::Stored;
use crate::failure::Failure;
use crate::run::Work;

/// What is wrong, with a word that machines can match on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// An object, and the version of it that belongs to the run.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) stored: Stored,
}

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) prefix: String,
    pub(crate) verdict: Verdict,
    pub(crate) deep: bool,
    pub(crate) problems: Vec<Problem>,
    /// Objects that anyone with enough rights can delete.
    pub(crate) unlocked: Vec<String>,
    pub(crate) manifest_sha256: Option<Digest>,
    /// The manifest is the one that the receipt names, which came by way of SSM.
    pub(crate) bound_by_receipt: bool,
    /// Segments that are in order and complete, from the first on.
    pub(crate) segments: u64,
    pub(crate) stored_bytes: u64,
    /// Segments behind one that never arrived.
    pub(crate) beyond_gap: Vec<String>,
    /// What the manifest says is missing.
    pub(crate) reasons: Vec<String>,
    pub(crate) sealed: bool,
    /// When SHA256SUMS existed, as its time stamp states; nobody checked who signed it.
    pub(crate) time_stamp: Option<String>,
    #[serde(skip)]
    pub(crate) objects: Vec<Held>,
}

impl Checked {
    /// The exit code that stands for it.
    pub(crate) fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Complete | Verdict::Partial if !self.unlocked.is_empty() => Exit::Unlocked,
            verdict => verdict.exit(),
        }
    }
}

/// What the journal says of a seal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedAs<'a> {
    /// The key by which it has to be sealed.
    pub(crate) key: &'a PublicKey,
    /// The time that its time stamp has to state, if it got one.
    pub(crate) time_stamp: Option<&'a str>,
}

/// Verifies one collection; the receipt is what SSM carried, and `sealed` what there has to be of a seal.
///
/// # Errors
/// When the bucket can not be read, or there is no such collection.
pub(crate) async fn verify(
    work: &Work<'_>,
    prefix: &str,
    receipt: Option<&Receipt>,
    sealed: Option<&SealedAs<'_>>,
    deep: bool,
) -> Result<Checked, Failure> {
    let gathered = gather::gather(work, prefix, receipt).await?;
    let released: Vec<Digest> = std::iter::once(work.config.agent.sha256)
        .chain(work.config.agent.also_released.iter().copied())
        .collect();
    let trust = examine::Trust {
        released: &released,
        sealed,
    };
    let mut checked = examine::examine(prefix, &gathered, receipt, &trust, crate::clock::now())?;
    if deep {
        deep::deep(work, &mut checked, &gathered).await?;
    }
    Ok(checked)
}

/// The code that matters most: altered, then unlocked, then interrupted, then partial.
pub(crate) fn worst(exits: impl Iterator<Item = Exit>) -> Exit {
    const ORDER: [Exit; 4] = [
        Exit::Altered,
        Exit::Unlocked,
        Exit::Interrupted,
        Exit::Partial,
    ];
    let exits: Vec<Exit> = exits.collect();
    ORDER
        .into_iter()
        .find(|exit| exits.contains(exit))
        .unwrap_or(Exit::Complete)
}
