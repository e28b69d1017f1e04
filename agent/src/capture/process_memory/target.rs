//! A process whose memory is read: its files held open, so that it stays the same one.
//!
//! A directory of `/proc` stays its process's, whoever has the number later, and an open `mem` stays the memory that it
//! was: a process that ends, or runs another program, answers with nothing. What is opened one after the other belongs
//! together when the auxiliary vector, which has random addresses in it, is the same before and after.

use evidence::digest::{Digest, Hasher};

use super::maps::{Maps, Parser};
use super::notes::{Person, Thread, Wait};
use crate::capture::Halt;
use crate::capture::processes::parse::{self, Stat};
use crate::host::{Folder, Host, HostError, HostFile, SMALL};

/// Bytes of `smaps` that are asked for in one go: the kernel walks the pages of each mapping for it.
const SMAPS_PIECE: usize = 16 << 10;
/// Most threads that have a note, and those whose texts are read in one go.
const MOST_THREADS: usize = 4096;
const BATCH: usize = 64;
const SMALL_TEXT: usize = 4096;

/// Why a process's memory is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// It has no memory of its own.
    KernelThread,
    /// It has ended, and its parent did not ask.
    Zombie,
    /// It is not there, or went.
    Gone,
    /// It is a thread of this process.
    Thread(i32),
    /// The kernel does not say which pages may be read without effects.
    NoFlags,
    Host(HostError),
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        match error.is_gone() {
            true => Self::Gone,
            false => Self::Host(error),
        }
    }
}

/// A process, held.
pub struct Target {
    pub folder: Folder,
    pub stat: Stat,
    pub maps: Maps,
    pub pagemap: HostFile,
    pub memory: HostFile,
    auxv: Vec<u8>,
}

/// What holds a process, before anything of its memory is opened.
///
/// # Errors
/// When it is none that has memory.
pub fn find(host: &Host, pid: i32) -> Result<(Folder, Stat), Refusal> {
    let folder = host.process(pid)?;
    let stat = parse::stat(&folder.read("stat", SMALL)?.bytes).ok_or(Refusal::Gone)?;
    if stat.is_kernel_thread() {
        return Err(Refusal::KernelThread);
    }
    let status = parse::keys_and_values(&folder.read("status", SMALL)?.bytes);
    let group = status.get("Tgid").and_then(|group| group.parse().ok());
    match group {
        Some(group) if group != pid => return Err(Refusal::Thread(group)),
        _ => {}
    }
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return Err(Refusal::Zombie);
    }
    Ok((folder, stat))
}

impl Target {
    /// Takes hold of a process that was found.
    ///
    /// # Errors
    /// When its memory can not be had, inside; when the artifact has to end, outside.
    pub fn open(
        folder: Folder,
        stat: Stat,
        check: &dyn Fn() -> Result<(), Halt>,
    ) -> Result<Result<Self, Refusal>, Halt> {
        // A process that runs one program after the other is not waited for without end.
        for _ in 0..3 {
            match Self::try_open(&folder, &stat, check)? {
                Ok(Some(target)) => return Ok(Ok(target)),
                Ok(None) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Err(HostError::Changed.into()))
    }

    fn try_open(
        folder: &Folder,
        stat: &Stat,
        check: &dyn Fn() -> Result<(), Halt>,
    ) -> Result<Result<Option<Self>, Refusal>, Halt> {
        let open = || -> Result<_, Refusal> {
            let auxv = folder.read("auxv", SMALL)?.bytes;
            let smaps = folder.open("smaps")?;
            Ok((auxv, smaps, folder.open("pagemap")?, folder.open("mem")?))
        };
        let (auxv, smaps, pagemap, memory) = match open() {
            Ok(open) => open,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let maps = match parsed(smaps, SMAPS_PIECE, check)? {
            Ok(maps) => maps,
            Err(error) => return Ok(Err(error.into())),
        };
        match folder.read("auxv", SMALL) {
            Ok(after) if after.bytes == auxv => {}
            Ok(_) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error.into())),
        }
        if maps.mappings.is_empty() {
            return Ok(Err(Refusal::Gone));
        }
        if !maps
            .mappings
            .iter()
            .all(|mapping| mapping.has_flags || is_gate(mapping.start))
        {
            return Ok(Err(Refusal::NoFlags));
        }
        Ok(Ok(Some(Self {
            folder: folder.clone(),
            stat: stat.clone(),
            maps,
            pagemap,
            memory,
            auxv,
        })))
    }

