//! The signature over SHA256SUMS: ECDSA on P-256 with SHA-256, in ASN.1 DER, as `openssl dgst -sha256` and AWS KMS make it.
//!
//! ```text
//! openssl dgst -sha256 -verify pubkey.pem -signature SHA256SUMS.sig SHA256SUMS
//! ```

use p256::SecretKey;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};

use crate::digest::Digest;

/// Longest key file that is read, in bytes.
pub const MAX_KEY_BYTES: u64 = 16 << 10;
/// Longest signature that is read, in bytes: a P-256 signature has 72 at most.
pub const MAX_SIGNATURE_BYTES: u64 = 72;

/// Why a key or a signature can not be used. No message holds any part of a private key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    #[error(
        "not a public key of the curve P-256 in PEM: make one with `openssl pkey -in key.pem -pubout -out pubkey.pem`"
    )]
    PublicKey,
    #[error(
        "not a private key of the curve P-256 in PEM without a pass phrase: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem`"
    )]
    PrivateKey,
    #[error("not an ECDSA signature in ASN.1 DER for the curve P-256")]
    Malformed,
    #[error("the signature was not made over these bytes by this key")]
    Wrong,
}

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a PEM file with one `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    /// For anything but one key of the curve P-256.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SignatureError> {
        let text = std::str::from_utf8(pem).map_err(|_| SignatureError::PublicKey)?;
        let key = VerifyingKey::from_public_key_pem(text);
        Ok(Self(key.map_err(|_| SignatureError::PublicKey)?))
    }

    /// Reads the SPKI structure of a key in DER, as `kms:GetPublicKey` answers.
    ///
    /// # Errors
    /// As [`PublicKey::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, SignatureError> {
        let key = VerifyingKey::from_public_key_der(der);
        Ok(Self(key.map_err(|_| SignatureError::PublicKey)?))
    }

    /// The SPKI structure in DER, with the point uncompressed: one form for one key.
    ///
    /// # Errors
    /// Never for keys that were read: the error is that of the encoder.
    pub fn to_der(&self) -> Result<Vec<u8>, SignatureError> {
        let der = self.0.to_public_key_der();
        Ok(der.map_err(|_| SignatureError::PublicKey)?.into_vec())
    }

    /// The text of `pubkey.pem`.
    ///
    /// # Errors
    /// As [`PublicKey::to_der`].
    pub fn to_pem(&self) -> Result<String, SignatureError> {
        let pem = self.0.to_public_key_pem(LineEnding::LF);
        pem.map_err(|_| SignatureError::PublicKey)
    }

    /// SHA-256 of [`PublicKey::to_der`]: what `openssl pkey -pubin -in pubkey.pem -outform DER | sha256sum` prints.
    ///
    /// # Errors
    /// As [`PublicKey::to_der`].
    pub fn fingerprint(&self) -> Result<Digest, SignatureError> {
        Ok(Digest::of(&self.to_der()?))
    }

    /// Checks a signature over `message`. Either of the two values of `s` is right: KMS does not choose the lower one.
    ///
    /// # Errors
    /// When the signature has another form, or was not made over these bytes by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature = Signature::from_der(signature).map_err(|_| SignatureError::Malformed)?;
        let verified = self.0.verify(message, &signature);
        verified.map_err(|_| SignatureError::Wrong)
    }
}

