//! The rig's cloud can say no, and the SDK that the orchestrator is built on understands it.

use std::future::Future;
use std::time::{Duration, Instant};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ssm::operation::get_command_invocation::GetCommandInvocationOutput;
use aws_sdk_ssm::types::{
    Command, CommandInvocation, DocumentHashType, DocumentType, InstanceInformationStringFilter,
    Target,
};
use exhibit_tests::rig;
use exhibit_tests::rig::cloud::{
    Cloud, CloudFault, DEFAULT_ACCOUNT, Ec2, Fate, Instance, Runner, Script, When, Work,
};
use exhibit_tests::rig::imds::{Identity, Imds, RoleCredentials};
use serde_json::json;

/// Another account, and a role in it.
pub const OTHER: &str = "222222222222";
const ROLE: &str = "arn:aws:iam::222222222222:role/exhibit";

/// A cloud and what the tests ask it with.
pub struct Bench {
    pub cloud: Cloud,
    runtime: tokio::runtime::Runtime,
    config: SdkConfig,
    pub ssm: aws_sdk_ssm::Client,
}

impl Bench {
    pub fn start() -> Option<Self> {
        let cloud = rig::or_skip(Cloud::start())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let config = config(&cloud, "AKIARIG");
        let ssm = aws_sdk_ssm::Client::new(&config);
        Some(Self {
            cloud,
            runtime,
            config,
            ssm,
        })
    }

    /// Waits for a call; an error is the service's code.
    pub fn call<T, E: ProvideErrorMetadata, R>(
        &self,
        call: impl Future<Output = Result<T, aws_sdk_ssm::error::SdkError<E, R>>>,
    ) -> Result<T, String> {
        self.runtime.block_on(call).map_err(|error| {
            let service = error.as_service_error();
            let code = service.and_then(ProvideErrorMetadata::code);
            code.unwrap_or("no answer").to_string()
        })
    }

