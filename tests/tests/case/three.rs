//! Three instances: one is collected, one is killed in the middle, the output of one is clipped. Then the bucket is tampered with.

use std::thread;
use std::time::{Duration, Instant};

use exhibit_tests::rig::cloud::CloudFault;
use serde_json::Value;

use super::{BUCKET, Bench};

/// The value of `key` in the element of `list` whose `name` is `value`.
fn of<'a>(list: &'a Value, name: &str, value: &str) -> &'a Value {
    let mut elements = list.as_array().unwrap().iter();
    elements
        .find(|element| element[name] == value)
        .unwrap_or_else(|| panic!("no {name} {value} in {list}"))
}

#[test]
fn three_instances_end_in_two_sealed_collections_and_a_named_interruption() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let plain = bench.instance(&[("Name", "web-1")], |runner| runner);
    let killed = bench.instance(&[], |runner| runner);
    let clipped = bench.instance(&[], |runner| {
        runner.noise(&format!("{}\n", "x".repeat(3000)))
    });
    bench.open("IR-7");
    // The store takes the first segment of the second instance and is busy from then on, until it is killed.
    let busy = killed.clone();
    let puts = move |operation: &str| {
        operation.starts_with("PUT") && operation.contains(&busy) && !operation.contains("00000")
    };
    bench.cloud.fault(
        10_000,
        move |call| call.service == "s3" && puts(&call.operation),
        CloudFault::Throttle,
    );
    let mut collecting = bench.spawn(&[
        "collect",
        "--case",
        "IR-7",
        "--instance",
        &plain,
        "--instance",
        &killed,
        "--instance",
        &clipped,
    ]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !bench
        .cloud
        .moto()
        .keys(BUCKET)
        .iter()
        .any(|key| key.contains(&killed) && key.contains("00000"))
    {
        assert!(Instant::now() < deadline, "no segment of {killed} arrives");
        thread::sleep(Duration::from_millis(100));
    }
    bench.cloud.kill(&killed);
    assert_eq!(
        collecting.wait().unwrap().code(),
        Some(3),
        "{:#?}",
        bench.journal("IR-7")
    );
    bench.cloud.heal();

    let status = bench.run(&["status", "IR-7"]).expect(0).json();
    let hosts = &status["requests"][0]["instances"];
    assert_eq!(of(hosts, "instance", &plain)["outcome"], "received");
    assert_eq!(of(hosts, "instance", &clipped)["outcome"], "received");
    assert_eq!(of(hosts, "instance", &killed)["outcome"], "interrupted");

    let verified = bench.run(&["verify", "IR-7"]).expect(21).json();
    for (instance, verdict, bound) in [
        (&plain, "complete", true),
        (&clipped, "complete", true),
        (&killed, "interrupted", false),
    ] {
        let prefix = bench.prefix("IR-7", instance);
        let checked = of(&verified, "prefix", prefix.strip_prefix("cases/").unwrap());
        assert_eq!(
            (&checked["verdict"], &checked["bound_by_receipt"]),
            (&verdict.into(), &bound.into()),
            "{checked:#}"
        );
        assert!(checked["segments"].as_u64().unwrap() >= 1);
    }
    bench.run(&["verify", "IR-7", "--deep"]).expect(21);
    bench.run(&["seal", "IR-7"]).expect(0);
    assert_eq!(bench.events("IR-7", "sealed").len(), 3);

    let copy = bench.path("copy");
    bench
        .run(&["fetch", "IR-7", "--to", copy.to_str().unwrap()])
        .expect(21);
    let key = bench.path("copy").join(&plain);
    let collection = std::fs::read_dir(&key)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let trusted = collection.join("pubkey.pem");
    let offline = [
        "verify",
        "--offline",
        copy.to_str().unwrap(),
        "--key",
        trusted.to_str().unwrap(),
    ];
    let report = bench.run(&offline).expect(21).json();
    let report = of(
        &report["collections"],
        "collection",
        &format!(
            "{plain}/{}",
            collection.file_name().unwrap().to_str().unwrap()
        ),
    );
    assert_eq!(report["report"]["seal"]["state"], "trusted", "{report:#}");
    assert_eq!(report["report"]["verdict"], "complete");
    let stock = std::process::Command::new("sh")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../packaging/verify.sh"
        ))
        .arg(&collection)
        .arg(&trusted)
        .output()
        .unwrap();
    assert_eq!(
        stock.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&stock.stdout)
    );
}

