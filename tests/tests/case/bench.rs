//! A responder's desk: a configuration, a cloud with two accounts, instances that run the real agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::cloud::{Cloud, Instance, Runner, Work};
use exhibit_tests::rig::http::{self, Head, Response};
use exhibit_tests::rig::imds::{Identity, Imds, RoleCredentials};
use exhibit_tests::rig::or_skip;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub const BUCKET: &str = "evidence-bucket";
/// The account of the bucket, which is that of the responder's own key, and the one with suspects.
pub const EVIDENCE: &str = "123456789012";
pub const SUSPECTS: &str = "222222222222";
pub const KEY: &str = "AKIARESPONDER";
/// What an instance's role gives, and the secret of it.
const INSTANCE_KEY: &str = "ASIAINSTANCE";

/// The document of `ssm-documents/`.
pub const DOCUMENT: &str = include_str!("../../../ssm-documents/exhibit-collect.json");

/// What an ended `exhibit` left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, once the code is the expected one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

pub struct Bench {
    pub cloud: Cloud,
    pub exhibit: Agent,
    pub agent: PathBuf,
    folder: TempDir,
    metadata: Vec<Imds>,
}

impl Bench {
    /// A desk with an empty, locked bucket and the registered document. `None` where the emulator cannot be had.
    pub fn start() -> Option<Self> {
        let cloud = or_skip(Cloud::start())?;
        cloud.moto().create_locked_bucket(BUCKET);
        cloud.moto().set_default_retention(BUCKET, "GOVERNANCE", 30);
        cloud.access_key(INSTANCE_KEY, SUSPECTS);
        cloud.access_key("AKIASUSPECTS", SUSPECTS);
        let exhibit = Agent::exhibit().expect("the orchestrator").credentials(KEY);
        let exhibit = exhibit
            .env("AWS_ENDPOINT_URL", cloud.endpoint())
            .env("AWS_REGION", "us-east-1");
        let agent = Agent::built().expect("an agent").program().to_owned();
        let bench = Self {
            cloud,
            exhibit,
            agent,
            folder: tempfile::tempdir().unwrap(),
            metadata: Vec::new(),
        };
        bench.register_document("us-east-1");
        bench.configure("");
        Some(bench)
    }

    /// Registers the document in a region of the suspects' account.
    pub fn register_document(&self, region: &str) {
        let body =
            json!({"Name": "Exhibit-Collect", "Content": DOCUMENT, "DocumentType": "Command"});
        let who = ("AKIASUSPECTS", region);
        self.call_in(who, "ssm", "AmazonSSM.CreateDocument", &body);
    }

    /// A call in the suspects' account, past `exhibit`.
    pub fn call(&self, service: &str, target: &str, body: &Value) -> Value {
        self.call_as("AKIASUSPECTS", service, target, body)
    }

    /// A call with this access key, past `exhibit`.
    pub fn call_as(&self, key: &str, service: &str, target: &str, body: &Value) -> Value {
        self.call_in((key, "us-east-1"), service, target, body)
    }

