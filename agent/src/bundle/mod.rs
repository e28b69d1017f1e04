//! The collection under way: members into the tar, a line for each into the inventory, tables in between.
//!
//! The bundle knows the format and nothing of the host. It never holds more than a part of a table or of the inventory.

mod pack;
mod table;

use std::collections::HashSet;

use evidence::Chain;
use evidence::digest::{Digest, Hasher};
use evidence::inventory::{self, Entry, FileType, Metadata, Name, Status};
use evidence::keys::Stream;
use evidence::manifest::InventoryTotals;
use evidence::member::{END_OF_ARCHIVE, Kind, Member, padding};

pub(crate) use pack::all_zero;
#[cfg(test)]
pub(crate) use pack::tests::unpack;
pub use pack::{Pack, PackEnd, Shape, Stopped, Take};
use table::Tables;

/// Where raw bytes of the host stand in the tar, as UAC lays it out.
pub const ROOT: &str = "[root]";

/// Something that was looked at, before its content is known.
#[derive(Clone, Debug)]
pub struct Item {
    /// Name in the tar, as bytes.
    pub name: Vec<u8>,
    pub artifact: &'static str,
    pub file_type: FileType,
    pub status: Status,
    pub reason: Option<String>,
    pub errno: Option<String>,
    pub metadata: Option<Metadata>,
    pub read_at_ns: i64,
}

/// Content that comes in pieces.
pub trait Source {
    /// The next piece, of at most `left` bytes, in the memory of `buffer`.
    fn next(&mut self, left: u64, buffer: Vec<u8>) -> Piece;

    /// Completes the entry when all pieces came, or no more will.
    fn end(&mut self, entry: &mut Entry);
}

/// What a source answers.
pub enum Piece {
    Bytes(Vec<u8>),
    /// The content ends here, earlier than announced: why, and in the inventory's word.
    Short {
        status: Status,
        reason: String,
        errno: Option<String>,
    },
}

/// What a bundle added up to.
pub struct BundleEnd {
    pub pack: PackEnd,
    pub inventory: InventoryTotals,
    /// Whether the tar has its end. When the store took no more it has not, and gets no manifest.
    pub whole: bool,
}

/// Writes the evidence stream.
pub struct Writer {
    pack: Pack,
    names: HashSet<[u8; 16]>,
    tables: Tables,
    lines: Vec<u8>,
    parts: u32,
    entries: u64,
    members: u64,
    unnameable: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Starts the streams of the collection at the start of `chain`.
    ///
    /// # Errors
    /// When a thread can not be started.
    pub fn start(chain: Chain, shape: Shape, take: Take) -> std::io::Result<Self> {
        Ok(Self {
            pack: Pack::start(chain, shape, take)?,
            names: HashSet::new(),
            tables: Tables::default(),
            lines: Vec::new(),
            parts: 0,
            entries: 0,
            members: 0,
            unnameable: 0,
            buffer: Vec::new(),
        })
    }

    /// Whether a member of this name is in the tar already.
    pub fn has(&self, name: &[u8]) -> bool {
        self.names.contains(&fingerprint(name))
    }

    /// Items since the last call whose names a tar can not hold: they are listed, and lost.
    pub fn take_unnameable(&mut self) -> u64 {
        std::mem::take(&mut self.unnameable)
    }

    /// The memory stream, which takes the same way out.
    pub fn memory(&mut self) -> &mut Pack {
        &mut self.pack
    }

