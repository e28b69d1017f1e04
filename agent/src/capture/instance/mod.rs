//! *instance*: which EC2 instance this is, as its metadata service says and AWS signs.
//!
//! The identity document with its signatures proves instance, account, image and region to whoever was not there. IMDSv2
//! alone is spoken, to the link-local addresses; `AWS_EC2_METADATA_SERVICE_ENDPOINT` gives another address, and
//! `AWS_EC2_METADATA_DISABLED=true` has it left out, as for AWS's own programs. Credentials are never asked for: they would
//! be in the evidence, and their use would show in CloudTrail as the instance's.

pub mod http;
mod items;
mod service;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use evidence::digest::Digest;
use serde::Serialize;
use serde_json::Value;

use super::sensitive::Policy;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Host, HostError};
use items::{IDENTITY, IDENTITY_ROOT, LISTS, PLAIN, ROOT, USER_DATA};
use service::{DISABLED, ENDPOINT, Endpoint, Refused, Session};

/// The instance that this is.
pub struct Instance {
    endpoint: Endpoint,
    /// User data set up the machine as an environment sets up a process, and hold secrets as often.
    environment: Policy,
}

static SPEC: Spec = Spec {
    name: "instance",
    volatility: Volatility::System,
    what: "EC2's instance metadata by IMDSv2: the identity document with AWS's signatures, addresses, interfaces, disks, tags, \
           the name of the role, and user data; no credentials",
    why: "signed proof of which instance, account and image this is, and the script that it started with",
    deadline_s: 60,
    max_bytes: 64 << 20,
};

/// Requests in a row that may get no answer.
const MOST_LATE: u32 = 3;

/// What the metadata service says at a path.
#[derive(Serialize)]
struct Row<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// ECS field set `cloud`, from the identity document.
#[derive(Serialize)]
struct Record {
    cloud: Value,
    exhibit: Own,
}

#[derive(Serialize)]
struct Own {
    /// Who answered.
    endpoint: String,
    document: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<UserData>,
}

#[derive(Serialize)]
struct UserData {
    size: usize,
    sha256: Digest,
    /// Whether the content is in the collection.
    policy: &'static str,
}

impl Instance {
    /// The service where the environment says that it is.
    pub fn from_environment(environment: Policy) -> Self {
        Self {
            endpoint: Endpoint::from_environment(),
            environment,
        }
    }

    fn session(&self) -> Result<Session, CaptureError> {
        let addresses = match &self.endpoint {
            Endpoint::At(addresses) => addresses,
            Endpoint::Disabled => return Err(CaptureError::Absent(format!("{DISABLED} is set"))),
            Endpoint::Unusable(given) => {
                let why = format!("{ENDPOINT} is not http:// with an address: {given}");
                return Err(CaptureError::Impossible(why));
            }
        };
        Session::open(addresses).map_err(|refused| match refused {
            Refused::Nobody(why) => {
                CaptureError::Absent(format!("no instance metadata service: {why}"))
            }
            Refused::Denied(why) => CaptureError::Denied(why),
            Refused::Late(what) => CaptureError::Host {
                what: format!(
                    "{what} (where its hop limit is 1, answers do not reach into a container)"
                ),
                source: HostError::TimedOut,
            },
            Refused::Broken(why) => CaptureError::Impossible(why),
        })
    }
}

impl Artifact for Instance {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn left_out(&self) -> Option<Cow<'static, str>> {
        (self.endpoint == Endpoint::Disabled).then(|| format!("{DISABLED} is set").into())
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            // The machine that reads a recorded tree may be an instance, but it is not the one in question.
            return Err(CaptureError::Absent(
                "a recorded tree has no metadata service".to_owned(),
            ));
        }
        let session = self.session()?;
        let mut visit = Visit { session, late: 0 };
        let identity = visit.identity(sink)?;
        let user_data = visit.user_data(self.environment, sink)?;
        let record = Record {
            cloud: cloud(identity.as_ref()),
            exhibit: Own {
                endpoint: format!("http://{}", visit.session.address()),
                document: identity,
                user_data,
            },
        };
        sink.record("instance/instance", &record)?;
        visit.metadata(sink)
    }
}

