//! The emulator stores, versions and locks.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use exhibit_tests::rig;
use exhibit_tests::rig::moto::Moto;

use super::{BUCKET, checksum};

#[test]
fn a_locked_object_is_kept_with_its_checksum() {
    let Some(moto) = rig::or_skip(Moto::start()) else {
        return;
    };
    moto.create_locked_bucket(BUCKET);
    moto.set_default_retention(BUCKET, "COMPLIANCE", 3);
    let first = moto.put(BUCKET, "case 1/a+b&c", b"first");
    let second = moto.put(BUCKET, "case 1/a+b&c", b"second");

    assert_eq!(moto.keys(BUCKET), ["case 1/a+b&c"]);
    assert_eq!(moto.read(BUCKET, "case 1/a+b&c"), b"second");
    assert_eq!(moto.read_version(BUCKET, "case 1/a+b&c", &first), b"first");
    let head = moto.head(BUCKET, "case 1/a+b&c").unwrap();
    assert_eq!(head["x-amz-object-lock-mode"], "COMPLIANCE");
    assert_eq!(head["x-amz-checksum-sha256"], checksum(b"second"));
    assert_eq!(moto.head(BUCKET, "other"), None);

    assert_eq!(moto.delete_version(BUCKET, "case 1/a+b&c", &first), 403);
    let versions = moto.versions(BUCKET);
    assert_eq!(
        versions
            .iter()
            .filter(|version| version.id == first && !version.latest)
            .count(),
        1
    );
    assert_eq!(
        versions
            .iter()
            .filter(|version| version.id == second && version.latest)
            .count(),
        1
    );
    assert_eq!(versions.len(), 2);
}

#[test]
fn a_deletion_leaves_a_marker() {
    let Some(moto) = rig::or_skip(Moto::start()) else {
        return;
    };
    moto.create_locked_bucket(BUCKET);
    moto.put(BUCKET, "key", b"body");
    moto.request("DELETE", &format!("/{BUCKET}/key"), &[], &[], b"");
    assert!(moto.keys(BUCKET).is_empty());
    let markers: Vec<bool> = moto
        .versions(BUCKET)
        .iter()
        .map(|version| version.delete_marker)
        .collect();
    assert_eq!(markers, [false, true]);
}

#[test]
fn a_plain_bucket_locks_nothing() {
    let Some(moto) = rig::or_skip(Moto::start()) else {
        return;
    };
    moto.create_bucket(BUCKET);
    moto.put(BUCKET, "key", b"body");
    assert!(
        !moto
            .head(BUCKET, "key")
            .unwrap()
            .contains_key("x-amz-object-lock-mode")
    );
    moto.request("DELETE", &format!("/{BUCKET}/key"), &[], &[], b"");
    assert_eq!(moto.head(BUCKET, "key"), None);
}

#[test]
fn emulators_are_apart_and_end_with_their_values() {
    let Some(one) = rig::or_skip(Moto::start()) else {
        return;
    };
    let two = Moto::start().unwrap();
    one.create_bucket(BUCKET);
    assert_eq!(
        two.request("GET", &format!("/{BUCKET}"), &[], &[], b"")
            .status,
        404
    );

    let address = one.address();
    drop(one);
    assert!(
        TcpStream::connect(address).is_err(),
        "the emulator still listens"
    );
    assert!(TcpStream::connect(two.address()).is_ok());
}

#[test]
fn an_emulator_does_not_outlive_a_killed_test() {
    let Some(ready) = rig::or_skip(Moto::start()) else {
        return;
    };
    drop(ready);
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::a_test_that_hangs",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let address: SocketAddr = lines
        .map_while(Result::ok)
        .find_map(|line| line.parse().ok())
        .unwrap();
    assert!(TcpStream::connect(address).is_ok());
    test.kill().unwrap();
    test.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "the emulator still listens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "run by an_emulator_does_not_outlive_a_killed_test"]
fn a_test_that_hangs() {
    let moto = Moto::start().unwrap();
    writeln!(io::stdout(), "\n{}", moto.address()).unwrap();
    thread::sleep(Duration::from_secs(60));
}
