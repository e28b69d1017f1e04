//! What to do next with disks. Pure, as all of the decision.

use evidence::Exit;
use time::OffsetDateTime;

use super::super::Event;
use super::super::state::{CONSISTENCY, Seen, Step};
use super::{Act, Deed, Disk, Disks, Made, Role, Stage};

/// What EC2 says of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSeen {
    pub state: SnapshotState,
    /// In percent, as EC2 writes it: `42%`.
    pub progress: String,
    pub size_gib: u32,
    pub key: Option<String>,
    pub owner: String,
    /// Bytes of all blocks that were ever written.
    pub full_bytes: Option<i64>,
    /// Its lock, where it was asked for: the state, and until when.
    pub lock: Option<(String, String)>,
}

/// How far a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    Pending,
    Completed,
    /// With EC2's reason. A copy whose key can not be used ends so, long after the call has succeeded.
    Error(String),
    /// EC2 does not list it.
    Missing,
}

/// One thing to do with the disks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskStep {
    /// Make snapshots that certainly are not there.
    Make { role: Role, volumes: Vec<String> },
    /// Look whether snapshots that may have been made were.
    Find { number: u32 },
    /// Do something with a snapshot that is there. Done twice it changes nothing.
    Do { volume: String, deed: Deed },
    /// Look at the snapshots that EC2 is making, after a pause when that was done before.
    Look,
}

/// What a volume waits for.
enum Due {
    Make(Role),
    Find(u32),
    Do(Deed),
    Record(Box<Act>),
    /// For EC2.
    Time,
}

/// The steps that are due for the disks of one request. None: they are at rest.
pub(in super::super) fn steps(disks: &Disks, seen: &Seen, now: OffsetDateTime) -> Vec<Step> {
    if disks.given_up {
        return Vec::new();
    }
    let view = View { disks, seen, now };
    let (mut certain, mut originals, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let mut waits = false;
    let open = disks
        .disks
        .iter()
        .filter(|(_, disk)| disk.failure.is_none() && !disk.is_safe());
    for (volume, disk) in open {
        let volume = volume.clone();
        match view.due(disk) {
            Ok(()) => {}
            Err(Due::Time) => waits = true,
            // All volumes of a set say the same.
            Err(Due::Record(act)) if certain.contains(&*act) => {}
            Err(Due::Record(act)) => certain.push(*act),
            Err(Due::Make(Role::Original)) => originals.push(volume),
            Err(Due::Make(role)) => steps.push(DiskStep::Make {
                role,
                volumes: vec![volume],
            }),
            Err(Due::Find(number)) if steps.contains(&DiskStep::Find { number }) => {}
            Err(Due::Find(number)) => steps.push(DiskStep::Find { number }),
            Err(Due::Do(deed)) => steps.push(DiskStep::Do { volume, deed }),
        }
    }
    let request = &disks.request.id;
    if !certain.is_empty() {
        let record = |act| {
            Step::Record(Event::Snapshot {
                request: request.clone(),
                act,
            })
        };
        return certain.into_iter().map(record).collect();
    }
    if !originals.is_empty() {
        // Nothing comes before the moment that all of them are of.
        steps = vec![DiskStep::Make {
            role: Role::Original,
            volumes: originals,
        }];
    }
    if steps.is_empty() && waits {
        steps.push(DiskStep::Look);
    }
    let steps = steps.into_iter().map(|step| Step::Disks {
        request: request.clone(),
        step,
    });
    steps.collect()
}

struct View<'a> {
    disks: &'a Disks,
    seen: &'a Seen,
    now: OffsetDateTime,
}

