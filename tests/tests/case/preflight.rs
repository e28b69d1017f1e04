//! The preflight's lines on keys, permissions, networks, kernels and cost: each red or amber first, then green.

use std::fs;
use std::process::Command;

use exhibit_tests::rig::cloud::{Call, CloudFault, Instance, Script, Volume, VolumeKey};
use serde_json::{Value, json};

use super::bench::KEY;
use super::doctor::{light, only_asked};
use super::{BUCKET, Bench, EVIDENCE, SUSPECTS};

/// The account that gets copies of disks.
const FORENSIC: &str = "333333333333";

fn found(report: &Value, what: &str) -> String {
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["what"] == what);
    let check = check.unwrap_or_else(|| panic!("no line {what} in {report:#}"));
    check["found"].as_str().unwrap().to_owned()
}

fn has(report: &Value, what: &str) -> bool {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.any(|check| check["what"] == what)
}

/// The report, whatever the verdict.
fn doctor(bench: &Bench, arguments: &[&str]) -> Value {
    bench.run(&[&["doctor"], arguments].concat()).json()
}

/// `name` of a form, and its value.
fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    pairs.iter().map(owned).collect()
}

fn text<'a>(xml: &'a str, name: &str) -> &'a str {
    let (_, rest) = xml.split_once(&format!("<{name}>")).expect(name);
    rest.split('<').next().unwrap()
}

/// What EC2 answers to whoever may not.
fn unauthorized() -> CloudFault {
    CloudFault::Status(
        403,
        "UnauthorizedOperation",
        "You are not authorized to perform this operation.",
    )
}

#[test]
fn a_permission_that_is_missing_is_red_with_the_statement_that_allows_it() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    forensic(&bench);
    let arguments = ["--instance", instance.as_str()];
    for (service, operation, what) in [
        ("ec2", "DescribeInstanceTypes", "account web"),
        ("ec2", "DescribeSnapshots", "account web"),
        ("ec2", "DescribeSnapshots", "forensic account"),
        ("ec2", "DescribeLockedSnapshots", "account web"),
        ("cloudtrail", "LookupEvents", "account web"),
        ("ec2", "CreateSnapshots", &format!("instance {instance}")),
        ("ssm", "ListCommands", "account web"),
        ("ssm", "GetCommandInvocation", "account web"),
    ] {
        let denied = match service {
            "ec2" => unauthorized(),
            _ => CloudFault::Status(400, "AccessDeniedException", "no"),
        };
        bench
            .cloud
            .fault(usize::MAX, move |call| call.is(service, operation), denied);
        let report = bench
            .run(&[&["doctor"], arguments.as_slice()].concat())
            .expect(43)
            .json();
        let line = format!("{what}: {service}:{operation}");
        assert_eq!(light(&report, &line).0, "red", "{line}");
        let statement = format!("\"Action\":\"{service}:{operation}\"");
        assert!(found(&report, &line).contains(&statement), "{report:#}");
        bench.cloud.heal();
    }
    let report = doctor(&bench, &arguments);
    let collect = found(&report, "account web: may collect");
    for action in ["ec2:DescribeInstances,", "ssm:GetCommandInvocation;"] {
        assert!(collect.contains(action), "{collect}");
    }
    assert!(collect.contains("no dry run: ssm:SendCommand"), "{collect}");
    let create = found(&report, &format!("instance {instance}: may snapshot"));
    assert_eq!(create, "ec2:CreateSnapshots");
    // Without a snapshot there is nothing to ask about.
    let snapshot = found(&report, "account web: may snapshot");
    assert!(
        snapshot.contains("not asked") && snapshot.contains("ec2:DeleteSnapshot"),
        "{snapshot}"
    );
    let copy = found(&report, "forensic account: may copy");
    assert!(
        copy.starts_with("ec2:DescribeSnapshots; not asked"),
        "{copy}"
    );
    only_asked(&bench);
    assert!(bench.cloud.snapshots().is_empty());
}

