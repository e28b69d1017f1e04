//! SSM: the document, the command, what became of it; and the parameter that hands a suspect its credentials.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::types::{
    CommandFilter, CommandFilterKey, CommandInvocation, DocumentHashType,
    InstanceInformationStringFilter, ParameterTier, ParameterType, Target,
};
use evidence::digest::Digest;

use super::{Account, Refusal};

/// Instances that one command takes by id (SSM API reference, SendCommand, InstanceIds), and that one page shows.
pub(crate) const MAX_IDS: usize = 50;
const PAGE: i32 = 50;
/// Attempts to send one command while SSM asks for fewer requests, and the first pause between two, doubled each time.
const THROTTLED_ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What SSM knows of an instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managed {
    pub(crate) online: bool,
    pub(crate) ping: String,
    pub(crate) agent_version: String,
    /// `Linux`, `Windows`, `MacOS`.
    pub(crate) platform: String,
    /// As the host calls its system, such as `Debian GNU/Linux 12`.
    pub(crate) system: String,
    /// When SSM heard of it last, in seconds since 1970.
    pub(crate) last_ping: Option<i64>,
}

/// A command to send.
#[derive(Clone, Debug)]
pub(crate) struct Command<'a> {
    pub(crate) document: &'a str,
    pub(crate) document_sha256: Digest,
    pub(crate) instances: &'a [String],
    /// Instead of `instances`.
    pub(crate) tag: Option<(&'a str, &'a str)>,
    /// By which it is found again.
    pub(crate) comment: &'a str,
    pub(crate) config: &'a str,
    pub(crate) start_within: u32,
    pub(crate) run_within: u32,
    pub(crate) max_concurrency: &'a str,
    pub(crate) max_errors: &'a str,
}

/// What became of a command on one instance.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) instance: String,
    /// `Pending`, `InProgress`, `Success`, `DeliveryTimedOut`, ...
    pub(crate) status: String,
    pub(crate) code: Option<i32>,
    /// What the step of the agent wrote, cut by SSM at 2,500 characters.
    pub(crate) output: String,
}

/// What SSM says of these instances, over all pages. Those that it does not know are not in the answer.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn managed(
    account: &Account,
    instances: &[String],
) -> Result<BTreeMap<String, Managed>, Refusal> {
    let client = Client::new(&account.config);
    let mut known = BTreeMap::new();
    for ids in instances.chunks(MAX_IDS) {
        let filter = InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .set_values(Some(ids.to_vec()))
            .build()
            .map_err(|error| Refusal::internal(&error))?;
        let request = client
            .describe_instance_information()
            .filters(filter)
            .max_results(PAGE);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| Refusal::of(&error, "ssm:DescribeInstanceInformation", "*"))?;
            for info in page.instance_information_list() {
                let ping = info.ping_status().map(|p| p.as_str()).unwrap_or_default();
                let managed = Managed {
                    online: ping == "Online",
                    ping: ping.to_owned(),
                    agent_version: info.agent_version().unwrap_or_default().to_owned(),
                    platform: info
                        .platform_type()
                        .map(|p| p.as_str())
                        .unwrap_or_default()
                        .to_owned(),
                    system: [info.platform_name(), info.platform_version()]
                        .map(Option::unwrap_or_default)
                        .join(" "),
                    last_ping: info.last_ping_date_time().map(|time| time.secs()),
                };
                known.insert(info.instance_id().unwrap_or_default().to_owned(), managed);
            }
        }
    }
    Ok(known)
}

/// SHA-256 of the content of the document that SSM would run, as it states it.
///
/// # Errors
/// When there is none, or SSM refuses.
pub(crate) async fn document_sha256(
    account: &Account,
    name: &str,
) -> Result<Option<Digest>, Refusal> {
    let client = Client::new(&account.config);
    let answer = client.describe_document().name(name).send().await;
    let answer = answer.map_err(|error| Refusal::of(&error, "ssm:DescribeDocument", name))?;
    let hash = answer.document().and_then(|document| document.hash());
    Ok(hash.and_then(|hash| hash.parse().ok()))
}

