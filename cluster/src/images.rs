//! Images on this machine, also while no cluster runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longshore_core::clock::SystemClock;
use longshore_core::runtime::{Credentials, Image, Runtime};
pub use longshore_runtime_oci::PullProgress;
use longshore_runtime_oci::{ImageFile, OciRuntime, Options, Registry};

use crate::{DataDir, Error, demo, requirements};

/// What stands for the instance while there is no cluster; images do not carry it.
const NO_INSTANCE: &str = "images";

/// The runtime of a cluster in this directory.
pub(crate) fn runtime(
    directory: &DataDir,
    instance: &str,
    registries: BTreeMap<String, Registry>,
) -> Result<OciRuntime, Error> {
    let shim = std::env::current_exe()
        .map_err(|error| Error::Part { part: "runtime", reason: format!("cannot find this program: {error}") })?;
    let options = Options {
        root: directory.join("runtime/images"),
        state: directory.join("runtime/state"),
        instance: instance.to_owned(),
        program: None,
        shim,
        registries,
    };
    OciRuntime::open(options, Arc::new(SystemClock::new())).map_err(failed)
}

fn failed(error: longshore_core::runtime::Error) -> Error {
    Error::Part { part: "runtime", reason: error.to_string() }
}

fn open(directory: &DataDir) -> Result<OciRuntime, Error> {
    requirements::check(false)?;
    let instance = directory.settings()?.map_or_else(|| NO_INSTANCE.to_owned(), |settings| settings.instance);
    runtime(directory, &instance, directory.registries()?)
}

/// Loads the images of an OCI layout or a `docker save` archive.
///
/// # Errors
/// [`Error::Missing`] if this machine cannot run containers; [`Error::Part`] saying what is wrong with the archive.
pub async fn load(directory: &DataDir, path: &Path) -> Result<Vec<Image>, Error> {
    open(directory)?.import(path).await.map_err(failed)
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
    open(directory)?.pull(name, login, progress).await.map_err(failed)
}

/// Every image.
///
/// # Errors
/// As [`load`].
pub async fn list(directory: &DataDir) -> Result<Vec<Image>, Error> {
    open(directory)?.images().list().await.map_err(failed)
}

/// Removes an image's name, and its content with the last name.
///
/// # Errors
/// As [`load`]; an image that a container uses stays.
pub async fn remove(directory: &DataDir, name: &str) -> Result<(), Error> {
    let runtime = open(directory)?;
    if runtime.images().resolve(name).await.map_err(failed)?.is_none() {
        return Err(Error::Part { part: "runtime", reason: format!("there is no image {name}") });
    }
    runtime.images().remove(name).await.map_err(failed)
}

/// Makes the demonstration's image from this machine's busybox, unless it is there.
pub(crate) async fn make_demo(runtime: &OciRuntime) -> Result<(), Error> {
    if runtime.images().resolve(demo::IMAGE).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let source = requirements::find_program(&["busybox"]).ok_or_else(|| Error::Missing {
        what: "busybox is not on this machine".to_owned(),
        remedy: "add --install, or run: apt-get install busybox-static".to_owned(),
    })?;
    let file = |name| ImageFile { target: format!("/bin/{name}").into(), source: source.clone(), mode: 0o755 };
    let files = std::iter::once("busybox").chain(demo::COMMANDS.iter().copied()).map(file).collect();
    runtime.build_image(demo::IMAGE, files, vec!["/bin/busybox".to_owned()]).await.map_err(failed)?;
    Ok(())
}
