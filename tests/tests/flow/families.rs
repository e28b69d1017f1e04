//! What is captured follows what was asked for: profiles, families of the operator, policies for secrets, limits.

use exhibit_tests::rig::agent::Agent;

use super::tree::Ground;
use super::{collect, collection};

const CRASH: &str = "var/crash/_usr_bin_web.crash";
const BROWSER: &str = "home/ana/.mozilla/firefox/x.default/places.sqlite";

#[test]
fn a_larger_profile_takes_more_and_each_says_what_it_left_out() {
    let ground = Ground::new(&[
        ("etc/passwd", "ana:x:1000:1000::/home/ana:/bin/sh\n"),
        ("var/log/syslog", "a line\n"),
        (CRASH, "a core"),
        (BROWSER, "visits"),
    ]);
    let of = |profile| ground.collect(&["--profile", profile]);
    let (quick, triage, full) = (of("quick"), of("triage"), of("full"));
    for found in [&quick, &triage, &full] {
        assert!(found.content("etc/passwd").is_some());
        assert!(found.content(BROWSER).is_none(), "only on request");
    }
    assert_eq!(quick.manifest["case"]["profile"], "quick");
    assert_eq!(
        (quick.outcome("filesystem"), quick.outcome("logs")),
        ("skipped", "skipped")
    );
    assert!(quick.content("var/log/syslog").is_none());
    assert!(triage.content("var/log/syslog").is_some());
    assert!(triage.content(CRASH).is_none());
    assert_eq!(
        triage.reason(CRASH),
        "crash_dumps: not in the profile triage"
    );
    assert!(full.content(CRASH).is_some());
    assert!(full.reason(BROWSER).starts_with("browsers: "));
    let asked = ground.collect(&["--include", "browsers"]);
    assert_eq!(asked.content(BROWSER), Some(&b"visits"[..]));
}

#[test]
fn a_family_of_the_operator_comes_first_and_a_mistake_is_told_with_its_line() {
    let ground = Ground::new(&[
        ("srv/shop/orders.db", "orders"),
        ("srv/shop/keys/signing.key", "the shop's secret"),
        ("var/log/shop.log", "12345"),
        ("var/log/syslog", "a line\n"),
    ]);
    let definitions = ground.to.path().join("shop.toml");
    let text = r#"
[[family]]
name = "shop"
what = "the shop"
why = "it was attacked first"
globs = ["/srv/shop/**", "/var/log/shop*.log"]
max_file = "4"

[[sensitive]]
class = "private_keys"
globs = ["/srv/shop/keys/**"]
"#;
    std::fs::write(&definitions, text).unwrap();
    let definitions = definitions.to_str().unwrap();
    let to = ground.to.path().to_str().unwrap();
    let found = ground.collect(&["--artifacts", definitions]);
    assert_eq!(found.line("srv/shop/orders.db")["artifact"], "shop");
    assert_eq!(found.content("srv/shop/orders.db"), Some(&b"orde"[..]));
    assert_eq!(found.content("var/log/shop.log"), Some(&b"1234"[..]));
    assert_eq!(found.line("var/log/shop.log")["status"], "truncated");
    assert_eq!(found.line("var/log/syslog")["artifact"], "logs");
    assert!(!found.has_anywhere("the shop's secret"));
    assert_eq!(found.ended.code, 3, "what was cut is a loss");

    for (mistake, named) in [
        ("max_file = \"4\"", "max_fill = \"4\""),
        ("\"/srv/shop/**\"", "\"srv/shop/**\""),
        ("name = \"shop\"", "name = \"logs\""),
        ("class = \"private_keys\"", "class = \"environment\""),
    ]
    .map(|(right, wrong)| (text.replace(right, wrong), wrong))
    {
        std::fs::write(definitions, &mistake).unwrap();
        let line = mistake
            .lines()
            .position(|line| line.contains(named))
            .unwrap()
            + 1;
        let agent = Agent::built().unwrap();
        let ended = collect(&agent, to, &["--artifacts", definitions]);
        assert_eq!(ended.code, 2, "{named}: {ended:?}");
        assert!(
            ended.stderr.contains("shop.toml") && ended.stderr.contains(&format!("line {line}")),
            "{named} in line {line}: {}",
            ended.stderr
        );
    }
}

