//! The credentials of a suspect: narrow, renewed, taken back, and nowhere but where they have to be.

use std::fs;

use exhibit_tests::rig::cloud::CloudFault;
use serde_json::{Value, json};

use super::bench::files;
use super::{BUCKET, Bench, EVIDENCE};

/// The secrets that STS gave out, from the parameters that they were put in.
fn secrets(bench: &Bench) -> Vec<String> {
    let calls = bench.cloud.calls();
    let puts = calls.iter().filter(|call| call.is("ssm", "PutParameter"));
    let values = puts.map(|call| call.json()["Value"].as_str().unwrap().to_owned());
    values
        .flat_map(|value| {
            let value: Value = serde_json::from_str(&value).unwrap();
            ["SecretAccessKey", "SessionToken"].map(|name| value[name].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn a_session_is_narrow_and_its_secret_is_left_nowhere() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    let mut said = bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(0);
    for more in [
        &["verify", "IR-7"][..],
        &["seal", "IR-7"],
        &["fetch", "IR-7", "--to", "copy"],
        &["case", "show", "IR-7"],
    ] {
        let ended = bench.run(more).expect(0);
        said.stdout += &ended.stdout;
        said.stderr += &ended.stderr;
    }
    let calls = bench.cloud.calls();
    let assume: Vec<_> = calls
        .iter()
        .filter(|call| call.is("sts", "AssumeRole") && call.body.contains("ExhibitCollector"))
        .collect();
    assert_eq!(assume.len(), 1);
    let policy: Value = serde_json::from_str(assume[0].form().get("Policy").unwrap()).unwrap();
    assert_eq!(policy["Statement"][0]["Action"], "s3:PutObject");
    assert_eq!(
        policy["Statement"][0]["Resource"],
        format!("arn:aws:s3:::{BUCKET}/cases/IR-7/{instance}/*")
    );
    // The suspect's own puts are signed with that session, not with its role.
    let segments = calls
        .iter()
        .filter(|call| call.operation.starts_with("PUT") && call.operation.contains("/evidence/"));
    assert!(
        segments.clone().count() > 0 && segments.clone().all(|call| call.account == EVIDENCE),
        "{:?}",
        segments.map(|c| &c.access_key).collect::<Vec<_>>()
    );

    let secrets = secrets(&bench);
    assert_eq!(secrets.len(), 2);
    let mut places: Vec<(String, Vec<u8>)> =
        vec![("output".into(), (said.stdout + &said.stderr).into_bytes())];
    places.extend(
        files(&bench.path(""))
            .into_iter()
            .map(|file| (file.display().to_string(), fs::read(&file).unwrap())),
    );
    places.extend(
        bench
            .cloud
            .moto()
            .keys(BUCKET)
            .into_iter()
            .map(|key| (key.clone(), bench.cloud.moto().read(BUCKET, &key))),
    );
    let allowed = |operation: &str| operation == "PutParameter" || operation == "GetParameter";
    places.extend(
        calls
            .iter()
            .filter(|call| !allowed(&call.operation))
            .map(|call| (call.operation.clone(), call.body.clone().into_bytes())),
    );
    places.extend(
        bench
            .cloud
            .commands()
            .iter()
            .map(|sent| ("command".to_owned(), format!("{sent:?}").into_bytes())),
    );
    assert!(places.len() > 20);
    for (place, bytes) in &places {
        for secret in &secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a secret stands in {place}");
        }
    }
    // The parameter is gone, and was never in clear.
    let puts: Vec<Value> = calls
        .iter()
        .filter(|call| call.is("ssm", "PutParameter"))
        .map(|call| call.json())
        .collect();
    assert!(puts.iter().all(|put| put["Type"] == "SecureString"));
    let name = puts[0]["Name"].as_str().unwrap();
    assert_eq!(name, format!("/exhibit/IR-7/{instance}/credentials"));
    let gone = bench.call(
        "ssm",
        "AmazonSSM.GetParameter",
        &json!({"Name": name, "WithDecryption": true}),
    );
    assert_eq!(gone["__type"], "ParameterNotFound", "{gone}");
}

#[test]
fn credentials_are_taken_back_although_the_first_attempt_fails() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    bench.open("IR-7");
    bench.cloud.fault(1, |call| call.is("ssm", "DeleteParameter"), CloudFault::Status(400, "AccessDeniedException", "User: x is not authorized to perform: ssm:DeleteParameter on resource: arn:aws:ssm:us-east-1:222222222222:parameter/exhibit because no policy allows it"));
    let denied = bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(40);
    assert!(
        denied.stderr.contains(r#""Action":"ssm:DeleteParameter""#),
        "{}",
        denied.stderr
    );
    assert!(bench.events("IR-7", "withdrawn").is_empty());
    bench.run(&["resume", "IR-7"]).expect(0);
    assert_eq!(bench.events("IR-7", "withdrawn").len(), 1);
    assert_eq!(bench.cloud.count("ssm", "SendCommand"), 1);
}

#[test]
fn the_instance_role_alone_needs_no_parameter() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = bench.instance(&[], |runner| runner);
    let text = fs::read_to_string(bench.path("exhibit.toml")).unwrap();
    fs::write(
        bench.path("exhibit.toml"),
        text.replace(
            "[collect]\n",
            "[collect]\ncredentials = \"instance-role\"\n",
        ),
    )
    .unwrap();
    bench.open("IR-7");
    bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(0);
    assert_eq!(bench.cloud.count("ssm", "PutParameter"), 0);
    assert!(
        bench.events("IR-7", "authorised").is_empty()
            && bench.events("IR-7", "withdrawn").is_empty()
    );
}
