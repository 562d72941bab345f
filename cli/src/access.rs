//! Which API server is asked.

use std::path::PathBuf;

use clap::Args;
use longshore_cluster::{DataDir, Error};

use crate::Place;

/// A cluster of this machine, or any that a kubeconfig leads to.
#[derive(Debug, Args)]
pub(crate) struct Access {
    #[command(flatten)]
    place: Place,
    /// How to reach the API server [default: that of the cluster's directory]
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    kubeconfig: Option<PathBuf>,
    /// Which of the kubeconfig's contexts [default: the current one]
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
}

impl Access {
    /// The cluster's directory.
    pub(crate) fn directory(&self) -> DataDir {
        self.place.directory()
    }

    /// The text of the kubeconfig.
    pub(crate) fn kubeconfig(&self) -> Result<String, Error> {
        let Some(path) = &self.kubeconfig else { return longshore_cluster::kubeconfig(&self.place.directory()) };
        let text = std::fs::read_to_string(path).map_err(|error| Error::File {
            tried: "read the kubeconfig",
            path: path.clone(),
            reason: error.to_string(),
        })?;
        longshore_cluster::of_context(&text, self.context.as_deref())
    }
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// Everything, for programs
    Json,
}