const HASH: &str = "$y$j9T$abcdefgh$0123456789012345678901234567890123456789012";
const KEY: &str =
    "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----\n";
const TOKEN: &str = "[default]\naws_secret_access_key = topsecret\n";

#[test]
fn secrets_become_what_the_policy_says_and_the_manifest_says_which() {
    let shadow = format!("ana:{HASH}:19000:0:99999:7:::\nroot:*:19000:0:99999:7:::\n");
    let ground = Ground::new(&[
        ("etc/passwd", "ana:x:1000:1000::/home/ana:/bin/sh\n"),
        ("etc/shadow", &shadow),
        ("etc/ssh/ssh_host_ed25519_key", KEY),
        ("home/ana/.aws/credentials", TOKEN),
    ]);
    let usual = ground.collect(&[]);
    for secret in [HASH, "OPENSSH", "topsecret"] {
        assert!(!usual.has_anywhere(secret), "{secret}");
    }
    let masked = String::from_utf8(usual.content("etc/shadow").unwrap().to_vec()).unwrap();
    assert!(masked.starts_with("ana:") && masked.contains(":19000:0:99999:7:::"));
    assert!(
        masked.contains("\nroot:*:"),
        "a locked account shows as one"
    );
    let files = ground.collect(&["--include", "accounts,ssh,cloud_credentials,etc"]);
    assert_eq!(
        files.ended.code, 0,
        "a policy is no loss: {:?}",
        files.ended
    );
    let sha256 = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text));
    let key = usual.line("etc/ssh/ssh_host_ed25519_key");
    assert_eq!(key["sha256"], sha256(KEY));
    assert_eq!(key["reason"], "only its hash: private_keys (--sensitive)");
    let token = usual.line("home/ana/.aws/credentials");
    assert_eq!(token["sha256"], sha256(TOKEN));
    assert_eq!(
        usual.manifest["case"]["sensitive"]["password_hashes"],
        "mask"
    );

    let policies = "password_hashes=collect,private_keys=collect,cloud_credentials=collect";
    let all = ground.collect(&["--sensitive", policies]);
    assert_eq!(all.content("etc/shadow"), Some(shadow.as_bytes()));
    assert_eq!(
        all.content("etc/ssh/ssh_host_ed25519_key"),
        Some(KEY.as_bytes())
    );
    assert_eq!(
        all.content("home/ana/.aws/credentials"),
        Some(TOKEN.as_bytes())
    );
    assert_eq!(all.manifest["case"]["sensitive"]["private_keys"], "collect");
}

#[test]
fn what_did_not_change_since_is_listed_and_not_taken() {
    let ground = Ground::new(&[
        ("var/log/new.log", "new"),
        ("var/log/old.log", "old"),
        ("etc/passwd", "old too\n"),
    ]);
    // The change time is the kernel's: only the clock of the filter can be moved.
    let later = ground.collect(&["--since", "2200-01-01"]);
    for path in ["var/log/new.log", "var/log/old.log"] {
        assert!(later.content(path).is_none());
        assert_eq!(later.reason(path), "not changed since --since");
    }
    assert!(later.content("etc/passwd").is_some(), "only what grows");
    let before = ground.collect(&["--since", "1h"]);
    assert_eq!(before.content("var/log/new.log"), Some(&b"new"[..]));
}

#[test]
fn a_limit_for_all_ends_the_capture_and_names_what_did_not_fit() {
    let big = "x".repeat(3 << 20);
    let ground = Ground::new(&[
        ("etc/passwd", "ana:x:1000:1000::/home/ana:/bin/sh\n"),
        ("var/log/a.log", &big),
        ("var/log/b.log", &big),
        ("var/log/c.log", &big),
    ]);
    let found = ground.collect(&["--include", "accounts,logs", "--max-total-size", "4M"]);
    assert_eq!(found.ended.code, 3);
    let taken = ["a", "b", "c"]
        .iter()
        .filter_map(|name| found.content(&format!("var/log/{name}.log")))
        .map(<[u8]>::len)
        .sum::<usize>();
    assert!((3 << 20..=4 << 20).contains(&taken), "{taken}");
    let reason = &collection::artifact(&found.manifest, "logs")["reason"];
    assert!(
        reason.as_str().unwrap().contains("--max-total-size"),
        "{reason}"
    );
}
