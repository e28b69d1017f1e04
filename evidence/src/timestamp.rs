//! Time stamps (RFC 3161): the request for one, and what an answer states. It never checks who signed it.
//!
//! The token in the object `SHA256SUMS.tsr` says that SHA256SUMS existed at a time. Its signature is a matter of
//! certificates, and is left to `openssl ts -verify` (`docs/decisions/0014-timestamp.md`).

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

use crate::digest::Digest;
use crate::line;

/// Name of the object that holds the answer of the authority, as DER.
pub const TIME_STAMP: &str = "SHA256SUMS.tsr";
/// Longest answer that is read, in bytes. One with a chain of certificates has 4 to 8 KiB.
pub const MAX_BYTES: u64 = 64 << 10;

/// `id-signedData` (RFC 5652, section 5.1).
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// `id-ct-TSTInfo` (RFC 3161, section 2.4.2).
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
/// `id-sha256` (RFC 5754, section 2.2).
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// A request up to the hash: version 1, and an imprint by SHA-256 (RFC 3161, section 2.4.1).
const BEFORE_HASH: &[u8] = &[
    0x30, 0x43, 2, 1, 1, 0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0,
    4, 0x20,
];
/// Longest piece of an authority's own words that is kept, in characters.
const MAX_SAID: usize = 200;

/// Why bytes are not the time stamp that is wanted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeStampError {
    #[error("{TIME_STAMP} is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("{TIME_STAMP} is not an answer of RFC 3161 in DER: {0}")]
    Der(der::Error),
    #[error("{TIME_STAMP} is not an answer of RFC 3161: {0}")]
    Form(&'static str),
    #[error("{TIME_STAMP} grants nothing: status {status}{}", said(.text))]
    Refused { status: u8, text: String },
    #[error("{TIME_STAMP} is not over SHA256SUMS: it is over SHA-256 {found}")]
    Imprint { found: Digest },
    #[error("{TIME_STAMP} answers another request: its nonce is not ours")]
    Nonce,
}

fn said(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}

impl From<der::Error> for TimeStampError {
    fn from(error: der::Error) -> Self {
        Self::Der(error)
    }
}

type Result<T> = std::result::Result<T, TimeStampError>;

/// A number that is in one request only, so that no older answer fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; 8]);

impl Nonce {
    /// From eight random bytes, of which 62 bits are kept: it is positive, and as long as it can be.
    pub fn new(random: [u8; 8]) -> Self {
        let mut bytes = random;
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0x3f) | 0x40;
        }
        Self(bytes)
    }
}

/// A request for a time stamp over what has this hash, with the authority's certificate in the answer.
pub fn request(imprint: Digest, nonce: Nonce) -> Vec<u8> {
    let certificates_wanted = [1, 1, 0xff];
    [
        BEFORE_HASH,
        imprint.as_bytes(),
        &[2, 8],
        &nonce.0,
        &certificates_wanted,
    ]
    .concat()
}

/// What a token states, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeStamp {
    /// SHA-256 of what it is over.
    pub imprint: Digest,
    /// When that existed, by the authority's clock: RFC 3339, UTC.
    pub time: String,
    nonce: Option<Vec<u8>>,
}

impl TimeStamp {
    /// Reads an answer, in DER, that holds a token.
    ///
    /// # Errors
    /// For any other form, for bytes behind it, and for an answer that grants nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(TimeStampError::TooLong);
        }
        whole(bytes, |reader| reader.sequence(response))
    }

    /// Reads an answer that has to be over `sums`.
    ///
    /// # Errors
    /// As [`TimeStamp::parse`], and when it is over something else.
    pub fn over(sums: &[u8], bytes: &[u8]) -> Result<Self> {
        let stamp = Self::parse(bytes)?;
        match stamp.imprint == Digest::of(sums) {
            true => Ok(stamp),
            false => Err(TimeStampError::Imprint {
                found: stamp.imprint,
            }),
        }
    }

    /// Whether it answers the request with this nonce.
    ///
    /// # Errors
    /// When it answers another one.
    pub fn answers(&self, nonce: Nonce) -> Result<()> {
        match self.nonce.as_deref() == Some(&nonce.0) {
            true => Ok(()),
            false => Err(TimeStampError::Nonce),
        }
    }
}

/// Reads all of `bytes`.
fn whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut SliceReader<'a>) -> Result<T>,
) -> Result<T> {
    let mut reader = SliceReader::new(bytes)?;
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// The content of the next value, which has to be of this kind.
fn value<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Result<&'a [u8]> {
    let any = AnyRef::decode(reader)?;
    any.tag().assert_eq(tag)?;
    Ok(any.value())
}

/// The content of an INTEGER, in its only form (X.690, 8.3.2).
fn integer<'a>(reader: &mut SliceReader<'a>) -> Result<&'a [u8]> {
    match value(reader, Tag::Integer)? {
        [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => {
            Err(TimeStampError::Form("a number has another form"))
        }
        bytes => Ok(bytes),
    }
}

fn kind(reader: &mut SliceReader<'_>, wanted: &[u8], otherwise: &'static str) -> Result<()> {
    match value(reader, Tag::ObjectIdentifier)? == wanted {
        true => Ok(()),
        false => Err(TimeStampError::Form(otherwise)),
    }
}

