//! The journal: an append-only file of records, one writer at a time, on the disk before anything follows from it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use evidence::custody::{Custody, CustodyError, Record};
use evidence::{CaseId, Exit};
use nix::fcntl::{Flock, FlockArg};

use super::{Case, Event};
use crate::failure::Failure;

/// Name of the file in the folder of the case.
pub(crate) const FILE: &str = "journal.jsonl";
/// Longest journal, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// An open journal, and the case that it amounts to. The lock ends with the value, or with the process.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Flock<File>,
    path: PathBuf,
    custody: Custody,
    case: Case,
    operator: String,
}

impl Journal {
    /// Starts the journal of a new case.
    ///
    /// # Errors
    /// When there is one already.
    pub(crate) fn create(folder: &Path, id: CaseId, operator: &str) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        std::fs::create_dir_all(folder).map_err(|error| unwritable(&path, &error))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::new(
                Exit::CaseExists,
                format!(
                    "there is a case {id} already ({}): go on with it, or choose another id",
                    path.display()
                ),
            ),
            _ => unwritable(&path, &error),
        })?;
        // The name of a new file is safe when its folder is.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| unwritable(&path, &error))?;
        Ok(Self {
            file: lock(file, &path)?,
            path,
            custody: Custody::new(id),
            case: Case::default(),
            operator: operator.to_owned(),
        })
    }

    /// Opens the journal of a case, for this process alone. What a crash left of a record that was being written is cut off:
    /// nothing followed from it.
    ///
    /// # Errors
    /// When there is none, another process has it, or it is not what was written.
    pub(crate) fn open(folder: &Path, id: &CaseId, operator: &str) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(|error| unopened(id, &path, &error))?;
        let mut file = lock(file, &path)?;
        let bytes = read(&mut file, &path)?;
        let custody = match Custody::parse(id.clone(), &bytes) {
            Err(CustodyError::Torn { valid_bytes }) => {
                file.set_len(valid_bytes)
                    .and_then(|()| file.sync_all())
                    .map_err(|error| unwritable(&path, &error))?;
                let valid = usize::try_from(valid_bytes)
                    .ok()
                    .and_then(|valid| bytes.get(..valid))
                    .unwrap_or_default();
                Custody::parse(id.clone(), valid)
            }
            result => result,
        };
        let custody = custody.map_err(|error| damaged(&path, &error))?;
        let case = Case::of(custody.records()).map_err(|error| damaged(&path, &error))?;
        Ok(Self {
            file,
            path,
            custody,
            case,
            operator: operator.to_owned(),
        })
    }

    /// The case as the journal has it, without becoming its writer.
    ///
    /// # Errors
    /// As [`Journal::open`], but for the lock.
    pub(crate) fn peek(folder: &Path, id: &CaseId) -> Result<(Case, Custody), Failure> {
        let path = folder.join(FILE);
        let mut file = File::open(&path).map_err(|error| unopened(id, &path, &error))?;
        let bytes = read(&mut file, &path)?;
        // A writer may be in the middle of a record.
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let custody = Custody::parse(id.clone(), bytes.get(..whole).unwrap_or_default())
            .map_err(|error| damaged(&path, &error))?;
        let case = Case::of(custody.records()).map_err(|error| damaged(&path, &error))?;
        Ok((case, custody))
    }

    /// Writes an entry; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it can not be written: then nothing may follow from it.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), Failure> {
        let value = serde_json::to_value(event).map_err(Failure::internal)?;
        let serde_json::Value::Object(event) = value else {
            return Err(Failure::internal("an event is not an object"));
        };
        let time = crate::custody::text_of(crate::clock::now());
        let record = self
            .custody
            .append(&time, &self.operator, event)
            .map_err(Failure::internal)?;
        let line = record.to_line().map_err(Failure::internal)?;
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| unwritable(&self.path, &error))?;
        self.case.apply(&record).map_err(Failure::internal)
    }

    pub(crate) fn case(&self) -> &Case {
        &self.case
    }

    pub(crate) fn operator(&self) -> &str {
        &self.operator
    }

    pub(crate) fn records(&self) -> &[Record] {
        self.custody.records()
    }
}

fn lock(file: File, path: &Path) -> Result<Flock<File>, Failure> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Failure::new(
            Exit::CaseBusy,
            format!(
                "another `exhibit` works on this case (it holds {}): wait for it, or end it",
                path.display()
            ),
        ),
        errno => Failure::new(
            Exit::Target,
            format!("{} can not be locked: {errno}", path.display()),
        ),
    })
}

fn read(file: &mut File, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|error| {
            Failure::new(
                Exit::CaseDamaged,
                format!("{} can not be read: {error}", path.display()),
            )
        })?;
    Ok(bytes)
}

fn unopened(id: &CaseId, path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Exit::CaseUnknown,
            format!(
                "there is no case {id} ({} is not there): `exhibit case list` shows all, `exhibit case open` makes one",
                path.display()
            ),
        ),
        _ => Failure::new(
            Exit::CaseDamaged,
            format!("{} can not be opened: {error}", path.display()),
        ),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == ErrorKind::StorageFull {
        Exit::NoSpace
    } else {
        Exit::Target
    };
    Failure::new(
        exit,
        format!("{} can not be written: {error}", path.display()),
    )
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::CaseDamaged,
        format!(
            "{} is not what was written: {error}; the bucket has a copy of each record",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Event {
        Event::Opened {
            reason: "an alert".to_owned(),
        }
    }

    fn case() -> CaseId {
        "IR-7".parse().unwrap()
    }

    #[test]
    fn an_entry_is_there_again_after_the_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), case(), "ana").unwrap();
        journal.append(&opened()).unwrap();
        drop(journal);
        let journal = Journal::open(folder.path(), &case(), "ben").unwrap();
        assert_eq!(
            (journal.case().reason.as_str(), journal.case().records),
            ("an alert", 1)
        );
        assert_eq!(journal.case().operator, "ana");
    }

    #[test]
    fn a_record_that_a_crash_cut_is_taken_back_at_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), case(), "ana").unwrap();
        journal.append(&opened()).unwrap();
        journal
            .append(&Event::Accessed {
                prefix: "IR-7/i-1/c-1".into(),
                to: "x".into(),
            })
            .unwrap();
        drop(journal);
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(folder.path(), &case(), "ana").unwrap();
            assert_eq!(journal.case().records, 1, "cut at {cut}");
            journal.append(&opened()).unwrap();
            drop(journal);
            assert!(
                Journal::open(folder.path(), &case(), "ana").is_ok(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn two_writers_an_edit_and_a_second_case_of_the_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), case(), "ana").unwrap();
        journal.append(&opened()).unwrap();
        let refused = |result: Result<Journal, Failure>| result.unwrap_err().exit;
        assert_eq!(
            refused(Journal::open(folder.path(), &case(), "ben")),
            Exit::CaseBusy
        );
        assert!(Journal::peek(folder.path(), &case()).is_ok());
        drop(journal);
        assert_eq!(
            refused(Journal::create(folder.path(), case(), "ben")),
            Exit::CaseExists
        );
        let path = folder.path().join(FILE);
        let edited = std::fs::read_to_string(&path)
            .unwrap()
            .replace("alert", "alarm")
            .replace("ana", "eve");
        std::fs::write(&path, edited + "{}\n").unwrap();
        assert_eq!(
            refused(Journal::open(folder.path(), &case(), "ben")),
            Exit::CaseDamaged
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            refused(Journal::open(folder.path(), &case(), "ben")),
            Exit::CaseUnknown
        );
    }
}
