//! The record of custody: who did what with the evidence of a case, each record with the hash of the one before.
//!
//! A case's journal is JSON Lines, and the same lines stand in the bucket as objects of their own, one each:
//!
//! ```text
//! {"case":"IR-7","event":{"kind":"opened"},"number":0,"operator":"j.doe","previous":"<hash>","time":"2026-03-14T15:09:26Z"}
//! ```
//!
//! Record 0 carries the hash of `exhibit-custody 1 <case>` and a newline, so a record belongs to one case at one place. The
//! hash of the last line is the *head*, which the seal of a collection fixes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::keys::CaseId;
use crate::line;

/// Longest line of a record, in bytes, newline included.
pub const MAX_LINE: usize = 64 << 10;
/// Most records of a case: the names of their objects have six digits.
pub const MAX_RECORDS: u64 = 1_000_000;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub case: CaseId,
    /// From 0, without gaps.
    pub number: u64,
    /// Hash of the line before.
    pub previous: Digest,
    /// When, in RFC 3339 and UTC.
    pub time: String,
    /// Who, as the program that wrote the record knows it.
    pub operator: String,
    /// What: `kind` names the act, and decides about the other fields.
    pub event: Map<String, Value>,
}

/// Why bytes are not a record, or a record can not be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("it is not a record of custody: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is not in canonical form: it was edited, or written by another program")]
    NotCanonical,
    #[error("its event has no `kind`, a number that is not whole, or is nested too deep")]
    Event,
    #[error("its time is not RFC 3339 in UTC, such as 2026-03-14T15:09:26Z")]
    Time,
    #[error("its number has more than six digits")]
    Number,
}

impl Record {
    /// The act's name.
    pub fn kind(&self) -> &str {
        let kind = self.event.get("kind").and_then(Value::as_str);
        kind.unwrap_or_default()
    }

    /// Key of the record's object, relative to the case: `custody/NNNNNN.json`.
    pub fn key(&self) -> String {
        format!("custody/{:06}.json", self.number)
    }

    /// The line, with its newline: canonical JSON, ASCII.
    ///
    /// # Errors
    /// When no reader would accept it: its event or time can not stand in a record, or it is too long.
    pub fn to_line(&self) -> Result<String, RecordError> {
        let kind = self.event.get("kind").is_some_and(Value::is_string);
        let plain = |value: &Value| line::is_plain(value);
        if !kind || !self.event.values().all(plain) {
            return Err(RecordError::Event);
        }
        if !line::is_time(&self.time) {
            return Err(RecordError::Time);
        }
        if self.number >= MAX_RECORDS {
            return Err(RecordError::Number);
        }
        let text = line::to_line(self)?;
        if text.len() > MAX_LINE {
            return Err(RecordError::TooLong);
        }
        Ok(text)
    }

    /// Reads one line, with its newline. Where it stands in its case is for [`Custody::push`] to say.
    ///
    /// # Errors
    /// For anything that [`Record::to_line`] does not write.
    pub fn parse(line: &[u8]) -> Result<Self, RecordError> {
        if line.len() > MAX_LINE {
            return Err(RecordError::TooLong);
        }
        let record: Self = serde_json::from_slice(line)?;
        if record.to_line()?.as_bytes() != line {
            return Err(RecordError::NotCanonical);
        }
        Ok(record)
    }

    /// Hash of the record's line, newline included: what the record after it carries.
    ///
    /// # Errors
    /// As [`Record::to_line`].
    pub fn hash(&self) -> Result<Digest, RecordError> {
        Ok(Digest::of(self.to_line()?.as_bytes()))
    }
}

