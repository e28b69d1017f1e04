//! The chain of custody in the bucket: each record of the journal is an object below `<case>/custody/`, written once.

use evidence::custody::Record;
use evidence::{CaseId, Exit};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::aws::s3::Bucket;
use crate::case::Journal;
use crate::config::Config;
use crate::failure::Failure;

/// Longest record that is read back, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// A time as the journal writes it: RFC 3339, UTC.
pub(crate) fn text_of(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// The time of a text of the journal.
pub(crate) fn time_of(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// Copies the journal to the bucket, and notices when somebody else's journal is there.
#[derive(Debug)]
pub(crate) struct Copier {
    bucket: Bucket,
    /// Everything before the number of a record.
    prefix: String,
    /// Records that are known to be there, or `None` before the bucket was asked.
    stored: Option<usize>,
}

impl Copier {
    pub(crate) fn new(config: &Config, bucket: Bucket, case: &CaseId) -> Self {
        Self {
            bucket,
            prefix: config.key(&format!("{case}/custody/")),
            stored: None,
        }
    }

    /// Stores every record that is not there yet. What the journal says is in the bucket before anything follows from it.
    ///
    /// # Errors
    /// When the bucket refuses, or holds another record in the place of ours: two journals of one case.
    pub(crate) async fn copy(&mut self, journal: &Journal) -> Result<(), Failure> {
        let records = journal.records();
        let from = match self.stored {
            Some(stored) => stored,
            None => self.compare(records).await?,
        };
        for record in records.get(from..).unwrap_or_default() {
            let key = self.key(record.number);
            let line = record.to_line().map_err(Failure::internal)?;
            if !self.bucket.put_new(&key, line.as_bytes()).await? {
                self.same(&key, &line).await?;
            }
        }
        self.stored = Some(records.len());
        Ok(())
    }

    /// How many of our records are there; the last of them is compared, which the chain makes enough.
    async fn compare(&self, records: &[Record]) -> Result<usize, Failure> {
        let versions = self.bucket.versions(&self.prefix).await?;
        let mut there: Vec<&str> = versions
            .iter()
            .map(|version| version.key.as_str())
            .collect();
        there.sort_unstable();
        there.dedup();
        if let Some(more) = there.iter().find(|key| {
            !records
                .iter()
                .any(|record| self.key(record.number) == **key)
        }) {
            return Err(Failure::new(
                Exit::CaseBusy,
                format!(
                    "the bucket has {more}, which this journal lacks: the case is worked on elsewhere, or this is an old copy of its journal"
                ),
            ));
        }
        // Records are stored in order; whatever is behind a gap is stored again, which changes nothing.
        let whole = records
            .iter()
            .take_while(|record| there.contains(&self.key(record.number).as_str()))
            .count();
        if let Some(last) = whole.checked_sub(1).and_then(|last| records.get(last)) {
            let line = last.to_line().map_err(Failure::internal)?;
            self.same(&self.key(last.number), &line).await?;
        }
        Ok(whole)
    }

    async fn same(&self, key: &str, line: &str) -> Result<(), Failure> {
        let stored = self.bucket.read(key, None, MAX_RECORD).await?;
        if stored.as_deref() == Some(line.as_bytes()) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::CaseBusy,
            format!(
                "{key} in the bucket is another record than the journal's: two journals of one case; compare both before anything else"
            ),
        ))
    }

    fn key(&self, number: u64) -> String {
        format!("{}{number:06}.json", self.prefix)
    }
}
