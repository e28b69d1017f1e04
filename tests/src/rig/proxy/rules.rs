//! What AWS enforces and the emulator does not: who may do what, and that the bytes are the ones that were signed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::super::http::{Head, Response};
use super::ACCESS_KEY;

const BODY_MISMATCH: &str =
    "The provided 'x-amz-content-sha256' header does not match what was computed.";

/// How S3 answers a request that was signed for another region: it does either, by endpoint and operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongRegion {
    /// 400 `AuthorizationHeaderMalformed`, with the right region in the body.
    Malformed,
    /// 301 `PermanentRedirect`, with the right region in a header.
    Redirect,
}

pub(super) struct Rules {
    pub(super) keys: BTreeSet<String>,
    pub(super) region: String,
    pub(super) wrong_region: WrongRegion,
    pub(super) put_only: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let keys = BTreeSet::from([ACCESS_KEY.into()]);
        Self {
            keys,
            region: "us-east-1".into(),
            wrong_region: WrongRegion::Malformed,
            put_only: false,
        }
    }
}

/// An error answer of S3.
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
    region: Option<String>,
}

/// Whether a request writes an object or a part of one.
pub(super) fn puts_object(head: &Head) -> bool {
    let key = head
        .path
        .trim_start_matches('/')
        .split_once('/')
        .map_or("", |(_, key)| key);
    let about = ["acl", "legal-hold", "retention", "tagging"];
    head.method == "PUT"
        && !key.is_empty()
        && !about.iter().any(|part| head.query.contains_key(*part))
}

impl Rules {
    /// Why the request is refused, in the order in which AWS looks.
    pub(super) fn refusal(&self, head: &Head, body: &[u8]) -> Option<Refusal> {
        self.signer(head)
            .or_else(|| self.rights(head))
            .or_else(|| transfer(head))
            .or_else(|| integrity(head, body))
    }

    fn signer(&self, head: &Head) -> Option<Refusal> {
        let header = head.header("authorization").and_then(|value| {
            let rest = value.strip_prefix("AWS4-HMAC-SHA256 ")?;
            Some(rest.split_once("Credential=")?.1.split(',').next()?.trim())
        });
        let Some(scope) = header.or_else(|| head.query.get("X-Amz-Credential").map(String::as_str))
        else {
            return Some(Refusal::new(403, "AccessDenied", "Access Denied"));
        };
        let parts: Vec<&str> = scope.split('/').collect();
        let [key, _date, region, "s3", "aws4_request"] = parts[..] else {
            let message = "The authorization header is malformed; the Credential is mal-formed.";
            return Some(Refusal::new(400, "AuthorizationHeaderMalformed", message));
        };
        if !self.keys.contains(key) {
            let message = "The AWS Access Key Id you provided does not exist in our records.";
            return Some(Refusal::new(403, "InvalidAccessKeyId", message));
        }
        (region != self.region).then(|| self.other_region(region))
    }

    fn other_region(&self, region: &str) -> Refusal {
        let right = &self.region;
        let refusal = match self.wrong_region {
            WrongRegion::Malformed => {
                let message = format!(
                    "The authorization header is malformed; the region '{region}' is wrong; expecting '{right}'"
                );
                Refusal::new(400, "AuthorizationHeaderMalformed", &message)
            }
            WrongRegion::Redirect => {
                let message = "The bucket you are attempting to access must be addressed using the specified endpoint. \
                               Please send all future requests to this endpoint.";
                Refusal::new(301, "PermanentRedirect", message)
            }
        };
        Refusal {
            region: Some(right.clone()),
            ..refusal
        }
    }

    fn rights(&self, head: &Head) -> Option<Refusal> {
        let reads = ["GET", "HEAD", "DELETE"].contains(&head.method.as_str());
        (self.put_only && reads).then(|| Refusal::new(403, "AccessDenied", "Access Denied"))
    }
}

/// Streamed bodies: AWS refuses the first form, Ceph the second, and our own client needs neither.
fn transfer(head: &Head) -> Option<Refusal> {
    if head.header("transfer-encoding").is_some() {
        let message = "A header you provided implies functionality that is not implemented";
        return Some(Refusal::new(501, "NotImplemented", message));
    }
    let chunked = head
        .header("content-encoding")
        .is_some_and(|encoding| encoding.contains("aws-chunked"));
    let streaming = head
        .header("x-amz-content-sha256")
        .is_some_and(|hash| hash.starts_with("STREAMING-"));
    (chunked || streaming).then(|| Refusal::new(400, "XAmzContentSHA256Mismatch", BODY_MISMATCH))
}

fn integrity(head: &Head, body: &[u8]) -> Option<Refusal> {
    let digest = Sha256::digest(body);
    let signed = head
        .header("x-amz-content-sha256")
        .unwrap_or("UNSIGNED-PAYLOAD");
    if signed != "UNSIGNED-PAYLOAD" && signed != hex::encode(digest) {
        return Some(Refusal::new(
            400,
            "XAmzContentSHA256Mismatch",
            BODY_MISMATCH,
        ));
    }
    if let Some(checksum) = head.header("x-amz-checksum-sha256") {
        return match STANDARD.decode(checksum) {
            Ok(bytes) if bytes[..] == digest[..] => None,
            Ok(bytes) if bytes.len() == digest.len() => {
                let message = "The SHA256 you specified did not match the calculated checksum.";
                Some(Refusal::new(400, "BadDigest", message))
            }
            _ => {
                let message = "Value for x-amz-checksum-sha256 header is invalid.";
                Some(Refusal::new(400, "InvalidRequest", message))
            }
        };
    }
    let algorithms = ["crc32", "crc32c", "crc64nvme", "sha1"];
    let checked = head.header("content-md5").is_some()
        || algorithms
            .iter()
            .any(|name| head.headers.contains_key(&format!("x-amz-checksum-{name}")));
    let operation = if head.query.contains_key("partNumber") {
        "Put Part"
    } else {
        "Put Object"
    };
    (puts_object(head) && !checked).then(|| {
        let message = format!(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for {operation} requests with Object Lock parameters"
        );
        Refusal::new(400, "InvalidRequest", &message)
    })
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            region: None,
        }
    }

    /// The answer to a request of this method, in the form of S3: an answer to HEAD has no body.
    pub(super) fn response(&self, method: &str) -> Response {
        let region = self
            .region
            .as_ref()
            .map(|region| format!("<Region>{region}</Region>"))
            .unwrap_or_default();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>{region}\
             <RequestId>EXHIBITRIG000000</RequestId><HostId>rig</HostId></Error>",
            self.code, self.message
        );
        let mut headers = BTreeMap::from([
            ("content-type".into(), "application/xml".into()),
            ("date".into(), httpdate::fmt_http_date(SystemTime::now())),
            ("x-amz-request-id".into(), "EXHIBITRIG000000".into()),
        ]);
        if let Some(region) = &self.region {
            headers.insert("x-amz-bucket-region".into(), region.clone());
        }
        let body = if method == "HEAD" {
            Vec::new()
        } else {
            body.into_bytes()
        };
        Response {
            status: self.status,
            headers,
            body,
        }
    }
}
