//! EC2: snapshots are answered here, with AWS's rules; instances and volumes are the emulator's.

mod launch;
mod locks;
mod share;
mod snapshots;
mod xml;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

pub use launch::{Ec2, Volume, VolumeKey};
pub use locks::Lock;
pub use snapshots::Snapshot;

use super::super::http::{self, Head, Response};
use super::super::moto::{elements, unescape};
use super::REGION;
use super::call::Call;
use super::form::Form;
use super::refusal::Answer;
use snapshots::{Snapshots, dry_run};

/// What EC2 knows beside the emulator.
pub(super) struct Ec2State {
    upstream: SocketAddr,
    snapshots: Mutex<Snapshots>,
}

impl Ec2State {
    pub(super) fn new(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            snapshots: Mutex::default(),
        }
    }

    fn snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap()
    }

    /// `None` when the emulator answers this operation well enough.
    pub(super) fn answer(&self, call: &Call) -> Option<Answer> {
        let form = call.form();
        Some(match call.operation.as_str() {
            "CreateSnapshot" | "CreateSnapshots" => self.create_snapshots(call, &form),
            "CopySnapshot" => self.copy_snapshot(call, &form),
            "DescribeSnapshots" => self.snapshots().describe(call, &form),
            "DeleteSnapshot" => self.snapshots().delete(call, &form),
            "ModifySnapshotAttribute" => self.snapshots().modify_attribute(call, &form),
            "DescribeSnapshotAttribute" => self.snapshots().describe_attribute(call, &form),
            "LockSnapshot" => self.snapshots().lock(call, &form),
            "UnlockSnapshot" => self.snapshots().unlock(call, &form),
            "DescribeLockedSnapshots" => self.snapshots().describe_locked(call, &form),
            "CreateTags" | "DeleteTags" => return self.snapshots().change_tags(call, &form),
            // The emulator carries some of them out all the same.
            name if name.starts_with("Describe") => return dry_run(&form).err().map(Err),
            _ => return None,
        })
    }

    /// Asks the emulator, past the log and the faults, in an account's name.
    ///
    /// # Panics
    /// When it refuses.
    fn ask(&self, account: &str, pairs: &[(String, String)]) -> String {
        self.ask_in(REGION, account, pairs)
    }

    /// The same in any region.
    fn ask_in(&self, region: &str, account: &str, pairs: &[(String, String)]) -> String {
        let body = Form::encode(&[pairs, &[pair("Version", "2016-11-15")]].concat());
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let response = self.send((account, region, "ec2"), &[kind], &body);
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        response.text()
    }

    /// Asks the emulator about one resource in the caller's name; an error is its refusal.
    fn describe(&self, call: &Call, action: &str, name: &str, id: &str) -> Result<String, String> {
        let pairs = [
            pair("Action", action),
            pair("Version", "2016-11-15"),
            pair(name, id),
        ];
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let who = (call.account.as_str(), call.region.as_str(), "ec2");
        let response = self.send(who, &[kind], &Form::encode(&pairs));
        match response.status {
            200 => Ok(response.text()),
            _ => Err(response.text()),
        }
    }

    /// The volumes of an instance.
    fn attached(&self, call: &Call, instance: &str) -> Vec<String> {
        let pairs = [
            pair("Action", "DescribeVolumes"),
            pair("Version", "2016-11-15"),
            pair("Filter.1.Name", "attachment.instance-id"),
            pair("Filter.1.Value.1", instance),
        ];
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let who = (call.account.as_str(), call.region.as_str(), "ec2");
        let answer = self.send(who, &[kind], &Form::encode(&pairs)).text();
        let mut ids = texts(&answer, "volumeId");
        ids.sort();
        ids.dedup();
        ids
    }

    /// Whether the key management of an account has this key.
    fn has_key(&self, account: &str, region: &str, key: &str) -> bool {
        self.key(account, region, key).is_some()
    }

    /// What the key management of an account says of a key.
    pub(super) fn key(&self, account: &str, region: &str, key: &str) -> Option<Value> {
        let body = json!({"KeyId": key}).to_string();
        let response = self.kms((account, region), "DescribeKey", &body);
        let found: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        (response.status == 200).then(|| found["KeyMetadata"].clone())
    }

    fn kms(&self, (account, region): (&str, &str), operation: &str, body: &str) -> Response {
        let target = format!("TrentService.{operation}");
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target.as_str()),
        ];
        self.send((account, region, "kms"), &headers, body)
    }

    /// Sends a request to the emulator in the name of an account, in a region, to a service.
    fn send(
        &self,
        (account, region, service): (&str, &str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=rig/20260101/{region}/{service}/aws4_request, SignedHeaders=host, \
             Signature=0"
        );
        let own = [
            ("authorization", authorization.as_str()),
            ("x-moto-account-id", account),
        ];
        let head = Head::new("POST", "/", &[], &[&own, headers].concat());
        http::send(self.upstream, &head, body.as_bytes())
            .unwrap_or_else(|error| panic!("moto: {body}: {error}"))
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

/// What stands between these tags, each time.
fn texts(xml: &str, name: &str) -> Vec<String> {
    elements(xml, name)
        .into_iter()
        .map(|text| unescape(text.trim()))
        .collect()
}
