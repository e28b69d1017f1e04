//! `case`: open, show, list, export, release.

use clap::{Args, Subcommand};
use evidence::{CaseId, Exit};
use serde::Serialize;

use super::{Global, export, release};
use crate::case::{Event, Journal};
use crate::failure::Failure;
use crate::run::Work;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Begin a case
    Open(OpenArguments),
    /// Print the journal of a case
    Show(ShowArguments),
    /// List all cases of the configuration
    List,
    /// Copy a case into a BagIt bag with a CASE/UCO description, for a laboratory
    Export(export::Arguments),
    /// Give sealed evidence out of custody: take its legal hold off, and record to whom and why
    Release(release::Arguments),
}

#[derive(Debug, Args)]
pub(super) struct OpenArguments {
    /// The case, such as IR-7: letters, digits, dots, dashes, underscores
    case: CaseId,
    /// Why: an alert, a ticket
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The case, such as IR-7
    case: CaseId,
}

/// A case in the list.
#[derive(Debug, Serialize)]
struct Listed {
    case: String,
    opened: String,
    operator: String,
    reason: String,
    collections: usize,
    sealed: usize,
    open_requests: usize,
    /// Why the journal can not be read.
    damaged: Option<String>,
}

pub(super) async fn run(global: &Global, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Open(arguments) => open(global, arguments).await,
        Command::Show(arguments) => show(global, &arguments.case),
        Command::List => list(global),
        Command::Export(arguments) => export::run(global, arguments).await,
        Command::Release(arguments) => release::run(global, arguments).await,
    }
}

async fn open(global: &Global, arguments: &OpenArguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let folder = config.case_folder(&arguments.case);
    if arguments.dry_run {
        let plan = [
            format!("write {}", folder.join("journal.jsonl").display()),
            format!(
                "store s3://{}/{}",
                config.evidence.bucket,
                config.key(&format!("{}/custody/000000.json", arguments.case))
            ),
        ];
        global.print(&plan, |plan| plan.join("\n") + "\n")?;
        return Ok(Exit::Complete);
    }
    let journal = Journal::create(&folder, arguments.case.clone(), &global.operator())?;
    let progress = global.progress();
    let opened = Event::Opened {
        reason: arguments.reason.clone(),
    };
    let mut journal = journal;
    journal.append(&opened)?;
    // A case that another machine has under this name shows in the bucket.
    let mut work = Work::new(&config, arguments.case.clone(), journal, &progress).await?;
    let copied = work.copy_custody().await;
    if let Err(failure) = &copied
        && failure.exit == Exit::CaseBusy
    {
        let _ = std::fs::remove_file(folder.join("journal.jsonl"));
        return Err(Failure::new(
            Exit::CaseExists,
            format!(
                "the bucket has a case {} already: choose another id, or go on with its own journal ({failure})",
                arguments.case
            ),
        ));
    }
    copied?;
    global.print(
        &serde_json::json!({"case": arguments.case, "journal": folder.join("journal.jsonl")}),
        |_| {
            format!(
                "case {} is open; next: exhibit collect --case {} --instance ...\n",
                arguments.case, arguments.case
            )
        },
    )?;
    Ok(Exit::Complete)
}

fn show(global: &Global, case: &CaseId) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let (_, custody) = Journal::peek(&config.case_folder(case), case)?;
    global.print(&custody.records(), |records| {
        let line = |record: &evidence::custody::Record| {
            let mut facts = record.event.clone();
            facts.remove("kind");
            format!(
                "{:06} {} {} {} {}\n",
                record.number,
                record.time,
                record.operator,
                record.kind(),
                serde_json::Value::Object(facts)
            )
        };
        records.iter().map(line).collect()
    })?;
    Ok(Exit::Complete)
}

fn list(global: &Global) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let mut cases = Vec::new();
    let folders = std::fs::read_dir(&config.cases)
        .into_iter()
        .flatten()
        .flatten();
    for name in folders.filter_map(|folder| folder.file_name().into_string().ok()) {
        let Ok(id) = name.parse::<CaseId>() else {
            continue;
        };
        match Journal::peek(&config.case_folder(&id), &id) {
            Ok((case, _)) => cases.push(Listed {
                case: name,
                opened: case.opened.clone(),
                operator: case.operator.clone(),
                reason: case.reason.clone(),
                collections: case.collections.len(),
                sealed: case
                    .collections
                    .values()
                    .filter(|collection| collection.sealed)
                    .count(),
                open_requests: case.open_requests(),
                damaged: None,
            }),
            Err(failure) if failure.exit == Exit::CaseUnknown => {}
            Err(failure) => cases.push(Listed {
                case: name,
                opened: String::new(),
                operator: String::new(),
                reason: String::new(),
                collections: 0,
                sealed: 0,
                open_requests: 0,
                damaged: Some(failure.message),
            }),
        }
    }
    cases.sort_by(|a, b| a.case.cmp(&b.case));
    let damaged = cases.iter().any(|case| case.damaged.is_some());
    global.print(&cases, |cases| cases.iter().map(line).collect())?;
    Ok(if damaged {
        Exit::CaseDamaged
    } else {
        Exit::Complete
    })
}

fn line(case: &Listed) -> String {
    match &case.damaged {
        Some(why) => format!("{}  damaged: {why}\n", case.case),
        None => format!(
            "{}  opened {} by {}  {} collections, {} sealed, {} requests open  {}\n",
            case.case,
            case.opened,
            case.operator,
            case.collections,
            case.sealed,
            case.open_requests,
            case.reason
        ),
    }
}
