//! Writes an ISF: the document that Volatility reads symbols from, of the schema 6.2.0.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::btf::Btf;
use super::depth::Depth;
use super::kallsyms::{Kallsyms, Symbol};
use super::known::{self, NEEDED, NEEDED_TYPES, OTHER_NAMES, PAGE_TABLES};
use super::names::Space;
use super::output::Output;
use super::shapes::{Shape, Shapes, VOID};
use super::vmcoreinfo::Vmcoreinfo;
use super::{Inputs, Summary, SymbolsError};

const FORMAT: &str = "6.2.0";
/// Longest `/proc/version`, in bytes.
const MAX_VERSION: usize = 4096;
/// Where addresses of a 64-bit kernel begin.
const KERNEL_HALF: u64 = 1 << 63;
/// `__START_KERNEL` of x86 with the CONFIG_PHYSICAL_START that everyone has (`arch/x86/include/asm/page_types.h`).
const X86_TEXT: u64 = 0xffff_ffff_8100_0000;
/// KASLR moves a kernel of x86 by multiples of this, in bytes (`MIN_KERNEL_ALIGN`, `arch/x86/include/asm/boot.h`).
const X86_ALIGN: u64 = 0x20_0000;
/// Variables of `kernel/kallsyms.c` that are not in its own table, and that VMCOREINFO has since 6.0.
const OF_KALLSYMS: &str = "kallsyms_";

/// Writes the symbols of a kernel to `out` as an ISF. The same inputs give the same bytes.
///
/// # Errors
/// [`SymbolsError`] when an input is not what it should be, when two are not of the same kernel, or when `out` fails;
/// what was written until then is of no use.
pub fn write(inputs: &Inputs<'_>, out: &mut dyn Write) -> Result<Summary, SymbolsError> {
    let (banner, release) = banner(inputs.version)?;
    let table = Kallsyms::parse(inputs.kallsyms)?;
    let info = inputs.vmcoreinfo.map(Vmcoreinfo::parse).transpose()?;
    let addresses = Addresses::of(&table, info.as_ref(), release)?;
    let btf = Btf::parse(inputs.btf)?;
    let shapes = Shapes::of(&btf)?;

    let mut out = Output::new(out);
    out.open(None)?;
    out.entry("metadata", &metadata(inputs))?;
    out.open(Some("base_types"))?;
    for (name, base) in shapes.bases() {
        out.entry(name, base)?;
    }
    out.close()?;
    let types = user_types(&shapes, &mut out)?;
    let enumerations = enumerations(&shapes, &mut out)?;
    let typed_symbols = symbols(&addresses, &shapes, &banner, &mut out)?;
    out.close()?;
    Ok(Summary {
        release: release.to_owned(),
        types,
        enumerations,
        symbols: count(addresses.by_name.len()),
        typed_symbols,
        symbols_of_modules: addresses.of_modules,
        malformed_lines: table.malformed,
        kernel_offset: addresses.offset,
        kernel_offset_assumed: addresses.assumed,
        missing: missing(&addresses, &shapes),
        bytes: out.finish()?,
    })
}

/// `linux_banner` as memory has it (`init/version-timestamp.c`): the line of `/proc/version`, and a zero. The release,
/// too.
fn banner(version: &[u8]) -> Result<(Vec<u8>, &str), SymbolsError> {
    let line = version.strip_suffix(b"\n").unwrap_or(version);
    let text = std::str::from_utf8(line)
        .ok()
        .filter(|line| line.len() <= MAX_VERSION)
        .filter(|line| !line.contains(char::is_control))
        .ok_or(SymbolsError::Version)?;
    let (release, _) = text
        .strip_prefix("Linux version ")
        .and_then(|rest| rest.split_once(' '))
        .filter(|(release, _)| !release.is_empty())
        .ok_or(SymbolsError::Version)?;
    Ok(([line, b"\n\0"].concat(), release))
}

/// What it was made of. The schema has no kind for BTF, and asks for none. Of the plugins of volatility3 2.28.2 one,
/// `linux.malware.hidden_modules`, refuses whatever names another producer than dwarf2json: we do not pretend to be it.
fn metadata(inputs: &Inputs<'_>) -> serde_json::Value {
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let mut symbols = vec![json!({
        "kind": "system-map", "name": "/proc/kallsyms",
        "hash_type": "sha256", "hash_value": hash(inputs.kallsyms),
    })];
    symbols.extend(inputs.vmcoreinfo.map(
        |text| json!({ "name": "VMCOREINFO", "hash_type": "sha256", "hash_value": hash(text) }),
    ));
    json!({
        "format": FORMAT,
        "producer": { "name": "exhibit-agent", "version": env!("CARGO_PKG_VERSION") },
        "linux": {
            "symbols": symbols,
            "types": [{
                "name": "/sys/kernel/btf/vmlinux",
                "hash_type": "sha256", "hash_value": hash(inputs.btf),
            }],
        },
    })
}

