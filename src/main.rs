//! The command line: no subcommand opens the window, a subcommand runs without one.

use std::process::ExitCode;

use clap::Parser;
use ocelli::cli::{Cli, run, usage_error};

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("OCELLI_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,wgpu_hal=error,wgpu_core=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
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
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ocelli: {error}");
            ExitCode::FAILURE
        }
    }
}