/// A key that signs, from a file. It is never shown.
pub struct PrivateKey(SigningKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl PrivateKey {
    /// Reads a PEM file: `BEGIN PRIVATE KEY` (PKCS #8) or `BEGIN EC PRIVATE KEY` (SEC 1), before which parameters may stand.
    ///
    /// # Errors
    /// For anything but a key of the curve P-256 without a pass phrase.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SignatureError> {
        const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----";
        let text = std::str::from_utf8(pem).map_err(|_| SignatureError::PrivateKey)?;
        let key = match text.find(SEC1).and_then(|at| text.get(at..)) {
            Some(text) => SecretKey::from_sec1_pem(text),
            None => SecretKey::from_pem(text),
        };
        let key = key.map_err(|_| SignatureError::PrivateKey)?;
        Ok(Self(SigningKey::from(key)))
    }

    /// Signs `message`; the same bytes give the same signature (RFC 6979). The answer is ASN.1 DER.
    ///
    /// # Errors
    /// When the computation fails, which takes odds that nobody meets.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature: Signature = self
            .0
            .try_sign(message)
            .map_err(|_| SignatureError::Wrong)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    /// The key that checks what this one signs.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALER: &[u8] = include_bytes!("../vectors/keys/sealer.pem");
    const SEALER_PUBLIC: &[u8] = include_bytes!("../vectors/keys/sealer.pub.pem");
    const OTHER: &[u8] = include_bytes!("../vectors/keys/other.pem");
    const OTHER_PUBLIC: &[u8] = include_bytes!("../vectors/keys/other.pub.pem");
    /// What openssl made over `abc` with the key of [`SEALER`]; its `s` is the higher one.
    const BY_OPENSSL: &str = "3046022100c687f922a597f9e682c9191c504d15e09aef326597430bb7ea944374f2aae5e7\
         022100ce74c4db46eeb7e24c5abb5ae2cfcb68ed1b3c649be805a7151550a3b8b9063a";

    #[test]
    fn keys_of_openssl_are_read_and_written_again() {
        for (private, public) in [(SEALER, SEALER_PUBLIC), (OTHER, OTHER_PUBLIC)] {
            let key = PrivateKey::from_pem(private).unwrap().public_key();
            assert_eq!(key.to_pem().unwrap().as_bytes(), public);
            assert_eq!(PublicKey::from_pem(public).unwrap(), key);
            assert_eq!(PublicKey::from_der(&key.to_der().unwrap()).unwrap(), key);
        }
        let printed = "3e563fe9443877538f73abd64bc64aacc698931c967f3d03407d0d127ec3ce7f";
        let key = PublicKey::from_pem(SEALER_PUBLIC).unwrap();
        assert_eq!(key.fingerprint().unwrap().to_string(), printed);
    }

    #[test]
    fn a_signature_fits_one_key_and_one_text() {
        let (sealer, other) = (
            PrivateKey::from_pem(SEALER).unwrap(),
            PublicKey::from_pem(OTHER_PUBLIC).unwrap(),
        );
        let key = sealer.public_key();
        let by_openssl = hex::decode(BY_OPENSSL).unwrap();
        let own = sealer.sign(b"abc").unwrap();
        assert_eq!(own, sealer.sign(b"abc").unwrap());
        for signature in [by_openssl, own] {
            assert_eq!(key.verify(b"abc", &signature), Ok(()));
            assert_eq!(key.verify(b"abd", &signature), Err(SignatureError::Wrong));
            assert_eq!(other.verify(b"abc", &signature), Err(SignatureError::Wrong));
            let longer = [&signature[..], b"0"].concat();
            let shorter = &signature[..signature.len() - 1];
            for wrong in [&longer[..], shorter, &[]] {
                let error = key.verify(b"abc", wrong).unwrap_err();
                assert_eq!(error, SignatureError::Malformed);
            }
        }
    }

    #[test]
    fn what_is_no_key_says_how_to_make_one() {
        let cut = &SEALER[..SEALER.len() - 40];
        for wrong in [b"".as_slice(), b"\xff", SEALER_PUBLIC, cut] {
            let error = PrivateKey::from_pem(wrong).unwrap_err().to_string();
            assert!(error.contains("openssl genpkey -algorithm EC"), "{error}");
        }
        for wrong in [b"".as_slice(), b"\xff", SEALER] {
            let error = PublicKey::from_pem(wrong).unwrap_err().to_string();
            assert!(error.contains("openssl pkey"), "{error}");
        }
        let key = PrivateKey::from_pem(SEALER).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }
}
