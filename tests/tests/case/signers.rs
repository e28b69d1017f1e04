//! The seal's keys: a file is in every other test; here KMS and ssh-agent, and keys that can not be used.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::Bench;
use super::bench::{Ended, KEY, ended};

/// A case with one collection.
fn collected() -> Option<Bench> {
    let mut bench = Bench::start()?;
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let collect = ["collect", "--case", "IR-7", "--instance", &instance];
    bench.run(&collect).expect(0);
    Some(bench)
}

/// Fetches what was sealed; the seal must be by the key of the configuration.
fn trusted(bench: &Bench, fetch: impl Fn(&[&str]) -> Ended) {
    let report = fetch(&["fetch", "IR-7", "--to", "copy"]).expect(0).json();
    assert_eq!(
        report["collections"][0]["report"]["seal"]["state"], "trusted",
        "{report:#}"
    );
    assert_eq!(bench.events("IR-7", "sealed").len(), 1);
}

#[test]
fn kms_signs() {
    let Some(bench) = collected() else { return };
    let wanted = json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"});
    let key = bench.call_as(KEY, "kms", "TrentService.CreateKey", &wanted);
    let id = key["KeyMetadata"]["KeyId"].as_str().expect("a key");
    let text = fs::read_to_string(bench.path("exhibit.toml")).unwrap();
    let by_kms = text.replace("key_file = \"seal.pem\"", &format!("kms_key = \"{id}\""));
    fs::write(bench.path("exhibit.toml"), by_kms).unwrap();
    bench.run(&["seal", "IR-7"]).expect(0);
    trusted(&bench, |arguments| bench.run(arguments));
}

/// An ssh-agent, ended with the value.
struct SshAgent(Child);

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("OpenSSH").success(), "{command:?}");
}

#[test]
fn ssh_agent_signs_with_p256_and_with_no_other_key() {
    if exhibit_tests::rig::tool("ssh-agent").is_none() {
        return exhibit_tests::rig::skip_or_fail("the program ssh-agent is not installed");
    }
    let Some(bench) = collected() else { return };
    let socket = bench.path("agent.sock");
    let mut agent = Command::new("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
    let _agent = SshAgent(agent.spawn().expect("ssh-agent"));
    while !socket.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for (name, kind) in [("id_ecdsa", "ecdsa"), ("id_ed25519", "ed25519")] {
        let key = bench.path(name);
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", "", "-f"])
            .arg(&key));
        run(Command::new("ssh-add")
            .arg(&key)
            .env("SSH_AUTH_SOCK", &socket));
        // What signs is the agent: the private half is not there.
        fs::remove_file(&key).unwrap();
    }
    let exhibit = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command.env("SSH_AUTH_SOCK", &socket);
        ended(command)
    };
    let text = fs::read_to_string(bench.path("exhibit.toml")).unwrap();
    let with = |key: &str| {
        let text = text.replace("key_file = \"seal.pem\"", &format!("ssh_key = \"{key}\""));
        fs::write(bench.path("exhibit.toml"), text).unwrap();
    };
    with("id_ed25519.pub");
    let refused = exhibit(&["seal", "IR-7"]).expect(45);
    assert!(
        refused.stderr.contains("ecdsa-sha2-nistp256"),
        "{}",
        refused.stderr
    );
    with("id_ecdsa.pub");
    let alone = bench.run(&["seal", "IR-7"]).expect(45);
    assert!(alone.stderr.contains("SSH_AUTH_SOCK"), "{}", alone.stderr);
    exhibit(&["seal", "IR-7"]).expect(0);
    trusted(&bench, exhibit);
}
