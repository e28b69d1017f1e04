//! The service as it is, and as it must not hurt, on a port of this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use evidence::manifest::Outcome;

use super::*;
use crate::capture::rehearsal::{Rehearsed, rehearse};

const TOKEN: &str = "AQAEAHtoken==";
const DOCUMENT: &str = r#"{"accountId":"111122223333","architecture":"x86_64","availabilityZone":"eu-central-1a","imageId":"ami-0abc","instanceId":"i-0123456789abcdef0","instanceType":"m6i.large","region":"eu-central-1","version":"2017-09-30"}"#;

/// A request: method, path and the token that came with it.
type Request<'a> = (&'a str, &'a str, Option<&'a str>);
/// What is sent back; nothing when there is no answer at all.
type Answers = fn(Request<'_>) -> Option<Vec<u8>>;

/// A server that notes every path that is asked for. It ends with the tests.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                if let Some(stream) = serve(stream, answers, &notes) {
                    silent.push(stream);
                }
            }
        });
        Self { address, asked }
    }

    fn capture(&self, environment: Policy) -> Rehearsed {
        let endpoint = Endpoint::At(vec![self.address]);
        rehearse(
            &Instance {
                endpoint,
                environment,
            },
            Path::new("/"),
        )
    }
}

fn serve(mut stream: TcpStream, answers: Answers, notes: &Mutex<Vec<String>>) -> Option<TcpStream> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend(&piece[..count]),
            _ => return None,
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let mut words = text.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let token = text
        .lines()
        .find_map(|line| line.strip_prefix("X-aws-ec2-metadata-token: "));
    notes.lock().unwrap().push(format!("{method} {path}"));
    match answers((method, path, token)) {
        Some(answer) => {
            // The other end may have had enough.
            let _ = stream.write_all(&answer);
            None
        }
        None => Some(stream),
    }
}

fn http(status: u16, body: &[u8]) -> Option<Vec<u8>> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Some([head.as_bytes(), body].concat())
}

/// An instance that wants IMDSv2, with a role, user data and one tag.
fn instance(request: Request<'_>) -> Option<Vec<u8>> {
    let (method, path, token) = request;
    if (method, path) == ("PUT", "/latest/api/token") {
        return http(200, TOKEN.as_bytes());
    }
    if token != Some(TOKEN) {
        return http(401, b"");
    }
    let body: &[u8] = match path {
        "/latest/dynamic/instance-identity/document" => DOCUMENT.as_bytes(),
        "/latest/dynamic/instance-identity/pkcs7" => b"MIAGCSqG",
        "/latest/dynamic/instance-identity/rsa2048" => b"MIAGCSqH",
        "/latest/dynamic/instance-identity/signature" => b"c2lnbmF0dXJl",
        "/latest/user-data" => b"\x1f\x8b\x08\x00not text\xff",
        "/latest/meta-data/ami-id" => b"ami-0abc",
        "/latest/meta-data/iam/info" => {
            b"{\"InstanceProfileArn\":\"arn:aws:iam::1:instance-profile/web\"}"
        }
        "/latest/meta-data/iam/security-credentials/" => b"web-role",
        "/latest/meta-data/network/interfaces/macs/" => b"0e:49:61:0f:c3:11/",
        "/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/vpc-id" => b"vpc-1",
        "/latest/meta-data/block-device-mapping/" => b"ami\nroot",
        "/latest/meta-data/block-device-mapping/root" => b"/dev/xvda",
        "/latest/meta-data/tags/instance/" => b"Name\n../../iam/security-credentials/web-role",
        "/latest/meta-data/tags/instance/Name" => b"web-1",
        _ => return http(404, b""),
    };
    http(200, body)
}

fn values(rehearsed: &Rehearsed) -> Vec<(String, String)> {
    let row = |row: &Value| {
        let text = |name: &str| {
            row[name]
                .as_str()
                .unwrap_or_default()
                .trim_start_matches(ROOT)
                .to_owned()
        };
        (text("path"), text("value"))
    };
    rehearsed
        .table("instance/metadata")
        .iter()
        .map(row)
        .collect()
}

#[test]
fn an_instance_is_told_of_without_its_credentials() {
    let server = Server::start(instance);
    let rehearsed = server.capture(Policy::Collect);
    let values = values(&rehearsed);
    for (path, value) in [
        ("ami-id", "ami-0abc"),
        ("iam/security-credentials/", "web-role"),
        ("network/interfaces/macs/0e:49:61:0f:c3:11/vpc-id", "vpc-1"),
        ("block-device-mapping/root", "/dev/xvda"),
        ("tags/instance/Name", "web-1"),
    ] {
        assert!(
            values.contains(&(path.to_owned(), value.to_owned())),
            "{path}: {values:?}"
        );
    }
    let member = |name: &str| {
        rehearsed
            .members
            .get(&format!("live_response/instance/{name}"))
            .cloned()
    };
    assert_eq!(
        member("identity/document").as_deref(),
        Some(DOCUMENT.as_bytes())
    );
    assert!(
        member("identity/pkcs7").is_some()
            && member("identity/rsa2048").is_some()
            && member("identity/signature").is_some()
    );
    assert_eq!(
        member("user-data").as_deref(),
        Some(&b"\x1f\x8b\x08\x00not text\xff"[..])
    );
    let record = &rehearsed.table("instance/instance")[0];
    assert_eq!(record["cloud"]["instance"]["id"], "i-0123456789abcdef0");
    assert_eq!(record["cloud"]["account"]["id"], "111122223333");
    // A name that leads somewhere else was left out, and that is a loss.
    assert_eq!(
        rehearsed.report.outcome,
        Outcome::Partial,
        "{:?}",
        rehearsed.report
    );
    assert_eq!(
        rehearsed.report.losses.keys().collect::<Vec<_>>(),
        ["skipped:name"]
    );
    let asked = server.asked.lock().unwrap();
    let keys = asked.iter().filter(|path| path.contains("credentials"));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        ["GET /latest/meta-data/iam/security-credentials/"]
    );
    assert_eq!(
        asked.iter().filter(|path| path.starts_with("PUT")).count(),
        1
    );
}

