//! Runtimes of real containers, and what clusters want of them beyond the trait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::clock::SystemClock;
use longshore_core::runtime::{Credentials, Error as RuntimeError, Image, Runtime};
use longshore_runtime_docker::DockerRuntime;
use longshore_runtime_oci::{OciRuntime, PullProgress, Registry};

use crate::local::RuntimeKind;
use crate::{DataDir, Error};

/// What runs real containers.
#[derive(Debug, Clone)]
pub(crate) enum RealRuntime {
    Oci(Arc<OciRuntime>),
    Docker(Arc<DockerRuntime>),
}

pub(crate) fn failed(error: RuntimeError) -> Error {
    Error::Part { part: "runtime", reason: error.to_string() }
}

impl RealRuntime {
    /// Opens the runtime of this kind (`oci` for any but `docker`) of the cluster in a directory.
    pub(crate) async fn open(
        directory: &DataDir,
        kind: &str,
        docker_host: Option<&str>,
        instance: &str,
        registries: BTreeMap<String, Registry>,
    ) -> Result<Self, Error> {
        let clock = Arc::new(SystemClock::new());
        let instance = instance.to_owned();
        if kind == RuntimeKind::Docker.as_str() {
            let host = docker_host.unwrap_or(longshore_runtime_docker::DEFAULT_SOCKET).to_owned();
            let state = directory.join("runtime/docker");
            let options = longshore_runtime_docker::Options { host, state, instance };
            let runtime = DockerRuntime::open(options, clock).await.map_err(failed)?;
            return Ok(Self::Docker(Arc::new(runtime)));
        }
        let shim = std::env::current_exe()
            .map_err(|error| Error::Part { part: "runtime", reason: format!("cannot find this program: {error}") })?;
        let (root, state) = (directory.join("runtime/images"), directory.join("runtime/state"));
        let options = longshore_runtime_oci::Options { root, state, instance, program: None, shim, registries };
        Ok(Self::Oci(Arc::new(OciRuntime::open(options, clock).map_err(failed)?)))
    }

    pub(crate) fn runtime(&self) -> Arc<dyn Runtime> {
        match self {
            Self::Oci(runtime) => runtime.clone(),
            Self::Docker(runtime) => runtime.clone(),
        }
    }

    /// Loads the images of an archive.
    pub(crate) async fn import(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let imported = match self {
            Self::Oci(runtime) => runtime.import(path).await,
            Self::Docker(runtime) => runtime.import(path).await,
        };
        imported.map_err(failed)
    }

    /// Pulls an image, and tells how far it is. A Docker Engine knows registries by its own configuration.
    pub(crate) async fn pull(
        &self,
        name: &str,
        login: &Credentials,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<Image, Error> {
        let pulled = match self {
            Self::Oci(runtime) => runtime.pull(name, login, progress).await,
            Self::Docker(runtime) => {
                let progress = |received, total| progress(PullProgress { received, total });
                runtime.pull(name, login, progress).await
            }
        };
        pulled.map_err(failed)
    }

    /// Makes an image in which one program of this machine has these names.
    pub(crate) async fn build_image(&self, name: &str, program: &Path, names: &[PathBuf]) -> Result<(), Error> {
        let (source, mode) = (program.to_owned(), 0o755);
        let targets = names.iter().cloned();
        let entrypoint = names.first().map(|first| first.display().to_string()).into_iter().collect();
        let built = match self {
            Self::Oci(runtime) => {
                let files =
                    targets.map(|target| longshore_runtime_oci::ImageFile { target, source: source.clone(), mode });
                runtime.build_image(name, files.collect(), entrypoint).await
            }
            Self::Docker(runtime) => {
                let files =
                    targets.map(|target| longshore_runtime_docker::ImageFile { target, source: source.clone(), mode });
                runtime.build_image(name, files.collect(), entrypoint).await
            }
        };
        built.map(drop).map_err(failed)
    }

    /// Ends every pod and removes whatever the runtime made, save images and logs.
    pub(crate) async fn clean_up(&self) -> Result<(), Error> {
        let cleaned = match self {
            Self::Oci(runtime) => runtime.clean_up().await,
            Self::Docker(runtime) => runtime.clean_up().await,
        };
        cleaned.map_err(failed)
    }
}
