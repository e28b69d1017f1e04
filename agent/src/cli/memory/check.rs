//! `memory check`: which way to memory works here. Changes nothing.

use std::path::Path;

use clap::Args;
use evidence::Exit;
use indicatif::{HumanBytes, HumanDuration};

use super::MemoryArguments;
use crate::capture::memory::{Memory, Prospect};
use crate::cli::store::S3Arguments;
use crate::cli::{Failure, json_line, print, printable};
use crate::host::Host;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    s3: S3Arguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let plan = arguments.memory.plan(&arguments.s3)?;
    let host = Host::open(Path::new("/"))
        .map_err(|error| Failure::new(Exit::Internal, format!("/ can not be read: {error}")))?;
    let prospect = Memory::new(plan).check(&host);
    let exit = match prospect.works() {
        true => Exit::Complete,
        false => Exit::NothingCollected,
    };
    let text = if arguments.json {
        json_line(&prospect)?
    } else {
        human(&prospect)
    };
    print(&text)?;
    Ok(exit)
}

fn human(prospect: &Prospect) -> String {
    let ram = match (prospect.ram_bytes, &prospect.ram_unknown) {
        (Some(bytes), _) => HumanBytes(bytes).to_string(),
        (None, why) => format!("unknown: {}", why.as_deref().unwrap_or_default()),
    };
    let mut text = format!("System RAM   {ram}\n");
    for way in &prospect.ways {
        let answer = match (&way.why_not, way.seconds) {
            (Some(why), _) => format!("no: {why}"),
            (None, Some(seconds)) => {
                let time = HumanDuration(std::time::Duration::from_secs_f64(seconds));
                format!("yes, about {time} to read all of it")
            }
            (None, None) => "yes".to_owned(),
        };
        text.push_str(&format!("{:<12} {answer}\n", way.name));
    }
    text.push_str(match prospect.works() {
        true => "The first that says yes is used.\n",
        false => "Memory can not be captured here.\n",
    });
    printable(&text)
}
