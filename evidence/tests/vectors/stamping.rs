//! Time stamps as an authority makes them (RFC 3161), part by part, so that each hostile one can go wrong in exactly one.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::Digest;

use crate::{common, sealing};

const TST_INFO: &[u8] = &[6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
const SIGNED_DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const CONTENT_TYPE: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
const MESSAGE_DIGEST: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];
/// `id-aa-signingCertificateV2` (RFC 5035), which names the certificate by its SHA-256.
const SIGNING_CERTIFICATE: &[u8] = &[6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 2, 47];
const SHA256: &[u8] = &[0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
const SHA384: &[u8] = &[0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0];
const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// Issuer and serial number of `tsa.cert.pem`.
const ISSUER: &[u8] = b"0\x121\x100\x0e\x06\x03\x55\x04\x03\x0c\x07Vectors\x02\x01\x02";

/// A value in DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, content].concat()
}

/// A time stamp under construction.
pub struct Stamp {
    algorithm: &'static [u8],
    imprint: Vec<u8>,
    signed: bool,
    words: Option<String>,
}

impl Stamp {
    /// The one that is due over these bytes.
    pub fn over(sums: &[u8]) -> Self {
        Self {
            algorithm: SHA256,
            imprint: Digest::of(sums).as_bytes().to_vec(),
            signed: true,
            words: None,
        }
    }

    /// The same with words of the authority that read, where openssl prints them, as if it were over these bytes.
    pub fn posing(mut self, sums: &[u8]) -> Self {
        let hex = Digest::of(sums).to_string();
        let bytes: Vec<&str> = (0..64).step_by(2).map(|at| &hex[at..at + 2]).collect();
        let (first, second) = (bytes[..16].join(" "), bytes[16..].join(" "));
        let dump = format!("    0000 - {first}   x\n    0010 - {second}   x");
        self.words = Some(format!("x\nMessage data:\n{dump}\nSerial number: 1\n"));
        self
    }

    /// The same by SHA-384, as long as one of it is.
    pub fn by_sha384(mut self) -> Self {
        self.algorithm = SHA384;
        self.imprint.resize(48, 7);
        self
    }

    /// The same without a signature.
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    fn info(&self) -> Vec<u8> {
        der(
            0x30,
            &[
                &[2, 1, 1],
                &[6, 4, 0x2a, 3, 4, 1],
                &der(0x30, &[self.algorithm, &der(4, &[&self.imprint])]),
                &[2, 1, 7],
                &der(0x18, &[b"20260314162001.25Z"]),
                &[0x30, 3, 2, 1, 1],
                &[2, 4, 0x12, 0x34, 0x56, 0x78],
            ],
        )
    }

    /// The answer of the authority.
    pub fn answer(&self) -> Vec<u8> {
        let info = self.info();
        let certificate = certificate();
        let signers = match self.signed {
            true => signer(&info, &certificate),
            false => Vec::new(),
        };
        let data = der(
            0x30,
            &[
                &[2, 1, 3],
                &der(0x31, &[SHA256]),
                &der(0x30, &[TST_INFO, &der(0xa0, &[&der(4, &[&info])])]),
                &der(0xa0, &[&certificate]),
                &der(0x31, &[&signers]),
            ],
        );
        let token = der(0x30, &[SIGNED_DATA, &der(0xa0, &[&data])]);
        let words = self.words.as_ref().map_or_else(Vec::new, |words| {
            der(0x30, &[&der(0x0c, &[words.as_bytes()])])
        });
        der(0x30, &[&der(0x30, &[&[2, 1, 0], &words]), &token])
    }
}

/// An answer that grants nothing.
pub fn refusal() -> Vec<u8> {
    der(
        0x30,
        &[&der(
            0x30,
            &[&[2, 1, 2], &der(0x30, &[&der(0x0c, &[b"no \x1b[2J"])])],
        )],
    )
}

fn certificate() -> Vec<u8> {
    let pem = fs::read_to_string(common::key("tsa.cert.pem")).unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

/// `SignerInfo` (RFC 5652, section 5.3).
fn signer(info: &[u8], certificate: &[u8]) -> Vec<u8> {
    let hash = |bytes: &[u8]| der(4, &[Digest::of(bytes).as_bytes()]);
    let attribute = |kind: &[u8], value: &[u8]| der(0x30, &[kind, &der(0x31, &[value])]);
    let by = der(0x30, &[&der(0x30, &[&der(0x30, &[&hash(certificate)])])]);
    let attributes = [
        attribute(CONTENT_TYPE, TST_INFO),
        attribute(MESSAGE_DIGEST, &hash(info)),
        attribute(SIGNING_CERTIFICATE, &by),
    ]
    .concat();
    let signature = sealing::key("tsa.pem").sign(&der(0x31, &[&attributes]));
    der(
        0x30,
        &[
            &[2, 1, 1],
            &der(0x30, &[ISSUER]),
            SHA256,
            &der(0xa0, &[&attributes]),
            ECDSA_SHA256,
            &der(4, &[&signature.unwrap()]),
        ],
    )
}
