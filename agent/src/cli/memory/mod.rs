//! `memory`: images of physical memory, before and after they are captured.

mod arguments;
mod check;
mod extract;
mod image;
mod info;
mod symbols;

use clap::{Args, Subcommand};
use evidence::Exit;

use super::Failure;
pub(super) use arguments::MemoryArguments;

const EXAMPLES: &str = "\
Examples:
  Which way to this machine's memory works, without changing anything:
    exhibit-agent memory check --lime-modules /opt/exhibit/lime --lime-key key.pem
  The ranges of an image, in a collection or a file:
    exhibit-agent memory info s3://bucket/IR-7/i-0123456789abcdef0/20260102T030405Z-89abcdef
    exhibit-agent memory info memory.lime
  For Volatility 3:
    exhibit-agent memory extract evidence/IR-7/h-0123456789abcdef/20260102T030405Z-89abcdef --to memory.lime
    exhibit-agent memory symbols evidence/IR-7/h-0123456789abcdef/20260102T030405Z-89abcdef --to linux/kernel.json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which way to memory works on this machine, how long it would take and what is missing; changes nothing
    Check(check::Arguments),
    /// List and check the ranges of an image
    Info(info::Arguments),
    /// Write the image of a collection to a file, verifying it
    Extract(extract::Arguments),
    /// Write the symbols of a collection's kernel for Volatility 3 (ISF)
    Symbols(symbols::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Check(arguments) => check::run(arguments),
        Command::Info(arguments) => info::run(arguments),
        Command::Extract(arguments) => extract::run(arguments),
        Command::Symbols(arguments) => symbols::run(arguments),
    }
}
