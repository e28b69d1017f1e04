//! The preflight: one table, one verdict, what to do for each red line, and nothing changed.

use exhibit_tests::rig::cloud::Call;
use serde_json::Value;

use super::{BUCKET, Bench, EVIDENCE};

/// The light of a line, and what to do.
pub fn light(report: &Value, what: &str) -> (String, String) {
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["what"] == what);
    let check = check.unwrap_or_else(|| panic!("no line {what} in {report:#}"));
    let text = |name: &str| check[name].as_str().unwrap().to_owned();
    (text("light"), text("to_do"))
}

#[test]
fn what_is_missing_is_red_with_what_to_do_and_green_once_it_is_there() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[("Name", "web-1")], |runner| runner);
    let arguments = ["doctor", "--instance", &instance];
    let report = bench.run(&arguments).expect(43).json();
    assert_eq!(report["ready"], false);
    let (colour, to_do) = light(&report, "bucket: public access blocked");
    assert!(colour == "red" && to_do.contains("Block Public Access"));
    for (what, colour) in [
        ("bucket: Object Lock", "green"),
        ("bucket: default retention", "green"),
        ("bucket: versioning", "green"),
        ("bucket: TLS only", "amber"),
        ("seal key", "green"),
        ("put-only sessions", "green"),
        ("account web: SSM document", "amber"),
        ("account web: CloudTrail", "amber"),
    ] {
        assert_eq!(light(&report, what).0, colour, "{what}");
    }
    assert_eq!(light(&report, &format!("instance {instance}")).0, "green");
    let block = "<PublicAccessBlockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><BlockPublicAcls>true</BlockPublicAcls>\
        <IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>\
        <RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    let moto = bench.cloud.moto();
    let query = [("publicAccessBlock", "")];
    let set = moto.request("PUT", &format!("/{BUCKET}"), &query, &[], block.as_bytes());
    assert!(set.status < 300, "{}", set.text());
    let report = bench.run(&arguments).expect(0).json();
    assert_eq!(report["ready"], true, "{report:#}");
    only_asked(&bench);
}

/// Every call of `exhibit` so far was a question, a dry run, or for a session that is thrown away.
#[track_caller]
pub fn only_asked(bench: &Bench) {
    let asks = [
        "Describe",
        "Get",
        "List",
        "Lookup",
        "GET ",
        "HEAD ",
        "AssumeRole",
    ];
    for call in bench.cloud.calls() {
        let own = SETUP.contains(&call.operation.as_str()) && !dry(&call);
        let asked = asks.iter().any(|verb| call.operation.starts_with(verb));
        assert!(asked || own || dry(&call), "{call:?}");
    }
}

/// What tests do past `exhibit`, in whose source these words do not occur.
const SETUP: [&str; 4] = [
    "CreateDocument",
    "CreateKey",
    "DisableKey",
    "ScheduleKeyDeletion",
];

/// Whether a call says that it must not be carried out.
fn dry(call: &Call) -> bool {
    call.form().is_true("DryRun") || call.json()["DryRun"] == true
}

#[test]
fn a_bucket_that_is_not_there_and_one_without_a_lock_are_red() {
    let Some(bench) = Bench::start() else { return };
    bench.configure("bucket = \"no-such-bucket\"");
    let report = bench.run(&["doctor"]).expect(43).json();
    assert_eq!(light(&report, "bucket").0, "red");
    bench.cloud.moto().create_bucket("plain-bucket");
    bench.configure("bucket = \"plain-bucket\"");
    let report = bench.run(&["doctor"]).expect(43).json();
    let (colour, to_do) = light(&report, "bucket: Object Lock");
    assert!(
        colour == "red" && to_do.contains("Object Lock"),
        "{EVIDENCE}: {to_do}"
    );
}
