//! Members of the evidence tar: plain GNU format (`ustar  \0`), long names as `L` and `K`, nothing else.
//!
//! Written and read strictly. There is no PAX header: readers of PAX disagree on hostile names, and what tar can not say
//! stands in the inventory. Fields are coded by the `tar` crate.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Tar's unit of length, in bytes.
pub const BLOCK: usize = 512;
/// What ends an archive: two blocks of zeros, and nothing after them.
pub const END_OF_ARCHIVE: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Longest name of a member, in bytes: Linux's PATH_MAX and our own prefixes.
pub const MAX_NAME: usize = 8192;
/// Most parts of a name, so that no reader has to make more folders than that, one in the other.
pub const MAX_PARTS: usize = 256;
/// Name under which GNU tar stores a long name or link target.
const LONG: &[u8] = b"././@LongLink";

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with this many bytes.
    File { size: u64 },
    /// A symbolic link, stored and never followed.
    Symlink { target: Vec<u8> },
}

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, as in `st_mode & 07777`.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Modification time in seconds since the epoch; earlier times are stored as 0.
    pub mtime: u64,
}

/// What is wrong with a tar.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("the tar can not be read on at byte {at}: {source}")]
    Io { at: u64, source: io::Error },
    #[error("the tar is cut at byte {at}")]
    Cut { at: u64 },
    #[error("the header at byte {at} is not one that Exhibit writes: {why}")]
    Header { at: u64, why: &'static str },
    #[error("the member name at byte {at} is unsafe: {why}")]
    Name { at: u64, why: &'static str },
    #[error("there is data after the end of the archive at byte {at}")]
    AfterEnd { at: u64 },
}

/// Zeros that fill the last block of `size` bytes.
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    ZEROS.get(..(BLOCK - rest) % BLOCK).unwrap_or_default()
}

impl Member {
    /// A regular file of our own, such as a table: owner root, mode 0600.
    pub fn own(name: &str, size: u64, mtime: u64) -> Self {
        Self {
            name: name.into(),
            kind: Kind::File { size },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime,
        }
    }

    /// Bytes of content that follow the header, without padding.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            Kind::Symlink { .. } => 0,
        }
    }

    /// The header blocks, with those of long names before.
    ///
    /// # Errors
    /// When the name is one that the reader would refuse.
    pub fn to_blocks(&self) -> Result<Vec<u8>, TarError> {
        check_name(&self.name).map_err(|why| TarError::Name { at: 0, why })?;
        let mut blocks = Vec::with_capacity(BLOCK);
        let mut header = Header::new_gnu();
        header.set_mode(self.mode & 0o7777);
        header.set_uid(self.uid);
        header.set_gid(self.gid);
        header.set_mtime(self.mtime);
        header.set_size(self.size());
        header.set_entry_type(EntryType::Regular);
        if let Kind::Symlink { target } = &self.kind {
            header.set_entry_type(EntryType::Symlink);
            put(
                &mut header.as_old_mut().linkname,
                target,
                EntryType::GNULongLink,
                &mut blocks,
            );
        }
        put(
            &mut header.as_old_mut().name,
            &self.name,
            EntryType::GNULongName,
            &mut blocks,
        );
        header.set_cksum();
        blocks.extend_from_slice(header.as_bytes());
        Ok(blocks)
    }
}

/// Puts `value` into a header's field, or into a long-name member before it.
fn put(field: &mut [u8; 100], value: &[u8], long: EntryType, blocks: &mut Vec<u8>) {
    let room = field.len();
    let kept = value.get(..room.min(value.len())).unwrap_or_default();
    field
        .iter_mut()
        .zip(kept)
        .for_each(|(slot, byte)| *slot = *byte);
    if value.len() <= room {
        return;
    }
    let mut header = Header::new_gnu();
    let size = value.len() as u64 + 1;
    header
        .as_old_mut()
        .name
        .iter_mut()
        .zip(LONG)
        .for_each(|(slot, byte)| *slot = *byte);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(long);
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    blocks.extend_from_slice(value);
    blocks.push(0);
    blocks.extend_from_slice(padding(size));
}

fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME {
        return Err("it is too long");
    }
    if name.split(|b| *b == b'/').count() > MAX_PARTS {
        return Err("it has too many parts");
    }
    if name.contains(&0) {
        return Err("it contains a NUL");
    }
    if name.starts_with(b"/") {
        return Err("it is absolute");
    }
    if name
        .split(|b| *b == b'/')
        .any(|part| matches!(part, b"" | b"." | b".."))
    {
        return Err("it has an empty, `.` or `..` part");
    }
    Ok(())
}

/// A member read back.
#[derive(Debug)]
pub struct Entry {
    pub member: Member,
    /// Where the content starts in the tar, in bytes.
    pub offset: u64,
}

/// The header blocks of a member, as read so far.
#[derive(Default)]
struct Head {
    /// All of them, to be compared with what the writer would have written.
    blocks: Vec<u8>,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

/// Reads a tar strictly and without seeking.
pub struct Reader<R> {
    inner: R,
    at: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// A reader of the tar in `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            at: 0,
            ended: false,
        }
    }

    /// Whether the end-of-archive blocks were read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The next member, or `None` after the end of the archive. Its content must be read before the next call.
    ///
    /// # Errors
    /// [`TarError::Cut`] when the stream ends first: a cut archive never looks like a whole one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut head = Head::default();
        loop {
            let at = self.at;
            let block = self.block()?;
            if block == [0; BLOCK] {
                if !head.blocks.is_empty() {
                    return Err(TarError::Header {
                        at,
                        why: "a long name without a member",
                    });
                }
                return self.end().map(|()| None);
            }
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&block);
            head.blocks.extend_from_slice(&block);
            let slot = match check_header(&header).map_err(|why| TarError::Header { at, why })? {
                EntryType::GNULongName => &mut head.long_name,
                EntryType::GNULongLink => &mut head.long_target,
                _ => return self.entry(&header, at, head).map(Some),
            };
            if slot.is_some() {
                return Err(TarError::Header {
                    at,
                    why: "two long names for one member",
                });
            }
            *slot = Some(self.long_value(&header, at, &mut head.blocks)?);
        }
    }

    fn entry(&self, header: &Header, at: u64, head: Head) -> Result<Entry, TarError> {
        let bad = |why| TarError::Header { at, why };
        let number = |field: io::Result<u64>| field.map_err(|_| bad("a number can not be read"));
        let name = head
            .long_name
            .unwrap_or_else(|| text(&header.as_old().name));
        check_name(&name).map_err(|why| TarError::Name { at, why })?;
        let size = number(header.entry_size())?;
        let kind = if header.entry_type() == EntryType::Symlink {
            if size != 0 {
                return Err(bad("a symbolic link with content"));
            }
            Kind::Symlink {
                target: head
                    .long_target
                    .unwrap_or_else(|| text(&header.as_old().linkname)),
            }
        } else {
            Kind::File { size }
        };
        let mode = header.mode().map_err(|_| bad("a number can not be read"))?;
        let (uid, gid, mtime) = (
            number(header.uid())?,
            number(header.gid())?,
            number(header.mtime())?,
        );
        let member = Member {
            name,
            kind,
            mode,
            uid,
            gid,
            mtime,
        };
        // One text for one member: whatever readers of tar disagree on can not be in it.
        if member.to_blocks()? != head.blocks {
            return Err(bad("not in the only form"));
        }
        Ok(Entry {
            member,
            offset: self.at,
        })
    }

    /// Hands the content of `entry` to `take` in pieces, and reads its padding.
    pub fn content(&mut self, entry: &Entry, mut take: impl FnMut(&[u8])) -> Result<(), TarError> {
        let size = entry.member.size();
        let mut left = size;
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let piece = buffer.get_mut(..want).unwrap_or_default();
            self.fill(piece)?;
            take(piece);
            left -= want as u64;
        }
        let at = self.at;
        let mut pad = [0; BLOCK];
        let pad = pad.get_mut(..padding(size).len()).unwrap_or_default();
        self.fill(pad)?;
        if pad.iter().any(|byte| *byte != 0) {
            return Err(TarError::Header {
                at,
                why: "padding that is not zero",
            });
        }
        Ok(())
    }

    fn long_value(
        &mut self,
        header: &Header,
        at: u64,
        blocks: &mut Vec<u8>,
    ) -> Result<Vec<u8>, TarError> {
        let bad = |why| TarError::Header { at, why };
        let size = header
            .entry_size()
            .ok()
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(usize::MAX);
        if size > MAX_NAME + 1 || size == 0 {
            return Err(bad("a long name of a length that is never written"));
        }
        let mut value = vec![0; size + padding(size as u64).len()];
        self.fill(&mut value)?;
        blocks.extend_from_slice(&value);
        value.truncate(size - 1);
        Ok(value)
    }

    /// Reads the second block of the end, and makes sure that nothing comes after it.
    fn end(&mut self) -> Result<(), TarError> {
        let at = self.at;
        if self.block()? != [0; BLOCK] {
            return Err(TarError::Header {
                at,
                why: "a single block of zeros",
            });
        }
        let at = self.at;
        let mut more = [0];
        match self.inner.read(&mut more) {
            Ok(0) => {
                self.ended = true;
                Ok(())
            }
            Ok(_) => Err(TarError::AfterEnd { at }),
            Err(source) => Err(TarError::Io { at, source }),
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let at = self.at;
        self.inner
            .read_exact(buffer)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => TarError::Cut { at },
                _ => TarError::Io { at, source },
            })?;
        self.at += buffer.len() as u64;
        Ok(())
    }
}

