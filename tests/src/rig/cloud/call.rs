//! One call to the cloud: who asks which service for what.

use std::time::Instant;

use serde_json::Value;

use super::super::http::Head;
use super::accounts::Accounts;
use super::fault::CloudFault;
use super::form::Form;

/// A call as it came in, and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// As in the scope of the signature: `ssm`, `ec2`, `sts`, `s3`, ...
    pub service: String,
    /// `SendCommand`; for S3 the method and the path.
    pub operation: String,
    pub region: String,
    pub access_key: String,
    /// The account that the access key belongs to.
    pub account: String,
    /// The body as text; empty for S3.
    pub body: String,
    /// What the caller was answered; `None` while it is served, and when it got no answer.
    pub status: Option<u16>,
    /// The fault that it met.
    pub fault: Option<CloudFault>,
    pub at: Instant,
    pub(super) protocol: Protocol,
}

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// JSON, the operation in `X-Amz-Target`.
    Json,
    /// A form, an answer in EC2's XML.
    Ec2,
    /// A form, an answer in XML.
    Query,
    S3,
}

impl Call {
    /// Reads a request. One without a signature belongs to no service.
    pub(super) fn read(head: &Head, body: &[u8], accounts: &Accounts) -> Self {
        let scope = head.header("authorization").and_then(scope);
        let [access_key, _date, region, service] = scope.unwrap_or_default();
        let target = head.header("x-amz-target");
        let protocol = match (service.as_str(), target) {
            (_, Some(_)) => Protocol::Json,
            ("ec2", None) => Protocol::Ec2,
            ("s3", None) => Protocol::S3,
            _ => Protocol::Query,
        };
        let body = match protocol {
            Protocol::S3 => String::new(),
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        let operation = match (protocol, target) {
            (Protocol::Json, Some(target)) => target.rsplit('.').next().unwrap_or(target).into(),
            (Protocol::S3, _) => format!("{} {}", head.method, head.path),
            _ => Form::parse(&body)
                .get("Action")
                .unwrap_or_default()
                .to_string(),
        };
        Self {
            service,
            operation,
            region,
            account: accounts.of(&access_key),
            access_key,
            body,
            status: None,
            fault: None,
            at: Instant::now(),
            protocol,
        }
    }

    /// The parameters of a JSON service; `null` for any other.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The parameters of EC2, STS and their like.
    pub fn form(&self) -> Form {
        Form::parse(&self.body)
    }

    /// Whether it is this operation of this service.
    pub fn is(&self, service: &str, operation: &str) -> bool {
        self.service == service && self.operation == operation
    }
}

/// Key, date, region and service of a Signature Version 4.
fn scope(authorization: &str) -> Option<[String; 4]> {
    let rest = authorization.split_once("Credential=")?.1;
    let mut parts = rest.split(['/', ',', ' ']).map(str::to_string);
    Some([parts.next()?, parts.next()?, parts.next()?, parts.next()?])
}