    /// Lets what was written so far leave the host now.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        self.pack.cut(Stream::Evidence)
    }

    /// Lists an item that has no content in the tar.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn list(&mut self, item: Item) -> Result<(), Stopped> {
        self.enter(entry(item))
    }

    /// Adds a regular member whose content is at hand. False when the name is taken.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn add(&mut self, item: Item, content: &[u8]) -> Result<bool, Stopped> {
        let size = content.len() as u64;
        let Some(mut entry) = self.begin(item, Kind::File { size })? else {
            return Ok(false);
        };
        self.write(content)?;
        self.write(padding(size))?;
        entry.sha256 = Some(Digest::of(content));
        entry.size = Some(size);
        self.enter(entry)?;
        Ok(true)
    }

    /// Adds a symbolic link. False when the name is taken.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn link(&mut self, item: Item, target: &[u8]) -> Result<bool, Stopped> {
        let kind = Kind::Symlink {
            target: target.into(),
        };
        let Some(mut entry) = self.begin(item, kind)? else {
            return Ok(false);
        };
        entry.target = Some(Name::of(target));
        self.enter(entry)?;
        Ok(true)
    }

    /// Adds a regular member of exactly `size` bytes from `source`. When it ends early, zeros fill the place and the
    /// inventory says so. The answer is the bytes that came, or `None` when the name is taken.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn stream(
        &mut self,
        item: Item,
        size: u64,
        source: &mut dyn Source,
    ) -> Result<Option<u64>, Stopped> {
        let Some(mut entry) = self.begin(item, Kind::File { size })? else {
            return Ok(None);
        };
        let mut hasher = Hasher::default();
        let mut left = size;
        while left > 0 {
            match source.next(left, std::mem::take(&mut self.buffer)) {
                Piece::Bytes(mut bytes) => {
                    bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    hasher.update(&bytes);
                    left -= bytes.len() as u64;
                    self.buffer = self.pack.push(Stream::Evidence, bytes)?;
                }
                Piece::Short {
                    status,
                    reason,
                    errno,
                } => {
                    (entry.status, entry.reason, entry.errno) = (status, Some(reason), errno);
                    entry.short_at = Some(size - left);
                    break;
                }
            }
        }
        let came = size - left;
        self.zeros(left, &mut hasher)?;
        self.write(padding(size))?;
        entry.sha256 = Some(hasher.finish());
        entry.size = Some(size);
        source.end(&mut entry);
        self.enter(entry)?;
        Ok(Some(came))
    }

    /// Appends a line to the table `name`, which becomes a member of the tar, or several when it is long.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn row(&mut self, name: &str, artifact: &'static str, line: &[u8]) -> Result<(), Stopped> {
        match self.tables.append(name, artifact, line) {
            Some(full) => self.table(full),
            None => Ok(()),
        }
    }

    /// Writes the tables of an artifact that has ended.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn end_artifact(&mut self, artifact: &str) -> Result<(), Stopped> {
        self.tables
            .take_of(artifact)
            .into_iter()
            .try_for_each(|table| self.table(table))
    }

    /// Ends the tar: the last tables, the inventory, the end of the archive.
    ///
    /// # Errors
    /// [`Stopped`] when the stream's threads died; a store that takes no more still yields the totals.
    pub fn finish(mut self) -> Result<BundleEnd, Stopped> {
        let mut sha256 = Digest::of(&[]);
        // When the store takes no more, what it took still has its totals.
        let tar = self.finish_tar(&mut sha256);
        let inventory = InventoryTotals {
            sha256,
            entries: self.entries,
            members: self.members,
        };
        let pack = self.pack.finish()?;
        // The last bytes may only have found out when they were sent.
        let whole = tar.is_ok() && pack.open;
        Ok(BundleEnd {
            pack,
            inventory,
            whole,
        })
    }

    fn finish_tar(&mut self, sha256: &mut Digest) -> Result<(), Stopped> {
        let rest = self.tables.take_all();
        rest.into_iter().try_for_each(|table| self.table(table))?;
        let lines = std::mem::take(&mut self.lines);
        *sha256 = Digest::of(&lines);
        self.own_member(inventory::NAME, &lines)?;
        self.write(&END_OF_ARCHIVE)
    }

    /// Lists an item whose content was read and hashed, and is not in the tar.
    ///
    /// # Errors
    /// [`Stopped`], as for all writing.
    pub fn list_hashed(&mut self, item: Item, size: u64, sha256: Digest) -> Result<(), Stopped> {
        let mut entry = entry(item);
        (entry.size, entry.sha256) = (Some(size), Some(sha256));
        self.enter(entry)
    }

    fn table(&mut self, table: table::Part) -> Result<(), Stopped> {
        self.add(own(table.name.as_bytes(), table.artifact), &table.bytes)
            .map(drop)
    }

    /// Writes the header of a member; `None` when its name is taken.
    fn begin(&mut self, item: Item, kind: Kind) -> Result<Option<Entry>, Stopped> {
        if !self.names.insert(fingerprint(&item.name)) {
            return Ok(None);
        }
        let metadata = item.metadata.as_ref();
        let permissions = metadata
            .and_then(|m| u32::from_str_radix(&m.mode, 8).ok())
            .unwrap_or(0o400);
        let seconds = metadata.map_or(item.read_at_ns / 1_000_000_000, |m| whole_seconds(&m.mtime));
        let member = Member {
            name: item.name.clone(),
            kind,
            mode: permissions & 0o7777,
            uid: metadata.map_or(0, |m| m.uid.into()),
            gid: metadata.map_or(0, |m| m.gid.into()),
            mtime: u64::try_from(seconds).unwrap_or(0),
        };
        let mut entry = entry(item);
        match member.to_blocks() {
            Ok(blocks) => self.write(&blocks)?,
            Err(error) => {
                // Such as a path of several thousand bytes.
                self.unnameable += 1;
                (entry.status, entry.reason) = (Status::Failed, Some(error.to_string()));
                self.enter(entry)?;
                return Ok(None);
            }
        }
        self.members += 1;
        entry.offset = Some(self.pack.tar_bytes());
        Ok(Some(entry))
    }

    fn enter(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.entries += 1;
        let line = entry.to_line().map_err(|_| Stopped)?;
        self.lines.extend_from_slice(&line);
        if self.lines.len() < inventory::PART_BYTES {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        let name = inventory::part_name(self.parts);
        self.parts += 1;
        self.own_member(&name, &lines)
    }

    /// A part of the inventory: listed by the next part, the last one by the manifest.
    fn own_member(&mut self, name: &str, content: &[u8]) -> Result<(), Stopped> {
        let size = content.len() as u64;
        let last = name == inventory::NAME;
        let Some(mut entry) = self.begin(own(name.as_bytes(), "inventory"), Kind::File { size })?
        else {
            return Ok(());
        };
        self.write(content)?;
        self.write(padding(size))?;
        if last {
            return Ok(());
        }
        entry.sha256 = Some(Digest::of(content));
        entry.size = Some(size);
        self.enter(entry)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.pack.write(Stream::Evidence, bytes)
    }

    fn zeros(&mut self, mut count: u64, hasher: &mut Hasher) -> Result<(), Stopped> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while count > 0 {
            let now = ZEROS
                .get(..usize::try_from(count).unwrap_or(usize::MAX))
                .unwrap_or(&ZEROS);
            hasher.update(now);
            self.write(now)?;
            count -= now.len() as u64;
        }
        Ok(())
    }
}

/// A member of our own making.
pub fn own(name: &[u8], artifact: &'static str) -> Item {
    Item {
        name: name.into(),
        artifact,
        file_type: FileType::File,
        status: Status::Captured,
        reason: None,
        errno: None,
        metadata: None,
        read_at_ns: crate::host::clocks().utc_ns,
    }
}

fn entry(item: Item) -> Entry {
    let nanoseconds = item.read_at_ns.rem_euclid(1_000_000_000);
    Entry {
        name: Name::of(&item.name),
        artifact: item.artifact.to_owned(),
        file_type: item.file_type,
        status: item.status,
        reason: item.reason,
        errno: item.errno,
        offset: None,
        size: None,
        sha256: None,
        target: None,
        short_at: None,
        grew_to: None,
        metadata: item.metadata,
        read_at: format!(
            "{}.{nanoseconds:09}",
            item.read_at_ns.div_euclid(1_000_000_000)
        ),
    }
}

fn whole_seconds(time: &str) -> i64 {
    time.split('.')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0)
}

/// Half a SHA-256: long enough that no host can make two names collide.
fn fingerprint(name: &[u8]) -> [u8; 16] {
    Digest::of(name)
        .as_bytes()
        .first_chunk()
        .copied()
        .unwrap_or_default()
}
