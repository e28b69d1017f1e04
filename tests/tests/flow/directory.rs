//! Into a directory, without AWS: the main job.

use std::path::Path;

use exhibit_tests::rig::agent::Agent;
use serde_json::Value;

use super::{SMALL, collect, collection, folder, known_paths, run, verify};

#[test]
fn a_whole_collection_verifies_and_says_what_it_is() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let more = [
        "--operator",
        "ana",
        "--reason",
        "GuardDuty 1234",
        "--profile",
        "triage",
    ];
    let ended = collect(&agent, to.path().to_str().unwrap(), &more);
    let receipt = ended.receipt();
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    assert_eq!(receipt["exit_code"], ended.code);

    let folder = folder(to.path(), &ended.prefix());
    let manifest = collection::manifest(&folder);
    assert_eq!(
        (
            manifest["case"]["operator"].as_str(),
            manifest["case"]["reason"].as_str()
        ),
        (Some("ana"), Some("GuardDuty 1234"))
    );
    let bytes = std::fs::read(folder.join("manifest.json")).unwrap();
    assert_eq!(
        receipt["manifest_sha256"],
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))
    );
    let exe = std::fs::read(agent.program()).unwrap();
    assert_eq!(
        manifest["tool"]["sha256"],
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(exe))
    );

    // A partial run says so by its code, its status and its reasons, all three or none.
    let partial = ended.code == 3;
    assert_eq!(manifest["status"] == "partial", partial);
    assert_eq!(manifest["reasons"].as_array().unwrap().is_empty(), !partial);

    let (verified, report) = verify(&agent, folder.to_str().unwrap());
    assert_eq!(
        (verified.code, report["problems"].as_array().unwrap().len()),
        (ended.code, 0),
        "{report}"
    );
    assert_eq!(report["members"], receipt["members"]);
    let with_receipt = |sha256: &str| {
        run(agent.command().args([
            "verify",
            folder.to_str().unwrap(),
            "--manifest-sha256",
            sha256,
        ]))
        .code
    };
    assert_eq!(
        with_receipt(receipt["manifest_sha256"].as_str().unwrap()),
        ended.code
    );
    assert_eq!(with_receipt(&"0".repeat(64)), 20);
    known_paths::are_listed(
        &folder,
        receipt["started_utc_ns"].as_u64().unwrap() / 1_000_000_000,
    );
}

#[test]
fn artifacts_run_in_the_order_of_volatility_and_each_has_an_outcome() {
    let agent = Agent::built().unwrap();
    let listed = run(agent.command().args(["artifacts", "--json"]));
    let specs: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let to = tempfile::tempdir().unwrap();
    let ended = collect(&agent, to.path().to_str().unwrap(), &SMALL);
    let manifest = collection::manifest(&folder(to.path(), &ended.prefix()));
    let names = |values: &Value| {
        values
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&Value::from(specs)), names(&manifest["artifacts"]));
    let outcomes: Vec<&str> = manifest["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == "skipped")
            .count(),
        outcomes.len() - 2
    );
    let times: Vec<i64> = manifest["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["started"]["monotonic_ns"].as_i64().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn the_tar_opens_with_the_log_and_ends_with_the_inventory() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let ended = collect(&agent, to.path().to_str().unwrap(), &SMALL);
    let folder = folder(to.path(), &ended.prefix());
    let tar = collection::raw_tar(&folder);
    let names: Vec<String> = tar::Archive::new(tar.as_slice())
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned())
        .collect();
    assert_eq!(
        (
            names.first().unwrap().as_str(),
            names.last().unwrap().as_str()
        ),
        ("uac.log", "inventory.jsonl")
    );
    let members = collection::members(&folder);
    assert_eq!(
        members[b"[root]/etc/passwd".as_slice()],
        std::fs::read("/etc/passwd").unwrap()
    );
    let inventory = collection::table(&members, "inventory.jsonl");
    let passwd = inventory
        .iter()
        .find(|entry| entry["path"] == "[root]/etc/passwd")
        .unwrap();
    assert_eq!(
        (passwd["status"].as_str(), passwd["artifact"].as_str()),
        (Some("captured"), Some("accounts"))
    );
    for member in [
        "agent/action_log.jsonl",
        "agent/profile.json",
        "agent/version.json",
        "bodyfile/bodyfile.txt",
    ] {
        assert!(members.contains_key(member.as_bytes()), "{member}");
    }
}

