//! Collections in which nothing is wrong.

use evidence::Digest;
use evidence::inventory::{FileType, Status};
use evidence::keys::Stream;
use evidence::manifest::{Completeness, Outcome};
use evidence::member::{Kind, Member};

use crate::build::{Archive, Collection, Objects, Vector, item, pack};
use crate::sealing::{self, Seal};

pub fn all() -> Vec<Vector> {
    let mut all = runs();
    all.extend(sealed());
    all
}

fn runs() -> Vec<Vector> {
    vec![
        Vector::valid(
            "minimal",
            "complete",
            "One segment with one frame.",
            minimal(),
        ),
        Vector::valid(
            "several-segments",
            "complete",
            "Members, frames and segments end in different places.",
            several_segments(),
        ),
        Vector::valid(
            "odd-names",
            "complete",
            "Names that are not UTF-8, steer terminals, look like other syntax or need a long-name header.",
            odd_names(),
        ),
        Vector::valid(
            "symlinks",
            "complete",
            "Targets that are absolute, long, not UTF-8, or look like a listing's arrow.",
            symlinks(),
        ),
        Vector::valid(
            "large-numbers",
            "complete",
            "Owners and times that only base-256 can hold.",
            large_numbers(),
        ),
        Vector::valid(
            "partial",
            "partial",
            "Items that are missing or incomplete, each with a line of its own.",
            partial(),
        ),
        Vector::valid(
            "secrets",
            "complete",
            "The manifest says what became of secrets; one was only hashed.",
            secrets(),
        ),
        Vector::valid(
            "inventory-in-parts",
            "complete",
            "An inventory that was written in two parts before the last.",
            inventory_in_parts(),
        ),
        Vector::valid(
            "two-streams",
            "complete",
            "Memory sealed between segments of evidence.",
            two_streams(),
        ),
        Vector::valid(
            "memory-partial",
            "partial",
            "Memory ends within a range, and the manifest says that it is partial.",
            memory_partial(),
        ),
        Vector::valid(
            "interrupted",
            "interrupted",
            "Neither CHAIN nor manifest; the tar ends inside a member.",
            interrupted(700),
        ),
        Vector::valid(
            "interrupted-between-members",
            "interrupted",
            "Neither CHAIN nor manifest; the tar ends where a member ends.",
            interrupted(1024),
        ),
        Vector::valid(
            "interrupted-in-a-long-name",
            "interrupted",
            "Neither CHAIN nor manifest; the tar ends between a long name and its member.",
            in_a_long_name(),
        ),
        Vector::valid(
            "interrupted-after-a-part",
            "interrupted",
            "Neither CHAIN nor manifest; a part of the inventory lists the members before it.",
            after_a_part(),
        ),
        Vector::valid(
            "interrupted-two-streams",
            "interrupted",
            "Neither CHAIN nor manifest; the links alone give the order of both streams.",
            interrupted_two_streams(),
        ),
        Vector::valid(
            "interrupted-before-the-first-member",
            "interrupted",
            "A segment with its link and no frame.",
            link_alone(),
        ),
        Vector::with_gap(
            "interrupted-gap",
            Stream::Evidence,
            &[3],
            "Neither CHAIN nor manifest; segment 2 never arrived, the one after it did.",
            interrupted_gap(&[2, 4, 5]),
        ),
        Vector::with_gap(
            "interrupted-gap-of-the-first",
            Stream::Evidence,
            &[1],
            "Neither CHAIN nor manifest; the first segment never arrived, the one after it did.",
            interrupted_gap(&[0, 2, 3, 4, 5]),
        ),
        Vector::with_gap(
            "interrupted-gap-of-the-widest",
            Stream::Evidence,
            &[4],
            "Neither CHAIN nor manifest; of the four segments that may be under way only the last arrived.",
            interrupted_gap(&[1, 2, 3, 5]),
        ),
        Vector::with_gap(
            "interrupted-gap-twice",
            Stream::Evidence,
            &[2, 4],
            "Neither CHAIN nor manifest; of the four segments that may be under way every other one arrived.",
            interrupted_gap(&[1, 3, 5]),
        ),
        Vector::with_gap(
            "interrupted-gap-in-memory",
            Stream::Memory,
            &[2, 3],
            "Neither CHAIN nor manifest; a segment of memory never arrived, the two after it did.",
            gap_in_memory(),
        ),
    ]
}

