//! The command line: standard output is for data, standard error for people.

mod artifacts;
mod collect;
mod exports;
mod memory;
mod progress;
mod selection;
mod ship;
mod store;
mod verify;

use std::io::{ErrorKind, Write};

use clap::{Parser, Subcommand};
use evidence::Exit;

/// Collects volatile evidence of a Linux host and seals it as it leaves.
#[derive(Debug, Parser)]
#[command(name = "exhibit-agent", version = version(), max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Collect this machine into ./evidence, without AWS:
    exhibit-agent collect
  Collect into a bucket with Object Lock:
    exhibit-agent collect --case IR-7 --operator ana --reason 'GuardDuty 1234' --to s3://bucket/prefix
  Verify what was collected, offline or in the bucket:
    exhibit-agent verify ./evidence/IR-7/h-0123456789abcdef/20260102T030405Z-89abcdef
    exhibit-agent verify s3://bucket/prefix/IR-7/i-0123456789abcdef0/20260102T030405Z-89abcdef

Exit codes: 0 complete, 3 partial, 4 nothing collected, 10 to 18 the store, 20 to 22 verification.
docs/operations.md has a row for each.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect this host's live state into a directory or a bucket
    Collect(Box<collect::Arguments>),
    /// Verify a collection: every hash, nothing extracted
    Verify(verify::Arguments),
    /// Send a spooled or locally collected collection to a bucket, without sending anything twice
    Ship(ship::Arguments),
    /// Look at, take out and prepare images of physical memory
    Memory(memory::Arguments),
    /// List what can be captured, in order, with the reason and the limits
    Artifacts(artifacts::Arguments),
    /// Print the completions for a shell
    Completions(exports::CompletionArguments),
    /// Print the manual page
    Man,
}

/// An end that is not success: the code, and what to tell the operator.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl ToString) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    pub(crate) fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, message)
    }
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("EXHIBIT_COMMIT"), ")")
}

/// Runs the program; the answer is its exit code.
pub fn main() -> u8 {
    crate::host::single_heap();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Complete
            };
            // A closed pipe is nobody's fault.
            let _ = error.print();
            return exit.code();
        }
    };
    let result = match arguments.command {
        Command::Collect(arguments) => collect::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Ship(arguments) => ship::run(&arguments),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Artifacts(arguments) => artifacts::run(&arguments),
        Command::Completions(arguments) => exports::completions(&arguments),
        Command::Man => exports::man(),
    };
    match result {
        Ok(exit) => exit.code(),
        Err(failure) => {
            tell(&format!("exhibit-agent: {}", printable(&failure.message)));
            failure.exit.code()
        }
    }
}

/// Text that can not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() && c != '\n' {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// A line for people. A closed standard error must not end a collection.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Data for machines: one line of JSON.
pub(crate) fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|json| json + "\n")
        .map_err(|error| Failure::new(Exit::Internal, error))
}

/// Data for whoever called.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    // Whoever closed the pipe has read enough.
    let written = written.or_else(|error| {
        if error.kind() == ErrorKind::BrokenPipe {
            Ok(())
        } else {
            Err(error)
        }
    });
    written.map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("standard output can not be written: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn messages_can_not_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\rc\nd"), "a\\u{1b}[2Jb\\rc\nd");
    }
}
