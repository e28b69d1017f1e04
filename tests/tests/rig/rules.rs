//! The proxy refuses what AWS refuses.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use exhibit_tests::rig;
use exhibit_tests::rig::http::{self, Head};
use exhibit_tests::rig::moto::Moto;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy, WrongRegion};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{BUCKET, Rig, authorization, checksum, put_head};

/// A header that spoils a good PUT, and the answer to it.
fn flaws() -> Vec<(&'static str, String, u16, &'static str)> {
    let flaw = |name, value: &str, status, code| (name, value.to_string(), status, code);
    let (unknown, elsewhere) = (
        authorization("AKIAUNKNOWN", "us-east-1"),
        authorization(ACCESS_KEY, "eu-central-1"),
    );
    let (sum, hash) = ("x-amz-checksum-sha256", "x-amz-content-sha256");
    vec![
        flaw(sum, &checksum(b"other"), 400, "BadDigest"),
        flaw(sum, "AAAA", 400, "InvalidRequest"),
        flaw(hash, &"0".repeat(64), 400, "XAmzContentSHA256Mismatch"),
        flaw(
            hash,
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            400,
            "XAmzContentSHA256Mismatch",
        ),
        flaw(
            "content-encoding",
            "aws-chunked",
            400,
            "XAmzContentSHA256Mismatch",
        ),
        flaw("transfer-encoding", "chunked", 501, "NotImplemented"),
        flaw("authorization", &unknown, 403, "InvalidAccessKeyId"),
        flaw(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIA",
            400,
            "AuthorizationHeaderMalformed",
        ),
        flaw(
            "authorization",
            &elsewhere,
            400,
            "AuthorizationHeaderMalformed",
        ),
    ]
}

#[test]
fn each_broken_request_is_refused_as_by_aws() {
    let Some(rig) = Rig::start() else { return };
    for (name, value, status, code) in flaws() {
        let response = rig.put("key", b"body", &[(name, &value)]).unwrap();
        assert_eq!(response.status, status, "{name}: {value}");
        let text = response.text();
        assert!(
            text.contains(&format!("<Code>{code}</Code>")),
            "{name}: {text}"
        );
    }
    assert!(
        rig.moto.keys(BUCKET).is_empty(),
        "a refused object was stored"
    );
    assert_eq!(
        rig.put_status("key", &[]),
        200,
        "the same request without the flaw"
    );
}

#[test]
fn what_is_missing_is_refused() {
    let Some(rig) = Rig::start() else { return };
    let to = rig.proxy.address();
    let without = |name: &str, query: &[(&str, &str)]| {
        let mut head = put_head(to, "key", b"body", &[]);
        head.headers.remove(name);
        head.query = Head::new("", "", query, &[]).query;
        http::send(to, &head, b"body").unwrap().text()
    };
    assert!(without("authorization", &[]).contains("<Code>AccessDenied</Code>"));
    let object = without("x-amz-checksum-sha256", &[]);
    assert!(object.contains(
        "<Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object"
    ));
    let part = without(
        "x-amz-checksum-sha256",
        &[("partNumber", "1"), ("uploadId", "u")],
    );
    assert!(part.contains("is required for Put Part requests"));
}

#[test]
fn the_right_region_is_named() {
    let Some(rig) = Rig::start() else { return };
    rig.proxy.region("eu-central-1");
    let malformed = rig.put("key", b"body", &[]).unwrap();
    assert!(malformed.text().contains("<Region>eu-central-1</Region>"));
    rig.proxy.wrong_region(WrongRegion::Redirect);
    let redirect = rig.put("key", b"body", &[]).unwrap();
    assert_eq!(
        (
            redirect.status,
            redirect.headers["x-amz-bucket-region"].as_str()
        ),
        (301, "eu-central-1")
    );
    let here = authorization(ACCESS_KEY, "eu-central-1");
    assert_eq!(rig.put_status("key", &[("authorization", &here)]), 200);
}

#[test]
fn keys_come_and_go() {
    let Some(rig) = Rig::start() else { return };
    let other = authorization("AKIAOTHER", "us-east-1");
    rig.proxy.allow_key("AKIAOTHER");
    assert_eq!(rig.put_status("one", &[("authorization", &other)]), 200);
    rig.proxy.forbid_key("AKIAOTHER");
    assert_eq!(rig.put_status("two", &[("authorization", &other)]), 403);
    assert_eq!(rig.put_status("two", &[]), 200);
}

