//! An ELF core (`ET_CORE`) in bytes, as gdb, readelf and their like open it. Pure: nothing of the host is read here.

/// The processor of this program, which is the host's (`EM_*`, elf.h).
pub const MACHINE: u16 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};

const EHDR: u64 = 64;
const PHDR: u64 = 56;
const SHDR: u64 = 64;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More program headers than the field holds: their number stands in the first section header (`PN_XNUM`).
const PN_XNUM: u64 = 0xffff;

/// A part of the address space: its first bytes are in the core, the rest is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub address: u64,
    pub memory: u64,
    pub stored: u64,
    /// `PF_R` 4, `PF_W` 2, `PF_X` 1.
    pub flags: u32,
}

/// Numbers and bytes, one after the other, in the byte order of the machines that we run on.
#[derive(Default)]
pub struct Words(pub Vec<u8>);

impl Words {
    pub fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Zeros up to the next multiple of `unit`.
    pub fn align(&mut self, unit: usize) -> &mut Self {
        let length = self.0.len().next_multiple_of(unit);
        self.0.resize(length, 0);
        self
    }
}

/// The bytes of a core up to its content, which follows as the loads say, and the size of the whole.
pub fn head(notes: &[u8], loads: impl Iterator<Item = Load> + Clone, page: u64) -> (Vec<u8>, u64) {
    let headers = loads.clone().count() as u64 + 1;
    let extended = headers >= PN_XNUM;
    let sections = if extended { SHDR } else { 0 };
    let notes_at = EHDR + headers * PHDR + sections;
    let content_at = (notes_at + notes.len() as u64).next_multiple_of(page);

    let mut head = Words(Vec::with_capacity(
        usize::try_from(content_at).unwrap_or_default(),
    ));
    elf_header(&mut head, headers, extended);
    let note = Load {
        address: 0,
        memory: 0,
        stored: notes.len() as u64,
        flags: 0,
    };
    program_header(&mut head, PT_NOTE, notes_at, note, 4);
    let mut offset = content_at;
    for load in loads {
        program_header(&mut head, PT_LOAD, offset, load, page);
        offset += load.stored;
    }
    if extended {
        section_header(&mut head, headers);
    }
    head.bytes(notes);
    head.align(usize::try_from(page).unwrap_or(1));
    (head.0, offset)
}

fn elf_header(head: &mut Words, headers: u64, extended: bool) {
    head.bytes(b"\x7fELF\x02\x01\x01").bytes(&[0; 9]);
    head.u16(ET_CORE).u16(MACHINE).u32(1).u64(0).u64(EHDR);
    let (sections_at, sections) = match extended {
        true => (EHDR + headers * PHDR, 1),
        false => (0, 0),
    };
    head.u64(sections_at).u32(0).u16(EHDR as u16);
    let count = u16::try_from(headers.min(PN_XNUM)).unwrap_or(u16::MAX);
    head.u16(PHDR as u16).u16(count);
    head.u16(SHDR as u16).u16(sections).u16(0);
}

fn program_header(head: &mut Words, kind: u32, offset: u64, load: Load, align: u64) {
    head.u32(kind).u32(load.flags).u64(offset);
    head.u64(load.address).u64(0);
    head.u64(load.stored).u64(load.memory).u64(align);
}

/// The section header that only says how many program headers there are, in `sh_info`.
fn section_header(head: &mut Words, headers: u64) {
    head.u32(0).u32(0).u64(0).u64(0).u64(0).u64(0);
    head.u32(0).u32(u32::try_from(headers).unwrap_or(u32::MAX));
    head.u64(0).u64(0);
}

/// A note of the kernel's kind: owner `CORE`.
pub fn note(notes: &mut Words, kind: u32, content: &[u8]) {
    notes
        .u32(5)
        .u32(u32::try_from(content.len()).unwrap_or(u32::MAX))
        .u32(kind);
    notes.bytes(b"CORE\0\0\0\0").bytes(content).align(4);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(&bytes[at..at + size]);
        u64::from_le_bytes(raw)
    }

    /// Offset, address, size in the file, size in memory and flags of each `PT_LOAD`; what readelf does, in short.
    pub fn loads(core: &[u8]) -> Vec<(u64, u64, u64, u64, u64)> {
        let count = match number(core, 56, 2) {
            PN_XNUM => number(core, number(core, 40, 8) as usize + 44, 4),
            count => count,
        };
        let start = number(core, 32, 8) as usize;
        let headers = (0..count as usize).map(|n| start + n * PHDR as usize);
        let loads = headers.filter(|at| number(core, *at, 4) == 1);
        loads
            .map(|at| {
                let field = |offset| number(core, at + offset, 8);
                let flags = number(core, at + 4, 4);
                (field(8), field(16), field(32), field(40), flags)
            })
            .collect()
    }

    #[test]
    fn a_small_core_is_so_to_the_byte() {
        let load = Load {
            address: 0x1000,
            memory: 0x3000,
            stored: 0x1000,
            flags: 6,
        };
        let (core, size) = head(b"note", [load].into_iter(), 0x1000);
        assert_eq!((core.len(), size), (0x1000, 0x2000));
        let machine = format!("{:02x}00", MACHINE);
        let want = [
            "7f454c4602010100 0000000000000000",
            "0400",
            &machine,
            "01000000 0000000000000000 4000000000000000",
            "0000000000000000 00000000 4000 3800 0200 4000 0000 0000",
            "04000000 00000000 b000000000000000 0000000000000000 0000000000000000",
            "0400000000000000 0000000000000000 0400000000000000",
            "01000000 06000000 0010000000000000 0010000000000000 0000000000000000",
            "0010000000000000 0030000000000000 0010000000000000",
            "6e6f7465",
        ];
        let want = hex::decode(want.concat().replace(' ', "")).unwrap();
        assert_eq!(hex::encode(&core[..want.len()]), hex::encode(&want));
        assert!(core[want.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn more_headers_than_the_field_holds_are_counted_elsewhere() {
        for count in [65_533_u64, 65_534, 65_535, 100_000] {
            let all = (0..count).map(|n| Load {
                address: n << 13,
                memory: 0x1000,
                stored: 0x1000,
                flags: 4,
            });
            let (core, size) = head(b"", all, 0x1000);
            assert_eq!(
                number(&core, 56, 2) == PN_XNUM,
                count >= 65_534,
                "the note is a header too"
            );
            let loads = loads(&core);
            assert_eq!(loads.len() as u64, count);
            let last = loads[loads.len() - 1];
            assert_eq!(
                (last.1, last.0),
                ((count - 1) << 13, core.len() as u64 + ((count - 1) << 12))
            );
            assert_eq!(size, core.len() as u64 + (count << 12));
        }
    }

    #[test]
    fn notes_are_aligned() {
        let mut notes = Words::default();
        note(&mut notes, 6, &[1, 2, 3, 4, 5]);
        assert_eq!(
            notes.0,
            hex::decode("050000000500000006000000434f5245000000000102030405000000").unwrap()
        );
    }
}
