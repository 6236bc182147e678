//! The `coprof` program.

use std::process::ExitCode;

use clap::Parser;

use coprof::cli;
use coprof_core::error::Error;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    if let Some(words) = cli::untold(error) {
        eprintln!("error: {words}");
    }
    ExitCode::from(error.exit_code())
}
