//! A thousand instances by one tag, under throttling: followed to the end, with requests that grow with pages.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use exhibit_tests::rig::cloud::{CloudFault, Script, When};

use super::{BUCKET, Bench, SUSPECTS};

const HOSTS: usize = 1000;
/// What one page of ListCommandInvocations shows.
const PAGE: usize = 50;
/// Most memory of the orchestrator, in KiB: it holds a line for each instance and no evidence.
const MOST_MEMORY: u64 = 128 << 10;

#[test]
fn a_thousand_instances_are_followed_by_pages_with_bounded_memory() {
    let Some(bench) = Bench::start() else { return };
    let tag = [("Response", "Collect")];
    let ids = bench.cloud.run_instances(SUSPECTS, &tag, HOSTS);
    let started = When::After(Duration::from_secs(1));
    for id in &ids {
        let script = Script::default().then(started, "InProgress", -1, "").then(
            When::After(Duration::from_secs(45)),
            "Success",
            0,
            "",
        );
        bench.managed(id, &tag, script.into());
    }
    let path = bench.path("exhibit.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace(
            "[collect]\n",
            "[collect]\ncredentials = \"instance-role\"\n",
        ),
    )
    .unwrap();
    bench.open("IR-7");
    let asked = AtomicUsize::new(0);
    bench.cloud.fault(
        usize::MAX,
        move |call| {
            call.is("ssm", "ListCommandInvocations")
                && asked.fetch_add(1, Ordering::SeqCst) % 7 == 3
        },
        CloudFault::Throttle,
    );
    let mut collecting = bench.spawn(&["collect", "--case", "IR-7", "--tag", "Response=Collect"]);
    manifests(&bench, &ids);
    let mut peak = 0;
    let code = loop {
        if let Some(status) = collecting.try_wait().unwrap() {
            break status.code();
        }
        peak = peak.max(memory(collecting.id()));
        thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(code, Some(0));
    let ended = bench.events("IR-7", "ended");
    assert_eq!(ended.len(), HOSTS);
    assert!(
        ended.iter().all(|event| event["outcome"] == "received"),
        "{:#?}",
        &ended[..3]
    );

    let calls = bench.cloud.calls();
    let pages: Vec<_> = calls
        .iter()
        .filter(|call| call.is("ssm", "ListCommandInvocations"))
        .collect();
    let throttled = pages.iter().filter(|call| call.fault.is_some()).count();
    let answered = pages.iter().filter(|call| call.fault.is_none());
    let looks = answered
        .clone()
        .filter(|call| call.json()["NextToken"].is_null())
        .count();
    assert!(
        throttled > 10 && looks > 3,
        "{throttled} throttled, {looks} looks"
    );
    assert_eq!(pages.len(), looks * HOSTS / PAGE + throttled);
    assert_eq!(bench.cloud.count("ssm", "SendCommand"), 1);
    assert_eq!(bench.cloud.count("ssm", "GetCommandInvocation"), 0);
    assert_eq!(
        bench.cloud.count("ssm", "DescribeInstanceInformation"),
        HOSTS / PAGE
    );
    assert!(peak > 0 && peak < MOST_MEMORY, "{peak} KiB");
}

/// Puts what a thousand agents would: a manifest each, as soon as the request is known.
fn manifests(bench: &Bench, ids: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while bench.events("IR-7", "requested").is_empty() {
        assert!(Instant::now() < deadline, "no request");
        thread::sleep(Duration::from_millis(100));
    }
    let prefix = bench.prefix("IR-7", "i-any");
    for id in ids {
        let key = format!("{}/manifest.json", prefix.replace("i-any", id));
        bench.cloud.moto().put(BUCKET, &key, b"{}");
    }
}

/// Most memory that a process had so far, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