#[test]
fn of_many_writers_one_wins() {
    let Some(rig) = Rig::start() else { return };
    let statuses: Vec<u16> = thread::scope(|scope| {
        let put = || rig.put_status("key", &[("if-none-match", "*")]);
        let writers: Vec<_> = (0..6).map(|_| scope.spawn(put)).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 412).count(),
        5,
        "{statuses:?}"
    );
    let late = rig.put("key", b"late", &[("if-none-match", "*")]).unwrap();
    assert!(
        late.text().contains("<Code>PreconditionFailed</Code>"),
        "{}",
        late.text()
    );
    assert_eq!(rig.moto.versions(BUCKET).len(), 1);
}

#[test]
fn who_may_only_put_can_do_nothing_else() {
    let Some(rig) = Rig::start() else { return };
    assert_eq!(rig.put_status("key", &[]), 200);
    let (object, bucket) = (format!("/{BUCKET}/key"), format!("/{BUCKET}"));
    assert_eq!(rig.ask("GET", &object).body, b"body");
    assert_eq!(rig.ask("HEAD", &object).headers["content-length"], "4");

    rig.proxy.put_only(true);
    for (method, path) in [
        ("GET", &object),
        ("HEAD", &object),
        ("DELETE", &object),
        ("GET", &bucket),
    ] {
        let response = rig.ask(method, path);
        assert_eq!(response.status, 403, "{method} {path}");
        assert_eq!(
            response.text().contains("<Code>AccessDenied</Code>"),
            method != "HEAD"
        );
    }
    assert_eq!(rig.put_status("other", &[]), 200);
}

#[test]
fn a_connection_is_kept_and_an_expectation_answered() {
    let Some(rig) = Rig::start() else { return };
    let stream = TcpStream::connect(rig.proxy.address()).unwrap();
    let mut reader = BufReader::new(&stream);
    for key in ["one", "two"] {
        send_head(&mut &stream, key, b"body", "expect: 100-continue\r\n");
        let mut interim = [0; 25];
        reader.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        (&stream).write_all(b"body").unwrap();
        assert_eq!(http::read_response(&mut reader, "PUT").unwrap().status, 200);
    }
    assert_eq!(rig.moto.keys(BUCKET), ["one", "two"]);
}

#[test]
fn every_request_is_written_down() {
    let Some(rig) = Rig::start() else { return };
    rig.put_status("a b", &[("X-Amz-Meta-Case", "7")]);
    rig.ask("GET", "/no-such-bucket/key");
    let seen = rig.proxy.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("PUT", "/evidence/a b")
    );
    assert_eq!(seen[0].headers["x-amz-meta-case"], "7");
    assert_eq!(
        (seen[0].body_length, seen[0].status, seen[0].stored),
        (4, Some(200), Some(200))
    );
    assert_eq!(
        seen[0].body_sha256,
        "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
    );
    assert_eq!(
        (seen[1].method.as_str(), seen[1].status),
        ("GET", Some(404))
    );
    assert!(seen[0].at <= seen[1].at);
}

#[test]
fn behind_tls_only_its_own_authority_is_trusted() {
    let Some(moto) = rig::or_skip(Moto::start()) else {
        return;
    };
    moto.create_locked_bucket(BUCKET);
    let proxy = Proxy::start_tls(moto.address(), &["s3.example"]);
    assert!(proxy.endpoint().starts_with("https://127.0.0.1:"));
    let other = Proxy::start_tls(moto.address(), &[]);

    assert_eq!(
        put_over_tls(&proxy, proxy.ca_pem(), "s3.example").unwrap(),
        200
    );
    assert_eq!(moto.read(BUCKET, "key"), b"body");
    assert!(
        put_over_tls(&proxy, other.ca_pem(), "s3.example").is_err(),
        "a strange authority"
    );
    assert!(
        put_over_tls(&proxy, proxy.ca_pem(), "s4.example").is_err(),
        "a strange name"
    );
}

fn put_over_tls(proxy: &Proxy, ca_pem: &str, name: &str) -> std::io::Result<u16> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session =
        ClientConnection::new(Arc::new(config), name.to_string().try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(proxy.address())?);
    let head = put_text("key", b"body", "");
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"body")?;
    Ok(http::read_response(&mut BufReader::new(stream), "PUT")?.status)
}

/// Writes a request head by hand, to hold back the body.
pub(crate) fn send_head(stream: &mut impl Write, key: &str, body: &[u8], more: &str) {
    stream
        .write_all(put_text(key, body, more).as_bytes())
        .unwrap();
}

fn put_text(key: &str, body: &[u8], more: &str) -> String {
    let head = put_head(([127, 0, 0, 1], 0).into(), key, body, &[]);
    let headers: String = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "PUT {} HTTP/1.1\r\n{headers}content-length: {}\r\n{more}\r\n",
        head.path,
        body.len()
    )
}
