//! Which LiME module is loaded: the one for exactly this kernel, and only when a signed index vouches for it.
//!
//! A store of modules holds `index.json`, its signature `index.json.sig` (ECDSA P-256 over SHA-256, DER, as
//! `openssl dgst -sha256 -sign` writes it), and the modules at the paths that the index names (`packaging/lime/`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::Digest;
use evidence::objects::{Objects, read_whole};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;

const INDEX: &str = "index.json";
const SIGNATURE: &str = "index.json.sig";
const MAX_INDEX: u64 = 16 << 20;
const MAX_MODULE: u64 = 16 << 20;
/// What stands before the point in the SubjectPublicKeyInfo of a key on P-256 (RFC 5480).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why there is no module that may be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("{0} is not a PEM public key on the curve P-256, such as `openssl ec -pubout` writes")]
    Key(String),
    #[error("{key} of the module store can not be read: {source}")]
    Store { key: String, source: std::io::Error },
    #[error(
        "the signature of index.json is not by the key of --lime-key: the index was edited, or signed by another"
    )]
    Signature,
    #[error("index.json is signed and is no index of modules: {0}")]
    Index(#[from] serde_json::Error),
    #[error("index.json has version {0}; this program reads version 1")]
    Version(u32),
    #[error("there is no module for the kernel {release} ({architecture}) in the store")]
    NotThere {
        release: String,
        architecture: String,
    },
    #[error("the index does not know the module of --lime-module (SHA-256 {0})")]
    Unknown(Digest),
    #[error("{path} has SHA-256 {found} where the index states {stated}")]
    Hash {
        path: String,
        stated: Digest,
        found: Digest,
    },
    #[error(
        "the module was built for another kernel: its vermagic is {built:?}, this kernel is {running}"
    )]
    OtherKernel { built: String, running: String },
}

/// The key that has signed the index.
#[derive(Clone, Debug)]
pub struct Key(Vec<u8>);

impl Key {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// When it is none on P-256; `name` is what the message calls it.
    pub fn parse(pem: &str, name: &str) -> Result<Self, ModuleError> {
        let wrong = || ModuleError::Key(name.to_owned());
        let body: String = pem
            .split_once("-----BEGIN PUBLIC KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
            .map(|(body, _)| body.split_whitespace().collect())
            .ok_or_else(wrong)?;
        let der = BASE64.decode(body).map_err(|_| wrong())?;
        let point = der.strip_prefix(&P256_HEAD).ok_or_else(wrong)?;
        // Uncompressed: 4, x, y.
        (point.len() == 65 && point.starts_with(&[4]))
            .then(|| Self(point.to_vec()))
            .ok_or_else(wrong)
    }

    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0)
            .verify(bytes, signature)
            .is_ok()
    }
}

/// A module in the index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    pub release: String,
    pub architecture: String,
    pub vermagic: String,
    pub path: String,
    pub sha256: Digest,
    pub lime_version: String,
    /// Whether it survives pages that are not mapped (LiME since 2026-03), as those of memfd_secret(2).
    pub fault_safe: bool,
}

#[derive(Deserialize)]
struct Index {
    index_version: u32,
    modules: Vec<Entry>,
}

/// Where modules come from, and who vouches for them.
#[derive(Clone)]
pub struct Source {
    pub store: Arc<dyn Objects + Send + Sync>,
    pub key: Key,
    /// A module that the operator gave, which the index must know.
    pub given: Option<Arc<Vec<u8>>>,
}

/// A module that may be loaded.
#[derive(Debug)]
pub struct Module {
    pub entry: Entry,
    pub bytes: Vec<u8>,
}

impl Source {
    /// The module for the kernel `release`.
    ///
    /// # Errors
    /// When there is none, or none that can be trusted.
    pub fn find(&self, release: &str, architecture: &str) -> Result<Module, ModuleError> {
        let entries = self.index()?;
        let module = match &self.given {
            Some(bytes) => {
                let sha256 = Digest::of(bytes);
                let entry = entries.into_iter().find(|entry| entry.sha256 == sha256);
                Module {
                    entry: entry.ok_or(ModuleError::Unknown(sha256))?,
                    bytes: bytes.to_vec(),
                }
            }
            None => self.fetch(entries, release, architecture)?,
        };
        // The kernel itself ignores the release where symbols have versions (CONFIG_MODVERSIONS).
        let built = vermagic(&module.bytes).unwrap_or_else(|| "no known kernel".to_owned());
        let for_this = built.split(' ').next() == Some(release)
            && module.entry.release == release
            && module.entry.architecture == architecture
            && module.entry.vermagic.trim_end() == built.trim_end();
        match for_this {
            true => Ok(module),
            false => Err(ModuleError::OtherKernel {
                built,
                running: format!("{release} ({architecture})"),
            }),
        }
    }

    fn index(&self) -> Result<Vec<Entry>, ModuleError> {
        let (bytes, signature) = (self.read(INDEX, MAX_INDEX)?, self.read(SIGNATURE, 1024)?);
        if !self.key.has_signed(&bytes, &signature) {
            return Err(ModuleError::Signature);
        }
        let index: Index = serde_json::from_slice(&bytes)?;
        match index.index_version {
            1 => Ok(index.modules),
            other => Err(ModuleError::Version(other)),
        }
    }

