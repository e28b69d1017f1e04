//! Parses, calls, ends with the code that the result stands for. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(exhibit::cli::main())
}
