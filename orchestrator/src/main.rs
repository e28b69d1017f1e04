//! The responder's command line. Nothing in it works yet, and it says so instead of succeeding at nothing.

use std::io::Write;
use std::process::ExitCode;

/// `evidence::Exit::Usage`: nothing was done.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let message =
        "exhibit: there is no orchestrator yet; collect with `exhibit-agent collect` on the host";
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(USAGE)
}
