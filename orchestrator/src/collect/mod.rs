//! A collection on many instances: who is asked, what is sent, what came of it.

pub(crate) mod grant;
pub(crate) mod look;
pub(crate) mod order;
mod targets;

pub(crate) use order::{Wanted, random, request, run_within};
pub(crate) use targets::{Targets, find, resolve};

use crate::aws::ssm;
use crate::failure::Failure;
use crate::run::{Work, same};

/// Asks SSM to end commands.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn cancel(
    work: &mut Work<'_>,
    request: &str,
    commands: &[String],
) -> Result<(), Failure> {
    let account = work.suspects_of(request).await?;
    for command in commands {
        ssm::cancel(&account, command).await?;
    }
    work.seen.cancelled.insert(request.to_owned());
    Ok(())
}

impl Work<'_> {
    /// The account of a request's instances.
    async fn suspects_of(&mut self, request: &str) -> Result<crate::aws::Account, Failure> {
        let request = &self.requested(request)?.request;
        let (name, region, id) = (
            request.account.clone(),
            request.region.clone(),
            request.account_id.clone(),
        );
        same(
            &format!("accounts.{name}.id"),
            &id,
            &self.config.account(Some(&name))?.1.id,
        )?;
        self.suspects(&name, &region).await
    }

    fn requested(&self, request: &str) -> Result<&crate::case::Requested, Failure> {
        let requested = self.journal.case().request(request);
        requested.ok_or_else(|| Failure::internal(format!("there is no request {request}")))
    }
}
