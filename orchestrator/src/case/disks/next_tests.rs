//! The decision about disks against an EC2 in memory: whatever is cut wherever, no snapshot is made twice.

use std::collections::BTreeMap;

use time::Duration;

use super::*;
use crate::case::mortal::{Killed, Mortal};
use crate::case::{DiskRequest, Timing, Volume, next};

const FORENSIC: &str = "333333333333";
const KEY: &str = "arn:aws:kms:r:3:key/k";

/// A snapshot of the EC2 in memory.
#[derive(Clone, Debug)]
struct There {
    id: String,
    number: u32,
    volume: String,
    role: Role,
    seen: SnapshotSeen,
    locked: bool,
    shared: bool,
    deleted: bool,
}

#[derive(Clone)]
struct World {
    mortal: Mortal,
    snapshots: Vec<There>,
    /// The next copies end so.
    copies_fail: usize,
    /// EC2 does not lock originals.
    no_lock: bool,
}

fn volume(id: &str, reencrypt: bool) -> Volume {
    let key = reencrypt.then(|| "arn:default".to_owned());
    Volume {
        id: id.into(),
        device: "/dev/sdf".into(),
        root: false,
        size_gib: 8,
        key,
        reencrypt,
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            mortal: Mortal::new(),
            snapshots: Vec::new(),
            copies_fail: 0,
            no_lock: false,
        };
        let request = DiskRequest {
            id: "0a0b0c0d".into(),
            account: "web".into(),
            account_id: "222222222222".into(),
            region: "r".into(),
            instance: "i-1".into(),
            forensic_account: FORENSIC.into(),
            forensic_region: "r".into(),
            volumes: vec![volume("vol-a", false), volume("vol-b", true)],
            uncovered: Vec::new(),
        };
        world
            .mortal
            .append(&Event::DisksRequested(Box::new(request)))
            .unwrap();
        world
    }

    fn act(&mut self, act: Act) -> Result<(), Killed> {
        self.mortal.append(&Event::Snapshot {
            request: "0a0b0c0d".into(),
            act,
        })
    }

    fn disks(&self) -> Disks {
        self.mortal.case().disks.remove(0)
    }

    /// A process from its start to rest, or to its end.
    fn process(&mut self) -> Result<(), Killed> {
        let timing = Timing {
            silence: Duration::seconds(60),
            renew_before: Duration::minutes(15),
        };
        let mut seen = Seen::default();
        for _ in 0..10_000 {
            let case = self.mortal.case();
            let steps = next(&case, &seen, &timing, self.mortal.now);
            if steps.is_empty() {
                return Ok(());
            }
            for step in steps {
                match step {
                    Step::Record(event) => self.mortal.append(&event)?,
                    Step::Disks { step, .. } => self.perform(step, &mut seen)?,
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("it never comes to rest: {:#?}", self.disks());
    }

    fn perform(&mut self, step: DiskStep, seen: &mut Seen) -> Result<(), Killed> {
        match step {
            DiskStep::Make { role, volumes } => self.make(role, volumes, seen),
            DiskStep::Find { number } => {
                self.mortal.tick()?;
                self.mortal.now += Duration::seconds(5);
                let found = self
                    .snapshots
                    .iter()
                    .filter(|it| it.number == number && !it.deleted);
                seen.made.insert(
                    ("0a0b0c0d".into(), number),
                    found.map(There::made).collect(),
                );
                Ok(())
            }
            DiskStep::Do { volume, deed } => self.deed(volume, deed),
            DiskStep::Look => {
                self.mortal.tick()?;
                self.mortal.now += Duration::seconds(5);
                let awaited = self
                    .disks()
                    .awaited(&[Role::Original, Role::Shareable, Role::Copy]);
                for it in self
                    .snapshots
                    .iter_mut()
                    .filter(|it| awaited.contains(&it.id))
                {
                    if it.seen.state == SnapshotState::Pending {
                        it.seen.state = SnapshotState::Completed;
                    }
                    it.seen.lock = it.locked.then(|| ("governance".into(), "2027".into()));
                    seen.snapshots.insert(it.id.clone(), it.seen.clone());
                }
                Ok(())
            }
        }
    }

    fn make(&mut self, role: Role, volumes: Vec<String>, seen: &mut Seen) -> Result<(), Killed> {
        let disks = self.disks();
        let key = (role != Role::Original).then(|| KEY.to_owned());
        let stage = disks.disks[&volumes[0]].stages.get(&role);
        let number = stage.map_or(disks.number, |stage| stage.number);
        self.act(Act::Making {
            role,
            number,
            volumes: volumes.clone(),
            key: key.clone(),
        })?;
        seen.made.remove(&("0a0b0c0d".into(), number));
        self.mortal.tick()?;
        let fails = role == Role::Copy && self.copies_fail > 0;
        self.copies_fail -= usize::from(fails);
        let made: Vec<There> = volumes
            .into_iter()
            .enumerate()
            .map(|(place, volume)| There {
                id: format!("snap-{}", self.snapshots.len() + place),
                number,
                volume,
                role,
                seen: SnapshotSeen {
                    state: if fails {
                        SnapshotState::Error("key".into())
                    } else {
                        SnapshotState::Pending
                    },
                    key: key.clone(),
                    owner: if role == Role::Copy {
                        FORENSIC.into()
                    } else {
                        "222222222222".into()
                    },
                    ..copy()
                },
                locked: false,
                shared: false,
                deleted: false,
            })
            .collect();
        self.snapshots.extend(made.clone());
        let snapshots = made.iter().map(There::made).collect();
        self.act(Act::Made {
            role,
            number,
            snapshots,
        })
    }

    fn deed(&mut self, volume: String, deed: Deed) -> Result<(), Killed> {
        self.mortal.tick()?;
        let disks = self.disks();
        let role = match deed {
            Deed::LockOriginal | Deed::UnlockOriginal => Role::Original,
            Deed::Share => disks.disks[&volume].source(),
            Deed::DeleteShareable => Role::Shareable,
            Deed::LockCopy | Deed::Verify => Role::Copy,
        };
        let snapshot = disks.disks[&volume].snapshot(role).unwrap().to_owned();
        if disks.disks[&volume].doing != Some(deed) {
            self.act(Act::Doing {
                volume: volume.clone(),
                deed,
                snapshot: snapshot.clone(),
            })?;
        }
        let no_lock = self.no_lock;
        let it = self
            .snapshots
            .iter_mut()
            .find(|it| it.id == snapshot)
            .unwrap();
        let act = match deed {
            Deed::LockOriginal if no_lock => Act::Failed {
                volume,
                role,
                deed: Some(deed),
                code: "denied".into(),
                why: "no".into(),
            },
            Deed::LockOriginal | Deed::LockCopy => {
                it.locked = true;
                Act::Locked {
                    volume,
                    role,
                    snapshot,
                    mode: "governance".into(),
                    until: String::new(),
                }
            }
            Deed::Share => {
                it.shared = true;
                Act::Shared {
                    volume,
                    snapshot,
                    with: FORENSIC.into(),
                }
            }
            Deed::UnlockOriginal => {
                it.locked = false;
                Act::Unlocked { volume, snapshot }
            }
            Deed::DeleteShareable => {
                it.deleted = true;
                Act::Deleted { volume, snapshot }
            }
            Deed::Verify => panic!("nothing is done to verify"),
        };
        self.act(act)
    }

    fn of(&self, role: Role) -> Vec<&There> {
        let of_role = self.snapshots.iter().filter(|it| it.role == role);
        of_role
            .filter(|it| !matches!(it.seen.state, SnapshotState::Error(_)))
            .collect()
    }

    /// Three snapshots of each kind there should be, no more.
    #[track_caller]
    fn assert_whole(&self, what: &str) {
        let disks = self.disks();
        assert!(
            disks.disks.values().all(Disk::is_safe),
            "{what}: {disks:#?}"
        );
        let count = |role| self.of(role).len();
        assert_eq!(
            (
                count(Role::Original),
                count(Role::Shareable),
                count(Role::Copy)
            ),
            (2, 1, 2),
            "{what}"
        );
        assert!(
            self.of(Role::Copy)
                .iter()
                .all(|it| it.locked && !it.deleted),
            "{what}"
        );
        assert!(
            self.of(Role::Original)
                .iter()
                .all(|it| !it.locked && !it.deleted),
            "{what}"
        );
        assert!(
            self.of(Role::Shareable)
                .iter()
                .all(|it| it.shared && it.deleted),
            "{what}"
        );
    }
}

/// A copy as it has to be.
fn copy() -> SnapshotSeen {
    SnapshotSeen {
        state: SnapshotState::Pending,
        progress: String::new(),
        size_gib: 8,
        key: Some(KEY.into()),
        owner: FORENSIC.into(),
        full_bytes: None,
        lock: None,
    }
}

impl There {
    fn made(&self) -> Made {
        Made {
            volume: self.volume.clone(),
            snapshot: self.id.clone(),
            source: None,
            started: None,
            size_gib: 8,
            encrypted: self.seen.key.is_some(),
        }
    }
}

#[test]
fn killed_anywhere_and_resumed_no_snapshot_is_made_twice() {
    let mut whole = World::new();
    whole.process().unwrap();
    whole.assert_whole("undisturbed");
    assert_eq!(
        steps(&whole.disks(), &Seen::default(), whole.mortal.now),
        [],
        "what is done is at rest"
    );
    let mut kills = 0;
    for first in 0.. {
        let mut world = World::new();
        world.mortal.left = Some(first);
        if world.process().is_ok() {
            break;
        }
        kills += 1;
        for second in 0..6 {
            let mut again = world.clone();
            again.mortal.left = Some(second);
            let _ = again.process();
            again.mortal.left = None;
            again.process().unwrap();
            again.assert_whole(&format!("killed at {first} and {second}"));
        }
    }
    assert!(kills > 30, "{kills}");
}

#[test]
fn the_set_comes_before_anything_else_and_is_one_call() {
    let world = World::new();
    let steps = steps(&world.disks(), &Seen::default(), world.mortal.now);
    let all = vec!["vol-a".to_owned(), "vol-b".to_owned()];
    let step = DiskStep::Make {
        role: Role::Original,
        volumes: all,
    };
    assert_eq!(
        steps,
        [Step::Disks {
            request: "0a0b0c0d".into(),
            step
        }]
    );
}

#[test]
fn a_call_that_ends_without_an_answer_has_its_time_to_show_up_after_it() {
    let mut world = World::new();
    let volumes = vec!["vol-a".to_owned(), "vol-b".to_owned()];
    world
        .act(Act::Making {
            role: Role::Original,
            number: 0,
            volumes: volumes.clone(),
            key: None,
        })
        .unwrap();
    let key = ("0a0b0c0d".to_owned(), 0);
    let ended = world.mortal.now + Duration::minutes(1);
    let mut seen = Seen::default();
    seen.unanswered.insert(key.clone(), ended);
    seen.made.insert(key, Vec::new());
    let step = |now| match steps(&world.disks(), &seen, now).as_slice() {
        [Step::Disks { step, .. }] => step.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(step(ended), DiskStep::Find { number: 0 });
    let role = Role::Original;
    let make = DiskStep::Make { role, volumes };
    assert_eq!(step(ended + CONSISTENCY + Duration::seconds(1)), make);
}

#[test]
fn a_copy_that_fails_long_after_the_call_is_named_and_made_again_only_when_asked() {
    let mut world = World::new();
    world.copies_fail = 1;
    world.process().unwrap();
    let failed = |world: &World| {
        world
            .disks()
            .disks
            .values()
            .filter_map(|disk| disk.failure.clone())
            .collect::<Vec<_>>()
    };
    let failures = failed(&world);
    assert_eq!(failures.len(), 1, "the other volume goes on");
    assert!(failures[0].why.contains("key"), "{failures:?}");
    assert_eq!(world.of(Role::Copy).len(), 1);
    assert!(world.disks().is_done());
    world.process().unwrap();
    assert_eq!(failed(&world).len(), 1, "it is not tried again by itself");
    world.act(Act::Retried).unwrap();
    world.process().unwrap();
    world.assert_whole("after it was tried again");
}

#[test]
fn an_original_that_can_not_be_locked_is_copied_all_the_same() {
    let mut world = World::new();
    world.no_lock = true;
    world.process().unwrap();
    world.assert_whole("without locks");
    assert!(world.disks().disks.values().all(|disk| disk.loss.is_some()));
    world.act(Act::Retried).unwrap();
    let disks = world.disks().disks;
    assert!(
        disks
            .values()
            .all(|disk| disk.loss.is_some() && !disk.has_failed())
    );
}

#[test]
fn the_lock_of_an_original_is_tried_again_while_there_is_no_copy() {
    let mut world = World::new();
    let made = |volume: &str| Made {
        volume: volume.into(),
        snapshot: format!("snap-{volume}"),
        source: None,
        started: None,
        size_gib: 8,
        encrypted: false,
    };
    let (role, number) = (Role::Original, 0);
    let snapshots = vec![made("vol-a"), made("vol-b")];
    world
        .act(Act::Made {
            role,
            number,
            snapshots,
        })
        .unwrap();
    let failed = Act::Failed {
        volume: "vol-a".into(),
        role,
        deed: Some(Deed::LockOriginal),
        code: "denied".into(),
        why: "denied".into(),
    };
    world.act(failed).unwrap();
    assert!(world.disks().disks["vol-a"].has_failed());
    world.act(Act::Retried).unwrap();
    let locks = steps(&world.disks(), &Seen::default(), world.mortal.now);
    assert_eq!(locks.len(), 2, "{locks:?}");
}

#[test]
fn a_copy_of_another_size_key_or_owner_is_not_taken() {
    let changes: [(&str, SnapshotSeen); 3] = [
        (
            "GiB",
            SnapshotSeen {
                size_gib: 9,
                ..copy()
            },
        ),
        (
            "encrypted",
            SnapshotSeen {
                key: Some("arn:other".into()),
                ..copy()
            },
        ),
        (
            "belongs",
            SnapshotSeen {
                owner: "444444444444".into(),
                ..copy()
            },
        ),
    ];
    for (word, change) in changes {
        let mut world = World::new();
        // Just after the first copy is begun.
        world.mortal.left = (1..).find(|left| {
            let mut other = World::new();
            other.mortal.left = Some(*left);
            let _ = other.process();
            !other.of(Role::Copy).is_empty()
        });
        let _ = world.process();
        let first = world
            .snapshots
            .iter_mut()
            .find(|it| it.role == Role::Copy)
            .unwrap();
        first.seen = change;
        world.mortal.left = None;
        world.process().unwrap();
        let disks = world.disks();
        let failure = disks
            .disks
            .values()
            .find_map(|disk| disk.failure.as_ref())
            .unwrap();
        assert!(
            failure.why.contains(word) && failure.deed == Some(Deed::Verify),
            "{failure:?}"
        );
        assert!(
            world.of(Role::Original).iter().any(|it| it.locked),
            "the original stays locked"
        );
    }
}

#[test]
fn a_copy_whose_lock_was_taken_off_is_named_and_locked_again_on_request() {
    let mut world = World::new();
    world.mortal.left = (1..).find(|left| {
        let mut other = World::new();
        other.mortal.left = Some(*left);
        let _ = other.process();
        other.of(Role::Copy).iter().any(|copy| copy.locked)
    });
    world.mortal.left = world.mortal.left.map(|left| left + 1);
    let _ = world.process();
    let locked = world.snapshots.iter_mut();
    locked
        .filter(|it| it.role == Role::Copy)
        .for_each(|it| it.locked = false);
    world.mortal.left = None;
    world.process().unwrap();
    let disks = world.disks().disks;
    let failure = disks.values().find_map(|disk| disk.failure.as_ref());
    let failure = failure.unwrap();
    assert!(failure.why.contains("lock is gone"), "{failure:?}");
    world.act(Act::Retried).unwrap();
    world.process().unwrap();
    world.assert_whole("locked again");
}

#[test]
fn a_busy_ec2_is_left_alone_for_a_while_and_nothing_is_announced_again() {
    let mut world = World::new();
    let volumes = vec!["vol-a".to_owned(), "vol-b".to_owned()];
    let role = Role::Original;
    world
        .act(Act::Making {
            role,
            number: 0,
            volumes: volumes.clone(),
            key: None,
        })
        .unwrap();
    let mut seen = Seen::default();
    seen.not_made.insert(("0a0b0c0d".into(), 0));
    seen.busy_until = Some(world.mortal.now + Duration::seconds(30));
    let waits = steps(&world.disks(), &seen, world.mortal.now);
    assert!(
        waits.iter().all(Step::is_wait) && !waits.is_empty(),
        "{waits:?}"
    );
    let later = steps(
        &world.disks(),
        &seen,
        world.mortal.now + Duration::minutes(1),
    );
    let step = DiskStep::Make { role, volumes };
    let request = "0a0b0c0d".into();
    assert_eq!(
        later,
        [Step::Disks { request, step }],
        "it is certain: nothing is looked for"
    );
}

#[test]
fn what_is_given_up_is_at_rest() {
    let mut world = World::new();
    world.act(Act::GivenUp).unwrap();
    assert!(world.disks().is_done());
    assert_eq!(
        steps(&world.disks(), &Seen::default(), world.mortal.now),
        []
    );
}

#[test]
fn a_snapshot_that_somebody_deletes_is_named() {
    let mut world = World::new();
    let mut seen = Seen::default();
    for step in steps(&world.disks(), &seen, world.mortal.now) {
        let Step::Disks { step, .. } = step else {
            panic!()
        };
        world.perform(step, &mut seen).unwrap();
    }
    for id in ["snap-0", "snap-1"] {
        let gone = SnapshotSeen {
            state: SnapshotState::Missing,
            ..world.snapshots[0].seen.clone()
        };
        seen.snapshots.insert(id.into(), gone);
    }
    for volume in ["vol-a", "vol-b"] {
        world.deed(volume.into(), Deed::LockOriginal).unwrap();
    }
    let soon = steps(&world.disks(), &seen, world.mortal.now);
    assert!(
        soon.iter().all(Step::is_wait),
        "it may only not be listed yet: {soon:?}"
    );
    let later = steps(
        &world.disks(),
        &seen,
        world.mortal.now + Duration::minutes(1),
    );
    let told = format!("{later:?}");
    assert!(told.contains("somebody has deleted it"), "{told}");
}

#[test]
fn volumes_that_come_and_go_between_the_request_and_the_call_are_told_apart() {
    let mut world = World::new();
    let volumes = vec!["vol-a".to_owned(), "vol-b".to_owned()];
    world
        .act(Act::Making {
            role: Role::Original,
            number: 0,
            volumes,
            key: None,
        })
        .unwrap();
    let made = |volume: &str, encrypted| Made {
        volume: volume.into(),
        snapshot: format!("snap-of-{volume}"),
        source: None,
        started: None,
        size_gib: 4,
        encrypted,
    };
    let snapshots = vec![made("vol-a", false), made("vol-c", true)];
    world
        .act(Act::Made {
            role: Role::Original,
            number: 0,
            snapshots,
        })
        .unwrap();
    let disks: BTreeMap<String, Disk> = world.disks().disks;
    assert!(
        disks["vol-b"]
            .failure
            .as_ref()
            .unwrap()
            .why
            .contains("no longer attached")
    );
    assert!(
        disks["vol-c"].volume.reencrypt,
        "of a key that nobody knows the worst is assumed"
    );
    assert_eq!(disks["vol-a"].volume.size_gib, 4);
}
