//! A store that fails: for a moment, for good, or only in its answer.

use exhibit_tests::rig::http::{self, Head};
use exhibit_tests::rig::proxy::{Fault, Seen};

use super::{BUCKET, Bucket, SMALL, run};

fn puts(bucket: &Bucket) -> Vec<Seen> {
    bucket
        .proxy
        .requests()
        .into_iter()
        .filter(|seen| seen.method == "PUT")
        .collect()
}

#[test]
fn what_passes_is_tried_again_and_nothing_is_lost() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket
        .proxy
        .fault_puts(2, "00000.tar.zst", Fault::SLOW_DOWN);
    bucket
        .proxy
        .fault_puts(1, "00001.tar.zst", Fault::INTERNAL_ERROR);
    bucket
        .proxy
        .fault_puts(1, "CHAIN", Fault::Reset { after: 10 });
    bucket.proxy.fault_puts(1, "manifest.json", Fault::Silence);
    let ended = bucket.collect(&SMALL);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        puts(&bucket)
            .iter()
            .filter(|put| put.fault.is_some())
            .count()
            >= 5
    );
    assert_eq!(bucket.verify(&ended.prefix()).0.code, 0);
}

#[test]
fn a_lost_answer_is_settled_by_the_checksum() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket
        .proxy
        .fault_puts(1, "00000.tar.zst", Fault::LoseAnswer);
    let ended = bucket.collect(&SMALL);
    assert_eq!(ended.code, 0, "{ended:?}");
    let versions = bucket.moto.versions(BUCKET);
    assert_eq!(
        versions
            .iter()
            .filter(|v| v.key.ends_with("00000.tar.zst"))
            .count(),
        1,
        "stored once"
    );
    assert_eq!(bucket.verify(&ended.prefix()).0.code, 0);
}

#[test]
fn with_put_only_credentials_a_lost_answer_is_named() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket.proxy.put_only(true);
    bucket
        .proxy
        .fault_puts(1, "00001.tar.zst", Fault::LoseAnswer);
    let ended = bucket.collect(&SMALL);
    assert_eq!(ended.code, 0, "{ended:?}");
    bucket.proxy.put_only(false);
    let manifest = bucket.manifest(&ended.prefix());
    let objects = manifest["objects"].as_array().unwrap();
    let lost = objects
        .iter()
        .find(|object| object["key"] == "evidence/00001.tar.zst")
        .unwrap();
    assert!(
        lost["unread"].as_str().unwrap().contains("answer was lost"),
        "{lost}"
    );
}

#[test]
fn when_the_store_dies_the_spool_takes_the_rest_and_ship_resumes() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let spool = tempfile::tempdir().unwrap();
    bucket
        .proxy
        .die_after(1, Fault::Answer(503, "ServiceUnavailable"));
    let more = ["--attempts", "2", "--spool", spool.path().to_str().unwrap()];
    let ended = bucket.collect(&[&SMALL[..], &more].concat());
    assert_eq!(ended.code, 16, "{ended:?}");
    let (receipt, prefix) = (ended.receipt(), ended.prefix());
    assert_eq!(receipt["result"], "store-failed");
    assert!(
        receipt["manifest_sha256"].is_string(),
        "the spool has the manifest"
    );
    let folder = spool.path().join(&prefix);
    let manifest = super::collection::manifest(&folder);
    let shipped = |shipped: bool| {
        manifest["objects"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|o| o["shipped"] == shipped)
            .count()
    };
    assert_eq!(shipped(true), 1, "what was shipped stays listed");
    assert!(shipped(false) >= 2 && manifest["status"] == "partial");

    bucket.proxy.heal();
    bucket.proxy.put_only(true);
    let before = puts(&bucket).len();
    let to = format!("s3://{BUCKET}/cases");
    let mut ship = bucket.agent.command();
    ship.args(["ship", "--quiet", folder.to_str().unwrap(), "--to", &to])
        .args(bucket.way());
    // The first call is cut in the middle.
    bucket
        .proxy
        .die_after(1, Fault::Answer(503, "ServiceUnavailable"));
    let cut = run(ship.args(["--attempts", "1"]));
    assert_eq!(cut.code, 16, "{cut:?}");
    bucket.proxy.heal();
    let resumed = run(&mut ship);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    bucket.proxy.put_only(false);
    let sent = puts(&bucket);
    let stored: Vec<&str> = sent[before..]
        .iter()
        .filter(|put| put.stored == Some(200))
        .map(|put| put.path.as_str())
        .collect();
    let mut once = stored.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(
        once.len(),
        stored.len(),
        "nothing is sent twice: {stored:?}"
    );
    assert!(stored.last().unwrap().ends_with("manifest.json"));
    let (verified, report) = bucket.verify(&prefix);
    assert_eq!(
        (verified.code, report["verdict"].as_str()),
        (3, Some("partial")),
        "{report}"
    );
}

#[test]
fn without_a_spool_the_run_stops_and_the_prefix_stays_usable() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket
        .proxy
        .die_after(2, Fault::Answer(503, "ServiceUnavailable"));
    let ended = bucket.collect(&["--attempts", "1"]);
    assert_eq!(ended.code, 16, "{ended:?}");
    let receipt = ended.receipt();
    assert!(
        receipt["manifest_sha256"].is_null(),
        "no manifest could be stored"
    );
    bucket.proxy.heal();
    let (verified, report) = bucket.verify(&ended.prefix());
    assert_eq!(
        (verified.code, report["verdict"].as_str()),
        (21, Some("interrupted")),
        "{report}"
    );
}

#[test]
fn an_object_that_somebody_else_wrote_is_not_taken_for_ours() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    // Just before the agent's own CHAIN, another object appears under its key.
    let store = bucket.moto.address();
    let intrude = move |head: &Head| {
        let ours = head.path.ends_with("/CHAIN") && head.method == "PUT";
        if ours {
            let put = Head::new(
                "PUT",
                &head.path,
                &[],
                &[
                    ("x-amz-sdk-checksum-algorithm", "SHA256"),
                    ("content-type", "text/plain"),
                ],
            );
            assert_eq!(http::send(store, &put, b"forged").unwrap().status, 200);
        }
        ours
    };
    bucket.proxy.fault(1, intrude, Fault::Reset { after: 0 });
    let ended = bucket.collect(&SMALL);
    assert_eq!(ended.code, 16, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("CHAIN exists already with other content"),
        "{ended:?}"
    );
}

#[test]
fn a_spool_with_a_hole_is_not_sent_as_if_it_were_whole() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let spool = tempfile::tempdir().unwrap();
    bucket
        .proxy
        .die_after(1, Fault::Answer(503, "ServiceUnavailable"));
    let more = ["--attempts", "1", "--spool", spool.path().to_str().unwrap()];
    let ended = bucket.collect(&[&SMALL[..], &more].concat());
    bucket.proxy.heal();
    let folder = spool.path().join(ended.prefix());
    std::fs::remove_file(folder.join("evidence/00001.tar.zst")).unwrap();
    let before = bucket.moto.keys(BUCKET).len();
    let to = format!("s3://{BUCKET}/cases");
    let mut ship = bucket.agent.command();
    ship.args(["ship", "--quiet", folder.to_str().unwrap(), "--to", &to])
        .args(bucket.way());
    let refused = run(&mut ship);
    assert_eq!(refused.code, 22, "{refused:?}");
    assert!(
        refused.stderr.contains("evidence/00001.tar.zst"),
        "{refused:?}"
    );
    assert_eq!(bucket.moto.keys(BUCKET).len(), before, "nothing was sent");
}
