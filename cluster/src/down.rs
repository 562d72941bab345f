//! The end of a cluster on this machine: its pods, and if asked its data.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::runtime::{Container, ContainerState, Runtime};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::data_dir::{DataDir, Settings};
use crate::local::RuntimeKind;
use crate::progress::{Observer, Progress};
use crate::real::{RealRuntime, failed};
use crate::{Error, machine};

/// How long the control plane may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How long containers have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Stops the cluster of a directory: the control plane if one runs, then every pod. Nothing to stop is no error.
///
/// With `purge` the directory is deleted as well.
///
/// # Errors
/// Names what could not be stopped or deleted; doing it again is safe.
pub async fn down(directory: &DataDir, purge: bool, observer: Observer) -> Result<(), Error> {
    let step = |text: String| observer(Progress::Step(text));
    if !directory.path().exists() {
        return Ok(());
    }
    let clock = SystemClock::new();
    if let Some(pid) = directory.running()? {
        step(format!("stopping the control plane (process {pid})"));
        stop_process(directory, pid, &clock).await?;
    }
    let lock = directory.lock()?;
    if let Some(settings) = directory.settings()?.filter(|settings| settings.runtime != RuntimeKind::Simulated.as_str())
    {
        remove_pods(directory, &settings, &step).await?;
    }
    if purge {
        directory.delete(lock)?;
        step(format!("deleted {}", directory.path().display()));
    }
    Ok(())
}

async fn stop_process(directory: &DataDir, pid: u32, clock: &dyn Clock) -> Result<(), Error> {
    let stuck = |reason: String| Error::Part { part: "down", reason };
    // Process 0 would be everybody of our group.
    let id = i32::try_from(pid).ok().filter(|id| *id > 1);
    let id = id.ok_or_else(|| stuck(format!("{}/lock is held, but not by whom", directory.path().display())))?;
    match kill(Pid::from_raw(id), Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(stuck(format!("cannot stop process {pid}: {error}; run it as root"))),
    }
    let start = clock.elapsed();
    while directory.running()? == Some(pid) {
        if clock.elapsed() - start > STOP_PATIENCE {
            return Err(stuck(format!("process {pid} does not end; kill it with `kill -9 {pid}` and try again")));
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn remove_pods(directory: &DataDir, settings: &Settings, step: &impl Fn(String)) -> Result<(), Error> {
    let Settings { runtime: kind, docker_host, instance, .. } = settings;
    let real = RealRuntime::open(directory, kind, docker_host.as_deref(), instance, BTreeMap::new()).await?;
    let runtime = real.runtime();
    let sandboxes = runtime.list().await.map_err(failed)?;
    if !sandboxes.is_empty() {
        step(format!("stopping {} pods", sandboxes.len()));
    }
    let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
    let stopped = join_all(containers.map(|container| stop_container(&*runtime, container))).await;
    stopped.into_iter().collect::<Result<Vec<()>, _>>().map_err(failed)?;
    real.clean_up().await?;
    machine::unmount_volumes(directory)?;
    machine::purge_network(directory, settings).await
}

async fn stop_container(runtime: &dyn Runtime, container: &Container) -> Result<(), longshore_core::runtime::Error> {
    if matches!(container.state, ContainerState::Exited { .. }) {
        return Ok(());
    }
    runtime.stop_container(&container.container, GRACE).await
}