/// What of the identity document ECS has names for.
fn cloud(document: Option<&Value>) -> Value {
    let field = |name: &str| {
        document
            .and_then(|document| document.get(name))
            .cloned()
            .unwrap_or_default()
    };
    serde_json::json!({
        "provider": "aws",
        "account": { "id": field("accountId") },
        "instance": { "id": field("instanceId") },
        "region": field("region"),
        "availability_zone": field("availabilityZone"),
        "machine": { "type": field("instanceType") },
    })
}

/// A visit to the service.
struct Visit {
    session: Session,
    /// Requests in a row that got no answer.
    late: u32,
}

impl Visit {
    /// What is at `path`, where something is. What can not be had is told.
    fn get(&mut self, path: &str, sink: &mut Sink<'_>) -> Result<Option<Vec<u8>>, CaptureError> {
        sink.check()?;
        if self.late >= MOST_LATE {
            let why =
                format!("{MOST_LATE} requests in a row got no answer; nothing more was asked for");
            return Err(CaptureError::Impossible(why));
        }
        match self.session.get(path) {
            Ok(answer) => {
                self.late = 0;
                Ok(answer)
            }
            Err(why) => {
                self.late = if why.starts_with("no answer") {
                    self.late + 1
                } else {
                    0
                };
                sink.loss(&format!("failed:{why}"));
                let (value, error) = (None, Some(why.as_str()));
                sink.record("instance/metadata", &Row { path, value, error })?;
                Ok(None)
            }
        }
    }

    /// Keeps the document and its signatures as they are; the answer is the document.
    fn identity(&mut self, sink: &mut Sink<'_>) -> Result<Option<Value>, CaptureError> {
        let mut document = None;
        for name in IDENTITY {
            let Some(bytes) = self.get(&format!("{IDENTITY_ROOT}{name}"), sink)? else {
                continue;
            };
            sink.own(&format!("live_response/instance/identity/{name}"), &bytes)?;
            if *name == "document" {
                document = serde_json::from_slice(&bytes).ok();
            }
        }
        Ok(document)
    }

    /// User data: a script, settings of cloud-init, or either compressed, which no mask fits.
    fn user_data(
        &mut self,
        policy: Policy,
        sink: &mut Sink<'_>,
    ) -> Result<Option<UserData>, CaptureError> {
        let Some(bytes) = self.get(USER_DATA, sink)? else {
            return Ok(None);
        };
        let policy = match policy {
            Policy::Collect => policy,
            Policy::Mask | Policy::Hash => Policy::Hash,
        };
        if policy == Policy::Collect {
            sink.own("live_response/instance/user-data", &bytes)?;
        }
        Ok(Some(UserData {
            size: bytes.len(),
            sha256: Digest::of(&bytes),
            policy: policy.word(),
        }))
    }

    fn metadata(&mut self, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        for name in PLAIN {
            self.item(&format!("{ROOT}{name}"), sink)?;
        }
        for (folder, fields) in LISTS {
            let path = format!("{ROOT}{folder}/");
            let Some(listing) = self.get(&path, sink)? else {
                continue;
            };
            tell(&path, &listing, sink)?;
            let (names, left_out) = items::names(&listing);
            if left_out && !fields.is_empty() {
                sink.loss("skipped:name");
            }
            for name in names {
                for field in *fields {
                    self.item(&format!("{path}{name}{field}"), sink)?;
                }
            }
        }
        Ok(())
    }

    fn item(&mut self, path: &str, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if let Some(value) = self.get(path, sink)? {
            tell(path, &value, sink)?;
        }
        Ok(())
    }
}

fn tell(path: &str, value: &[u8], sink: &mut Sink<'_>) -> Result<(), Halt> {
    let (value, error) = (Some(String::from_utf8_lossy(value)), None);
    sink.record("instance/metadata", &Row { path, value, error })
}
