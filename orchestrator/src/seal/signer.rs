//! The keys that can sign: in KMS, in a file, in ssh-agent. All are ECDSA over P-256, so that one check fits all.

use std::path::Path;

use evidence::Exit;
use evidence::signature::{PrivateKey, PublicKey};
use ssh_key::public::{EcdsaPublicKey, KeyData};

use crate::aws::{Account, kms};
use crate::config::Config;
use crate::failure::Failure;

/// SubjectPublicKeyInfo of a P-256 key, up to the point (RFC 5480, section 2): 65 bytes follow.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Whoever signs.
pub(crate) enum Signer {
    Kms { account: Box<Account>, key: String },
    File(PrivateKey),
    Agent(ssh_key::PublicKey),
}

impl Signer {
    /// The signer that the configuration names.
    ///
    /// # Errors
    /// When it names none, or the key can not be read.
    pub(crate) fn new(config: &Config, evidence: &Account) -> Result<Self, Failure> {
        let seal = &config.seal;
        if let Some(key) = &seal.kms_key {
            let account = match &seal.kms_region {
                Some(region) => evidence.in_region(region),
                None => evidence.clone(),
            };
            return Ok(Self::Kms {
                account: Box::new(account),
                key: key.clone(),
            });
        }
        if let Some(path) = &seal.key_file {
            let key = PrivateKey::from_pem(text(path)?.as_bytes());
            return key.map(Self::File).map_err(|error| unusable(path, &error));
        }
        if let Some(path) = &seal.ssh_key {
            let key = ssh_key::PublicKey::from_openssh(text(path)?.trim());
            return key.map(Self::Agent).map_err(|error| unusable(path, &error));
        }
        Err(Failure::new(
            Exit::KeyUnusable,
            "no key is configured that could sign: set kms_key, key_file or ssh_key in [seal]",
        ))
    }

    /// The public half.
    ///
    /// # Errors
    /// When the key is not there, or of another kind.
    pub(crate) async fn public_key(&self) -> Result<PublicKey, Failure> {
        match self {
            Self::Kms { account, key } => {
                let der = kms::public_key(account, key).await?;
                PublicKey::from_der(&der).map_err(|error| {
                    Failure::new(
                        Exit::KeyUnusable,
                        format!(
                            "the KMS key {key}: {error}; it has to be ECC_NIST_P256, SIGN_VERIFY"
                        ),
                    )
                })
            }
            Self::File(key) => Ok(key.public_key()),
            Self::Agent(key) => match key.key_data() {
                KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => {
                    let der = [SPKI_P256.as_slice(), point.as_bytes()].concat();
                    PublicKey::from_der(&der)
                        .map_err(|error| Failure::new(Exit::KeyUnusable, error))
                }
                _ => Err(Failure::new(
                    Exit::KeyUnusable,
                    format!(
                        "the ssh key is {}, it has to be ecdsa-sha2-nistp256 (`ssh-keygen -t ecdsa -b 256`)",
                        key.algorithm()
                    ),
                )),
            },
        }
    }

    /// ECDSA with SHA-256 over `message`, DER.
    ///
    /// # Errors
    /// When whoever has the key does not sign.
    pub(crate) async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Kms { account, key } => kms::sign(account, key, message).await,
            Self::File(key) => key
                .sign(message)
                .map_err(|error| Failure::new(Exit::KeyUnusable, error)),
            Self::Agent(key) => by_agent(key, message),
        }
    }
}

/// The key that `verify` trusts: a file, or else the key that signs.
///
/// # Errors
/// When neither can be had.
pub(crate) async fn trusted_key(config: &Config, evidence: &Account) -> Result<PublicKey, Failure> {
    match &config.seal.trusted_key {
        Some(path) => public_key_of(path),
        None => Signer::new(config, evidence)?.public_key().await,
    }
}

/// The public key in a PEM file.
///
/// # Errors
/// When there is none.
pub(crate) fn public_key_of(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_pem(text(path)?.as_bytes()).map_err(|error| unusable(path, &error))
}

fn by_agent(key: &ssh_key::PublicKey, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::KeyUnusable,
            format!("ssh-agent does not sign: {error}; is the key added (`ssh-add -l`)?"),
        )
    };
    let socket =
        std::env::var_os("SSH_AUTH_SOCK").ok_or_else(|| failed(&"SSH_AUTH_SOCK is not set"))?;
    let mut agent =
        ssh_agent_client_rs::Client::connect(Path::new(&socket)).map_err(|error| failed(&error))?;
    let signature = agent.sign(key, message).map_err(|error| failed(&error))?;
    der(signature.as_bytes())
        .ok_or_else(|| failed(&"its signature has another form than RFC 5656 says"))
}

/// The two numbers of an ssh signature (RFC 5656, section 3.1.2) as DER: both write a number in the same way.
fn der(blob: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut rest = blob;
    for _ in 0..2 {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (number, after) =
            after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        body.extend([0x02, u8::try_from(number.len()).ok()?]);
        body.extend(number);
        rest = after;
    }
    let length = u8::try_from(body.len())
        .ok()
        .filter(|length| *length < 0x80)?;
    rest.is_empty()
        .then(|| [[0x30, length].as_slice(), &body].concat())
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::KeyUnusable,
        format!("{} can not be used: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_signature_becomes_der_and_a_cut_one_nothing() {
        let blob = [0, 0, 0, 2, 0x00, 0x81, 0, 0, 0, 1, 0x7f];
        assert_eq!(
            der(&blob).unwrap(),
            [0x30, 7, 0x02, 2, 0x00, 0x81, 0x02, 1, 0x7f]
        );
        for cut in 0..blob.len() {
            assert!(der(&blob[..cut]).is_none(), "{cut}");
        }
        assert!(der(&[&blob[..], &[0]].concat()).is_none());
    }
}
