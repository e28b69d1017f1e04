//! Instance metadata, version 2 only: nothing without a token, and no token lives longer than it was asked to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::http::{Head, Response};
use super::server::{Ending, Handler, Server};
use super::{Error, Result};

/// Whose metadata it is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub instance: String,
    pub account: String,
    pub region: String,
    pub image: String,
}

/// Credentials of the instance's role.
#[derive(Clone, Debug)]
pub struct RoleCredentials {
    pub access_key: String,
    pub secret: String,
    pub token: String,
    /// How long they are still good for.
    pub lifetime: Duration,
}

/// A running metadata service; it ends with the value.
pub struct Imds {
    server: Server,
    state: Arc<State>,
}

struct State {
    identity: Identity,
    roles: Mutex<BTreeMap<String, RoleCredentials>>,
    tokens: Mutex<HashMap<String, Instant>>,
    /// Method, path and status.
    log: Mutex<Vec<(String, String, u16)>>,
}

impl Imds {
    /// Starts on a free port of 127.0.0.1, without a role.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(identity: Identity) -> Result<Self> {
        let state = Arc::new(State {
            identity,
            roles: Mutex::default(),
            tokens: Mutex::default(),
            log: Mutex::default(),
        });
        let server = Server::start(Arc::clone(&state))
            .map_err(|error| Error::Failed(format!("imds: {error}")))?;
        Ok(Self { server, state })
    }

    /// Its URL, as `AWS_EC2_METADATA_SERVICE_ENDPOINT` takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Gives the instance a role, or the role other credentials.
    pub fn role(&self, name: &str, credentials: RoleCredentials) {
        let mut roles = self.state.roles.lock().unwrap();
        roles.insert(name.into(), credentials);
    }

    /// Takes the roles away, as when the profile is disassociated.
    pub fn no_role(&self) {
        self.state.roles.lock().unwrap().clear();
    }

    /// Method, path and status of every request so far.
    pub fn requests(&self) -> Vec<(String, String, u16)> {
        self.state.log.lock().unwrap().clone()
    }
}

impl Handler for State {
    fn handle(&self, head: &Head, _body: &[u8]) -> Ending {
        let response = self.answer(head);
        let seen = (head.method.clone(), head.path.clone(), response.status);
        self.log.lock().unwrap().push(seen);
        Ending::Answer(response)
    }
}

impl State {
    fn answer(&self, head: &Head) -> Response {
        if head.method == "PUT" && head.path == "/latest/api/token" {
            return self.token(head);
        }
        if head.method != "GET" {
            return text(405, "");
        }
        let token = head.header("x-aws-ec2-metadata-token").unwrap_or_default();
        let end = self.tokens.lock().unwrap().get(token).copied();
        if end.is_none_or(|end| Instant::now() >= end) {
            return text(401, "");
        }
        self.read(head.path.trim_end_matches('/'))
    }

    fn token(&self, head: &Head) -> Response {
        if head.headers.contains_key("x-forwarded-for") {
            return text(403, "");
        }
        let lifetime = head
            .header("x-aws-ec2-metadata-token-ttl-seconds")
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| (1..=21_600).contains(seconds));
        let Some(seconds) = lifetime else {
            return text(400, "");
        };
        let mut tokens = self.tokens.lock().unwrap();
        let name = format!("token-{}", tokens.len() + 1);
        let token = STANDARD.encode(name);
        tokens.insert(token.clone(), Instant::now() + Duration::from_secs(seconds));
        let mut response = text(200, &token);
        response.headers.insert(
            "x-aws-ec2-metadata-token-ttl-seconds".into(),
            seconds.to_string(),
        );
        response
    }

    fn read(&self, path: &str) -> Response {
        let identity = &self.identity;
        let zone = format!("{}a", identity.region);
        if let Some(name) = path.strip_prefix("/latest/meta-data/iam/security-credentials") {
            return self.credentials(name.trim_start_matches('/'));
        }
        match path {
            "/latest/dynamic/instance-identity/document" => {
                text(200, &self.document(&zone).to_string())
            }
            "/latest/meta-data/instance-id" => text(200, &identity.instance),
            "/latest/meta-data/ami-id" => text(200, &identity.image),
            "/latest/meta-data/placement/region" => text(200, &identity.region),
            "/latest/meta-data/placement/availability-zone" => text(200, &zone),
            _ => text(404, ""),
        }
    }

    fn document(&self, zone: &str) -> serde_json::Value {
        let identity = &self.identity;
        json!({
            "accountId": identity.account, "architecture": "x86_64", "availabilityZone": zone,
            "imageId": identity.image, "instanceId": identity.instance, "instanceType": "m5.large",
            "pendingTime": "2026-01-01T00:00:00Z", "privateIp": "10.0.0.1", "region": identity.region,
            "version": "2017-09-30",
        })
    }

    fn credentials(&self, name: &str) -> Response {
        let roles = self.roles.lock().unwrap();
        if name.is_empty() && !roles.is_empty() {
            let names: Vec<&str> = roles.keys().map(String::as_str).collect();
            return text(200, &names.join("\n"));
        }
        let Some(role) = roles.get(name) else {
            return text(404, "");
        };
        let now = SystemTime::now();
        let date = |time: SystemTime| {
            let date = time::OffsetDateTime::from(time).replace_nanosecond(0);
            let date = date.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
            date.format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default()
        };
        let body = json!({
            "Code": "Success", "LastUpdated": date(now), "Type": "AWS-HMAC",
            "AccessKeyId": role.access_key, "SecretAccessKey": role.secret, "Token": role.token,
            "Expiration": date(now + role.lifetime),
        });
        text(200, &body.to_string())
    }
}

fn text(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: [("content-type".into(), "text/plain".into())].into(),
        body: body.into(),
    }
}
