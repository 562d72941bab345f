//! The connection to the engine, and what all operations share.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::SystemInfoCgroupDriverEnum;
use bollard::{API_DEFAULT_VERSION, Docker};
use longshore_core::clock::Clock;
use longshore_core::runtime::{Container, ContainerRef, Error, Event};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, broadcast, oneshot};
use tokio::task::JoinSet;

use crate::Options;
use crate::logs::Logs;
use crate::notes::Notes;

/// The API of Docker Engine 20.10.
const API_MIN: (usize, usize) = (1, 41);

/// The first in which mounts below a mount are thought of.
const API_RECURSIVE: (usize, usize) = (1, 44);

/// Seconds until an answer must have begun. Creating a container on a busy machine takes some.
const ANSWER_MAX: u64 = 120;

/// Between two looks at something that the engine is about to do.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) client: Docker,
    pub(crate) instance: String,
    /// The path of its socket.
    pub(crate) socket: PathBuf,
    pub(crate) notes: Notes,
    pub(crate) clock: Arc<dyn Clock>,
    /// The engine's version.
    pub(crate) version: String,
    /// Whether mounts can be read-only with all that is mounted below them: since version 25.
    pub(crate) recursive: bool,
    /// Whether it has systemd make control groups.
    pub(crate) systemd: bool,
    pub(crate) logs: Arc<Logs>,
    /// The containers that have ended, by the engine's id: they never change, and their logs are complete.
    pub(crate) ended: Mutex<BTreeMap<String, Container>>,
    /// Changes of which the engine knows nothing.
    pub(crate) changes: broadcast::Sender<Event>,
    /// Held while something of a pod is made or removed, by the pod's uid.
    pods: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What goes on also if nobody waits for it any more.
    tasks: Mutex<JoinSet<()>>,
    handle: Handle,
}

fn invalid(reason: String) -> Error {
    Error::Invalid { reason }
}

/// What was tried failed.
pub(crate) fn failed<E: Display>(operation: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |error| Error::Failed { operation: operation.into(), reason: error.to_string() }
}

/// The status and message of the engine's refusal.
pub(crate) fn refusal(error: &bollard::errors::Error) -> Option<(u16, &str)> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

pub(crate) fn status(error: &bollard::errors::Error) -> u16 {
    refusal(error).map_or(0, |(status, _)| status)
}

/// What an error says with all its causes: HTTP's own are in none but the last.
fn told(error: &bollard::errors::Error) -> String {
    if let Some((_, message)) = refusal(error) {
        return message.to_owned();
    }
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = next.source();
    }
    told
}

/// Letters, digits and what else is harmless in names of containers, files and control groups.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if name.is_empty() || name.starts_with(['-', '.']) || !name.bytes().all(allowed) {
        return Err(invalid(format!(
            "{what} {name:?} must be letters, digits, '-' and '.', and start with none of the last"
        )));
    }
    Ok(())
}

