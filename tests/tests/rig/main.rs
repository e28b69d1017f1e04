//! The rig tests itself: a judge that cannot say no proves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod agent;
mod cloud;
mod document;
mod faults;
mod judges;
mod rules;
mod sdk;
mod snapshots;
mod store;

use std::net::SocketAddr;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exhibit_tests::rig;
use exhibit_tests::rig::http::{self, Head, Response};
use exhibit_tests::rig::moto::Moto;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy};
use sha2::{Digest, Sha256};

/// The bucket in every store of these tests.
const BUCKET: &str = "evidence";

/// An emulator with a locked bucket, and a proxy before it.
struct Rig {
    proxy: Proxy,
    moto: Moto,
}

impl Rig {
    fn start() -> Option<Self> {
        let moto = rig::or_skip(Moto::start())?;
        moto.create_locked_bucket(BUCKET);
        Some(Self {
            proxy: Proxy::start(moto.address()),
            moto,
        })
    }

    /// Puts an object in the form that our agent uses, with these headers added or replaced.
    fn put(&self, key: &str, body: &[u8], headers: &[(&str, &str)]) -> std::io::Result<Response> {
        let to = self.proxy.address();
        http::send(to, &put_head(to, key, body, headers), body)
    }

    /// The status of a PUT that must get an answer.
    fn put_status(&self, key: &str, headers: &[(&str, &str)]) -> u16 {
        self.put(key, b"body", headers).expect("an answer").status
    }

    fn ask(&self, method: &str, path: &str) -> Response {
        let authorization = authorization(ACCESS_KEY, "us-east-1");
        let head = Head::new(method, path, &[], &[("authorization", &authorization)]);
        http::send(self.proxy.address(), &head, b"").expect("an answer")
    }
}

fn authorization(key: &str, region: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/s3/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn checksum(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

fn put_head(to: SocketAddr, key: &str, body: &[u8], headers: &[(&str, &str)]) -> Head {
    let mut head = Head::new("PUT", &format!("/{BUCKET}/{key}"), &[], &[]);
    let fixed = [
        ("host", to.to_string()),
        ("authorization", authorization(ACCESS_KEY, "us-east-1")),
        ("content-type", "application/octet-stream".into()),
        ("x-amz-sdk-checksum-algorithm", "SHA256".into()),
        ("x-amz-checksum-sha256", checksum(body)),
    ];
    head.headers
        .extend(fixed.map(|(name, value)| (name.to_string(), value)));
    for (name, value) in headers {
        head.headers.insert((*name).into(), (*value).into());
    }
    head
}

#[test]
fn a_skip_is_seen_and_in_ci_it_is_a_failure() {
    let run = |ci: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "a_test_that_skips", "--ignored"])
            .env_remove("CI");
        command
            .envs(ci.map(|value| ("CI", value)))
            .output()
            .unwrap()
    };
    let here = run(None);
    assert!(here.status.success());
    let stderr = String::from_utf8_lossy(&here.stderr);
    assert!(
        stderr.contains("SKIPPED: a_test_that_skips: no such tool"),
        "{stderr}"
    );
    assert!(!run(Some("true")).status.success());
    assert!(run(Some("false")).status.success());
}

#[test]
#[ignore = "run by a_skip_is_seen_and_in_ci_it_is_a_failure"]
fn a_test_that_skips() {
    rig::skip_or_fail("no such tool");
}

#[test]
fn tools_are_found_by_name() {
    assert!(rig::tool("sh").is_some_and(|path| path.is_absolute()));
    assert_eq!(rig::tool("no-such-tool"), None);
}
