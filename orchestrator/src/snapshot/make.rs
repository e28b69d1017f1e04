//! New snapshots: announced, made once, and found again by their tags when nobody knows whether they were made.

use evidence::Exit;
use time::Duration;

use crate::aws::ebs::{self, Label};
use crate::aws::{Account, Refusal};
use crate::case::{Act, Disks, Made, Role};
use crate::config::region_of_key;
use crate::failure::Failure;
use crate::run::Work;

/// The tag that is different for every set and every copy.
pub(crate) const TAG: &str = "exhibit:making";

/// EC2 is busy, and has made nothing: to be tried again (EC2 user guide, "Amazon EBS quotas").
const BUSY: [&str; 3] = [
    "ConcurrentSnapshotLimitExceeded",
    "PendingSnapshotLimitExceeded",
    "ResourceLimitExceeded",
];

/// Time for which a busy EC2 is asked for no more.
const BREATH: Duration = Duration::seconds(30);

/// Makes snapshots that certainly are not there.
///
/// # Errors
/// When the credentials are of no use. Without an answer the next look finds out whether they were made.
pub(super) async fn make(
    work: &mut Work<'_>,
    request: &str,
    role: Role,
    volumes: Vec<String>,
) -> Result<(), Failure> {
    let account = work.account_of(request, role).await?;
    let disks = work.disks(request)?.clone();
    let kms_key = match key(work, &disks, role) {
        Ok(key) => key,
        Err(refusal) => return work.gave_up(request, &volumes, (role, None), refusal).await,
    };
    let number = announced(&disks, role, &volumes).unwrap_or(disks.number);
    let key = (request.to_owned(), number);
    // What was announced and certainly not made is announced already.
    if !work.seen.not_made.remove(&key) {
        let act = Act::Making {
            role,
            number,
            volumes: volumes.clone(),
            key: kms_key.clone(),
        };
        work.acted(request, act).await?;
    }
    work.seen.made.remove(&key);
    let label = label(work, &disks, role, number, &volumes);
    let source = source(&disks, role, &volumes).filter(|_| role != Role::Original);
    let made = match &kms_key {
        None => originals(&account, &disks, &volumes, &label).await,
        Some(key) => copy(&account, &disks, role, &volumes, key, &label).await,
    };
    match made {
        Ok(snapshots) => {
            work.acted(
                request,
                Act::Made {
                    role,
                    number,
                    snapshots,
                },
            )
            .await
        }
        // They may be there: `making` stands in the journal, so they are looked for.
        Err(refusal) if !refusal.is_certain() => {
            work.progress
                .say(&format!("to be looked for: {}", refusal.failure));
            work.seen.unanswered.insert(key, crate::clock::now());
            Ok(())
        }
        Err(refusal)
            if is_busy(&refusal)
                || source.is_some_and(|(_, source, _)| work.too_early(&source, &refusal)) =>
        {
            work.progress
                .say(&format!("to be tried again: {}", refusal.failure));
            work.seen.not_made.insert(key);
            work.seen.busy_until = Some(crate::clock::now() + BREATH);
            Ok(())
        }
        Err(refusal) => work.gave_up(request, &volumes, (role, None), refusal).await,
    }
}

/// Whether EC2 has made nothing, and will in a while.
fn is_busy(refusal: &Refusal) -> bool {
    refusal.is_throttling() || BUSY.contains(&refusal.code.as_str())
}

/// The number under which these were announced before, in vain.
fn announced(disks: &Disks, role: Role, volumes: &[String]) -> Option<u32> {
    let stage = disks.disks.get(volumes.first()?)?.stages.get(&role)?;
    Some(stage.number)
}

/// The key that new snapshots get: none for those of volumes, which have the volume's own.
fn key(work: &Work<'_>, disks: &Disks, role: Role) -> Result<Option<String>, Refusal> {
    let unset = |why: String| Refusal {
        code: String::new(),
        answered: true,
        failure: Failure::new(Exit::NotReady, why),
    };
    let request = &disks.request;
    match role {
        Role::Original => Ok(None),
        Role::Copy => match work.config.forensic() {
            Ok(forensic) => Ok(Some(forensic.key.clone())),
            Err(failure) => Err(unset(failure.message)),
        },
        Role::Shareable => {
            let name = &request.account;
            let key = work
                .config
                .accounts
                .get(name)
                .and_then(|account| account.snapshot_key.clone());
            match key {
                Some(key) if region_of_key(&key) == Some(&request.region) => Ok(Some(key)),
                Some(key) => Err(unset(format!(
                    "accounts.{name}.snapshot_key = {key:?} is of another region than {}",
                    request.region
                ))),
                None => Err(unset(format!(
                    "it has the account's default key, which can not be shared: set accounts.{name}.snapshot_key, then say `exhibit snapshot` again"
                ))),
            }
        }
    }
}

