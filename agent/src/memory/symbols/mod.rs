//! Symbols for the analysis of a memory image, out of what the running kernel tells about itself.
//!
//! Volatility needs the types and addresses of the very kernel that was running, as a file of its Intermediate Symbol
//! Format (ISF). Distributions keep the debug packages that it is made of for a while, and some never have one. The
//! kernel has both itself: its types in `/sys/kernel/btf/vmlinux`, its addresses in `/proc/kallsyms`.
//!
//! All inputs come from a suspect host. Nothing here reads a file or asks the system.

pub mod btf;
mod depth;
mod isf;
pub mod kallsyms;
mod known;
mod names;
mod output;
mod shapes;
#[cfg(test)]
mod testing;
pub mod vmcoreinfo;

use std::io;

use serde::Serialize;

use btf::{BtfError, Id};
use kallsyms::KallsymsError;
use vmcoreinfo::VmcoreinfoError;

pub use isf::write;

/// What a kernel tells about itself.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `/sys/kernel/btf/vmlinux`.
    pub btf: &'a [u8],
    /// `/proc/kallsyms`, of the boot that `vmcoreinfo` is of.
    pub kallsyms: &'a [u8],
    /// `/proc/version`.
    pub version: &'a [u8],
    /// The text of the note VMCOREINFO of `/proc/kcore`. It tells how far this boot moved the kernel, so that the file
    /// can have the addresses that it was linked for, and serve all boots of it. Volatility 2.28.2 needs that: it adds
    /// the offset that it finds in the image, and with the addresses of a moved kernel lists nothing.
    pub vmcoreinfo: Option<&'a [u8]>,
}

/// What was written.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The release, as `uname -r` shows it.
    pub release: String,
    /// Structs and unions.
    pub types: u64,
    pub enumerations: u64,
    pub symbols: u64,
    /// Symbols that have a type, and not their address alone.
    pub typed_symbols: u64,
    /// Symbols of modules, BPF and the like, which are no part of the file.
    pub symbols_of_modules: u64,
    /// Lines of kallsyms that no kernel writes.
    pub malformed_lines: u64,
    /// What was taken off the addresses, in bytes, to get those of the link; `None` when it is not known.
    pub kernel_offset: Option<u64>,
    /// Whether VMCOREINFO did not tell the offset, and it was taken from where x86 kernels are linked as a rule.
    pub kernel_offset_assumed: bool,
    /// Symbols, and structs, without which Volatility does not take the file or finds no kernel in an image, and that
    /// are not there.
    pub missing: Vec<&'static str>,
    /// Length of the file.
    pub bytes: u64,
}

/// Why there are no symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Kallsyms(#[from] KallsymsError),
    #[error(transparent)]
    Vmcoreinfo(#[from] VmcoreinfoError),
    #[error("the version is no line that begins with `Linux version ` and a release")]
    Version,
    #[error("the kernel is one of 32 bits: only those of 64 are supported")]
    Narrow,
    #[error("BTF has more than {0} structs, unions and enumerations")]
    TooManyTypes(usize),
    #[error("BTF type {0} goes round in a circle, or is nested deeper than any of a compiler")]
    Circle(Id),
    #[error("BTF type {0} has more members than any of a compiler")]
    Crowded(Id),
    #[error(
        "kallsyms has no {0}: the kernel was built without CONFIG_KALLSYMS_ALL, which names its data"
    )]
    NoData(&'static str),
    #[error(
        "the inputs are of different kernels or boots: {what} is {one} in VMCOREINFO and {other} elsewhere"
    )]
    Different {
        what: &'static str,
        one: String,
        other: String,
    },
    #[error(
        "VMCOREINFO says that the kernel was moved by {0:#x} bytes, which its addresses contradict"
    )]
    Offset(u64),
    #[error("the symbols would take more than {} bytes", output::MAX_BYTES)]
    TooLarge,
    #[error("cannot write the symbols: {0}")]
    Write(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A kernel that is whole but for its addresses: those are made.
    const KALLSYMS: &[u8] = b"ffffffff81000000 T _text\nffffffff82000000 D init_task\n";

    /// Facts of uapi headers, and of structs that never changed.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test asks the machine it runs on"
    )]
    fn the_types_of_this_kernel() {
        let path = "/sys/kernel/btf/vmlinux";
        let Ok(btf) = std::fs::read(path) else {
            println!("SKIPPED: {path} is not there");
            return;
        };
        let inputs = Inputs {
            btf: &btf,
            kallsyms: KALLSYMS,
            version: b"Linux version 1 (a)\n",
            vmcoreinfo: None,
        };
        let mut bytes = Vec::new();
        let summary = write(&inputs, &mut bytes).unwrap();
        assert!(summary.types > 1000, "{summary:?}");
        let addresses = ["init_files", "init_mm", "linux_banner", "init_top_pgt"];
        assert_eq!(summary.missing, addresses, "all types are there");
        let isf: Value = serde_json::from_slice(&bytes).unwrap();
        let member = |of: &str, name: &str| isf["user_types"][of]["fields"][name].clone();
        for (of, name, offset) in [
            ("list_head", "prev", 8),
            ("hlist_node", "pprev", 8),
            ("timespec64", "tv_nsec", 8),
            ("iovec", "iov_len", 8),
            ("nlmsghdr", "nlmsg_pid", 12),
            ("iphdr", "protocol", 9),
            ("tcphdr", "window", 14),
        ] {
            assert_eq!(member(of, name)["offset"], offset, "{of}.{name}");
        }
        let doff = member("tcphdr", "doff");
        assert_eq!(doff["offset"], 12);
        assert_eq!(
            (&doff["type"]["bit_position"], &doff["type"]["bit_length"]),
            (&json!(4), &json!(4))
        );
        assert_eq!(isf["user_types"]["in6_addr"]["size"], 16);
        let comm = member("task_struct", "comm");
        assert_eq!(comm["type"]["count"], 16, "TASK_COMM_LEN");
        assert_eq!(comm["type"]["subtype"]["name"], "char");
        assert_eq!(isf["enums"]["pid_type"]["constants"]["PIDTYPE_PID"], 0);
        let task = &isf["symbols"]["init_task"]["type"];
        assert_eq!(*task, json!({"kind": "struct", "name": "task_struct"}));
    }
}
