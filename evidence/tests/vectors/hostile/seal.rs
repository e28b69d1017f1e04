//! Seals whose SHA256SUMS, signature or key is wrong, and collections that changed after the seal.

use evidence::keys::Stream;

use crate::build::{Archive, Collection, Object, Objects, Vector, pack};
use crate::sealing::{Seal, bytes, key, resigned, sign, stamped, with};
use crate::stamping::{self, Stamp};

pub fn all() -> Vec<Vector> {
    let vectors = [changed(), sums(), signature(), trusted(), time_stamp()];
    vectors.into_iter().flatten().collect()
}

/// A complete run in three segments, sealed.
pub fn sealed() -> Objects {
    let archive = Archive::usual().end();
    Seal::of(Collection::in_three(&archive).end(&archive)).stored()
}

/// A run that was cut after two of three segments, sealed, and the third segment.
fn interrupted() -> (Objects, Vec<u8>) {
    let mut objects = Collection::in_three(&Archive::usual().end()).cut();
    let Some(Object::Bytes(third)) = objects.remove(&segment(2)) else {
        unreachable!("segments are files");
    };
    (Seal::of(objects).stored(), third)
}

fn segment(number: u32) -> String {
    Stream::Evidence.segment_key(number)
}

fn broken(
    name: &'static str,
    problems: &[&'static str],
    about: &'static str,
    objects: Objects,
) -> Vector {
    Vector::altered(name, problems, about, objects).with_seal("broken")
}

/// Length of the line of this key.
fn line_bytes(key: &str) -> usize {
    64 + 2 + key.len() + 1
}

fn without(mut objects: Objects, key: &str) -> Objects {
    objects.remove(key).unwrap();
    objects
}

fn edited(mut objects: Objects, key: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Objects {
    edit(bytes(&mut objects, key));
    objects
}

fn changed() -> Vec<Vector> {
    let (cut, third) = interrupted();
    let operator = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("j.doe", "j.roe").into_bytes();
    };
    vec![
        broken(
            "seal-object-added",
            &["unlisted"],
            "After a run that was cut was sealed, its next segment was added.",
            with(cut.clone(), &segment(2), &third),
        ),
        broken(
            "seal-object-missing",
            &["missing"],
            "After a run that was cut was sealed, its last segment was removed.",
            without(cut.clone(), &segment(1)),
        ),
        broken(
            "seal-object-changed",
            &["hash"],
            "After a run that was cut was sealed, a frame was added to its last segment.",
            edited(cut, &segment(1), |bytes| bytes.extend(pack(&[0; 4]))),
        ),
        broken(
            "seal-manifest-changed",
            &["hash", "statement"],
            "After the seal, the manifest got another operator, which nothing else in the collection fixes.",
            edited(sealed(), "manifest.json", operator),
        ),
        broken(
            "seal-manifest-missing",
            &["missing", "statement"],
            "After the seal, the manifest was removed.",
            without(sealed(), "manifest.json"),
        ),
        broken(
            "seal-segment-changed",
            &["hash"],
            "After the seal, one bit of a segment was changed.",
            edited(sealed(), &segment(1), |bytes| bytes[200] ^= 4),
        ),
        broken(
            "seal-with-a-second-statement",
            &["extra"],
            "A collection has one statement.",
            with(sealed(), "custody/000001.json", b"{}\n"),
        )
        .with_seal("untrusted"),
    ]
}

fn sums() -> Vec<Vector> {
    let line = |key: &str| format!("{}  {key}\n", evidence::Digest::of(b""));
    let refused = |name, about, edit: &dyn Fn(&str) -> String| {
        broken(name, &["sums"], about, resigned(sealed(), edit))
    };
    let first = |sums: &str| sums.split_inclusive('\n').next().unwrap().to_owned();
    vec![
        broken(
            "seal-sums-edited",
            &["hash", "signature", "statement"],
            "A digit of SHA256SUMS was changed after it was signed.",
            edited(sealed(), "SHA256SUMS", |bytes| {
                bytes[0] = if bytes[0] == b'0' { b'1' } else { b'0' };
            }),
        ),
        broken(
            "seal-sums-line-missing",
            &["statement", "unlisted"],
            "SHA256SUMS does not list CHAIN, and is signed like that.",
            resigned(sealed(), |sums| sums.replacen(&first(sums), "", 1)),
        ),
        broken(
            "seal-sums-line-for-nothing",
            &["missing", "statement"],
            "SHA256SUMS lists a segment that is not there.",
            resigned(sealed(), |sums| {
                let (before, last) = sums.split_at(sums.len() - line_bytes("manifest.json"));
                format!("{before}{}{last}", line(&segment(3)))
            }),
        ),
        refused(
            "seal-sums-path-leaves",
            "A key leaves the collection.",
            &|sums| format!("{}{sums}", line("../x")),
        ),
        refused(
            "seal-sums-path-absolute",
            "A key is an absolute path.",
            &|sums| format!("{}{sums}", line("/etc/hostname")),
        ),
        refused(
            "seal-sums-lists-the-key",
            "SHA256SUMS lists pubkey.pem.",
            &|sums| sums.to_owned() + &line("pubkey.pem"),
        ),
        refused(
            "seal-sums-line-twice",
            "A line stands there twice.",
            &|sums| first(sums) + sums,
        ),
        refused(
            "seal-sums-not-sorted",
            "The first line stands last.",
            &|sums| sums.replacen(&first(sums), "", 1) + &first(sums),
        ),
        refused("seal-sums-binary", "The form of `sha256sum -b`.", &|sums| {
            sums.replace("  ", " *")
        }),
        refused(
            "seal-sums-escaped",
            "The form that `sha256sum` has for odd names.",
            &|sums| format!("\\{sums}"),
        ),
        refused(
            "seal-sums-of-dos",
            "Lines end in the manner of DOS.",
            &|sums| sums.replace('\n', "\r\n"),
        ),
        refused("seal-sums-upper-case", "Hashes are upper case.", &|sums| {
            sums.split_inclusive('\n')
                .map(|line| line[..64].to_uppercase() + &line[64..])
                .collect()
        }),
        refused("seal-sums-empty", "SHA256SUMS has no line.", &|_| {
            String::new()
        }),
        refused(
            "seal-sums-cut",
            "SHA256SUMS has no newline at its end.",
            &|sums| sums.trim_end().to_owned(),
        ),
        broken(
            "seal-sums-is-symlink",
            &["unreadable"],
            "A symbolic link stands where SHA256SUMS is due.",
            sealed()
                .into_iter()
                .chain([("SHA256SUMS".to_owned(), Object::Link("CHAIN"))])
                .collect(),
        ),
    ]
}

fn signature() -> Vec<Vector> {
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| edited(sealed(), "SHA256SUMS.sig", edit);
    let by_other = {
        let mut objects = sealed();
        let signature = key("other.pem")
            .sign(bytes(&mut objects, "SHA256SUMS"))
            .unwrap();
        with(objects, "SHA256SUMS.sig", &signature)
    };
    let with_key = |pem: &[u8]| with(sealed(), "pubkey.pem", pem);
    let other = key("other.pem").public_key().to_pem().unwrap();
    vec![
        broken(
            "seal-signature-of-another-key",
            &["signature"],
            "The signature is that of another key than the one beside.",
            by_other,
        ),
        broken(
            "seal-signature-cut",
            &["signature"],
            "The last byte of the signature is gone.",
            edited(&|bytes| bytes.truncate(bytes.len() - 1)),
        ),
        broken(
            "seal-signature-grown",
            &["signature"],
            "The signature is not in DER: a byte follows it.",
            edited(&|bytes| {
                let short = bytes.len() < 72;
                bytes.truncate(if short { bytes.len() } else { 71 });
                bytes.push(0);
            }),
        ),
        broken(
            "seal-signature-too-long",
            &["unreadable"],
            "The signature is longer than any of P-256.",
            edited(&|bytes| bytes.resize(73, 0)),
        ),
        broken(
            "seal-signature-empty",
            &["signature"],
            "The signature has no bytes.",
            edited(&Vec::clear),
        ),
        broken(
            "seal-signature-missing",
            &["missing"],
            "SHA256SUMS is not signed.",
            without(sealed(), "SHA256SUMS.sig"),
        ),
        broken(
            "seal-key-missing",
            &["missing"],
            "There is no key beside.",
            without(sealed(), "pubkey.pem"),
        ),
        broken(
            "seal-key-exchanged",
            &["signature"],
            "The key beside is another one.",
            with_key(other.as_bytes()),
        ),
        broken(
            "seal-key-not-a-key",
            &["signature"],
            "The key beside is text.",
            with_key(b"not a key\n"),
        ),
        broken(
            "seal-key-of-another-curve",
            &["signature"],
            "The key beside is one of the curve P-384.",
            with_key(P384),
        ),
    ]
}

fn trusted() -> Vec<Vector> {
    let mut objects = sealed();
    let sums = String::from_utf8(bytes(&mut objects, "SHA256SUMS").clone()).unwrap();
    let archive = Archive::usual().end();
    vec![
        broken(
            "seal-by-another-key",
            &["key"],
            "All fits, and the key is another than the one that the reader trusts.",
            sign(objects, &sums, "other.pem"),
        )
        .trusting("sealer.pub.pem"),
        Vector::altered(
            "seal-missing",
            &["missing"],
            "The reader trusts a key, and there is no seal.",
            Collection::in_three(&archive).end(&archive),
        )
        .trusting("sealer.pub.pem"),
    ]
}

fn time_stamp() -> Vec<Vector> {
    let wrong = |name, about, answer: &dyn Fn(Stamp) -> Vec<u8>| {
        broken(name, &["time-stamp"], about, stamped(sealed(), answer))
    };
    let edited = |stamp: Stamp, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut answer = stamp.answer();
        edit(&mut answer);
        answer
    };
    vec![
        wrong(
            "seal-time-stamp-of-other-sums",
            "The time stamp is over another SHA256SUMS.",
            &|_| Stamp::over(b"other sums").answer(),
        ),
        wrong(
            "seal-time-stamp-posing",
            "The time stamp is over another SHA256SUMS, and the authority's words are lines that name the right hash.",
            &|_| {
                let sums = bytes(&mut sealed(), "SHA256SUMS").clone();
                Stamp::over(b"other sums").posing(&sums).answer()
            },
        ),
        wrong(
            "seal-time-stamp-by-another-hash",
            "The imprint of the time stamp is not by SHA-256.",
            &|stamp| stamp.by_sha384().answer(),
        ),
        wrong(
            "seal-time-stamp-refused",
            "The authority's answer grants nothing, and its words try to steer a terminal.",
            &|_| stamping::refusal(),
        ),
        wrong(
            "seal-time-stamp-not-signed",
            "Nobody signed the time stamp.",
            &|stamp| stamp.unsigned().answer(),
        )
        .unseen_by_the_shell(),
        wrong(
            "seal-time-stamp-not-one",
            "Text stands where a time stamp is due.",
            &|_| b"time stamp\n".to_vec(),
        ),
        wrong(
            "seal-time-stamp-cut",
            "The last byte of the time stamp is gone.",
            &|stamp| edited(stamp, &|bytes| bytes.truncate(bytes.len() - 1)),
        ),
        wrong(
            "seal-time-stamp-grown",
            "A byte follows the time stamp.",
            &|stamp| edited(stamp, &|bytes| bytes.push(0)),
        ),
        wrong("seal-time-stamp-empty", "It has no bytes.", &|_| Vec::new()),
        broken(
            "seal-time-stamp-too-long",
            &["unreadable"],
            "The time stamp is longer than 64 KiB.",
            stamped(sealed(), |stamp| {
                edited(stamp, &|bytes| bytes.resize((64 << 10) + 1, 0))
            }),
        ),
    ]
}

const P384: &[u8] = b"-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEd18gsEBq8R4Sh1SumBV26SwHf76utcnU
LjXeEAkHFSc5apaGl/M0Jhk/kszzhJ0TOT8IqNF60P1euSFl3P0L6oVghfJa3bx8
O4e022+yRBHxBmtQfUvYPqd/JmhddyaU
-----END PUBLIC KEY-----
";