#[test]
fn a_changed_byte_and_a_removed_segment_are_found() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let ended = collect(&agent, to.path().to_str().unwrap(), &SMALL);
    let folder = folder(to.path(), &ended.prefix());
    let segment = folder.join("evidence/00000.tar.zst");
    let good = std::fs::read(&segment).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(&segment, bad).unwrap();
    let (ended, report) = verify(&agent, folder.to_str().unwrap());
    assert_eq!(
        (ended.code, report["problems"][0]["code"].as_str()),
        (20, Some("hash"))
    );
    std::fs::remove_file(&segment).unwrap();
    let (ended, report) = verify(&agent, folder.to_str().unwrap());
    assert_eq!(
        (ended.code, report["problems"][0]["code"].as_str()),
        (20, Some("missing"))
    );
}

#[test]
fn a_recorded_tree_stands_in_for_the_machine_and_gives_the_same_twice() {
    let agent = Agent::built().unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/cron.d")).unwrap();
    std::fs::write(
        root.path().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(
        root.path().join("etc/cron.d/evil"),
        "* * * * * root /tmp/x\n",
    )
    .unwrap();
    let inventory = || {
        let to = tempfile::tempdir().unwrap();
        let more = [
            "--root",
            root.path().to_str().unwrap(),
            "--include",
            "accounts,scheduled_tasks",
        ];
        let ended = collect(&agent, to.path().to_str().unwrap(), &more);
        assert_eq!(ended.code, 0, "{ended:?}");
        let members = collection::members(&folder(to.path(), &ended.prefix()));
        let hashes = collection::table(&members, "inventory.jsonl")
            .into_iter()
            .filter(|e| e["path"].as_str().unwrap().starts_with("[root]"));
        hashes
            .map(|entry| (entry["path"].to_string(), entry["sha256"].to_string()))
            .collect::<Vec<_>>()
    };
    let first = inventory();
    assert!(
        first
            .iter()
            .any(|(path, _)| path.contains("/etc/cron.d/evil"))
    );
    assert_eq!(first, inventory());
}

#[test]
fn nothing_collected_is_never_success() {
    let agent = Agent::built().unwrap();
    let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let more = [
        "--root",
        root.path().to_str().unwrap(),
        "--include",
        "audit,journal",
    ];
    let ended = collect(&agent, to.path().to_str().unwrap(), &more);
    assert_eq!(
        (ended.code, ended.receipt()["result"].as_str()),
        (4, Some("nothing-collected")),
        "{ended:?}"
    );
    let manifest = collection::manifest(&folder(to.path(), &ended.prefix()));
    assert_eq!(
        collection::artifact(&manifest, "audit")["outcome"],
        "absent"
    );
}

#[test]
fn completions_and_the_manual_page_know_the_commands() {
    let agent = Agent::built().unwrap();
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["man"],
    ] {
        let ended = run(agent.command().args(arguments));
        assert_eq!(ended.code, 0, "{arguments:?}");
        let text = ended.stdout.replace("\\-", "-");
        for word in ["collect", "verify", "max-file-size", "spool"] {
            assert!(text.contains(word), "{arguments:?} lacks {word}");
        }
    }
    for command in ["collect", "verify", "ship"] {
        let help = run(agent.command().args([command, "--help"])).stdout;
        assert!(
            help.contains("Example"),
            "{command} --help shows no example"
        );
    }
}

#[test]
fn a_seal_is_told_and_a_key_that_is_trusted_is_demanded() {
    let agent = Agent::built().unwrap();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../evidence/vectors");
    let verified = |vector: &str, key: Option<&str>| {
        let key = key.map(|key| vectors.join("keys").join(key));
        let mut command = agent.command();
        command
            .arg("verify")
            .arg(vectors.join(vector).join("collection"));
        key.iter().for_each(|key| {
            command.arg("--key").arg(key);
        });
        let text = run(&mut command);
        let report: Value =
            serde_json::from_str(&run(command.arg("--json")).stdout).unwrap_or_default();
        (
            text,
            report["seal"]["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    for (vector, key, code, state, told) in [
        (
            "valid/sealed",
            None,
            0,
            "untrusted",
            "not trusted: it lies beside",
        ),
        (
            "valid/sealed",
            Some("sealer.pub.pem"),
            0,
            "trusted",
            "by j.doe with the trusted key 3e56",
        ),
        ("valid/sealed", Some("other.pub.pem"), 20, "broken", "[key]"),
        ("valid/minimal", None, 0, "unsealed", "nobody has signed"),
        (
            "valid/minimal",
            Some("sealer.pub.pem"),
            20,
            "unsealed",
            "SHA256SUMS is missing",
        ),
        (
            "hostile/seal-object-added",
            None,
            20,
            "broken",
            "[unlisted]",
        ),
    ] {
        let (ended, found) = verified(vector, key);
        assert_eq!(
            (ended.code, found.as_str()),
            (code, state),
            "{vector} {key:?}: {ended:?}"
        );
        assert!(ended.stdout.contains(told), "{vector} {key:?}: {ended:?}");
    }
    let (ended, _) = verified("valid/sealed", Some("sealer.pem"));
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("openssl pkey"), "{ended:?}");
}