#[test]
fn user_data_stay_where_they_are_when_the_policy_says_so() {
    for policy in [Policy::Mask, Policy::Hash] {
        let rehearsed = Server::start(instance).capture(policy);
        assert!(
            !rehearsed
                .members
                .contains_key("live_response/instance/user-data")
        );
        let record = &rehearsed.table("instance/instance")[0]["exhibit"]["user_data"];
        assert_eq!(
            (record["policy"].as_str(), record["size"].as_u64()),
            (Some("hash"), Some(13))
        );
        assert_eq!(record["sha256"].as_str().map(str::len), Some(64));
    }
}

#[test]
fn a_machine_that_is_no_instance_has_no_such_thing() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let at = |endpoint| {
        rehearse(
            &Instance {
                endpoint,
                environment: Policy::Collect,
            },
            Path::new("/"),
        )
        .report
    };
    let report = at(Endpoint::At(vec![free]));
    assert_eq!(report.outcome, Outcome::Absent, "{report:?}");
    let other_cloud = Server::start(|_| http(404, b"<html>"))
        .capture(Policy::Collect)
        .report;
    assert_eq!(other_cloud.outcome, Outcome::Absent, "{other_cloud:?}");
    let named = at(Endpoint::Unusable("http://x".to_owned()));
    assert_eq!(named.outcome, Outcome::Failed);
    assert!(named.reason.unwrap().contains(ENDPOINT));
    let disabled = Instance {
        endpoint: Endpoint::Disabled,
        environment: Policy::Collect,
    };
    assert!(disabled.left_out().unwrap().contains(DISABLED));
    let recorded = tempfile::tempdir().unwrap();
    let server = Server::start(instance);
    let instance = Instance {
        endpoint: Endpoint::At(vec![server.address]),
        environment: Policy::Collect,
    };
    assert_eq!(
        rehearse(&instance, recorded.path()).report.outcome,
        Outcome::Absent
    );
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn a_service_that_is_switched_off_or_gives_junk_for_a_token_is_named() {
    let report = Server::start(|_| http(403, b""))
        .capture(Policy::Collect)
        .report;
    assert_eq!(report.outcome, Outcome::Denied, "{report:?}");
    let report = Server::start(|_| http(200, b"a\r\nX-Evil: 1"))
        .capture(Policy::Collect)
        .report;
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    let report = Server::start(|_| Some(b"SSH-2.0-x\r\n\r\n".to_vec()))
        .capture(Policy::Collect)
        .report;
    assert!(report.reason.unwrap().contains("no HTTP"));
}

#[test]
fn a_service_that_does_not_answer_costs_two_seconds() {
    let started = Instant::now();
    let report = Server::start(|_| None).capture(Policy::Collect).report;
    assert_eq!(report.outcome, Outcome::TimedOut, "{report:?}");
    assert!(report.reason.unwrap().contains("hop limit"));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_service_that_falls_silent_is_not_asked_for_ever() {
    let server = Server::start(|request| match request {
        ("PUT", ..) => instance(request),
        _ => None,
    });
    let report = server.capture(Policy::Collect).report;
    assert_eq!(report.outcome, Outcome::Partial, "{report:?}");
    assert!(
        report
            .reason
            .unwrap()
            .contains("nothing more was asked for")
    );
    assert_eq!(server.asked.lock().unwrap().len(), 4);
}

#[test]
fn an_answer_without_end_is_bounded_and_the_rest_is_captured() {
    let server = Server::start(|request| match request.1 {
        "/latest/user-data" => http(200, &vec![b'x'; 4 << 20]),
        "/latest/dynamic/instance-identity/pkcs7" => {
            Some(b"HTTP/1.1 200 OK\r\n\r\nends at the end".to_vec())
        }
        "/latest/meta-data/ami-id" => {
            Some(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_vec())
        }
        _ => instance(request),
    });
    let rehearsed = server.capture(Policy::Collect);
    assert_eq!(rehearsed.report.outcome, Outcome::Partial);
    let errors: Vec<String> = rehearsed
        .table("instance/metadata")
        .iter()
        .filter_map(|row| {
            Some(format!(
                "{}: {}",
                row["path"].as_str()?,
                row["error"].as_str()?
            ))
        })
        .collect();
    assert_eq!(
        errors,
        [
            "/latest/user-data: the answer is longer than 262144 bytes",
            "/latest/meta-data/ami-id: the answer ends too early"
        ]
    );
    assert_eq!(
        rehearsed.members["live_response/instance/identity/pkcs7"],
        b"ends at the end"
    );
    assert!(
        values(&rehearsed)
            .iter()
            .any(|(path, _)| path == "iam/info")
    );
}
