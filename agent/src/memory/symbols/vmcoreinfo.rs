//! VMCOREINFO: what a kernel tells those who read its memory, as lines of `KEY=value`.
//!
//! `kernel/vmcore_info.c` (`kernel/crash_core.c` before 6.9) writes the lines, `include/linux/vmcore_info.h` has their
//! forms. They stand in a note of `/proc/kcore` and of every crash dump.

use std::collections::BTreeMap;

/// Largest text, in bytes. `VMCOREINFO_BYTES` is one page, and pages have 64 KiB at most.
const MAX_BYTES: usize = 64 << 10;

/// Why a text is no VMCOREINFO.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmcoreinfoError {
    #[error("VMCOREINFO of {0} bytes: a kernel writes {MAX_BYTES} at most")]
    TooLarge(usize),
    #[error("no VMCOREINFO: there is no line OSRELEASE=")]
    NoRelease,
}

/// The lines, and their values as they were.
#[derive(Debug, PartialEq, Eq)]
pub struct Vmcoreinfo<'a> {
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Vmcoreinfo<'a> {
    /// Reads the text of the note; zeros behind it are padding. Lines that are no `KEY=value`, and the second of two
    /// with one key, are passed over.
    ///
    /// # Errors
    /// [`VmcoreinfoError`] for what no kernel wrote.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, VmcoreinfoError> {
        if bytes.len() > MAX_BYTES {
            return Err(VmcoreinfoError::TooLarge(bytes.len()));
        }
        let mut values = BTreeMap::new();
        for line in bytes.split(|byte| matches!(byte, b'\n' | 0)) {
            let pair = std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.split_once('='));
            if let Some((key, value)) = pair {
                values.entry(key).or_insert(value);
            }
        }
        let info = Self { values };
        match info.release() {
            Some(_) => Ok(info),
            None => Err(VmcoreinfoError::NoRelease),
        }
    }

    /// The release, as `uname -r` shows it.
    pub fn release(&self) -> Option<&'a str> {
        self.value("OSRELEASE")
    }

    /// The linker's build id, in hex: since 5.9.
    pub fn build_id(&self) -> Option<&'a str> {
        self.value("BUILD-ID")
    }

    /// How far this boot moved the kernel from the addresses it was linked for, in bytes (KASLR): since 3.14.
    pub fn kernel_offset(&self) -> Option<u64> {
        hex(self.value("KERNELOFFSET")?)
    }

    /// Physical address of the kernel's mapping less its virtual one, on x86: since 4.10.
    pub fn phys_base(&self) -> Option<i128> {
        self.number("phys_base")
    }

    /// Size of a page, in bytes.
    pub fn page_size(&self) -> Option<u64> {
        self.value("PAGESIZE")?.parse().ok()
    }

    /// `SYMBOL(name)`: an address, where this boot has it. For a few names it is the address that a variable holds.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        hex(self.of("SYMBOL", name)?)
    }

    /// `SIZE(name)`: of a type, in bytes.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.of("SIZE", name)?.parse().ok()
    }

    /// `OFFSET(type.member)`, in bytes.
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.of("OFFSET", name)?.parse().ok()
    }

    /// `LENGTH(name)`: of an array, in elements.
    pub fn length(&self, name: &str) -> Option<u64> {
        self.of("LENGTH", name)?.parse().ok()
    }

    /// `NUMBER(name)`: decimal with a sign, or hexadecimal behind `0x`, as arm64 has some.
    pub fn number(&self, name: &str) -> Option<i128> {
        let value = self.of("NUMBER", name)?;
        match value.strip_prefix("0x") {
            Some(digits) => hex(digits).map(i128::from),
            None => value.parse().ok(),
        }
    }

    /// Every `SYMBOL(name)` that has an address, by name.
    pub fn symbols(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.values.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("SYMBOL(")?.strip_suffix(')')?;
            Some((name, hex(value)?))
        })
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    fn of(&self, kind: &str, name: &str) -> Option<&'a str> {
        self.value(&format!("{kind}({name})"))
    }
}

/// Digits alone: `from_str_radix` would take a sign.
fn hex(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a guest with Debian's 6.1.0-56-amd64 and KASLR, and one line of arm64.
    const TEXT: &[u8] = b"OSRELEASE=6.1.0-56-amd64\n\
        BUILD-ID=eb4fbcd037e7253717950bf2b93bd5566f47c56f\n\
        PAGESIZE=4096\n\
        SYMBOL(_stext)=ffffffffbba00000\n\
        SYMBOL(mem_section)=ffff8d899ffd5000\n\
        LENGTH(mem_section)=4096\n\
        SIZE(page)=64\n\
        OFFSET(page._refcount)=52\n\
        NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n\
        NUMBER(phys_base)=-845152256\n\
        NUMBER(kimage_voffset)=0xffff7fffc0000000\n\
        KERNELOFFSET=3aa00000\n\0\0\0";

    #[test]
    fn values_of_a_real_kernel() {
        let info = Vmcoreinfo::parse(TEXT).unwrap();
        assert_eq!(info.release(), Some("6.1.0-56-amd64"));
        assert_eq!(
            info.build_id(),
            Some("eb4fbcd037e7253717950bf2b93bd5566f47c56f")
        );
        assert_eq!(info.page_size(), Some(4096));
        assert_eq!(info.kernel_offset(), Some(0x3aa0_0000));
        assert_eq!(info.phys_base(), Some(-845_152_256));
        assert_eq!(info.symbol("_stext"), Some(0xffff_ffff_bba0_0000));
        assert_eq!(info.size("page"), Some(64));
        assert_eq!(info.offset("page._refcount"), Some(52));
        assert_eq!(info.length("mem_section"), Some(4096));
        assert_eq!(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"), Some(-129));
        assert_eq!(info.number("kimage_voffset"), Some(0xffff_7fff_c000_0000));
        let names: Vec<&str> = info.symbols().map(|(name, _)| name).collect();
        assert_eq!(names, ["_stext", "mem_section"]);
    }

    #[test]
    fn strange_lines_are_passed_over() {
        let text = b"\n=\nnonsense\nOSRELEASE=1\nOSRELEASE=2\nSYMBOL(a)=+1\nSYMBOL(b=1\nSIZE(c)=-1\n\xff=1\nKERNELOFFSET=\n";
        let info = Vmcoreinfo::parse(text).unwrap();
        assert_eq!(info.release(), Some("1"));
        assert_eq!(info.symbols().count(), 0);
        assert_eq!((info.size("c"), info.kernel_offset()), (None, None));
    }

    #[test]
    fn what_no_kernel_wrote_is_refused() {
        assert_eq!(Vmcoreinfo::parse(b""), Err(VmcoreinfoError::NoRelease));
        let large = vec![b'a'; MAX_BYTES + 1];
        assert_eq!(
            Vmcoreinfo::parse(&large),
            Err(VmcoreinfoError::TooLarge(MAX_BYTES + 1))
        );
    }
}