fn user_types(shapes: &Shapes<'_, '_>, out: &mut Output<'_>) -> Result<u64, SymbolsError> {
    let (mut depth, mut written) = (Depth::default(), 0);
    out.open(Some("user_types"))?;
    for (name, id) in shapes.names.all(Space::Aggregate) {
        depth.check(shapes, id)?;
        if let Some(aggregate) = shapes.aggregate(id)? {
            out.entry(name, &aggregate)?;
            written += 1;
        }
    }
    out.close()?;
    Ok(written)
}

fn enumerations(shapes: &Shapes<'_, '_>, out: &mut Output<'_>) -> Result<u64, SymbolsError> {
    let mut written = 0;
    out.open(Some("enums"))?;
    for (name, id) in shapes.names.all(Space::Enumeration) {
        if let Some(values) = shapes.enumeration(id)? {
            out.entry(name, &values)?;
            written += 1;
        }
    }
    out.close()?;
    Ok(written)
}

/// A symbol. Each has a type, since Volatility refuses to make an object of one that has none: `void` says no more than
/// that it has an address.
#[derive(Serialize)]
struct Entry<'s> {
    address: u64,
    #[serde(rename = "type")]
    shape: &'s Shape<'s>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constant_data: Option<String>,
}

fn symbols(
    addresses: &Addresses<'_>,
    shapes: &Shapes<'_, '_>,
    banner: &[u8],
    out: &mut Output<'_>,
) -> Result<u64, SymbolsError> {
    let types = known::types(shapes, |name| addresses.room(name))?;
    let text = Shape::Array {
        count: u32::try_from(banner.len()).unwrap_or(u32::MAX),
        subtype: Box::new(Shape::Base { name: "char" }),
    };
    let mut typed = 0;
    out.open(Some("symbols"))?;
    for (name, place) in &addresses.by_name {
        let is_banner = *name == "linux_banner";
        let known = match is_banner {
            true => Some(&text),
            false => types.get(name),
        };
        typed += u64::from(known.is_some());
        let entry = Entry {
            address: place.address,
            shape: known.unwrap_or(&VOID),
            constant_data: is_banner.then(|| STANDARD.encode(banner)),
        };
        out.entry(name, &entry)?;
    }
    out.close()?;
    Ok(typed)
}

/// Symbols of the kernel itself.
struct Addresses<'a> {
    by_name: BTreeMap<&'a str, Place>,
    /// All addresses, as kallsyms has them: of those with one name `by_name` keeps a single one.
    all: BTreeSet<u64>,
    of_modules: u64,
    /// What was taken off.
    offset: Option<u64>,
    assumed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// A global is used in all files, a local of the same name in one.
    local: bool,
    address: u64,
}

impl<'a> Addresses<'a> {
    fn of(
        table: &Kallsyms<'a>,
        info: Option<&Vmcoreinfo<'a>>,
        release: &str,
    ) -> Result<Self, SymbolsError> {
        let mut found = Self {
            by_name: BTreeMap::new(),
            all: BTreeSet::new(),
            of_modules: 0,
            offset: None,
            assumed: false,
        };
        for symbol in &table.symbols {
            match symbol.module {
                None => {
                    found.all.insert(symbol.address);
                    found.add(symbol);
                }
                Some(_) => found.of_modules += 1,
            }
        }
        if !found.by_name.contains_key("init_task") {
            return Err(SymbolsError::NoData("init_task"));
        }
        if let Some(info) = info {
            found.compare(info, release)?;
            for (name, address) in info.symbols() {
                if name.starts_with(OF_KALLSYMS) {
                    found.place(name, false, address);
                }
            }
        }
        match info.and_then(Vmcoreinfo::kernel_offset) {
            Some(offset) => found.move_back(offset)?,
            None => found.assume()?,
        }
        for (name, other) in OTHER_NAMES {
            if let Some(place) = found.by_name.get(other).copied() {
                found.by_name.entry(name).or_insert(place);
            }
        }
        Ok(found)
    }

