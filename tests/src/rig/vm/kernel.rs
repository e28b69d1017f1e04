//! The kernel of the guests, with its modules, a shell and LiME for it: the distribution's packages, fetched once per
//! machine and unpacked, never installed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::super::once::{self, io_failed};
use super::super::{Error, Result, need, stdout_of, target_dir, workspace};

/// The meta package whose dependency is the newest kernel.
const KERNEL: &str = "linux-image-amd64";

/// What a guest needs beyond what is built in: a network card, a share with the host, and a disk with a file system.
const MODULES: [&str; 7] = [
    "virtio_pci",
    "virtio_net",
    "9pnet_virtio",
    "9p",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
];

/// A module that hides things.
const ROOTKIT: &[u8] = include_bytes!("rootkit/lime.c");

/// The first bytes of a compressed kernel's payload.
const XZ: &[u8] = b"\xfd7zXZ\0";

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    folder: PathBuf,
    release: String,
}

impl Kernel {
    /// The distribution's newest kernel, as it was when this machine first asked.
    ///
    /// # Errors
    /// When a program or a package cannot be had, or LiME does not build.
    pub fn ensure() -> Result<Self> {
        for program in [
            "qemu-system-x86_64",
            "setpriv",
            "strip",
            "openssl",
            "make",
            "awk",
        ] {
            need(program)?;
        }
        let factory = fs::read(factory()).map_err(|error| io_failed(&factory(), &error))?;
        let ours = [include_bytes!("kernel.rs").as_slice(), ROOTKIT];
        let recipe = [&ours.concat(), factory.as_slice()].concat();
        let name = format!("vm-{}", &hex::encode(Sha256::digest(recipe))[..16]);
        let folder = target_dir().join("rig").join(name);
        once::made(&folder, || make(&folder))?;
        let release = text(&folder.join("release"))?.trim().to_string();
        Ok(Self { folder, release })
    }

    /// What `uname -r` says in the guest.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel without compression: unpacking it takes most of an emulated boot.
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// One static program with a shell and the usual tools.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The modules that every guest loads, in the order of loading.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        let names = text(&self.folder.join("modules/order"))?;
        let path = |name: &str| self.folder.join("modules").join(name);
        Ok(names.lines().map(path).collect())
    }

    /// A module that hides the process `pid` and itself, which calls itself `hide`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rootkit(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("rootkit").join(&self.release);
        let path = path.join("x86_64/lime.ko");
        let mut module = fs::read(&path).map_err(|error| io_failed(&path, &error))?;
        // Its name is that of the factory's file; this one is as long.
        let (from, to) = (b"lime\0", b"hide\0");
        for at in 0..module.len() - from.len() {
            if module[at..].starts_with(from) {
                module[at..at + to.len()].copy_from_slice(to);
            }
        }
        Ok(module)
    }

    /// The store of LiME modules that the factory built for this kernel; it is not signed.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }
}

/// The factory whose modules the tests load: the one that is shipped.
pub fn factory() -> PathBuf {
    workspace().join("packaging/lime/build")
}

