//! `kill -9` at every entry of the journal and around every act, then `resume`: the end is the same, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use exhibit_tests::rig::cloud::{Call, CloudFault};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{BUCKET, Bench};

/// Kills the process whose number it holds when a call matches: before the call is carried out, or after.
pub fn kill_at(
    bench: &Bench,
    matches: impl Fn(&Call) -> bool + Send + 'static,
    after: bool,
) -> Arc<AtomicI32> {
    let pid = Arc::new(AtomicI32::new(0));
    let target = Arc::clone(&pid);
    let strikes = move |call: &Call| {
        let pid = target.load(Ordering::SeqCst);
        let hit = pid != 0 && matches(call);
        if hit {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        hit
    };
    let fault = if after {
        CloudFault::AnswerLost
    } else {
        CloudFault::Close
    };
    bench.cloud.fault(1, strikes, fault);
    pid
}

/// Runs a command that is killed on the way; whether it was.
pub fn killed(bench: &Bench, arguments: &[&str], pid: &AtomicI32) -> bool {
    let mut child = bench.spawn(arguments);
    pid.store(child.id().cast_signed(), Ordering::SeqCst);
    let status = child.wait().unwrap();
    pid.store(0, Ordering::SeqCst);
    bench.cloud.heal();
    status.code().is_none()
}

/// Where the process dies: a call of the orchestrator's, and whether it is carried out.
type Place = (String, Box<dyn Fn(&Call) -> bool + Send>, bool);

pub fn puts(path: String) -> Box<dyn Fn(&Call) -> bool + Send> {
    Box::new(move |call| call.service == "s3" && call.operation == format!("PUT {path}"))
}

pub fn calls(service: &'static str, operation: &'static str) -> Box<dyn Fn(&Call) -> bool + Send> {
    Box::new(move |call| call.is(service, operation))
}

fn places(case: &str) -> Vec<Place> {
    let record = |number: usize| format!("/{BUCKET}/cases/{case}/custody/{number:06}.json");
    // opened, requested, authorised, sending, sent, started, ended, withdrawn
    let mut places: Vec<Place> = (1..8)
        .map(|number| (format!("record {number}"), puts(record(number)), false))
        .collect();
    for after in [false, true] {
        for operation in ["PutParameter", "SendCommand", "DeleteParameter"] {
            places.push((
                format!("{operation} {after}"),
                calls("ssm", operation),
                after,
            ));
        }
    }
    places
}

#[test]
fn a_collection_that_is_killed_anywhere_is_resumed_with_one_command() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    for number in 0..places("x").len() {
        let case = format!("IR-{number}");
        let (name, matches, after) = places(&case).remove(number);
        bench.open(&case);
        let before = bench.cloud.count("ssm", "SendCommand");
        let refused = |bench: &Bench| {
            bench
                .cloud
                .calls()
                .iter()
                .filter(|call| {
                    call.is("ssm", "SendCommand") && call.fault == Some(CloudFault::Close)
                })
                .count()
        };
        let not_taken = refused(&bench);
        let pid = kill_at(&bench, matches, after);
        assert!(
            killed(
                &bench,
                &["collect", "--case", &case, "--instance", &instance],
                &pid
            ),
            "{name} is never reached"
        );
        if bench.events(&case, "requested").is_empty() {
            panic!("{name}: nothing is written down");
        }
        bench.run(&["resume", &case]).expect(0);
        let taken =
            bench.cloud.count("ssm", "SendCommand") - before - (refused(&bench) - not_taken);
        assert_eq!(taken, 1, "killed at {name}");
        let ended = bench.events(&case, "ended");
        assert_eq!(
            (ended.len(), &ended[0]["outcome"]),
            (1, &"received".into()),
            "killed at {name}: {ended:#?}"
        );
        assert_eq!(ended[0]["receipt"]["exit_code"], 0, "killed at {name}");
        assert_eq!(
            bench.events(&case, "withdrawn").len(),
            1,
            "killed at {name}"
        );
        let verified = bench.run(&["verify", &case]).expect(0).json();
        assert_eq!(verified[0]["bound_by_receipt"], true, "killed at {name}");
    }
}

#[test]
fn a_seal_that_is_killed_anywhere_is_finished() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-0");
    bench
        .run(&["collect", "--case", "IR-0", "--instance", &instance])
        .expect(0);
    let base = format!("/{BUCKET}/{}", bench.prefix("IR-0", &instance));
    let objects = [
        "custody/000000.json",
        "SHA256SUMS.sig",
        "pubkey.pem",
        "SHA256SUMS",
    ];
    for after in [false, true] {
        for object in objects {
            // Before it is there it can be killed at it; what is there already is not put again.
            if bench
                .cloud
                .moto()
                .head(
                    BUCKET,
                    &format!(
                        "{}/{object}",
                        base.trim_start_matches(&format!("/{BUCKET}/"))
                    ),
                )
                .is_some()
            {
                continue;
            }
            let pid = kill_at(&bench, puts(format!("{base}/{object}")), after);
            assert!(
                killed(&bench, &["seal", "IR-0"], &pid),
                "{object} is never reached"
            );
            if !after {
                let pid = kill_at(&bench, puts(format!("{base}/{object}")), true);
                assert!(
                    killed(&bench, &["seal", "IR-0"], &pid),
                    "{object} is never reached again"
                );
            }
        }
    }
    // Then in the middle of the legal holds.
    let holds = |call: &Call| {
        call.operation.starts_with("PUT") && call.operation.contains("/evidence/00001")
    };
    let pid = kill_at(&bench, holds, false);
    assert!(
        killed(&bench, &["seal", "IR-0"], &pid),
        "no hold is reached"
    );
    bench.run(&["seal", "IR-0"]).expect(0);
    assert_eq!(bench.events("IR-0", "sealing").len(), 1);
    assert_eq!(bench.events("IR-0", "sealed").len(), 1);
    let versions = bench.cloud.moto().versions(BUCKET);
    for object in objects {
        let of_it = versions
            .iter()
            .filter(|version| format!("/{BUCKET}/{}", version.key) == format!("{base}/{object}"));
        assert_eq!(of_it.count(), 1, "{object}");
    }
    bench.run(&["fetch", "IR-0", "--to", "copy"]).expect(0);
}
