//! Shell completion.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;
use longshore_cluster::Error;

use crate::output;

/// Which script.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The shell; for bash: `source <(longshore completion bash)`
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn print(options: &Options, command: &mut clap::Command) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, command, "longshore", &mut script);
    output::say(String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
