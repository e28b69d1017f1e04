//! The document that brings the agent to an instance, run for real with a stand-in for the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use exhibit_tests::rig;
use exhibit_tests::rig::cloud::{Instance, Runner};
use exhibit_tests::rig::moto::Moto;
use regex::Regex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::BUCKET;
use super::cloud::Bench;

const NAME: &str = "Exhibit-Collect";

/// The agent's stand-in: tells its arguments, its place and the mode of its folder, and ends with 7.
const STAND_IN: &str = "#!/bin/sh
echo \"$* $0 $(stat -c %a \"${0%/*}\") $(stat -f -c %T \"$0\")\"
echo noise >&2
exit 7
";

/// A cloud with the document and an instance, and a folder for the agent.
struct Stage {
    bench: Bench,
    folder: TempDir,
}

/// What a run left.
#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Stage {
    fn start() -> Option<Self> {
        let bench = Bench::start()?;
        bench.register(NAME, &text()).unwrap();
        let instance = Instance::new("i-1", Runner::new(&[]).into());
        bench.cloud.instance(instance);
        let folder = tempfile::tempdir().unwrap();
        Some(Self { bench, folder })
    }

    /// Lays a program there that is not executable, as an image may hold it.
    fn agent(&self, script: &str) -> PathBuf {
        let file = self.folder.path().join("agent");
        fs::write(&file, script).unwrap();
        file
    }

    fn run(&self, config: &str) -> Outcome {
        let call = self.bench.ssm.send_command().document_name(NAME);
        let call = call
            .instance_ids("i-1")
            .parameters("Config", vec![config.into()]);
        let command = self.bench.call(call.send()).unwrap().command.unwrap();
        let output = self.bench.end(&command, "i-1");
        let owned = |text: Option<&str>| text.unwrap_or_default().to_string();
        Outcome {
            code: output.response_code(),
            stdout: owned(output.standard_output_content()),
            stderr: owned(output.standard_error_content()),
        }
    }
}

fn text() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssm-documents/exhibit-collect.json");
    fs::read_to_string(file).unwrap()
}

fn document() -> Value {
    serde_json::from_str(&text()).unwrap()
}

fn script() -> String {
    let document = document();
    let lines = document["mainSteps"][0]["inputs"]["runCommand"].as_array();
    let lines = lines.unwrap().iter().map(|line| line.as_str().unwrap());
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn config(program: &str, place: &str) -> String {
    let hash = hex::encode(Sha256::digest(program));
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{hash}.{}.{}", encoded(place), encoded("settings"))
}

/// A URL as the orchestrator hands it out; the emulator does not check signatures.
fn presigned(moto: &Moto, key: &str) -> String {
    format!(
        "{}/{BUCKET}/{key}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
         &X-Amz-Credential=test%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z\
         &X-Amz-Signature=0",
        moto.endpoint()
    )
}

#[test]
fn it_runs_the_agent_from_memory_and_leaves_nothing() {
    let Some(stage) = Stage::start() else { return };
    let agent = stage.agent(STAND_IN);
    let outcome = stage.run(&config(STAND_IN, agent.to_str().unwrap()));
    assert_eq!(outcome.code, 7, "{outcome:?}");
    assert_eq!(outcome.stderr, "noise\n");
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    let settings = URL_SAFE_NO_PAD.encode("settings");
    assert_eq!(words[..3], ["collect", "--config", settings.as_str()]);
    assert_eq!(words[4..], ["700", "tmpfs"]);
    assert!(words[3].starts_with("/dev/shm/exhibit."), "{outcome:?}");
    assert!(!Path::new(words[3]).parent().unwrap().exists());
}

#[test]
fn another_program_does_not_run() {
    let Some(stage) = Stage::start() else { return };
    let agent = stage.agent(STAND_IN);
    let place = agent.to_str().unwrap();
    let outcome = stage.run(&config("something else", place));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (61, ""));
    assert!(outcome.stderr.contains("does not run"), "{outcome:?}");
    fs::remove_file(&agent).unwrap();
    let outcome = stage.run(&config(STAND_IN, place));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (60, ""));
    assert!(outcome.stderr.contains(place), "{outcome:?}");
}