/// What is wrong with a case's records.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error("record {number} of the custody: {error}")]
    Record { number: u64, error: RecordError },
    #[error("record {number} of the custody is of case {found}, not of {expected}")]
    Case {
        number: u64,
        found: CaseId,
        expected: CaseId,
    },
    #[error("the custody has record {found} where {expected} is due")]
    Number { found: u64, expected: u64 },
    #[error(
        "record {number} of the custody does not carry the hash of the one before it: one was edited, moved or removed"
    )]
    Previous { number: u64 },
    /// The last line has no newline, as a crash leaves it. All before it is right.
    #[error(
        "the last line of the custody is cut: the first {valid_bytes} bytes are whole records, keep those"
    )]
    Torn { valid_bytes: u64 },
}

/// All records of a case, oldest first.
#[derive(Clone, Debug)]
pub struct Custody {
    case: CaseId,
    head: Digest,
    records: Vec<Record>,
}

impl Custody {
    /// The custody of a case to which nothing has happened.
    pub fn new(case: CaseId) -> Self {
        let head =
            Digest::of(format!("exhibit-custody {} {case}\n", crate::FORMAT_VERSION).as_bytes());
        Self {
            case,
            head,
            records: Vec::new(),
        }
    }

    /// The case.
    pub fn case(&self) -> &CaseId {
        &self.case
    }

    /// Hash of the last line; without one, that of the text which record 0 carries.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// The records, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The number that is due.
    pub fn next_number(&self) -> u64 {
        self.records.len() as u64
    }

    /// Adds an act, and answers its record, which the caller writes down.
    ///
    /// # Errors
    /// When the record can not be written: then nothing is added.
    pub fn append(
        &mut self,
        time: &str,
        operator: &str,
        event: Map<String, Value>,
    ) -> Result<Record, CustodyError> {
        let record = Record {
            case: self.case.clone(),
            number: self.next_number(),
            previous: self.head,
            time: time.to_owned(),
            operator: operator.to_owned(),
            event,
        };
        self.push(record.clone())?;
        Ok(record)
    }

    /// Takes in a record that was written before.
    ///
    /// # Errors
    /// When it is not the one that is due: then nothing is added.
    pub fn push(&mut self, record: Record) -> Result<(), CustodyError> {
        let number = self.next_number();
        if record.case != self.case {
            return Err(CustodyError::Case {
                number,
                found: record.case,
                expected: self.case.clone(),
            });
        }
        if record.number != number {
            return Err(CustodyError::Number {
                found: record.number,
                expected: number,
            });
        }
        if record.previous != self.head {
            return Err(CustodyError::Previous { number });
        }
        let hash = record.hash();
        self.head = hash.map_err(|error| CustodyError::Record { number, error })?;
        self.records.push(record);
        Ok(())
    }

    /// The journal: all lines.
    ///
    /// # Errors
    /// Never for records that were taken in: each had a line then.
    pub fn to_text(&self) -> Result<String, RecordError> {
        self.records.iter().map(Record::to_line).collect()
    }

    /// Reads a case's journal.
    ///
    /// # Errors
    /// For the first record that is wrong, and [`CustodyError::Torn`] when nothing is wrong but that the last line is cut.
    pub fn parse(case: CaseId, journal: &[u8]) -> Result<Self, CustodyError> {
        let valid = journal
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let (whole, torn) = journal.split_at_checked(valid).unwrap_or((journal, b""));
        let custody = Self::parse_records(case, whole.split_inclusive(|b| *b == b'\n'))?;
        if !torn.is_empty() {
            return Err(CustodyError::Torn {
                valid_bytes: valid as u64,
            });
        }
        Ok(custody)
    }

