//! Flaws of the memory stream: what is not LiME's format, or not all of it.

use evidence::keys::Stream;
use evidence::lime::MAX_ADDRESS;

use crate::build::{Archive, Collection, Objects, Vector};
use crate::valid::{lime, range};

pub fn all() -> Vec<Vector> {
    let altered = |name, description, memory: Vec<u8>| {
        Vector::altered(name, &["lime"], description, with(&memory))
    };
    vec![
        altered(
            "memory-without-header",
            "Memory that starts with no header.",
            vec![7; 100],
        ),
        altered(
            "memory-other-magic",
            "The second range has another magic number.",
            edited(32 + 4096, b'X'),
        ),
        altered(
            "memory-other-version",
            "A header has version 2.",
            edited(4, 2),
        ),
        altered(
            "memory-reserved",
            "The reserved bytes of a header are not zero.",
            edited(31, 1),
        ),
        altered(
            "memory-reversed",
            "A range ends before it starts.",
            range(0x2000, 0x1fff, &[]),
        ),
        altered(
            "memory-beyond-any-address",
            "A range ends at an address that no machine has.",
            range(MAX_ADDRESS - 1, MAX_ADDRESS, &[0; 2]),
        ),
        altered(
            "memory-overlapping",
            "The second range starts with the last byte of the first.",
            [range(0, 9, &[7; 10]), range(9, 10, &[7; 2])].concat(),
        ),
        altered(
            "memory-descending",
            "The second range lies below the first.",
            [
                range(0x2000, 0x2001, &[7; 2]),
                range(0x1000, 0x1001, &[7; 2]),
            ]
            .concat(),
        ),
        altered(
            "memory-cut",
            "Memory ends within a range, and no artifact says so.",
            cut(4500),
        ),
        altered(
            "memory-cut-in-header",
            "Memory ends within a header, and no artifact says so.",
            cut(32 + 4096 + 8),
        ),
        altered(
            "memory-goes-on",
            "Bytes follow the last range.",
            [lime(), b"more".to_vec()].concat(),
        ),
    ]
}

fn with(memory: &[u8]) -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::of(&archive);
    collection.segment(Stream::Memory, memory);
    collection.end(&archive)
}

fn edited(at: usize, byte: u8) -> Vec<u8> {
    let mut memory = lime();
    memory[at] = byte;
    memory
}

fn cut(length: usize) -> Vec<u8> {
    lime()[..length].to_vec()
}
