//! Seals that are signed as they should be, around a statement that is wrong.

use evidence::seal::{STATEMENT, Sealable};
use evidence::{Digest, Statement};

use super::seal::sealed;
use crate::build::{Archive, Collection, Objects, Vector};
use crate::sealing::{Seal, resigned};

pub fn all() -> Vec<Vector> {
    [stated(), written(), absent()]
        .into_iter()
        .flatten()
        .collect()
}

fn complete() -> Seal {
    let archive = Archive::usual().end();
    Seal::of(Collection::in_three(&archive).end(&archive))
}

fn broken(
    name: &'static str,
    problem: &'static str,
    about: &'static str,
    objects: Objects,
) -> Vector {
    Vector::altered(name, &[problem], about, objects).with_seal("broken")
}

/// Statements that any reader can read, about something else.
fn stated() -> Vec<Vector> {
    let stating = |name, about, edit: &dyn Fn(&mut Statement)| {
        broken(name, "statement", about, complete().stating(edit).stored())
    };
    let mut objects = complete().stating(|statement| {
        statement.objects[0].sha256 = Digest::of(b"another object");
    });
    // What is signed is right, only the statement is not.
    let text = objects.statement.to_line().unwrap();
    objects.statement.objects = complete().statement.objects;
    vec![
        stating(
            "seal-statement-of-another-prefix",
            "The statement is about another collection.",
            &|statement| {
                statement.prefix = "IR-2026-17/i-0a1b2c3d4e5f60718/20260314T160000Z-0000"
                    .parse()
                    .unwrap();
            },
        ),
        stating(
            "seal-statement-of-another-manifest",
            "The statement has the hash of another manifest.",
            &|statement| statement.manifest_sha256 = Some(Digest::of(b"another manifest")),
        ),
        stating(
            "seal-statement-of-another-verdict",
            "The statement says partial, the collection is complete.",
            &|statement| statement.verdict = Sealable::Partial,
        ),
        broken(
            "seal-statement-of-another-chain",
            "statement",
            "The receipt in the statement has another head of the chain.",
            complete()
                .with_receipt()
                .stating(|statement| {
                    let receipt = statement.receipt.as_mut().unwrap();
                    receipt.chain_head = Digest::of(b"another chain");
                })
                .stored(),
        ),
        broken(
            "seal-statement-of-other-objects",
            "statement",
            "The statement lists another hash than SHA256SUMS.",
            objects.stored_with(&text),
        ),
    ]
}

/// Statements that a reader refuses.
fn written() -> Vec<Vector> {
    let text = |edit: &dyn Fn(String) -> String| {
        let seal = complete().with_receipt();
        let text = seal.statement.to_line().unwrap();
        let edited = edit(text.clone());
        assert_ne!(edited, text);
        seal.stored_with(&edited)
    };
    let replaced = |from: &'static str, to: &'static str| text(&|text| text.replacen(from, to, 1));
    let refused = |name, about, objects| broken(name, "statement", about, objects);
    vec![
        refused(
            "seal-statement-version",
            "The statement has another version.",
            replaced("\"seal_version\":1", "\"seal_version\":2"),
        ),
        refused(
            "seal-statement-unknown-field",
            "The statement has a field that is not of the format.",
            replaced("{\"journal\"", "{\"also\":1,\"journal\""),
        ),
        refused(
            "seal-statement-white-space",
            "The statement has white space between a key and its value.",
            replaced("\"seal_version\":", "\"seal_version\": "),
        ),
        refused(
            "seal-statement-not-ascii",
            "The statement has a name in UTF-8, not escaped.",
            replaced("\\u00f6", "\u{f6}"),
        ),
        refused(
            "seal-statement-without-newline",
            "The statement has no newline at its end.",
            text(&|text| text.trim_end().to_owned()),
        ),
        refused(
            "seal-statement-time",
            "The time of the statement has another form.",
            replaced("\"2026-03-14T16:20:00.5Z\"", "\"2026-03-14T16:20:00.50Z\""),
        ),
        refused(
            "seal-statement-escaped-otherwise",
            "A letter of the statement is escaped that need not be.",
            replaced("\"J\\u00f6rg", "\"\\u004a\\u00f6rg"),
        )
        .unseen_by_the_shell(),
        refused(
            "seal-statement-receipt-result",
            "The result of the receipt in the statement is not the word of its exit code.",
            replaced("\"result\":\"partial\"", "\"result\":\"complete\""),
        )
        .unseen_by_the_shell(),
        refused(
            "seal-statement-altered",
            "The statement says that what it seals is altered.",
            replaced("\"verdict\":\"complete\"", "\"verdict\":\"altered\""),
        ),
        refused(
            "seal-statement-empty",
            "The statement has no bytes.",
            text(&|_| String::new()),
        ),
    ]
}

fn absent() -> Vec<Vector> {
    let mut missing = sealed();
    missing.remove(STATEMENT).unwrap();
    let unlisted = resigned(sealed(), |sums| {
        sums.split_inclusive('\n')
            .filter(|line| !line.contains(STATEMENT))
            .collect()
    });
    vec![
        broken(
            "seal-statement-missing",
            "missing",
            "There is no statement.",
            missing,
        ),
        broken(
            "seal-statement-unlisted",
            "unlisted",
            "SHA256SUMS does not list the statement, and is signed like that.",
            unlisted,
        ),
    ]
}
