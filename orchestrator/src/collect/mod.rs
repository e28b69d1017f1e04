//! A collection on many instances: who is asked, what is sent, what came of it.

mod grant;
mod look;
mod order;
mod targets;

pub(crate) use order::{Wanted, request, run_within};
pub(crate) use targets::{Targets, resolve};

use crate::aws::ssm;
use crate::case::{Event, Step};
use crate::failure::Failure;
use crate::run::Work;

/// Does one step and writes down what came of it.
///
/// # Errors
/// When AWS refuses it for good.
pub(crate) async fn perform(work: &mut Work<'_>, step: Step) -> Result<(), Failure> {
    match step {
        Step::Authorise { request, instances } => {
            grant::authorise(work, &request, &instances).await
        }
        Step::Withdraw { request, instances } => grant::withdraw(work, &request, &instances).await,
        Step::Find { request, batch } => order::find(work, &request, batch).await,
        Step::Send { request, batch } => order::send(work, &request, batch).await,
        Step::Cancel { request, commands } => cancel(work, &request, &commands).await,
        Step::ReadOutput {
            request,
            instance,
            command,
        } => look::output(work, &request, &instance, &command).await,
        Step::Look { request } => look::look(work, &request).await,
        Step::Record(event) => {
            work.progress.event(&event);
            work.journal.append(&event)
        }
    }
}

async fn cancel(work: &mut Work<'_>, request: &str, commands: &[String]) -> Result<(), Failure> {
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
        let (name, region) = (request.account.clone(), request.region.clone());
        self.suspects(&name, &region).await
    }

    fn requested(&self, request: &str) -> Result<&crate::case::Requested, Failure> {
        let requested = self.journal.case().request(request);
        requested.ok_or_else(|| Failure::internal(format!("there is no request {request}")))
    }
}

/// Writes that a step has begun before it does.
async fn record(work: &mut Work<'_>, event: Event) -> Result<(), Failure> {
    work.progress.event(&event);
    work.record(&event).await
}
