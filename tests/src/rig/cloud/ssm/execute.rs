//! A step's script really runs here, as the SSM agent runs it: with `sh`, in `/`, in a process group of its own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::invocation::Plugin;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit code that the agent tells of a script that it stopped: 128 and SIGKILL.
const STOPPED: i32 = 137;

/// A script that is running.
pub(super) struct Running {
    child: Child,
    folder: TempDir,
    /// Its number may be another's by now.
    over: bool,
}

/// Why a script was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    TimedOut,
}

impl Running {
    pub(super) fn start(script: &str, env: &[(String, String)], noise: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("_script.sh");
        fs::write(&file, script)?;
        let output = |name: &str| File::create(folder.path().join(name));
        let mut stdout = output("stdout")?;
        stdout.write_all(noise.as_bytes())?;
        let child = shell(&file)
            .env_clear()
            .env("PATH", PATH)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(output("stderr")?)
            .spawn()?;
        Ok(Self {
            child,
            folder,
            over: false,
        })
    }

    /// Whether it has ended by itself.
    pub(super) fn ended(&mut self) -> bool {
        self.over |= !matches!(self.child.try_wait(), Ok(None));
        self.over
    }

    /// Kills the whole process group with SIGKILL, which is all that the agent knows.
    pub(super) fn kill(&self) {
        if !self.over {
            let group = Pid::from_raw(self.child.id().cast_signed());
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Waits for the end and tells it.
    pub(super) fn finish(mut self, stopped: Option<Stop>, plugin: &mut Plugin) {
        let status = self.child.wait();
        let read = |name: &str| {
            let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (plugin.stdout, plugin.stderr) = (read("stdout"), read("stderr"));
        // A shell that a signal killed has no exit code: the agent then says -1.
        let code = status.map_or(-1, |status| match status.signal() {
            Some(_) => -1,
            None => status.code().unwrap_or(-1),
        });
        match (stopped, code) {
            (Some(Stop::Cancelled), _) => plugin.end("Cancelled", "Cancelled", STOPPED),
            (Some(Stop::TimedOut), _) => plugin.end("TimedOut", "ExecutionTimedOut", STOPPED),
            (None, 0) => plugin.end("Success", "Success", 0),
            (None, code) => plugin.end("Failed", "Failed", code),
        }
    }
}

/// Waits until the condition holds or the time is over; whether it holds.
pub(super) fn wait_for(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// `sh` on this script; where root allows, with mounts of its own and an empty `/run`.
fn shell(file: &Path) -> Command {
    static OWN_MOUNTS: OnceLock<bool> = OnceLock::new();
    let own_mounts = OWN_MOUNTS.get_or_init(|| {
        let tried = Command::new("unshare")
            .args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    });
    let mut command = if *own_mounts {
        let mut command = Command::new("unshare");
        let inside = "mount -t tmpfs -o mode=755 tmpfs /run && exec sh \"$0\"";
        command.args(["--mount", "sh", "-c", inside]);
        command
    } else {
        Command::new("sh")
    };
    command.arg(file);
    command
}