/// The kind of a header that our writer could have written.
fn check_header(header: &Header) -> Result<EntryType, &'static str> {
    let Some(gnu) = header.as_gnu() else {
        return Err("not GNU format");
    };
    let sum: u32 = header
        .as_bytes()
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum();
    if header.cksum().ok() != Some(sum) {
        return Err("wrong checksum");
    }
    match header.entry_type() {
        kind @ (EntryType::Regular | EntryType::Symlink) => Ok(kind),
        kind @ (EntryType::GNULongName | EntryType::GNULongLink) if text(&gnu.name) == LONG => {
            Ok(kind)
        }
        EntryType::XHeader | EntryType::XGlobalHeader => Err("a PAX header"),
        _ => Err("a member of another kind than file, link or long name"),
    }
}

fn text(field: &[u8]) -> Vec<u8> {
    field
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(Member, &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (member, content) in members {
            tar.extend(member.to_blocks().unwrap());
            tar.extend_from_slice(content);
            tar.extend_from_slice(padding(content.len() as u64));
        }
        tar.extend_from_slice(&END_OF_ARCHIVE);
        tar
    }

    fn read(tar: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
        let mut reader = Reader::new(tar);
        let mut members = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            reader.content(&entry, |piece| content.extend_from_slice(piece))?;
            members.push((entry.member, content));
        }
        Ok(members)
    }

    fn odd_members() -> Vec<(Member, &'static [u8])> {
        let file = |name: &[u8], size| Member {
            name: name.into(),
            ..Member::own("x", size, 5)
        };
        let link = |name: &[u8], target: &[u8]| Member {
            kind: Kind::Symlink {
                target: target.into(),
            },
            ..file(name, 0)
        };
        vec![
            (file(b"uac.log", 5), b"hello"),
            (file(&[b'n'; 100], 0), b""),
            (file(&[b'n'; 101], 512), &[7; 512]),
            (file(b"[root]/tmp/\xff\n\x1b[31m|", 1), b"x"),
            (link(b"[root]/proc/1/exe", b"/usr/sbin/init (deleted)"), b""),
            (link(&[b'l'; 1200], &[b't'; 1300]), b""),
            (
                Member {
                    uid: 4_294_967_294,
                    gid: 4_294_967_295,
                    mtime: 1 << 40,
                    ..file(b"big", 0)
                },
                b"",
            ),
        ]
    }

    #[test]
    fn odd_names_links_and_numbers_read_back() {
        let members = odd_members();
        let got = read(&archive(&members)).unwrap();
        for ((want, content), (member, bytes)) in members.iter().zip(&got) {
            assert_eq!((want, *content), (member, bytes.as_slice()));
        }
        assert_eq!(got.len(), members.len());
    }

    #[test]
    fn a_cut_at_any_block_is_noticed() {
        let tar = archive(&odd_members());
        for cut in (0..tar.len()).step_by(BLOCK).chain([tar.len() - 1]) {
            assert!(
                matches!(read(&tar[..cut]), Err(TarError::Cut { .. })),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn what_the_writer_never_emits_is_refused() {
        let data_after = [archive(&[]), vec![0; BLOCK]].concat();
        assert!(matches!(
            read(&data_after),
            Err(TarError::AfterEnd { at: 1024 })
        ));

        for (kind, why) in [
            (b'x', "a PAX header"),
            (b'g', "a PAX header"),
            (b'1', "another kind"),
            (b'3', "another kind"),
            (b'5', "another kind"),
        ] {
            let mut tar = archive(&[(Member::own("a", 0, 0), b"")]);
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&tar[..BLOCK]);
            header.as_old_mut().linkflag = [kind];
            header.set_cksum();
            tar[..BLOCK].copy_from_slice(header.as_bytes());
            let error = read(&tar).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_second_form_of_the_same_member_is_refused() {
        let plain = archive(&[(Member::own("a", 0, 0), b"")]);
        let long = archive(&[(Member::own(&"a".repeat(101), 0, 0), b"")]);
        // A byte of a field that the writer leaves alone, in the header that starts at the second number.
        for (tar, header, at) in [
            (&plain, 0, 50),   // name, after its NUL
            (&plain, 0, 100),  // mode, with another digit than permissions have
            (&plain, 0, 135),  // size, not ended by NUL
            (&plain, 0, 160),  // target of a file
            (&plain, 0, 265),  // user name
            (&plain, 0, 345),  // access time
            (&plain, 0, 482),  // GNU's isextended
            (&plain, 0, 511),  // the rest
            (&long, 0, 265),   // user name of the long name
            (&long, 1024, 99), // the name that the long one replaces
        ] {
            let mut tar = tar.clone();
            tar[header + at] = b'7';
            let mut block = Header::new_old();
            block
                .as_mut_bytes()
                .copy_from_slice(&tar[header..header + BLOCK]);
            block.set_cksum();
            tar[header..header + BLOCK].copy_from_slice(block.as_bytes());
            assert!(matches!(read(&tar), Err(TarError::Header { .. })), "{at}");
        }
        for at in [BLOCK + 50, BLOCK + 101, 2 * BLOCK - 1] {
            let mut tar = long.clone();
            tar[at] ^= b'a';
            assert!(read(&tar).is_err(), "{at}");
        }
    }

    #[test]
    fn unsafe_names_are_neither_written_nor_read() {
        let deep = ["d"; MAX_PARTS + 1].join("/");
        assert!(Member::own(&deep, 0, 0).to_blocks().is_err());
        assert!(Member::own(&deep[2..], 0, 0).to_blocks().is_ok());
        for name in ["/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", ""] {
            assert!(
                matches!(
                    Member::own(name, 0, 0).to_blocks(),
                    Err(TarError::Name { .. })
                ),
                "{name}"
            );
            let mut tar = archive(&[(Member::own("placeholder", 0, 0), b"")]);
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&tar[..BLOCK]);
            header.as_old_mut().name = [0; 100];
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar[..BLOCK].copy_from_slice(header.as_bytes());
            assert!(matches!(read(&tar), Err(TarError::Name { .. })), "{name}");
        }
    }
}
