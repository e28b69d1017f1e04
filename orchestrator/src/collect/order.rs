//! What is sent: the request, fixed and written down, then the command that carries it to the instances.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use evidence::digest::Digest;
use evidence::{CaseId, CollectionId};
use time::macros::format_description;

use super::grant;
use super::targets::Resolved;
use crate::aws::ssm;
use crate::case::{Credentials, Event, Refused, Request};
use crate::config::Config;
use crate::failure::Failure;
use crate::run::Work;

/// Longest text that SSM takes as a command's parameter here, in characters: what a document may hold, with room.
const MAX_CONFIG: usize = 16 << 10;
/// Least and most seconds of a run (SSM user guide: executionTimeout is at most 172,800).
const SHORTEST: u64 = 3600;
const LONGEST: u64 = 172_800;
/// Bytes a second that an estimate counts on, for memory that is read, compressed and sent.
const ESTIMATED_RATE: u64 = 20 << 20;

/// What the responder asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) case: CaseId,
    pub(crate) operator: String,
    pub(crate) reason: String,
    /// More arguments of the agent, after those of the configuration.
    pub(crate) arguments: Vec<String>,
}

/// The request: all that the collection will be run with.
///
/// # Errors
/// When it would be too long for SSM.
pub(crate) fn request(
    config: &Config,
    account: &str,
    document_sha256: Digest,
    resolved: &Resolved,
    wanted: &Wanted,
) -> Result<Request, Failure> {
    let (_, entry) = config.account(Some(account))?;
    let collection = collection_id()?;
    let request = Request {
        id: random()?,
        account: account.to_owned(),
        account_id: entry.id.clone(),
        region: entry.region.clone(),
        tag: resolved.tag.clone(),
        instances: resolved
            .instances
            .iter()
            .map(|instance| instance.id.clone())
            .collect(),
        refused: resolved
            .refused
            .iter()
            .map(|(instance, failure)| Refused {
                instance: instance.clone(),
                code: failure.exit.word().to_owned(),
                why: failure.message.clone(),
            })
            .collect(),
        arguments: arguments(config, wanted, &collection),
        collection,
        document: config.collect.document.clone(),
        document_sha256,
        agent_sha256: config.agent.sha256,
        agent_source: config.agent.source.clone(),
        credentials: config.collect.credentials,
        start_within: config.collect.start_within_seconds,
        run_within: match config.collect.run_within_seconds {
            0 => run_within(resolved.largest_memory),
            given => given,
        },
        max_concurrency: config.collect.max_concurrency.clone(),
        max_errors: config.collect.max_errors.clone(),
    };
    let length = parameter(&request)?.len();
    if length > MAX_CONFIG {
        return Err(Failure::usage(format!(
            "the arguments of the agent are too long for SSM: {length} characters, at most {MAX_CONFIG}"
        )));
    }
    Ok(request)
}

/// Seconds that a run may take on an instance with so much memory.
pub(crate) fn run_within(memory: u64) -> u32 {
    let seconds = (SHORTEST + memory / ESTIMATED_RATE).clamp(SHORTEST, LONGEST);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn arguments(config: &Config, wanted: &Wanted, collection: &CollectionId) -> Vec<String> {
    let place = &config.evidence;
    let prefix = place.prefix.as_str();
    let to = if prefix.is_empty() {
        format!("s3://{}", place.bucket)
    } else {
        format!("s3://{}/{prefix}", place.bucket)
    };
    let mut arguments: Vec<String> = [
        "--to",
        &to,
        "--region",
        &place.region,
        "--case",
        &wanted.case.to_string(),
        "--operator",
        &wanted.operator,
        "--reason",
        &wanted.reason,
        "--instance",
        "auto",
        "--collection",
        &collection.to_string(),
        "--quiet",
    ]
    .map(str::to_owned)
    .to_vec();
    if config.collect.credentials == Credentials::Session {
        let parameter = grant::parameter(&wanted.case.to_string(), "{instance}");
        arguments.extend(["--credentials-parameter".to_owned(), parameter]);
    }
    arguments.extend(
        config
            .collect
            .arguments
            .iter()
            .chain(&wanted.arguments)
            .cloned(),
    );
    arguments
}

/// The one parameter of the document: three parts, of characters that no shell looks at. ssm-documents/README.md.
fn parameter(request: &Request) -> Result<String, Failure> {
    let arguments = serde_json::to_vec(&request.arguments).map_err(Failure::internal)?;
    Ok(format!(
        "{}.{}.{}",
        request.agent_sha256,
        BASE64URL.encode(&request.agent_source),
        BASE64URL.encode(arguments)
    ))
}

/// Eight hexadecimal digits that nobody had before.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(Failure::internal)?;
    Ok(hex::encode(bytes))
}

