//! Simulated worlds: builds their runner and hands it the arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::{Result, cargo, root};

/// What to run; see `cargo xtask world --help`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--seeds N`, `--seed S`, `--jobs J`, `--json`, or `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the chore. The exit code is the runner's: 0 all promises kept, 1 violations.
pub(crate) fn run(options: &Options) -> Result<u8> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--profile", "simulation", "--package", "longshore-world"])
        // Everything is built otherwise than elsewhere, so it has a place of its own.
        .arg("--target-dir")
        .arg(target.join("worlds"))
        .env("RUSTFLAGS", flags(std::env::var("RUSTFLAGS").ok()))
        .arg("--")
        .args(&options.arguments);
    let status = command.status().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

/// With this flag tokio lets a seed decide what `select!` looks at first.
fn flags(given: Option<String>) -> String {
    [given.as_deref().unwrap_or_default(), "--cfg tokio_unstable"].join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_given_stay() {
        assert_eq!(flags(None), "--cfg tokio_unstable");
        assert_eq!(flags(Some("-C debuginfo=0".to_owned())), "-C debuginfo=0 --cfg tokio_unstable");
    }
}
