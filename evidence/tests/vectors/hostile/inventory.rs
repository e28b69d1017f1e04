//! Inventories that do not say what is in the tar. The manifest has their right hash.

use evidence::Digest;
use evidence::inventory::{Entry, FileType, MAX_LINE, Name, Status};

use crate::build::{Archive, Collection, Objects, Vector, item};

pub fn all() -> Vec<Vector> {
    [lines(), forms(), places()].into_iter().flatten().collect()
}

fn lines() -> Vec<Vector> {
    vec![
        Vector::altered(
            "inventory-digest",
            &["member"],
            "A line states another SHA-256.",
            wrong(|entry| entry.sha256 = Some(Digest::of(b"flaw"))),
        ),
        Vector::altered(
            "inventory-digest-missing",
            &["member"],
            "A line states no SHA-256.",
            wrong(|entry| entry.sha256 = None),
        ),
        Vector::altered(
            "inventory-size",
            &["member"],
            "A line states another size.",
            wrong(|entry| entry.size = Some(6)),
        ),
        Vector::altered(
            "inventory-offset",
            &["member"],
            "A line states another offset.",
            wrong(|entry| entry.offset = Some(entry.offset.unwrap() + 512)),
        ),
        Vector::altered(
            "inventory-name",
            &["member"],
            "A line has another name.",
            wrong(|entry| entry.name = Name::of(b"[root]/etc/shadow")),
        ),
        Vector::altered(
            "inventory-type",
            &["member"],
            "A line says that a file is a directory.",
            wrong(|entry| entry.file_type = FileType::Directory),
        ),
        Vector::altered(
            "inventory-target",
            &["member"],
            "A line states another target of a link.",
            target(),
        ),
        Vector::altered(
            "inventory-line-missing",
            &["member"],
            "No line names a member.",
            built(|archive| drop(archive.member(b"[root]/etc/passwd", b"root:x:0:0\n"))),
        ),
        Vector::altered(
            "inventory-line-for-no-member",
            &["inventory"],
            "A line names a member that is not in the tar.",
            built(|archive| {
                let mut entry = item(b"[root]/etc/shadow", FileType::File, Status::Captured);
                (entry.offset, entry.size, entry.sha256) =
                    (Some(99_840), Some(0), Some(Digest::of(b"")));
                archive.enter(&entry);
            }),
        ),
        Vector::altered(
            "inventory-lines-swapped",
            &["member"],
            "Two lines changed places.",
            swapped(),
        ),
    ]
}

fn forms() -> Vec<Vector> {
    let line = |name, about, line: &[u8]| {
        let objects = built(|archive| {
            archive.entries += 1;
            archive.lines.extend_from_slice(line);
        });
        Vector::altered(name, &["inventory"], about, objects)
    };
    let plain = item(b"[root]/x", FileType::File, Status::Vanished)
        .to_line()
        .unwrap();
    let text = String::from_utf8(plain).unwrap();
    let mut long = item(b"[root]/x", FileType::File, Status::Skipped);
    long.reason = Some("r".repeat(MAX_LINE));
    vec![
        line(
            "inventory-not-canonical",
            "A line has white space between its values.",
            text.replacen(',', ", ", 1).as_bytes(),
        ),
        line(
            "inventory-unknown-field",
            "A line has a field that format 1 does not have.",
            text.replacen("\"read_at\"", "\"read_by\":\"\",\"read_at\"", 1)
                .as_bytes(),
        ),
        line(
            "inventory-name-in-another-form",
            "A name that is UTF-8 stands there as base64.",
            text.replacen("\"path\":\"[root]/x\"", "\"path_b64\":\"W3Jvb3RdL3g=\"", 1)
                .as_bytes(),
        ),
        line(
            "inventory-line-too-long",
            "A line has more than 1 MiB.",
            &long.to_line().unwrap(),
        ),
        line("inventory-line-empty", "A line is empty.", b"\n"),
        line("inventory-not-json", "A line is no JSON.", b"not json\n"),
        Vector::altered(
            "inventory-ends-without-newline",
            &["inventory"],
            "The last line does not end; it is not counted.",
            built(|archive| archive.lines.extend_from_slice(text.trim_end().as_bytes())),
        ),
    ]
}

