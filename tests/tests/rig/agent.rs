//! The agent's environment is the test's, not the caller's.

use std::collections::BTreeMap;
use std::path::Path;

use exhibit_tests::rig;
use exhibit_tests::rig::agent::Agent;

fn environment(agent: &Agent) -> BTreeMap<String, String> {
    let output = agent.command().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn the_environment_is_scrubbed() {
    let Some(env) = rig::tool("env") else {
        return rig::skip_or_fail("env is not installed");
    };
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "the caller has a variable to leak"
    );
    let agent = Agent::at(&env);
    let names: Vec<String> = environment(&agent).into_keys().collect();
    assert_eq!(
        names,
        [
            "AWS_EC2_METADATA_DISABLED",
            "HOME",
            "LC_ALL",
            "PATH",
            "TMPDIR",
            "TZ"
        ]
    );
    assert_eq!(environment(&agent)["HOME"], agent.home().to_str().unwrap());
}

#[test]
fn what_a_test_sets_is_there() {
    let Some(env) = rig::tool("env") else {
        return rig::skip_or_fail("env is not installed");
    };
    let agent = Agent::at(&env)
        .credentials("AKIA1")
        .store("http://127.0.0.1:1", "eu-west-1")
        .env("TZ", "Asia/Tokyo");
    let environment = environment(&agent);
    assert_eq!(environment["AWS_ACCESS_KEY_ID"], "AKIA1");
    assert!(environment.contains_key("AWS_SECRET_ACCESS_KEY"));
    assert_eq!(environment["AWS_ENDPOINT_URL_S3"], "http://127.0.0.1:1");
    assert_eq!(
        (
            environment["AWS_REGION"].as_str(),
            environment["TZ"].as_str()
        ),
        ("eu-west-1", "Asia/Tokyo")
    );
}

#[test]
fn a_home_is_empty_and_goes_with_the_agent() {
    let agent = Agent::at(Path::new("/bin/true"));
    let home = agent.home().to_path_buf();
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
    drop(agent);
    assert!(!home.exists());
}

#[test]
fn the_agent_is_found_or_built() {
    let agent = Agent::built().unwrap();
    assert!(agent.program().is_file());
    assert_eq!(Agent::built().unwrap().program(), agent.program());
}