/// What may be done with originals, when all is allowed.
const ORIGINALS: &str = "ec2:DescribeSnapshots, ec2:DescribeLockedSnapshots, cloudtrail:LookupEvents, \
     ec2:CopySnapshot, ec2:ModifySnapshotAttribute, ec2:LockSnapshot, ec2:UnlockSnapshot, ec2:DeleteSnapshot";
/// And with copies.
const COPIES: &str = "ec2:DescribeSnapshots, ec2:CopySnapshot, ec2:LockSnapshot";

/// A snapshot of exhibit's in the suspects' account, and one in the account for copies; their ids.
fn snapshots(bench: &Bench) -> [String; 2] {
    bench.cloud.access_key("AKIAFORENSIC", FORENSIC);
    bench.cloud.snapshot_polls(0);
    [("AKIASUSPECTS", SUSPECTS), ("AKIAFORENSIC", FORENSIC)].map(|(key, account)| {
        bench.snapshot_as(key, &bench.cloud.run_instance(account, &[]));
        let all = bench.cloud.snapshots();
        all.last().expect("a snapshot").id.clone()
    })
}

#[test]
fn with_a_snapshot_there_each_act_on_it_is_asked_about() {
    let Some(bench) = Bench::start() else { return };
    let report = doctor(&bench, &[]);
    assert!(!has(&report, "account web: may snapshot") && !has(&report, "forensic account"));
    forensic(&bench);
    snapshots(&bench);
    for (place, operation) in [
        ("account web", "CopySnapshot"),
        ("account web", "ModifySnapshotAttribute"),
        ("account web", "LockSnapshot"),
        ("account web", "UnlockSnapshot"),
        ("account web", "DeleteSnapshot"),
        ("forensic account", "CopySnapshot"),
        ("forensic account", "LockSnapshot"),
    ] {
        let account = match place {
            "account web" => SUSPECTS,
            _ => FORENSIC,
        };
        let meant = move |call: &Call| call.is("ec2", operation) && call.account == account;
        bench.cloud.fault(1, meant, unauthorized());
        let report = bench.run(&["doctor"]).expect(43).json();
        let line = format!("{place}: ec2:{operation}");
        assert_eq!(light(&report, &line).0, "red", "{line}");
        bench.cloud.heal();
    }
    let report = doctor(&bench, &[]);
    assert_eq!(found(&report, "account web: may snapshot"), ORIGINALS);
    assert_eq!(found(&report, "forensic account: may copy"), COPIES);
    let snapshots = bench.cloud.snapshots();
    assert_eq!(snapshots.len(), 2);
    assert!(
        snapshots
            .iter()
            .all(|it| it.shared.is_empty() && it.lock.is_none())
    );
}

#[test]
fn a_lock_of_the_snapshot_that_is_asked_about_denies_nothing() {
    let Some(bench) = Bench::start() else { return };
    forensic(&bench);
    let [original, copy] = snapshots(&bench);
    bench.lock_as("AKIASUSPECTS", &original, "governance");
    bench.lock_as("AKIAFORENSIC", &copy, "compliance");
    let report = doctor(&bench, &[]);
    assert_eq!(found(&report, "account web: may snapshot"), ORIGINALS);
    assert_eq!(found(&report, "forensic account: may copy"), COPIES);
}

