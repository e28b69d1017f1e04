//! The S3 emulator: one moto server per test, on a port of its own, ended with the value.
//!
//! Its methods look at what is stored and prepare buckets. They speak to moto directly, past any proxy, and need
//! no rights: moto checks none. They panic when moto refuses.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::http::{self, Head, Headers, Response};
use super::python::Venv;
use super::{Error, Result, tail};

/// Port 0: the kernel chooses, nothing can race. The thread ends the server when our end of its stdin closes, so
/// that none outlives a test process that was killed.
const LAUNCHER: &str = "
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', '0'])
";

const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A running emulator.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    address: SocketAddr,
}

/// One version of an object, or the marker of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub id: String,
    pub latest: bool,
    pub delete_marker: bool,
}

impl Moto {
    /// Starts an emulator and waits until it answers.
    ///
    /// # Errors
    /// When its Python environment cannot be had, or it does not come up within a minute.
    pub fn start() -> Result<Self> {
        let failed = |error: std::io::Error| Error::Failed(format!("moto: {error}"));
        let log = NamedTempFile::new().map_err(failed)?;
        let mut child = Venv::moto()?
            .command("python")
            .args(["-c", LAUNCHER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.reopen().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        match announced_port(&mut child, &log) {
            Ok(port) => Ok(Self {
                child,
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// The address it listens on: the upstream of a proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as `AWS_ENDPOINT_URL_S3` takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, bucket: &str) {
        self.expect("PUT", &format!("/{bucket}"), &[], &[], b"");
    }

    /// Makes a versioned bucket with Object Lock.
    pub fn create_locked_bucket(&self, bucket: &str) {
        self.expect(
            "PUT",
            &format!("/{bucket}"),
            &[],
            &[("x-amz-bucket-object-lock-enabled", "true")],
            b"",
        );
    }

    /// Sets the retention that objects without their own get; `mode` is `COMPLIANCE` or `GOVERNANCE`.
    pub fn set_default_retention(&self, bucket: &str, mode: &str, days: u32) {
        let body = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>{mode}</Mode>\
             <Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        self.expect(
            "PUT",
            &format!("/{bucket}"),
            &[("object-lock", "")],
            &[],
            body.as_bytes(),
        );
    }

    /// Stores an object with its SHA-256, as anyone with the rights could; returns its version id.
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) -> String {
        let checksum = STANDARD.encode(Sha256::digest(body));
        let headers = [
            ("x-amz-sdk-checksum-algorithm", "SHA256"),
            ("x-amz-checksum-sha256", &checksum),
        ];
        let response = self.expect("PUT", &format!("/{bucket}/{key}"), &[], &headers, body);
        response
            .headers
            .get("x-amz-version-id")
            .cloned()
            .unwrap_or_default()
    }

    /// The keys in a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let xml = self
            .expect(
                "GET",
                &format!("/{bucket}"),
                &[("list-type", "2")],
                &[],
                b"",
            )
            .text();
        assert!(
            xml.contains("<IsTruncated>false<"),
            "more keys than one answer holds: {xml}"
        );
        elements(&xml, "Key")
            .iter()
            .map(|key| unescape(key))
            .collect()
    }

    /// Every version and deletion marker in a bucket.
    pub fn versions(&self, bucket: &str) -> Vec<Version> {
        let xml = self
            .expect("GET", &format!("/{bucket}"), &[("versions", "")], &[], b"")
            .text();
        assert!(
            xml.contains("<IsTruncated>false<"),
            "more versions than one answer holds: {xml}"
        );
        let parse = |xml: &str, delete_marker: bool| {
            let text = |name: &str| {
                elements(xml, name)
                    .first()
                    .map(|text| unescape(text))
                    .unwrap_or_default()
            };
            Version {
                key: text("Key"),
                id: text("VersionId"),
                latest: text("IsLatest") == "true",
                delete_marker,
            }
        };
        let objects = elements(&xml, "Version")
            .into_iter()
            .map(|xml| parse(xml, false));
        objects
            .chain(
                elements(&xml, "DeleteMarker")
                    .into_iter()
                    .map(|xml| parse(xml, true)),
            )
            .collect()
    }

    /// The bytes of an object's latest version.
    pub fn read(&self, bucket: &str, key: &str) -> Vec<u8> {
        self.expect("GET", &format!("/{bucket}/{key}"), &[], &[], b"")
            .body
    }

    /// The bytes of one version.
    pub fn read_version(&self, bucket: &str, key: &str, version: &str) -> Vec<u8> {
        self.expect(
            "GET",
            &format!("/{bucket}/{key}"),
            &[("versionId", version)],
            &[],
            b"",
        )
        .body
    }

    /// The headers of an object, checksum and lock among them; `None` when there is none.
    pub fn head(&self, bucket: &str, key: &str) -> Option<Headers> {
        let response = self.request(
            "HEAD",
            &format!("/{bucket}/{key}"),
            &[],
            &[("x-amz-checksum-mode", "ENABLED")],
            b"",
        );
        assert!(
            [200, 404].contains(&response.status),
            "HEAD {key}: {}",
            response.status
        );
        (response.status == 200).then_some(response.headers)
    }

    /// Tries to delete a version; the status says whether a lock held.
    pub fn delete_version(&self, bucket: &str, key: &str, version: &str) -> u16 {
        self.request(
            "DELETE",
            &format!("/{bucket}/{key}"),
            &[("versionId", version)],
            &[],
            b"",
        )
        .status
    }

    /// Sends any other request. `path` is not percent-encoded.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        // With a form's content type, moto stores an empty object.
        let fixed = [
            ("authorization", AUTHORIZATION),
            ("content-type", "application/octet-stream"),
        ];
        let head = Head::new(method, path, query, &[&fixed, headers].concat());
        http::send(self.address, &head, body)
            .unwrap_or_else(|error| panic!("moto: {method} {path}: {error}"))
    }

    fn expect(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let response = self.request(method, path, query, headers, body);
        assert!(
            (200..300).contains(&response.status),
            "{method} {path}: {} {}",
            response.status,
            response.text()
        );
        response
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for the line in which the server names its port: from then on it accepts connections.
fn announced_port(child: &mut Child, log: &NamedTempFile) -> Result<u16> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let port = text
            .split_once("Running on http://127.0.0.1:")
            .and_then(|(_, rest)| {
                let line = rest.split_once('\n')?.0;
                line.trim_end_matches(|c: char| !c.is_ascii_digit())
                    .parse()
                    .ok()
            });
        if let Some(port) = port {
            return Ok(port);
        }
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            return Err(Error::Failed(format!(
                "moto did not come up ({ended:?}): {}",
                tail(&text)
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What stands between `<name>` and `</name>`, each time. Enough for the flat answers of S3.
pub(crate) fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(&close)?.0))
        .collect()
}

pub(crate) fn unescape(text: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    entities
        .iter()
        .fold(text.into(), |text: String, (entity, plain)| {
            text.replace(entity, plain)
        })
}
