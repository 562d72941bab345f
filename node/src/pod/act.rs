//! Carries the steps of a plan out, one future each. Each may be dropped at any moment, and each may be done again.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::client::params::{DeleteParams, Preconditions};
use longshore_core::devices::ANNOTATION;
use longshore_core::network::Attach;
use longshore_core::runtime::{ContainerRef, Error as RuntimeError, Resources};

use super::config::{self, pod_ref};
use super::events::Events;
use super::hooks;
use super::plan::{Step, Why};
use super::start::{Start, start};
use crate::shared::Shared;
use crate::volumes;

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The pod has these addresses.
    Attached(Vec<IpAddr>),
    Failed(Problem),
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The waiting reason of a container; empty for other steps.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What a step needs to know beside its own words.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) network_namespace: Option<PathBuf>,
}

pub(crate) async fn act(context: Context, step: Step) -> Outcome {
    let result = match step {
        Step::PrepareVolumes => prepare_volumes(&context).await,
        Step::CreateSandbox => create_sandbox(&context).await,
        Step::RemoveSandbox => remove_sandbox(&context).await,
        Step::Attach => match attach(&context).await {
            Ok(addresses) => return Outcome::Attached(addresses),
            Err(problem) => Err(problem),
        },
        Step::Detach => detach(&context).await,
        Step::Start { name, attempt, backoff } => start(&context, Start { name, attempt, backoff }).await,
        Step::Stop { container, deadline, why } => stop(&context, &container, deadline, why).await,
        Step::Resize { containers } => resize(&context, &containers).await,
        Step::Forget { container } => forget(&context, &container).await,
        Step::RemoveVolumes { logs } => remove_volumes(&context, logs).await,
        Step::DeleteObject => delete_object(&context).await,
    };
    match result {
        Ok(()) => Outcome::Done,
        Err(problem) => {
            tracing::debug!(pod = %pod_ref(&context.pod), reason = problem.reason, message = problem.message, "a step failed");
            Outcome::Failed(problem)
        }
    }
}

impl Context {
    pub(crate) fn events(&self) -> Events<'_> {
        Events::of_pod(&self.shared.recorder, &self.pod)
    }

    pub(crate) fn events_of(&self, container: &str) -> Events<'_> {
        Events::of_container(&self.shared.recorder, &self.pod, container)
    }

    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

async fn prepare_volumes(context: &Context) -> Result<(), Problem> {
    if !context.shared.is_real() {
        return Ok(());
    }
    volumes::prepare(&context.shared, &context.pod, &context.addresses).await.map_err(|error| {
        let message = error.to_string();
        context.events().warning("FailedMount", message.clone());
        Problem::new("", message)
    })
}

async fn create_sandbox(context: &Context) -> Result<(), Problem> {
    let shared = &context.shared;
    let made = match config::sandbox(&context.pod, &shared.options, &shared.capacity) {
        Ok(mut config) => {
            // For an agent that starts anew: what runs here, whatever the pod's object says.
            let devices = shared.devices.note(context.uid());
            config.annotations.extend(devices.map(|note| (ANNOTATION.to_owned(), note)));
            shared.runtime.create_sandbox(&config).await.map(drop)
        }
        Err(reason) => Err(RuntimeError::Invalid { reason }),
    };
    match made {
        // An earlier try got through.
        Ok(()) | Err(RuntimeError::AlreadyExists { .. }) => Ok(()),
        Err(error) => {
            let message = format!("Failed to create pod sandbox: {error}");
            context.events().warning("FailedCreatePodSandBox", message.clone());
            Err(Problem::new("", message))
        }
    }
}

async fn remove_sandbox(context: &Context) -> Result<(), Problem> {
    context.shared.runtime.remove_sandbox(context.uid()).await.map_err(|error| {
        context.events().warning("FailedKillPod", format!("error killing pod: {error}"));
        Problem::new("", error.to_string())
    })
}

