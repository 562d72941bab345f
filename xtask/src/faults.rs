//! The fault harness: builds the program and the harness, and hands the latter the arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use clap::Args;
use serde_json::Value;

use crate::{Result, cargo};

/// What to run; see `cargo xtask faults --help`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--seed N`, `--minutes M`, `--short`, or `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the chore. The exit code is the harness's: 0 all promises kept, 1 violations, 2 nothing found out.
pub(crate) fn run(options: &Options) -> Result<u8> {
    // As the tests build it.
    let build = [
        "build",
        "--message-format=json-render-diagnostics",
        "--package",
        "longshore-cli",
        "--features",
        "longshore-cli/etcd",
    ];
    let mut command = cargo();
    command.args(build).args(["--package", "longshore-faults"]).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} ended with {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let (program, harness) = (executable(&messages, "longshore")?, executable(&messages, "longshore-faults")?);
    let mut command = std::process::Command::new(harness);
    command.env("LONGSHORE_PROGRAM", program).args(&options.arguments);
    let status = command.status().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

/// Where Cargo has put a program, by its messages.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let artifact = messages.find(|message| message["target"]["name"] == name && message["executable"].is_string());
    let path = artifact.and_then(|message| message["executable"].as_str().map(PathBuf::from));
    path.ok_or_else(|| format!("cargo does not say where {name} is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = "text\n{\"target\":{\"name\":\"a\"},\"executable\":null}\n{\"target\":{\"name\":\"a\"},\"executable\":\"/t/a\"}\n";
        assert_eq!(executable(messages, "a").unwrap(), PathBuf::from("/t/a"));
        assert!(executable(messages, "b").is_err());
    }
}
