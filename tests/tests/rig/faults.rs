//! The proxy fails on demand, as often as asked and no more.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use exhibit_tests::rig::proxy::Fault;

use super::rules::send_head;
use super::{BUCKET, Rig};

const PAUSE: Duration = Duration::from_millis(700);

fn is_reset(error: &std::io::Error) -> bool {
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind())
}

#[test]
fn error_answers_end_after_their_number() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.fault_puts(2, "/evidence/a", Fault::SLOW_DOWN);
    rig.proxy.fault_puts(1, "/evidence/", Fault::INTERNAL_ERROR);
    let slow = rig.put("a", b"body", &[]).unwrap();
    assert!(slow.text().contains("<Code>SlowDown</Code>"));
    let others = ["b", "b", "a", "a"].map(|key| rig.put_status(key, &[]));
    assert_eq!((slow.status, others), (503, [500, 200, 503, 200]));
    let stored: Vec<_> = rig
        .proxy
        .requests()
        .iter()
        .map(|seen| seen.stored)
        .collect();
    assert_eq!(stored, [None, None, Some(200), None, Some(200)]);
}

#[test]
fn faults_may_depend_on_anything_in_the_head() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.fault(
        1,
        |head| head.header("x-amz-meta-part") == Some("7"),
        Fault::Answer(400, "ExpiredToken"),
    );
    assert_eq!(rig.put_status("key", &[]), 200);
    let expired = rig
        .put("key", b"body", &[("x-amz-meta-part", "7")])
        .unwrap();
    assert!(expired.text().contains("<Code>ExpiredToken</Code>"));
}

#[test]
fn a_reset_comes_before_the_body_or_within() {
    let Some(rig) = Rig::start() else { return };
    let body = vec![7; 4 << 20];
    for after in [0, 100_000] {
        rig.proxy.fault_puts(1, "key", Fault::Reset { after });
        let error = rig.put("key", &body, &[]).unwrap_err();
        assert!(is_reset(&error), "{error:?}");
        wait_until(|| rig.proxy.requests().last().unwrap().body_length == after);
    }
    let seen = rig.proxy.requests();
    assert!(
        seen.iter()
            .all(|seen| seen.status.is_none() && seen.stored.is_none()),
        "{seen:?}"
    );
    assert!(rig.moto.keys(BUCKET).is_empty());
}

#[test]
fn a_stall_delays_and_changes_nothing() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.fault_puts(
        1,
        "key",
        Fault::Stall {
            after: 2,
            pause: PAUSE,
        },
    );
    let start = Instant::now();
    assert_eq!(rig.put_status("key", &[]), 200);
    assert!(start.elapsed() >= PAUSE, "{:?}", start.elapsed());
    assert_eq!(rig.moto.read(BUCKET, "key"), b"body");
    assert_eq!(rig.put_status("key", &[]), 200);
    let faults: Vec<bool> = rig
        .proxy
        .requests()
        .iter()
        .map(|seen| seen.fault.is_some())
        .collect();
    assert_eq!(faults, [true, false]);
}

#[test]
fn silence_is_an_end_without_an_answer() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.fault_puts(1, "key", Fault::Silence);
    let error = rig.put("key", b"body", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error:?}");
    assert!(rig.moto.keys(BUCKET).is_empty());
    assert_eq!(rig.proxy.requests()[0].body_length, 4);
}

#[test]
fn after_a_lost_answer_the_retry_finds_the_object_there() {
    let Some(rig) = Rig::start() else { return };
    let once = [("if-none-match", "*")];
    rig.proxy.fault_puts(1, "key", Fault::LoseAnswer);
    assert!(is_reset(&rig.put("key", b"body", &once).unwrap_err()));
    assert_eq!(rig.moto.read(BUCKET, "key"), b"body");
    assert_eq!(rig.put_status("key", &once), 412);
    let seen: Vec<_> = rig
        .proxy
        .requests()
        .iter()
        .map(|seen| (seen.stored, seen.status))
        .collect();
    assert_eq!(seen, [(Some(200), None), (Some(412), Some(412))]);
}

#[test]
fn a_dying_store_takes_exactly_its_last_objects() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.die_after(3, Fault::INTERNAL_ERROR);
    rig.proxy.fault_puts(2, "", Fault::SLOW_DOWN);
    thread::scope(|scope| {
        for writer in 0..4 {
            let rig = &rig;
            scope.spawn(move || {
                (0..4).for_each(|n| drop(rig.put(&format!("{writer}-{n}"), b"body", &[])))
            });
        }
    });
    assert_eq!(rig.put_status("late", &[]), 500);
    assert_eq!(
        rig.ask("GET", &format!("/{BUCKET}")).status,
        500,
        "it is dead for readers too"
    );
    assert_eq!(rig.moto.keys(BUCKET).len(), 3);
    rig.proxy.heal();
    assert_eq!(rig.put_status("late", &[]), 200);
}

#[test]
fn a_proxy_ends_though_a_request_stalls() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.fault_puts(
        1,
        "key",
        Fault::Stall {
            after: 4,
            pause: Duration::from_secs(3600),
        },
    );
    let mut stream = TcpStream::connect(rig.proxy.address()).unwrap();
    send_head(&mut stream, "key", b"body", "");
    stream.write_all(b"body").unwrap();
    wait_until(|| rig.proxy.requests().len() == 1);
    let (address, start) = (rig.proxy.address(), Instant::now());
    drop(rig);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(
        TcpStream::connect(address).is_err(),
        "the proxy still listens"
    );
}

/// The proxy writes down the end of a request while the client already knows it.
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        thread::sleep(Duration::from_millis(5));
    }
}