#[test]
fn six_ways_to_tamper_with_the_bucket_are_named() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-8");
    bench
        .run(&["collect", "--case", "IR-8", "--instance", &instance])
        .expect(0);
    bench.run(&["verify", "IR-8"]).expect(0);
    let prefix = bench.prefix("IR-8", &instance);
    let moto = bench.cloud.moto();
    let keys = moto.keys(BUCKET);
    let segments: Vec<&String> = keys
        .iter()
        .filter(|key| key.contains("/evidence/"))
        .collect();
    assert!(segments.len() >= 2, "{keys:?}");
    let problems = |code: i32| -> Vec<(String, String)> {
        let report = bench.run(&["verify", "IR-8"]).expect(code).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        report[0]["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| (text(&problem["code"]), text(&problem["message"])))
            .collect()
    };
    let named = |problems: &[(String, String)], code: &str, part: &str| {
        problems
            .iter()
            .any(|(c, message)| c == code && message.contains(part))
    };

    // An object put over another, by somebody with more rights.
    moto.put(BUCKET, segments[0], b"other bytes");
    assert!(named(&problems(20), "replaced", "00000"));
    // The marker of a deletion.
    moto.request(
        "DELETE",
        &format!("/{BUCKET}/{}", segments[1]),
        &[],
        &[],
        b"",
    );
    assert!(named(&problems(20), "deleted", "00001"));
    // An object that nobody's chain lists.
    moto.put(BUCKET, &format!("{prefix}/evidence/00077.tar.zst"), b"more");
    assert!(named(&problems(20), "extra", "00077"));
    // Another manifest, which the receipt does not name: the run's own is found and held against it.
    let manifest = moto.read(BUCKET, &format!("{prefix}/manifest.json"));
    let forged = String::from_utf8(manifest).unwrap().replace("ana", "eve");
    moto.put(
        BUCKET,
        &format!("{prefix}/manifest.json"),
        forged.as_bytes(),
    );
    assert!(named(&problems(20), "replaced", "manifest.json"));
    // An object whose every version is gone, by somebody who may bypass governance.
    let chain = format!("{prefix}/CHAIN");
    for version in moto
        .versions(BUCKET)
        .iter()
        .filter(|version| version.key == chain)
    {
        let bypass = [("x-amz-bypass-governance-retention", "true")];
        let gone = moto.request(
            "DELETE",
            &format!("/{BUCKET}/{chain}"),
            &[("versionId", &version.id)],
            &bypass,
            b"",
        );
        assert_eq!(gone.status, 204);
    }
    assert!(named(&problems(20), "missing", "CHAIN"));
    // None of this can be sealed.
    bench.run(&["seal", "IR-8"]).expect(20);
    assert!(bench.events("IR-8", "sealed").is_empty());
}

#[test]
fn an_object_without_a_lock_is_named() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-9");
    bench
        .run(&["collect", "--case", "IR-9", "--instance", &instance])
        .expect(0);
    let key = format!("{}/CHAIN", bench.prefix("IR-9", &instance));
    let moto = bench.cloud.moto();
    let version = moto
        .versions(BUCKET)
        .into_iter()
        .find(|version| version.key == key)
        .unwrap();
    let nothing = "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>GOVERNANCE</Mode><RetainUntilDate>2020-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let query = [("retention", ""), ("versionId", version.id.as_str())];
    let shortened = moto.request(
        "PUT",
        &format!("/{BUCKET}/{key}"),
        &query,
        &[
            ("x-amz-bypass-governance-retention", "true"),
            ("x-amz-sdk-checksum-algorithm", "SHA256"),
        ],
        nothing.as_bytes(),
    );
    assert_eq!(shortened.status, 200, "{}", shortened.text());
    let report = bench.run(&["verify", "IR-9"]).expect(11).json();
    assert_eq!(
        report[0]["unlocked"],
        serde_json::json!(["CHAIN"]),
        "{report:#}"
    );
    // The seal holds it again.
    bench.run(&["seal", "IR-9"]).expect(0);
    bench.run(&["verify", "IR-9"]).expect(0);
}

#[test]
fn a_seal_is_checked_in_the_bucket() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let collect = ["collect", "--case", "IR-7", "--instance", &instance];
    bench.run(&collect).expect(0);
    bench.run(&["seal", "IR-7"]).expect(0);
    let codes = |code: i32| -> Vec<String> {
        let report = bench.run(&["verify", "IR-7"]).expect(code).json();
        let problems = report[0]["problems"].as_array().unwrap().iter();
        problems
            .map(|problem| problem["code"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(codes(0).is_empty());
    // Another key than the one that sealed is trusted now.
    let key = std::fs::read(bench.path("seal.pem")).unwrap();
    std::fs::remove_file(bench.path("seal.pem")).unwrap();
    bench.configure("");
    assert_eq!(codes(20), ["signature"]);
    std::fs::write(bench.path("seal.pem"), key).unwrap();
    let sums = format!("{}/SHA256SUMS", bench.prefix("IR-7", &instance));
    bench.cloud.moto().put(BUCKET, &sums, b"other");
    assert_eq!(codes(20), ["replaced"]);
}