#[test]
fn it_fetches_the_agent() {
    let Some(stage) = Stage::start() else { return };
    let moto = stage.bench.cloud.moto();
    moto.create_bucket(BUCKET);
    moto.put(BUCKET, "agent", STAND_IN.as_bytes());
    let url = presigned(moto, "agent");
    let outcome = stage.run(&config(STAND_IN, &url));
    assert_eq!(outcome.code, 7, "{outcome:?}");
    let outcome = stage.run(&config(STAND_IN, &presigned(moto, "absent")));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (62, ""));
}

#[test]
fn every_way_to_fetch_works() {
    let Some(stage) = Stage::start() else { return };
    let moto = stage.bench.cloud.moto();
    moto.create_bucket(BUCKET);
    moto.put(BUCKET, "agent", STAND_IN.as_bytes());
    let url = presigned(moto, "agent");
    let script = script().replace("{{ Config }}", &config(STAND_IN, &url));
    let only = |kept: &str| {
        ["curl", "wget", "python3"]
            .iter()
            .filter(|name| **name != kept)
            .fold(script.clone(), |script, name| {
                script.replace(&format!("command -v {name} "), "false ")
            })
    };
    let run = |script: &str| {
        let mut command = Command::new("sh");
        let output = command.args(["-c", script]).env_clear().output();
        output.unwrap().status.code()
    };
    for name in ["curl", "wget", "python3"] {
        if rig::tool(name).is_some() {
            assert_eq!(run(&only(name)), Some(7), "{name}");
        } else {
            rig::skip_or_fail(&format!("the program {name} is not installed"));
        }
    }
    assert_eq!(run(&only("nothing")), Some(62));
}

#[test]
fn what_is_malformed_is_refused() {
    let Some(stage) = Stage::start() else { return };
    let good = config(STAND_IN, stage.agent(STAND_IN).to_str().unwrap());
    let hash = &good[..64];
    let at = |place: &str| config(STAND_IN, place);
    let wrong = [
        hash.to_string(),
        format!("{hash}.L2E"),
        format!("{good}.more"),
        format!("{}.L2E.s", "A".repeat(64)),
        format!("{}.L2E.s", &hash[1..]),
        format!("{hash}..s"),
        format!("{hash}.L2E."),
        format!("{hash}.L2E=.s"),
        format!("{hash}.L2EEE.s"),
        at("relative/agent"),
        at("/with blank"),
        at("/with\nline"),
        at("file:///bin/sh"),
        at("http://10.0.0.1/agent"),
        at("http://127.0.0.1.example.com/agent"),
        at("http://127.0.0.1:80@example.com/agent"),
    ];
    for config in wrong {
        let outcome = stage.run(&config);
        let end = (outcome.code, outcome.stdout.as_str());
        assert_eq!(end, (64, ""), "{config}: {outcome:?}");
    }
    let call = stage.bench.ssm.send_command().document_name(NAME);
    let call = call
        .instance_ids("i-1")
        .parameters("Config", vec!["a'b".into()]);
    let refused = stage.bench.call(call.send()).unwrap_err();
    assert_eq!(refused, "InvalidParameters");
}

#[test]
fn a_term_reaches_the_agent_and_the_script_waits_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let agent = folder.path().join("agent");
    let stand_in = "#!/bin/sh\ntrap 'sleep 0.3; echo finished; exit 9' TERM\necho \"$0\"\nwhile :; do sleep 0.05; done\n";
    fs::write(&agent, stand_in).unwrap();
    let script = script().replace("{{ Config }}", &config(stand_in, agent.to_str().unwrap()));
    let stdout = folder.path().join("stdout");
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdout(fs::File::create(&stdout).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string(&stdout).unwrap().ends_with('\n') {
        assert!(Instant::now() < deadline, "the agent does not run");
        thread::sleep(Duration::from_millis(10));
    }
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    let text = fs::read_to_string(&stdout).unwrap();
    let (place, rest) = text.split_once('\n').unwrap();
    assert_eq!(rest, "finished\n");
    assert!(!Path::new(place).parent().unwrap().exists());
}

