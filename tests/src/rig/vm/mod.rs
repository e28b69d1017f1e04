//! A guest: a whole machine with a kernel of its own, emulated, for what only a kernel can show. Loading a module,
//! reading physical memory, policies that forbid both.
//!
//! A guest boots in some seconds, runs one script and powers off. It has a shell, the programs that the test gives it,
//! a share (`/host`) with the test, and a network in which the test's servers on 127.0.0.1 are at [`HOST`]. What it
//! leaves in the share is its result. It is emulated without KVM, so its times say nothing about real machines.
//!
//! One guest runs at a time on a machine: two would make each other's times unusable.

mod kernel;
mod lime;
mod newc;
pub mod plant;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use kernel::{Kernel, factory};
pub use lime::Modules;

use super::once::io_failed;
use super::{Error, Result, need, stdout_of, tail, target_dir};
use newc::Archive;

/// Where a guest finds the servers that listen on the host's 127.0.0.1.
pub const HOST: &str = "10.0.2.2";

/// A guest that is not started yet.
#[derive(Debug)]
pub struct Guest {
    kernel: Kernel,
    mebibytes: u32,
    low_mebibytes: Option<u32>,
    disk: Option<u32>,
    policies: Vec<String>,
    programs: Vec<(String, PathBuf)>,
    patience: Duration,
    share: TempDir,
    files: TempDir,
}

/// What a guest left behind.
#[derive(Debug)]
pub struct Ended {
    /// What its kernel said on the serial line: alarming messages only.
    pub console: String,
    /// What the script wrote to both its outputs.
    pub out: String,
    /// The script's exit code; `None` when the guest ended in another way, as by a panic.
    pub code: Option<i32>,
    /// From the start of the emulator to its end.
    pub took: Duration,
    share: TempDir,
}

impl Guest {
    /// A guest with 512 MiB and five minutes.
    ///
    /// # Errors
    /// When there is no room for its files.
    pub fn new(kernel: &Kernel) -> Result<Self> {
        let folder = || {
            tempfile::tempdir()
                .map_err(|error| Error::Failed(format!("no temporary folder: {error}")))
        };
        Ok(Self {
            kernel: kernel.clone(),
            mebibytes: 512,
            low_mebibytes: None,
            disk: None,
            policies: Vec::new(),
            programs: Vec::new(),
            patience: Duration::from_secs(300),
            share: folder()?,
            files: folder()?,
        })
    }

