//! Bad input: each case has its own message and its own exit code, as docs/operations.md lists them.

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::moto::Moto;
use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy, WrongRegion};

use super::{BUCKET, Bucket, REGION, SMALL, run};

/// Arguments, exit code, and what the message must name.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

#[test]
fn what_can_not_be_used_is_named_and_nothing_is_done() {
    let agent = Agent::built().unwrap();
    let cases: &[Case<'_>] = &[
        (
            &["collect", "--include", "nonsense"],
            2,
            &["nonsense", "processes"],
        ),
        (&["collect", "--exclude", "nonsense"], 2, &["nonsense"]),
        (&["collect", "--case", "a/b"], 2, &["case id", "'/'"]),
        (
            &["collect", "--case", "a\u{1b}[31m"],
            2,
            &["case id", "\\u{1b}"],
        ),
        (&["collect", "--case", ""], 2, &["case id", "empty"]),
        (
            &["collect", "--instance", "web-1"],
            2,
            &["web-1", "i-0123456789abcdef0"],
        ),
        (
            &["collect", "--to", "gs://bucket"],
            2,
            &["gs://bucket", "s3://"],
        ),
        (&["collect", "--to", "s3://B"], 2, &["bucket name"]),
        (
            &["collect", "--deadline", "soon"],
            2,
            &["soon", "s, m, h or d"],
        ),
        (&["collect", "--max-file-size", "1X"], 2, &["1X"]),
        (
            &["collect", "--process-memory", "1,self"],
            2,
            &["self", "the number of a process, all or suspicious"],
        ),
        (
            &["collect", "--process-memory", "0"],
            2,
            &["'0'", "1 to 4194304"],
        ),
        (
            &["collect", "--profile", "huge"],
            2,
            &["huge", "quick, triage, full"],
        ),
        (&["collect", "--since", "soon"], 2, &["soon", "7d"]),
        (
            &["collect", "--sensitive", "passwords=mask"],
            2,
            &["passwords", "password_hashes"],
        ),
        (
            &["collect", "--sensitive", "private_keys=burn"],
            2,
            &["burn", "collect, mask or hash"],
        ),
        (
            &["collect", "--artifacts", "/nonexistent.toml"],
            2,
            &["/nonexistent.toml"],
        ),
        (&["collect", "--root", "/nonexistent"], 2, &["/nonexistent"]),
        (
            &["collect", "--to", "/proc/nowhere"],
            10,
            &["/proc/nowhere", "--to"],
        ),
        (
            &[
                "collect",
                "--to",
                "s3://bucket",
                "--region",
                "x",
                "--ca-bundle",
                "/etc/passwd",
            ],
            2,
            &["/etc/passwd", "PEM"],
        ),
        (
            &[
                "collect",
                "--to",
                "s3://bucket",
                "--region",
                "x",
                "--nameserver",
                "dns",
            ],
            2,
            &["dns", "IP"],
        ),
        (
            &[
                "collect",
                "--to",
                "s3://bucket",
                "--region",
                "x",
                "--endpoint-url",
                "host:1",
            ],
            2,
            &["host:1", "https://"],
        ),
        (
            &[
                "collect",
                "--to",
                "s3://bucket",
                "--region",
                "x",
                "--retain-until",
                "2001-01-01T00:00:00Z",
            ],
            2,
            &["future"],
        ),
        (
            &[
                "collect",
                "--to",
                "s3://bucket",
                "--endpoint-url",
                "http://127.0.0.1:9",
            ],
            13,
            &["region", "--region"],
        ),
        (
            &["collect", "--memory", "lime"],
            2,
            &["--lime-modules", "--lime-key"],
        ),
        (
            &["collect", "--lime-modules", "/nonexistent"],
            2,
            &["--lime-key"],
        ),
        (
            &[
                "collect",
                "--lime-modules",
                "/",
                "--lime-key",
                "/etc/passwd",
            ],
            2,
            &["/etc/passwd", "PEM", "P-256"],
        ),
        (
            &[
                "collect",
                "--lime-modules",
                "/",
                "--lime-key",
                "/nonexistent",
            ],
            2,
            &["--lime-key", "/nonexistent"],
        ),
        (
            &["memory", "extract", "/etc", "--to", "/nonexistent/image"],
            2,
            &["/nonexistent/image"],
        ),
        (
            &["memory", "extract", "/etc/passwd", "--to", "image"],
            22,
            &["/etc/passwd", "collection"],
        ),
        (
            &["memory", "extract", "x", "--to", "y", "--range", "5"],
            2,
            &["FIRST-LAST"],
        ),
        (&["verify", "/nonexistent"], 22, &["/nonexistent"]),
        (&["verify", "/etc"], 22, &["not a collection"]),
        (
            &["ship", "/etc", "--to", "s3://bucket"],
            22,
            &["/etc", "not a collection"],
        ),
        (
            &["ship", "/etc", "--to", "elsewhere"],
            2,
            &["elsewhere", "s3://"],
        ),
        (&["nonsense"], 2, &["nonsense"]),
    ];
    for (arguments, code, words) in cases {
        let ended = run(agent.command().current_dir(agent.home()).args(*arguments));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (*code, ""),
            "{arguments:?}: {ended:?}"
        );
        for word in *words {
            assert!(
                ended.stderr.contains(word),
                "{arguments:?} does not name {word:?}: {}",
                ended.stderr
            );
        }
        assert!(!ended.stderr.contains('\u{1b}'), "{arguments:?}");
    }
    assert_eq!(
        std::fs::read_dir(agent.home()).unwrap().count(),
        0,
        "nothing was written"
    );
}

