//! Shell completion.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;
use longshore_cluster::Error;

/// Which script.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The shell; for bash: `source <(longshore completion bash)`
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn print(options: &Options, command: &mut clap::Command) -> Result<ExitCode, Error> {
    clap_complete::generate(options.shell, command, "longshore", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
