//! Looking at the snapshots that EC2 is making.

use crate::aws::ebs;
use crate::case::{Role, SnapshotState};
use crate::failure::Failure;
use crate::run::Work;

/// Looks at all snapshots that a request waits for, after a pause when that was done before.
///
/// # Errors
/// When EC2 refuses.
pub(super) async fn look(work: &mut Work<'_>, request: &str) -> Result<(), Failure> {
    work.pause(request).await;
    let disks = work.disks(request)?.clone();
    let suspects = disks.awaited(&[Role::Original, Role::Shareable]);
    if !suspects.is_empty() {
        let account = work.account_of(request, Role::Original).await?;
        work.seen
            .snapshots
            .extend(ebs::states(&account, &suspects).await?);
    }
    let copies = disks.awaited(&[Role::Copy]);
    if !copies.is_empty() {
        let account = work.account_of(request, Role::Copy).await?;
        let mut states = ebs::states(&account, &copies).await?;
        let finished = states
            .iter()
            .filter(|(_, seen)| seen.state == SnapshotState::Completed);
        let finished: Vec<String> = finished.map(|(id, _)| id.clone()).collect();
        for (id, lock) in ebs::locks(&account, &finished).await? {
            if let Some(seen) = states.get_mut(&id) {
                seen.lock = Some(lock);
            }
        }
        work.seen.snapshots.extend(states);
    }
    work.progress.snapshots(work.disks(request)?, &work.seen);
    Ok(())
}
