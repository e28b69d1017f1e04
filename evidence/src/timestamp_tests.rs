//! Answers of openssl, and what is none.

use super::*;

/// What OpenSSL 3.0 answered to a request over [`SUMS`] with [`NONCE`], and its query.
const ANSWER: &[u8] = include_bytes!("../vectors/time-stamp/granted.tsr");
const QUERY: &[u8] = include_bytes!("../vectors/time-stamp/query.tsq");
const REFUSAL: &[u8] = include_bytes!("../vectors/time-stamp/refused.tsr");
const SUMS: &[u8] = b"hello\n";

fn asked() -> Nonce {
    Nonce(QUERY[58..66].try_into().unwrap())
}

/// A value in DER, of up to 127 bytes.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[tag, content.len() as u8], content.as_slice()].concat()
}

/// The fields of a `TSTInfo` as openssl has them, one of them another.
fn info(other: usize, with: &[u8]) -> Result<TimeStamp> {
    let imprint = der(0x30, &[&BEFORE_HASH[7..22], &[4, 32], &[7; 32]]);
    let time = der(0x18, &[b"20260314150926.5Z"]);
    let mut fields = vec![
        vec![2, 1, 1],
        vec![6, 1, 0x2a],
        imprint,
        vec![2, 1, 9],
        time,
    ];
    match fields.get_mut(other) {
        Some(field) => *field = with.to_vec(),
        None => fields.push(with.to_vec()),
    }
    let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    whole(&der(0x30, &fields), |reader| reader.sequence(tst_info))
}

#[test]
fn a_request_is_what_openssl_asks() {
    assert_eq!(request(Digest::of(SUMS), asked()), QUERY);
    for random in [[0; 8], [0xff; 8]] {
        assert!(matches!(Nonce::new(random).0[0], 0x40..=0x7f));
    }
}

#[test]
fn an_answer_of_openssl_is_read() {
    let stamp = TimeStamp::over(SUMS, ANSWER).unwrap();
    assert_eq!(stamp.answers(asked()), Ok(()));
    assert!(line::is_time(&stamp.time), "{}", stamp.time);
    let other = Nonce::new([1; 8]);
    assert_eq!(stamp.answers(other), Err(TimeStampError::Nonce));
    let error = TimeStamp::over(b"hello", ANSWER).unwrap_err();
    assert!(matches!(error, TimeStampError::Imprint { .. }), "{error}");
}

#[test]
fn a_refusal_says_why() {
    let error = TimeStamp::parse(REFUSAL).unwrap_err();
    assert!(
        matches!(&error, TimeStampError::Refused { status: 2, text } if !text.is_empty()),
        "{error}"
    );
}

#[test]
fn no_cut_and_no_byte_more_is_taken() {
    for length in 0..ANSWER.len() {
        assert!(TimeStamp::parse(&ANSWER[..length]).is_err(), "{length}");
    }
    assert!(TimeStamp::parse(&[ANSWER, &[0]].concat()).is_err());
    let long = vec![0; MAX_BYTES as usize + 1];
    assert_eq!(TimeStamp::parse(&long), Err(TimeStampError::TooLong));
}

/// Where it states something, no bit can be changed without another answer, or another statement.
#[test]
fn no_changed_bit_states_the_same() {
    let stamp = TimeStamp::parse(ANSWER).unwrap();
    let start = ANSWER
        .windows(32)
        .position(|w| w == stamp.imprint.as_bytes());
    let start = start.unwrap();
    for at in (start..start + 32).chain(start + 35..start + 55) {
        let mut changed = ANSWER.to_vec();
        changed[at] ^= 1;
        assert!(TimeStamp::parse(&changed) != Ok(stamp.clone()), "{at}");
    }
}

#[test]
fn fields_stand_there_once_and_in_order() {
    let stamp = info(9, &[]).unwrap();
    assert_eq!(stamp.time, "2026-03-14T15:09:26.5Z");
    assert_eq!(stamp.imprint, Digest::from([7; 32]));
    // Accuracy, ordering, nonce; extensions.
    info(9, &[0x30, 3, 2, 1, 1, 1, 1, 0xff, 2, 1, 5]).unwrap();
    info(9, &[0xa1, 0]).unwrap();
    for wrong in [&[2, 1, 5, 2, 1, 5][..], &[2, 1, 5, 0x30, 0], &[4, 0]] {
        assert!(info(9, wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn other_forms_are_refused() {
    let sha512 = der(0x30, &[&[0x30, 3, 6, 1, 0x2a], &[4, 32], &[7; 32]]);
    let short = der(0x30, &[&BEFORE_HASH[7..22], &[4, 31], &[7; 31]]);
    let null = der(
        0x30,
        &[
            &[0x30, 0x0e],
            &BEFORE_HASH[9..20],
            &[5, 1, 0, 4, 32],
            &[7; 32],
        ],
    );
    for (other, with) in [
        (0, &[2, 1, 2][..]),
        (0, &[2, 2, 0, 1]),
        (1, &[5, 0]),
        (2, &sha512),
        (2, &short),
        (2, &null),
        (3, &[2, 0]),
    ] {
        assert!(info(other, with).is_err(), "{with:?}");
    }
}

#[test]
fn times_without_seconds_or_utc_are_refused() {
    for wrong in [
        "",
        "202603141509Z",
        "20260314150926",
        "20260314150926+0000",
        "20260314150926,5Z",
        "20260314150926.50Z",
        "20260314150926.Z",
        "20261314150926Z",
        "2026031415092\u{e9}Z",
    ] {
        assert_eq!(time(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(time(b"20260314150926Z").unwrap(), "2026-03-14T15:09:26Z");
}
