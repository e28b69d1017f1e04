//! `resume` and `cancel`: go on with what was begun, or end it; and how it ended.

use clap::Args;
use evidence::{CaseId, Exit};
use serde::Serialize;

use super::{Global, snapshot, status};
use crate::case::{Act, Case, DiskStep, Event, Outcome, Step};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  exhibit resume IR-7
  exhibit resume IR-7 --dry-run

It follows until all has ended: for disks that can be hours. End it at any moment, and say it again.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Print what is due, as the journal alone tells it, and do nothing
    #[arg(long)]
    dry_run: bool,
}

const CANCEL_EXAMPLES: &str = "\
Examples:
  exhibit cancel IR-7
  exhibit cancel IR-7 --dry-run";

#[derive(Debug, Args)]
#[command(after_help = CANCEL_EXAMPLES)]
pub(super) struct CancelArguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    if arguments.dry_run {
        let due = work.due();
        let due: Vec<Due> = due.iter().map(Due::of).collect();
        global.print(&due, |due| due.iter().map(Due::text).collect())?;
        return Ok(Exit::Complete);
    }
    work.until_rest(true, None).await?;
    progress.end();
    ended(global, work.journal.case(), None)
}

/// Something that is due.
#[derive(Debug, Serialize)]
struct Due {
    request: Option<String>,
    /// In words.
    step: String,
}

impl Due {
    fn of(step: &Step) -> Self {
        Self {
            request: step.request().map(str::to_owned),
            step: sentence(step),
        }
    }

    fn text(&self) -> String {
        let request = self.request.as_ref().map(|request| format!("{request}: "));
        format!("{}{}\n", request.unwrap_or_default(), self.step)
    }
}

/// A step as people read it.
fn sentence(step: &Step) -> String {
    match step {
        Step::Authorise { instances, .. } => {
            format!("give credentials to {}", instances.join(", "))
        }
        Step::Find { batch, .. } => {
            format!("look whether command {batch} was sent")
        }
        Step::Send { batch, .. } => format!("send command {batch}"),
        Step::Cancel { commands, .. } => format!("cancel {}", commands.join(", ")),
        Step::ReadOutput { instance, .. } => format!("read all that {instance} printed"),
        Step::Record(event) => format!(
            "write down: {}",
            serde_json::to_string(event).unwrap_or_default()
        ),
        Step::Withdraw { instances, .. } => {
            format!("take credentials back from {}", instances.join(", "))
        }
        Step::Look { .. } => "follow SSM and the bucket".to_owned(),
        Step::Disks { step, .. } => disk_sentence(step),
    }
}

fn disk_sentence(step: &DiskStep) -> String {
    match step {
        DiskStep::Make { role, volumes } => {
            format!("make the {} of {}", role.word(), volumes.join(", "))
        }
        DiskStep::Find { number } => format!("look whether snapshots {number} were made"),
        DiskStep::Do { volume, deed } => format!("{} of {volume}", deed.word()),
        DiskStep::Look => "follow the snapshots that EC2 makes".to_owned(),
    }
}

pub(super) async fn cancel(global: &Global, arguments: &CancelArguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    let open = open_requests(work.journal.case());
    if arguments.dry_run {
        let ids: Vec<&String> = open.iter().map(|(id, _)| id).collect();
        global.print(&ids, |_| {
            let line = |(id, kind): &(String, Kind)| match kind {
                Kind::Collection => format!("cancel request {id}\n"),
                Kind::Disks => format!("give up the disks of request {id}; what is there stays\n"),
            };
            open.iter().map(line).collect()
        })?;
        return Ok(Exit::Complete);
    }
    for (request, kind) in open {
        let event = match kind {
            Kind::Collection => Event::CancelAsked { request },
            Kind::Disks => Event::Snapshot {
                request,
                act: Act::GivenUp,
            },
        };
        work.record(&event).await?;
    }
    work.until_rest(true, None).await?;
    progress.end();
    ended(global, work.journal.case(), None)
}

/// What a request is for.
enum Kind {
    Collection,
    Disks,
}

/// What can be ended.
fn open_requests(case: &Case) -> Vec<(String, Kind)> {
    let collections = case
        .requests
        .iter()
        .filter(|requested| !requested.is_done() && !requested.cancelled);
    let collections = collections.map(|requested| (requested.request.id.clone(), Kind::Collection));
    let disks = case.disks.iter().filter(|disks| !disks.is_done());
    collections
        .chain(disks.map(|disks| (disks.request.id.clone(), Kind::Disks)))
        .collect()
}

/// Tells how the instances of a request, or of all, ended; the exit code says what every one shares.
pub(super) fn ended(global: &Global, case: &Case, request: Option<&str>) -> Result<Exit, Failure> {
    let summary = status::Summary::of(case, request);
    global.print(&summary, status::text)?;
    let of_disks = snapshot::exit(&summary.disks);
    Ok(
        match (summary.requests.is_empty(), summary.disks.is_empty()) {
            (true, _) => of_disks,
            (false, true) => exit(&summary),
            (false, false) if exit(&summary) == of_disks => of_disks,
            (false, false) => Exit::Partial,
        },
    )
}

fn exit(summary: &status::Summary) -> Exit {
    let hosts = || {
        summary
            .requests
            .iter()
            .flat_map(|request| &request.instances)
    };
    let outcome = |wanted: Outcome| hosts().filter(|host| host.outcome == Some(wanted)).count();
    let (received, interrupted) = (outcome(Outcome::Received), outcome(Outcome::Interrupted));
    let refused = summary
        .requests
        .iter()
        .map(|request| request.refused.len())
        .sum::<usize>();
    let complete = hosts().filter(|host| host.exit_code == Some(0)).count();
    let all = hosts().count();
    let waiting = hosts().filter(|host| host.outcome.is_none()).count();
    if waiting > 0 {
        return Exit::Complete;
    }
    match (received, interrupted) {
        (0, 0) if all > 0 => Exit::CollectionFailed,
        (0, _) if all == interrupted => Exit::Interrupted,
        _ if complete == all && refused == 0 => Exit::Complete,
        _ => Exit::Partial,
    }
}
