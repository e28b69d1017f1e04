//! Disks of one instance on their way into the forensic account: what the journal says of each volume, and what that
//! amounts to.
//!
//! Each volume goes one way: `original` (a snapshot in the suspect's account, of the same moment for all volumes),
//! `shareable` (the same under a key that can be shared, only where the volume has the account's default key), `copy`
//! (in the forensic account, under its key, locked).

mod next;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub(super) use next::steps;
pub use next::{DiskStep, SnapshotSeen, SnapshotState};

/// The disks of an instance that were asked for, fixed when they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    /// Eight hexadecimal digits.
    pub id: String,
    /// Name of the instance's account in the configuration, and its id.
    pub account: String,
    pub account_id: String,
    pub region: String,
    pub instance: String,
    /// Account and region that get the copies.
    pub forensic_account: String,
    pub forensic_region: String,
    /// The volumes that were attached.
    pub volumes: Vec<Volume>,
    /// Disks that no snapshot will have, with the reason.
    pub uncovered: Vec<Uncovered>,
}

/// A volume that a snapshot can be made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    /// `/dev/sda1`; empty when it was attached after the request.
    pub device: String,
    /// Whether the instance boots from it.
    pub root: bool,
    pub size_gib: u32,
    /// ARN of its key; none when it is in clear.
    pub key: Option<String>,
    /// Whether it has to be encrypted anew before it can be shared: it has the account's default key.
    pub reencrypt: bool,
}

/// A disk without a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    pub what: String,
    pub why: String,
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Of the volume itself, in the account of the instance.
    Original,
    /// Of the original, under a key that can be shared; deleted once there is a copy.
    Shareable,
    /// In the forensic account, under its key.
    Copy,
}

impl Role {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Shareable => "shareable",
            Self::Copy => "copy",
        }
    }
}

/// What is done with a snapshot that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    LockOriginal,
    Share,
    LockCopy,
    Verify,
    UnlockOriginal,
    DeleteShareable,
}

/// One entry of the journal about snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Snapshots are about to be made: from here on they may be there, whether or not `Made` follows.
    Making {
        role: Role,
        /// By which they are found again; counts up within the request.
        number: u32,
        volumes: Vec<String>,
        /// The key that they get, if it is another than the source's.
        key: Option<String>,
    },
    /// They are there. A volume of `Making` that is not among them has none.
    Made {
        role: Role,
        number: u32,
        snapshots: Vec<Made>,
    },
    /// Nobody can delete it before that time.
    Locked {
        volume: String,
        role: Role,
        snapshot: String,
        mode: String,
        /// RFC 3339, UTC.
        until: String,
    },
    /// Another account can copy it.
    Shared {
        volume: String,
        snapshot: String,
        with: String,
    },
    /// The copy is whole, and what it has to be.
    Verified {
        volume: String,
        snapshot: String,
        size_gib: u32,
        key: String,
        /// Bytes of all blocks that were ever written, as EC2 counts them.
        full_bytes: Option<i64>,
    },
    /// The original may be deleted again: there is a copy.
    Unlocked { volume: String, snapshot: String },
    /// What stood between original and copy is gone.
    Deleted { volume: String, snapshot: String },
    /// The way of a volume ends here until it is tried again.
    Failed {
        volume: String,
        role: Role,
        /// None: the snapshot itself.
        deed: Option<Deed>,
        /// Word of the exit code.
        code: String,
        why: String,
    },
    /// The responder wants what failed to be tried again.
    Retried,
}

/// A snapshot that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub volume: String,
    pub snapshot: String,
    /// The snapshot that it is a copy of.
    pub source: Option<String>,
    pub size_gib: u32,
    pub encrypted: bool,
}

/// How far the disks of a request are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disks {
    pub request: DiskRequest,
    pub asked: OffsetDateTime,
    /// By volume.
    pub disks: BTreeMap<String, Disk>,
    /// The number of the next `Making`.
    pub number: u32,
}

/// How far a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub volume: Volume,
    pub stages: BTreeMap<Role, Stage>,
    pub done: BTreeSet<Deed>,
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
            request,
        }
    }

    /// Whether nothing is left to do, and nothing can be done without being asked.
    pub fn is_done(&self) -> bool {
        self.disks
            .values()
            .all(|disk| disk.failure.is_some() || disk.is_safe())
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
                match deed {
                    Some(Deed::LockOriginal) => disk.loss = Some(failed),
                    _ => disk.failure = Some(failed),
                }
            }
            Act::Retried => self.disks.values_mut().for_each(Disk::retry),
        }
        Some(())
    }

    fn did(&mut self, volume: &str, deed: Deed) -> Option<()> {
        self.disks.get_mut(volume)?.done.insert(deed);
        Some(())
    }

    fn made(&mut self, role: Role, number: u32, snapshots: Vec<Made>, time: OffsetDateTime) {
        for made in snapshots {
            // Whatever is attached is in the set, also what was attached after the request.
            let disk = self
                .disks
                .entry(made.volume.clone())
                .or_insert_with(|| Disk::unplanned(&made));
            if role == Role::Original {
                disk.volume.size_gib = made.size_gib;
            }
            let key = disk.stages.get(&role).and_then(|stage| stage.key.clone());
            let stage = Stage {
                number,
                since: time,
                key,
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
            failure: None,
            loss: None,
        }
    }

    /// Of a volume that nobody asked for. What is not known of its key is assumed for the worst.
    fn unplanned(made: &Made) -> Self {
        Self::new(Volume {
            id: made.volume.clone(),
            device: String::new(),
            root: false,
            size_gib: made.size_gib,
            key: None,
            reencrypt: made.encrypted,
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

    /// Whether the copy is there, whole and locked, and nothing is left over.
    pub fn is_safe(&self) -> bool {
        let last = match (
            self.volume.reencrypt,
            self.done.contains(&Deed::LockOriginal),
        ) {
            (true, _) => Deed::DeleteShareable,
            (false, true) => Deed::UnlockOriginal,
            (false, false) => Deed::Verify,
        };
        self.done.contains(&Deed::LockCopy)
            && self.done.contains(&Deed::Verify)
            && self.done.contains(&last)
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
            Some(_) => return,
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
