//! Completions and the manual page, made from the command line's own definition.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use evidence::Exit;

use super::{Arguments, print};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct CompletionArguments {
    /// The shell to complete for
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionArguments) -> Result<Exit, Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "exhibit",
        &mut bytes,
    );
    print(&String::from_utf8_lossy(&bytes)).map(|()| Exit::Complete)
}

/// One page: the program, then each of its commands.
pub(super) fn man() -> Result<Exit, Failure> {
    let mut bytes = Vec::new();
    let command = Arguments::command();
    let pages = || -> std::io::Result<()> {
        clap_mangen::Man::new(command.clone()).render(&mut bytes)?;
        for sub in command.get_subcommands() {
            let title = format!(".SH {} {}\n", command.get_name(), sub.get_name()).to_uppercase();
            bytes.extend_from_slice(title.as_bytes());
            let page = clap_mangen::Man::new(sub.clone());
            page.render_synopsis_section(&mut bytes)?;
            page.render_description_section(&mut bytes)?;
            page.render_options_section(&mut bytes)?;
        }
        Ok(())
    };
    let mut pages = pages;
    pages().map_err(Failure::internal)?;
    print(&String::from_utf8_lossy(&bytes)).map(|()| Exit::Complete)
}
