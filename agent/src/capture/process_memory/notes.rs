//! The notes of a core: who the process is, its threads, its auxiliary vector, its mapped files.
//!
//! Registers are known to a tracer alone, and tracing would stop the suspect's process. So they are zeros, but for a
//! thread that waits: of those the kernel tells program counter, stack pointer and the system call's arguments.

use super::core::{Words, note};
use super::maps::{Mapping, Maps};
use crate::capture::processes::parse::Stat;

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;

/// What the notes say of a process beside its mappings.
#[derive(Debug, Default)]
pub struct Person {
    pub stat: Stat,
    pub uid: u32,
    pub gid: u32,
    /// Signals that wait and that are blocked, of the main thread.
    pub pending: u64,
    pub blocked: u64,
    pub command_line: Vec<u8>,
    /// As `/proc/PID/auxv` has it.
    pub auxv: Vec<u8>,
    /// The main thread first.
    pub threads: Vec<Thread>,
    /// Clock ticks in a second.
    pub ticks: u64,
}

/// A thread, and what it waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    pub tid: i32,
    pub wait: Option<Wait>,
}

/// What `/proc/PID/task/TID/syscall` says of a thread that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// Number and arguments; without them it waits in no system call, such as in a page fault.
    pub call: Option<(u64, [u64; 6])>,
    pub stack: u64,
    pub program: u64,
}

impl Wait {
    /// Reads `NUMBER ARGUMENT*6 SP PC`, `-1 SP PC` or `running`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split_ascii_whitespace();
        let number: i64 = words.next()?.parse().ok()?;
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        let numbers: Vec<u64> = words.map(hex).collect::<Option<_>>()?;
        match (u64::try_from(number), numbers.as_slice()) {
            (Ok(number), [arguments @ .., stack, program]) => Some(Self {
                call: Some((number, arguments.try_into().ok()?)),
                stack: *stack,
                program: *program,
            }),
            (Err(_), [stack, program]) => Some(Self {
                call: None,
                stack: *stack,
                program: *program,
            }),
            _ => None,
        }
    }

    /// `user_regs_struct` of x86-64.
    #[cfg(not(target_arch = "aarch64"))]
    fn registers(&self) -> Registers {
        let (number, [di, si, dx, r10, r8, r9]) = self.call.unwrap_or_default();
        let mut registers = [0; REGISTERS];
        let known = [
            (7, r10),
            (8, r9),
            (9, r8),
            (12, dx),
            (13, si),
            (14, di),
            (15, number),
            (16, self.program),
            (19, self.stack),
        ];
        place(&mut registers, known);
        registers
    }

    /// `user_pt_regs` of AArch64.
    #[cfg(target_arch = "aarch64")]
    fn registers(&self) -> Registers {
        let (number, [x0, x1, x2, x3, x4, x5]) = self.call.unwrap_or_default();
        let mut registers = [0; REGISTERS];
        let known = [
            (0, x0),
            (1, x1),
            (2, x2),
            (3, x3),
            (4, x4),
            (5, x5),
            (8, number),
            (31, self.stack),
            (32, self.program),
        ];
        place(&mut registers, known);
        registers
    }
}

const REGISTERS: usize = if cfg!(target_arch = "aarch64") {
    34
} else {
    27
};
type Registers = [u64; REGISTERS];

fn place(registers: &mut Registers, known: [(usize, u64); 9]) {
    for (index, value) in known {
        if let Some(register) = registers.get_mut(index) {
            *register = value;
        }
    }
}

/// All notes.
pub fn notes(person: &Person, maps: &Maps, page: u64) -> Vec<u8> {
    let mut notes = Words::default();
    let mut threads = person.threads.iter();
    let main = threads.next().copied().unwrap_or(Thread {
        tid: person.stat.pid,
        wait: None,
    });
    // Debuggers take the first one for the thread to show.
    note(&mut notes, NT_PRSTATUS, &status(person, &main));
    note(&mut notes, NT_PRPSINFO, &info(person));
    note(&mut notes, NT_AUXV, &auxv(&person.auxv));
    note(&mut notes, NT_FILE, &files(maps, page));
    for thread in threads {
        note(&mut notes, NT_PRSTATUS, &status(person, thread));
    }
    notes.0
}

