//! `longshore explain`: why a pod is where it is, or nowhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use longshore_cluster::Error;

use crate::Place;
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
    place: Place,
    /// How to reach the API server [default: that of the cluster's directory]
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables for people, at most twenty rows each
    Text,
    /// Everything, for programs
    Json,
}

/// Prints the explanation.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Error> {
    let kubeconfig = match &options.kubeconfig {
        Some(path) => std::fs::read_to_string(path).map_err(|error| Error::File {
            tried: "read the kubeconfig",
            path: path.clone(),
            reason: error.to_string(),
        })?,
        None => longshore_cluster::kubeconfig(&options.place.directory())?,
    };
    let json = options.output == Output::Json;
    let text = longshore_cluster::explain(&kubeconfig, &options.namespace, &options.pod, json).await?;
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