    fn fetch(
        &self,
        entries: Vec<Entry>,
        release: &str,
        architecture: &str,
    ) -> Result<Module, ModuleError> {
        let fits = |entry: &Entry| entry.release == release && entry.architecture == architecture;
        let entry = entries.into_iter().find(fits);
        let entry = entry.ok_or_else(|| ModuleError::NotThere {
            release: release.to_owned(),
            architecture: architecture.to_owned(),
        })?;
        let bytes = self.read(&entry.path, MAX_MODULE)?;
        let found = Digest::of(&bytes);
        if found != entry.sha256 {
            return Err(ModuleError::Hash {
                path: entry.path,
                stated: entry.sha256,
                found,
            });
        }
        Ok(Module { entry, bytes })
    }

    fn read(&self, key: &str, limit: u64) -> Result<Vec<u8>, ModuleError> {
        read_whole(&*self.store, key, limit).map_err(|source| ModuleError::Store {
            key: key.to_owned(),
            source,
        })
    }
}

/// The kernel that a module says it is for, out of its `.modinfo` section.
fn vermagic(module: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\0vermagic=";
    let start = module.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let rest = module.get(start..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    const RELEASE: &str = "6.1.0-56-amd64";
    const MODULE: &[u8] =
        b"\x7fELF...\0license=GPL\0vermagic=6.1.0-56-amd64 SMP mod_unload \0name=lime\0";

    struct Signer {
        pair: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let kind = &ECDSA_P256_SHA256_ASN1_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap();
            Self { pair, random }
        }

        fn key(&self) -> Key {
            let der = [&P256_HEAD, self.pair.public_key().as_ref()].concat();
            let body = BASE64.encode(der);
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
            Key::parse(&pem, "the key").unwrap()
        }

        fn source(&self, index: &str, module: &[u8]) -> Source {
            let signature = self.pair.sign(&self.random, index.as_bytes()).unwrap();
            let store = BTreeMap::from([
                (INDEX.to_owned(), index.as_bytes().to_vec()),
                (SIGNATURE.to_owned(), signature.as_ref().to_vec()),
                ("m/lime.ko".to_owned(), module.to_vec()),
            ]);
            Source {
                store: Arc::new(store),
                key: self.key(),
                given: None,
            }
        }
    }

    fn index(release: &str, module: &[u8]) -> String {
        let sha256 = Digest::of(module);
        format!(
            r#"{{"index_version":1,"modules":[{{"release":"{release}","architecture":"x86_64",
            "vermagic":"6.1.0-56-amd64 SMP mod_unload","path":"m/lime.ko","sha256":"{sha256}","bytes":1,
            "lime_version":"1.9.1","fault_safe":false,"package":"p"}}]}}"#
        )
    }

    fn error(source: &Source, release: &str) -> String {
        source.find(release, "x86_64").unwrap_err().to_string()
    }

    #[test]
    fn the_module_for_this_kernel_is_found() {
        let source = Signer::new().source(&index(RELEASE, MODULE), MODULE);
        let found = source.find(RELEASE, "x86_64").unwrap();
        assert_eq!(found.bytes, MODULE);
        assert!(!found.entry.fault_safe);
        assert!(error(&source, "6.1.0-57-amd64").contains("no module for the kernel 6.1.0-57"));
        assert!(source.find(RELEASE, "aarch64").is_err());
    }

    #[test]
    fn nothing_is_believed_that_the_key_has_not_signed() {
        let signer = Signer::new();
        let mut source = signer.source(&index(RELEASE, MODULE), MODULE);
        source.key = Signer::new().key();
        assert!(error(&source, RELEASE).contains("signature"));
        let mut edited = signer.source(&index(RELEASE, MODULE), MODULE);
        let mut objects = BTreeMap::from([(INDEX.to_owned(), index("x", MODULE).into_bytes())]);
        let signature = read_whole(&*edited.store, SIGNATURE, 1024).unwrap();
        objects.insert(SIGNATURE.to_owned(), signature);
        edited.store = Arc::new(objects.clone());
        assert!(error(&edited, RELEASE).contains("signature"));
        objects.remove(SIGNATURE);
        edited.store = Arc::new(objects);
        assert!(error(&edited, RELEASE).contains("index.json.sig"));
    }

    #[test]
    fn a_module_that_is_not_the_signed_one_is_refused() {
        let signer = Signer::new();
        let other = signer.source(&index(RELEASE, MODULE), b"another");
        assert!(error(&other, RELEASE).contains("where the index states"));
        let mut given = signer.source(&index(RELEASE, MODULE), MODULE);
        given.given = Some(Arc::new(b"another".to_vec()));
        assert!(error(&given, RELEASE).contains("does not know the module"));
        given.given = Some(Arc::new(MODULE.to_vec()));
        assert!(given.find(RELEASE, "x86_64").is_ok());
        assert!(error(&given, "6.1.0-55-amd64").contains("vermagic is \"6.1.0-56-amd64"));
    }

    #[test]
    fn a_module_whose_own_word_differs_from_the_index_is_refused() {
        let renamed = String::from_utf8_lossy(MODULE).replace("-56-", "-55-");
        let source = Signer::new().source(&index(RELEASE, renamed.as_bytes()), renamed.as_bytes());
        assert!(error(&source, RELEASE).contains("vermagic is \"6.1.0-55-amd64"));
    }

    #[test]
    fn only_keys_on_p256_are_keys() {
        for wrong in [
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            let message = Key::parse(wrong, "--lime-key k.pem")
                .unwrap_err()
                .to_string();
            assert!(message.contains("k.pem"), "{message}");
        }
    }
}
