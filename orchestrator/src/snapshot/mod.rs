//! Disks into the forensic account: what is asked for, what is done with each snapshot, what EC2 says of them.
//!
//! `case/disks` decides; here it is done, and written down.

mod deed;
mod look;
mod make;
mod plan;

pub(crate) use make::TAG;
pub(crate) use plan::request;

use time::Duration;

use crate::aws::{Account, Refusal};
use crate::case::{Act, Deed, DiskStep, Disks, Event, Role};
use crate::failure::Failure;
use crate::run::{Work, same};

/// Time in which all of EC2 knows a snapshot that was made, or shared; AWS states no bound.
const KNOWN_WITHIN: Duration = Duration::minutes(5);

/// Does one step and writes down what came of it.
///
/// # Errors
/// When AWS does not answer, or not to these credentials. What it refuses for one volume is written down there.
pub(crate) async fn perform(
    work: &mut Work<'_>,
    request: &str,
    step: DiskStep,
) -> Result<(), Failure> {
    match step {
        DiskStep::Make { role, volumes } => make::make(work, request, role, volumes).await,
        DiskStep::Find { number } => make::find(work, request, number).await,
        DiskStep::Do { volume, deed } => deed::perform(work, request, &volume, deed).await,
        DiskStep::Look => look::look(work, request).await,
    }
}

impl Work<'_> {
    fn disks(&self, request: &str) -> Result<&Disks, Failure> {
        let mut disks = self.journal.case().disks.iter();
        let disks = disks.find(|disks| disks.request.id == request);
        disks.ok_or_else(|| Failure::internal(format!("nobody asked for disks as {request}")))
    }

    /// The account that has the snapshots in this role.
    async fn account_of(&mut self, request: &str, role: Role) -> Result<Account, Failure> {
        let request = self.disks(request)?.request.clone();
        if role == Role::Copy {
            let place = self.config.forensic()?;
            same(
                "forensic.account",
                &request.forensic_account,
                &place.account,
            )?;
            same("forensic.region", &request.forensic_region, &place.region)?;
            return self.forensic().await;
        }
        let name = &request.account;
        let (_, entry) = self.config.account(Some(name))?;
        same(
            &format!("accounts.{name}.id"),
            &request.account_id,
            &entry.id,
        )?;
        self.suspects(name, &request.region).await
    }

    async fn acted(&mut self, request: &str, act: Act) -> Result<(), Failure> {
        let request = request.to_owned();
        self.record(&Event::Snapshot { request, act }).await
    }

    /// Whether EC2 does not know yet what it made, or what was shared, a moment ago.
    fn too_early(&mut self, snapshot: &str, refusal: &Refusal) -> bool {
        if !refusal.is_missing() {
            return false;
        }
        let now = crate::clock::now();
        let since = self.seen.unknown.entry(snapshot.to_owned()).or_insert(now);
        now - *since <= KNOWN_WITHIN
    }

    /// Writes down what AWS refuses for these volumes; the others go on.
    async fn gave_up(
        &mut self,
        request: &str,
        volumes: &[String],
        (role, deed): (Role, Option<Deed>),
        refusal: Refusal,
    ) -> Result<(), Failure> {
        let of_all = [
            evidence::Exit::Credentials,
            evidence::Exit::ClockSkew,
            evidence::Exit::Unreachable,
        ];
        if !refusal.answered || refusal.is_throttling() || of_all.contains(&refusal.failure.exit) {
            return Err(refusal.failure);
        }
        for volume in volumes {
            let act = Act::Failed {
                volume: volume.clone(),
                role,
                deed,
                code: refusal.failure.exit.word().to_owned(),
                why: refusal.failure.message.clone(),
            };
            self.acted(request, act).await?;
        }
        Ok(())
    }
}