#[test]
fn a_volume_under_the_default_key_needs_one_that_can_be_shared() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    let volume = Volume::new(SUSPECTS, &instance, "/dev/sdf", VolumeKey::Default);
    let volume = bench.cloud.volume(&volume);
    let line = format!("instance {instance}: snapshot_key");
    let arguments = ["--instance", instance.as_str()];
    // Without an account for copies no snapshot is made.
    assert!(!has(&doctor(&bench, &arguments), &line));
    let own = fs::read_to_string(bench.path("exhibit.toml")).unwrap();
    forensic(&bench);
    let report = bench.run(&["doctor", "--instance", &instance]);
    let report = report.expect(43).json();
    let (colour, to_do) = light(&report, &line);
    assert!(
        colour == "red" && to_do.contains("accounts.web.snapshot_key"),
        "{to_do}"
    );
    assert!(found(&report, &line).ends_with(&format!(": {volume}")));
    let denied = CloudFault::Status(400, "AccessDeniedException", "no");
    bench
        .cloud
        .fault(usize::MAX, |call| call.is("kms", "DescribeKey"), denied);
    let report = doctor(&bench, &arguments);
    let statement = r#""Action":"kms:DescribeKey""#;
    assert!(found(&report, "account web: default key of EBS").contains(statement));
    bench.cloud.heal();
    let key = bench.cloud.key(SUSPECTS);
    bench.configure_section("accounts.web", &format!("snapshot_key = \"{key}\""));
    assert!(!has(&doctor(&bench, &arguments), &line));
    only_asked(&bench);
    // Nothing has to be shared with the same account.
    let lines = format!("account = \"{SUSPECTS}\"\nregion = \"us-east-1\"\nkey = \"{key}\"");
    fs::write(bench.path("exhibit.toml"), own).unwrap();
    bench.configure_section("forensic", &lines);
    assert!(!has(&doctor(&bench, &arguments), &line));
}

/// Names an account for copies, with a key; its ARN.
fn forensic(bench: &Bench) -> String {
    let key = bench.cloud.key(FORENSIC);
    let lines = format!(
        "account = \"{FORENSIC}\"\nrole = \"arn:aws:iam::{FORENSIC}:role/ExhibitForensic\"\nregion = \"us-east-1\"\n\
         key = \"{key}\""
    );
    bench.configure_section("forensic", &lines);
    key
}

#[test]
fn the_account_for_copies_and_its_key_have_to_be_usable() {
    let Some(bench) = Bench::start() else { return };
    let key = forensic(&bench);
    let report = doctor(&bench, &[]);
    assert_eq!(light(&report, "forensic account").0, "green");
    assert_eq!(light(&report, "forensic account: key").0, "green");
    bench.cloud.access_key("AKIAFORENSIC", FORENSIC);
    let id = json!({"KeyId": key.rsplit('/').next()});
    bench.call_as("AKIAFORENSIC", "kms", "TrentService.DisableKey", &id);
    let report = bench.run(&["doctor"]).expect(43).json();
    assert_eq!(light(&report, "forensic account: key").0, "red");
}

