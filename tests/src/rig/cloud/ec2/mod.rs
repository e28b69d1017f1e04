//! EC2: instances and volumes are made in the emulator.

mod launch;

use std::net::SocketAddr;

pub use launch::{Ec2, Volume, VolumeKey};

use super::super::http::{self, Head};
use super::REGION;
use super::call::Call;
use super::form::Form;
use super::refusal::Answer;

/// What EC2 knows beside the emulator.
pub(super) struct Ec2State {
    upstream: SocketAddr,
}

impl Ec2State {
    pub(super) fn new(upstream: SocketAddr) -> Self {
        Self { upstream }
    }

    /// `None` when the emulator answers this operation well enough.
    pub(super) fn answer(&self, _call: &Call) -> Option<Answer> {
        None
    }

    /// Asks the emulator, past the log and the faults, in an account's name.
    ///
    /// # Panics
    /// When it refuses.
    fn ask(&self, account: &str, pairs: &[(String, String)]) -> String {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=rig/20260101/{REGION}/ec2/aws4_request, SignedHeaders=host, Signature=0"
        );
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-moto-account-id", account),
        ];
        let body = Form::encode(&[pairs, &[pair("Version", "2016-11-15")]].concat());
        let head = Head::new("POST", "/", &[], &headers);
        let response = http::send(self.upstream, &head, body.as_bytes())
            .unwrap_or_else(|error| panic!("moto: {body}: {error}"));
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        response.text()
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}
