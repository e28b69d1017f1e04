//! Disks of one instance on their way into the forensic account: what the journal says of each volume, and what that
//! amounts to.
//!
//! Each volume goes one way: `original` (a snapshot in the suspect's account, of the same moment for all volumes),
//! `shareable` (the same under a key that can be shared, only where the volume has the account's default key), `copy`
//! (in the forensic account, under its key, locked).

mod act;
mod next;

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

pub use act::{Act, Deed, DiskRequest, Made, Role, Uncovered, Volume};
pub(super) use next::steps;
pub use next::{DiskStep, SnapshotSeen, SnapshotState};

/// How far the disks of a request are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disks {
    pub request: DiskRequest,
    pub asked: OffsetDateTime,
    /// By volume.
    pub disks: BTreeMap<String, Disk>,
    /// The number of the next `Making`.
    pub number: u32,
    pub given_up: bool,
}

/// How far a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub volume: Volume,
    pub stages: BTreeMap<Role, Stage>,
    pub done: BTreeSet<Deed>,
    /// What is being done now, or was when a process ended.
    pub doing: Option<Deed>,
    /// Why its way has ended before its end.
    pub failure: Option<Failed>,
    /// What was given up without ending its way: the lock of the original.
    pub loss: Option<Failed>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub role: Role,
    pub deed: Option<Deed>,
    pub code: String,
    pub why: String,
}

/// A snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub number: u32,
    /// When it was announced last, or made.
    pub since: OffsetDateTime,
    pub key: Option<String>,
    /// None: it may be there, nobody knows yet.
    pub snapshot: Option<String>,
}

impl Disks {
    pub(super) fn new(request: DiskRequest, asked: OffsetDateTime) -> Self {
        let volumes = request.volumes.iter();
        Self {
            asked,
            disks: volumes
                .map(|volume| (volume.id.clone(), Disk::new(volume.clone())))
                .collect(),
            number: 0,
            given_up: false,
            request,
        }
    }

    /// Whether nothing is left to do, and nothing can be done without being asked.
    pub fn is_done(&self) -> bool {
        let mut disks = self.disks.values();
        self.given_up || disks.all(|disk| disk.failure.is_some() || disk.is_safe())
    }

    /// The last snapshot of each volume that is not at its end, where it has one of these roles: what EC2 has to be asked
    /// about.
    pub(crate) fn awaited(&self, roles: &[Role]) -> Vec<String> {
        let open = self
            .disks
            .values()
            .filter(|disk| disk.failure.is_none() && !disk.is_safe());
        let last = open.filter_map(|disk| disk.stages.iter().next_back());
        let last = last.filter(|(role, _)| roles.contains(role));
        last.filter_map(|(_, stage)| stage.snapshot.clone())
            .collect()
    }

    /// Takes one more entry. `None`: it names a volume that is not there.
    pub(super) fn apply(&mut self, act: Act, time: OffsetDateTime) -> Option<()> {
        match act {
            Act::Making {
                role,
                number,
                volumes,
                key,
            } => {
                self.number = self.number.max(number + 1);
                for volume in volumes {
                    let stage = Stage {
                        number,
                        since: time,
                        key: key.clone(),
                        snapshot: None,
                    };
                    self.disks.get_mut(&volume)?.stages.insert(role, stage);
                }
            }
            Act::Made {
                role,
                number,
                snapshots,
            } => self.made(role, number, snapshots, time),
            Act::Doing { volume, deed, .. } => {
                self.disks.get_mut(&volume)?.doing = Some(deed);
            }
            Act::Locked { volume, role, .. } => {
                let deed = if role == Role::Copy {
                    Deed::LockCopy
                } else {
                    Deed::LockOriginal
                };
                self.did(&volume, deed)?;
            }
            Act::Shared { volume, .. } => self.did(&volume, Deed::Share)?,
            Act::Verified { volume, .. } => self.did(&volume, Deed::Verify)?,
            Act::Unlocked { volume, .. } => self.did(&volume, Deed::UnlockOriginal)?,
            Act::Deleted { volume, .. } => self.did(&volume, Deed::DeleteShareable)?,
            Act::Failed {
                volume,
                role,
                deed,
                code,
                why,
            } => {
                let failed = Failed {
                    role,
                    deed,
                    code,
                    why,
                };
                let disk = self.disks.get_mut(&volume)?;
                disk.doing = None;
                match deed {
                    Some(Deed::LockOriginal) => disk.loss = Some(failed),
                    _ => disk.failure = Some(failed),
                }
            }
            Act::Retried => self.disks.values_mut().for_each(Disk::retry),
            Act::GivenUp => self.given_up = true,
        }
        Some(())
    }