    /// Reads a case's records from single objects, oldest first.
    ///
    /// # Errors
    /// For the first record that is wrong.
    pub fn parse_records<'a>(
        case: CaseId,
        lines: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, CustodyError> {
        let mut custody = Self::new(case);
        for line in lines {
            let number = custody.next_number();
            let record =
                Record::parse(line).map_err(|error| CustodyError::Record { number, error })?;
            custody.push(record)?;
        }
        Ok(custody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TIME: &str = "2026-03-14T15:09:26Z";

    fn event(kind: &str) -> Map<String, Value> {
        let value = json!({"kind": kind, "host": "caf\u{e9}", "count": 2});
        value.as_object().unwrap().clone()
    }

    fn case() -> CaseId {
        "IR-7".parse().unwrap()
    }

    fn sample() -> Custody {
        let mut custody = Custody::new(case());
        for kind in ["opened", "collected", "sealed"] {
            custody.append(TIME, "j.doe", event(kind)).unwrap();
        }
        custody
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let custody = sample();
        let text = custody.to_text().unwrap();
        assert!(text.is_ascii() && text.starts_with("{\"case\":\"IR-7\",\"event\":{\"count\":2,"));
        let read = Custody::parse(case(), text.as_bytes()).unwrap();
        assert_eq!(read.records(), custody.records());
        assert_eq!(read.head(), custody.head());
        let objects = text.split_inclusive('\n').map(str::as_bytes);
        let read = Custody::parse_records(case(), objects).unwrap();
        assert_eq!(read.head(), custody.head());
        assert_eq!(read.records()[2].key(), "custody/000002.json");
        assert_eq!(read.records()[1].kind(), "collected");
        let first = Digest::of(b"exhibit-custody 1 IR-7\n");
        assert_eq!(read.records()[0].previous, first);
        assert_eq!(Custody::parse(case(), b"").unwrap().head(), first);
    }

    #[test]
    fn every_edit_is_noticed() {
        let text = sample().to_text().unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let edits = [
            text.replacen("j.doe", "j.roe", 1),
            text.replace("\"number\":1", "\"number\":2"),
            text.replace("\"count\":2", "\"count\": 2"),
            text.replace("\"count\":2", "\"count\":2.0"),
            text.replace("\\u00e9", "\u{e9}"),
            text.replace("\\u00e9", "\\u00E9"),
            text.replace(TIME, "2026-03-14T15:09:26+00:00"),
            text.replace("\"kind\":", "\"kinds\":"),
            text.replace("\"case\"", "\"also\":1,\"case\""),
            text.replace('\n', "\r\n"),
            text.replace('\n', "\n\n"),
            [lines[0], lines[2]].concat(),
            [lines[1], lines[0], lines[2]].concat(),
            [lines[0], lines[0], lines[1]].concat(),
        ];
        for edited in edits {
            let error = Custody::parse(case(), edited.as_bytes()).unwrap_err();
            assert!(
                !matches!(error, CustodyError::Torn { .. }),
                "{edited}: {error}"
            );
        }
        let error = Custody::parse("IR-8".parse().unwrap(), text.as_bytes()).unwrap_err();
        assert!(matches!(error, CustodyError::Case { .. }), "{error}");
    }

    #[test]
    fn a_torn_line_is_told_from_an_edited_one() {
        let text = sample().to_text().unwrap();
        let two = text.len() - text.split_inclusive('\n').next_back().unwrap().len();
        for end in two + 1..text.len() {
            let error = Custody::parse(case(), &text.as_bytes()[..end]).unwrap_err();
            let CustodyError::Torn { valid_bytes } = error else {
                unreachable!("{error}");
            };
            assert_eq!(valid_bytes, two as u64);
        }
        let edited = text.replacen("j.doe", "j.roe", 1);
        let error = Custody::parse(case(), &edited.as_bytes()[..edited.len() - 1]).unwrap_err();
        assert!(
            matches!(error, CustodyError::Previous { number: 1 }),
            "{error}"
        );
    }

    #[test]
    fn what_no_reader_would_accept_is_not_appended() {
        let mut custody = sample();
        let head = custody.head();
        let long = json!({"kind": "note", "text": "x".repeat(MAX_LINE)});
        let half = json!({"kind": "note", "half": 0.5});
        let nameless = json!({"kind": 7});
        for wrong in [long, half, nameless] {
            let event = wrong.as_object().unwrap().clone();
            assert!(custody.append(TIME, "j.doe", event).is_err());
        }
        assert!(custody.append("yesterday", "j.doe", event("note")).is_err());
        assert_eq!((custody.head(), custody.next_number()), (head, 3));
    }
}