fn make(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| io_failed(folder, &error);
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    let (packages, root) = (folder.join("packages"), folder.join("root"));
    for folder in [&packages, &root, &folder.join("modules")] {
        fs::create_dir_all(folder).map_err(|error| io_failed(folder, &error))?;
    }
    let release = fetch(&packages, &folder.join("apt"))?;
    for package in files(&packages)? {
        stdout_of(
            Command::new(need("dpkg-deb")?)
                .arg("-x")
                .args([&package, &root]),
        )?;
    }
    unpack_kernel(
        &root.join("boot").join(format!("vmlinuz-{release}")),
        &folder.join("vmlinux"),
    )?;
    fs::copy(root.join("bin/busybox"), folder.join("busybox")).map_err(failed)?;
    choose_modules(
        &root.join("lib/modules").join(&release),
        &folder.join("modules"),
    )?;
    build_modules(folder, &release, "store", &[])?;
    let source = folder.join("rootkit-source");
    fs::create_dir(&source).map_err(failed)?;
    for (name, content) in [
        ("lime.c", ROOTKIT),
        ("lime.h", include_bytes!("rootkit/lime.h")),
        ("Makefile", include_bytes!("rootkit/Makefile")),
    ] {
        fs::write(source.join(name), content).map_err(failed)?;
    }
    let source = source.to_string_lossy();
    let options = ["--source", &source, "--lime-version", "none"];
    build_modules(folder, &release, "rootkit", &options)?;
    for used in ["packages", "root", "apt", "apt-of-factory"].map(|name| folder.join(name)) {
        fs::remove_dir_all(&used).map_err(|error| io_failed(&used, &error))?;
    }
    fs::write(folder.join("release"), release).map_err(failed)
}

/// Downloads the kernel and the shell; the kernel's release.
fn fetch(packages: &Path, state: &Path) -> Result<String> {
    let apt = Apt::updated(state)?;
    let depends = stdout_of(apt.command("apt-cache")?.args(["depends", KERNEL]))
        .map_err(|error| Error::Missing(format!("apt knows no {KERNEL}: {error}")))?;
    let release = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .ok_or_else(|| Error::Missing(format!("{KERNEL} depends on no kernel: {depends}")))?
        .to_string();
    let image = format!("linux-image-{release}");
    let mut download = apt.command("apt-get")?;
    download
        .args(["-q", "download", &image, "busybox-static"])
        .current_dir(packages);
    stdout_of(&mut download)
        .map_err(|error| Error::Missing(format!("apt cannot download {image}: {error}")))?;
    Ok(release)
}

/// apt with lists of its own: no rights are needed, and the machine's own lists may be as old as they are.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn updated(state: &Path) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = state.join(folder);
            fs::create_dir_all(&folder).map_err(|error| io_failed(&folder, &error))?;
        }
        let options = [
            format!("Dir::State::lists={}", state.join("lists").display()),
            format!("Dir::Cache={}", state.join("cache").display()),
            "APT::Sandbox::User=".into(),
            "Debug::NoLocking=true".into(),
        ];
        let apt = Self {
            options: options.into(),
        };
        // A source that cannot be reached may not be the one that matters: the download will tell.
        let _ = apt
            .command("apt-get")?
            .args(["-q", "update"])
            .stdin(Stdio::null())
            .output();
        Ok(apt)
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(need(program)?);
        command.env("LC_ALL", "C");
        for option in &self.options {
            command.args(["-o", option]);
        }
        Ok(command)
    }
}

/// Takes the payload out of the compressed kernel.
fn unpack_kernel(vmlinuz: &Path, vmlinux: &Path) -> Result<()> {
    const SETUP: usize = 0x4000;
    let bytes = fs::read(vmlinuz).map_err(|error| io_failed(vmlinuz, &error))?;
    let payload = bytes.get(SETUP..).unwrap_or_default();
    let start = payload
        .windows(XZ.len())
        .position(|window| window == XZ)
        .ok_or_else(|| Error::Failed(format!("{} is not compressed by xz", vmlinuz.display())))?;
    let to = File::create(vmlinux).map_err(|error| io_failed(vmlinux, &error))?;
    let mut from = tempfile::tempfile().map_err(|error| io_failed(vmlinux, &error))?;
    from.write_all(&payload[start..])
        .and_then(|()| from.seek(SeekFrom::Start(0)))
        .map_err(|error| io_failed(vmlinux, &error))?;
    // The kernel's length stands after the payload: only the first stream is asked for.
    let status = Command::new(need("xz")?)
        .args(["-dc", "--single-stream"])
        .stdin(from)
        .stdout(to)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(Error::Failed(format!("xz -dc of the kernel: {other:?}"))),
    }
}