fn collection_id() -> Result<CollectionId, Failure> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = crate::clock::now()
        .format(&format)
        .map_err(Failure::internal)?;
    format!("{time}-{}", random()?)
        .parse()
        .map_err(Failure::internal)
}

/// By what a command is found again: it says nothing that is not in the journal.
fn comment(work: &Work<'_>, request: &str, batch: usize) -> String {
    format!("exhibit {} {request}/{batch}", work.id)
}

/// Looks for a command that may have been sent.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn find(work: &mut Work<'_>, request: &str, batch: usize) -> Result<(), Failure> {
    let key = (request.to_owned(), batch);
    work.pause(&format!("{request}/{batch}")).await;
    let account = work.suspects_of(request).await?;
    // SSM's clock and ours may differ.
    let since = work.requested(request)?.asked - time::Duration::hours(1);
    let found = ssm::find(
        &account,
        &comment(work, request, batch),
        &crate::custody::text_of(since),
    )
    .await?;
    work.seen.lookups.insert(key, found);
    Ok(())
}

/// Sends a command that certainly was not sent yet.
///
/// # Errors
/// When there is no answer: then the next look finds out whether it was taken. A refusal is written down.
pub(crate) async fn send(work: &mut Work<'_>, request: &str, batch: usize) -> Result<(), Failure> {
    let account = work.suspects_of(request).await?;
    let ordered = work.requested(request)?.request.clone();
    let comment = comment(work, request, batch);
    let config = parameter(&ordered)?;
    work.record(&Event::Sending {
        request: request.to_owned(),
        batch,
    })
    .await?;
    work.seen.lookups.remove(&(request.to_owned(), batch));
    let command = ssm::Command {
        document: &ordered.document,
        document_sha256: ordered.document_sha256,
        instances: ordered.batch(batch),
        tag: ordered
            .tag
            .as_ref()
            .map(|(key, value)| (key.as_str(), value.as_str())),
        comment: &comment,
        config: &config,
        start_within: ordered.start_within,
        run_within: ordered.run_within,
        max_concurrency: &ordered.max_concurrency,
        max_errors: &ordered.max_errors,
    };
    let request = request.to_owned();
    match ssm::send(&account, &command).await {
        Ok(command) => {
            work.record(&Event::Sent {
                request,
                batch,
                command,
            })
            .await
        }
        // It may have been taken: `Sending` stands in the journal, so it is looked for.
        Err(refusal) if !refusal.is_certain() || refusal.is_throttling() => {
            work.progress
                .say(&format!("no answer to the command: {}", refusal.failure));
            Ok(())
        }
        Err(refusal) => {
            let why = refusal.failure.message.clone();
            work.record(&Event::NotSent {
                request,
                batch,
                why,
            })
            .await?;
            match refusal.failure.exit {
                evidence::Exit::Aws => Ok(()),
                _ => Err(refusal.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_gets_time_for_its_memory() {
        assert_eq!(run_within(0), 3600);
        assert_eq!(run_within(256 << 30), 3600 + 13_107);
        assert_eq!(run_within(u64::MAX), 172_800);
    }
}
