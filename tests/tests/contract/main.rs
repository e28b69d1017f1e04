//! The contract of a store, the same for a directory and for a bucket behind the checking proxy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what went wrong by failing"
)]

use evidence::digest::Digest;
use evidence::objects::{Directory as DirectoryObjects, Objects, read_whole};
use exhibit_agent::ship::{
    CredentialSource, Directory, Kind, Lock, Object, S3Options, Store, connect,
};
use exhibit_tests::rig::moto::Moto;
use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy};

/// What every store keeps to.
fn contract(store: &dyn Store, objects: &dyn Objects) {
    store.prepare().expect("a fresh place can be used");
    let segment = Object::new("evidence/00000.tar.zst", vec![7; 100_000]);
    let stored = store.put(&segment).expect("a new object is stored");
    assert!(stored.shipped);
    assert_eq!(
        (stored.key.as_str(), stored.bytes),
        ("evidence/00000.tar.zst", 100_000)
    );
    assert_eq!(stored.sha256, Some(Digest::of(&[7; 100_000])));

    let again = store
        .put(&segment)
        .expect("the same object again is no error: its answer may have been lost");
    assert_eq!(again.sha256, stored.sha256);
    let other = store
        .put(&Object::new("evidence/00000.tar.zst", b"other".to_vec()))
        .unwrap_err();
    assert_eq!(other.kind, Kind::Target, "{other}");
    assert!(other.message.contains("00000.tar.zst"), "{other}");

    store
        .put(&Object::new("CHAIN", b"text\n".to_vec()))
        .expect("a second key");
    store
        .put(&Object::new("manifest.json", Vec::new()))
        .expect("an empty object");
    let mut keys = objects.list().unwrap();
    keys.sort();
    assert_eq!(keys, ["CHAIN", "evidence/00000.tar.zst", "manifest.json"]);
    assert!(read_whole(objects, "evidence/00000.tar.zst", 1 << 20).unwrap() == [7; 100_000]);
    assert_eq!(read_whole(objects, "manifest.json", 0).unwrap(), b"");
    assert!(
        read_whole(objects, "evidence/00000.tar.zst", 99_999).is_err(),
        "a limit holds"
    );
    assert_eq!(
        objects.open("absent").err().unwrap().kind(),
        std::io::ErrorKind::NotFound
    );
}

#[test]
fn a_directory_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case/host/collection");
    contract(&Directory::new(&path), &DirectoryObjects::new(&path));
    let taken = Directory::new(&path).prepare().unwrap_err();
    assert!(
        taken.kind == Kind::Target && taken.message.contains("not empty"),
        "{taken}"
    );
}

#[test]
fn a_bucket_keeps_the_contract() {
    use std::io::Write;
    let Some(moto) = or_skip(Moto::start()) else {
        return;
    };
    moto.create_locked_bucket("contract-bucket");
    moto.set_default_retention("contract-bucket", "COMPLIANCE", 30);
    let proxy = Proxy::start(moto.address());
    let mut credentials = tempfile::NamedTempFile::new().unwrap();
    write!(
        credentials,
        r#"{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"s"}}"#
    )
    .unwrap();
    let store = connect(S3Options {
        bucket: "contract-bucket".to_owned(),
        prefix: "case/host/collection".to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(proxy.endpoint()),
        credentials: CredentialSource::File(credentials.path().to_owned()),
        kms_key: None,
        lock: Lock::default(),
        allow_unlocked: false,
        attempts: 2,
        network: transport::NetworkOptions::default(),
    })
    .unwrap();
    contract(&store, &store);
}
