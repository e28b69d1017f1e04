//! `snapshot`: the disks of instances, copied into the forensic account and locked there.

use clap::Args;
use evidence::{CaseId, Exit};
use serde::Serialize;

use super::Global;
use super::place::Place;
use crate::case::{Act, Case, Disk, DiskRequest, Disks, Event, Failed, Role, Uncovered};
use crate::config::Config;
use crate::failure::Failure;
use crate::run::Work;
use crate::snapshot;

const EXAMPLES: &str = "\
Examples:
  exhibit snapshot --case IR-7 --instance i-0123456789abcdef0
  exhibit snapshot --case IR-7 --instance i-0123456789abcdef0 --no-wait && exhibit resume IR-7
  exhibit snapshot --case IR-7 --instance i-0123456789abcdef0 --dry-run

Said again of the same instance, it goes on with what is unfinished and tries again what failed.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    #[arg(long)]
    case: CaseId,
    /// Instance id; may be given more than once
    #[arg(long, value_name = "ID", required = true)]
    instance: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Make another set, also where the disks are copied already
    #[arg(long)]
    again: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Return when the snapshots are begun: they keep the moment, whatever happens to the instance then
    #[arg(long)]
    no_wait: bool,
}

/// The disks of one request.
#[derive(Debug, Serialize)]
pub(super) struct DisksSummary {
    request: String,
    instance: String,
    account: String,
    forensic_account: String,
    forensic_region: String,
    done: bool,
    given_up: bool,
    volumes: Vec<DiskSummary>,
    uncovered: Vec<Uncovered>,
}

/// A volume.
#[derive(Debug, Serialize)]
struct DiskSummary {
    volume: String,
    device: String,
    size_gib: u32,
    /// `waiting`, a role that is under way, `copied` or `failed`.
    state: &'static str,
    original: Option<String>,
    shareable: Option<String>,
    copy: Option<String>,
    /// Words of exit codes, and what was refused.
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    code: String,
    why: String,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut config = global.read_config()?;
    config.forensic()?;
    let (name, _) = arguments.place.choose(&mut config)?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    let mut instances = arguments.instance.clone();
    instances.sort_unstable();
    instances.dedup();
    let (mut ids, mut plans) = (Vec::new(), Vec::new());
    for instance in &instances {
        super::check_instance_id(instance)?;
        match known(work.journal.case(), instance).filter(|_| !arguments.again) {
            Some((id, failed)) => ids.push((id, failed)),
            None => plans.push(snapshot::request(&mut work, &name, instance).await?),
        }
    }
    if arguments.dry_run {
        for (id, failed) in &ids {
            let again = if *failed {
                ", and tries again what failed"
            } else {
                ""
            };
            progress.say(&format!(
                "goes on with the request {id}{again}; --again makes another set"
            ));
        }
        global.print(&plans, |plans| {
            plans.iter().map(|request| plan(&config, request)).collect()
        })?;
        return Ok(Exit::Complete);
    }
    // Nothing is begun when the copies have nowhere to go.
    work.forensic().await?;
    let ids = ordered(&mut work, ids, plans).await?;
    work.until_rest(!arguments.no_wait, Some(&ids)).await?;
    progress.end();
    let summaries: Vec<DisksSummary> = ids
        .iter()
        .flat_map(|id| DisksSummary::of(work.journal.case(), Some(id)))
        .collect();
    global.print(&summaries, |summaries| {
        summaries.iter().map(|it| it.text() + "\n").collect()
    })?;
    Ok(exit(&summaries))
}

/// The last request for an instance's disks, and whether something of it failed.
fn known(case: &Case, instance: &str) -> Option<(String, bool)> {
    let disks = case
        .disks
        .iter()
        .rfind(|disks| disks.request.instance == instance && !disks.given_up)?;
    let failed = disks.disks.values().any(Disk::has_failed);
    Some((disks.request.id.clone(), failed))
}

/// Writes down what is asked for; answers the requests that are meant.
async fn ordered(
    work: &mut Work<'_>,
    known: Vec<(String, bool)>,
    plans: Vec<DiskRequest>,
) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    for (request, failed) in known {
        if failed {
            work.record(&Event::Snapshot {
                request: request.clone(),
                act: Act::Retried,
            })
            .await?;
        }
        ids.push(request);
    }
    for request in plans {
        ids.push(request.id.clone());
        work.record(&Event::DisksRequested(Box::new(request)))
            .await?;
    }
    Ok(ids)
}

fn plan(config: &Config, request: &DiskRequest) -> String {
    let mut lines = vec![format!(
        "snapshot the disks of {} in account {} ({}), copies to account {} ({})",
        request.instance,
        request.account_id,
        request.region,
        request.forensic_account,
        request.forensic_region
    )];
    for volume in &request.volumes {
        let account = config.accounts.get(&request.account);
        let can_reencrypt = account.is_some_and(|account| account.snapshot_key.is_some());
        let key = match (&volume.key, volume.reencrypt) {
            (None, _) => "not encrypted",
            (Some(_), true) if can_reencrypt => "default key: encrypted anew before it is shared",
            (Some(_), true) => {
                "default key, and the account has no snapshot_key: it can not be copied"
            }
            (Some(_), false) => "customer key, which the forensic account has to be allowed to use",
        };
        lines.push(format!(
            "  {} {} {} GiB, {key}",
            volume.id, volume.device, volume.size_gib
        ));
    }
    lines.extend(
        request
            .uncovered
            .iter()
            .map(|it| format!("  not {}: {}", it.what, it.why)),
    );
    if let Some(forensic) = &config.forensic {
        lines.push(format!(
            "  originals locked for {} days at most, until the copies are",
            forensic.original_lock_days
        ));
        lines.push(format!(
            "  copies under {}, locked for {} days ({})",
            forensic.key,
            forensic.lock_days,
            forensic.lock_mode.word()
        ));
    }
    lines.join("\n") + "\n"
}

