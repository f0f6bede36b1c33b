//! The command line: no subcommand opens the window, a subcommand runs without one.

use std::process::ExitCode;

use clap::Parser;
use ocelli::cli::{Cli, run, usage_error};
use ocelli::log;

fn main() -> ExitCode {
    log::note_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // --help and --version are answers; anything else is a mistake in the words of the command.
            if e.use_stderr() {
                eprintln!("ocelli: {}", usage_error(&e));
                return ExitCode::FAILURE;
            }
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
    };
    log::begin(cli.log_folder().as_deref());
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::info!("{}", error.for_log());
            eprintln!("ocelli: {error}");
            ExitCode::FAILURE
        }
    }
}
