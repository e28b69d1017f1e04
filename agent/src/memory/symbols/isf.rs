//! Writes an ISF: the document that Volatility reads symbols from, of the schema 6.2.0.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::btf::Btf;
use super::kallsyms::{Kallsyms, Symbol};
use super::known::{self, NEEDED, OTHER_NAMES, PAGE_TABLES};
use super::names::Space;
use super::output::Output;
use super::shapes::{Depth, Shape, Shapes, VOID};
use super::vmcoreinfo::Vmcoreinfo;
use super::{Inputs, Summary, SymbolsError};

const FORMAT: &str = "6.2.0";
/// Longest `/proc/version`, in bytes.
const MAX_VERSION: usize = 4096;
/// Where addresses of a 64-bit kernel begin.
const KERNEL_HALF: u64 = 1 << 63;
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
        missing: addresses.missing(),
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

/// The schema has no kind for BTF, and asks for none.
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
            found.move_back(info.kernel_offset().unwrap_or(0))?;
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

    /// Takes the offset off all addresses of the kernel's image. The others are offsets of per-CPU variables.
    fn move_back(&mut self, offset: u64) -> Result<(), SymbolsError> {
        let wrong = SymbolsError::Offset(offset);
        let start = ["_text", "_stext"].map(|name| self.by_name.get(name));
        let start = start.into_iter().flatten().map(|place| place.address).min();
        let Some(start) = start.filter(|start| *start >= KERNEL_HALF) else {
            return Err(SymbolsError::NoData("_text"));
        };
        match start.checked_sub(offset) {
            Some(linked) if linked >= KERNEL_HALF => {}
            _ => return Err(wrong),
        }
        for place in self.by_name.values_mut() {
            if place.address >= start {
                place.address -= offset;
            }
        }
        self.offset = Some(offset);
        Ok(())
    }

    /// Bytes from a symbol to the next.
    fn room(&self, name: &str) -> Option<u64> {
        let place = self.by_name.get(name)?.address;
        let address = place.checked_add(self.offset.unwrap_or(0))?;
        let next = self.all.range(address.checked_add(1)?..).next()?;
        next.checked_sub(address)
    }

    fn missing(&self) -> Vec<&'static str> {
        let has = |name: &&str| self.by_name.contains_key(*name);
        let mut missing: Vec<_> = NEEDED.iter().filter(|name| !has(name)).copied().collect();
        if !PAGE_TABLES.iter().any(|name| has(&name)) {
            missing.push("init_top_pgt");
        }
        missing
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