#[test]
fn the_key_of_the_bucket_has_to_be_usable() {
    let Some(bench) = Bench::start() else { return };
    let key = bench.cloud.key(EVIDENCE);
    encrypt(&bench, &key);
    let denied = CloudFault::Status(400, "AccessDeniedException", "no");
    bench
        .cloud
        .fault(1, |call| call.is("kms", "GenerateDataKey"), denied);
    let report = doctor(&bench, &[]);
    let line = "bucket: kms:GenerateDataKey";
    let (colour, to_do) = light(&report, line);
    assert!(colour == "amber" && to_do.contains("kms:ViaService"));
    let statement =
        format!(r#"{{"Action":"kms:GenerateDataKey","Effect":"Allow","Resource":"{key}"}}"#);
    assert!(found(&report, line).contains(&statement));
    let report = doctor(&bench, &[]);
    assert_eq!(light(&report, "bucket: KMS key").0, "green");
    let used = found(&report, "bucket: use of the key");
    assert_eq!(used, "kms:GenerateDataKey, kms:Decrypt");
    for (operation, state) in [
        ("DisableKey", "Disabled"),
        ("ScheduleKeyDeletion", "PendingDeletion"),
    ] {
        let target = format!("TrentService.{operation}");
        let id = key.rsplit('/').next();
        bench.call_as(KEY, "kms", &target, &json!({"KeyId": id}));
        let report = bench.run(&["doctor"]).expect(43).json();
        let (colour, to_do) = light(&report, "bucket: KMS key");
        assert!(colour == "red" && to_do.contains("enable it"), "{to_do}");
        assert!(found(&report, "bucket: KMS key").ends_with(state));
    }
    encrypt(&bench, &key.replace(EVIDENCE, "333333333333"));
    let report = bench.run(&["doctor"]).expect(43).json();
    assert_eq!(light(&report, "bucket: KMS key").0, "red");
    only_asked(&bench);
}

/// Puts the bucket under a KMS key.
fn encrypt(bench: &Bench, key: &str) {
    let body = format!(
        "<ServerSideEncryptionConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule>\
         <ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{key}</KMSMasterKeyID>\
         </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
    );
    let moto = bench.cloud.moto();
    let path = format!("/{BUCKET}");
    let set = moto.request("PUT", &path, &[("encryption", "")], &[], body.as_bytes());
    assert!(set.status < 300, "{}", set.text());
}

#[test]
fn a_seal_key_that_may_not_sign_is_found_before_the_seal() {
    let Some(bench) = Bench::start() else { return };
    let wanted = json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"});
    let key = bench.call_as(KEY, "kms", "TrentService.CreateKey", &wanted);
    let id = key["KeyMetadata"]["KeyId"].as_str().expect("a key");
    let text = fs::read_to_string(bench.path("exhibit.toml")).unwrap();
    let by_kms = text.replace("key_file = \"seal.pem\"", &format!("kms_key = \"{id}\""));
    fs::write(bench.path("exhibit.toml"), by_kms).unwrap();
    let denied = CloudFault::Status(400, "AccessDeniedException", "no");
    bench.cloud.fault(1, |call| call.is("kms", "Sign"), denied);
    let report = bench.run(&["doctor"]).expect(43).json();
    assert_eq!(light(&report, "seal key").0, "green");
    assert_eq!(light(&report, "seal key: kms:Sign").0, "red");
    let statement = r#""Action":"kms:Sign""#;
    assert!(found(&report, "seal key: kms:Sign").contains(statement));
    let report = doctor(&bench, &[]);
    assert_eq!(found(&report, "seal key: may sign"), "kms:Sign");
    only_asked(&bench);
    let target = "TrentService.DisableKey";
    bench.call_as(KEY, "kms", target, &json!({"KeyId": id}));
    let report = bench.run(&["doctor"]).expect(43).json();
    assert_eq!(light(&report, "seal key: kms:Sign").0, "red");
}

#[test]
fn a_way_to_s3_is_looked_for_in_the_routes() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    let line = |what: &str| format!("instance {instance}: {what}");
    let arguments = ["--instance", instance.as_str()];
    let ask = |pairs: &[(&str, &str)]| bench.cloud.ec2_ask("us-east-1", SUSPECTS, &form(pairs));
    let report = doctor(&bench, &arguments);
    let (colour, to_do) = light(&report, &line("way to S3"));
    assert!(colour == "amber" && to_do.contains("gateway endpoint"));
    let table = found(&report, &line("way to S3")).replace("none found in ", "");
    assert_eq!(light(&report, &line("way to SSM")).0, "green");
    assert_eq!(light(&report, &line("HTTPS out")).0, "green");

    let seen = ask(&[("Action", "DescribeInstances"), ("InstanceId.1", &instance)]);
    let endpoint = ask(&[
        ("Action", "CreateVpcEndpoint"),
        ("VpcId", text(&seen, "vpcId")),
        ("VpcEndpointType", "Gateway"),
        ("ServiceName", "com.amazonaws.us-east-1.s3"),
        ("RouteTableId.1", &table),
    ]);
    let report = doctor(&bench, &arguments);
    assert_eq!(light(&report, &line("way to S3")).0, "green");
    let way = format!("a route, by {}", text(&endpoint, "vpcEndpointId"));
    assert_eq!(found(&report, &line("way to S3")), way);

    ask(&[
        ("Action", "RevokeSecurityGroupEgress"),
        ("GroupId", text(&seen, "groupId")),
        ("IpPermissions.1.IpProtocol", "-1"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
    ]);
    let report = doctor(&bench, &arguments);
    assert_eq!(light(&report, &line("HTTPS out")).0, "amber");
    let denied = |call: &Call| call.is("ec2", "DescribeRouteTables");
    bench.cloud.fault(1, denied, unauthorized());
    let report = doctor(&bench, &arguments);
    let (colour, to_do) = light(&report, &line("way to S3"));
    assert!(colour == "amber" && to_do.contains("statement"), "{to_do}");
}

#[test]
fn the_installed_kernels_are_compared_with_a_signed_module_store() {
    let Some(bench) = Bench::start() else { return };
    let id = bench.cloud.run_instance(SUSPECTS, &[]);
    let plain = Instance::new(&id, Script::default().into()).account(SUSPECTS);
    bench.cloud.instance(plain.clone());
    let line = format!("instance {id}: kernel, free memory");
    let arguments = ["--instance", id.as_str()];
    let report = doctor(&bench, &arguments);
    let (colour, to_do) = light(&report, &line);
    assert!(colour == "amber" && to_do.contains("memory check"));
    assert!(found(&report, &line).starts_with("not known from outside"));

    bench.cloud.instance(
        plain
            .package("linux-image-6.1.0-56-amd64", "6.1.192-2")
            .package("linux-image-amd64", "6.1.192-2")
            .package("bash", "5.2"),
    );
    let report = doctor(&bench, &arguments);
    assert_eq!(light(&report, &line).0, "amber");
    assert!(found(&report, &line).contains("6.1.0-56-amd64; there is no agent.module_store"));

    let store = bench.path("lime");
    fs::create_dir(&store).unwrap();
    bench.configure_section(
        "agent",
        "module_store = \"lime\"\nmodule_key = \"lime.pub\"",
    );
    index(&bench, "6.1.0-40-amd64");
    let report = doctor(&bench, &arguments);
    assert_eq!(light(&report, "module store").0, "green");
    let (colour, to_do) = light(&report, &line);
    assert!(colour == "amber" && to_do.contains("packaging/lime"));
    index(&bench, "6.1.0-56-amd64");
    let report = doctor(&bench, &arguments);
    assert_eq!(light(&report, &line).0, "green", "{report:#}");
    let changed = fs::read_to_string(store.join("index.json")).unwrap() + " ";
    fs::write(store.join("index.json"), changed).unwrap();
    let report = bench.run(&["doctor", "--instance", &id]).expect(43).json();
    assert_eq!(light(&report, "module store").0, "red");
    assert_eq!(light(&report, &line).0, "amber");
}

/// Writes an index with one release, and signs it as packaging/lime/sign does.
fn index(bench: &Bench, release: &str) {
    let store = bench.path("lime");
    let text = json!({"index_version": 1, "modules": [{"release": release}]});
    fs::write(store.join("index.json"), text.to_string()).unwrap();
    let openssl = |arguments: &[&str]| {
        let status = Command::new("openssl")
            .args(arguments)
            .current_dir(bench.path(""))
            .status();
        assert!(status.expect("openssl").success(), "{arguments:?}");
    };
    openssl(&["pkey", "-in", "seal.pem", "-pubout", "-out", "lime.pub"]);
    openssl(&[
        "dgst",
        "-sha256",
        "-sign",
        "seal.pem",
        "-out",
        "lime/index.json.sig",
        "lime/index.json",
    ]);
}

#[test]
fn the_estimate_has_quantities_and_with_prices_an_amount() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    let arguments = ["--instance", instance.as_str()];
    let text = found(&doctor(&bench, &arguments), "estimate");
    assert!(
        text.contains("at most 8 GiB of memory in 1024 PUT requests, 8 GiB of snapshots"),
        "{text}"
    );
    let prices =
        "currency = \"USD\"\ns3_gib_month = 0.5\ns3_thousand_puts = 1.0\nsnapshot_gib_month = 0.25";
    bench.configure_section("cost", prices);
    let text = found(&doctor(&bench, &arguments), "estimate");
    assert!(text.ends_with("; USD 7.02 for a month at most"), "{text}");
}