    /// A call with this access key in this region, past `exhibit`.
    fn call_in(
        &self,
        (key, region): (&str, &str),
        service: &str,
        target: &str,
        body: &Value,
    ) -> Value {
        let headers = [
            ("x-amz-target", target),
            ("content-type", "application/x-amz-json-1.1"),
        ];
        let response = self.send(key, region, service, &headers, body.to_string().as_bytes());
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    fn send(
        &self,
        key: &str,
        region: &str,
        service: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let own = [("authorization", authorization.as_str())];
        let head = Head::new("POST", "/", &[], &[&own, headers].concat());
        let address = self
            .cloud
            .endpoint()
            .trim_start_matches("http://")
            .parse()
            .unwrap();
        http::send(address, &head, body).unwrap()
    }

    /// Writes exhibit.toml, with these lines instead of the same keys.
    pub fn configure(&self, change: &str) {
        let key = self.path("seal.pem");
        if !key.exists() {
            let made = Command::new("openssl")
                .args([
                    "genpkey",
                    "-algorithm",
                    "EC",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-out",
                ])
                .arg(&key)
                .status();
            assert!(made.expect("openssl").success());
        }
        let hash = hex::encode(Sha256::digest(fs::read(&self.agent).unwrap()));
        let mut text = format!(
            "[evidence]\nbucket = \"{BUCKET}\"\nprefix = \"cases\"\nregion = \"us-east-1\"\naccount = \"{EVIDENCE}\"\n\
             collector_role = \"arn:aws:iam::{EVIDENCE}:role/ExhibitCollector\"\n\
             [agent]\nsha256 = \"{hash}\"\nsource = \"{}\"\n\
             [collect]\npoll_seconds = 1\nsilence_seconds = 2\n\
             arguments = [\"--include\", \"accounts,clock\", \"--attempts\", \"30\"]\n\
             [seal]\nkey_file = \"seal.pem\"\n\
             [accounts.web]\nid = \"{SUSPECTS}\"\nrole = \"arn:aws:iam::{SUSPECTS}:role/ExhibitResponder\"\nregion = \"us-east-1\"\n",
            self.agent.display()
        );
        for line in change.lines() {
            let name = line.split(" = ").next().unwrap();
            let old = text
                .lines()
                .find(|old| old.starts_with(&format!("{name} = ")))
                .unwrap_or_else(|| panic!("no line {name}"))
                .to_owned();
            text = text.replacen(&old, line, 1);
        }
        fs::write(self.path("exhibit.toml"), text).unwrap();
    }

    /// Puts these lines below a section of exhibit.toml; a section that is not there is added.
    pub fn configure_section(&self, section: &str, lines: &str) {
        let path = self.path("exhibit.toml");
        let text = fs::read_to_string(&path).unwrap();
        let text = match text.contains(&format!("[{section}]\n")) {
            true => text.replace(
                &format!("[{section}]\n"),
                &format!("[{section}]\n{lines}\n"),
            ),
            false => format!("{text}[{section}]\n{lines}\n"),
        };
        fs::write(path, text).unwrap();
    }

    /// A path in the responder's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A running instance in the suspects' account that runs what is sent to it with the real agent; its id.
    pub fn instance(
        &mut self,
        tags: &[(&str, &str)],
        change: impl FnOnce(Runner) -> Runner,
    ) -> String {
        let id = self.cloud.run_instance(SUSPECTS, tags);
        let identity = Identity {
            instance: id.clone(),
            account: SUSPECTS.into(),
            region: "us-east-1".into(),
            image: "ami-1".into(),
        };
        let metadata = or_skip(Imds::start(identity)).expect("a free port");
        metadata.role(
            "suspect",
            RoleCredentials {
                access_key: INSTANCE_KEY.into(),
                secret: "the role's secret".into(),
                token: "the role's token".into(),
                lifetime: Duration::from_secs(3600),
            },
        );
        let endpoint = self.cloud.endpoint();
        let runner = Runner::new(&[
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.endpoint()),
        ]);
        self.metadata.push(metadata);
        self.managed(&id, tags, change(runner).into());
        id
    }

    /// Makes snapshots of an instance in the account of this access key, past `exhibit`.
    pub fn snapshot_as(&self, key: &str, instance: &str) {
        let body = format!(
            "Action=CreateSnapshots&Version=2016-11-15&InstanceSpecification.InstanceId={instance}\
             &TagSpecification.1.ResourceType=snapshot&TagSpecification.1.Tag.1.Key=exhibit%3Amaking\
             &TagSpecification.1.Tag.1.Value=x"
        );
        self.ec2_as(key, &body);
    }

    /// Locks a snapshot for a day, past `exhibit`.
    pub fn lock_as(&self, key: &str, snapshot: &str, mode: &str) {
        let body = format!(
            "Action=LockSnapshot&Version=2016-11-15&SnapshotId={snapshot}&LockMode={mode}&LockDuration=1"
        );
        self.ec2_as(key, &body);
    }

    fn ec2_as(&self, key: &str, body: &str) {
        let response = self.send(key, "us-east-1", "ec2", &[], body.as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
    }

    /// Puts an instance that EC2 knows under SSM's control.
    pub fn managed(&self, id: &str, tags: &[(&str, &str)], work: Work) {
        let plain = Instance::new(id, work).account(SUSPECTS);
        self.cloud.instance(
            tags.iter()
                .fold(plain, |instance, (key, value)| instance.tag(key, value)),
        );
    }

    /// `exhibit` with these arguments, in the responder's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.exhibit.command();
        command
            .args(["--operator", "ana", "--json"])
            .args(arguments)
            .current_dir(self.folder.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments))
    }

    /// Starts it and goes on.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().expect("exhibit starts")
    }

    pub fn open(&self, case: &str) {
        self.run(&["case", "open", case, "--reason", "GuardDuty 1234"])
            .expect(0);
    }

    /// The journal of a case, a value for each record.
    pub fn journal(&self, case: &str) -> Vec<Value> {
        let path = self.path(&format!("cases/{case}/journal.jsonl"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Records of this kind.
    pub fn events(&self, case: &str, kind: &str) -> Vec<Value> {
        let events = self
            .journal(case)
            .into_iter()
            .map(|record| record["event"].clone());
        events.filter(|event| event["kind"] == kind).collect()
    }

    /// The prefix of an instance's only collection, with the one of the configuration.
    pub fn prefix(&self, case: &str, instance: &str) -> String {
        let request = &self.events(case, "requested")[0];
        format!(
            "cases/{case}/{instance}/{}",
            request["collection"].as_str().unwrap()
        )
    }
}

pub fn ended(mut command: Command) -> Ended {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("exhibit starts");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}
