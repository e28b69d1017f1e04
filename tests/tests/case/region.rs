//! `--region`: another region of the same account, from the first call to the last, also after `resume`.

use exhibit_tests::rig::cloud::{CloudFault, Ec2, Instance, Script, When};

use super::doctor::light;
use super::{Bench, SUSPECTS};

const ELSEWHERE: &str = "eu-west-1";

/// An instance in another region than the configuration's.
fn elsewhere(bench: &Bench, script: Script) -> String {
    let id = bench.cloud.ec2(&Ec2::new(SUSPECTS).region(ELSEWHERE));
    let managed = Instance::new(&id, script.into()).account(SUSPECTS);
    bench.cloud.instance(managed.region(ELSEWHERE));
    id
}

#[test]
fn an_instance_is_found_only_in_its_region() {
    let Some(bench) = Bench::start() else { return };
    let id = elsewhere(&bench, Script::default());
    let here = bench.run(&["doctor", "--instance", &id]).expect(43).json();
    assert_eq!(light(&here, "instances").0, "red");
    let arguments = ["doctor", "--instance", &id, "--region", ELSEWHERE];
    // The document is not registered there.
    let there = bench.run(&arguments).expect(43).json();
    assert_eq!(light(&there, "account web: SSM document").0, "red");
    bench.register_document(ELSEWHERE);
    let there = bench.run(&arguments).json();
    assert_eq!(light(&there, "account web: SSM document").0, "amber");
    assert_eq!(light(&there, &format!("instance {id}")).0, "green");
    // No endpoint of that region leads to the bucket.
    let (colour, to_do) = light(&there, &format!("instance {id}: way to S3"));
    assert!(colour == "amber" && to_do.contains("us-east-1"), "{to_do}");
}

#[test]
fn resume_goes_on_in_the_region_that_was_recorded() {
    let Some(bench) = Bench::start() else { return };
    let script = Script::default()
        .then(When::Polls(1), "InProgress", -1, "")
        .then(When::Polls(3), "Failed", 61, "");
    let id = elsewhere(&bench, script);
    bench.register_document(ELSEWHERE);
    bench.open("IR-7");
    let collect = ["collect", "--case", "IR-7", "--instance", &id, "--no-wait"];
    let unknown = bench.run(&collect).expect(30);
    assert!(unknown.stderr.contains("the region"), "{}", unknown.stderr);
    bench
        .run(&[collect.as_slice(), &["--region", ELSEWHERE]].concat())
        .expect(0);
    assert_eq!(bench.events("IR-7", "requested")[0]["region"], ELSEWHERE);
    let before = bench.cloud.calls().len();
    bench.run(&["resume", "IR-7"]).expect(44);
    assert_eq!(bench.events("IR-7", "ended").len(), 1);
    let calls = bench.cloud.calls();
    let asked: Vec<_> = calls[before..]
        .iter()
        .filter(|call| call.service == "ssm")
        .collect();
    assert!(asked.len() > 2);
    assert!(
        asked.iter().all(|call| call.region == ELSEWHERE),
        "{asked:?}"
    );
}

#[test]
fn a_region_that_can_not_be_is_named() {
    let Some(bench) = Bench::start() else { return };
    let ended = bench.run(&["doctor", "--region", "Frankfurt"]).expect(2);
    assert!(
        ended.stderr.contains("is not a region such as"),
        "{}",
        ended.stderr
    );
    // As STS answers in a region that is off for the account.
    let off = CloudFault::Status(
        403,
        "InvalidClientTokenId",
        "The security token included in the request is invalid",
    );
    bench
        .cloud
        .fault(1, |call| call.region == "me-south-1", off);
    let report = bench
        .run(&["doctor", "--region", "me-south-1"])
        .expect(43)
        .stdout;
    assert!(report.contains("the region is me-south-1"), "{report}");
}
