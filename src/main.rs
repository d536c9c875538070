//! `infer`, the command line of Sixteen States; see [`sixteen_states::cli`].

use sixteen_states::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os()).unwrap_or_else(|error| {
        cli::report(&error);
        ExitCode::from(error.exit_code())
    })
}
