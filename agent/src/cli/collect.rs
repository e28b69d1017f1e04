//! `collect`: the main job.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::{Args, Parser as _};
use evidence::digest::Digest;
use evidence::{CaseId, CollectionId, Exit, HostKey, Prefix};
use signal_hook::consts::{SIGINT, SIGTERM};
use time::OffsetDateTime;
use time::macros::format_description;

use super::memory::MemoryArguments;
use super::progress::{Mode, Progress};
use super::selection::SelectionArguments;
use super::store::{LockArguments, Place, S3Arguments, s3};
use super::{Failure, print, tell};
use crate::capture::Plan;
use crate::host::{self, Host};
use crate::limits::{duration, size};
use crate::run::{self, Options};
use crate::ship::{Directory, Store, instance_id};

/// Threads that compress unless the operator wants more: three keep up with most networks, and bound the memory.
const MOST_THREADS: usize = 3;

const EXAMPLES: &str = "\
Examples:
  This machine into ./evidence:
    exhibit-agent collect
  Into a bucket with Object Lock, the rest into a spool if the bucket fails:
    exhibit-agent collect --case IR-7 --operator ana --reason 'GuardDuty 1234' \\
        --to s3://bucket/prefix --region eu-central-1 --spool /mnt/usb
  With put-only credentials from standard input, gently:
    exhibit-agent collect --to s3://bucket --credentials-file - --cpu-limit 25 --rate-limit 20M <creds.json
  Physical memory alone, by LiME where a signed module fits this kernel:
    exhibit-agent collect --include memory,symbols --to s3://bucket --lime-modules s3://modules/lime --lime-key key.pem
  The first look at many hosts, in under a minute each:
    exhibit-agent collect --profile quick --to s3://bucket
  All of it, with logs of the last month and an application of one's own:
    exhibit-agent collect --profile full --since 30d --artifacts shop.toml --to s3://bucket
  The memory of processes that look odd, and of one that does by other signs:
    exhibit-agent collect --include processes,hidden,process_memory --process-memory suspicious,4711 --to s3://bucket
  Only what runs, within a minute:
    exhibit-agent collect --include first_sweep,sockets,processes,recovered --deadline 60s";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Where the evidence goes: a directory, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE", default_value = "evidence")]
    to: String,
    /// Name of the investigation: letters, digits, dots, dashes, underscores
    #[arg(long, value_name = "ID", default_value = "local")]
    case: String,
    /// Who collects
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Why it is collected: an alert, a ticket
    #[arg(long, value_name = "TEXT", default_value = "not given")]
    reason: String,
    /// EC2 instance id, to name the host in keys, or `auto` to ask SSM's environment and IMDS [default: derived from the machine id]
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Id of the collection, when whoever triggers it has chosen one [default: the time and a random part]
    #[arg(long, value_name = "ID")]
    collection: Option<CollectionId>,
    /// All arguments of `collect` at once: base64url of a JSON array, as the SSM document hands them on
    #[arg(long, value_name = "TEXT", exclusive = true)]
    config: Option<String>,
    /// Read below this directory instead of /: a mounted image, a recorded tree
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Directory that takes the rest when the store fails for good; `ship` sends it later
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    limits: Limits,
    /// Nothing on standard error but errors
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
    /// Progress as JSON lines on standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    s3: S3Arguments,
    #[command(flatten)]
    lock: LockArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// End the run after this time, such as 90s, 15m or 2h, with what there is
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Duration>,
    /// Most bytes of one file, such as 512M or 8G; the rest is named as truncated
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = size)]
    max_file_size: u64,
    /// Most bytes of evidence before compression, memory apart; what does not fit is named
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_total_size: Option<u64>,
    /// Most bytes a second to the store, such as 20M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    rate_limit: Option<u64>,
    /// Most CPU, in percent of one core
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..))]
    cpu_limit: Option<u32>,
    /// Keep the usual priority instead of nice 19 and idle I/O
    #[arg(long)]
    normal_priority: bool,
    /// Level of zstd
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Threads that compress, 10 MiB of memory each [default: the cores that this process may use, 3 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Runs with the arguments of the command line, or with those that `--config` holds.
pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Some(config) = &arguments.config else {
        let given = std::env::args_os();
        let given = given.map(|argument| argument.to_string_lossy().into_owned());
        return collect(arguments, given.collect());
    };
    let program = ["exhibit-agent".to_owned(), "collect".to_owned()];
    let given: Vec<String> = program.into_iter().chain(unpack(config)?).collect();
    match super::Arguments::try_parse_from(&given).map(|parsed| parsed.command) {
        Ok(super::Command::Collect(inner)) if inner.config.is_none() => collect(&inner, given),
        Ok(_) => Err(Failure::usage(
            "--config does not hold arguments of `collect`",
        )),
        Err(error) => Err(Failure::usage(format!(
            "--config holds arguments that can not be used: {error}"
        ))),
    }
}

/// The arguments in `--config`.
fn unpack(config: &str) -> Result<Vec<String>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "--config is not base64url of a JSON array of texts: {why}"
        ))
    };
    let bytes = BASE64URL.decode(config).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}

