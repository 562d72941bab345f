//! `longshore explain`: why a pod is where it is, or nowhere.

use std::process::ExitCode;

use clap::Args;
use longshore_cluster::Error;

use crate::access::{Access, Output};
use crate::output::say;

/// Options of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The pod
    pod: String,
    /// The pod's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How the answer looks
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    access: Access,
}

/// Prints the explanation.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Error> {
    let kubeconfig = options.access.kubeconfig()?;
    let json = options.output == Output::Json;
    let text = longshore_cluster::explain(&kubeconfig, &options.namespace, &options.pod, json).await?;
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
