//! `/proc/kallsyms`: names and addresses of a running kernel and its modules (`kernel/kallsyms.c`, `s_show`).

/// Largest text, in bytes: some five times that of a distribution's kernel with its modules.
const MAX_BYTES: usize = 64 << 20;
/// Most symbols; a distribution's kernel has some 200 000.
const MAX_SYMBOLS: usize = 1 << 20;
/// Longest name, in bytes. `KSYM_NAME_LEN` is 512 (`include/linux/kallsyms.h`).
const MAX_NAME: usize = 512;

/// Why a text is no table of symbols.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KallsymsError {
    #[error("kallsyms of {0} bytes: more than {MAX_BYTES} is not read")]
    TooLarge(usize),
    #[error("kallsyms has more than {MAX_SYMBOLS} symbols")]
    TooMany,
    #[error("kallsyms has no line that names a symbol")]
    Empty,
    /// kptr_restrict(5) of 2, or a reader without CAP_SYSLOG.
    #[error(
        "every address in kallsyms is zero: it was read without CAP_SYSLOG, or with kernel.kptr_restrict=2; read it again"
    )]
    Hidden,
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Where this boot has it. For a per-CPU variable of x86 before 6.15, an offset.
    pub address: u64,
    /// The letter of nm(1); a capital is global.
    pub kind: char,
    /// ASCII without spaces and controls.
    pub name: &'a str,
    /// The module, or `bpf` and the like for what the kernel made while it ran.
    pub module: Option<&'a str>,
}

/// The table.
#[derive(Debug, PartialEq, Eq)]
pub struct Kallsyms<'a> {
    /// In the order of the text.
    pub symbols: Vec<Symbol<'a>>,
    /// Lines that no kernel writes: other fields, or names with more than printable ASCII.
    pub malformed: u64,
}

impl<'a> Kallsyms<'a> {
    /// Reads the text.
    ///
    /// # Errors
    /// [`KallsymsError`] for a text that has no symbols with addresses, or far too many.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, KallsymsError> {
        if bytes.len() > MAX_BYTES {
            return Err(KallsymsError::TooLarge(bytes.len()));
        }
        let (mut symbols, mut malformed) = (Vec::new(), 0);
        for line in bytes.split(|byte| *byte == b'\n') {
            match symbol(line) {
                Some(_) if symbols.len() == MAX_SYMBOLS => return Err(KallsymsError::TooMany),
                Some(symbol) => symbols.push(symbol),
                None => malformed += u64::from(!line.is_empty()),
            }
        }
        if symbols.is_empty() {
            return Err(KallsymsError::Empty);
        }
        if symbols.iter().all(|symbol| symbol.address == 0) {
            return Err(KallsymsError::Hidden);
        }
        Ok(Self { symbols, malformed })
    }
}

/// A line: address, letter and name, then the module in brackets behind a tab.
fn symbol(line: &[u8]) -> Option<Symbol<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.splitn(3, ' ');
    let (address, kind, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let (name, module) = match rest.split_once('\t') {
        Some((name, module)) => {
            let module = module.strip_prefix('[')?.strip_suffix(']')?;
            (name, Some(plain(module)?))
        }
        None => (rest, None),
    };
    let digits = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut letters = kind.chars();
    Some(Symbol {
        address: digits.then(|| u64::from_str_radix(address, 16).ok())??,
        kind: letters.next().filter(|_| letters.next().is_none())?,
        name: plain(name)?,
        module,
    })
}

fn plain(name: &str) -> Option<&str> {
    let good =
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    good.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_real_kernel() {
        let text = b"0000000000000000 A fixed_percpu_data\n\
            ffffffffbba00000 T _text\n\
            ffffffffc03c1000 t ext4_init\t[ext4]\n\
            ffffffffc0312345 t bpf_prog_6deef7357e7b4530\t[bpf]\n";
        let table = Kallsyms::parse(text).unwrap();
        assert_eq!(table.malformed, 0);
        let shown: Vec<_> = table
            .symbols
            .iter()
            .map(|symbol| (symbol.address, symbol.kind, symbol.name, symbol.module))
            .collect();
        assert_eq!(
            shown,
            [
                (0, 'A', "fixed_percpu_data", None),
                (0xffff_ffff_bba0_0000, 'T', "_text", None),
                (0xffff_ffff_c03c_1000, 't', "ext4_init", Some("ext4")),
                (
                    0xffff_ffff_c031_2345,
                    't',
                    "bpf_prog_6deef7357e7b4530",
                    Some("bpf")
                ),
            ]
        );
    }

    #[test]
    fn restricted_addresses_are_an_error_of_their_own() {
        let text = b"0000000000000000 T _text\n0000000000000000 D init_task\n";
        assert_eq!(Kallsyms::parse(text), Err(KallsymsError::Hidden));
        assert_eq!(Kallsyms::parse(b"\n\n"), Err(KallsymsError::Empty));
    }

    #[test]
    fn lines_that_no_kernel_writes_are_counted() {
        for line in [
            &b"1 T"[..],
            b"1 T ",
            b" T a",
            b"+1 T a",
            b"11111111111111111 T a",
            b"1 TT a",
            b"1  a",
            b"1 T a b",
            b"1 T a\x1b[31m",
            b"1 T \xc3\xa9",
            b"1 T \xff",
            b"1 T a\t[m",
            b"1 T a\t[]",
            b"1 T a\t[m]\t[n]",
            &[b"1 T ".as_slice(), &[b'a'; MAX_NAME + 1]].concat(),
        ] {
            let text = [line, b"\n2 T good\n"].concat();
            let table = Kallsyms::parse(&text).unwrap();
            assert_eq!((table.symbols.len(), table.malformed), (1, 1), "{line:?}");
        }
    }

    #[test]
    fn a_flood_of_symbols_ends() {
        let text = b"1 T a\n".repeat(MAX_SYMBOLS + 1);
        assert_eq!(Kallsyms::parse(&text), Err(KallsymsError::TooMany));
    }
}