fn places() -> Vec<Vector> {
    vec![
        Vector::altered(
            "member-after-inventory",
            &["member"],
            "A member follows the inventory, which therefore can not list it.",
            after_inventory(),
        ),
        Vector::altered(
            "inventory-missing",
            &["member", "mismatch"],
            "The tar has no inventory.",
            missing(),
        ),
        Vector::altered(
            "inventory-parts-swapped",
            &["member", "mismatch"],
            "The parts of the inventory are numbered from the wrong end.",
            parts_swapped(),
        ),
        Vector::altered(
            "inventory-part-not-listed",
            &["member"],
            "No line names a part of the inventory.",
            part_not_listed(),
        ),
        Vector::altered(
            "interrupted-member-differs",
            &["member"],
            "Neither CHAIN nor manifest, and a part of the inventory states another SHA-256.",
            interrupted_member_differs(),
        ),
        Vector::altered(
            "interrupted-line-missing",
            &["member"],
            "Neither CHAIN nor manifest, and an archive that ends: no line names a member.",
            interrupted_line_missing(),
        ),
        Vector::altered(
            "interrupted-tar-damaged",
            &["tar"],
            "Neither CHAIN nor manifest, and the tar goes on with bytes that are no header.",
            interrupted_tar_damaged(),
        ),
    ]
}

/// The usual evidence, with more before the inventory.
fn built(more: impl FnOnce(&mut Archive)) -> Objects {
    let mut archive = Archive::usual();
    more(&mut archive);
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

/// A member whose line is not right, and one after it whose line is.
fn wrong(edit: impl FnOnce(&mut Entry)) -> Objects {
    built(|archive| {
        let mut entry = archive.member(b"[root]/etc/group", b"root:x:0:\n");
        edit(&mut entry);
        archive.enter(&entry);
        archive.file(b"[root]/etc/os-release", b"ID=debian\n");
    })
}

fn target() -> Objects {
    built(|archive| {
        archive.link(b"[root]/bin", b"usr/bin");
        let lines = String::from_utf8(std::mem::take(&mut archive.lines)).unwrap();
        archive.lines = lines.replace("usr/bin", "usr/nib").into_bytes();
    })
}

fn swapped() -> Objects {
    built(|archive| {
        let one = archive.member(b"[root]/etc/group", b"root:x:0:\n");
        let two = archive.member(b"[root]/etc/passwd", b"root:x:0:0\n");
        archive.enter(&two);
        archive.enter(&one);
    })
}

fn after_inventory() -> Objects {
    let mut archive = Archive::usual();
    archive.inventory();
    let totals = archive.totals();
    archive.member(b"[root]/etc/late", b"late\n");
    archive
        .raw
        .extend_from_slice(&evidence::member::END_OF_ARCHIVE);
    let collection = Collection::of(&archive);
    let mut manifest = collection.manifest(totals);
    manifest.inventory.members = archive.members;
    collection.end_with(&manifest)
}

fn missing() -> Objects {
    let mut archive = Archive::default();
    archive
        .raw
        .extend_from_slice(&evidence::member::END_OF_ARCHIVE);
    Collection::of(&archive).end(&archive)
}

fn parts_swapped() -> Objects {
    let mut archive = Archive::usual();
    let first = std::mem::take(&mut archive.lines);
    archive.file(b"inventory/00001.jsonl", &first);
    archive.file(b"[root]/etc/group", b"root:x:0:\n");
    let second = std::mem::take(&mut archive.lines);
    archive.file(b"inventory/00000.jsonl", &second);
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

fn part_not_listed() -> Objects {
    let mut archive = Archive::usual();
    let lines = std::mem::take(&mut archive.lines);
    archive.member(b"inventory/00000.jsonl", &lines);
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

fn interrupted_member_differs() -> Objects {
    let mut archive = Archive::usual();
    let mut entry = archive.member(b"[root]/etc/group", b"root:x:0:\n");
    entry.sha256 = Some(Digest::of(b"flaw"));
    archive.enter(&entry);
    archive.spill();
    archive.file(b"[root]/etc/passwd", b"root:x:0:0\n");
    Collection::of(&archive).cut()
}

fn interrupted_line_missing() -> Objects {
    let mut archive = Archive::usual();
    archive.member(b"[root]/etc/passwd", b"root:x:0:0\n");
    Collection::of(&archive.end()).cut()
}

fn interrupted_tar_damaged() -> Objects {
    let mut archive = Archive::usual();
    archive.raw.extend_from_slice(&[b'h'; 512]);
    Collection::of(&archive).cut()
}
