//! Images on this machine, also while no cluster runs.

use std::path::Path;

use longshore_core::runtime::{Credentials, Image};
pub use longshore_runtime_oci::PullProgress;

use crate::local::RuntimeKind;
use crate::real::{RealRuntime, failed};
use crate::{DataDir, Error, demo, requirements};

/// What stands for the instance while there is no cluster; images do not carry it.
const NO_INSTANCE: &str = "images";

/// The runtime of the cluster in this directory; runc or crun if there is none.
async fn open(directory: &DataDir) -> Result<RealRuntime, Error> {
    let settings = directory.settings()?;
    let kind = settings.as_ref().map_or(RuntimeKind::Oci.as_str(), |settings| &settings.runtime);
    requirements::check(kind, false)?;
    let instance = settings.as_ref().map_or(NO_INSTANCE, |settings| &settings.instance);
    let host = settings.as_ref().and_then(|settings| settings.docker_host.as_deref());
    RealRuntime::open(directory, kind, host, instance, directory.registries()?).await
}

/// Loads the images of an OCI layout or a `docker save` archive.
///
/// # Errors
/// [`Error::Missing`] if this machine cannot run containers; [`Error::Part`] saying what is wrong with the archive.
pub async fn load(directory: &DataDir, path: &Path) -> Result<Vec<Image>, Error> {
    open(directory).await?.import(path).await
}

/// Pulls an image from its registry, and tells how far it is.
///
/// # Errors
/// [`Error::Missing`] if this machine cannot run containers; [`Error::Part`] with the registry's reason;
/// [`Error::File`] if `registries.json` is malformed.
pub async fn pull(
    directory: &DataDir,
    name: &str,
    login: &Credentials,
    progress: impl Fn(PullProgress) + Send + Sync,
) -> Result<Image, Error> {
    open(directory).await?.pull(name, login, progress).await
}

/// Every image.
///
/// # Errors
/// As [`load`].
pub async fn list(directory: &DataDir) -> Result<Vec<Image>, Error> {
    open(directory).await?.runtime().images().list().await.map_err(failed)
}

/// Removes an image's name, and its content with the last name.
///
/// # Errors
/// As [`load`]; an image that a container uses stays.
pub async fn remove(directory: &DataDir, name: &str) -> Result<(), Error> {
    let runtime = open(directory).await?.runtime();
    if runtime.images().resolve(name).await.map_err(failed)?.is_none() {
        return Err(Error::Part { part: "runtime", reason: format!("there is no image {name}") });
    }
    runtime.images().remove(name).await.map_err(failed)
}

/// Makes the demonstration's image from this machine's busybox, unless it is there.
pub(crate) async fn make_demo(real: &RealRuntime) -> Result<(), Error> {
    if real.runtime().images().resolve(demo::IMAGE).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let source = requirements::find_program(&["busybox"]).ok_or_else(|| Error::Missing {
        what: "busybox is not on this machine".to_owned(),
        remedy: "add --install, or run: apt-get install busybox-static".to_owned(),
    })?;
    let names = std::iter::once("busybox").chain(demo::COMMANDS.iter().copied());
    let names: Vec<_> = names.map(|name| format!("/bin/{name}").into()).collect();
    real.build_image(demo::IMAGE, &source, &names).await
}
