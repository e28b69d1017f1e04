//! The seal: SHA256SUMS against the objects, its signature, and the statement against what was found.

use std::io;

use serde::Serialize;

use super::{Problem, Report, Verdict, problem::plain};
use crate::digest::{Digest, Hasher};
use crate::objects::{Objects, read_whole};
use crate::seal::{self, STATEMENT, Statement};
use crate::signature::{self, PublicKey};
use crate::sums::{self, PUBLIC_KEY, SHA256SUMS, SIGNATURE, Sums};
use crate::timestamp::{self, TIME_STAMP, TimeStamp};

/// How far the seal of a collection can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SealState {
    /// There is none, or it was never finished: SHA256SUMS is stored last.
    #[default]
    Unsealed,
    /// There is one, and it does not fit: the problems say why.
    Broken,
    /// All fits, but the key is only the one that lies beside. Whoever exchanged everything could have laid it there.
    Untrusted,
    /// All fits, and the key is the one that the caller trusts.
    Trusted,
}

/// What is known of the seal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seal {
    pub state: SealState,
    /// Fingerprint of the key beside ([`PublicKey::fingerprint`]), if it can be read.
    pub key: Option<Digest>,
    /// When and by whom it was sealed, as the statement says; absent unless the seal holds.
    pub sealed_at: Option<String>,
    pub operator: Option<String>,
    /// When SHA256SUMS existed, as its time stamp states: nobody checked here who signed it. Absent unless the seal holds.
    pub time_stamp: Option<String>,
}

/// Checks the seal of the collection that `report` is about, with the `trusted` key if the caller has one.
///
/// Without a trusted key the one beside proves only that the parts fit together. With one, a collection without a seal is
/// a problem, too: nobody removes it unseen.
pub fn seal(
    objects: &dyn Objects,
    report: &Report,
    trusted: Option<&PublicKey>,
) -> (Seal, Vec<Problem>) {
    let mut check = Check {
        objects,
        report,
        problems: Vec::new(),
        seal: Seal::default(),
    };
    if !report.has_sums {
        if trusted.is_some() {
            check.missing(SHA256SUMS);
        }
        return (check.seal, check.problems);
    }
    let statement = check.all(trusted);
    check.seal.state = match (check.problems.is_empty(), trusted) {
        (false, _) => SealState::Broken,
        (true, None) => SealState::Untrusted,
        (true, Some(_)) => SealState::Trusted,
    };
    if let (true, Some(statement)) = (check.problems.is_empty(), statement) {
        check.seal.sealed_at = Some(statement.sealed_at);
        check.seal.operator = Some(statement.operator);
    } else {
        check.seal.time_stamp = None;
    }
    (check.seal, check.problems)
}

struct Check<'a> {
    objects: &'a dyn Objects,
    report: &'a Report,
    problems: Vec<Problem>,
    seal: Seal,
}

