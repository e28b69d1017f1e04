//! Stores of LiME modules for a guest: the factory's, and such as nobody should trust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::once::io_failed;
use super::super::{Result, need, stdout_of, workspace};
use super::Kernel;
use super::kernel::modinfo;

/// The factory's store for a kernel, and a key to sign with.
#[derive(Debug)]
pub struct Modules {
    release: String,
    module: Vec<u8>,
    index: Value,
    key: PathBuf,
}

/// A module and its row of the index, to be changed by a test.
#[derive(Debug)]
pub struct Entry {
    pub module: Vec<u8>,
    pub row: Value,
}

impl Modules {
    /// Reads the factory's store and makes a key below `folder`.
    ///
    /// # Errors
    /// When openssl is missing or the store is not readable.
    pub fn new(kernel: &Kernel, folder: &Path) -> Result<Self> {
        let path = kernel.store().join(kernel.release()).join("x86_64/lime.ko");
        let module = fs::read(&path).map_err(|error| io_failed(&path, &error))?;
        let path = kernel.store().join("index.json");
        let index = fs::read(&path).map_err(|error| io_failed(&path, &error))?;
        let key = folder.join("key.pem");
        make_key(&key)?;
        Ok(Self {
            release: kernel.release().into(),
            module,
            index: serde_json::from_slice(&index).expect("the factory's index is JSON"),
            key,
        })
    }

    /// The public key, PEM.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn public_key(&self) -> Result<String> {
        stdout_of(
            Command::new(need("openssl")?)
                .args(["ec", "-pubout", "-in"])
                .arg(&self.key),
        )
    }

    /// Writes a store in which everything is right, but for what `change` does to the module and its row. The row's
    /// hash and length are made to fit the changed module first, and the index is signed last.
    ///
    /// # Errors
    /// When the store cannot be written or signed.
    pub fn write(&self, store: &Path, change: impl FnOnce(&mut Entry)) -> Result<()> {
        let mut entry = Entry {
            module: self.module.clone(),
            row: self.index["modules"][0].clone(),
        };
        change(&mut entry);
        if entry.module != self.module {
            entry.row["sha256"] = hex::encode(Sha256::digest(&entry.module)).into();
            entry.row["bytes"] = entry.module.len().into();
        }
        let folder = store.join(&self.release).join("x86_64");
        let mut index = self.index.clone();
        index["modules"] = vec![entry.row].into();
        let put = |path: PathBuf, bytes: &[u8]| {
            fs::write(&path, bytes).map_err(|error| io_failed(&path, &error))
        };
        fs::create_dir_all(&folder).map_err(|error| io_failed(&folder, &error))?;
        put(folder.join("lime.ko"), &entry.module)?;
        put(store.join("index.json"), index.to_string().as_bytes())?;
        self.sign(store)
    }

    /// Signs a store as an operator does.
    ///
    /// # Errors
    /// When the signing script refuses.
    pub fn sign(&self, store: &Path) -> Result<()> {
        let script = workspace().join("packaging/lime/sign");
        stdout_of(
            Command::new(need("sh")?)
                .arg(script)
                .arg(&self.key)
                .arg(store),
        )
        .map(|_| ())
    }
}

impl Entry {
    /// Makes the module one of another release, of the same length as ours.
    pub fn set_release(&mut self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let key = format!("vermagic={from} ");
        let at = find(&self.module, key.as_bytes()) + "vermagic=".len();
        self.module[at..at + to.len()].copy_from_slice(to.as_bytes());
        let vermagic = modinfo(&self.module, "vermagic").expect("a vermagic");
        assert!(vermagic.starts_with(to), "{vermagic}");
    }

    /// Makes the module one that was built against another layout of the kernel: the first checksum of its
    /// `__versions` differs.
    pub fn break_versions(&mut self) {
        // A record is a checksum in eight bytes, then the symbol's name.
        let at = find(&self.module, b"module_layout\0") - 8;
        self.module[at] ^= 0xff;
    }
}

fn make_key(key: &Path) -> Result<()> {
    let mut command = Command::new(need("openssl")?);
    command
        .args([
            "ecparam",
            "-genkey",
            "-name",
            "prime256v1",
            "-noout",
            "-out",
        ])
        .arg(key);
    stdout_of(&mut command).map(|_| ())
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    let at = bytes.windows(part.len()).position(|window| window == part);
    at.unwrap_or_else(|| panic!("the module holds no {}", part.escape_ascii()))
}
