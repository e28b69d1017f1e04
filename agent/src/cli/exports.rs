//! Completions and the manual page, made from the command line's own definition.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use evidence::Exit;

use super::{Arguments, Failure, print};

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
        "exhibit-agent",
        &mut bytes,
    );
    print(&String::from_utf8_lossy(&bytes)).map(|()| Exit::Complete)
}

/// One page: the program, then each of its commands.
pub(super) fn man() -> Result<Exit, Failure> {
    let internal = |error: std::io::Error| Failure::new(Exit::Internal, error);
    let mut bytes = Vec::new();
    let command = Arguments::command();
    clap_mangen::Man::new(command.clone())
        .render(&mut bytes)
        .map_err(internal)?;
    for sub in command.get_subcommands() {
        let title = format!(".SH {} {}\n", command.get_name(), sub.get_name()).to_uppercase();
        let page = clap_mangen::Man::new(sub.clone());
        bytes.extend_from_slice(title.as_bytes());
        page.render_synopsis_section(&mut bytes).map_err(internal)?;
        page.render_description_section(&mut bytes)
            .map_err(internal)?;
        page.render_options_section(&mut bytes).map_err(internal)?;
    }
    print(&String::from_utf8_lossy(&bytes)).map(|()| Exit::Complete)
}
