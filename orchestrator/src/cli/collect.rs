//! `collect`: trigger and follow.

use clap::{ArgGroup, Args};
use evidence::{CaseId, Exit};

use super::place::Place;
use super::{Global, resume};
use crate::aws::ec2::Named;
use crate::aws::{Account, ssm};
use crate::case::{Event, Request};
use crate::collect::{self, Targets, Wanted};
use crate::config::Config;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  exhibit collect --case IR-7 --instance i-0123456789abcdef0 --instance i-0fedcba9876543210
  exhibit collect --case IR-7 --tag Response=Collect --account production --region eu-west-1
  exhibit collect --case IR-7 --ip 10.0.0.7 -- --include memory,symbols --cpu-limit 50
  exhibit collect --case IR-7 --name web-1 --dry-run";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("target").required(true))]
pub(super) struct Arguments {
    /// The case, such as IR-7
    #[arg(long)]
    case: CaseId,
    /// Instance id; may be given more than once
    #[arg(long, value_name = "ID", group = "target")]
    instance: Vec<String>,
    /// All instances with this tag
    #[arg(long, value_name = "KEY=VALUE", group = "target")]
    tag: Option<String>,
    /// The instance with this address
    #[arg(long, value_name = "ADDRESS", group = "target")]
    ip: Option<String>,
    /// The instance with this tag `Name`
    #[arg(long, value_name = "NAME", group = "target")]
    name: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Why, if it is another reason than the case's
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Return when the command is sent; `exhibit resume` follows
    #[arg(long)]
    no_wait: bool,
    /// More arguments for the agent, after `--`
    #[arg(last = true)]
    agent: Vec<String>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let targets = targets(arguments)?;
    let mut config = global.read_config()?;
    let (name, place) = arguments.place.choose(&mut config)?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    let account = work.suspects(&name, &place.region).await?;
    let document_sha256 = document(&config, &account).await?;
    let resolved = collect::resolve(&account, &targets).await?;
    let reason = arguments
        .reason
        .clone()
        .unwrap_or_else(|| work.journal.case().reason.clone());
    let wanted = Wanted {
        case: arguments.case.clone(),
        operator: global.operator(),
        reason,
        arguments: arguments.agent.clone(),
    };
    let request = collect::request(&config, &name, document_sha256, &resolved, &wanted)?;
    if arguments.dry_run {
        global.print(&request, plan)?;
        return Ok(Exit::Complete);
    }
    for refused in &request.refused {
        progress.say(&format!("left out: {}", refused.why));
    }
    let id = request.id.clone();
    work.record(&Event::Requested(Box::new(request))).await?;
    work.until_rest(!arguments.no_wait, Some(std::slice::from_ref(&id)))
        .await?;
    progress.end();
    resume::ended(global, work.journal.case(), Some(&id))
}

/// The SHA-256 that SSM has to run, which is the one of the configuration if it states one.
async fn document(config: &Config, account: &Account) -> Result<evidence::Digest, Failure> {
    let name = &config.collect.document;
    let found = ssm::document_sha256(account, name).await.map_err(|refusal| match refusal.code.as_str() {
        "InvalidDocument" => Failure::new(Exit::NotReady, format!("there is no SSM document {name} in account {}: register it, as ssm-documents/README.md says", account.id)),
        _ => refusal.failure,
    })?;
    let found = found.ok_or_else(|| {
        Failure::new(
            Exit::NotReady,
            format!("SSM states no SHA-256 of the document {name}"),
        )
    })?;
    match config.collect.document_sha256 {
        Some(stated) if stated != found => Err(Failure::new(
            Exit::NotReady,
            format!(
                "the SSM document {name} has SHA-256 {found}, the configuration states {stated}: somebody changed one of them"
            ),
        )),
        _ => Ok(found),
    }
}

fn targets(arguments: &Arguments) -> Result<Targets, Failure> {
    if let Some(tag) = &arguments.tag {
        let (key, value) = tag
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Failure::usage(format!("--tag {tag:?} is not KEY=VALUE")))?;
        return Ok(Targets(Named::Tag(key.to_owned(), value.to_owned())));
    }
    if let Some(address) = &arguments.ip {
        let address: std::net::IpAddr = address
            .parse()
            .map_err(|_| Failure::usage(format!("--ip {address:?} is not an address")))?;
        return Ok(Targets(Named::Address(address.to_string())));
    }
    if let Some(name) = &arguments.name {
        return Ok(Targets(Named::Name(name.clone())));
    }
    let mut ids = arguments.instance.clone();
    ids.sort_unstable();
    ids.dedup();
    ids.iter().try_for_each(|id| super::check_instance_id(id))?;
    Ok(Targets(Named::Ids(ids)))
}

fn plan(request: &Request) -> String {
    let mut lines = vec![format!(
        "collect on {} instances of account {} ({}), collection {}",
        request.instances.len(),
        request.account_id,
        request.region,
        request.collection
    )];
    lines.extend(request.instances.iter().map(|id| format!("  {id}")));
    lines.extend(
        request
            .refused
            .iter()
            .map(|refused| format!("  not {}: {}", refused.instance, refused.why)),
    );
    if request.credentials == crate::case::Credentials::Session {
        lines.push("  each gets a put-only session, in a SecureString parameter that is deleted at the end".to_owned());
    }
    let how = match &request.tag {
        Some((key, value)) => format!("by the tag {key}={value}"),
        None => format!("by id, {} commands", request.batches()),
    };
    lines.push(format!(
        "  SSM document {} (SHA-256 {}), {how}",
        request.document, request.document_sha256
    ));
    lines.push(format!(
        "  start within {} s, run within {} s, {} at a time, stop after {} errors",
        request.start_within, request.run_within, request.max_concurrency, request.max_errors
    ));
    lines.push(format!(
        "  agent {} (SHA-256 {})",
        request.agent_source, request.agent_sha256
    ));
    lines.push(format!("  arguments: {}", request.arguments.join(" ")));
    lines.join("\n") + "\n"
}