/// One call for all volumes, so that all are of one moment. What is attached and was not asked for is left out only when
/// it has its snapshot already.
async fn originals(
    account: &Account,
    disks: &Disks,
    volumes: &[String],
    label: &Label,
) -> Result<Vec<Made>, Refusal> {
    let others = disks
        .disks
        .values()
        .filter(|disk| !volumes.contains(&disk.volume.id));
    let (root, data): (Vec<_>, Vec<_>) = others.partition(|disk| disk.volume.root);
    let without_data = data
        .into_iter()
        .map(|disk| disk.volume.id.clone())
        .collect();
    ebs::create(
        account,
        &disks.request.instance,
        without_data,
        !root.is_empty(),
        label,
    )
    .await
}

async fn copy(
    account: &Account,
    disks: &Disks,
    role: Role,
    volumes: &[String],
    key: &str,
    label: &Label,
) -> Result<Vec<Made>, Refusal> {
    let Some((volume, source, size_gib)) = source(disks, role, volumes) else {
        return Ok(Vec::new());
    };
    let snapshot = ebs::copy(account, &disks.request.region, &source, key, label).await?;
    Ok(vec![Made {
        volume,
        snapshot,
        source: Some(source),
        started: None,
        size_gib,
        encrypted: true,
    }])
}

/// The volume that a copy is of, the snapshot that it is made from, and its size.
fn source(disks: &Disks, role: Role, volumes: &[String]) -> Option<(String, String, u32)> {
    let disk = disks.disks.get(volumes.first()?)?;
    let from = if role == Role::Copy {
        disk.source()
    } else {
        Role::Original
    };
    let source = disk.snapshot(from)?.to_owned();
    Some((disk.volume.id.clone(), source, disk.volume.size_gib))
}

fn label(work: &Work<'_>, disks: &Disks, role: Role, number: u32, volumes: &[String]) -> Label {
    let request = &disks.request;
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut tags = vec![
        tag("Name", &format!("exhibit {} {}", work.id, request.instance)),
        tag(TAG, &making(&request.id, number)),
        tag("exhibit:case", &work.id.to_string()),
        tag("exhibit:instance", &request.instance),
    ];
    // EC2 gives a copy an arbitrary volume id.
    if let Some((volume, source, _)) =
        source(disks, role, volumes).filter(|_| role != Role::Original)
    {
        tags.extend([
            tag("exhibit:volume", &volume),
            tag("exhibit:source", &source),
        ]);
    }
    Label {
        description: format!("exhibit case {}", work.id),
        tags,
    }
}

fn making(request: &str, number: u32) -> String {
    format!("{request}/{number}")
}

/// Looks for snapshots that may have been made.
///
/// # Errors
/// When EC2 refuses.
pub(super) async fn find(work: &mut Work<'_>, request: &str, number: u32) -> Result<(), Failure> {
    let key = (request.to_owned(), number);
    work.pause(&making(request, number)).await;
    let disks = work.disks(request)?.clone();
    let announced =
        |disk: &&crate::case::Disk| disk.stages.values().any(|stage| stage.number == number);
    let of_number: Vec<_> = disks.disks.values().filter(announced).collect();
    let roles = of_number.iter().flat_map(|disk| &disk.stages);
    let role = roles
        .filter(|(_, stage)| stage.number == number)
        .map(|(role, _)| *role)
        .next();
    let role =
        role.ok_or_else(|| Failure::internal(format!("nothing was announced as {number}")))?;
    let account = work.account_of(request, role).await?;
    let mut found = ebs::find(&account, (TAG, &making(request, number))).await?;
    if role != Role::Original {
        let volumes: Vec<String> = of_number
            .iter()
            .map(|disk| disk.volume.id.clone())
            .collect();
        let source = source(&disks, role, &volumes);
        for made in &mut found {
            if let Some((volume, snapshot, _)) = &source {
                made.volume.clone_from(volume);
                made.source = Some(snapshot.clone());
            }
        }
    }
    for made in surplus(&found) {
        // It is in the record with the others; the last of a volume counts.
        let (snapshot, volume) = (&made.snapshot, &made.volume);
        work.progress.say(&format!(
            "{volume} has more than one snapshot of this moment: {snapshot} is not used"
        ));
    }
    work.seen.made.insert(key, found);
    Ok(())
}

/// The snapshots whose volume has another one after them: EC2 listed them too late for the program to wait.
fn surplus(found: &[Made]) -> impl Iterator<Item = &Made> {
    let later = |place: usize, made: &Made| {
        let mut rest = found.iter().skip(place + 1);
        rest.any(|other| other.volume == made.volume)
    };
    let placed = found.iter().enumerate();
    placed
        .filter(move |(place, made)| later(*place, made))
        .map(|(_, made)| made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_snapshots_of_a_volume_the_first_is_surplus() {
        let made = |volume: &str, snapshot: &str| Made {
            volume: volume.into(),
            snapshot: snapshot.into(),
            source: None,
            started: None,
            size_gib: 8,
            encrypted: false,
        };
        let found = [
            made("vol-a", "snap-1"),
            made("vol-b", "snap-2"),
            made("vol-a", "snap-3"),
        ];
        let surplus: Vec<&str> = surplus(&found).map(|made| made.snapshot.as_str()).collect();
        assert_eq!(surplus, ["snap-1"]);
    }
}
