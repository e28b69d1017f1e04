//! Tars that readers disagree on, or that hide or place something. Inventory, CHAIN and manifest fit the bytes.

use evidence::member::{BLOCK, END_OF_ARCHIVE, Member};

use crate::build::{Archive, Collection, Objects, Vector};

pub fn all() -> Vec<Vector> {
    [ends(), kinds(), names(), forms()]
        .into_iter()
        .flatten()
        .collect()
}

fn ends() -> Vec<Vector> {
    vec![
        Vector::altered(
            "data-after-end-of-archive",
            &["tar"],
            "A block follows the two that end the archive: every reader hides it.",
            ended(&[END_OF_ARCHIVE.as_slice(), &[b'h'; BLOCK]].concat()),
        ),
        Vector::altered(
            "member-after-end-of-archive",
            &["tar"],
            "A whole archive follows the end of the first.",
            ended(&[END_OF_ARCHIVE.as_slice(), &Archive::usual().end().raw].concat()),
        ),
        Vector::altered(
            "zeros-after-end-of-archive",
            &["tar"],
            "The archive is filled up to 10,240 bytes, as other writers do.",
            ended(&[0; 10_240 - 5 * BLOCK]),
        ),
        Vector::altered(
            "end-of-archive-missing",
            &["tar"],
            "The archive does not end.",
            ended(b""),
        ),
        Vector::altered(
            "end-of-archive-halved",
            &["tar"],
            "One block of zeros ends the archive.",
            ended(&[0; BLOCK]),
        ),
        Vector::altered(
            "block-of-zeros-in-the-middle",
            &["tar"],
            "A block of zeros stands between two members: some readers stop there.",
            built(|archive| archive.raw.extend_from_slice(&[0; BLOCK])),
        ),
        Vector::altered(
            "tar-cut",
            &["tar"],
            "The archive ends inside a member; all totals are those of the shorter one.",
            cut(),
        ),
        Vector::altered(
            "padding-not-zero",
            &["tar"],
            "Bytes are hidden between a member's end and the next block.",
            built(|archive| {
                archive.file(b"[root]/padded", b"x");
                let last = archive.raw.len() - 1;
                archive.raw[last] = b'h';
            }),
        )
        .unseen_by_the_shell(),
    ]
}

fn kinds() -> Vec<Vector> {
    let kind = |name, about, flag| Vector::altered(name, &["tar"], about, of_kind(flag));
    vec![
        Vector::altered(
            "pax-header",
            &["tar"],
            "An extended header gives the next member another name.",
            extended(b'x', b"21 path=[root]/other\n"),
        ),
        Vector::altered(
            "pax-global-header",
            &["tar"],
            "A global extended header.",
            extended(b'g', b"18 comment=hidden\n"),
        ),
        kind("member-hard-link", "A member is a hard link.", b'1'),
        kind(
            "member-char-device",
            "A member is a character device.",
            b'3',
        ),
        kind("member-block-device", "A member is a block device.", b'4'),
        kind("member-directory", "A member is a directory.", b'5'),
        kind("member-fifo", "A member is a FIFO.", b'6'),
        kind("member-sparse", "A member is a sparse file of GNU's.", b'S').unseen_by_the_shell(),
        kind(
            "member-volume-label",
            "A member is a volume label of GNU's.",
            b'V',
        ),
        kind(
            "member-of-old-kind",
            "A member has the kind of the first tar.",
            0,
        )
        .unseen_by_the_shell(),
        kind("member-contiguous", "A member is a contiguous file.", b'7'),
    ]
}

fn names() -> Vec<Vector> {
    let deep = ["d"; 300].join("/");
    let name = |vector, about, name: &[u8]| Vector::altered(vector, &["tar"], about, named(name));
    vec![
        name(
            "name-absolute",
            "A name starts at the root.",
            b"/etc/cron.d/x",
        ),
        name(
            "name-leaves-the-folder",
            "A name goes up.",
            b"[root]/../../x",
        ),
        name(
            "name-with-dot-part",
            "A name has a part that is a dot.",
            b"[root]/./x",
        ),
        name(
            "name-with-empty-part",
            "A name has an empty part.",
            b"[root]//x",
        ),
        name(
            "name-ends-with-slash",
            "A regular file has the name of a folder.",
            b"[root]/x/",
        ),
        name("name-empty", "A name is empty.", b""),
        name(
            "name-with-nul",
            "A name goes on after its end.",
            b"[root]/x\0hidden",
        )
        .unseen_by_the_shell(),
        name(
            "name-too-deep",
            "A name has more than 256 parts.",
            deep.as_bytes(),
        ),
        name(
            "long-name-with-nul",
            "A long name goes on after its end.",
            &[&[b'n'; 150], b"\0".as_slice(), &[b'h'; 50]].concat(),
        )
        .unseen_by_the_shell(),
        name(
            "name-too-long",
            "A name has more than 8,192 bytes.",
            &[b'n'; 8193],
        ),
        Vector::altered(
            "member-twice",
            &["duplicate"],
            "Two members have one name, and both are listed.",
            built(|archive| archive.file(b"[root]/etc/hostname", b"web-2\n")),
        ),
    ]
}

