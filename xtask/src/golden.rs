//! Golden vectors: builds the runner and hands it the arguments.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use crate::{cargo, root};

/// What to run; see `cargo xtask golden api --help`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `api PATH…`, or `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the chore. The exit code is the runner's: 0 all equal, 1 differences, 2 input that cannot be run.
pub(crate) fn run(options: &Options) -> ExitCode {
    // Not in the workspace's root: relative paths are the caller's.
    let mut command = cargo();
    if let Ok(here) = std::env::current_dir() {
        command.current_dir(here);
    }
    command
        .args(["run", "--quiet", "--profile", "simulation", "--package", "longshore-golden", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .arg("--")
        .args(&options.arguments);
    match command.status().map(|status| status.code()) {
        Ok(Some(code)) => ExitCode::from(u8::try_from(code).unwrap_or(2)),
        Ok(None) | Err(_) => ExitCode::from(2),
    }
}
