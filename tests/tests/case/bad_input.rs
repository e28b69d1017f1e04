//! What can not be done has its own message and its own exit code, and leaves nothing behind.

use exhibit_tests::rig::cloud::{CloudFault, Ec2, Instance, Script};

use super::{Bench, SUSPECTS};

/// Collects on one target and says why that can not be.
#[track_caller]
fn refused(bench: &Bench, target: &[&str], code: i32, why: &str) {
    let ended = bench
        .run(&[&["collect", "--case", "IR-7"], target].concat())
        .expect(code);
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);
    assert_eq!(bench.cloud.count("ssm", "SendCommand"), 0);
}

#[test]
fn instances_that_can_not_be_asked() {
    let Some(bench) = Bench::start() else { return };
    bench.open("IR-7");
    refused(
        &bench,
        &["--instance", "i-0123456789abcdef0"],
        30,
        "there is no instance i-0123456789abcdef0",
    );
    refused(
        &bench,
        &["--tag", "Response=Collect"],
        30,
        "no instance has the tag",
    );
    refused(&bench, &["--ip", "192.0.2.1"], 30, "no instance answers to");
    refused(&bench, &["--instance", "web-1"], 2, "is not an instance id");
    refused(&bench, &["--ip", "web-1"], 2, "is not an address");
    refused(&bench, &["--tag", "Response"], 2, "is not KEY=VALUE");
    let (first, second) = (
        bench.cloud.run_instance(SUSPECTS, &[("Name", "web")]),
        bench.cloud.run_instance(SUSPECTS, &[("Name", "web")]),
    );
    refused(&bench, &["--name", "web"], 31, &first);
    refused(&bench, &["--name", "web"], 31, &second);
    refused(&bench, &["--instance", &first], 34, "SSM does not know");
    bench.cloud.instance(Instance {
        ping: "ConnectionLost".into(),
        ..Instance::new(&first, Script::default().into()).account(SUSPECTS)
    });
    refused(&bench, &["--instance", &first], 34, "SSM has lost");
    let stopped = bench.cloud.ec2(&Ec2::new(SUSPECTS).stopped());
    refused(&bench, &["--instance", &stopped], 32, "is stopped");
    let windows = bench.cloud.ec2(&Ec2::new(SUSPECTS).windows());
    refused(&bench, &["--instance", &windows], 33, "Windows");
    // Nothing of it is in the journal.
    assert_eq!(bench.journal("IR-7").len(), 1);
}

#[test]
fn one_that_can_not_be_asked_does_not_stop_the_others() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let good = bench.instance(&[("Response", "Collect")], |runner| runner);
    let stopped = bench
        .cloud
        .ec2(&Ec2::new(SUSPECTS).tag("Response", "Collect").stopped());
    bench.open("IR-7");
    let ended = bench
        .run(&[
            "collect",
            "--case",
            "IR-7",
            "--instance",
            &good,
            "--instance",
            &stopped,
        ])
        .expect(3);
    let request = &ended.json()["requests"][0];
    assert_eq!(request["instances"][0]["outcome"], "received");
    assert_eq!(
        (
            &request["refused"][0]["instance"],
            &request["refused"][0]["code"]
        ),
        (&stopped.as_str().into(), &"not-running".into())
    );
}

#[test]
fn cases_that_can_not_be() {
    let Some(bench) = Bench::start() else { return };
    bench.open("IR-7");
    let again = bench
        .run(&["case", "open", "IR-7", "--reason", "x"])
        .expect(35);
    assert!(
        again.stderr.contains("there is a case IR-7 already"),
        "{}",
        again.stderr
    );
    let unknown = bench.run(&["verify", "IR-8"]).expect(36);
    assert!(
        unknown.stderr.contains("there is no case IR-8"),
        "{}",
        unknown.stderr
    );
    let wrong = bench
        .run(&["case", "open", "../x", "--reason", "x"])
        .expect(2);
    assert!(
        wrong.stderr.contains("only letters, digits"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn accounts_that_do_not_fit() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let collect = ["collect", "--case", "IR-7", "--instance", instance.as_str()];
    bench.configure("role = \"arn:aws:iam::333333333333:role/ExhibitResponder\"");
    let wrong = bench.run(&collect).expect(39);
    assert!(
        wrong.stderr.contains("333333333333") && wrong.stderr.contains(SUSPECTS),
        "{}",
        wrong.stderr
    );
    bench.configure("");
    let denied = CloudFault::Status(
        403,
        "AccessDenied",
        "User: arn:aws:iam::1:user/ana is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::222222222222:role/ExhibitResponder",
    );
    bench
        .cloud
        .fault(1, |call| call.is("sts", "AssumeRole"), denied);
    let ended = bench.run(&collect).expect(40);
    let statement = r#"{"Action":"sts:AssumeRole","Effect":"Allow","Resource":"arn:aws:iam::222222222222:role/ExhibitResponder"}"#;
    assert!(ended.stderr.contains(statement), "{}", ended.stderr);
    for (fault, code, why) in [
        (
            CloudFault::Status(
                403,
                "ExpiredToken",
                "The security token included in the request is expired",
            ),
            12,
            "log in again",
        ),
        (
            CloudFault::Status(
                403,
                "SignatureDoesNotMatch",
                "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z",
            ),
            41,
            "the clock of this machine",
        ),
        (
            CloudFault::Status(400, "InvalidDocument", "no such document"),
            43,
            "ssm-documents/README.md",
        ),
    ] {
        bench.cloud.heal();
        match code {
            43 => bench
                .cloud
                .fault(1, |call| call.is("ssm", "DescribeDocument"), fault),
            _ => bench
                .cloud
                .fault(1, |call| call.is("sts", "GetCallerIdentity"), fault),
        }
        let ended = bench.run(&collect).expect(code);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    let mut without = bench.command(&collect);
    without
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    let ended = super::bench::ended(without).expect(12);
    assert!(ended.stderr.contains("credentials"), "{}", ended.stderr);
    assert_eq!(bench.cloud.count("ssm", "SendCommand"), 0);
}

#[test]
fn another_document_than_the_configured_one_is_not_run() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let path = bench.path("exhibit.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace(
            "[collect]\n",
            &format!("[collect]\ndocument_sha256 = \"{}\"\n", "0".repeat(64)),
        ),
    )
    .unwrap();
    refused(
        &bench,
        &["--instance", &instance],
        43,
        "somebody changed one of them",
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let before = (
        bench.journal("IR-7"),
        bench.cloud.moto().keys(super::BUCKET),
    );
    let plan = bench
        .run(&[
            "collect",
            "--case",
            "IR-7",
            "--instance",
            &instance,
            "--dry-run",
        ])
        .expect(0)
        .json();
    assert_eq!(plan["instances"][0], instance.as_str());
    bench.run(&["seal", "IR-7", "--dry-run"]).expect(22);
    bench.run(&["resume", "IR-7", "--dry-run"]).expect(0);
    bench.run(&["cancel", "IR-7", "--dry-run"]).expect(0);
    bench
        .run(&["case", "open", "IR-8", "--reason", "x", "--dry-run"])
        .expect(0);
    assert_eq!(
        (
            bench.journal("IR-7"),
            bench.cloud.moto().keys(super::BUCKET)
        ),
        before
    );
    for changes in [
        "SendCommand",
        "PutParameter",
        "CancelCommand",
        "DeleteParameter",
    ] {
        assert_eq!(bench.cloud.count("ssm", changes), 0, "{changes}");
    }
}
