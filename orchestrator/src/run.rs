//! The flow: what is due is decided, done and written down, until nothing is due.

use std::collections::BTreeMap;

use evidence::CaseId;
use time::Duration;
use tokio::time::Instant;

use crate::aws::s3::Bucket;
use crate::aws::{Account, Caller};
use crate::case::{Event, Journal, Seen, Step, Timing, next};
use crate::cli::Progress;
use crate::collect::{self, grant, look, order};
use crate::config::Config;
use crate::custody::Copier;
use crate::failure::Failure;
use crate::snapshot;

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
    forensic: Option<Account>,
    /// When something was looked at last.
    looked: BTreeMap<String, Instant>,
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
            forensic: None,
            looked: BTreeMap::new(),
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

    /// The account that gets copies of disks.
    ///
    /// # Errors
    /// When there is none in the configuration, or it can not be used.
    pub(crate) async fn forensic(&mut self) -> Result<Account, Failure> {
        if let Some(account) = &self.forensic {
            return Ok(account.clone());
        }
        let place = self.config.forensic()?;
        let account = self
            .caller
            .account(&place.account, place.role.as_deref(), &place.region)
            .await?;
        self.forensic = Some(account.clone());
        Ok(account)
    }

    /// Waits until this may be looked at again; the first time not at all.
    pub(crate) async fn pause(&mut self, what: &str) {
        let between = std::time::Duration::from_secs(self.config.collect.poll_seconds);
        if let Some(last) = self.looked.get(what) {
            tokio::time::sleep_until(*last + between).await;
        }
        self.looked.insert(what.to_owned(), Instant::now());
    }

    /// Writes an entry; it is on the disk and in the bucket when this returns.
    ///
    /// # Errors
    /// When it is not: then nothing may follow from it.
    pub(crate) async fn record(&mut self, event: &Event) -> Result<(), Failure> {
        self.note(event)?;
        self.copier.copy(&self.journal).await
    }

    /// Writes an entry from which nothing follows yet; it is on the disk when this returns.
    fn note(&mut self, event: &Event) -> Result<(), Failure> {
        self.progress.event(event);
        self.journal.append(event)
    }

    /// Brings the bucket's copy of the journal up to date.
    ///
    /// # Errors
    /// When it can not be.
    pub(crate) async fn copy_custody(&mut self) -> Result<(), Failure> {
        self.copier.copy(&self.journal).await
    }

    /// What is due now.
    pub(crate) fn due(&self) -> Vec<Step> {
        let timing = timing(self.config);
        next(
            self.journal.case(),
            &self.seen,
            &timing,
            crate::clock::now(),
        )
    }

    /// Does what is due until nothing is; with `follow` false only until all that is left is to wait. Other requests of the case
    /// than `mine` go on too, but are not waited for. A request that can not go on does not stop the others.
    ///
    /// # Errors
    /// Why one of `mine` can not go on: what was done stands in the journal, and the next call goes on from there.
    pub(crate) async fn until_rest(
        &mut self,
        follow: bool,
        mine: Option<&[String]>,
    ) -> Result<(), Failure> {
        let is_mine = |request: &str| mine.is_none_or(|mine| mine.iter().any(|id| id == request));
        let mut stuck: BTreeMap<String, Failure> = BTreeMap::new();
        self.copy_custody().await?;
        loop {
            let mut steps = self.due();
            steps.retain(|step| {
                step.request()
                    .is_none_or(|request| !stuck.contains_key(request))
            });
            let waiting = steps.iter().all(Step::is_wait);
            let awaited = follow && steps.iter().filter_map(Step::request).any(is_mine);
            if steps.is_empty() || (waiting && !awaited) {
                let mut failures = stuck.into_iter().filter(|(request, _)| is_mine(request));
                return failures.next().map_or(Ok(()), |(_, failure)| Err(failure));
            }
            for step in steps {
                let request = step.request().map(str::to_owned);
                if request
                    .as_ref()
                    .is_some_and(|request| stuck.contains_key(request))
                {
                    continue;
                }
                let Err(failure) = self.perform(step).await else {
                    continue;
                };
                // Whatever else fails, what is written down has to be in the bucket.
                self.copy_custody().await?;
                let Some(request) = request else {
                    return Err(failure);
                };
                self.progress
                    .say(&format!("request {request} can not go on: {failure}"));
                stuck.insert(request, failure);
            }
            self.copy_custody().await?;
        }
    }

    /// Does one step and writes down what came of it.
    async fn perform(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Record(event) => self.note(&event),
            Step::Authorise { request, instances } => {
                grant::authorise(self, &request, &instances).await
            }
            Step::Withdraw { request, instances } => {
                grant::withdraw(self, &request, &instances).await
            }
            Step::Find { request, batch } => order::find(self, &request, batch).await,
            Step::Send { request, batch } => order::send(self, &request, batch).await,
            Step::Cancel { request, commands } => collect::cancel(self, &request, &commands).await,
            Step::ReadOutput {
                request,
                instance,
                command,
            } => look::output(self, &request, &instance, &command).await,
            Step::Look { request } => look::look(self, &request).await,
            Step::Disks { request, step } => snapshot::perform(self, &request, step).await,
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

/// Whether what was recorded with a request is what the configuration says now.
///
/// # Errors
/// When it is not: acting elsewhere than the record says would make it false.
pub(crate) fn same(what: &str, recorded: &str, configured: &str) -> Result<(), Failure> {
    if recorded == configured {
        return Ok(());
    }
    Err(Failure::new(
        evidence::Exit::WrongAccount,
        format!(
            "{what} was {recorded} when this was asked for, and is {configured} in the configuration now: set it back, or give the request up with `exhibit cancel`"
        ),
    ))
}

fn timing(config: &Config) -> Timing {
    Timing {
        silence: Duration::seconds(config.collect.silence_seconds),
        renew_before: Duration::seconds(i64::from(config.collect.session_seconds) / 4),
    }
}