fn forms() -> Vec<Vector> {
    let edit = |name, about, at: usize, byte| {
        let objects = built(|archive| {
            archive
                .raw
                .extend(edited(&header(b"[root]/x", 0), |block| block[at] = byte));
            listed(archive, b"[root]/x");
        });
        Vector::altered(name, &["tar"], about, objects)
    };
    vec![
        edit(
            "header-with-sparse-field",
            "A plain file has a field that only sparse ones have.",
            482,
            1,
        )
        .unseen_by_the_shell(),
        edit("header-with-user-name", "A header names a user.", 265, b'x').unseen_by_the_shell(),
        edit(
            "header-of-posix",
            "A header has the magic of POSIX, not of GNU.",
            262,
            0,
        )
        .unseen_by_the_shell(),
        Vector::altered(
            "header-checksum",
            &["tar"],
            "A header's checksum is wrong.",
            built(|archive| {
                let mut block = header(b"[root]/x", 0);
                block[0] ^= 1;
                archive.raw.extend(block);
                listed(archive, b"[root]/x");
            }),
        ),
        Vector::altered(
            "long-name-for-a-short-one",
            &["tar"],
            "A name that fits into the header has a long-name header.",
            built(|archive| {
                archive.raw.extend(long(b"[root]/short"));
                archive.raw.extend(header(b"[root]/short", 0));
                listed(archive, b"[root]/short");
            }),
        ),
        Vector::altered(
            "long-name-without-a-member",
            &["tar"],
            "A long-name header stands before the end of the archive.",
            ended(&[long(&[b'n'; 200]).as_slice(), &END_OF_ARCHIVE].concat()),
        ),
    ]
}

/// The usual evidence, with more before the inventory.
fn built(more: impl FnOnce(&mut Archive)) -> Objects {
    let mut archive = Archive::usual();
    more(&mut archive);
    archive.file(b"[root]/etc/os-release", b"ID=debian\n");
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

/// The usual evidence, with these bytes where the end of the archive is due.
fn ended(end: &[u8]) -> Objects {
    let mut archive = Archive::usual();
    archive.inventory();
    archive.raw.extend_from_slice(end);
    Collection::of(&archive).end(&archive)
}

fn cut() -> Objects {
    let mut archive = Archive::usual().end();
    archive.raw.truncate(archive.raw.len() - 3 * BLOCK);
    Collection::of(&archive).end(&archive)
}

fn listed(archive: &mut Archive, name: &[u8]) {
    archive.members += 1;
    let entry = archive.content(name, b"");
    archive.enter(&entry);
}

/// A header that the writer would not refuse.
fn header(name: &[u8], size: u64) -> Vec<u8> {
    let placeholder = Member::own("placeholder", size, 5).to_blocks().unwrap();
    edited(&placeholder, |block| {
        block[..100].fill(0);
        let kept = name.len().min(100);
        block[..kept].copy_from_slice(&name[..kept]);
    })
}

/// A long-name header, whatever the name is.
fn long(name: &[u8]) -> Vec<u8> {
    let size = name.len() + 1;
    let mut blocks = edited(&header(b"././@LongLink", size as u64), |block| {
        block[156] = b'L';
        block[100..108].copy_from_slice(b"0000644\0");
        block[136..148].copy_from_slice(b"00000000000\0");
    });
    blocks.extend_from_slice(name);
    blocks.resize(BLOCK + size.next_multiple_of(BLOCK), 0);
    blocks
}

fn edited(header: &[u8], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut header = header.to_vec();
    edit(&mut header);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    header
}

fn of_kind(flag: u8) -> Objects {
    built(|archive| {
        archive
            .raw
            .extend(edited(&header(b"[root]/x", 0), |block| block[156] = flag));
        listed(archive, b"[root]/x");
    })
}

fn extended(flag: u8, records: &[u8]) -> Objects {
    built(|archive| {
        archive
            .raw
            .extend(edited(&header(b"pax", records.len() as u64), |block| {
                block[156] = flag
            }));
        archive.content(b"pax", records);
    })
}

fn named(name: &[u8]) -> Objects {
    built(|archive| {
        if name.len() > 100 {
            archive.raw.extend(long(name));
        }
        archive.raw.extend(header(name, 0));
        let shown = name.split(|byte| *byte == 0).next().unwrap_or_default();
        listed(archive, shown);
    })
}

/// What is edited here differs from what the writer makes in the edit alone.
#[test]
fn headers_without_a_flaw_are_those_of_the_writer() {
    for name in ["[root]/x".to_owned(), "n".repeat(100), "n".repeat(150)] {
        let mut blocks = if name.len() > 100 {
            long(name.as_bytes())
        } else {
            Vec::new()
        };
        blocks.extend(header(name.as_bytes(), 7));
        assert_eq!(blocks, Member::own(&name, 7, 5).to_blocks().unwrap());
    }
}