/// `elf_prstatus`.
fn status(person: &Person, thread: &Thread) -> Vec<u8> {
    let stat = &person.stat;
    let is_main = thread.tid == stat.pid;
    let of_main = |number: u64| if is_main { number } else { 0 };
    let mut status = Words::default();
    status.u32(0).u32(0).u32(0).u16(0).align(8);
    status
        .u64(of_main(person.pending))
        .u64(of_main(person.blocked));
    ids(&mut status, stat, thread.tid);
    for ticks in [of_main(stat.user_ticks), of_main(stat.system_ticks), 0, 0] {
        let second = person.ticks.max(1);
        status.u64(ticks / second);
        status.u64(ticks % second * 1_000_000 / second);
    }
    let registers = thread.wait.map_or([0; REGISTERS], |wait| wait.registers());
    for register in registers {
        status.u64(register);
    }
    // No floating point registers.
    status.u32(0).align(8);
    status.0
}

/// `elf_prpsinfo`.
fn info(person: &Person) -> Vec<u8> {
    let stat = &person.stat;
    let letter = u8::try_from(stat.state).unwrap_or(b'?');
    let number = b"RSDTZW".iter().position(|known| *known == letter);
    let number = number.and_then(|number| u8::try_from(number).ok());
    let mut info = Words::default();
    info.bytes(&[number.unwrap_or(0), letter, u8::from(stat.state == 'Z'), 0]);
    info.align(8)
        .u64(stat.flags)
        .u32(person.uid)
        .u32(person.gid);
    ids(&mut info, stat, stat.pid);
    field::<16>(&mut info, stat.comm.as_bytes());
    let spaced: Vec<u8> = person
        .command_line
        .iter()
        .map(|byte| if *byte == 0 { b' ' } else { *byte })
        .collect();
    field::<80>(&mut info, spaced.trim_ascii_end());
    info.0
}

fn ids(words: &mut Words, stat: &Stat, pid: i32) {
    for id in [pid, stat.ppid, stat.pgrp, stat.session] {
        words.bytes(&id.to_le_bytes());
    }
}

/// A text in a field of `N` bytes, which ends with NUL.
fn field<const N: usize>(words: &mut Words, text: &[u8]) {
    let text = text.get(..N - 1).unwrap_or(text);
    words.bytes(text).bytes(&vec![0; N - text.len()]);
}

/// The auxiliary vector. That of a 32-bit program, whose pairs are half as wide, is made wide.
fn auxv(raw: &[u8]) -> Vec<u8> {
    let (wide, _) = raw.as_chunks::<16>();
    let known = |pair: &&[u8; 16]| pair.get(4..8) == Some(&[0; 4]);
    if wide.iter().all(|pair| known(&pair)) {
        return raw.to_vec();
    }
    let (narrow, _) = raw.as_chunks::<4>();
    let wide = narrow
        .iter()
        .flat_map(|word| u64::from(u32::from_le_bytes(*word)).to_le_bytes());
    wide.collect()
}

/// `NT_FILE`: which parts of which files are mapped where.
fn files(maps: &Maps, page: u64) -> Vec<u8> {
    let is_file = |mapping: &&Mapping| mapping.inode != 0 && mapping.name.is_some();
    let mapped = || maps.mappings.iter().filter(is_file);
    let mut files = Words::default();
    files.u64(mapped().count() as u64).u64(page);
    for mapping in mapped() {
        files
            .u64(mapping.start)
            .u64(mapping.end)
            .u64(mapping.offset / page);
    }
    for mapping in mapped() {
        files.bytes(&newlines(maps.names.of(mapping))).bytes(&[0]);
    }
    files.0
}

/// The one character that stands escaped in `maps`, and is not in a core.
fn newlines(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        (plain, rest) = match rest.strip_prefix(b"\\012") {
            Some(after) => (push(plain, b'\n'), after),
            None => (push(plain, *first), tail),
        };
    }
    plain
}