/// Copies the modules that every guest needs, each after those that it depends on, and writes down the order.
fn choose_modules(from: &Path, to: &Path) -> Result<()> {
    let mut all = BTreeMap::new();
    walk(&from.join("kernel"), &mut all)?;
    let mut order = Vec::new();
    for name in MODULES {
        visit(name, &all, &mut order)?;
    }
    let mut list = String::new();
    for name in &order {
        let file = format!("{name}.ko");
        fs::copy(&all[name], to.join(&file)).map_err(|error| io_failed(&all[name], &error))?;
        list += &format!("{file}\n");
    }
    fs::write(to.join("order"), list).map_err(|error| io_failed(to, &error))
}

fn visit(name: &str, all: &BTreeMap<String, PathBuf>, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|done| done == name) {
        return Ok(());
    }
    let path = all
        .get(name)
        .ok_or_else(|| Error::Failed(format!("the kernel's package has no module {name}")))?;
    let bytes = fs::read(path).map_err(|error| io_failed(path, &error))?;
    for needed in modinfo(&bytes, "depends").unwrap_or_default().split(',') {
        if !needed.is_empty() {
            visit(needed, all, order)?;
        }
    }
    order.push(name.to_string());
    Ok(())
}

/// A field of a module's `.modinfo`, which is `name=value` texts with zeros between.
pub(super) fn modinfo(module: &[u8], name: &str) -> Option<String> {
    let mut texts = module.split(|byte| *byte == 0);
    let key = format!("{name}=");
    let value = texts.find_map(|text| text.strip_prefix(key.as_bytes()))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Every module below a folder, by the name that the kernel gives it.
fn walk(folder: &Path, all: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in files(folder)? {
        if path.is_dir() {
            walk(&path, all)?;
        } else if path.extension() == Some(OsStr::new("ko")) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            all.insert(stem.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Builds LiME as it is built for everybody, or what `options` name in its place.
fn build_modules(folder: &Path, release: &str, store: &str, options: &[&str]) -> Result<()> {
    let targets = folder.join("targets");
    fs::write(&targets, format!("debian {release} x86_64\n"))
        .map_err(|error| io_failed(&targets, &error))?;
    let mut command = Command::new(need("sh")?);
    command
        .arg(factory())
        .args(["--targets".as_ref(), targets.as_os_str()])
        .args(["--out".as_ref(), folder.join(store).as_os_str()])
        .args([
            "--cache".as_ref(),
            folder.join("apt-of-factory").as_os_str(),
        ])
        .args(options);
    stdout_of(&mut command).map(|_| ()).map_err(|error| {
        let text = error.to_string();
        match ["not found", "not installed", "no package"]
            .iter()
            .any(|lack| text.contains(lack))
        {
            true => Error::Missing(text),
            false => error,
        }
    })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| io_failed(folder, &error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| path.is_dir() || path.extension().is_some());
    Ok(paths)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| io_failed(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_module_are_found() {
        let module = b"\x7fELF\0license=GPL\0depends=virtio,9pnet\0vermagic=6.1 SMP \0";
        assert_eq!(modinfo(module, "depends").unwrap(), "virtio,9pnet");
        assert_eq!(modinfo(module, "vermagic").unwrap(), "6.1 SMP ");
        assert_eq!(modinfo(module, "alias"), None);
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let all: BTreeMap<String, PathBuf> = [
            ("a", "depends=b,c\0"),
            ("b", "depends=c\0"),
            ("c", "depends=\0"),
        ]
        .map(|(name, content)| {
            let path = folder.path().join(name);
            fs::write(&path, format!("\0{content}")).unwrap();
            (name.to_string(), path)
        })
        .into();
        let mut order = Vec::new();
        visit("a", &all, &mut order).unwrap();
        assert_eq!(order, ["c", "b", "a"]);
        assert!(visit("absent", &all, &mut order).is_err());
    }
}
