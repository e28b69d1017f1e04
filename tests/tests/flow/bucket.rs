//! Into S3 with Object Lock, by the real SDK, through a proxy that checks what AWS checks.

use serde_json::Value;

use super::{BUCKET, Bucket, SMALL, run};

#[test]
fn each_object_is_put_once_with_its_checksum_and_locked() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let ended = bucket.collect(&SMALL);
    assert_eq!(ended.code, 0, "{ended:?}");
    let prefix = ended.prefix();

    let puts: Vec<_> = bucket
        .proxy
        .requests()
        .into_iter()
        .filter(|seen| seen.method == "PUT")
        .collect();
    assert!(
        puts.len() >= 4,
        "two segments, CHAIN and the manifest at least"
    );
    for put in &puts {
        let header = |name: &str| put.headers.get(name).map(String::as_str);
        assert_eq!(header("if-none-match"), Some("*"), "{}", put.path);
        let checksum = header("x-amz-checksum-sha256").expect("a checksum");
        use base64::Engine as _;
        let digest = base64::engine::general_purpose::STANDARD
            .decode(checksum)
            .unwrap();
        assert_eq!(hex::encode(digest), put.body_sha256);
        assert_eq!(
            header("x-amz-content-sha256"),
            Some(put.body_sha256.as_str())
        );
        assert!(
            !put.headers.contains_key("x-amz-object-lock-mode"),
            "the bucket's default retention does it"
        );
    }
    assert!(
        puts.last().unwrap().path.ends_with("/manifest.json"),
        "the manifest comes last"
    );
    let mut keys: Vec<&str> = puts.iter().map(|put| put.path.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), puts.len(), "nothing is sent twice");

    let manifest = bucket.manifest(&prefix);
    assert_eq!(manifest["store"]["object_lock"], "enabled");
    assert!(
        manifest["clock"]["offset_ms"].as_i64().unwrap().abs() < 5000,
        "the store's clock is this machine's"
    );
    for object in manifest["objects"].as_array().unwrap() {
        assert_eq!(object["shipped"], true);
        assert!(
            object["version_id"].is_string() && object["retain_until"].is_string(),
            "{object}"
        );
        assert_eq!(
            (&object["stored_sha256"], object["lock_mode"].as_str()),
            (&object["sha256"], Some("COMPLIANCE"))
        );
    }
    let (verified, report) = bucket.verify(&prefix);
    assert_eq!(
        (verified.code, report["verdict"].as_str()),
        (0, Some("complete")),
        "{report}"
    );
    for version in bucket.moto.versions(BUCKET) {
        assert_eq!(
            bucket
                .moto
                .delete_version(BUCKET, &version.key, &version.id),
            403,
            "{} is locked",
            version.key
        );
    }
}

#[test]
fn put_only_credentials_are_enough_and_what_they_hide_is_said() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket.proxy.put_only(true);
    let ended = bucket.collect(&SMALL);
    assert_eq!(ended.code, 0, "{ended:?}");
    bucket.proxy.put_only(false);
    let manifest = bucket.manifest(&ended.prefix());
    assert_eq!(
        manifest["store"]["object_lock"],
        "not readable with these credentials"
    );
    for object in manifest["objects"].as_array().unwrap() {
        assert_eq!(object["unread"], "not readable with these credentials");
        assert!(
            object["version_id"].is_string() && object["stored_sha256"] == object["sha256"],
            "{object}"
        );
    }
    assert_eq!(bucket.verify(&ended.prefix()).0.code, 0);
}

#[test]
fn a_bucket_that_locks_nothing_is_refused_before_anything_is_read() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket.moto.create_bucket("plain-bucket");
    bucket.moto.create_locked_bucket("undated-bucket");
    for (name, why) in [
        ("plain-bucket", "no Object Lock"),
        ("undated-bucket", "no default retention"),
    ] {
        let to = format!("s3://{name}/x");
        let collect = |more: &[&str]| {
            run(bucket
                .agent
                .command()
                .args(["collect", "--quiet", "--to", &to])
                .args(bucket.way())
                .args(SMALL)
                .args(more))
        };
        let refused = collect(&[]);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (11, ""),
            "{refused:?}"
        );
        assert!(
            refused.stderr.contains(why) && refused.stderr.contains("--allow-unlocked"),
            "{refused:?}"
        );
        assert!(bucket.moto.keys(name).is_empty());
        assert_eq!(collect(&["--allow-unlocked"]).code, 0);
    }
}

#[test]
fn locks_of_the_operator_reach_each_object() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    bucket.moto.create_locked_bucket("undated-bucket");
    let lock = [
        "--retain-until",
        "2099-01-31T00:00:00Z",
        "--lock-mode",
        "governance",
        "--legal-hold",
        "--kms-key",
        "alias/evidence",
    ];
    let ended = run(bucket
        .agent
        .command()
        .args(["collect", "--quiet", "--to", "s3://undated-bucket"])
        .args(bucket.way())
        .args(SMALL)
        .args(lock));
    assert_eq!(ended.code, 0, "{ended:?}");
    for key in bucket.moto.keys("undated-bucket") {
        let head = bucket.moto.head("undated-bucket", &key).unwrap();
        let header = |name: &str| head.get(name).map(String::as_str);
        assert_eq!(
            header("x-amz-object-lock-mode"),
            Some("GOVERNANCE"),
            "{key}"
        );
        assert_eq!(header("x-amz-object-lock-legal-hold"), Some("ON"), "{key}");
        assert!(
            header("x-amz-object-lock-retain-until-date")
                .unwrap()
                .starts_with("2099-01-31"),
            "{key}"
        );
        assert_eq!(
            header("x-amz-server-side-encryption"),
            Some("aws:kms"),
            "{key}"
        );
    }
}

#[test]
fn credentials_come_from_a_file_or_from_standard_input() {
    use std::io::Write;
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let text = format!(
        r#"{{"Version":1,"AccessKeyId":"{}","SecretAccessKey":"hush-hush"}}"#,
        exhibit_tests::rig::proxy::ACCESS_KEY
    );
    let bare = exhibit_tests::rig::agent::Agent::built().unwrap();
    let file = bare.home().join("credentials.json");
    std::fs::write(&file, &text).unwrap();
    let to = format!("s3://{BUCKET}/cases");
    let command = |from: &str| {
        let mut command = bare.command();
        command
            .args([
                "collect",
                "--quiet",
                "--to",
                &to,
                "--credentials-file",
                from,
            ])
            .args(bucket.way())
            .args(SMALL);
        command
    };
    let ended = run(&mut command(file.to_str().unwrap()));
    assert_eq!(ended.code, 0, "{ended:?}");
    let manifest: Value = bucket.manifest(&ended.prefix());
    assert!(!manifest.to_string().contains("hush-hush"));

    let mut child = command("-")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    let missing = run(&mut command("/nonexistent.json"));
    assert_eq!(missing.code, 12, "{missing:?}");
}