/// What stands in `[0]`, explicitly tagged.
fn tagged<'a, T>(
    reader: &mut SliceReader<'a>,
    read: impl FnOnce(&mut SliceReader<'a>) -> Result<T>,
) -> Result<T> {
    whole(value(reader, context(0))?, read)
}

fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

/// `TimeStampResp` (RFC 3161, section 2.4.2), inside.
fn response(reader: &mut SliceReader<'_>) -> Result<TimeStamp> {
    reader.sequence(status)?;
    reader.sequence(|token| {
        kind(token, SIGNED_DATA, "the token is not signed data")?;
        tagged(token, |content| content.sequence(signed_data))
    })
}

/// `PKIStatusInfo`, inside: 0 is granted, 1 is granted with modifications.
fn status(reader: &mut SliceReader<'_>) -> Result<()> {
    let status = match integer(reader)? {
        [status] => *status,
        _ => return Err(TimeStampError::Form("it has no status that is known")),
    };
    let mut text = String::new();
    while !reader.is_finished() {
        let any = AnyRef::decode(reader)?;
        if any.tag() == Tag::Sequence {
            any.sequence(|pieces| {
                while !pieces.is_finished() {
                    let piece = value(pieces, Tag::Utf8String)?;
                    text.push_str(&String::from_utf8_lossy(piece));
                }
                Ok::<_, TimeStampError>(())
            })?;
        }
    }
    match status {
        0 | 1 => Ok(()),
        _ => Err(TimeStampError::Refused {
            status,
            text: text.chars().take(MAX_SAID).collect(),
        }),
    }
}

/// `SignedData` (RFC 5652, section 5.1), inside. Certificates and signatures are passed over; some have to be there.
fn signed_data(reader: &mut SliceReader<'_>) -> Result<TimeStamp> {
    integer(reader)?;
    value(reader, Tag::Set)?;
    let info = reader.sequence(|content| {
        kind(content, TST_INFO, "what is signed is no time stamp")?;
        tagged(content, |content| value(content, Tag::OctetString))
    })?;
    let mut last = None;
    while !reader.is_finished() {
        last = Some(AnyRef::decode(reader)?);
    }
    match last {
        Some(signers) if signers.tag() == Tag::Set && !signers.value().is_empty() => {
            whole(info, |reader| reader.sequence(tst_info))
        }
        _ => Err(TimeStampError::Form("nobody signed the token")),
    }
}

/// `TSTInfo` (RFC 3161, section 2.4.2), inside.
fn tst_info(reader: &mut SliceReader<'_>) -> Result<TimeStamp> {
    if integer(reader)? != [1] {
        return Err(TimeStampError::Form("the token is not of version 1"));
    }
    value(reader, Tag::ObjectIdentifier)?;
    let imprint = reader.sequence(|imprint| {
        imprint.sequence(|algorithm| {
            kind(algorithm, SHA256, "its imprint is not by SHA-256")?;
            match algorithm.is_finished() || value(algorithm, Tag::Null)?.is_empty() {
                true => Ok(()),
                false => Err(TimeStampError::Form("NULL is not empty")),
            }
        })?;
        value(imprint, Tag::OctetString)
    })?;
    let imprint = <[u8; 32]>::try_from(imprint)
        .map_err(|_| TimeStampError::Form("its imprint is not a SHA-256"))?;
    integer(reader)?;
    let time = time(value(reader, Tag::GeneralizedTime)?)
        .ok_or(TimeStampError::Form("its time is none in UTC"))?;
    Ok(TimeStamp {
        imprint: Digest::from(imprint),
        time,
        nonce: nonce(reader)?,
    })
}

/// The fields behind the time: all optional, each once and in order. Only the nonce is looked at.
fn nonce(reader: &mut SliceReader<'_>) -> Result<Option<Vec<u8>>> {
    // accuracy, ordering, nonce, tsa, extensions
    let order = [
        Tag::Sequence,
        Tag::Boolean,
        Tag::Integer,
        context(0),
        context(1),
    ];
    let (mut nonce, mut due) = (None, order.iter());
    while !reader.is_finished() {
        let tag = Tag::peek(reader)?;
        if !due.any(|next| *next == tag) {
            return Err(TimeStampError::Form("the token has a field too many"));
        }
        if tag == Tag::Integer {
            nonce = Some(integer(reader)?.to_vec());
        } else {
            AnyRef::decode(reader)?;
        }
    }
    Ok(nonce)
}

/// `GeneralizedTime` as RFC 3161 (section 2.4.2) has it, `YYYYMMDDhhmmss[.s...]Z`, as RFC 3339.
fn time(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (whole, rest) = text.split_at_checked(14)?;
    let part = |from: usize| whole.get(from..from + 2);
    let time = format!(
        "{}-{}-{}T{}:{}:{}{rest}",
        whole.get(..4)?,
        part(4)?,
        part(6)?,
        part(8)?,
        part(10)?,
        part(12)?
    );
    line::is_time(&time).then_some(time)
}

#[cfg(test)]
#[path = "timestamp_tests.rs"]
mod tests;
