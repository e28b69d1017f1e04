//! The command line: standard output is for data, standard error for people.

mod case;
mod collect;
mod copy;
mod doctor;
mod export;
mod exports;
mod fetch;
mod place;
mod progress;
mod release;
mod resume;
mod seal;
mod snapshot;
mod status;
mod verify;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use evidence::{CaseId, Exit};

use crate::case::Journal;
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::run::Work;
pub(crate) use progress::Progress;

/// Collects, verifies and seals the evidence of EC2 instances, and keeps the chain of custody.
#[derive(Debug, Parser)]
#[command(name = "exhibit", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Once:
    exhibit init && $EDITOR exhibit.toml && exhibit doctor
  From an alert to a sealed case:
    exhibit case open IR-7 --reason 'GuardDuty 1234'
    exhibit collect --case IR-7 --instance i-0123456789abcdef0
    exhibit snapshot --case IR-7 --instance i-0123456789abcdef0
    exhibit verify IR-7 && exhibit seal IR-7
    exhibit fetch IR-7 --to ./IR-7
  For a laboratory:
    exhibit case export IR-7 --to ./IR-7.bag

Every command can be ended at any moment: `exhibit resume` goes on from where it was.
Exit codes: 0 done, 2 usage, 3 partial, 10 to 22 bucket and evidence, 30 to 46 instances, cases,
accounts. docs/operations.md has a row for each.";

/// Over what all commands take.
const HEADING: &str = "Options of every command";

/// What all commands take.
#[derive(Clone, Debug, Args)]
struct Global {
    /// The configuration
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE", default_value = config::FILE)]
    config: PathBuf,
    /// JSON on standard output, and JSON lines of progress on standard error
    #[arg(long, global = true, help_heading = HEADING)]
    json: bool,
    /// Nothing on standard error but errors
    #[arg(long, global = true, help_heading = HEADING, conflicts_with = "json")]
    quiet: bool,
    /// Who works on the case [default: the user's name]
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME", env = "EXHIBIT_OPERATOR", hide_env_values = true)]
    operator: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write exhibit.toml, with comments
    Init(InitArguments),
    /// Check the configuration against the accounts; changes nothing
    Doctor(doctor::Arguments),
    /// Open, show, list and export cases
    #[command(subcommand)]
    Case(case::Command),
    /// Collect on instances, by id, tag, address or name
    Collect(Box<collect::Arguments>),
    /// Copy the disks of instances into the forensic account, and lock the copies
    Snapshot(snapshot::Arguments),
    /// Go on with what was begun, until all has ended: for disks that can be hours
    Resume(resume::Arguments),
    /// End what is under way; what has arrived stays usable
    Cancel(resume::CancelArguments),
    /// Say how far a case is
    Status(status::Arguments),
    /// Verify the collections of a case in the bucket, or a fetched copy offline
    Verify(verify::Arguments),
    /// Sign what was verified, hold it, extend its retention
    Seal(seal::Arguments),
    /// Download a case, each object verified
    Fetch(fetch::Arguments),
    /// Print the completions for a shell
    Completions(exports::CompletionArguments),
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
struct InitArguments {
    /// Print it instead
    #[arg(long)]
    dry_run: bool,
}

/// Runs the program; the answer is its exit code.
pub fn main() -> u8 {
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
    match dispatch(arguments) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            tell(&format!("exhibit: {}", printable(&failure.message)));
            failure.exit.code()
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<Exit, Failure> {
    let global = arguments.global;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    runtime.block_on(async {
        match arguments.command {
            Command::Init(arguments) => init(&global, &arguments),
            Command::Doctor(arguments) => doctor::run(&global, &arguments).await,
            Command::Case(command) => case::run(&global, &command).await,
            Command::Collect(arguments) => collect::run(&global, &arguments).await,
            Command::Snapshot(arguments) => snapshot::run(&global, &arguments).await,
            Command::Resume(arguments) => resume::run(&global, &arguments).await,
            Command::Cancel(arguments) => resume::cancel(&global, &arguments).await,
            Command::Status(arguments) => status::run(&global, &arguments).await,
            Command::Verify(arguments) => verify::run(&global, &arguments).await,
            Command::Seal(arguments) => seal::run(&global, &arguments).await,
            Command::Fetch(arguments) => fetch::run(&global, &arguments).await,
            Command::Completions(arguments) => exports::completions(&arguments),
            Command::Man => exports::man(),
        }
    })
}

fn init(global: &Global, arguments: &InitArguments) -> Result<Exit, Failure> {
    if arguments.dry_run {
        return print(config::TEMPLATE).map(|()| Exit::Complete);
    }
    config::init(&global.config)?;
    tell(&format!(
        "{} is written; fill it in, then run `exhibit doctor`",
        global.config.display()
    ));
    Ok(Exit::Complete)
}

impl Global {
    fn read_config(&self) -> Result<Config, Failure> {
        Config::read(&self.config)
    }

    fn operator(&self) -> String {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.operator
            .clone()
            .or_else(user)
            .unwrap_or_else(|| format!("uid {}", nix::unistd::getuid()))
    }

    fn progress(&self) -> Progress {
        Progress::new(self.json, self.quiet)
    }

    /// Work on a case that there is, as its only writer.
    async fn work<'a>(
        &self,
        config: &'a Config,
        case: &CaseId,
        progress: &'a Progress,
    ) -> Result<Work<'a>, Failure> {
        let journal = Journal::open(&config.case_folder(case), case, &self.operator())?;
        Work::new(config, case.clone(), journal, progress).await
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    fn print<T: serde::Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.json {
            true => print(&(serde_json::to_string(value).map_err(Failure::internal)? + "\n")),
            false => print(&printable(&text(value))),
        }
    }
}

/// Whether this can be the id of an instance.
fn check_instance_id(id: &str) -> Result<(), Failure> {
    let digits = id.strip_prefix("i-").unwrap_or_default();
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if (8..=17).contains(&digits.len()) && digits.bytes().all(hexadecimal) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--instance {id:?} is not an instance id such as i-0123456789abcdef0; `exhibit collect` takes --name and --ip too"
    )))
}

/// Text that can not steer a terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() && c != '\n' {
            c.escape_default().collect()
        } else {
            vec![c]
        }
    };
    text.chars().flat_map(plain).collect()
}

/// A line for people. A closed standard error must not end the work.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Data for whoever called.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Target,
            format!("standard output can not be written: {error}"),
        )),
        _ => Ok(()),
    }
}