/// Sends a command once. The SDK does not repeat it: whether a request without an answer was carried out, only
/// [`find`] can tell. A request that SSM throttled was not.
///
/// # Errors
/// As [`Refusal`]; with `answered` false the command may run.
pub(crate) async fn send(account: &Account, command: &Command<'_>) -> Result<String, Refusal> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match send_once(account, command).await {
            Err(refusal) if refusal.is_throttling() && attempt < THROTTLED_ATTEMPTS => {
                tokio::time::sleep(pause.mul_f64(jitter())).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    Err(Refusal::internal(&"no attempt was made"))
}

/// Between a half and one and a half.
fn jitter() -> f64 {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    0.5 + f64::from(byte[0]) / 256.0
}

async fn send_once(account: &Account, command: &Command<'_>) -> Result<String, Refusal> {
    let once = aws_sdk_ssm::config::Builder::new().retry_config(RetryConfig::disabled());
    let mut request = Client::new(&account.config)
        .send_command()
        .document_name(command.document)
        .document_hash(command.document_sha256.to_string())
        .document_hash_type(DocumentHashType::Sha256)
        .comment(command.comment)
        .parameters("Config", vec![command.config.to_owned()])
        .parameters("ExecutionTimeout", vec![command.run_within.to_string()])
        .timeout_seconds(i32::try_from(command.start_within).unwrap_or(i32::MAX))
        .max_concurrency(command.max_concurrency)
        .max_errors(command.max_errors);
    request = match command.tag {
        Some((key, value)) => request.targets(
            Target::builder()
                .key(format!("tag:{key}"))
                .values(value)
                .build(),
        ),
        None => request.set_instance_ids(Some(command.instances.to_vec())),
    };
    let answer = request.customize().config_override(once).send().await;
    let answer =
        answer.map_err(|error| Refusal::of(&error, "ssm:SendCommand", command.document))?;
    let id = answer.command().and_then(|command| command.command_id());
    id.map(str::to_owned)
        .ok_or_else(|| Refusal::internal(&"SSM answers without a command id"))
}

/// The command with this comment, among those sent since `since` (RFC 3339).
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn find(
    account: &Account,
    comment: &str,
    since: &str,
) -> Result<Option<String>, Refusal> {
    let filter = CommandFilter::builder()
        .key(CommandFilterKey::InvokedAfter)
        .value(since)
        .build()
        .map_err(|error| Refusal::internal(&error))?;
    let client = Client::new(&account.config);
    let mut pages = client
        .list_commands()
        .filters(filter)
        .max_results(PAGE)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| Refusal::of(&error, "ssm:ListCommands", "*"))?;
        let mine = page
            .commands()
            .iter()
            .find(|command| command.comment() == Some(comment));
        if let Some(id) = mine.and_then(|command| command.command_id()) {
            return Ok(Some(id.to_owned()));
        }
    }
    Ok(None)
}

/// What became of a command on each of its instances: requests grow with pages, not with hosts.
///
/// # Errors
/// When SSM refuses. A command that SSM does not show yet has no invocations.
pub(crate) async fn invocations(
    account: &Account,
    command: &str,
) -> Result<Vec<Invocation>, Refusal> {
    let client = Client::new(&account.config);
    let request = client
        .list_command_invocations()
        .command_id(command)
        .details(true)
        .max_results(PAGE);
    let mut pages = request.into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        match page.map_err(|error| Refusal::of(&error, "ssm:ListCommandInvocations", "*")) {
            Ok(page) => found.extend(page.command_invocations().iter().map(invocation)),
            Err(refusal) if refusal.is_missing() => break,
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(found)
}

fn invocation(invocation: &CommandInvocation) -> Invocation {
    let plugin = invocation
        .command_plugins()
        .iter()
        .find(|plugin| plugin.output().is_some_and(|output| !output.is_empty()));
    let plugin = plugin.or(invocation.command_plugins().last());
    // StatusDetails tells the kinds of time-outs apart, Status does not.
    let status = invocation
        .status_details()
        .or(invocation.status().map(|status| status.as_str()));
    Invocation {
        instance: invocation.instance_id().unwrap_or_default().to_owned(),
        status: status.unwrap_or_default().to_owned(),
        code: plugin.map(|plugin| plugin.response_code()),
        output: plugin
            .and_then(|plugin| plugin.output())
            .unwrap_or_default()
            .to_owned(),
    }
}

/// What the agent wrote to standard output, cut by SSM at 24,000 characters; `None` while SSM does not show it.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn output(
    account: &Account,
    command: &str,
    instance: &str,
) -> Result<Option<String>, Refusal> {
    let request = Client::new(&account.config)
        .get_command_invocation()
        .command_id(command)
        .instance_id(instance);
    match request
        .send()
        .await
        .map_err(|error| Refusal::of(&error, "ssm:GetCommandInvocation", "*"))
    {
        Ok(answer) => Ok(Some(
            answer
                .standard_output_content()
                .unwrap_or_default()
                .to_owned(),
        )),
        Err(refusal) if refusal.is_missing() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Asks SSM to end a command: SSM does what it can.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn cancel(account: &Account, command: &str) -> Result<(), Refusal> {
    let request = Client::new(&account.config)
        .cancel_command()
        .command_id(command);
    request
        .send()
        .await
        .map(|_| ())
        .map_err(|error| Refusal::of(&error, "ssm:CancelCommand", "*"))
}

/// Stores a secret, over an older one.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn put_secret(account: &Account, name: &str, value: &str) -> Result<(), Refusal> {
    let request = Client::new(&account.config)
        .put_parameter()
        .name(name)
        .value(value)
        .r#type(ParameterType::SecureString)
        .tier(ParameterTier::IntelligentTiering)
        .overwrite(true);
    request
        .send()
        .await
        .map(|_| ())
        .map_err(|error| Refusal::of(&error, "ssm:PutParameter", name))
}

/// Removes a secret; one that is not there is no error.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn delete_secret(account: &Account, name: &str) -> Result<(), Refusal> {
    let request = Client::new(&account.config).delete_parameter().name(name);
    match request
        .send()
        .await
        .map_err(|error| Refusal::of(&error, "ssm:DeleteParameter", name))
    {
        Err(refusal) if !refusal.is_missing() => Err(refusal),
        _ => Ok(()),
    }
}