fn collect(arguments: &Arguments, given: Vec<String>) -> Result<Exit, Failure> {
    let mut plan = arguments.selection.plan()?;
    let case: CaseId = arguments.case.parse().map_err(Failure::usage)?;
    let place = Place::parse(&arguments.to)?;
    let unreadable = |error| {
        Failure::usage(format!(
            "--root {} can not be read: {error}",
            arguments.root.display()
        ))
    };
    let host = Host::open(&arguments.root).map_err(unreadable)?;
    let prefix = Prefix {
        case,
        host: host_key(arguments, &host)?,
        collection: arguments
            .collection
            .clone()
            .map_or_else(collection_id, Ok)?,
    };
    let way = arguments.s3.of_host(&prefix.host);
    plan.memory = arguments.memory.plan(&way)?;
    let store: Arc<dyn Store> = match place {
        Place::Directory(_) if arguments.lock.is_given() => {
            let message = "--kms-key, --retain-until, --legal-hold and --allow-unlocked are for s3://; a directory locks nothing";
            return Err(Failure::usage(message));
        }
        Place::Directory(path) => {
            plan.memory.refused = arguments.memory.no_room(&host, &path);
            Arc::new(Directory::new(&path.join(prefix.to_string())))
        }
        Place::Bucket {
            bucket,
            prefix: folder,
        } => {
            let folder = if folder.is_empty() {
                prefix.to_string()
            } else {
                format!("{folder}/{prefix}")
            };
            Arc::new(s3(&bucket, folder, &way, &arguments.lock)?)
        }
    };
    if !arguments.limits.normal_priority
        && let Err(errno) = host::lower_priority()
    {
        tell(&format!(
            "warning: the priority can not be lowered ({errno}); the run goes on at the usual one"
        ));
    }
    let interrupted = signals()?;
    let mode = if arguments.quiet {
        Mode::Quiet
    } else if arguments.json {
        Mode::Json
    } else {
        Mode::Human
    };
    let progress = Progress::new(mode);
    let result = run::run(
        &options(arguments, given, prefix, plan),
        &host,
        store,
        &interrupted,
        &|event| progress.show(&event),
    );
    progress.end();
    let receipt = result.map_err(|error| Failure::new(error.exit(), error))?;
    let line = receipt
        .to_line()
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    // The run is sealed whatever becomes of standard output: the receipt must not be lost with it.
    if let Err(failure) = print(&line) {
        tell(&format!(
            "exhibit-agent: {}; the receipt is:\n{line}",
            failure.message
        ));
    }
    Ok(Exit::ALL
        .iter()
        .copied()
        .find(|exit| exit.code() == receipt.exit_code)
        .unwrap_or(Exit::Internal))
}

fn options(arguments: &Arguments, given: Vec<String>, prefix: Prefix, capture: Plan) -> Options {
    let limits = &arguments.limits;
    let cores = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_THREADS);
    let operator = || format!("uid {}", nix::unistd::getuid());
    Options {
        prefix,
        operator: arguments.operator.clone().unwrap_or_else(operator),
        reason: arguments.reason.clone(),
        arguments: given,
        capture,
        spool: arguments.spool.clone(),
        deadline: limits.deadline,
        max_file_bytes: limits.max_file_size,
        max_total_bytes: limits.max_total_size,
        rate_limit: limits.rate_limit,
        cpu_percent: limits.cpu_limit,
        level: limits.level,
        workers: limits.threads.map_or(cores, usize::from),
    }
}

/// The instance id, or a name that is the same for each run on this host and tells nothing of it.
fn host_key(arguments: &Arguments, host: &Host) -> Result<HostKey, Failure> {
    let asked = arguments.instance.as_deref().filter(|id| *id == "auto");
    let own = asked.map(|_| instance_id().map_err(|error| Failure::new(error.exit(), error)));
    if let Some(instance) = own.transpose()?.as_ref().or(arguments.instance.as_ref()) {
        let digits = instance.strip_prefix("i-").unwrap_or_default();
        let valid = (8..=17).contains(&digits.len())
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        return match valid {
            true => instance.parse().map_err(Failure::usage),
            false => Err(Failure::usage(format!(
                "--instance {instance:?} is not an instance id such as i-0123456789abcdef0"
            ))),
        };
    }
    let identity = host.line("etc/machine-id").filter(|id| !id.is_empty());
    let identity = identity
        .or_else(|| host.line("proc/sys/kernel/random/boot_id"))
        .unwrap_or_default();
    let digest = Digest::of(format!("exhibit host {identity}").as_bytes()).to_string();
    format!("h-{}", digest.get(..16).unwrap_or_default())
        .parse()
        .map_err(Failure::usage)
}

fn collection_id() -> Result<CollectionId, Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure::new(Exit::Internal, error);
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("the kernel gives no random bytes: {error}"),
        )
    })?;
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = OffsetDateTime::now_utc()
        .format(&format)
        .map_err(|error| internal(&error))?;
    format!("{time}-{}", hex::encode(random))
        .parse()
        .map_err(|error| internal(&error))
}

/// The first signal finishes the collection with what there is; the second ends the program at once.
fn signals() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: the flag is looked at before it is set.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            Arc::clone(&interrupted),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
        .map_err(|error| {
            Failure::new(
                Exit::Internal,
                format!("signals can not be handled: {error}"),
            )
        })?;
    }
    Ok(interrupted)
}