#[test]
fn wrong_credentials_region_bucket_and_endpoint_are_told_apart() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let to = format!("s3://{BUCKET}");
    let collect = |agent: &Agent, to: &str, way: &[&str]| {
        run(agent
            .command()
            .args(["collect", "--quiet", "--attempts", "1", "--to", to])
            .args(SMALL)
            .args(way))
    };
    let endpoint = bucket.proxy.endpoint();
    let way = ["--endpoint-url", endpoint.as_str(), "--region", REGION];

    let stranger = Agent::built().unwrap().credentials("AKIASTRANGER");
    let ended = collect(&stranger, &to, &way);
    assert!(
        ended.code == 12 && ended.stderr.contains("InvalidAccessKeyId"),
        "{ended:?}"
    );
    let nobody = Agent::built().unwrap();
    let ended = collect(&nobody, &to, &way);
    assert!(
        ended.code == 12 && ended.stderr.contains("--credentials-file"),
        "{ended:?}"
    );

    let ended = collect(&bucket.agent, "s3://no-such-bucket", &way);
    assert!(
        ended.code == 18 && ended.stderr.contains("no-such-bucket"),
        "{ended:?}"
    );
    let ended = collect(
        &bucket.agent,
        &to,
        &["--endpoint-url", "http://127.0.0.1:9", "--region", REGION],
    );
    assert!(
        ended.code == 15 && ended.stderr.contains("http://127.0.0.1:9"),
        "{ended:?}"
    );

    for answer in [WrongRegion::Malformed, WrongRegion::Redirect] {
        bucket.proxy.region("eu-central-1");
        bucket.proxy.wrong_region(answer);
        let ended = collect(&bucket.agent, &to, &way);
        assert!(
            ended.code == 13 && ended.stderr.contains("--region"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_certificate_of_nobody_is_refused_and_one_of_ours_accepted() {
    let Some(moto) = or_skip(Moto::start()) else {
        return;
    };
    moto.create_locked_bucket(BUCKET);
    moto.set_default_retention(BUCKET, "COMPLIANCE", 30);
    let proxy = Proxy::start_tls(moto.address(), &["localhost", "127.0.0.1"]);
    let agent = Agent::built().unwrap().credentials(ACCESS_KEY);
    let to = format!("s3://{BUCKET}");
    let endpoint = proxy.endpoint();
    let collect = |more: &[&str]| {
        run(agent
            .command()
            .args([
                "collect",
                "--quiet",
                "--attempts",
                "1",
                "--to",
                &to,
                "--endpoint-url",
                &endpoint,
                "--region",
                REGION,
            ])
            .args(SMALL)
            .args(more))
    };
    let refused = collect(&[]);
    assert!(
        refused.code == 14 && refused.stderr.contains("--ca-bundle"),
        "{refused:?}"
    );
    let pem = agent.home().join("ca.pem");
    std::fs::write(&pem, proxy.ca_pem()).unwrap();
    let accepted = collect(&["--ca-bundle", pem.to_str().unwrap()]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    // A CA that only the host trusts counts for nothing.
    let trusting = Agent::built()
        .unwrap()
        .credentials(ACCESS_KEY)
        .env("SSL_CERT_FILE", &pem)
        .env("AWS_CA_BUNDLE", &pem);
    let ended = run(trusting
        .command()
        .args([
            "collect",
            "--quiet",
            "--attempts",
            "1",
            "--to",
            &to,
            "--endpoint-url",
            &endpoint,
            "--region",
            REGION,
        ])
        .args(SMALL));
    assert_eq!(ended.code, 14, "{ended:?}");
}

#[test]
fn a_full_disk_is_not_success_and_leaves_no_half_object() {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(to.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return exhibit_tests::rig::skip_or_fail("a tmpfs can not be mounted");
    }
    let ended = run(agent
        .command()
        .args(["collect", "--quiet", "--include", "systemd,etc", "--to"])
        .arg(to.path()));
    let left: Vec<_> = walk(to.path());
    let _ = std::process::Command::new("umount").arg(to.path()).status();
    assert_eq!(ended.code, 17, "{ended:?}");
    assert!(ended.stdout.contains("no-space"), "{ended:?}");
    assert!(
        !left.iter().any(|name| name.ends_with("manifest.json")),
        "{left:?}"
    );
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path.display().to_string()]
            }
        })
        .collect()
}
