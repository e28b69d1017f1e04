//! Where an artifact puts what it found, and what it could not get.
//!
//! Every call looks at the deadline, the cap and the signals first, so no artifact can forget to.

mod budget;
mod made;
mod source;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use evidence::digest::Hasher;
use evidence::inventory::{FileType, Status};
use evidence::keys::Stream;
use serde::Serialize;

use super::sensitive::Class;
use crate::bundle::{self, Item, ROOT, Writer};
use crate::host::{Content, HostError, HostFile, Stat, clocks};
pub use budget::{Budget, Halt, Step, Tally, Watch};

/// Takes what an artifact captures.
pub struct Sink<'a> {
    bundle: &'a mut Writer,
    budget: Budget<'a>,
    artifact: &'static str,
    tally: Tally,
    expected: Option<u64>,
}

impl<'a> Sink<'a> {
    /// A sink for `artifact`.
    pub fn new(bundle: &'a mut Writer, artifact: &'static str, budget: Budget<'a>) -> Self {
        Self {
            bundle,
            budget,
            artifact,
            tally: Tally::default(),
            expected: None,
        }
    }

    /// The numbers so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether the artifact may go on; also gives way to the host's own work when the CPU is limited.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self) -> Result<(), Halt> {
        if self.tally.bytes > self.budget.max_bytes {
            return Err(Halt::Cap(self.budget.max_bytes));
        }
        if self.budget.left(self.tally.streamed()) == 0 {
            return Err(Halt::Total);
        }
        let Tally { items, bytes, .. } = self.tally;
        let step = match self.expected {
            Some(of) => Step::Bytes { done: bytes, of },
            None => Step::Items { items, bytes },
        };
        let now = self.budget.check()?;
        self.budget.tell(now, self.artifact, step);
        Ok(())
    }

    /// Adds `record` to the table `live_response/<table>.jsonl`.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn record(&mut self, table: &str, record: &impl Serialize) -> Result<(), Halt> {
        self.row(&live_response(table), self.artifact, record)?;
        self.tally.items += 1;
        Ok(())
    }

    /// As [`Sink::record`], also when the artifact has to end: what it did must be told.
    ///
    /// # Errors
    /// When the store takes no more.
    pub fn record_late(&mut self, table: &str, record: &impl Serialize) -> Result<(), Halt> {
        self.append(&live_response(table), self.artifact, record)?;
        self.tally.items += 1;
        Ok(())
    }

    /// Says something in the report, whatever the outcome is.
    pub fn note(&mut self, text: String) {
        self.tally.notes.push(text);
    }

    /// Appends bytes to the memory stream; the answer is memory for the next ones.
    ///
    /// # Errors
    /// When the artifact has to end: what was read is in the stream all the same.
    pub fn memory(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Halt> {
        self.tally.bytes += bytes.len() as u64;
        self.tally.memory += bytes.len() as u64;
        let buffer = self.bundle.memory().push(Stream::Memory, bytes)?;
        self.check()?;
        Ok(buffer)
    }

    /// Lets the memory that was captured so far leave the host now.
    ///
    /// # Errors
    /// When the store takes no more.
    pub fn memory_cut(&mut self) -> Result<(), Halt> {
        Ok(self.bundle.memory().cut(Stream::Memory)?)
    }

    /// How many bytes will come, for whoever watches.
    pub fn expect(&mut self, bytes: u64) {
        self.expected = Some(self.tally.bytes.saturating_add(bytes));
    }

    /// Adds `event` to the timeline (Timesketch: `message`, `datetime`, `timestamp_desc`).
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn event(&mut self, event: &impl Serialize) -> Result<(), Halt> {
        self.row("timeline/timesketch.jsonl", "timeline", event)
    }

    /// Adds `finding` to `findings.jsonl`.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn finding(&mut self, finding: &impl Serialize) -> Result<(), Halt> {
        self.row("findings.jsonl", "findings", finding)
    }

    fn row(
        &mut self,
        table: &str,
        artifact: &'static str,
        record: &impl Serialize,
    ) -> Result<(), Halt> {
        self.check()?;
        self.tally.bytes += self.append(table, artifact, record)?;
        Ok(())
    }

    /// Appends a line to a table, whatever the limits are: its length.
    fn append(
        &mut self,
        table: &str,
        artifact: &'static str,
        record: &impl Serialize,
    ) -> Result<u64, Halt> {
        let Ok(line) = serde_json::to_vec(record) else {
            self.loss("failed:record");
            return Ok(0);
        };
        self.bundle.row(table, artifact, &line)?;
        Ok(line.len() as u64)
    }

    /// Adds a line of another form than JSON to the table `name`, which is the artifact's.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn line(&mut self, name: &str, line: &[u8]) -> Result<(), Halt> {
        self.check()?;
        self.bundle.row(name, self.artifact, line)?;
        self.tally.bytes += line.len() as u64;
        Ok(())
    }

    /// Counts a loss that has no item of its own, such as a field of a record.
    pub fn loss(&mut self, kind: &str) {
        *self.tally.losses.entry(kind.to_owned()).or_default() += 1;
    }

    /// Counts what the host did not answer, when that is a loss.
    pub fn count(&mut self, error: &HostError) {
        let status = error.status();
        if status == Status::Vanished {
            self.tally.vanished += 1;
        } else if status.is_loss() {
            let errno = error
                .errno()
                .map_or_else(String::new, |errno| format!(":{errno}"));
            self.loss(&format!("{}{errno}", status_word(status)));
        }
    }

    /// Puts the bytes that were read from `path` at that path under `[root]/`, or lists why there are none.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn raw(&mut self, path: &Path, content: &Result<Content, HostError>) -> Result<(), Halt> {
        match content {
            Ok(content) => {
                self.raw_part(path, content)?;
                self.tally.items += 1;
                Ok(())
            }
            Err(error) => self.lost(path, error),
        }
    }

    /// As [`Sink::raw`], of what not every host has: where it is not there, it is neither an item nor a loss.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn raw_if_there(
        &mut self,
        path: &Path,
        content: &Result<Content, HostError>,
    ) -> Result<(), Halt> {
        match content {
            Err(error) if error.is_gone() => Ok(()),
            content => self.raw(path, content),
        }
    }

    /// As [`Sink::raw`], of bytes from which the secrets of `class` were taken out, which the inventory says.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn masked(&mut self, path: &Path, content: &Content, class: Class) -> Result<(), Halt> {
        self.masked_part(path, content, class)?;
        self.tally.items += 1;
        Ok(())
    }

    /// As [`Sink::masked`], for a part of something that counts as one item.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn masked_part(
        &mut self,
        path: &Path,
        content: &Content,
        class: Class,
    ) -> Result<(), Halt> {
        let reason = format!("masked: {} (--sensitive)", class.word());
        self.part(path, content, Some(&reason))
    }

    /// As [`Sink::raw`], for a part of something that counts as one item, such as a process.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn raw_part(&mut self, path: &Path, content: &Content) -> Result<(), Halt> {
        self.part(path, content, None)
    }

    fn part(&mut self, path: &Path, content: &Content, reason: Option<&str>) -> Result<(), Halt> {
        self.check()?;
        let mut item = self.item(path, FileType::File, content.stat.as_ref());
        item.reason = reason.map(str::to_owned);
        if content.truncated {
            (item.status, item.reason) = (
                Status::Truncated,
                Some("larger than what is held in memory".to_owned()),
            );
            self.loss("truncated");
        }
        if self.bundle.add(item, &content.bytes)? {
            self.tally.bytes += content.bytes.len() as u64;
        }
        Ok(())
    }

    /// As [`Sink::link`], for a part of something that counts as one item.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn link_part(&mut self, path: &Path, target: &[u8]) -> Result<(), Halt> {
        self.check()?;
        let item = self.item(path, FileType::Symlink, None);
        self.bundle.link(item, target)?;
        Ok(())
    }

    /// Counts something that was gone before it could be read.
    pub fn gone(&mut self) {
        self.tally.vanished += 1;
    }

    /// Puts a symbolic link at `path` under `[root]/`, or lists why there is none.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn link(
        &mut self,
        path: &Path,
        target: &Result<Vec<u8>, HostError>,
        stat: Option<&Stat>,
    ) -> Result<(), Halt> {
        self.check()?;
        match target {
            Ok(target) => {
                let item = self.item(path, FileType::Symlink, stat);
                if self.bundle.link(item, target)? {
                    self.took(0);
                }
                Ok(())
            }
            Err(error) => self.lost(path, error),
        }
    }

    /// Puts a file of the host at `path` under `[root]/`.
    ///
    /// # Errors
    /// When the artifact has to end; the file is then in the tar as far as it was read.
    pub fn file(&mut self, path: &Path, file: HostFile) -> Result<(), Halt> {
        self.file_up_to(path, file, None)
    }

    /// As [`Sink::file`], of at most `most` bytes.
    ///
    /// # Errors
    /// As [`Sink::file`].
    pub fn file_up_to(
        &mut self,
        path: &Path,
        file: HostFile,
        most: Option<u64>,
    ) -> Result<(), Halt> {
        let mut item = self.item(path, FileType::File, Some(file.stat()));
        item.read_at_ns = file.read_at_ns().unwrap_or(item.read_at_ns);
        self.stream(item, file, most)
    }

    /// Lists a file of the host with the hash of its content, which stays where it is; `reason` says why.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn hashed(
        &mut self,
        path: &Path,
        mut file: HostFile,
        reason: &str,
        most: Option<u64>,
    ) -> Result<(), Halt> {
        let (stat, read_at_ns) = (file.stat().clone(), file.read_at_ns());
        if stat.size > most.unwrap_or(u64::MAX).min(self.budget.max_file_bytes) {
            return self.metadata_only(path, &stat, "too large to be hashed");
        }
        let (mut hasher, mut size, mut buffer) = (Hasher::default(), 0, Vec::new());
        loop {
            self.check()?;
            buffer = match file.read(buffer, usize::MAX) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => piece,
                Err(error) => return self.lost(path, &error),
            };
            hasher.update(&buffer);
            size += buffer.len() as u64;
        }
        let mut item = self.item(path, FileType::File, Some(&stat));
        (item.status, item.reason) = (Status::Metadata, Some(reason.to_owned()));
        item.read_at_ns = read_at_ns.unwrap_or(item.read_at_ns);
        self.bundle.list_hashed(item, size, hasher.finish())?;
        self.tally.items += 1;
        Ok(())
    }

    /// Whether the content of `path` is in the tar already.
    pub fn has(&self, path: &Path) -> bool {
        self.bundle.has(&member_name(path))
    }

    /// Puts bytes of our own making at `name`, outside `[root]/`.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn own(&mut self, name: &str, bytes: &[u8]) -> Result<(), Halt> {
        self.check()?;
        if self
            .bundle
            .add(bundle::own(name.as_bytes(), self.artifact), bytes)?
        {
            self.took(bytes.len() as u64);
        }
        Ok(())
    }

    /// Puts a file of the host at `name`, outside `[root]/`; `reason` says where it comes from.
    ///
    /// # Errors
    /// As [`Sink::file`].
    pub fn recovered(&mut self, name: &str, reason: &str, file: HostFile) -> Result<(), Halt> {
        let mut item = bundle::own(name.as_bytes(), self.artifact);
        item.metadata = Some(file.stat().metadata());
        item.reason = Some(reason.to_owned());
        self.stream(item, file, None)
    }

    fn stream(
        &mut self,
        mut item: Item,
        mut file: HostFile,
        most: Option<u64>,
    ) -> Result<(), Halt> {
        self.check()?;
        let stated = file.stat().size;
        let dense = file.dense_size().unwrap_or(stated);
        let left = self.budget.left(self.tally.streamed());
        let most = most
            .unwrap_or(u64::MAX)
            .min(self.budget.max_file_bytes)
            .min(left);
        let size = dense.min(most);
        if size < stated {
            let why = if size == dense {
                "a hole follows"
            } else if size == left {
                "--max-total-size"
            } else if size == self.budget.max_file_bytes {
                "--max-file-size"
            } else {
                "the limit of its family"
            };
            item.status = Status::Truncated;
            item.reason = Some(format!("{size} of {stated} bytes: {why}"));
        }
        let Tally { items, bytes, .. } = self.tally;
        let step = |done| Step::Items {
            items,
            bytes: bytes.saturating_add(done),
        };
        let Some(made) = self.within(item, size, &mut file, &step)? else {
            return Ok(());
        };
        self.took(made.came);
        if made.status.is_loss() {
            self.loss(status_word(made.status));
        }
        made.halt.map_or(Ok(()), Err)
    }

    /// Lists `path` with its metadata alone.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn metadata(&mut self, path: &Path, stat: &Stat) -> Result<(), Halt> {
        self.listed(path, stat, None)
    }

    /// As [`Sink::metadata`], of what could have been taken; `reason` says why it was not.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn metadata_only(&mut self, path: &Path, stat: &Stat, reason: &str) -> Result<(), Halt> {
        self.listed(path, stat, Some(reason.to_owned()))
    }

    fn listed(&mut self, path: &Path, stat: &Stat, reason: Option<String>) -> Result<(), Halt> {
        self.check()?;
        let mut item = self.item(path, stat.file_type(), Some(stat));
        (item.status, item.reason) = (Status::Metadata, reason);
        self.bundle.list(item)?;
        self.tally.items += 1;
        Ok(())
    }

    /// Lists why `path` is not in the collection.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn lost(&mut self, path: &Path, error: &HostError) -> Result<(), Halt> {
        self.check()?;
        self.count(error);
        let mut item = self.item(path, FileType::Unknown, None);
        if let HostError::NotAFile(kind) = error {
            item.file_type = *kind;
        }
        (item.status, item.reason, item.errno) =
            (error.status(), Some(error.to_string()), error.errno());
        Ok(self.bundle.list(item)?)
    }

    /// Lets what was captured so far leave the host now.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn flush(&mut self) -> Result<(), Halt> {
        self.bundle.end_artifact(self.artifact)?;
        Ok(self.bundle.flush()?)
    }

    fn took(&mut self, bytes: u64) {
        self.tally.items += 1;
        self.tally.bytes += bytes;
    }

    fn item(&self, path: &Path, file_type: FileType, stat: Option<&Stat>) -> Item {
        Item {
            name: member_name(path),
            artifact: self.artifact,
            file_type,
            status: Status::Captured,
            reason: None,
            errno: None,
            metadata: stat.map(Stat::metadata),
            read_at_ns: clocks().utc_ns,
        }
    }
}

/// Name in the tar of a table of ours.
fn live_response(table: &str) -> String {
    format!("live_response/{table}.jsonl")
}

/// Name in the tar of the host's `path`, as UAC lays it out.
fn member_name(path: &Path) -> Vec<u8> {
    let path = path.as_os_str().as_bytes();
    let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
    [ROOT.as_bytes(), slash, path].concat()
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Captured => "captured",
        Status::Metadata => "metadata",
        Status::Truncated => "truncated",
        Status::Shrank => "shrank",
        Status::Vanished => "vanished",
        Status::Denied => "denied",
        Status::TimedOut => "timed_out",
        Status::Failed => "failed",
        Status::Skipped => "skipped",
    }
}
