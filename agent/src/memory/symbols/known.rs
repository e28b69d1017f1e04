//! Types of the variables that Volatility's Linux plugins read.
//!
//! BTF has variables of the per-CPU sections alone. The others are few, and their types have hardly changed: this table
//! is made of `object_from_symbol` in volatility3 2.28.2 and the declarations in the named files of Linux 5.4 (the first
//! with `/sys/kernel/btf`) to 6.18. A row whose type a kernel does not have says nothing about it.

use std::collections::BTreeMap;

use super::SymbolsError;
use super::btf::Kind;
use super::shapes::{Shape, Shapes};

/// How a variable is declared.
#[derive(Clone, Copy, Debug)]
enum Declared {
    /// It is one of these.
    Is(&'static str),
    /// It points to one of these.
    PointsTo(&'static str),
    /// It is an array of these, up to the next symbol. The last may be padding.
    Array(&'static str),
    /// It is an array of pointers to these, of this length.
    Pointers(&'static str, u32),
    /// It is an array of what a typedef names, of no length.
    ArrayOfTypedef(&'static str),
    /// It is a struct with a member `timekeeper`; until 6.12 it has no name.
    Timekeeping,
}
use Declared::{Array, ArrayOfTypedef, Is, Pointers, PointsTo, Timekeeping};

const VARIABLES: &[(&str, Declared)] = &[
    // arch/x86/mm: kaslr.c, init_64.c
    ("page_offset_base", Is("long unsigned int")),
    ("phys_base", Is("long unsigned int")),
    ("vmalloc_base", Is("long unsigned int")),
    ("vmemmap_base", Is("long unsigned int")),
    // arch/x86/kernel/idt.c
    ("idt_table", Array("gate_struct")),
    // drivers: tty/tty_io.c, tty/vt/keyboard.c, video/fbdev/core/fbmem.c
    ("keyboard_notifier_list", Is("atomic_notifier_head")),
    ("num_registered_fb", Is("int")),
    ("registered_fb", Pointers("fb_info", 32)),
    ("tty_drivers", Is("list_head")),
    // fs: file.c, namespace.c
    ("init_files", Is("files_struct")),
    // init: init_task.c, version.c; mm/init-mm.c
    ("init_mm", Is("mm_struct")),
    ("init_task", Is("task_struct")),
    ("init_uts_ns", Is("uts_namespace")),
    // kernel: bpf/core.c, bpf/syscall.c, capability.c, pid.c, resource.c, panic.c
    ("bpf_kallsyms", Is("list_head")),
    ("bpf_tree", Is("latch_tree_root")),
    ("cap_last_cap", Is("int")),
    ("init_pid_ns", Is("pid_namespace")),
    ("iomem_resource", Is("resource")),
    ("ioport_resource", Is("resource")),
    ("map_idr", Is("idr")),
    ("prog_idr", Is("idr")),
    ("taint_flags", Array("taint_flag")),
    // kernel/kallsyms_internal.h
    ("kallsyms_num_syms", Is("unsigned int")),
    ("kallsyms_relative_base", Is("long unsigned int")),
    // kernel/module and kernel/params.c
    ("mod_tree", Is("mod_tree_root")),
    ("module_kset", PointsTo("kset")),
    ("modules", Is("list_head")),
    // kernel/printk/printk.c: a ring of records since 5.10, indexes before
    ("log_buf", PointsTo("char")),
    ("log_buf_len", Is("unsigned int")),
    ("log_first_idx", Is("unsigned int")),
    ("log_next_idx", Is("unsigned int")),
    ("prb", PointsTo("printk_ringbuffer")),
    // kernel/time/timekeeping.c
    ("timekeeper_data", Timekeeping),
    ("tk_core", Timekeeping),
    // kernel: trace/ftrace.c, tracepoint.c
    (
        "__start___tracepoints_ptrs",
        ArrayOfTypedef("tracepoint_ptr_t"),
    ),
    ("ftrace_list_end", Is("ftrace_ops")),
    ("ftrace_mod_maps", Is("list_head")),
    ("ftrace_ops_list", PointsTo("ftrace_ops")),
    ("ftrace_ops_trampoline_list", Is("list_head")),
    // net: core/net_namespace.c, socket.c
    ("init_net", Is("net")),
    ("net_namespace_list", Is("list_head")),
    ("socket_file_ops", Is("file_operations")),
    ("sockfs_dentry_operations", Is("dentry_operations")),
    // net: */af_*.c, ipv4/*.c, ipv6/*.c
    ("arp_seq_ops", Is("seq_operations")),
    ("packet_seq_ops", Is("seq_operations")),
    ("raw6_seq_ops", Is("seq_operations")),
    ("raw_seq_ops", Is("seq_operations")),
    ("tcp4_seq_afinfo", Is("tcp_seq_afinfo")),
    ("tcp4_seq_ops", Is("seq_operations")),
    ("tcp6_seq_afinfo", Is("tcp_seq_afinfo")),
    ("tcp6_seq_ops", Is("seq_operations")),
    ("udp4_seq_afinfo", Is("udp_seq_afinfo")),
    ("udp6_seq_afinfo", Is("udp_seq_afinfo")),
    ("udp6_seq_ops", Is("seq_operations")),
    ("udp_seq_ops", Is("seq_operations")),
    ("udplite4_seq_afinfo", Is("udp_seq_afinfo")),
    ("udplite6_seq_afinfo", Is("udp_seq_afinfo")),
    ("unix_seq_ops", Is("seq_operations")),
];

/// Names that C code uses for something whose symbol has another: since 6.17 `tk_core` is a macro, for the first element
/// of this array (`kernel/time/timekeeping.c`).
pub const OTHER_NAMES: &[(&str, &str)] = &[("tk_core", "timekeeper_data")];

/// Without these Volatility finds neither a kernel in an image nor where it is (`automagic/linux.py`).
pub const NEEDED: &[&str] = &["init_files", "init_mm", "init_task", "linux_banner"];
/// One of these is where the page tables begin.
pub const PAGE_TABLES: &[&str] = &["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"];

/// Without these types Volatility does not take the file (`LinuxKernelIntermedSymbols` in `symbols/linux/__init__.py`).
pub const NEEDED_TYPES: &[&str] = &[
    "address_space",
    "cred",
    "dentry",
    "file",
    "files_struct",
    "fs_struct",
    "hlist_head",
    "idr",
    "inet_sock",
    "inode",
    "kobject",
    "list_head",
    "mm_struct",
    "net",
    "page",
    "qstr",
    "sock",
    "socket",
    "super_block",
    "task_struct",
    "unix_sock",
    "vfsmount",
    "vm_area_struct",
];

/// Types of variables by name: what the kernel itself says of them, then the table. `room` tells how many bytes there
/// are from a symbol to the next.
///
/// # Errors
/// When the table of types contradicts itself.
pub fn types<'s>(
    shapes: &'s Shapes<'_, '_>,
    room: impl Fn(&str) -> Option<u64>,
) -> Result<BTreeMap<&'s str, Shape<'s>>, SymbolsError> {
    let mut types = BTreeMap::new();
    for next in shapes.btf.iter() {
        let (_, declared) = next?;
        if let Kind::Variable(to) = declared.kind
            && !types.contains_key(declared.name)
        {
            types.insert(declared.name, shapes.shape(to)?);
        }
    }
    for (name, declared) in VARIABLES {
        if let Some(shape) = declared.shape(shapes, room(name))? {
            types.entry(name).or_insert(shape);
        }
    }
    Ok(types)
}

impl Declared {
    fn shape<'s>(
        self,
        shapes: &'s Shapes<'_, '_>,
        room: Option<u64>,
    ) -> Result<Option<Shape<'s>>, SymbolsError> {
        let pointer = |to: Shape<'s>| Shape::Pointer {
            subtype: Box::new(to),
        };
        let array = |of: Shape<'s>, count| Shape::Array {
            count,
            subtype: Box::new(of),
        };
        Ok(match self {
            Is(name) => shapes.named(name)?,
            PointsTo(name) => shapes.named(name)?.map(pointer),
            Pointers(name, count) => shapes.named(name)?.map(|to| array(pointer(to), count)),
            Array(name) => {
                let size = shapes.size(name)?.filter(|size| *size != 0);
                let count = size.zip(room).and_then(|(size, room)| {
                    u32::try_from(room / u64::from(size))
                        .ok()
                        .filter(|count| *count != 0)
                });
                shapes
                    .named(name)?
                    .zip(count)
                    .map(|(of, count)| array(of, count))
            }
            ArrayOfTypedef(name) => shapes.typedef(name)?.map(|of| array(of, 0)),
            Timekeeping => timekeeping(shapes)?,
        })
    }
}

fn timekeeping<'s>(shapes: &'s Shapes<'_, '_>) -> Result<Option<Shape<'s>>, SymbolsError> {
    let keeper = shapes.named("timekeeper")?;
    for next in shapes.btf.iter() {
        let (id, declared) = next?;
        let (Kind::Struct(of), true) = (declared.kind, matches!(declared.name, "" | "tk_data"))
        else {
            continue;
        };
        for member in shapes.btf.members(id, of) {
            let member = member?;
            if member.name == "timekeeper" && keeper == Some(shapes.shape(member.type_id)?) {
                return shapes.shape(id).map(Some);
            }
        }
    }
    Ok(None)
}