impl View<'_> {
    /// The way of a volume, in order; it stops at the first thing that is due.
    fn due(&self, disk: &Disk) -> Result<(), Due> {
        if !disk.stages.contains_key(&Role::Copy) {
            self.to_be_copied(disk)?;
        }
        self.made(disk, Role::Copy)?;
        deed(disk, Deed::LockCopy)?;
        if !disk.done.contains(&Deed::Verify) {
            self.completed(disk, Role::Copy)?;
            self.verified(disk)?;
        }
        if disk.done.contains(&Deed::LockOriginal) {
            deed(disk, Deed::UnlockOriginal)?;
        }
        if disk.volume.reencrypt {
            deed(disk, Deed::DeleteShareable)?;
        }
        Ok(())
    }

    /// Up to a snapshot that the forensic account can copy.
    fn to_be_copied(&self, disk: &Disk) -> Result<(), Due> {
        let source = disk.source();
        if !disk.stages.contains_key(&source) || source == Role::Original {
            self.made(disk, Role::Original)?;
            if disk.loss.is_none() {
                deed(disk, Deed::LockOriginal)?;
            }
            self.completed(disk, Role::Original)?;
        }
        if source == Role::Shareable {
            self.made(disk, source)?;
            self.completed(disk, source)?;
        }
        if self.disks.request.shares() {
            deed(disk, Deed::Share)?;
        }
        Ok(())
    }

    /// Whether a snapshot was made.
    fn made(&self, disk: &Disk, role: Role) -> Result<(), Due> {
        let make = || match self.seen.busy_until {
            Some(until) if self.now < until => Due::Time,
            _ => Due::Make(role),
        };
        let Some(stage) = disk.stages.get(&role) else {
            return Err(make());
        };
        if stage.snapshot.is_some() {
            return Ok(());
        }
        let key = (self.disks.request.id.clone(), stage.number);
        if self.seen.not_made.contains(&key) {
            return Err(make());
        }
        // A call can take longer than what it made takes to show up: the time counts from the end of the call.
        let unanswered = self.seen.unanswered.get(&key).copied();
        let since = unanswered.map_or(stage.since, |ended| ended.max(stage.since));
        let patience_ends = self.now - since > CONSISTENCY;
        let found = self.seen.made.get(&key);
        Err(match found.map(Vec::as_slice) {
            Some([]) if patience_ends => make(),
            Some(found @ [_, ..]) if patience_ends || self.all_found(found, stage, role) => {
                Due::Record(Box::new(Act::Made {
                    role,
                    number: stage.number,
                    snapshots: found.to_vec(),
                }))
            }
            _ => Due::Find(stage.number),
        })
    }

    /// Whether each volume of a set was found: EC2 may list some of them later than others.
    fn all_found(&self, found: &[Made], stage: &Stage, role: Role) -> bool {
        let mut of_set = self.disks.disks.iter().filter(|(_, disk)| {
            disk.stages
                .get(&role)
                .is_some_and(|other| other.number == stage.number)
        });
        of_set.all(|(id, _)| found.iter().any(|made| made.volume == *id))
    }

    /// Whether EC2 has finished a snapshot.
    fn completed(&self, disk: &Disk, role: Role) -> Result<(), Due> {
        let stage = disk.stages.get(&role).ok_or(Due::Make(role))?;
        let seen = stage
            .snapshot
            .as_ref()
            .and_then(|id| self.seen.snapshots.get(id));
        let why = match seen.map(|seen| &seen.state) {
            Some(SnapshotState::Completed) => return Ok(()),
            Some(SnapshotState::Error(why)) => format!("EC2 could not make it: {why}"),
            Some(SnapshotState::Missing) if self.now - stage.since > CONSISTENCY => {
                "it is gone: somebody has deleted it".to_owned()
            }
            _ => return Err(Due::Time),
        };
        Err(failed(disk, role, None, Exit::Aws, why))
    }

    /// Whether a copy is what it has to be: what the forensic account has can be another's, of another size, under
    /// another key.
    fn verified(&self, disk: &Disk) -> Result<(), Due> {
        let stage = disk.stages.get(&Role::Copy).ok_or(Due::Make(Role::Copy))?;
        let id = stage.snapshot.as_ref().ok_or(Due::Time)?;
        let seen = self.seen.snapshots.get(id).ok_or(Due::Time)?;
        let Some(wrong) = self.unlike(disk, stage, seen) else {
            let (volume, snapshot) = (disk.volume.id.clone(), id.clone());
            let Some((lock, until)) = seen.lock.clone() else {
                // It was locked before it was looked at.
                let why = "its lock is gone: somebody has taken it off".to_owned();
                return Err(failed(
                    disk,
                    Role::Copy,
                    Some(Deed::LockCopy),
                    Exit::Altered,
                    why,
                ));
            };
            return Err(Due::Record(Box::new(Act::Verified {
                volume,
                snapshot,
                size_gib: seen.size_gib,
                key: stage.key.clone().unwrap_or_default(),
                full_bytes: seen.full_bytes,
                lock,
                until,
            })));
        };
        Err(failed(
            disk,
            Role::Copy,
            Some(Deed::Verify),
            Exit::Altered,
            wrong,
        ))
    }

    /// In what a copy is not what it has to be.
    fn unlike(&self, disk: &Disk, stage: &Stage, seen: &SnapshotSeen) -> Option<String> {
        let size = disk.volume.size_gib;
        if seen.size_gib != size {
            return Some(format!(
                "the copy has {} GiB, the volume {size}",
                seen.size_gib
            ));
        }
        if seen.key != stage.key {
            let found = seen.key.as_deref().unwrap_or("no key");
            let wanted = stage.key.as_deref().unwrap_or("none");
            return Some(format!(
                "the copy is encrypted with {found}, not with {wanted}"
            ));
        }
        let other = seen.owner != self.disks.request.forensic_account;
        other.then(|| format!("the copy belongs to account {}", seen.owner))
    }
}

fn deed(disk: &Disk, deed: Deed) -> Result<(), Due> {
    if disk.done.contains(&deed) {
        Ok(())
    } else {
        Err(Due::Do(deed))
    }
}

fn failed(disk: &Disk, role: Role, deed: Option<Deed>, exit: Exit, why: String) -> Due {
    Due::Record(Box::new(Act::Failed {
        volume: disk.volume.id.clone(),
        role,
        deed,
        code: exit.word().to_owned(),
        why,
    }))
}

#[cfg(test)]
#[path = "next_tests.rs"]
mod tests;