    fn add(&mut self, symbol: &Symbol<'a>) {
        self.place(
            symbol.name,
            symbol.kind.is_ascii_lowercase(),
            symbol.address,
        );
    }

    fn place(&mut self, name: &'a str, local: bool, address: u64) {
        let place = Place { local, address };
        let known = self.by_name.entry(name).or_insert(place);
        *known = place.min(*known);
    }

    fn compare(&self, info: &Vmcoreinfo<'_>, release: &str) -> Result<(), SymbolsError> {
        let different = |what, one: String, other: String| match one == other {
            true => Ok(()),
            false => Err(SymbolsError::Different { what, one, other }),
        };
        if let Some(theirs) = info.release() {
            different("the release", theirs.to_owned(), release.to_owned())?;
        }
        let text = self.by_name.get("_stext");
        match (info.symbol("_stext"), text) {
            (Some(theirs), Some(ours)) => different(
                "the address of _stext",
                format!("{theirs:#x}"),
                format!("{:#x}", ours.address),
            ),
            _ => Ok(()),
        }
    }

    /// Where the image of the kernel begins in this boot.
    fn start(&self) -> Result<u64, SymbolsError> {
        ["_text", "_stext"]
            .into_iter()
            .filter_map(|name| self.by_name.get(name))
            .map(|place| place.address)
            .find(|address| *address >= KERNEL_HALF)
            .ok_or(SymbolsError::NoData("_text"))
    }

    /// Takes the offset off all addresses of the kernel's image. The others are offsets of per-CPU variables.
    fn move_back(&mut self, offset: u64) -> Result<(), SymbolsError> {
        let start = self.start()?;
        match start.checked_sub(offset) {
            Some(linked) if linked >= KERNEL_HALF => {}
            _ => return Err(SymbolsError::Offset(offset)),
        }
        for place in self.by_name.values_mut() {
            if place.address >= start {
                place.address -= offset;
            }
        }
        self.offset = Some(offset);
        Ok(())
    }

    /// The offset, when nobody tells it: x86 kernels are linked for one address, unless somebody chose another.
    fn assume(&mut self) -> Result<(), SymbolsError> {
        let offset = self.start()?.checked_sub(X86_TEXT);
        let offset = offset.filter(|offset| offset % X86_ALIGN == 0);
        match offset.filter(|_| self.by_name.contains_key("init_top_pgt")) {
            Some(offset) => {
                self.assumed = true;
                self.move_back(offset)
            }
            None => Ok(()),
        }
    }

    /// Bytes from a symbol to the next.
    fn room(&self, name: &str) -> Option<u64> {
        let place = self.by_name.get(name)?.address;
        let address = place.checked_add(self.offset.unwrap_or(0))?;
        let next = self.all.range(address.checked_add(1)?..).next()?;
        next.checked_sub(address)
    }
}

