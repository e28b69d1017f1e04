//! `packaging/verify.sh` against the vectors: what it must find, and what docs/format.md says that it can not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "this is a test of a program: it runs it, and may fail loudly"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use common::Stored;
use evidence::Exit;
use evidence::objects::Directory;
use evidence::verify::{Limits, verify};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/verify.sh")
}

fn run(folder: &Path) -> Output {
    run_with(folder, None)
}

fn run_with(folder: &Path, key: Option<&Path>) -> Output {
    Command::new("sh")
        .arg(script())
        .arg(folder)
        .args(key)
        .output()
        .unwrap()
}

/// Whether all that the script needs is there. It says itself what is missing.
fn ready() -> bool {
    let output = run(&common::folder().join("valid/sealed/collection"));
    if output.status.code() != Some(1) {
        return true;
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
    false
}

/// What is wrong with the script's answer to a vector, if anything.
fn judge(vector: &Stored) -> Option<String> {
    let key = vector.expected.key.as_deref().map(common::key);
    let output = run_with(&vector.collection, key.as_deref());
    let code = output.status.code();
    let exit = Exit::ALL
        .iter()
        .find(|exit| exit.word() == vector.expected.verdict)
        .unwrap();
    let unseen = *exit == Exit::Altered && vector.expected.shell == "pass";
    let right = match unseen {
        true => matches!(code, Some(0 | 3 | 21)),
        false => code == Some(i32::from(exit.code())),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let named = |key: &String| text.contains(&format!("verified prefix: {key}\n"));
    let right = right && vector.expected.beyond_gap.iter().all(named);
    let state = match vector.expected.seal.as_str() {
        _ if exit == &Exit::Altered || exit == &Exit::NotACollection => "",
        "trusted" => "sealed by the trusted key ",
        "untrusted" => "sealed by a key that is not trusted ",
        _ => "not sealed",
    };
    let right = right && text.contains(state);
    (!right).then(|| {
        format!(
            "{}: {code:?} where {} is due\n{text}",
            vector.name,
            exit.word()
        )
    })
}

#[test]
fn the_script_agrees_with_every_vector() {
    if !ready() {
        return;
    }
    let vectors = Mutex::new([common::stored("valid"), common::stored("hostile")].concat());
    let wrong = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(vector) = vectors.lock().unwrap().pop() else {
                        return;
                    };
                    wrong.lock().unwrap().extend(judge(&vector));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table of docs/format.md names each flaw that the script does not see, and no other.
#[test]
fn the_table_of_blind_spots_is_that_of_the_vectors() {
    let specification =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md"))
            .unwrap();
    for vector in common::stored("hostile") {
        let unseen = vector.expected.verdict == "altered" && vector.expected.shell == "pass";
        let named = specification.contains(&format!("\n| `{}` |", vector.name));
        assert_eq!(unseen, named, "{}", vector.name);
    }
}

#[test]
fn names_of_files_can_not_steer_a_terminal() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    copy(
        &common::files(&common::folder().join("valid/minimal/collection")),
        folder.path(),
    );
    fs::write(folder.path().join("\u{1b}]0;x\u{7}\nproblem: none"), "").unwrap();
    symlink("CHAIN", folder.path().join("\u{202e}link")).unwrap();

    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(i32::from(Exit::Altered.code())));
    let harmless = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, b'\n' | b' '..=b'~'));
    assert!(harmless(&output.stdout) && harmless(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3);

    let report = verify(&Directory::new(folder.path()), &Limits::default(), &|_| {}).unwrap();
    assert_eq!(report.problems.len(), 2);
    assert!(
        report
            .problems
            .iter()
            .all(|problem| problem.to_string().is_ascii()
                && harmless(problem.to_string().as_bytes()))
    );
}

fn copy(files: &BTreeMap<String, Vec<u8>>, to: &Path) {
    for (key, bytes) in files {
        let path = to.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn what_is_no_key_is_a_wrong_use() {
    if !ready() {
        return;
    }
    let sealed = common::folder().join("valid/sealed/collection");
    let output = run_with(&sealed, Some(&script()));
    assert_eq!(output.status.code(), Some(i32::from(Exit::Usage.code())));
    let another = run_with(&sealed, Some(&common::key("other.pub.pem")));
    assert_eq!(another.status.code(), Some(i32::from(Exit::Altered.code())));
}

/// With the authority's certificates a time stamp has to be there, and be by that authority.
#[test]
fn a_time_stamp_is_checked_with_certificates() {
    if !ready() {
        return;
    }
    let run = |vector: &str, certificates: &str| {
        let folder = common::folder().join(vector).join("collection");
        let mut command = Command::new("sh");
        command
            .arg(script())
            .arg("-t")
            .arg(common::key(certificates));
        let output = command.arg(folder).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = run("valid/sealed-and-trusted", "tsa-ca.cert.pem");
    let told =
        "sealed before Mar 14 16:20:01.25 2026 GMT, by the time stamp of a trusted authority";
    assert!(code == 0 && text.contains(told), "{code}: {text}");
    for (vector, certificates, problem) in [
        ("valid/sealed-and-trusted", "tsa.cert.pem", "time-stamp"),
        (
            "hostile/seal-time-stamp-not-signed",
            "tsa-ca.cert.pem",
            "time-stamp",
        ),
        ("valid/sealed", "tsa-ca.cert.pem", "missing"),
        ("valid/minimal", "tsa-ca.cert.pem", "missing"),
    ] {
        let (code, text) = run(vector, certificates);
        let named = text.contains(&format!("problem: {problem}: SHA256SUMS"));
        assert!(code == 20 && named, "{vector}: {code}: {text}");
    }
    assert_eq!(run("valid/sealed", "sealer.pub.pem").0, 2);
}

#[test]
fn what_is_no_folder_is_a_wrong_use() {
    if !ready() {
        return;
    }
    let output = run(Path::new("/nonexistent"));
    assert_eq!(output.status.code(), Some(i32::from(Exit::Usage.code())));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        run(empty.path()).status.code(),
        Some(i32::from(Exit::NotACollection.code()))
    );
}
