//! Frames that are damaged, or that could fill a reader's memory or disk. CHAIN and manifest fit the bytes.

use std::io::Write;

use evidence::frame::{self, MAX_RAW_BYTES};
use evidence::keys::Stream;

use crate::build::{Archive, Collection, Objects, Vector, pack};
use crate::valid::range;

pub fn all() -> Vec<Vector> {
    vec![
        Vector::altered(
            "frame-damaged",
            &["frame"],
            "A frame's checksum is not that of its content.",
            with_frames(|frame, _| {
                let last = frame.len() - 1;
                frame[last] ^= 1;
                vec![frame.clone()]
            }),
        ),
        Vector::altered(
            "frame-cut-between-segments",
            &["frame"],
            "A frame starts in one segment and ends in the next.",
            frame_over_two_segments(),
        ),
        Vector::altered(
            "frame-without-size",
            &["frame"],
            "A frame does not declare how many bytes it holds.",
            with_frames(|_, raw| vec![without_size(raw)]),
        ),
        Vector::altered(
            "frame-too-large",
            &["frame"],
            "A frame holds more than 16 MiB.",
            zeros(&[MAX_RAW_BYTES + 1]),
        )
        .unseen_by_the_shell(),
        Vector::altered(
            "zip-bomb",
            &["limit"],
            "Each stored byte stands for more than 25,000 raw ones, over 64 MiB.",
            zeros(&[MAX_RAW_BYTES; 5]),
        ),
        Vector::altered(
            "more-raw-bytes-than-stated",
            &["mismatch"],
            "The stream goes on after the raw bytes that the manifest states.",
            more_than_stated(),
        ),
        Vector::altered(
            "garbage-after-last-frame",
            &["frame"],
            "Bytes that are no frame follow the last one.",
            with_frames(|frame, _| vec![frame.clone(), b"garbage".to_vec()]),
        ),
        Vector::altered(
            "skippable-frame-in-the-middle",
            &["frame"],
            "A second skippable frame stands between two frames: a place for bytes that no reader shows.",
            with_frames(|frame, _| vec![frame.clone(), frame::skippable("hidden"), pack(b"")]),
        ),
        Vector::altered(
            "skippable-frame-at-the-end",
            &["frame"],
            "A second skippable frame stands after the last frame.",
            with_frames(|frame, _| vec![frame.clone(), frame::skippable("hidden")]),
        ),
        Vector::altered(
            "frame-of-another-format",
            &["frame"],
            "A gzip member follows the last frame.",
            with_frames(|frame, _| vec![frame.clone(), GZIP_OF_NOTHING.to_vec()]),
        ),
    ]
}

/// `printf '' | gzip -n`
const GZIP_OF_NOTHING: [u8; 20] = [
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// The usual evidence in one segment; its frame is what `edit` makes of the right one and its content.
fn with_frames(edit: impl FnOnce(&mut Vec<u8>, &[u8]) -> Vec<Vec<u8>>) -> Objects {
    let archive = Archive::usual().end();
    let frames = edit(&mut pack(&archive.raw), &archive.raw);
    let mut collection = Collection::new();
    collection.frames(Stream::Evidence, &frames, &archive.raw);
    collection.end(&archive)
}

fn without_size(raw: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

fn frame_over_two_segments() -> Objects {
    let archive = Archive::usual().end();
    let frame = pack(&archive.raw);
    let (start, rest) = frame.split_at(frame.len() / 2);
    let mut collection = Collection::new();
    collection.frames(Stream::Evidence, &[start.to_vec()], &archive.raw);
    collection.frames(Stream::Evidence, &[rest.to_vec()], b"");
    collection.end(&archive)
}

/// Memory of zeros in frames of these sizes, after the usual evidence.
fn zeros(sizes: &[u64]) -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::of(&archive);
    let header = range(0, sizes.iter().sum::<u64>() - 1, &[]);
    let sizes = sizes.iter().map(|size| usize::try_from(*size).unwrap());
    let frames = sizes.clone().map(|size| pack(&vec![0; size]));
    let frames: Vec<Vec<u8>> = [pack(&header)].into_iter().chain(frames).collect();
    let raw = [header, vec![0; sizes.sum()]].concat();
    collection.frames(Stream::Memory, &frames, &raw);
    collection.end(&archive)
}

fn more_than_stated() -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::of(&archive);
    let memory = range(0, 4095, &[0; 4096]);
    collection.frames(Stream::Memory, &[pack(&memory)], &memory[..4095]);
    collection.end(&archive)
}