impl Check<'_> {
    fn all(&mut self, trusted: Option<&PublicKey>) -> Option<Statement> {
        let bytes = self.whole(SHA256SUMS, sums::MAX_BYTES)?;
        self.signature(&bytes, trusted);
        self.time_stamp(&bytes);
        let sums = match Sums::parse(&bytes) {
            Ok(sums) => sums,
            Err(error) => {
                self.problems.push(Problem::Sums(error.to_string()));
                return None;
            }
        };
        self.compare(&sums);
        let statement = self.whole(STATEMENT, seal::MAX_BYTES)?;
        let found = Digest::of(&statement);
        match sums.get(STATEMENT) {
            Some(stated) => self.compare_hash(STATEMENT, stated, found),
            None => self.unlisted(STATEMENT),
        }
        let statement = Statement::parse(&statement);
        let wrong = |error| Problem::Statement(plain(&format!("{error}")));
        let statement = statement.map_err(|error| self.problems.push(wrong(error)));
        let statement = statement.ok()?;
        self.compare_statement(&statement, &sums);
        Some(statement)
    }

    /// Reads an object whole. That it is missing is said once, whoever found it.
    fn whole(&mut self, key: &str, limit: u64) -> Option<Vec<u8>> {
        let result = read_whole(self.objects, key, limit);
        result.map_err(|error| self.unreadable(key, &error)).ok()
    }

    fn unreadable(&mut self, key: &str, error: &io::Error) {
        let problem = Problem::unreadable(key, error);
        let known = |known: &Problem| known.to_string() == problem.to_string();
        if !self.report.problems.iter().any(known) {
            self.problems.push(problem);
        }
    }

    fn missing(&mut self, key: &str) {
        self.unreadable(key, &io::ErrorKind::NotFound.into());
    }

    fn unlisted(&mut self, key: &str) {
        self.problems.push(Problem::Unlisted {
            key: key.to_owned(),
        });
    }

    fn signature(&mut self, message: &[u8], trusted: Option<&PublicKey>) {
        let signature = self.whole(SIGNATURE, signature::MAX_SIGNATURE_BYTES);
        let Some(pem) = self.whole(PUBLIC_KEY, signature::MAX_KEY_BYTES) else {
            return;
        };
        let wrong = |key: &str, error| Problem::Signature(format!("{key}: {error}"));
        let known = PublicKey::from_pem(&pem).and_then(|key| Ok((key.fingerprint()?, key)));
        let (fingerprint, key) = match known {
            Ok(known) => known,
            Err(error) => return self.problems.push(wrong(PUBLIC_KEY, error)),
        };
        self.seal.key = Some(fingerprint);
        if trusted.is_some_and(|trusted| *trusted != key) {
            self.problems.push(Problem::Key { fingerprint });
        }
        let verified = signature.map_or(Ok(()), |signature| key.verify(message, &signature));
        if let Err(error) = verified {
            self.problems.push(wrong(SIGNATURE, error));
        }
    }

    /// A seal can do without a time stamp, but not with one over something else.
    fn time_stamp(&mut self, sums: &[u8]) {
        if !self.report.unchecked.iter().any(|key| key == TIME_STAMP) {
            return;
        }
        let Some(bytes) = self.whole(TIME_STAMP, timestamp::MAX_BYTES) else {
            return;
        };
        match TimeStamp::over(sums, &bytes) {
            Ok(stamp) => self.seal.time_stamp = Some(stamp.time),
            Err(error) => {
                let text = plain(&error.to_string());
                self.problems.push(Problem::TimeStamp(text));
            }
        }
    }

    /// Each object that SHA256SUMS lists, and each that it does not.
    fn compare(&mut self, sums: &Sums) {
        for (key, stated) in sums.iter().filter(|(key, _)| *key != STATEMENT) {
            let found = self.report.sha256.get(key).copied();
            match found.map_or_else(|| hash(self.objects, key), Ok) {
                Ok(found) => self.compare_hash(key, stated, found),
                Err(error) => self.unreadable(key, &error),
            }
        }
        for key in self.report.sha256.keys() {
            if sums.get(key).is_none() {
                self.unlisted(key);
            }
        }
    }

    fn compare_hash(&mut self, key: &str, stated: Digest, found: Digest) {
        if stated != found {
            self.problems.push(Problem::Hash {
                key: key.to_owned(),
                by: SHA256SUMS,
                stated: stated.to_string(),
                found: found.to_string(),
            });
        }
    }

    fn compare_statement(&mut self, statement: &Statement, sums: &Sums) {
        let text = |value: Option<Digest>| value.map_or("none".to_owned(), |v| v.to_string());
        let report = self.report;
        let mut found = vec![(
            "manifest SHA-256",
            text(statement.manifest_sha256),
            text(report.manifest_sha256),
        )];
        if let Some(prefix) = &report.prefix {
            found.push(("prefix", statement.prefix.to_string(), prefix.to_string()));
        }
        // What is altered now was not when it was sealed; that is said already.
        if report.verdict != Verdict::Altered {
            let verdict = report.verdict.exit().word().to_owned();
            found.push(("verdict", statement.verdict.to_string(), verdict));
        }
        let receipt = statement.receipt.as_ref();
        if let Some(receipt) = receipt.filter(|receipt| receipt.manifest_sha256.is_some())
            && statement.manifest_sha256.is_some()
        {
            let stated = Some(receipt.chain_head);
            found.push(("chain head", text(stated), text(report.chain_head)));
        }
        for (what, stated, found) in found.into_iter().filter(|(_, s, f)| s != f) {
            let text = format!("{STATEMENT} states {what} {stated}, found is {found}");
            self.problems.push(Problem::Statement(text));
        }
        let stated = statement.objects.iter().map(|o| (o.key.as_str(), o.sha256));
        if !stated.eq(sums.iter().filter(|(key, _)| *key != STATEMENT)) {
            let text = format!("{STATEMENT} lists other objects than SHA256SUMS");
            self.problems.push(Problem::Statement(text));
        }
    }
}

fn hash(objects: &dyn Objects, key: &str) -> io::Result<Digest> {
    let (mut hasher, mut object) = (Hasher::default(), objects.open(key)?);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = object.read(&mut buffer)?;
        match buffer.get(..length) {
            Some([]) | None => return Ok(hasher.finish()),
            Some(bytes) => hasher.update(bytes),
        }
    }
}
