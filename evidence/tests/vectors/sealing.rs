//! Seals collections step by step, so that each hostile seal can go wrong in exactly one of the steps.

use std::fs;

use evidence::seal::{Journal, STATEMENT, Sealable, SealedObject};
use evidence::{Digest, Exit, Manifest, PrivateKey, Receipt, Statement, Sums};

use crate::build::{Object, Objects, PREFIX};
use crate::common;
use crate::stamping::Stamp;

/// A private key of the vectors.
pub fn key(name: &str) -> PrivateKey {
    PrivateKey::from_pem(&fs::read(common::key(name)).unwrap()).unwrap()
}

/// The bytes of an object.
pub fn bytes<'a>(objects: &'a mut Objects, key: &str) -> &'a mut Vec<u8> {
    match objects.get_mut(key) {
        Some(Object::Bytes(bytes)) => bytes,
        other => unreachable!("{key} is {other:?}"),
    }
}

/// The objects, and one more or another.
pub fn with(mut objects: Objects, key: &str, bytes: &[u8]) -> Objects {
    objects.insert(key.to_owned(), Object::Bytes(bytes.to_vec()));
    objects
}

/// A sealed collection, and a time stamp over its SHA256SUMS.
pub fn stamped(mut objects: Objects, answer: impl FnOnce(Stamp) -> Vec<u8>) -> Objects {
    let stamp = Stamp::over(bytes(&mut objects, "SHA256SUMS"));
    with(objects, "SHA256SUMS.tsr", &answer(stamp))
}

/// A seal under construction.
pub struct Seal {
    pub objects: Objects,
    pub statement: Statement,
}

impl Seal {
    /// The seal that is due for these objects.
    pub fn of(mut objects: Objects) -> Self {
        let manifest = objects.get("manifest.json").cloned();
        let manifest = manifest.map(|object| match object {
            Object::Bytes(bytes) => (Manifest::parse(&bytes).unwrap(), Digest::of(&bytes)),
            Object::Link(_) => unreachable!("the manifest is a file"),
        });
        let keys: Vec<String> = objects.keys().cloned().collect();
        let shown = |key: String| {
            let bytes = bytes(&mut objects, &key);
            SealedObject {
                version_id: Some("3HL4kqtJvjVBH40Nrjfkd".to_owned()),
                size: bytes.len() as u64,
                sha256: Digest::of(bytes),
                lock_mode: Some("COMPLIANCE".to_owned()),
                retain_until: Some("2027-03-14T15:09:26Z".to_owned()),
                legal_hold: Some(true),
                key,
            }
        };
        let statement = Statement {
            seal_version: 1,
            prefix: PREFIX.parse().unwrap(),
            verdict: match &manifest {
                None => Sealable::Interrupted,
                Some((manifest, _)) if manifest.reasons.is_empty() => Sealable::Complete,
                Some(_) => Sealable::Partial,
            },
            manifest_sha256: manifest.map(|(_, sha256)| sha256),
            receipt: None,
            journal: Journal {
                records: 12,
                head: Digest::of(b"the custody so far"),
            },
            objects: keys.into_iter().map(shown).collect(),
            sealed_at: "2026-03-14T16:20:00.5Z".to_owned(),
            operator: "j.doe".to_owned(),
        };
        Self { objects, statement }
    }

    /// The same with a receipt of the run, an object of a directory, and an odd name.
    pub fn with_receipt(mut self) -> Self {
        let Object::Bytes(manifest) = &self.objects["manifest.json"] else {
            unreachable!("the manifest is a file");
        };
        let manifest = Manifest::parse(manifest).unwrap();
        self.statement.receipt = Some(Receipt {
            receipt_version: 1,
            result: Exit::Partial.word().to_owned(),
            exit_code: Exit::Partial.code(),
            prefix: manifest.case.prefix,
            manifest_sha256: self.statement.manifest_sha256,
            manifest_version_id: None,
            chain_head: manifest.chain.head,
            segments: 1,
            bytes: manifest.streams[0].bytes,
            members: manifest.inventory.members,
            artifacts: 1,
            incomplete: 1,
            tool_version: manifest.tool.version,
            tool_sha256: manifest.tool.sha256,
            started_utc_ns: manifest.clock.started.utc_ns,
            ended_utc_ns: -1,
        });
        self.statement.operator = "J\u{f6}rg \"\\\u{1f50f}\u{7f}".to_owned();
        let object = &mut self.statement.objects[0];
        (object.version_id, object.lock_mode) = (None, None);
        (object.retain_until, object.legal_hold) = (None, None);
        self
    }

    /// Edits the statement.
    pub fn stating(mut self, edit: impl FnOnce(&mut Statement)) -> Self {
        edit(&mut self.statement);
        self
    }

    /// All objects, sealed.
    pub fn stored(self) -> Objects {
        let text = self.statement.to_line().unwrap();
        self.stored_with(&text)
    }

    /// All objects, sealed with a statement of this text.
    pub fn stored_with(self, statement: &str) -> Objects {
        let mut sums = Sums::default();
        for object in &self.statement.objects {
            sums.insert(&object.key, object.sha256).unwrap();
        }
        sums.insert(STATEMENT, Digest::of(statement.as_bytes()))
            .unwrap();
        let objects = with(self.objects, STATEMENT, statement.as_bytes());
        sign(objects, &sums.to_text(), "sealer.pem")
    }
}

/// Adds a SHA256SUMS of this text, with a signature and the key that checks it.
pub fn sign(objects: Objects, sums: &str, name: &str) -> Objects {
    let key = key(name);
    let objects = with(objects, "SHA256SUMS", sums.as_bytes());
    let objects = with(
        objects,
        "SHA256SUMS.sig",
        &key.sign(sums.as_bytes()).unwrap(),
    );
    let public = key.public_key().to_pem().unwrap();
    with(objects, "pubkey.pem", public.as_bytes())
}

/// Signs the sums anew, after an edit.
pub fn resigned(mut objects: Objects, edit: impl FnOnce(&str) -> String) -> Objects {
    let sums = String::from_utf8(bytes(&mut objects, "SHA256SUMS").clone()).unwrap();
    sign(objects, &edit(&sums), "sealer.pem")
}

/// Exchanges the `s` of a signature for the other one that is right.
pub fn exchange_s(der: &mut Vec<u8>) {
    let signature = p256::ecdsa::Signature::from_der(der).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    *der = other.to_der().as_bytes().to_vec();
}