#[test]
fn no_place_to_run_from_is_an_end_of_its_own() {
    let Some(unshare) = own_mounts() else { return };
    let script = script().replace("{{ Config }}", &config(STAND_IN, "/bin/sh"));
    let run = |mounts: &str| {
        let output = Command::new(&unshare)
            .args(["--mount", "sh", "-c"])
            .arg(format!("{mounts} && exec sh -c \"$0\""))
            .arg(&script)
            .output()
            .unwrap();
        output.status.code()
    };
    let noexec = "mount -t tmpfs -o noexec tmpfs";
    assert_eq!(
        run(&format!("{noexec} /dev/shm && {noexec} /run")),
        Some(63)
    );
    let full = "mount -t tmpfs -o size=4k tmpfs";
    assert_eq!(run(&format!("{full} /dev/shm && {noexec} /run")), Some(63));
    let run_only = format!("{noexec} /dev/shm && mount -t tmpfs tmpfs /run");
    assert_eq!(run(&run_only), Some(61), "it got as far as the hash");
}

/// `unshare`, where this user may use it.
fn own_mounts() -> Option<PathBuf> {
    let unshare = rig::tool("unshare").filter(|unshare| {
        let tried = Command::new(unshare).args(["--mount", "true"]).output();
        tried.is_ok_and(|output| output.status.success())
    });
    if unshare.is_none() {
        rig::skip_or_fail("no mount namespace of one's own");
    }
    unshare
}

/// What the SSM agent does and does not do with a document; see the rules where each is checked.
#[test]
fn it_keeps_to_the_rules_of_the_ssm_agent() {
    let (document, text) = (document(), text());
    assert_eq!(document["schemaVersion"], "2.2");
    assert!(text.len() < 64 * 1024, "the limit of a document");
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&document),
        ["description", "mainSteps", "parameters", "schemaVersion"]
    );
    let parameters = document["parameters"].as_object().unwrap();
    for (name, rules) in parameters {
        // A StringList would have to be a whole command.
        assert_eq!(rules["type"], "String", "{name}");
        let pattern = rules["allowedPattern"].as_str().unwrap();
        assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{name}");
        let pattern = Regex::new(pattern).unwrap();
        for bad in "'\"`$\\;&|<>(){}[]*?!~# \t\n/%".chars() {
            assert!(!pattern.is_match(&format!("1{bad}1")), "{name}: {bad:?}");
        }
        // Newer agents only: it has to be safe without.
        assert_eq!(rules.get("interpolationType"), None);
    }
    let steps = document["mainSteps"].as_array().unwrap();
    // With several, every question needs the name of one, and the last decides over success.
    assert_eq!(steps.len(), 1);
    let step = &steps[0];
    assert_eq!(keys(step), ["action", "inputs", "name", "precondition"]);
    assert_eq!(step["action"], "aws:runShellScript");
    let platform = serde_json::json!({"StringEquals": ["platformType", "Linux"]});
    assert_eq!(step["precondition"], platform);
    assert_eq!(keys(&step["inputs"]), ["runCommand", "timeoutSeconds"]);
    assert_eq!(step["inputs"]["timeoutSeconds"], "{{ ExecutionTimeout }}");
    let script = script();
    let used: Vec<&str> = script.split("{{").skip(1).collect();
    assert_eq!(used.len(), 1, "one place where a value becomes text");
    assert!(script.contains("\nconfig='{{ Config }}'\n"));
    assert!(script.starts_with("# ") && script.contains("\nset -eu\n"));
}

#[test]
fn shellcheck_finds_nothing() {
    let Some(shellcheck) = rig::tool("shellcheck") else {
        return rig::skip_or_fail("the program shellcheck is not installed");
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.sh");
    fs::write(&file, script()).unwrap();
    let output = Command::new(shellcheck)
        .args(["--shell=sh", "--norc"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
