//! The decision against a world in memory: whatever is cut wherever, the end is the same and nothing is sent twice.

use evidence::{Digest, Exit};

use super::*;
use crate::case::mortal::{Killed, Mortal, START};
use crate::case::{Grant, Request};

const TIMING: Timing = Timing {
    silence: Duration::seconds(60),
    renew_before: Duration::minutes(15),
};

/// SSM, STS and the bucket, and the journal that outlives a process.
struct World {
    mortal: Mortal,
    /// Comment and id of each command that SSM took.
    commands: Vec<((String, usize), String)>,
    parameters: BTreeSet<String>,
    /// What SSM and the bucket will say of each instance, once there is a command.
    fates: BTreeMap<String, (Invocation, Option<Arrival>)>,
}

fn request(instances: &[&str]) -> Request {
    Request {
        id: "0a0b0c0d".into(),
        account: "web".into(),
        account_id: "222222222222".into(),
        region: "eu-central-1".into(),
        tag: None,
        instances: instances.iter().map(|id| (*id).to_owned()).collect(),
        refused: Vec::new(),
        collection: "c-1".parse().unwrap(),
        document: "D".into(),
        document_sha256: Digest::of(b"d"),
        agent_sha256: Digest::of(b"a"),
        agent_source: "/a".into(),
        credentials: Credentials::Session,
        arguments: Vec::new(),
        start_within: 600,
        run_within: 3600,
        max_concurrency: "50".into(),
        max_errors: "100%".into(),
    }
}

fn ended(status: &str, code: i32) -> Invocation {
    Invocation {
        status: status.into(),
        code: Some(code),
        output: String::new(),
    }
}

fn arrival(segments: u64, manifest: bool) -> Arrival {
    Arrival {
        segments,
        bytes: 0,
        manifest,
        changed: START,
    }
}

impl World {
    fn new(fates: &[(&str, Invocation, Option<Arrival>)]) -> Self {
        let ids: Vec<&str> = fates.iter().map(|(id, _, _)| *id).collect();
        let mut world = Self {
            mortal: Mortal::new(),
            commands: Vec::new(),
            parameters: BTreeSet::new(),
            fates: fates
                .iter()
                .map(|(id, invocation, arrival)| ((*id).to_owned(), (invocation.clone(), *arrival)))
                .collect(),
        };
        world
            .mortal
            .append(&Event::Requested(Box::new(request(&ids))))
            .unwrap();
        world
    }

    /// A process from its start to rest, or to its end.
    fn process(&mut self) -> Result<(), Killed> {
        let mut seen = Seen::default();
        for _ in 0..10_000 {
            let steps = next(&self.mortal.case(), &seen, &TIMING, self.mortal.now);
            if steps.is_empty() {
                return Ok(());
            }
            for step in steps {
                self.perform(step, &mut seen)?;
            }
        }
        panic!("it never comes to rest: {:#?}", self.mortal.case());
    }

    fn perform(&mut self, step: Step, seen: &mut Seen) -> Result<(), Killed> {
        match step {
            Step::Authorise { request, instances } => {
                self.mortal.tick()?;
                self.parameters.extend(instances.iter().cloned());
                let expires = crate::custody::text_of(self.mortal.now + Duration::hours(1));
                let grants = instances.into_iter().map(|instance| Grant {
                    instance,
                    access_key_id: "ASIA".into(),
                    expires: expires.clone(),
                });
                self.mortal.append(&Event::Authorised {
                    request,
                    grants: grants.collect(),
                })
            }
            Step::Withdraw { request, instances } => {
                self.mortal.tick()?;
                instances.iter().for_each(|instance| {
                    self.parameters.remove(instance);
                });
                self.mortal.append(&Event::Withdrawn { request, instances })
            }
            Step::Send { request, batch } => {
                self.mortal.append(&Event::Sending {
                    request: request.clone(),
                    batch,
                })?;
                seen.lookups.remove(&(request.clone(), batch));
                self.mortal.tick()?;
                let command = format!("command-{}", self.commands.len());
                self.commands
                    .push(((request.clone(), batch), command.clone()));
                self.mortal.append(&Event::Sent {
                    request,
                    batch,
                    command,
                })
            }
            Step::Find { request, batch } => {
                self.mortal.tick()?;
                let key = (request, batch);
                let found = self
                    .commands
                    .iter()
                    .find(|(comment, _)| *comment == key)
                    .map(|(_, id)| id.clone());
                seen.lookups.insert(key, found);
                Ok(())
            }
            Step::Look { request } => self.look(&request, seen),
            Step::Cancel { request, .. } => {
                seen.cancelled.insert(request);
                Ok(())
            }
            Step::ReadOutput {
                request, instance, ..
            } => {
                seen.outputs.insert((request, instance));
                Ok(())
            }
            Step::Record(event) => self.mortal.append(&event),
            Step::Disks { .. } => panic!("nobody asked for disks"),
        }
    }

    fn look(&mut self, request: &str, seen: &mut Seen) -> Result<(), Killed> {
        self.mortal.tick()?;
        self.mortal.now += Duration::seconds(5);
        seen.looked.insert(request.to_owned());
        if self.commands.is_empty() {
            return Ok(());
        }
        let case = self.mortal.case();
        for (id, (invocation, arrival)) in &self.fates {
            seen.invocations
                .insert((request.to_owned(), id.clone()), invocation.clone());
            let prefix = case.prefix(&case.requests[0].request, id);
            if let Some(arrival) = arrival {
                let known = seen.arrived.get(&prefix).copied();
                seen.arrived.insert(
                    prefix,
                    known.unwrap_or(Arrival {
                        changed: self.mortal.now,
                        ..*arrival
                    }),
                );
            }
        }
        Ok(())
    }