fn minimal() -> Objects {
    let mut archive = Archive::default();
    archive.file(b"uac.log", b"exhibit 0.1.0\n");
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

fn several_segments() -> Objects {
    let mut archive = Archive::usual();
    let large: Vec<u8> = (0..3000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    archive.file(b"[root]/var/log/wtmp", &large);
    let archive = archive.end();
    let mut collection = Collection::new();
    for piece in archive.raw.chunks(5000) {
        let frames: Vec<Vec<u8>> = piece.chunks(1999).map(pack).collect();
        collection.frames(Stream::Evidence, &frames, piece);
    }
    collection.end(&archive)
}

fn odd_names() -> Objects {
    let mut archive = Archive::usual();
    for name in [
        b"caf\xc3\xa9 \xf0\x9f\x94\x8d".as_slice(),
        b"not-utf8-\xff\xfe\xc3",
        b"line\nbreak\rand\ttab",
        b"\x1b[31mred\x1b[0m\x07\x08\x7f",
        b"pipe|and \"quotes\" and \\ and \\n",
        b" leading and trailing ",
        b"-rf",
        b"2026-03-14 15:09:26 file -> target",
        b"...",
        &[b'n'; 94],
        &[b'n'; 95],
        &[b'o'; 1200],
        &[0xe9; 1200],
    ] {
        archive.file(&[b"[root]/".as_slice(), name].concat(), b"x");
    }
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

fn symlinks() -> Objects {
    let mut archive = Archive::usual();
    archive.link(b"[root]/a", b"../../../etc/shadow");
    archive.link(b"[root]/b -> c", b"d -> e");
    archive.link(b"[root]/not-utf8", b"/tmp/\xff\n\x1b]0;x\x07");
    archive.link(b"[root]/hundred", &[b't'; 100]);
    archive.link(b"[root]/proc/7/exe", &[b't'; 1300]);
    let long_name = [b"[root]/".as_slice(), &[b'l'; 200]].concat();
    archive.link(&long_name, &[b'u'; 101]);
    let mut dangling = item(b"[root]/gone", FileType::Symlink, Status::Vanished);
    dangling.errno = Some("ENOENT".to_owned());
    archive.enter(&dangling);
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

fn large_numbers() -> Objects {
    let mut archive = Archive::usual();
    for (name, uid, mtime) in [
        (b"[root]/nobody".as_slice(), u64::from(u32::MAX), 0),
        (b"[root]/future", 2_097_152, 1 << 40),
        (b"[root]/end-of-time", 0, i64::MAX.unsigned_abs()),
    ] {
        let member = Member {
            name: name.into(),
            kind: Kind::File { size: 1 },
            mode: 0o4755,
            uid,
            gid: uid,
            mtime,
        };
        archive.blocks(&member.to_blocks().unwrap());
        let entry = archive.content(name, b"x");
        archive.enter(&entry);
    }
    let archive = archive.end();
    Collection::of(&archive).end(&archive)
}

fn partial() -> Objects {
    let mut archive = Archive::usual();
    let mut denied = item(b"[root]/etc/shadow", FileType::File, Status::Denied);
    denied.reason = Some("Permission denied".to_owned());
    denied.errno = Some("EACCES".to_owned());
    archive.enter(&denied);
    archive.enter(&item(
        b"[root]/dev/sda",
        FileType::BlockDevice,
        Status::Metadata,
    ));
    let mut skipped = item(b"[root]/\xff\xff", FileType::File, Status::Skipped);
    skipped.reason = Some("says \"offset\":512,\"size\":3 and {\"path\":\"x\"}".to_owned());
    archive.enter(&skipped);
    let mut shrank = archive.member(b"[root]/var/log/shrank", b"was\0\0\0\0\0");
    (shrank.status, shrank.short_at) = (Status::Shrank, Some(3));
    archive.enter(&shrank);
    let mut truncated = archive.member(b"[root]/proc/kcore", b"first bytes");
    (truncated.status, truncated.grew_to) = (Status::Truncated, Some(4096));
    archive.enter(&truncated);
    let archive = archive.end();
    let collection = Collection::in_three(&archive);
    let mut manifest = collection.manifest(archive.totals());
    manifest.status = Completeness::Partial;
    manifest.reasons = vec!["files: 1 denied:EACCES".to_owned()];
    manifest.case.arguments = vec![
        "\",\"status\":\"complete\",\"store\":{\"".to_owned(),
        "\"chain\":{\"head\":\"".to_owned(),
    ];
    collection.end_with(&manifest)
}

fn secrets() -> Objects {
    let mut archive = Archive::usual();
    let mut key = item(
        b"[root]/etc/ssh/ssh_host_rsa_key",
        FileType::File,
        Status::Skipped,
    );
    key.reason = Some("private_keys: only the hash is collected".to_owned());
    key.sha256 = Some(Digest::of(b"-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    archive.enter(&key);
    archive.file(b"[root]/etc/shadow", b"root:masked:19000:0:99999:7:::\n");
    let archive = archive.end();
    let collection = Collection::in_three(&archive);
    let mut manifest = collection.manifest(archive.totals());
    manifest.case.profile = Some("triage".to_owned());
    let policies = [("password_hashes", "mask"), ("private_keys", "hash")];
    manifest.case.sensitive = policies
        .map(|(class, policy)| (class.to_owned(), policy.to_owned()))
        .into();
    collection.end_with(&manifest)
}

fn inventory_in_parts() -> Objects {
    let mut archive = Archive::usual();
    archive.spill();
    archive.file(b"[root]/etc/passwd", b"root:x:0:0::/root:/bin/sh\n");
    archive.spill();
    archive.file(b"[root]/etc/group", b"root:x:0:\n");
    let archive = archive.end();
    Collection::in_three(&archive).end(&archive)
}

/// Two LiME ranges: magic `EMiL`, version 1, first and last address, reserved, then the bytes.
pub fn lime() -> Vec<u8> {
    [
        range(0x1000, 0x1fff, &[7; 4096]),
        range(0x10_0000, 0x10_0fff, &[0; 4096]),
    ]
    .concat()
}

/// A header of LiME's with these addresses, and the bytes that follow it.
pub fn range(first: u64, last: u64, bytes: &[u8]) -> Vec<u8> {
    [
        b"EMiL".as_slice(),
        &1_u32.to_le_bytes(),
        &first.to_le_bytes(),
        &last.to_le_bytes(),
        &[0; 8],
        bytes,
    ]
    .concat()
}

fn two_streams() -> Objects {
    let archive = Archive::usual().end();
    let (first, rest) = archive.raw.split_at(1500);
    let memory = lime();
    let (low, high) = memory.split_at(4000);
    let mut collection = Collection::new();
    collection.segment(Stream::Evidence, first);
    collection.segment(Stream::Memory, low);
    collection.segment(Stream::Memory, high);
    collection.segment(Stream::Evidence, rest);
    collection.end(&archive)
}

fn memory_partial() -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::of(&archive);
    collection.segment(Stream::Memory, &lime()[..5000]);
    let mut manifest = collection.manifest(archive.totals());
    manifest.status = Completeness::Partial;
    manifest.reasons = vec!["memory: partial: the run was interrupted by a signal".to_owned()];
    let mut report = manifest.artifacts[0].clone();
    (report.name, report.outcome) = ("memory".to_owned(), Outcome::Partial);
    report.reason = Some("the run was interrupted by a signal".to_owned());
    manifest.artifacts.push(report);
    collection.end_with(&manifest)
}

/// The usual evidence, ended `keep` bytes into its second segment.
fn interrupted(keep: usize) -> Objects {
    let archive = Archive::usual().end();
    let (first, rest) = archive.raw.split_at(1024);
    let mut collection = Collection::new();
    collection.segment(Stream::Evidence, first);
    collection.segment(Stream::Evidence, &rest[..keep]);
    collection.cut()
}

fn in_a_long_name() -> Objects {
    let mut archive = Archive::usual();
    let cut = archive.raw.len() + 1024;
    archive.file(&[b'n'; 300], b"x");
    let mut collection = Collection::new();
    collection.segment(Stream::Evidence, &archive.raw[..cut]);
    collection.cut()
}

fn after_a_part() -> Objects {
    let mut archive = Archive::usual();
    archive.file(&[b'n'; 300], b"x");
    archive.spill();
    archive.link(&[b'l'; 300], &[b't'; 300]);
    archive.file(b"[root]/etc/passwd", &[b'x'; 5000]);
    archive.raw.truncate(archive.raw.len() - 1000);
    Collection::in_three(&archive).cut()
}

fn interrupted_two_streams() -> Objects {
    let archive = Archive::usual().end();
    let memory = lime();
    let mut collection = Collection::new();
    collection.segment(Stream::Memory, &memory[..3000]);
    collection.segment(Stream::Evidence, &archive.raw[..512]);
    collection.segment(Stream::Memory, &memory[3000..5000]);
    collection.segment(Stream::Evidence, &archive.raw[512..2048]);
    collection.cut()
}

fn link_alone() -> Objects {
    let mut collection = Collection::new();
    collection.frames(Stream::Evidence, &[], b"");
    collection.cut()
}

/// Six segments of the usual evidence, cut before CHAIN and before these arrived.
fn interrupted_gap(missing: &[u32]) -> Objects {
    Collection::in_pieces(&Archive::usual().end(), 6).cut_without(Stream::Evidence, missing)
}

fn gap_in_memory() -> Objects {
    let mut collection = Collection::new();
    collection.segment(Stream::Evidence, &Archive::usual().raw[..512]);
    for piece in lime().chunks(2100) {
        collection.segment(Stream::Memory, piece);
    }
    collection.cut_without(Stream::Memory, &[1])
}

fn sealed() -> Vec<Vector> {
    let by_sealer = |objects: Objects| Seal::of(objects).stored();
    let of_kms = |mut objects: Objects| {
        sealing::exchange_s(sealing::bytes(&mut objects, "SHA256SUMS.sig"));
        objects
    };
    vec![
        Vector::valid(
            "sealed",
            "complete",
            "Sealed and signed; the reader trusts no key.",
            by_sealer(minimal()),
        )
        .with_seal("untrusted"),
        Vector::valid(
            "sealed-and-trusted",
            "complete",
            "Sealed and signed by the key that the reader trusts, with a time stamp over SHA256SUMS.",
            sealing::stamped(by_sealer(several_segments()), |stamp| stamp.answer()),
        )
        .with_seal("trusted")
        .trusting("sealer.pub.pem"),
        Vector::valid(
            "sealed-with-the-other-s",
            "complete",
            "A signature with the other of the two values of s, as a key service may make it.",
            of_kms(by_sealer(two_streams())),
        )
        .with_seal("trusted")
        .trusting("sealer.pub.pem"),
        Vector::valid(
            "sealed-partial",
            "partial",
            "The statement has the receipt, what the store showed, and an operator that is not ASCII.",
            Seal::of(partial()).with_receipt().stored(),
        )
        .with_seal("untrusted"),
        Vector::with_gap(
            "sealed-interrupted",
            Stream::Evidence,
            &[3],
            "A run that was cut, sealed as it is: what stands beyond the gap is sealed, too.",
            by_sealer(interrupted_gap(&[2, 4, 5])),
        )
        .with_seal("untrusted"),
        Vector::valid(
            "seal-unfinished",
            "complete",
            "SHA256SUMS is stored last: without it the other objects of a seal are not looked into.",
            ["pubkey.pem", "custody/000000.json"]
                .into_iter()
                .fold(minimal(), |objects, key| sealing::with(objects, key, b"any\n")),
        ),
    ]
}
