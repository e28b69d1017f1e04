//! Pages of known content, planted in a guest's memory by `src/bin/guest.rs` and looked for in an image of it.

use sha2::{Digest, Sha256};

/// The size of a page.
pub const PAGE: usize = 4096;

/// A page that was planted: where it lies and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    pub physical: u64,
    pub content: Vec<u8>,
}

/// The content of a page: a line to find by eye, then bytes that stand nowhere else.
pub fn page(pid: u32, index: usize) -> Vec<u8> {
    let mut bytes = format!("exhibit planted page {index} of process {pid}\n").into_bytes();
    let mut block = Sha256::digest(&bytes);
    while bytes.len() < PAGE {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes.truncate(PAGE);
    bytes
}

/// Reads what `guest plant` wrote: `pid index address` a line, and `moved` when a page did not stay.
///
/// # Panics
/// When the text is not complete or a page has moved: then an address means nothing.
pub fn parse(text: &str) -> Vec<Planted> {
    assert!(!text.contains("moved"), "a planted page has moved: {text}");
    let planted: Vec<Planted> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [pid, index, address] = words[..] else {
                panic!("not a planted page: {line}");
            };
            Planted {
                physical: u64::from_str_radix(address, 16).expect("an address"),
                content: page(
                    pid.parse().expect("a pid"),
                    index.parse().expect("an index"),
                ),
            }
        })
        .collect();
    assert!(!planted.is_empty(), "nothing was planted");
    planted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pages_are_alike_and_each_is_whole() {
        let pages = [page(1, 0), page(1, 1), page(2, 0), page(2, 1)];
        for (at, one) in pages.iter().enumerate() {
            assert_eq!(one.len(), PAGE);
            assert!(pages.iter().skip(at + 1).all(|other| other != one));
        }
        let read = parse("7 3 1ff000\n");
        assert_eq!(
            (read[0].physical, &read[0].content),
            (0x1f_f000, &page(7, 3))
        );
    }
}
