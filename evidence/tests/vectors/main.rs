//! The vectors: collections as files that any implementation can read, generated here and checked in.
//!
//! `EXHIBIT_WRITE_VECTORS=1 cargo test -p evidence --test vectors` writes them anew. The bytes of compressed frames are
//! those of the zstd version in Cargo.lock.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is a test: it may fail loudly"
)]

#[path = "../common/mod.rs"]
mod common;

mod build;
mod custody;
mod hostile;
mod sealing;
mod stamping;
mod valid;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use build::{Object, Vector};
use common::Stored;
use evidence::PublicKey;
use evidence::objects::Directory;
use evidence::verify::{Limits, NotVerified, Verdict, verify_sealed};

const WRITE: &str = "EXHIBIT_WRITE_VECTORS";

/// The files of a vector, as [`common::files`] reads them.
fn files(vector: &Vector) -> BTreeMap<String, Vec<u8>> {
    let objects = vector.objects.iter().map(|(key, object)| {
        let content = match object {
            Object::Bytes(bytes) => bytes.clone(),
            Object::Link(target) => format!("-> {target}").into_bytes(),
        };
        (format!("collection/{key}"), content)
    });
    objects
        .chain([("expected.json".to_owned(), vector.expected().into_bytes())])
        .collect()
}

fn write(folder: &Path, vector: &Vector) {
    for (key, object) in &vector.objects {
        let path = folder.join("collection").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match object {
            Object::Bytes(bytes) => fs::write(path, bytes).unwrap(),
            Object::Link(target) => std::os::unix::fs::symlink(target, path).unwrap(),
        }
    }
    fs::write(folder.join("expected.json"), vector.expected()).unwrap();
}

fn compare(kind: &str, vectors: &[Vector]) {
    let folder = common::folder().join(kind);
    if std::env::var_os(WRITE).is_some() {
        let _ = fs::remove_dir_all(&folder);
        for vector in vectors {
            write(&folder.join(vector.name), vector);
        }
    }
    let names: BTreeSet<&str> = vectors.iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), vectors.len(), "two vectors have one name");
    let stored = common::stored(kind);
    let found: BTreeSet<&str> = stored.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(found, names, "{WRITE}=1 writes them anew");
    for vector in vectors {
        let same = common::files(&folder.join(vector.name)) == files(vector);
        assert!(
            same,
            "{} is not what is generated: {WRITE}=1 writes it anew",
            vector.name
        );
    }
}

/// What the crate says of a collection: each code once, and the messages.
#[derive(Default)]
struct Found {
    verdict: String,
    codes: BTreeSet<&'static str>,
    /// Beside a problem it does not matter what stands beyond a gap.
    beyond_gap: Vec<String>,
    seal: String,
    messages: String,
}

fn found(vector: &Stored) -> Found {
    let objects = Directory::new(&vector.collection);
    let trusted = vector.expected.key.as_ref().map(|key| {
        let pem = fs::read(common::key(key)).unwrap();
        PublicKey::from_pem(&pem).unwrap()
    });
    let limits = Limits::default();
    match verify_sealed(&objects, &limits, trusted.as_ref(), &|_| {}, &mut ()) {
        Ok(mut report) => {
            if report.verdict == Verdict::Altered {
                report.beyond_gap.clear();
            }
            let codes = report.problems.iter().map(|problem| problem.code());
            let messages: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            Found {
                verdict: report.verdict.exit().word().to_owned(),
                codes: codes.collect(),
                messages: messages.join("\n  "),
                beyond_gap: report.beyond_gap,
                seal: format!("{:?}", report.seal.state).to_lowercase(),
            }
        }
        Err(NotVerified::NotACollection) => Found {
            verdict: "not-a-collection".to_owned(),
            seal: "unsealed".to_owned(),
            ..Found::default()
        },
        Err(error) => Found {
            verdict: error.to_string(),
            ..Found::default()
        },
    }
}

fn judge(kind: &str) {
    let mut wrong = Vec::new();
    for vector in common::stored(kind) {
        let found = found(&vector);
        let problems: BTreeSet<&str> = vector
            .expected
            .problems
            .iter()
            .map(String::as_str)
            .collect();
        let told = (&found.verdict, &found.codes, &found.beyond_gap, &found.seal);
        let expected = (
            &vector.expected.verdict,
            &problems,
            &vector.expected.beyond_gap,
            &vector.expected.seal,
        );
        if told != expected {
            wrong.push(format!(
                "{} ({}): {told:?}, not {expected:?}\n  {}",
                vector.name, vector.expected.about, found.messages
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn valid_vectors_are_reproducible_and_pass() {
    compare("valid", &valid::all());
    judge("valid");
}

#[test]
fn hostile_vectors_are_reproducible_and_each_shows_its_flaw_alone() {
    compare("hostile", &hostile::all());
    judge("hostile");
}