    fn did(&mut self, volume: &str, deed: Deed) -> Option<()> {
        let disk = self.disks.get_mut(volume)?;
        disk.done.insert(deed);
        disk.doing = None;
        Some(())
    }

    fn made(&mut self, role: Role, number: u32, snapshots: Vec<Made>, time: OffsetDateTime) {
        let shares = self.request.shares();
        for made in snapshots {
            // Whatever is attached is in the set, also what was attached after the request.
            let disk = self
                .disks
                .entry(made.volume.clone())
                .or_insert_with(|| Disk::unplanned(&made, shares));
            if role == Role::Original {
                disk.volume.size_gib = made.size_gib;
            }
            let before = disk.stages.get(&role);
            let stage = Stage {
                number,
                since: time,
                key: before.and_then(|stage| stage.key.clone()),
                snapshot: Some(made.snapshot),
            };
            disk.stages.insert(role, stage);
        }
        let left_out = |disk: &&mut Disk| {
            disk.stages
                .get(&role)
                .is_some_and(|stage| stage.number == number && stage.snapshot.is_none())
        };
        for disk in self.disks.values_mut().filter(left_out) {
            disk.failure = Some(Failed {
                role,
                deed: None,
                code: evidence::Exit::Partial.word().to_owned(),
                why: "it was no longer attached when the snapshots were made".to_owned(),
            });
        }
    }
}

impl Disk {
    fn new(volume: Volume) -> Self {
        Self {
            volume,
            stages: BTreeMap::new(),
            done: BTreeSet::new(),
            doing: None,
            failure: None,
            loss: None,
        }
    }

    /// Of a volume that nobody asked for. What is not known of its key is assumed for the worst.
    fn unplanned(made: &Made, shares: bool) -> Self {
        Self::new(Volume {
            id: made.volume.clone(),
            device: String::new(),
            root: false,
            size_gib: made.size_gib,
            key: None,
            reencrypt: made.encrypted && shares,
        })
    }

    /// The snapshot in this role, if there is one.
    pub fn snapshot(&self, role: Role) -> Option<&str> {
        self.stages.get(&role)?.snapshot.as_deref()
    }

    /// The snapshot that the forensic account copies.
    pub fn source(&self) -> Role {
        if self.volume.reencrypt {
            Role::Shareable
        } else {
            Role::Original
        }
    }

    /// Whether the copy is there, compared and locked.
    pub fn is_copied(&self) -> bool {
        self.done.contains(&Deed::LockCopy) && self.done.contains(&Deed::Verify)
    }

    /// Whether the copy is there, compared and locked, and nothing is left over.
    pub fn is_safe(&self) -> bool {
        let last = match (
            self.volume.reencrypt,
            self.done.contains(&Deed::LockOriginal),
        ) {
            (true, _) => Deed::DeleteShareable,
            (false, true) => Deed::UnlockOriginal,
            (false, false) => Deed::Verify,
        };
        self.is_copied() && self.done.contains(&last)
    }

    /// Whether something failed that can be tried again. An original does without a lock once there is a copy.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some() || (self.loss.is_some() && !self.stages.contains_key(&Role::Copy))
    }

    /// Forgets what failed, and the snapshot that it failed with.
    fn retry(&mut self) {
        if !self.stages.contains_key(&Role::Copy) {
            self.loss = None;
        }
        let Some(failed) = self.failure.take() else {
            return;
        };
        let spoiled = match failed.deed {
            None => failed.role,
            Some(Deed::Verify) => Role::Copy,
            Some(deed) => {
                self.done.remove(&deed);
                return;
            }
        };
        self.stages.remove(&spoiled);
        if spoiled == Role::Copy {
            self.done.remove(&Deed::LockCopy);
        }
        if spoiled == Role::Original {
            self.done.remove(&Deed::LockOriginal);
        }
        if spoiled == self.source() {
            self.done.remove(&Deed::Share);
        }
    }
}