fn missing(addresses: &Addresses<'_>, shapes: &Shapes<'_, '_>) -> Vec<&'static str> {
    let symbol = |name: &&str| addresses.by_name.contains_key(*name);
    let aggregate = |name: &&str| shapes.names.find(Space::Aggregate, name).is_some();
    let symbols = NEEDED.iter().filter(|name| !symbol(name));
    let types = NEEDED_TYPES.iter().filter(|name| !aggregate(name));
    let pages = !PAGE_TABLES.iter().any(symbol);
    symbols
        .chain(types)
        .copied()
        .chain(pages.then_some("init_top_pgt"))
        .collect()
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::btf::BtfError;
    use super::super::kallsyms::KallsymsError;
    use super::super::testing::*;
    use super::*;
    use serde_json::Value;

    const VERSION: &[u8] = b"Linux version 6.1.0 (a@b) (gcc) #1 SMP\n";
    /// A boot that moved the kernel by 0x3aa00000 bytes.
    const KALLSYMS: &[u8] = b"0000000000000000 A __per_cpu_start\n\
        0000000000001000 A counter\n\
        ffffffffbba00000 T _stext\n\
        ffffffffbba00000 T _text\n\
        ffffffffbca0fd20 D taint_flags\n\
        ffffffffbca0fd2c d __func__.0\n\
        ffffffffbcb61900 D linux_banner\n\
        ffffffffbd410000 D init_top_pgt\n\
        ffffffffbd41aa40 D init_task\n\
        ffffffffbd529000 d modules\n\
        ffffffffbd5292a0 D modules\n\
        ffffffffbd55c940 D init_mm\n\
        ffffffffbd56f840 D init_files\n\
        ffffffffbe9d4780 b timekeeper_data\n\
        ffffffffc03c1000 t ext4_init\t[ext4]\n";
    const VMCOREINFO: &[u8] = b"OSRELEASE=6.1.0\nSYMBOL(_stext)=ffffffffbba00000\n\
        SYMBOL(mem_section)=ffff8d899ffd5000\nSYMBOL(kallsyms_num_syms)=ffffffffbcbbdab8\nKERNELOFFSET=3aa00000\n";

    fn types() -> Vec<u8> {
        let mut table = Table::new();
        let int = table.integer("int", 4, 1);
        let long = table.integer("long unsigned int", 8, 0);
        table.composite(STRUCT, "task_struct", 8, &[("pid", int, 0)]);
        table.composite(STRUCT, "list_head", 16, &[("next", long, 0)]);
        table.composite(STRUCT, "taint_flag", 3, &[("c_true", int, 0)]);
        let keeper = table.composite(STRUCT, "timekeeper", 8, &[("ns", long, 0)]);
        table.composite(STRUCT, "", 16, &[("timekeeper", keeper, 64)]);
        table.add(VAR, "counter", long, &[[0]]);
        let red = table.name("RED");
        table.add(ENUM, "color", 4, &[[red, 7]]);
        table.bytes()
    }

    fn made(inputs: &Inputs<'_>) -> Result<(Summary, Value), SymbolsError> {
        let (mut once, mut again) = (Vec::new(), Vec::new());
        let summary = write(inputs, &mut once)?;
        assert_eq!(write(inputs, &mut again)?, summary);
        assert!(once == again, "the same bytes each time");
        assert_eq!(summary.bytes, once.len() as u64);
        Ok((summary, serde_json::from_slice(&once).unwrap()))
    }

    fn inputs(btf: &[u8]) -> Inputs<'_> {
        Inputs {
            btf,
            kallsyms: KALLSYMS,
            version: VERSION,
            vmcoreinfo: Some(VMCOREINFO),
        }
    }

    #[test]
    fn a_small_kernel() {
        let btf = types();
        let (summary, isf) = made(&inputs(&btf)).unwrap();
        assert_eq!(summary.release, "6.1.0");
        assert_eq!((summary.types, summary.enumerations), (5, 1));
        assert_eq!(summary.symbols_of_modules, 1);
        assert_eq!(summary.kernel_offset, Some(0x3aa0_0000));
        // The page tables and what has an address are there; of the types, two.
        assert_eq!(summary.missing.len(), NEEDED_TYPES.len() - 2);
        assert!(!summary.missing.contains(&"list_head"));
        assert_eq!(isf["metadata"]["format"], FORMAT);
        assert_eq!(isf["user_types"]["task_struct"]["size"], 8);
        assert_eq!(
            isf["enums"]["color"],
            json!({"size": 4, "base": "unsigned int", "constants": {"RED": 7}})
        );
        let symbols = &isf["symbols"];
        assert_eq!(
            symbols["init_task"],
            json!({"address": 0xffff_ffff_82a1_aa40_u64, "type": {"kind": "struct", "name": "task_struct"}})
        );
        let banner = symbols["linux_banner"]["constant_data"].as_str().unwrap();
        assert_eq!(
            STANDARD.decode(banner).unwrap(),
            [VERSION, &b"\0"[..]].concat()
        );
        assert!(symbols.get("ext4_init").is_none(), "a module moves");
        assert!(
            symbols.get("mem_section").is_none(),
            "no variable's address"
        );
    }

    #[test]
    fn symbols_have_the_types_that_plugins_need() {
        let btf = types();
        let (_, isf) = made(&inputs(&btf)).unwrap();
        let symbols = &isf["symbols"];
        let void = json!({"kind": "base", "name": "void"});
        assert_eq!(symbols["_text"]["type"], void);
        assert_eq!(symbols["init_mm"]["type"], void, "a type that is not there");
        assert_eq!(
            symbols["modules"],
            json!({"address": 0xffff_ffff_82b2_92a0_u64, "type": {"kind": "struct", "name": "list_head"}}),
            "the global one"
        );
        assert_eq!(
            symbols["counter"],
            json!({"address": 0x1000, "type": {"kind": "base", "name": "long unsigned int"}}),
            "an offset stays"
        );
        assert_eq!(symbols["taint_flags"]["type"]["count"], 4);
        assert_eq!(
            symbols["kallsyms_num_syms"],
            json!({"address": 0xffff_ffff_821b_dab8_u64, "type": {"kind": "base", "name": "unsigned int"}})
        );
        assert_eq!(symbols["tk_core"], symbols["timekeeper_data"]);
        let keeper = symbols["tk_core"]["type"]["name"].as_str().unwrap();
        assert_eq!(
            isf["user_types"][keeper]["fields"]["timekeeper"]["offset"],
            8
        );
    }

    #[test]
    fn without_vmcoreinfo_the_offset_is_assumed_where_it_can_be() {
        let btf = types();
        let table = String::from_utf8(KALLSYMS.to_vec()).unwrap();
        let arm = table.replace("init_top_pgt", "swapper_pg_dir");
        for (kallsyms, offset, address) in [
            (&table, Some(0x3aa0_0000), 0xffff_ffff_82a1_aa40_u64),
            (&arm, None, 0xffff_ffff_bd41_aa40),
        ] {
            let without = Inputs {
                kallsyms: kallsyms.as_bytes(),
                vmcoreinfo: None,
                ..inputs(&btf)
            };
            let (summary, isf) = made(&without).unwrap();
            assert_eq!(summary.kernel_offset, offset);
            assert_eq!(summary.kernel_offset_assumed, offset.is_some());
            let symbols = &isf["symbols"];
            assert_eq!(symbols["init_task"]["address"], json!(address));
            assert_eq!(symbols["taint_flags"]["type"]["count"], 4);
        }
    }

    #[test]
    fn inputs_of_two_kernels_are_told() {
        let btf = types();
        let with = |info| {
            made(&Inputs {
                vmcoreinfo: Some(info),
                ..inputs(&btf)
            })
        };
        for (info, want) in [
            (&b"OSRELEASE=6.1.1\n"[..], "release"),
            (
                b"OSRELEASE=6.1.0\nSYMBOL(_stext)=ffffffff81000000\n",
                "_stext",
            ),
            (b"OSRELEASE=6.1.0\nKERNELOFFSET=ffffffff00000000\n", "moved"),
            (b"KERNELOFFSET=0\n", "OSRELEASE"),
        ] {
            let error = with(info).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn inputs_that_are_not_what_they_should_be() {
        let btf = types();
        let good = inputs(&btf);
        for version in [
            &b""[..],
            b"Linux version ",
            b"Linux version 6 (\x1b)",
            b"\xff",
        ] {
            let error = made(&Inputs { version, ..good }).unwrap_err();
            assert!(matches!(error, SymbolsError::Version), "{error}");
        }
        let kallsyms = b"ffffffff81000000 T _text\n";
        let error = made(&Inputs { kallsyms, ..good }).unwrap_err();
        assert!(matches!(error, SymbolsError::NoData(_)), "{error}");
        let kallsyms = b"0000000000000000 T _text\n";
        let error = made(&Inputs { kallsyms, ..good }).unwrap_err();
        let hidden = SymbolsError::Kallsyms(KallsymsError::Hidden);
        assert_eq!(error.to_string(), hidden.to_string());
        let error = made(&Inputs { btf: b"", ..good }).unwrap_err();
        assert!(
            matches!(error, SymbolsError::Btf(BtfError::Magic)),
            "{error}"
        );
    }

    /// Each byte of each input is changed: there is a file or an error, and it ends.
    #[test]
    fn any_byte_may_be_wrong() {
        let btf = types();
        for (of, length) in [
            (0, btf.len()),
            (1, KALLSYMS.len()),
            (2, VMCOREINFO.len()),
            (3, VERSION.len()),
        ] {
            for at in 0..length {
                for value in [0, b'\n', b' ', b'1', 0x7F, 0xFF] {
                    let mut parts = [
                        btf.clone(),
                        KALLSYMS.to_vec(),
                        VMCOREINFO.to_vec(),
                        VERSION.to_vec(),
                    ];
                    parts[of][at] = value;
                    let [btf, kallsyms, vmcoreinfo, version] = &parts;
                    let wrong = Inputs {
                        btf,
                        kallsyms,
                        version,
                        vmcoreinfo: Some(vmcoreinfo),
                    };
                    let mut out = Vec::new();
                    if write(&wrong, &mut out).is_ok() {
                        assert!(serde_json::from_slice::<Value>(&out).is_ok());
                    }
                }
            }
        }
    }
}