    /// Who it is, for the notes.
    pub fn person(&self, ticks: i64) -> Person {
        let text = |name: &str| {
            let content = self.folder.read(name, SMALL);
            content.map(|content| content.bytes).unwrap_or_default()
        };
        let status = parse::keys_and_values(&text("status"));
        let first = |key: &str| {
            let value = status.get(key)?.split_ascii_whitespace().next()?;
            value.parse().ok()
        };
        let signals = |key: &str| u64::from_str_radix(status.get(key)?, 16).ok();
        Person {
            stat: self.stat.clone(),
            uid: first("Uid").unwrap_or_default(),
            gid: first("Gid").unwrap_or_default(),
            pending: signals("SigPnd").unwrap_or_default(),
            blocked: signals("SigBlk").unwrap_or_default(),
            command_line: text("cmdline"),
            auxv: self.auxv.clone(),
            threads: self.threads(),
            ticks: u64::try_from(ticks).unwrap_or(100),
        }
    }

    fn threads(&self) -> Vec<Thread> {
        let listed = self.folder.list("task").unwrap_or_default();
        let mut tids: Vec<i32> = listed
            .iter()
            .filter_map(|entry| entry.name.to_str()?.parse().ok())
            .collect();
        // The main thread's number is the process's.
        tids.sort_by_key(|tid| (*tid != self.stat.pid, *tid));
        tids.truncate(MOST_THREADS);
        let mut threads = Vec::with_capacity(tids.len());
        for batch in tids.chunks(BATCH) {
            let names = batch.iter().map(|tid| format!("task/{tid}/syscall").into());
            let texts = self.folder.read_all(names.collect(), SMALL_TEXT);
            let mut texts = texts.unwrap_or_default().into_iter();
            threads.extend(batch.iter().map(|tid| {
                Thread {
                    tid: *tid,
                    wait: texts
                        .next()
                        .and_then(|(_, text)| Wait::parse(&text.ok()?.bytes)),
                }
            }));
        }
        threads
    }

    /// What it looks like from outside, to be compared later: a digest of `maps`, and whether it is still there.
    pub fn look(&self) -> Look {
        let still = self.folder.read("stat", SMALL);
        let still = still.ok().and_then(|content| parse::stat(&content.bytes));
        let same = still.is_some_and(|now| now.start_ticks == self.stat.start_ticks);
        let auxv = self.folder.read("auxv", SMALL);
        Look {
            is_there: same && auxv.is_ok_and(|content| content.bytes == self.auxv),
            maps: self.digest(),
        }
    }

    fn digest(&self) -> Option<Digest> {
        let mut maps = self.folder.open("maps").ok()?;
        let (mut hasher, mut buffer) = (Hasher::default(), Vec::new());
        loop {
            buffer = maps.read(buffer, SMAPS_PIECE).ok()?;
            match buffer.is_empty() {
                true => return Some(hasher.finish()),
                false => hasher.update(&buffer),
            }
        }
    }
}

/// How a process looked.
#[derive(PartialEq, Eq)]
pub struct Look {
    /// It runs, and the same program.
    pub is_there: bool,
    pub maps: Option<Digest>,
}

/// The mappings in `file`, which is `maps` or `smaps`.
///
/// # Errors
/// As the kernel says, inside; when the artifact has to end, outside.
pub fn parsed(
    mut file: HostFile,
    piece: usize,
    check: &dyn Fn() -> Result<(), Halt>,
) -> Result<Result<Maps, HostError>, Halt> {
    let (mut parser, mut buffer) = (Parser::default(), Vec::new());
    loop {
        check()?;
        buffer = match file.read(buffer, piece) {
            Ok(bytes) if bytes.is_empty() => return Ok(Ok(parser.end())),
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        parser.feed(&buffer);
    }
}

/// The page of x86-64 above all processes, which has no flags.
fn is_gate(start: u64) -> bool {
    start >= 1 << 63
}
