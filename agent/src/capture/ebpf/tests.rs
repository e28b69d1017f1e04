use super::info::{calls, link, map, program, types};
use super::objects::Functions;
use super::owners::held;

/// Words of 32 bits at their offsets.
fn structure(length: usize, words: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (offset, word) in words {
        bytes[*offset..offset + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

#[test]
fn programs_of_old_and_new_kernels_are_read() {
    let mut bytes = structure(
        232,
        &[
            (0, 2),
            (4, 77),
            (16, 99),
            (20, 64),
            (40, 5),
            (48, 1000),
            (52, 2),
            (84, 1),
            (128, 9),
        ],
    );
    bytes[8..16].copy_from_slice(&[0xAB; 8]);
    bytes[64..68].copy_from_slice(b"evil");
    let read = program(&bytes).unwrap();
    assert_eq!(
        (read.id, read.kind.as_str(), read.name.as_str(), read.uid),
        (77, "kprobe", "evil", 1000)
    );
    assert_eq!(
        (read.tag.as_str(), read.xlated_bytes, read.maps, read.gpl),
        ("abababababababab", 64, 2, true)
    );
    assert_eq!((read.types_id, read.loaded_boottime_ns), (Some(9), 5));
    // Linux 4.13 ends after the instructions.
    assert_eq!(program(&bytes[..40]).unwrap().name, "");
    for cut in 0..bytes.len() {
        assert_eq!(program(&bytes[..cut]).is_some(), cut >= 24);
    }
    let unknown = program(&structure(232, &[(0, 4000)])).unwrap();
    assert_eq!(unknown.kind, "4000");
}

#[test]
fn maps_types_and_links_are_read_to_their_ends() {
    let bytes = structure(88, &[(0, 27), (4, 3), (8, 4), (12, 8), (16, 4096)]);
    let read = map(&bytes).unwrap();
    assert_eq!(
        (read.kind.as_str(), read.max_entries, read.types_id),
        ("ringbuf", 4096, None)
    );
    let read = types(&structure(32, &[(8, 700), (12, 1), (28, 1)])).unwrap();
    assert_eq!((read.id, read.bytes, read.of_kernel), (1, 700, true));
    for (kind, words, want) in [
        (3, [(16, 42), (24, 1)], (Some("cgroup_inet_egress"), None)),
        (6, [(16, 4), (24, 0)], (None, None)),
        (7, [(16, 3), (36, 8)], (Some("kprobe"), Some((24, 32)))),
        (1, [(16, 0), (24, 5)], (None, Some((16, 24)))),
        (99, [(16, 1), (24, 1)], (None, None)),
    ] {
        let bytes = structure(64, &[&[(0, kind), (4, 5), (8, 6)][..], &words].concat());
        let (read, name) = link(&bytes).unwrap();
        assert_eq!((read.id, read.program_id), (5, 6));
        assert_eq!((read.attach.as_deref(), name), want, "{kind}");
        for cut in 0..bytes.len() {
            assert_eq!(link(&bytes[..cut]).is_some(), cut >= 12);
        }
    }
}

#[test]
fn what_a_program_calls_is_named() {
    let kallsyms = b"ffffffff81000000 T __bpf_call_base\nffffffff81000040 T bpf_probe_write_user\n\
        ffffffff80ffff00 t bpf_send_signal\nffffffffc0000000 t bpf_x\t[evil]\nffffffff81000080 t bpf_prog_12_y\njunk\n\xff\n";
    let functions = Functions::parse(kallsyms);
    let call =
        |registers: u8, value: i32| [&[0x85, registers, 0, 0][..], &value.to_ne_bytes()].concat();
    let code = [
        call(0, 0x40),
        call(0, -0x100),
        call(0x10, 0x40),
        call(0, 0x80),
        vec![0x95; 8],
        vec![1, 2, 3],
    ]
    .concat();
    assert_eq!(calls(&code).len(), 3);
    assert_eq!(
        functions.called(&code),
        ["bpf_send_signal", "bpf_probe_write_user"]
    );
    let hidden = b"0000000000000000 T __bpf_call_base\n0000000000000040 T bpf_probe_write_user\n";
    assert!(
        Functions::parse(hidden).called(&code).is_empty(),
        "addresses are kept from us"
    );
}

#[test]
fn descriptors_say_what_they_stand_for() {
    let link = b"pos:\t0\nlink_type:\tperf\nlink_id:\t4\nprog_tag:\tabc\nprog_id:\t17\n";
    assert_eq!(held(link), Some(("link", 4)));
    assert_eq!(
        held(b"prog_type:\t2\nprog_id:\t17\n"),
        Some(("program", 17))
    );
    assert_eq!(held(b"map_id:\tx\n"), None);
    assert_eq!(held(b"\xff\x00"), None);
}
