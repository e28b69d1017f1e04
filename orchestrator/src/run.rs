//! The flow: what is due is decided, done and written down, until nothing is due.

use std::collections::BTreeMap;

use evidence::CaseId;
use time::Duration;

use crate::aws::s3::Bucket;
use crate::aws::{Account, Caller};
use crate::case::{Event, Journal, Seen, Step, Timing, next};
use crate::cli::Progress;
use crate::collect;
use crate::config::Config;
use crate::custody::Copier;
use crate::failure::Failure;

/// Everything that work on an open case needs.
pub(crate) struct Work<'a> {
    pub(crate) config: &'a Config,
    pub(crate) id: CaseId,
    pub(crate) journal: Journal,
    pub(crate) bucket: Bucket,
    /// The account of the bucket.
    pub(crate) evidence: Account,
    pub(crate) seen: Seen,
    pub(crate) progress: &'a Progress,
    caller: Caller,
    /// By the name of the account and the region.
    suspects: BTreeMap<(String, String), Account>,
    copier: Copier,
}

impl<'a> Work<'a> {
    /// Work on `journal`'s case, with the caller's credentials.
    ///
    /// # Errors
    /// When the bucket's account can not be used.
    pub(crate) async fn new(
        config: &'a Config,
        id: CaseId,
        journal: Journal,
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let caller = Caller::load().await?;
        let evidence = evidence_account(config, &caller).await?;
        let bucket = Bucket::new(&evidence, &config.evidence.bucket, &config.evidence.account);
        Ok(Self {
            copier: Copier::new(config, bucket.clone(), &id),
            config,
            id,
            journal,
            bucket,
            evidence,
            seen: Seen::default(),
            progress,
            caller,
            suspects: BTreeMap::new(),
        })
    }

    /// Who works on the case now.
    pub(crate) fn operator(&self) -> &str {
        self.journal.operator()
    }

    /// The account of suspects with this name, in `region`: the one that was asked for when the work began, which is
    /// not always that of the configuration.
    ///
    /// # Errors
    /// When it can not be used.
    pub(crate) async fn suspects(&mut self, name: &str, region: &str) -> Result<Account, Failure> {
        let key = (name.to_owned(), region.to_owned());
        if let Some(account) = self.suspects.get(&key) {
            return Ok(account.clone());
        }
        let (_, entry) = self.config.account(Some(name))?;
        let account = self
            .caller
            .account(&entry.id, entry.role.as_deref(), region)
            .await?;
        self.suspects.insert(key, account.clone());
        Ok(account)
    }

    /// Writes an entry; it is on the disk and in the bucket when this returns.
    ///
    /// # Errors
    /// When it is not: then nothing may follow from it.
    pub(crate) async fn record(&mut self, event: &Event) -> Result<(), Failure> {
        self.journal.append(event)?;
        self.copier.copy(&self.journal).await
    }

    /// Brings the bucket's copy of the journal up to date.
    ///
    /// # Errors
    /// When it can not be.
    pub(crate) async fn copy_custody(&mut self) -> Result<(), Failure> {
        self.copier.copy(&self.journal).await
    }

    /// Does what is due until nothing is; with `follow` false only until all that is left is to wait.
    ///
    /// # Errors
    /// When AWS refuses something for good: what was done stands in the journal, and the next call goes on from there.
    pub(crate) async fn until_rest(&mut self, follow: bool) -> Result<(), Failure> {
        self.copy_custody().await?;
        loop {
            let steps = next(
                self.journal.case(),
                &self.seen,
                &timing(self.config),
                crate::clock::now(),
            );
            let waiting = steps.iter().all(|step| matches!(step, Step::Look { .. }));
            if steps.is_empty() || (waiting && !follow) {
                return Ok(());
            }
            for step in steps {
                collect::perform(self, step).await?;
            }
            self.copy_custody().await?;
        }
    }
}

/// The account of the bucket.
///
/// # Errors
/// When it can not be used.
pub(crate) async fn evidence_account(config: &Config, caller: &Caller) -> Result<Account, Failure> {
    let place = &config.evidence;
    caller
        .account(&place.account, place.role.as_deref(), &place.region)
        .await
}

fn timing(config: &Config) -> Timing {
    Timing {
        silence: Duration::seconds(config.collect.silence_seconds),
        renew_before: Duration::seconds(i64::from(config.collect.session_seconds) / 4),
    }
}