fn push(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::maps::Parser;
    use super::*;

    fn person() -> Person {
        Person {
            stat: Stat {
                pid: 7,
                ppid: 1,
                pgrp: 7,
                session: 6,
                comm: "a-name-that-is-too-long".to_owned(),
                state: 'S',
                user_ticks: 150,
                ..Stat::default()
            },
            uid: 1000,
            gid: 100,
            blocked: 2,
            command_line: b"sleep\x0060\0".to_vec(),
            auxv: [6_u64, 4096, 0, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
            threads: vec![
                Thread {
                    tid: 7,
                    wait: Wait::parse(b"230 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffc 0x7f00\n"),
                },
                Thread { tid: 9, wait: None },
            ],
            ticks: 100,
            ..Person::default()
        }
    }

    /// Kind and content of each note.
    fn read(mut notes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut read = Vec::new();
        while !notes.is_empty() {
            let word = |at: usize| u32::from_le_bytes(notes[at..at + 4].try_into().unwrap());
            assert_eq!((word(0), &notes[12..20]), (5, b"CORE\0\0\0\0".as_slice()));
            let length = word(4) as usize;
            read.push((word(8), notes[20..20 + length].to_vec()));
            notes = &notes[20 + length.next_multiple_of(4)..];
        }
        read
    }

    #[test]
    fn notes_are_those_of_the_kernel_in_kind_size_and_place() {
        let mut parser = Parser::default();
        parser.feed(b"1000-3000 r-xp 2000 1:2 5 /a\\012b\n3000-4000 rw-p 0 0:0 0 [heap]\n");
        let notes = read(&notes(&person(), &parser.end(), 4096));
        let kinds: Vec<u32> = notes.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(
            kinds,
            [NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_FILE, NT_PRSTATUS]
        );
        let (status, other) = (&notes[0].1, &notes[4].1);
        assert_eq!(status.len(), 112 + REGISTERS * 8 + 8);
        let id = |status: &[u8]| i32::from_le_bytes(status[32..36].try_into().unwrap());
        assert_eq!((id(status), id(other)), (7, 9));
        let long = |at: usize| u64::from_le_bytes(status[at..at + 8].try_into().unwrap());
        assert_eq!((long(24), long(48), long(56)), (2, 1, 500_000));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(
            (long(112 + 15 * 8), long(112 + 16 * 8), long(112 + 19 * 8)),
            (230, 0x7f00, 0x7ffc)
        );
        assert!(other[112..].iter().all(|byte| *byte == 0));
        let info = &notes[1].1;
        assert_eq!((info.len(), &info[..4]), (136, [1, b'S', 0, 0].as_slice()));
        assert_eq!(&info[40..56], b"a-name-that-is-\0");
        assert_eq!(&info[56..65], b"sleep 60\0");
        let mut files = Words::default();
        files.u64(1).u64(4096).u64(0x1000).u64(0x3000).u64(2);
        files.bytes(b"/a\nb\0");
        assert_eq!(notes[3].1, files.0);
    }

    #[test]
    fn waits_are_read_and_what_runs_has_none() {
        let wait = Wait::parse(b"-1 0x7ffc 0x7f00\n").unwrap();
        assert_eq!(
            (wait.call, wait.stack, wait.program),
            (None, 0x7ffc, 0x7f00)
        );
        for text in [&b"running\n"[..], b"", b"1 0x2\n", b"-1\n", b"0 x y z\n"] {
            assert_eq!(Wait::parse(text), None);
        }
    }

    #[test]
    fn a_narrow_vector_is_made_wide() {
        let narrow: Vec<u8> = [6_u32, 4096, 9, 0x8048_0000, 0, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let wide: Vec<u8> = [6_u64, 4096, 9, 0x8048_0000, 0, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        assert_eq!(auxv(&narrow), wide);
        assert_eq!(auxv(&wide), wide);
        assert!(auxv(&[]).is_empty());
    }
}