    /// Gives it so much memory.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.mebibytes = mebibytes;
        self
    }

    /// Puts all memory but so much above 4 GiB, as large machines have it: the ranges have a hole between them.
    #[must_use]
    pub fn low_memory(mut self, mebibytes: u32) -> Self {
        self.low_mebibytes = Some(mebibytes);
        self
    }

    /// Gives it an empty disk of so many MiB, which it mounts as `/disk`.
    #[must_use]
    pub fn disk(mut self, mebibytes: u32) -> Self {
        self.disk = Some(mebibytes);
        self
    }

    /// Adds words to the kernel's command line, such as `lockdown=integrity`.
    #[must_use]
    pub fn policy(mut self, words: &str) -> Self {
        self.policies.push(words.into());
        self
    }

    /// Puts a static program into its path, without its debug information.
    #[must_use]
    pub fn program(mut self, name: &str, file: &Path) -> Self {
        self.programs.push((name.into(), file.into()));
        self
    }

    /// How long it may take before it is ended.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The folder that it sees as `/host`.
    pub fn share(&self) -> &Path {
        self.share.path()
    }

    /// Boots it, runs the script there with `sh`, and waits until it has powered off.
    ///
    /// # Errors
    /// When the emulator does not start, or the guest takes longer than it may. The error carries the end of what it
    /// said.
    pub fn run(self, script: &str) -> Result<Ended> {
        let failed = |error: std::io::Error| io_failed(self.share.path(), &error);
        let job = self.share.path().join("job.sh");
        fs::write(&job, script).map_err(failed)?;
        let initrd = self.files.path().join("initrd");
        fs::write(&initrd, self.initrd()?).map_err(failed)?;
        let console = self.files.path().join("console");
        let log = self.files.path().join("log");

        let turn = File::create(target_dir().join("rig/vm.turn")).map_err(failed)?;
        turn.lock().map_err(failed)?;
        let begun = Instant::now();
        let mut child = self
            .command(&initrd, &console)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let in_time = wait(&mut child, begun + self.patience);
        drop(turn);

        let read =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let ended = Ended {
            console: read(&console) + &read(&log),
            out: read(&self.share.path().join("out")),
            code: read(&self.share.path().join("code")).trim().parse().ok(),
            took: begun.elapsed(),
            share: self.share,
        };
        if in_time {
            Ok(ended)
        } else {
            Err(Error::Failed(format!(
                "the guest was ended after {:?}: {ended}",
                self.patience
            )))
        }
    }

    /// The emulator, which ends with the thread that started it, whatever happens to the tests.
    fn command(&self, initrd: &Path, console: &Path) -> Result<Command> {
        let mut command = Command::new(need("setpriv")?);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(need("qemu-system-x86_64")?)
            .args(["-accel", "tcg,thread=multi", "-smp", "2"])
            // Volatility does not know page tables of five levels.
            .args(["-cpu", "max,-la57"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-m", &self.mebibytes.to_string(), "-M", &self.machine()])
            .arg("-kernel")
            .arg(self.kernel.vmlinux())
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", &self.command_line()])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-virtfs")
            .arg(format!(
                "local,path={},mount_tag=host,security_model=none,multidevs=remap",
                self.share.path().display()
            ))
            .args([
                "-netdev",
                "user,id=net",
                "-device",
                "virtio-net-pci,netdev=net,romfile=",
            ]);
        if let Some(mebibytes) = self.disk {
            let disk = self.files.path().join("disk");
            let size = format!("{mebibytes}m");
            stdout_of(
                Command::new(need("mkfs.ext4")?)
                    .arg("-q")
                    .arg(&disk)
                    .arg(size),
            )?;
            let drive = format!("file={},if=virtio,format=raw,cache=unsafe", disk.display());
            command.args(["-drive", &drive]);
        }
        Ok(command)
    }

    fn machine(&self) -> String {
        let limit = self
            .low_mebibytes
            .map(|low| format!(",max-ram-below-4g={low}M"));
        format!("q35{}", limit.unwrap_or_default())
    }

    fn command_line(&self) -> String {
        let fixed = ["console=ttyS0 loglevel=4 panic=-1 mitigations=off"];
        let own = self.policies.iter().map(String::as_str);
        fixed.into_iter().chain(own).collect::<Vec<_>>().join(" ")
    }

    fn initrd(&self) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).map_err(|error| io_failed(path, &error));
        let mut archive = Archive::default();
        for folder in [
            "bin", "dev", "disk", "etc", "host", "modules", "opt", "proc", "root", "sys", "tmp",
            "var",
        ] {
            archive.folder(folder);
        }
        archive.device("dev/console", 5, 1);
        archive.program("init", include_bytes!("init.sh"));
        archive.text("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
        archive.program("bin/busybox", &read(&self.kernel.busybox())?);
        let mut order = String::new();
        for module in self.kernel.modules()? {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.text(&format!("modules/{name}"), &read(&module)?);
            order += &format!("{name}\n");
        }
        archive.text("modules/order", order.as_bytes());
        for (name, file) in &self.programs {
            let stripped = self.files.path().join(name);
            stdout_of(
                Command::new(need("strip")?)
                    .arg("-o")
                    .args([&stripped, file]),
            )?;
            archive.program(&format!("opt/{name}"), &read(&stripped)?);
        }
        Ok(archive.finish())
    }
}

impl Ended {
    /// Where a file that the script left lies, until this value ends.
    pub fn path(&self, name: &str) -> PathBuf {
        self.share.path().join(name)
    }

    /// A file that the script left in the share.
    ///
    /// # Panics
    /// When there is none: the message carries what the guest said.
    pub fn text(&self, name: &str) -> String {
        let path = self.share.path().join(name);
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}: {self}"))
    }

    /// Asserts that the script ran to its end and ended well.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "code {:?} after {:?}\n-- script:\n{}\n-- console:\n{}",
            self.code,
            self.took,
            tail(&self.out),
            tail(&self.console)
        )
    }
}

/// Whether the child ended by itself; after the deadline it is killed.
fn wait(child: &mut Child, deadline: Instant) -> bool {
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            _ => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
