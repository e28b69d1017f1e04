//! What is done with a snapshot that is there. Each of these changes nothing when it is done again.

use crate::aws::{Refusal, ebs};
use crate::case::{Act, Deed, Role, SnapshotState};
use crate::failure::Failure;
use crate::run::Work;

/// The mode of an original's lock: it is taken off when there is a copy, which nobody can in compliance mode.
const ORIGINAL_MODE: &str = "governance";

/// Does it and writes it down.
///
/// # Errors
/// When AWS does not answer, or not to these credentials.
pub(super) async fn perform(
    work: &mut Work<'_>,
    request: &str,
    volume: &str,
    deed: Deed,
) -> Result<(), Failure> {
    let disks = work.disks(request)?;
    let disk = disks
        .disks
        .get(volume)
        .ok_or_else(|| Failure::internal(format!("no volume {volume} in {request}")))?;
    let role = match deed {
        Deed::LockOriginal | Deed::UnlockOriginal => Role::Original,
        Deed::Share => disk.source(),
        Deed::DeleteShareable => Role::Shareable,
        Deed::LockCopy | Deed::Verify => Role::Copy,
    };
    let snapshot = disk
        .snapshot(role)
        .ok_or_else(|| Failure::internal(format!("{volume} has no snapshot to do this with")))?;
    let (volume, snapshot) = (volume.to_owned(), snapshot.to_owned());
    if disk.doing != Some(deed) {
        let act = Act::Doing {
            volume: volume.clone(),
            deed,
            snapshot: snapshot.clone(),
        };
        work.acted(request, act).await?;
    }
    match act(work, request, role, deed, volume.clone(), snapshot.clone()).await? {
        Ok(act) => work.acted(request, act).await,
        Err(refusal) if refusal.is_throttling() || work.too_early(&snapshot, &refusal) => {
            work.pause(&snapshot).await;
            Ok(())
        }
        Err(mut refusal) => {
            let mut deed = Some(deed);
            if deed == Some(Deed::LockCopy)
                && let Some(why) = spoiled(work, &snapshot).await?
            {
                refusal.failure.message = why;
                deed = None;
            }
            work.gave_up(request, &[volume], (role, deed), refusal)
                .await
        }
    }
}

/// Why a copy is of no use, if it is of none: then it is not its lock that has to be tried again.
async fn spoiled(work: &mut Work<'_>, copy: &str) -> Result<Option<String>, Failure> {
    let account = work.forensic().await?;
    let mut seen = ebs::states(&account, &[copy.to_owned()]).await?;
    Ok(match seen.remove(copy).map(|seen| seen.state) {
        Some(SnapshotState::Error(why)) => Some(format!("EC2 could not make it: {why}")),
        Some(SnapshotState::Missing) => Some("it is gone: somebody has deleted it".to_owned()),
        _ => None,
    })
}

async fn act(
    work: &mut Work<'_>,
    request: &str,
    role: Role,
    deed: Deed,
    volume: String,
    snapshot: String,
) -> Result<Result<Act, Refusal>, Failure> {
    let account = work.account_of(request, role).await?;
    let forensic = work.config.forensic()?;
    Ok(match deed {
        Deed::LockOriginal | Deed::LockCopy => {
            let (mode, days) = match role {
                Role::Copy => (forensic.lock_mode.word(), forensic.lock_days),
                _ => (ORIGINAL_MODE, forensic.original_lock_days),
            };
            let locked = ebs::lock(&account, &snapshot, mode, days).await;
            locked.map(|until| Act::Locked {
                volume,
                role,
                snapshot,
                mode: mode.to_owned(),
                until,
            })
        }
        Deed::Share => {
            let with = work.disks(request)?.request.forensic_account.clone();
            let shared = ebs::share(&account, &snapshot, &with).await;
            shared.map(|()| Act::Shared {
                volume,
                snapshot,
                with,
            })
        }
        Deed::UnlockOriginal => {
            let unlocked = ebs::unlock(&account, &snapshot).await;
            unlocked.map(|()| Act::Unlocked { volume, snapshot })
        }
        Deed::DeleteShareable => {
            let deleted = ebs::delete(&account, &snapshot).await;
            deleted.map(|()| Act::Deleted { volume, snapshot })
        }
        Deed::Verify => return Err(Failure::internal("a copy is verified by looking at it")),
    })
}
