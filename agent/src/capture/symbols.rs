//! *symbols*: what an analyst needs to read a memory image of this very kernel: its types, its addresses, its identity.

use std::path::Path;

use serde::Serialize;

use super::memory::kcore::{Note, notes};
use super::memory::physical::Physical;
use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::{Host, SMALL};

/// The note VMCOREINFO, as a member of the tar.
pub const VMCOREINFO: &str = "live_response/memory/vmcoreinfo.txt";
/// The kernel's own types.
pub const BTF: &str = "sys/kernel/btf/vmlinux";
/// The addresses of its symbols.
pub const KALLSYMS: &str = "proc/kallsyms";
/// The text that an image is recognised by.
pub const VERSION: &str = "proc/version";

/// Symbols of the running kernel.
pub struct Symbols;

static SPEC: Spec = Spec {
    name: "symbols",
    volatility: Volatility::Memory,
    what: "BTF of the kernel and its modules, kallsyms, VMCOREINFO, System.map, configuration, build id and package",
    why: "without the symbols of exactly this kernel a memory image can not be analysed; they are seldom found afterwards",
    deadline_s: 120,
    max_bytes: 1 << 30,
};

/// Most bytes of one file that are held in memory.
const MAX_FILE: usize = 4 * SMALL;
/// Type of the note with the build id (include/uapi/linux/elf.h: NT_GNU_BUILD_ID).
const NT_GNU_BUILD_ID: u32 = 3;

#[derive(Serialize)]
struct Kernel {
    release: Option<String>,
    version: Option<String>,
    architecture: &'static str,
    /// In hexadecimal, as the linker made it.
    build_id: Option<String>,
    /// Package that the kernel came from, with its version, where dpkg knows it.
    package: Option<String>,
}

impl Artifact for Symbols {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let release = host.release();
        let named = release.clone().unwrap_or_default();
        for path in [VERSION, KALLSYMS] {
            text(host, Path::new(path), sink)?;
        }
        let of_the_kernel = [
            "sys/kernel/notes".to_owned(),
            format!("boot/System.map-{named}"),
            format!("boot/config-{named}"),
        ];
        for path in of_the_kernel.into_iter().chain(types(host)) {
            file(host, Path::new(&path), sink)?;
        }
        if let Ok(physical) = Physical::kcore(host)
            && let Some(text) = physical.vmcoreinfo()
        {
            sink.own(VMCOREINFO, text)?;
        }
        let kernel = Kernel {
            version: host.line(VERSION),
            architecture: std::env::consts::ARCH,
            build_id: build_id(host),
            package: package(host, &named),
            release,
        };
        Ok(sink.record("memory/kernel", &kernel)?)
    }
}

/// The types of the kernel, then those of its modules.
fn types(host: &Host) -> Vec<String> {
    let folder = Path::new(BTF).parent().unwrap_or(Path::new(""));
    let names = host.root().list(folder).unwrap_or_default();
    let names = names
        .into_iter()
        .filter_map(|entry| entry.name.into_string().ok());
    names
        .map(|name| format!("{}/{name}", folder.display()))
        .collect()
}

/// Puts a file with a size into the tar, piece by piece. What is not there is neither an item nor a loss.
fn file(host: &Host, path: &Path, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    let full = Path::new("/").join(path);
    match host.root().open(path) {
        _ if sink.has(&full) => Ok(()),
        Ok(file) => Ok(sink.file(&full, file)?),
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Ok(sink.lost(&full, &error)?),
    }
}

/// Puts a text that the kernel makes up into the tar, in the same way.
fn text(host: &Host, path: &Path, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    let full = Path::new("/").join(path);
    if sink.has(&full) {
        return Ok(());
    }
    let content = host.root().read(path, MAX_FILE);
    if let Ok(content) = &content
        && path == Path::new(KALLSYMS)
        && hides_addresses(&content.bytes)
    {
        sink.note("kallsyms shows no addresses: kernel.kptr_restrict".to_owned());
        sink.loss("denied:kallsyms_addresses");
    }
    Ok(sink.raw_if_there(&full, &content)?)
}

/// Whether all addresses are shown as zero. The first few may be: they are of per-CPU variables.
fn hides_addresses(text: &[u8]) -> bool {
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines.clone().next().is_some() && lines.all(|line| line.starts_with(b"0000000000000000 "))
}

fn build_id(host: &Host) -> Option<String> {
    let content = host.root().read("sys/kernel/notes", SMALL).ok()?;
    let is_id = |note: &Note<'_>| note.name == b"GNU\0" && note.kind == NT_GNU_BUILD_ID;
    notes(&content.bytes)
        .find(is_id)
        .map(|note| hex::encode(note.content))
}

/// Name and version of Debian's package of the kernel `release`.
fn package(host: &Host, release: &str) -> Option<String> {
    let content = host.root().read("var/lib/dpkg/status", MAX_FILE).ok()?;
    let text = String::from_utf8_lossy(&content.bytes);
    let is_its = |name: &str| {
        let rest = name.strip_prefix("linux-image-");
        rest.map(|rest| rest.strip_prefix("unsigned-").unwrap_or(rest)) == Some(release)
    };
    text.split("\n\n").find_map(|paragraph| {
        let field = |key| paragraph.lines().find_map(|line| line.strip_prefix(key));
        let name = field("Package: ").filter(|name| is_its(name))?;
        Some(format!("{name} {}", field("Version: ")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(path: &str, content: &[u8]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        let host = Host::open(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn the_package_of_the_running_kernel_is_found() {
        let status = b"Package: linux-image-6.1.0-55-amd64\nVersion: 1\n\n\
                       Package: linux-image-6.1.0-56-amd64\nStatus: x\nVersion: 6.1.192-2\n";
        let (_root, host) = host("var/lib/dpkg/status", status);
        let want = Some("linux-image-6.1.0-56-amd64 6.1.192-2".to_owned());
        assert_eq!(package(&host, "6.1.0-56-amd64"), want);
        assert_eq!(package(&host, "6.1.0"), None);
    }

    #[test]
    fn the_build_id_is_found_among_the_notes() {
        let note = |kind: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            [
                &[4, 0, 0, 0, length, 0, 0, 0, kind, 0, 0, 0],
                b"GNU\0".as_slice(),
                content,
            ]
            .concat()
        };
        let notes = [note(1, &[9; 4]), note(3, &[0xab; 20])].concat();
        let (_root, host) = host("sys/kernel/notes", &notes);
        assert_eq!(build_id(&host), Some("ab".repeat(20)));
    }

    #[test]
    fn hidden_addresses_are_told_from_per_cpu_ones() {
        assert!(hides_addresses(
            b"0000000000000000 A a\n0000000000000000 T b\n"
        ));
        assert!(!hides_addresses(
            b"0000000000000000 A a\nffffffff81000000 T b\n"
        ));
        assert!(!hides_addresses(b""));
    }
}
