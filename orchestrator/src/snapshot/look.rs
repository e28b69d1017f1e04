//! Looking at the snapshots that EC2 is making.

use crate::aws::ebs;
use crate::case::{Disks, Role};
use crate::failure::Failure;
use crate::run::Work;

/// Looks at all snapshots that a request waits for, after a pause when that was done before.
///
/// # Errors
/// When EC2 refuses.
pub(super) async fn look(work: &mut Work<'_>, request: &str) -> Result<(), Failure> {
    if !work.seen.looked.insert(request.to_owned()) {
        work.pause().await;
    }
    let disks = work.disks(request)?.clone();
    let suspects = awaited(&disks, &[Role::Original, Role::Shareable]);
    if !suspects.is_empty() {
        let account = work.account_of(request, Role::Original).await?;
        work.seen
            .snapshots
            .extend(ebs::states(&account, &suspects).await?);
    }
    let copies = awaited(&disks, &[Role::Copy]);
    if !copies.is_empty() {
        let account = work.account_of(request, Role::Copy).await?;
        work.seen
            .snapshots
            .extend(ebs::states(&account, &copies).await?);
    }
    work.progress.snapshots(work.disks(request)?, &work.seen);
    Ok(())
}

/// The snapshot of each volume that has to be finished before anything else, where it has one of these roles.
fn awaited(disks: &Disks, roles: &[Role]) -> Vec<String> {
    let open = disks
        .disks
        .values()
        .filter(|disk| disk.failure.is_none() && !disk.is_safe());
    let last = open.filter_map(|disk| disk.stages.iter().next_back());
    let last = last.filter(|(role, _)| roles.contains(role));
    last.filter_map(|(_, stage)| stage.snapshot.clone())
        .collect()
}