    fn outcomes(&self) -> Vec<(String, Outcome)> {
        let case = self.mortal.case();
        let hosts = case.requests[0].hosts.iter();
        hosts
            .map(|(id, host)| (id.clone(), host.ended.as_ref().expect("ended").outcome))
            .collect()
    }
}

fn fates() -> Vec<(&'static str, Invocation, Option<Arrival>)> {
    vec![
        ("i-1", ended("Success", 0), Some(arrival(3, true))),
        ("i-2", ended("Failed", -1), Some(arrival(1, false))),
        (
            "i-3",
            ended("Delivery Timed Out", -1),
            Some(arrival(2, false)),
        ),
        ("i-4", ended("Undeliverable", -1), None),
    ]
}

#[test]
fn killed_anywhere_and_resumed_it_ends_in_the_same_state_with_one_command() {
    let mut whole = World::new(&fates());
    whole.process().unwrap();
    assert_eq!(
        whole
            .outcomes()
            .iter()
            .map(|(_, outcome)| *outcome)
            .collect::<Vec<_>>(),
        [
            Outcome::Received,
            Outcome::Interrupted,
            Outcome::Interrupted,
            Outcome::Nothing
        ]
    );
    let mut kills = 0;
    for first in 0.. {
        let mut world = World::new(&fates());
        world.mortal.left = Some(first);
        if world.process().is_ok() {
            break;
        }
        kills += 1;
        // A second kill, at each place after the first.
        for second in 0..6 {
            let mut again = World {
                mortal: Mortal {
                    left: Some(second),
                    ..world.mortal.clone()
                },
                commands: world.commands.clone(),
                parameters: world.parameters.clone(),
                fates: world.fates.clone(),
            };
            let _ = again.process();
            again.mortal.left = None;
            again.process().unwrap();
            assert_eq!(
                again.outcomes(),
                whole.outcomes(),
                "killed at {first} and {second}"
            );
            assert_eq!(
                again.commands.len(),
                1,
                "killed at {first} and {second}: {:?}",
                again.commands
            );
            assert!(
                again.parameters.is_empty(),
                "killed at {first} and {second}: credentials stay"
            );
        }
    }
    assert!(kills > 15, "{kills}");
}

#[test]
fn an_agent_that_outlives_its_command_is_waited_for_while_segments_come() {
    let mut seen = Seen::default();
    let mut world = World::new(&[(
        "i-1",
        ended("DeliveryTimedOut", -1),
        Some(arrival(1, false)),
    )]);
    let steps =
        |world: &World, seen: &Seen| next(&world.mortal.case(), seen, &TIMING, world.mortal.now);
    for _ in 0..3 {
        for step in steps(&world, &seen) {
            world.perform(step, &mut seen).unwrap();
        }
    }
    let prefix = "IR-7/i-1/c-1";
    for growing in 2..20 {
        world.mortal.now += Duration::seconds(59);
        seen.arrived.insert(
            prefix.into(),
            Arrival {
                changed: world.mortal.now,
                ..arrival(growing, false)
            },
        );
        assert!(
            steps(&world, &seen)
                .iter()
                .all(|step| !matches!(step, Step::Record(Event::Ended { .. }))),
            "given up while {growing} segments came"
        );
        world
            .mortal
            .append(&Event::Authorised {
                request: "0a0b0c0d".into(),
                grants: vec![Grant {
                    instance: "i-1".into(),
                    access_key_id: "A".into(),
                    expires: crate::custody::text_of(world.mortal.now + Duration::hours(1)),
                }],
            })
            .unwrap();
    }
    seen.arrived.insert(
        prefix.into(),
        Arrival {
            changed: world.mortal.now,
            ..arrival(20, true)
        },
    );
    let done = steps(&world, &seen);
    assert!(
        matches!(&done[0], Step::Record(Event::Ended { outcome: Outcome::Received, why: Some(why), .. }) if why.contains("receipt")),
        "{done:?}"
    );
}

#[test]
fn credentials_are_renewed_before_they_expire_and_not_after_the_end() {
    let mut world = World::new(&[("i-1", ended("InProgress", -1), Some(arrival(1, false)))]);
    let mut seen = Seen::default();
    for _ in 0..5 {
        for step in next(&world.mortal.case(), &seen, &TIMING, world.mortal.now) {
            world.perform(step, &mut seen).unwrap();
        }
    }
    assert!(world.mortal.case().requests[0].hosts["i-1"].started);
    let renews = |now| {
        next(&world.mortal.case(), &seen, &TIMING, now)
            .iter()
            .any(|step| matches!(step, Step::Authorise { .. }))
    };
    assert!(!renews(world.mortal.now));
    assert!(renews(world.mortal.now + Duration::minutes(46)));
}

#[test]
fn a_receipt_of_another_collection_is_not_taken() {
    let forged = r#"{"receipt_version":1}"#;
    let output = format!("{forged}\nnoise {}", Exit::Complete.word());
    let mut world = World::new(&[(
        "i-1",
        Invocation {
            output,
            ..ended("Success", 0)
        },
        Some(arrival(1, true)),
    )]);
    world.process().unwrap();
    let end = world.mortal.case().requests[0].hosts["i-1"]
        .ended
        .clone()
        .unwrap();
    assert_eq!(end.outcome, Outcome::Received);
    assert!(end.why.unwrap().contains("no receipt"));
}

#[test]
fn a_cancelled_request_sends_nothing_more() {
    let mut world = World::new(&fates());
    world
        .mortal
        .append(&Event::CancelAsked {
            request: "0a0b0c0d".into(),
        })
        .unwrap();
    world.process().unwrap();
    assert!(world.commands.is_empty());
    assert!(
        world
            .outcomes()
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Nothing)
    );
}