async fn attach(context: &Context) -> Result<Vec<IpAddr>, Problem> {
    let shared = &context.shared;
    if context.pod.spec.host_network {
        return Ok(shared.options.addresses.clone());
    }
    let request = Attach {
        pod: pod_ref(&context.pod),
        // A runtime without namespaces has none to name; its network gives addresses all the same.
        network_namespace: context.network_namespace.clone().unwrap_or_default(),
        host_ports: config::host_ports(&context.pod),
    };
    match shared.network.attach(&request).await {
        Ok(attached) => {
            if let Some(policies) = &shared.policies
                && !policies.isolate(&context.pod, &attached.addresses, &*shared.clock).await
            {
                let message = "Network policies do not hold at the pod's addresses yet".to_owned();
                context.events().warning("FailedCreatePodSandBox", message.clone());
                return Err(Problem::new("", message));
            }
            Ok(attached.addresses)
        }
        Err(error) => {
            let message = format!("Failed to create pod sandbox: failed to set up its network: {error}");
            context.events().warning("FailedCreatePodSandBox", message.clone());
            Err(Problem::new("", message))
        }
    }
}

async fn detach(context: &Context) -> Result<(), Problem> {
    if context.pod.spec.host_network {
        return Ok(());
    }
    let done = context.shared.network.detach(&pod_ref(&context.pod)).await;
    done.map_err(|error| Problem::new("", error.to_string()))?;
    // Not before: what it still runs may reach no more than policies let it.
    if let Some(policies) = &context.shared.policies {
        policies.forget(context.uid());
    }
    Ok(())
}

async fn stop(context: &Context, container: &ContainerRef, deadline: Timestamp, why: Why) -> Result<(), Problem> {
    let (shared, events) = (&context.shared, context.events_of(&container.name));
    let message = match why {
        Why::PodEnds => format!("Stopping container {}", container.name),
        Why::Resize => format!("Container {} resize requires restart", container.name),
        Why::Probe(probe) => format!("Container {} failed {probe} probe, will be restarted", container.name),
    };
    events.normal("Killing", message);
    let grace = Duration::try_from(deadline.duration_since(shared.clock.now())).unwrap_or_default();
    let until = shared.clock.elapsed() + grace;
    let left = || until.saturating_sub(shared.clock.elapsed());
    hooks::pre_stop(context, container, left()).await;
    let stopped = shared.runtime.stop_container(container, left()).await;
    stopped.map_err(|error| {
        let message = format!("error killing container {}: {error}", container.name);
        events.warning("FailedKillPod", message.clone());
        Problem::new("", message)
    })
}

async fn resize(context: &Context, containers: &[(ContainerRef, Resources)]) -> Result<(), Problem> {
    let (shared, uid) = (&context.shared, context.uid());
    let whole = config::pod_resources(&context.pod, &shared.capacity);
    // The pod's own limits must at no moment be less than a container's, nor more than the kernel lets go of.
    let open = Resources { cpu_limit_milli: None, memory_limit: None, ..whole };
    let resized = async {
        shared.runtime.update_sandbox(uid, &open).await?;
        for (container, limits) in containers {
            shared.runtime.update_container(container, limits).await?;
        }
        shared.runtime.update_sandbox(uid, &whole).await
    };
    resized.await.map_err(|error| {
        context.events().warning("ResizeError", format!("Error resizing pod: {error}"));
        Problem::new("", error.to_string())
    })
}

async fn forget(context: &Context, container: &ContainerRef) -> Result<(), Problem> {
    let shared = &context.shared;
    let removed = shared.runtime.remove_container(container).await;
    removed.map_err(|error| Problem::new("", error.to_string()))?;
    if shared.is_real() {
        let pod = pod_ref(&context.pod);
        let logs = shared.options.pod_log_dir(&pod.namespace, &pod.name, &pod.uid).join(&container.name);
        let log = format!("{}.log", container.attempt);
        let of_attempt =
            |name: &str| name.strip_prefix(&log).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
            if of_attempt(&entry.file_name().to_string_lossy()) {
                // A log that stays costs space and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
}

async fn remove_volumes(context: &Context, logs: bool) -> Result<(), Problem> {
    let shared = &context.shared;
    if !shared.is_real() {
        return Ok(());
    }
    let pod = pod_ref(&context.pod);
    shared.tokens.forget(&pod.uid);
    let logs = logs.then(|| shared.options.pod_log_dir(&pod.namespace, &pod.name, &pod.uid));
    volumes::remove(shared.options.pod_dir(&pod.uid), logs).await.map_err(|error| Problem::new("", error.to_string()))
}

async fn delete_object(context: &Context) -> Result<(), Problem> {
    let pod = pod_ref(&context.pod);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(pod.uid), resource_version: None }),
        ..DeleteParams::default()
    };
    match context.shared.pods.delete(&pod.namespace, &pod.name, &params).await {
        Ok(_) => Ok(()),
        // Gone already, or another pod of that name.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(Problem::new("", error.to_string())),
    }
}