impl DisksSummary {
    /// Of one request, or of all.
    pub(super) fn of(case: &Case, request: Option<&str>) -> Vec<Self> {
        let wanted = case
            .disks
            .iter()
            .filter(|disks| request.is_none_or(|id| disks.request.id == id));
        wanted.map(Self::new).collect()
    }

    fn new(disks: &Disks) -> Self {
        let request = &disks.request;
        Self {
            request: request.id.clone(),
            instance: request.instance.clone(),
            account: request.account.clone(),
            forensic_account: request.forensic_account.clone(),
            forensic_region: request.forensic_region.clone(),
            done: disks.is_done(),
            given_up: disks.given_up,
            volumes: disks.disks.values().map(DiskSummary::new).collect(),
            uncovered: request.uncovered.clone(),
        }
    }

    pub(super) fn text(&self) -> String {
        let state = match (self.given_up, self.done) {
            (true, _) => "given up",
            (false, true) => "done",
            (false, false) => "under way",
        };
        let mut lines = vec![format!(
            "disks of {} in {} ({}): {state}",
            self.instance, self.account, self.request
        )];
        for volume in &self.volumes {
            let copy = volume
                .copy
                .as_deref()
                .map(|copy| format!(" as {copy}"))
                .unwrap_or_default();
            let size = format!("{} GiB", volume.size_gib);
            lines.push(format!(
                "  {} {} {size}  {}{copy}",
                volume.volume, volume.device, volume.state
            ));
            lines.extend(
                volume
                    .problems
                    .iter()
                    .map(|problem| format!("    problem ({}): {}", problem.code, problem.why)),
            );
        }
        lines.extend(
            self.uncovered
                .iter()
                .map(|it| format!("  not {}: {}", it.what, it.why)),
        );
        lines.join("\n")
    }
}

impl DiskSummary {
    fn new(disk: &Disk) -> Self {
        let snapshot = |role| disk.snapshot(role).map(str::to_owned);
        let problem = |failed: &Failed| Problem {
            code: failed.code.clone(),
            why: failed.why.clone(),
        };
        Self {
            volume: disk.volume.id.clone(),
            device: disk.volume.device.clone(),
            size_gib: disk.volume.size_gib,
            state: match (
                &disk.failure,
                disk.is_copied(),
                disk.stages.keys().next_back(),
            ) {
                // What can not be tidied up afterwards is a problem, and no failure of the copy.
                (_, true, _) => "copied",
                (Some(_), false, _) => "failed",
                (None, false, Some(role)) => role.word(),
                (None, false, None) => "waiting",
            },
            original: snapshot(Role::Original),
            shareable: snapshot(Role::Shareable),
            copy: snapshot(Role::Copy),
            problems: disk.failure.iter().chain(&disk.loss).map(problem).collect(),
        }
    }
}

/// One code when all volumes failed with it.
pub(super) fn exit(summaries: &[DisksSummary]) -> Exit {
    let volumes: Vec<&DiskSummary> = summaries
        .iter()
        .flat_map(|summary| &summary.volumes)
        .collect();
    let mut codes: Vec<&str> = volumes
        .iter()
        .flat_map(|volume| &volume.problems)
        .map(|problem| problem.code.as_str())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    let all_failed = volumes.iter().all(|volume| volume.state == "failed");
    match codes.as_slice() {
        [] if summaries.iter().any(|summary| summary.given_up) => Exit::Partial,
        [] => Exit::Complete,
        [code] if all_failed => {
            let mut exits = Exit::ALL.iter().copied();
            exits
                .find(|exit| exit.word() == *code)
                .unwrap_or(Exit::Partial)
        }
        _ => Exit::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Volume;
    use crate::config;

    #[test]
    fn a_plan_says_what_can_not_be_copied() {
        let request = DiskRequest {
            id: "0a0b0c0d".into(),
            account: "production".into(),
            account_id: "222222222222".into(),
            region: "eu-central-1".into(),
            instance: "i-1".into(),
            forensic_account: "333333333333".into(),
            forensic_region: "eu-central-1".into(),
            volumes: vec![Volume {
                id: "vol-1".into(),
                device: "/dev/sdf".into(),
                root: false,
                size_gib: 8,
                key: Some("arn:default".into()),
                reencrypt: true,
            }],
            uncovered: Vec::new(),
        };
        let mut config = Config::parse(config::TEMPLATE).unwrap();
        let without = plan(&config, &request);
        assert!(without.contains("it can not be copied"), "{without}");
        let account = config.accounts.get_mut("production").unwrap();
        account.snapshot_key = Some("arn:aws:kms:eu-central-1:222222222222:key/1".into());
        let with = plan(&config, &request);
        assert!(with.contains("encrypted anew"), "{with}");
    }
}
