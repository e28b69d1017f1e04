//! Databases that rpm 4.18 and Berkeley DB 5.3 wrote (`rpm -i` of two packages, `db5.3_load` of their headers), whole, torn
//! and made to mislead.

use super::*;

/// Made by rpm: `exhibit-large` and `exhibit-tiny`.
const SQLITE: &[u8] = include_bytes!("../../../../tests/fixtures/packages/rpmdb.sqlite.zst");
/// A log of the database above: the second package removed, the first one there three times.
const LOG: &[u8] = include_bytes!("../../../../tests/fixtures/packages/logged.sqlite-wal.zst");
/// The same two headers as Berkeley DB keeps them; rpm 4.18 reads it (`bdb_ro`).
const BERKELEY: &[u8] = include_bytes!("../../../../tests/fixtures/packages/Packages.zst");

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap()
}

type Each<'a> = &'a dyn Fn(&[u8], &mut Take<'_>) -> Result<u64, Damage>;

fn blobs(each: Each<'_>, bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), Damage> {
    let mut blobs = Vec::new();
    let torn = each(bytes, &mut |blob| {
        blobs.push(blob.to_vec());
        Ok(())
    })?;
    Ok((blobs, torn))
}

fn from_sqlite(bytes: &[u8], take: &mut Take<'_>) -> Result<u64, Damage> {
    sqlite::each(&bytes, None, "Packages", take)
}

fn from_berkeley(bytes: &[u8], take: &mut Take<'_>) -> Result<u64, Damage> {
    bdb::each(&bytes, take)
}

fn from_ndb(bytes: &[u8], take: &mut Take<'_>) -> Result<u64, Damage> {
    ndb::each(&bytes, take)
}

/// A database as `lib/backend/ndb/rpmpkg.c` writes it: no tool of Debian does.
fn ndb_of(blobs: &[Vec<u8>]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut file = [*b"RpmP", word(0), word(1), word(1), word(9)].concat();
    file.resize(32, 0);
    let mut rest = Vec::new();
    for (number, blob) in blobs.iter().enumerate() {
        let start = 4096 + rest.len();
        rest.extend([*b"BlbS", word(number + 1), word(1), word(blob.len())].concat());
        rest.extend(blob);
        rest.resize(rest.len().next_multiple_of(16) + 4, 0);
        rest.extend([word(0), word(blob.len()), *b"BlbE"].concat());
        let blocks = (4096 + rest.len() - start) / 16;
        file.extend([*b"Slot", word(number + 1), word(start / 16), word(blocks)].concat());
    }
    while file.len() < 4096 {
        file.extend([b"Slot".as_slice(), &[0; 12]].concat());
    }
    [file, rest].concat()
}

fn names(blobs: &[Vec<u8>]) -> Vec<String> {
    let name = |blob: &Vec<u8>| Header::parse(blob).unwrap().text(tag::NAME).unwrap();
    let mut names: Vec<String> = blobs.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn all_three_databases_hold_the_same_packages() {
    let (want, torn) = blobs(&from_sqlite, &unpacked(SQLITE)).unwrap();
    assert_eq!(
        (names(&want), torn),
        (vec!["exhibit-large".into(), "exhibit-tiny".into()], 0)
    );
    let sorted = |mut blobs: Vec<Vec<u8>>| {
        blobs.sort();
        blobs
    };
    let (berkeley, torn) = blobs(&from_berkeley, &unpacked(BERKELEY)).unwrap();
    assert!(torn == 0 && sorted(berkeley) == sorted(want.clone()));
    let (ndb, torn) = blobs(&from_ndb, &ndb_of(&want)).unwrap();
    assert!(torn == 0 && ndb == want);
}

#[test]
fn what_only_the_log_holds_counts_and_what_was_not_committed_does_not() {
    let (db, log) = (unpacked(SQLITE), unpacked(LOG));
    let read = |log: &[u8]| {
        let each =
            |bytes: &[u8], take: &mut Take<'_>| sqlite::each(&bytes, Some(&log), "Packages", take);
        names(&blobs(&each, &db).unwrap().0)
    };
    assert_eq!(read(&log), ["exhibit-large"; 3]);
    // Without its last frame the last commit never happened; with a changed byte neither did what follows.
    assert_eq!(read(&log[..log.len() - 1]), ["exhibit-large"; 2]);
    let mut changed = log.clone();
    changed[60] ^= 1;
    assert_eq!(read(&changed), ["exhibit-large", "exhibit-tiny"]);
    assert_eq!(read(b""), ["exhibit-large", "exhibit-tiny"]);
}

#[test]
fn a_package_is_told_with_its_files() {
    let (blobs, _) = blobs(&from_sqlite, &unpacked(SQLITE)).unwrap();
    let tiny = blobs
        .iter()
        .find(|blob| names(&[blob.to_vec()]) == ["exhibit-tiny"]);
    let header = Header::parse(tiny.unwrap()).unwrap();
    let package = package(Path::new("/db"), &header);
    assert_eq!(package.package.version, "2:1.0-3");
    assert_eq!(package.exhibit.vendor.as_deref(), Some("Exhibit tests"));
    assert_eq!(package.exhibit.signature_present, Some(false));
    assert_eq!(package.exhibit.record_intact, Some(true));
    let mut lines = Vec::new();
    files(&header, &mut |file| {
        lines.push(format!(
            "{} {:o} {} {} {} {}",
            text(file.path),
            file.mode.unwrap_or(0),
            file.config,
            file.optional,
            file.link.map(text).unwrap_or_default(),
            file.digest.map_or("", |(_, digest)| &digest[..8])
        ));
        Ok(())
    })
    .unwrap();
    assert_eq!(
        lines,
        [
            // As `printf 'a = 1\n' | sha256sum` and its like say.
            "/etc/tiny.conf 100644 true false  cb78bd8a",
            "/usr/bin/tiny 100755 false false  e2c2f062",
            "/usr/share/tiny 40755 false false  ",
            "/usr/share/tiny/data 100644 false false  6667b2d1",
            "/usr/share/tiny/ghost 0 false true  ",
            "/usr/share/tiny/link 120777 false false data ",
        ]
    );
}

#[test]
fn a_changed_record_is_told() {
    let (blobs, _) = blobs(&from_sqlite, &unpacked(SQLITE)).unwrap();
    for blob in blobs {
        assert_eq!(Header::parse(&blob).unwrap().is_intact(), Some(true));
        let digest = blob
            .windows(8)
            .rposition(|part| part == b"exhibit-")
            .unwrap();
        let mut changed = blob.clone();
        changed[digest] ^= 1;
        assert_eq!(Header::parse(&changed).unwrap().is_intact(), Some(false));
    }
}

/// Each reader, and something that it reads.
fn samples() -> Vec<(Each<'static>, Vec<u8>)> {
    let (want, _) = blobs(&from_sqlite, &unpacked(SQLITE)).unwrap();
    vec![
        (&from_sqlite, unpacked(SQLITE)),
        (&from_berkeley, unpacked(BERKELEY)),
        (&from_ndb, ndb_of(&want)),
    ]
}

#[test]
fn cut_databases_give_less_and_say_so() {
    for (each, whole) in samples() {
        for end in (0..whole.len()).step_by(1021) {
            match blobs(each, &whole[..end]) {
                Ok((blobs, torn)) => assert!(blobs.len() == 2 || torn > 0, "{end}"),
                Err(Damage::Malformed(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(matches!(blobs(each, b""), Err(Damage::Malformed(_))));
        assert!(matches!(
            blobs(each, &[0xFF; 5000]),
            Err(Damage::Malformed(_))
        ));
    }
}

#[test]
fn wrong_bytes_anywhere_neither_panic_nor_go_on_for_ever() {
    for (each, whole) in samples() {
        let (mut changed, mut seed) = (whole.clone(), 7_u64);
        for round in 0..400 {
            // Small numbers and all ones where offsets, lengths and page numbers are: loops, ends, overflows.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % if round % 2 == 0 { 8192 } else { whole.len() };
            changed[at] = [0, 1, 2, 0x7F, 0x80, 0xFF][(seed >> 20) as usize % 6];
            if let Ok((blobs, _)) = blobs(each, &changed) {
                for blob in &blobs {
                    if let Some(header) = Header::parse(blob) {
                        header.is_intact();
                        files(&header, &mut |_| Ok(())).unwrap();
                    }
                }
            }
            if round % 8 == 0 {
                changed.clone_from(&whole);
            }
        }
    }
}

#[test]
fn chains_that_go_round_end() {
    // The value's only page follows itself, and never fills the length that is stated.
    let mut file = unpacked(BERKELEY);
    for page in file.chunks_exact_mut(4096) {
        if page[25] == 7 {
            let own: [u8; 4] = page[8..12].try_into().unwrap();
            page[16..20].copy_from_slice(&own);
        }
    }
    let (blobs, torn) = blobs(&from_berkeley, &file).unwrap();
    assert!(torn <= 2 && blobs.len() <= 2);
}

#[test]
fn headers_with_impossible_counts_are_none_or_empty() {
    let huge = [
        &[0, 0, 0, 1][..],
        &[0, 0, 0, 4],
        &[
            0, 0, 4, 0x5D, 0, 0, 0, 8, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF,
        ],
        b"ab\0c",
    ]
    .concat();
    let header = Header::parse(&huge).unwrap();
    assert_eq!(header.texts(tag::BASE_NAMES).count(), 1);
    for blob in [&b""[..], &[0; 8], &[0xFF; 64], &huge[..20]] {
        assert!(Header::parse(blob).is_none());
    }
}