impl Engine {
    pub(crate) async fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let Options { host, state, instance } = options;
        check_name("instance", &instance)?;
        if !nix::unistd::geteuid().is_root() {
            let hint = "running pods needs root: run it with sudo, or choose the simulated runtime";
            return Err(invalid(hint.to_owned()));
        }
        let Some(socket) = host.strip_prefix("unix://").map(PathBuf::from) else {
            return Err(invalid(format!(
                "the Docker Engine at {host:?} is out of reach: its address must start with unix://, for pods run on this machine"
            )));
        };
        let silent = |reason: String| {
            invalid(format!(
                "no Docker Engine answers at {host} ({reason}): start it (systemctl start docker), or name its socket with \
                 --docker-socket or DOCKER_HOST"
            ))
        };
        let client = Docker::connect_with_unix(&host, ANSWER_MAX, API_DEFAULT_VERSION)
            .map_err(|error| silent(told(&error)))?
            .negotiate_version()
            .await
            .map_err(|error| silent(told(&error)))?;
        let found = client.version().await.map_err(|error| silent(told(&error)))?;
        let version = found.version.unwrap_or_default();
        let api = found.api_version.unwrap_or_default();
        supported(&host, &version, &api).map_err(invalid)?;
        let about = client.info().await.map_err(|error| silent(told(&error)))?;
        let rootless = about.security_options.unwrap_or_default().iter().any(|option| option.contains("rootless"));
        if rootless || about.os_type.is_some_and(|os| os != "linux") {
            return Err(invalid(format!("the Docker Engine at {host} is not root's on Linux, which pods need")));
        }
        let notes = Notes::open(state).map_err(failed("make the state directory"))?;
        Ok(Self {
            client,
            instance,
            socket,
            notes,
            clock,
            version,
            recursive: number(&api) >= Some(API_RECURSIVE),
            systemd: about.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD),
            logs: Arc::new(Logs::new().map_err(failed("watch logs"))?),
            ended: Mutex::default(),
            changes: broadcast::channel(64).0,
            pods: Mutex::default(),
            tasks: Mutex::default(),
            handle: Handle::current(),
        })
    }

    /// What a failure of the engine means.
    #[allow(clippy::unused_self, reason = "all failures of the engine pass here")]
    pub(crate) fn failed(&self, operation: impl Into<String>, error: &bollard::errors::Error) -> Error {
        Error::Failed { operation: operation.into(), reason: told(error) }
    }

    /// Does something to its end, also if nobody waits for it any more.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        self.spawn(async move {
            // Nobody may wait for it.
            let _ = tell.send(work.await);
        });
        told.await.unwrap_or_else(|error| Err(failed("run a step")(error)))
    }

    /// Begins something that ends by itself.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(work, &self.handle);
    }

    /// Waits until nobody else makes or removes anything of a pod.
    pub(crate) async fn alone(&self, uid: &str) -> OwnedMutexGuard<()> {
        let pod = {
            let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            pods.retain(|_, pod| Arc::strong_count(pod) > 1);
            pods.entry(uid.to_owned()).or_default().clone()
        };
        pod.lock_owned().await
    }

    /// What this instance's containers are called.
    pub(crate) fn sandbox_name(&self, uid: &str) -> String {
        format!("longshore-{}_{uid}", self.instance)
    }

    pub(crate) fn container_name(&self, name: &ContainerRef) -> String {
        format!("longshore-{}_{}_{}_{}", self.instance, name.pod_uid, name.name, name.attempt)
    }

    /// The control group of a pod, as the engine wants it named.
    pub(crate) fn pod_group(&self, uid: &str) -> String {
        if self.systemd {
            // A dash is a step down in a slice's name.
            format!("longshore_{}-{}.slice", self.instance.replace('-', "_"), uid.replace('-', "_"))
        } else {
            format!("/longshore-{}/{uid}", self.instance)
        }
    }

    /// Where the control group of a pod is in its hierarchies.
    pub(crate) fn pod_group_path(&self, uid: &str) -> String {
        let group = self.pod_group(uid);
        match group.split_once('-').filter(|_| self.systemd) {
            Some((parent, _)) => format!("{parent}.slice/{group}"),
            None => group.trim_start_matches('/').to_owned(),
        }
    }

    /// Waits until a look finds something, or for as long as the engine may take.
    pub(crate) async fn until<T, F: Future<Output = Result<Option<T>, Error>>>(
        &self,
        operation: String,
        mut look: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let start = self.clock.elapsed();
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if self.clock.elapsed() - start > Duration::from_secs(ANSWER_MAX) {
                return Err(failed(operation)("the engine does not come to an end with it"));
            }
            self.clock.sleep(LOOK).await;
        }
    }
}

/// A version of the API, such as 1.41.
fn number(api: &str) -> Option<(usize, usize)> {
    let (major, minor) = api.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether an engine is new enough, or what is wrong.
fn supported(host: &str, version: &str, api: &str) -> Result<(), String> {
    if number(api) >= Some(API_MIN) {
        return Ok(());
    }
    Err(format!(
        "the Docker Engine at {host} has version {version} (API {api}): 20.10 (API {}.{}) or later is needed; upgrade it",
        API_MIN.0, API_MIN.1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_engine_is_told_what_is_needed() {
        assert_eq!(supported("unix:///s", "20.10.24", "1.41"), Ok(()));
        assert_eq!(supported("unix:///s", "29.0.0", "1.52"), Ok(()));
        let error = supported("unix:///s", "19.03.13", "1.40").unwrap_err();
        assert_eq!(
            error,
            "the Docker Engine at unix:///s has version 19.03.13 (API 1.40): 20.10 (API 1.41) or later is needed; upgrade it"
        );
        assert!(supported("unix:///s", "", "").is_err());
    }

    #[test]
    fn names_that_would_mean_something_else_are_refused() {
        assert!(check_name("pod uid", "a-1.b").is_ok());
        for name in ["", "-a", "..", "a/b", "a_b", "a b"] {
            assert!(check_name("pod uid", name).is_err(), "{name}");
        }
    }
}
