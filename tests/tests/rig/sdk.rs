//! An SDK that we did not write gets through the proxy, and understands its refusals.

use exhibit_tests::rig::proxy::{ACCESS_KEY, Fault};
use exhibit_tests::rig::python::Venv;

use super::{BUCKET, Rig, checksum};

/// Puts twice, then reads; prints what became of each.
const SCRIPT: &str = "
import os, boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client('s3', config=Config(retries={'mode': 'standard', 'max_attempts': 3}))
body = b'x' * 3_000_000
def attempt(call, **arguments):
    try:
        print(call(Bucket='evidence', Key='case/1', **arguments)['ResponseMetadata']['HTTPStatusCode'])
    except ClientError as error:
        print(error.response['Error']['Code'])
for _ in range(2):
    attempt(s3.put_object, Body=body, IfNoneMatch='*', ChecksumAlgorithm='SHA256', ChecksumSHA256=os.environ['CHECKSUM'])
attempt(s3.get_object)
attempt(s3.head_object)
";

fn run(rig: &Rig, region: &str) -> Vec<String> {
    let output = Venv::moto()
        .unwrap()
        .command("python")
        .args(["-c", SCRIPT])
        .env("AWS_ENDPOINT_URL_S3", rig.proxy.endpoint())
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_DEFAULT_REGION", region)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("CHECKSUM", checksum(&vec![b'x'; 3_000_000]))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_string)
        .collect()
}

#[test]
fn boto3_puts_once_and_may_not_read() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.put_only(true);
    rig.proxy.fault_puts(1, "case/1", Fault::SLOW_DOWN);
    assert_eq!(
        run(&rig, "us-east-1"),
        ["200", "PreconditionFailed", "AccessDenied", "403"]
    );
    let statuses: Vec<_> = rig
        .proxy
        .requests()
        .iter()
        .map(|seen| seen.status)
        .collect();
    assert_eq!(
        statuses,
        [503, 200, 412, 403, 403].map(Some),
        "one retry after 503"
    );
    assert_eq!(rig.moto.read(BUCKET, "case/1").len(), 3_000_000);
}

#[test]
fn boto3_learns_the_right_region() {
    let Some(rig) = Rig::start() else { return };
    assert_eq!(run(&rig, "eu-west-1")[0], "200");
    let seen = rig.proxy.requests();
    let regions: Vec<_> = seen[..2]
        .iter()
        .map(|seen| seen.headers["authorization"].split('/').nth(2))
        .collect();
    assert_eq!(regions, [Some("eu-west-1"), Some("us-east-1")]);
    assert_eq!((seen[0].status, seen[0].stored), (Some(400), None));
}