    /// How a client with this access key reaches the cloud.
    pub fn config_of(&self, key: &str) -> SdkConfig {
        config(&self.cloud, key)
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Registers a document whose one step, `run`, is this script.
    fn document(&self, name: &str, script: &str) {
        let content = json!({
            "schemaVersion": "2.2", "description": "a test",
            "parameters": {"Word": {"type": "String", "default": "word", "allowedPattern": "^[a-z]+$"}},
            "mainSteps": [{"name": "run", "action": "aws:runShellScript", "inputs": {
                "timeoutSeconds": "5", "runCommand": [script]}}],
        });
        self.register(name, &content.to_string()).unwrap();
    }

    pub fn register(&self, name: &str, content: &str) -> Result<(), String> {
        let call = self.ssm.create_document().name(name).content(content);
        let call = call.document_type(DocumentType::Command);
        self.call(call.send()).map(drop)
    }

    pub fn send(&self, document: &str, instance: &str) -> Result<Command, String> {
        let call = self.ssm.send_command().document_name(document);
        let sent = self.call(call.instance_ids(instance).send())?;
        Ok(sent.command.unwrap())
    }

    pub fn ask(
        &self,
        command: &Command,
        instance: &str,
    ) -> Result<GetCommandInvocationOutput, String> {
        let call = self.ssm.get_command_invocation();
        let call = call
            .command_id(command.command_id().unwrap())
            .instance_id(instance);
        self.call(call.send())
    }

    /// Waits until nothing more will change.
    pub fn end(&self, command: &Command, instance: &str) -> GetCommandInvocationOutput {
        self.until(command, instance, |status| {
            !["Pending", "InProgress", "Cancelling", "Delayed"].contains(&status)
        })
    }

    pub fn until(
        &self,
        command: &Command,
        instance: &str,
        reached: impl Fn(&str) -> bool,
    ) -> GetCommandInvocationOutput {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let output = self.ask(command, instance).unwrap();
            if reached(output.status().unwrap().as_str()) {
                return output;
            }
            assert!(Instant::now() < deadline, "{output:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn listed(&self, command: &Command) -> Vec<CommandInvocation> {
        let call = self.ssm.list_command_invocations().details(true);
        let call = call.command_id(command.command_id().unwrap());
        let output = self.call(call.send()).unwrap();
        output.command_invocations.unwrap_or_default()
    }
}

fn config(cloud: &Cloud, key: &str) -> SdkConfig {
    let credentials = Credentials::new(key, "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(cloud.endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .sleep_impl(aws_sdk_ssm::config::SharedAsyncSleep::new(Sleep))
        .build()
}

/// Waits, in the SDK's own pauses between tries.
#[derive(Debug)]
struct Sleep;

impl aws_sdk_ssm::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_ssm::config::Sleep {
        aws_sdk_ssm::config::Sleep::new(tokio::time::sleep(duration))
    }
}

fn runner() -> Work {
    Runner::new(&[("GREETING", "hello")]).into()
}

fn status(output: &GetCommandInvocationOutput) -> (String, String, i32) {
    (
        output.status().unwrap().as_str().into(),
        output.status_details().unwrap().into(),
        output.response_code(),
    )
}

fn is(status: &str, details: &str, code: i32) -> (String, String, i32) {
    (status.into(), details.into(), code)
}

#[test]
fn a_document_really_runs() {
    let Some(bench) = Bench::start() else { return };
    bench.cloud.instance(Instance::new("i-1", runner()));
    bench.document(
        "talk",
        "echo $GREETING {{ Word }} $AWS_SSM_INSTANCE_ID $AWS_SSM_REGION_NAME $PWD $HOME; ls /run | wc -l >&2; exit 3",
    );
    let command = bench.send("talk", "i-1").unwrap();
    assert_eq!(command.target_count(), 1);
    let output = bench.end(&command, "i-1");
    assert_eq!(status(&output), is("Failed", "Failed", 3));
    let stdout = output.standard_output_content().unwrap();
    assert_eq!(stdout, "hello word i-1 us-east-1 /\n");
    let listed = bench.listed(&command);
    let step = &listed[0].command_plugins()[0];
    assert_eq!((step.name(), step.response_code()), (Some("run"), 3));
    assert!(step.output().unwrap().starts_with(stdout));

    let filter = aws_sdk_ssm::types::CommandFilter::builder();
    let filter = filter
        .key(aws_sdk_ssm::types::CommandFilterKey::Status)
        .value("Failed");
    let call = bench.ssm.list_commands().filters(filter.build().unwrap());
    let found = bench.call(call.send()).unwrap().commands.unwrap();
    assert_eq!((found.len(), found[0].error_count()), (1, 1));
    assert_eq!(bench.cloud.commands()[0].instances, ["i-1"]);
}

#[test]
fn what_aws_refuses_is_refused() {
    let Some(bench) = Bench::start() else { return };
    bench.cloud.instance(Instance::new("i-1", runner()));
    let mut lost = Instance::new("i-2", runner());
    lost.ping = "ConnectionLost".into();
    bench.cloud.instance(lost);
    bench.document("talk", "true");
    assert_eq!(
        bench.register("talk", "{}").unwrap_err(),
        "DocumentAlreadyExists"
    );
    assert_eq!(
        bench.register("other", "{").unwrap_err(),
        "InvalidDocumentContent"
    );
    let code = |document: &str, instance: &str| bench.send(document, instance).unwrap_err();
    assert_eq!(code("unknown", "i-1"), "InvalidDocument");
    assert_eq!(code("talk", "i-2"), "InvalidInstanceId");
    assert_eq!(code("talk", "i-3"), "InvalidInstanceId");
}

#[test]
fn a_command_out_of_bounds_is_refused() {
    let Some(bench) = Bench::start() else { return };
    bench.cloud.instance(Instance::new("i-1", runner()));
    bench.document("talk", "true");
    let good = || {
        let call = bench.ssm.send_command().document_name("talk");
        call.instance_ids("i-1")
    };
    let hash = |hash: &str| {
        good()
            .document_hash(hash)
            .document_hash_type(DocumentHashType::Sha256)
    };
    let words = |word: &str| good().parameters("Word", vec![word.into()]);
    let described = bench
        .call(bench.ssm.describe_document().name("talk").send())
        .unwrap();
    let right = described.document.unwrap().hash.unwrap();
    assert!(bench.call(hash(&right).send()).is_ok());
    let refused = [
        (hash(&"0".repeat(64)), "InvalidDocument"),
        (words("a; rm"), "InvalidParameters"),
        (
            good().parameters("Other", vec!["x".into()]),
            "InvalidParameters",
        ),
        (good().timeout_seconds(29), "ValidationException"),
        (good().comment("c".repeat(101)), "ValidationException"),
        (good().max_concurrency("0"), "ValidationException"),
        (
            good().set_instance_ids(Some(vec!["i-1".into(); 51])),
            "ValidationException",
        ),
    ];
    for (call, code) in refused {
        assert_eq!(bench.call(call.send()).unwrap_err(), code);
    }
}

#[test]
fn output_is_clipped() {
    let Some(bench) = Bench::start() else { return };
    bench.cloud.instance(Instance::new("i-1", runner()));
    bench.document(
        "flood",
        "head -c 24001 /dev/zero | tr '\\0' o; head -c 8001 /dev/zero | tr '\\0' e >&2",
    );
    let command = bench.send("flood", "i-1").unwrap();
    let output = bench.end(&command, "i-1");
    let (stdout, stderr) = (
        output.standard_output_content().unwrap(),
        output.standard_error_content().unwrap(),
    );
    assert_eq!((stdout.len(), stderr.len()), (24_000, 8_000));
    assert!(stdout.ends_with("oo--output truncated--"));
    let listed = bench.listed(&command);
    let shown = listed[0].command_plugins()[0].output().unwrap();
    assert_eq!(shown.len(), 2_500);
    assert!(shown.contains("\n---Output truncated---\n----------ERROR-------\n"));
}

#[test]
fn commands_end_by_cancel_timeout_and_kill() {
    let Some(bench) = Bench::start() else { return };
    let mut quick = Runner::new(&[]);
    quick.second = Duration::from_millis(40);
    for (id, runner) in [
        ("i-1", Runner::new(&[])),
        ("i-2", quick),
        ("i-3", Runner::new(&[])),
    ] {
        bench.cloud.instance(Instance::new(id, runner.into()));
    }
    bench.document("sleep", "sleep 20 & echo begun; wait");
    let commands = ["i-1", "i-2", "i-3"].map(|id| bench.send("sleep", id).unwrap());
    for (command, id) in commands.iter().zip(["i-1", "i-2", "i-3"]) {
        bench.until(command, id, |status| status != "Pending");
    }
    let cancel = bench.ssm.cancel_command();
    let cancel = cancel.command_id(commands[0].command_id().unwrap());
    bench.call(cancel.send()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    bench.cloud.kill("i-3");
    let ends = [
        is("Cancelled", "Cancelled", 137),
        is("TimedOut", "ExecutionTimedOut", 137),
        is("Failed", "Failed", -1),
    ];
    for ((command, id), end) in commands.iter().zip(["i-1", "i-2", "i-3"]).zip(ends) {
        assert_eq!(status(&bench.end(command, id)), end);
    }
}

#[test]
fn deliveries_fail_and_questions_come_too_early() {
    let Some(bench) = Bench::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran");
    let after = Fate::DeliveryTimedOut(Duration::from_millis(200));
    let late = Runner::new(&[("FILE", file.to_str().unwrap())]).fate(after);
    let never = Runner::new(&[]).fate(Fate::Undeliverable);
    let mut early = Instance::new("i-3", runner());
    early.lost_at_first = 2;
    bench.cloud.instance(Instance::new("i-1", late.into()));
    bench.cloud.instance(Instance::new("i-2", never.into()));
    bench.cloud.instance(early);
    bench.document("touch", "sleep 1; [ -z \"$FILE\" ] || touch \"$FILE\"");
    let [late, never, early] = ["i-1", "i-2", "i-3"].map(|id| bench.send("touch", id).unwrap());

    assert!(bench.listed(&early).is_empty());
    assert_eq!(
        bench.ask(&early, "i-3").unwrap_err(),
        "InvocationDoesNotExist"
    );
    assert!(bench.ask(&early, "i-3").is_ok());
    let end = bench.end(&never, "i-2");
    assert_eq!(status(&end), is("Failed", "Undeliverable", -1));
    let end = bench.end(&late, "i-1");
    assert_eq!(status(&end), is("TimedOut", "DeliveryTimedOut", -1));
    assert!(!file.exists());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !file.exists() {
        assert!(Instant::now() < deadline, "the script did not run on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_thousand_instances_follow_a_script() {
    let Some(bench) = Bench::start() else { return };
    let script = Script::default()
        .then(When::Polls(1), "InProgress", -1, "")
        .then(When::Polls(2), "Success", 0, "receipt");
    for number in 0..1_000 {
        let id = format!("i-{number:04}");
        let instance = Instance::new(&id, script.clone().into());
        bench.cloud.instance(instance.tag("case", "7"));
    }
    bench.document("talk", "true");
    let target = Target::builder().key("tag:case").values("7").build();
    let call = bench.ssm.send_command().document_name("talk");
    let command = bench.call(call.targets(target).send()).unwrap().command;
    let command = command.unwrap();
    assert_eq!(command.target_count(), 1_000);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let pages = bench.ssm.list_command_invocations();
        let pages = pages.command_id(command.command_id().unwrap());
        let mut pages = pages.into_paginator().items().send();
        let (mut all, mut last) = (0, String::new());
        while let Some(item) = bench.runtime.block_on(pages.next()) {
            last = item.unwrap().status.unwrap().as_str().into();
            all += 1;
        }
        statuses.push((all, last));
    }
    let expected = ["InProgress", "Success", "Success"].map(|status| (1_000, status.to_string()));
    assert_eq!(statuses, expected);
    assert_eq!(bench.cloud.count("ssm", "ListCommandInvocations"), 60);

    let filter = InstanceInformationStringFilter::builder().key("tag:case");
    let filter = filter.values("7").build().unwrap();
    let pages = bench
        .ssm
        .describe_instance_information()
        .filters(filter)
        .max_results(50);
    let mut pages = pages.into_paginator().items().send();
    let mut count = 0;
    while let Some(item) = bench.runtime.block_on(pages.next()) {
        count += usize::from(item.is_ok());
    }
    assert_eq!(count, 1_000);
    assert_eq!(bench.cloud.count("ssm", "DescribeInstanceInformation"), 20);
}

#[test]
fn the_sdk_understands_the_faults() {
    let Some(bench) = Bench::start() else { return };
    let on = |operation: &'static str| move |call: &rig::cloud::Call| call.operation == operation;
    bench
        .cloud
        .fault(1, on("DescribeInstanceInformation"), CloudFault::Throttle);
    let describe = || bench.ssm.describe_instance_information().send();
    assert!(bench.call(describe()).is_ok(), "tried again");
    let statuses: Vec<_> = bench.cloud.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [Some(400), Some(200)]);

    bench
        .cloud
        .fault(9, on("DescribeInstanceInformation"), CloudFault::Throttle);
    assert_eq!(bench.call(describe()).unwrap_err(), "ThrottlingException");
    bench.cloud.heal();
    let denied = CloudFault::Status(400, "AccessDeniedException", "no");
    bench
        .cloud
        .fault(1, on("DescribeInstanceInformation"), denied);
    assert_eq!(bench.call(describe()).unwrap_err(), "AccessDeniedException");

    let ec2 = aws_sdk_ec2::Client::new(&bench.config);
    let denied = CloudFault::Status(403, "UnauthorizedOperation", "no");
    bench.cloud.fault(1, on("DescribeInstances"), denied);
    assert_eq!(
        bench.call(ec2.describe_instances().send()).unwrap_err(),
        "UnauthorizedOperation"
    );
    bench
        .cloud
        .fault(1, on("DescribeInstances"), CloudFault::Throttle);
    assert!(bench.call(ec2.describe_instances().send()).is_ok());

    let sts = aws_sdk_sts::Client::new(&bench.config);
    bench
        .cloud
        .fault(1, on("GetCallerIdentity"), CloudFault::Close);
    assert!(bench.call(sts.get_caller_identity().send()).is_ok());
    let denied = CloudFault::Status(403, "AccessDenied", "no");
    bench.cloud.fault(1, on("AssumeRole"), denied);
    let assume = sts.assume_role().role_arn(ROLE).role_session_name("test");
    assert_eq!(bench.call(assume.send()).unwrap_err(), "AccessDenied");
}

#[test]
fn after_a_lost_answer_the_command_is_there() {
    let Some(bench) = Bench::start() else { return };
    bench.cloud.instance(Instance::new("i-1", runner()));
    bench.document("talk", "true");
    bench.cloud.fault(
        1,
        |call| call.operation == "SendCommand",
        CloudFault::AnswerLost,
    );
    assert!(bench.send("talk", "i-1").is_ok(), "tried again");
    assert_eq!(bench.cloud.commands().len(), 2);
    let calls = bench.cloud.calls();
    let sent: Vec<_> = calls
        .iter()
        .filter(|call| call.is("ssm", "SendCommand"))
        .map(|call| call.status)
        .collect();
    assert_eq!(sent, [None, Some(200)]);
}

#[test]
fn accounts_see_their_own() {
    let Some(bench) = Bench::start() else { return };
    let sts = aws_sdk_sts::Client::new(&bench.config);
    let assume = sts.assume_role().role_arn(ROLE).role_session_name("test");
    let credentials = bench.call(assume.send()).unwrap().credentials.unwrap();
    let config = config(&bench.cloud, credentials.access_key_id());
    let ssm = aws_sdk_ssm::Client::new(&config);
    bench.cloud.instance(Instance::new("i-1", runner()));
    let other = Instance::new("i-2", runner()).account(OTHER);
    bench.cloud.instance(other);
    let seen = |ssm: &aws_sdk_ssm::Client| {
        let output = bench.call(ssm.describe_instance_information().send());
        let list = output.unwrap().instance_information_list.unwrap();
        list[0].instance_id.clone().unwrap()
    };
    assert_eq!((seen(&bench.ssm), seen(&ssm)), ("i-1".into(), "i-2".into()));
    let last = bench.cloud.calls().pop().unwrap();
    assert_eq!(
        (last.account.as_str(), last.service.as_str()),
        (OTHER, "ssm")
    );
}

#[test]
fn what_is_handed_on_keeps_the_accounts_apart_too() {
    let Some(bench) = Bench::start() else { return };
    bench.cloud.access_key("AKIAOTHER", OTHER);
    let config = bench.config_of("AKIAOTHER");
    let (ssm, ec2) = (
        aws_sdk_ssm::Client::new(&config),
        aws_sdk_ec2::Client::new(&config),
    );
    let made = bench.cloud.run_instance(OTHER, &[("case", "7")]);
    let stopped = bench.cloud.ec2(&Ec2::new(OTHER).windows().stopped());
    bench.cloud.run_instance(DEFAULT_ACCOUNT, &[]);
    let output = bench.call(ec2.describe_instances().send()).unwrap();
    let mut found: Vec<_> = output
        .reservations()
        .iter()
        .flat_map(|reservation| reservation.instances())
        .map(|instance| {
            let state = instance.state().and_then(|state| state.name()).unwrap();
            (
                instance.instance_id().unwrap().to_string(),
                state.as_str().to_string(),
                instance.platform().is_some(),
            )
        })
        .collect();
    let mut expected = vec![
        (made, "running".to_string(), false),
        (stopped, "stopped".to_string(), true),
    ];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let parameter = ssm.put_parameter().name("/p").value("v");
    let parameter = parameter.r#type(aws_sdk_ssm::types::ParameterType::SecureString);
    bench.call(parameter.send()).unwrap();
    let read = |ssm: &aws_sdk_ssm::Client| bench.call(ssm.get_parameter().name("/p").send());
    assert!(read(&ssm).is_ok());
    assert_eq!(read(&bench.ssm).unwrap_err(), "ParameterNotFound");
}

#[test]
fn metadata_insists_on_a_token() {
    use exhibit_tests::rig::http::{Head, send};
    let imds = Imds::start(Identity {
        instance: "i-1".into(),
        account: OTHER.into(),
        region: "us-east-1".into(),
        image: "ami-1".into(),
    })
    .unwrap();
    imds.role(
        "agent",
        RoleCredentials {
            access_key: "ASIAROLE".into(),
            secret: "secret".into(),
            token: "token".into(),
            lifetime: Duration::from_secs(3600),
        },
    );
    let to = imds.endpoint()["http://".len()..].parse().unwrap();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        send(to, &Head::new(method, path, &[], headers), b"").unwrap()
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(ask("GET", roles, &[]).status, 401);
    assert_eq!(ask("PUT", "/latest/api/token", &[]).status, 400);
    let ttl = |seconds| ("x-aws-ec2-metadata-token-ttl-seconds", seconds);
    let token = ask("PUT", "/latest/api/token", &[ttl("60")]).text();
    let with = ("x-aws-ec2-metadata-token", token.as_str());
    assert_eq!(ask("GET", roles, &[with]).text(), "agent");
    let role = ask("GET", &format!("{roles}agent"), &[with]).text();
    assert!(role.contains("ASIAROLE"), "{role}");
    let identity = "/latest/dynamic/instance-identity/document";
    assert!(ask("GET", identity, &[with]).text().contains(OTHER));
    let short = ask("PUT", "/latest/api/token", &[ttl("1")]).text();
    std::thread::sleep(Duration::from_millis(1100));
    let late = ("x-aws-ec2-metadata-token", short.as_str());
    assert_eq!(ask("GET", roles, &[late]).status, 401);
}
