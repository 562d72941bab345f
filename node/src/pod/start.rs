//! Starts an attempt of a container: image, configuration, create, start, hook.

use std::collections::BTreeMap;

use longshore_core::api::pod::{self, Container};
use longshore_core::api::{Pod, Service};
use longshore_core::client::Api;
use longshore_core::client::params::ListParams;
use longshore_core::runtime::{Container as Made, ContainerRef, ContainerState, Error as RuntimeError, Image};

use super::act::{Context, Problem};
use super::config::{self, Resolved};
use super::hooks;
use crate::env::{Environment, environment, service_variables};
use crate::shared::Shared;
use crate::sources::{Missing, Place, Sources};
use crate::{files, images, volumes};

/// An attempt to start.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) backoff: u64,
}

pub(crate) async fn start(context: &Context, start: Start) -> Result<(), Problem> {
    let (shared, events) = (&context.shared, context.events_of(&start.name));
    let Some(container) = config::find_container(&context.pod, &start.name) else {
        return Err(Problem::new("CreateContainerError", format!("the pod has no container {}", start.name)));
    };
    let container = container.as_ref();
    let image = images::ensure(shared, &events, &context.pod, container).await;
    let image = image.map_err(|none| {
        events.warning("Failed", format!("Error: {}", none.reason));
        Problem::new(none.reason, none.message)
    })?;
    let config = resolve(context, container, &image, &start).await.map_err(|message| {
        events.warning("Failed", format!("Error: {message}"));
        Problem::new("CreateContainerConfigError", message)
    })?;
    match shared.runtime.create_container(&config).await {
        Ok(_) => events.normal("Created", "Container created"),
        // An earlier try got through.
        Err(RuntimeError::AlreadyExists { .. }) => {}
        Err(error) => {
            events.warning("Failed", format!("Error: {error}"));
            return Err(Problem::new("CreateContainerError", error.to_string()));
        }
    }
    match shared.runtime.start_container(&config.container).await {
        Ok(()) => events.normal("Started", "Container started"),
        // An earlier try got through.
        Err(RuntimeError::WrongState { .. }) => {}
        Err(error @ RuntimeError::Invalid { .. }) => {
            // The container has exited with the reason: it is restarted like any that fails.
            events.warning("Failed", format!("Error: {error}"));
            return Ok(());
        }
        Err(error) => {
            events.warning("Failed", format!("Error: {error}"));
            return Err(Problem::new("RunContainerError", error.to_string()));
        }
    }
    post_start(context, container, &config.container).await
}

async fn post_start(context: &Context, container: &Container, reference: &ContainerRef) -> Result<(), Problem> {
    let Err(message) = hooks::post_start(context, container, reference).await else { return Ok(()) };
    let events = context.events_of(&container.name);
    events.warning("FailedPostStartHook", format!("PostStartHook failed: {message}"));
    events.normal("Killing", "FailedPostStartHook");
    let grace = context.pod.spec.termination_grace_period_seconds.and_then(|grace| u64::try_from(grace).ok());
    let grace = std::time::Duration::from_secs(grace.unwrap_or(30));
    let stopped = context.shared.runtime.stop_container(reference, grace).await;
    stopped.map_err(|error| Problem::new("PostStartHookError", error.to_string()))
}

async fn resolve(
    context: &Context,
    container: &pod::Container,
    image: &Image,
    start: &Start,
) -> Result<longshore_core::runtime::ContainerConfig, String> {
    let (shared, pod) = (&context.shared, &context.pod);
    let env = variables(context, container).await.map_err(|missing| missing.message)?;
    if !env.skipped.is_empty() {
        let message = format!(
            "Keys [{}] from the EnvFrom sources were skipped since they are considered invalid environment variable names.",
            env.skipped.join(", ")
        );
        context.events_of(&container.name).warning("InvalidEnvironmentVariableNames", message);
    }
    let mut mounts = Vec::new();
    if shared.is_real() {
        mounts = volumes::mounts(shared, pod, container, &env).await?;
        mounts.extend(files::mounts(shared, pod, container, &context.addresses).await?);
    }
    let resolved = Resolved {
        image,
        env,
        mounts,
        attempt: start.attempt,
        backoff: start.backoff,
        capacity: &shared.capacity,
        target: target(context, container).await?,
        profiles: &shared.options.root_dir.join("seccomp"),
    };
    let mut config = config::container(pod, container, resolved)?;
    let devices = shared.devices.allocate(context.uid(), &container.name).await?;
    devices.apply(&mut config);
    Ok(config)
}

/// The container whose processes one for debugging is to see.
async fn target(context: &Context, container: &Container) -> Result<Option<ContainerRef>, String> {
    let mut debugging = context.pod.spec.ephemeral_containers.iter();
    let Some(debugging) = debugging.find(|of| of.name == container.name) else { return Ok(None) };
    let wanted = &debugging.target_container_name;
    // Where the pod's containers share their processes, nothing else is to be joined.
    if wanted.is_empty() || context.pod.spec.share_process_namespace == Some(true) {
        return Ok(None);
    }
    let sandbox = context.shared.runtime.sandbox(context.uid()).await.map_err(|error| error.to_string())?;
    let containers = sandbox.into_iter().flat_map(|sandbox| sandbox.containers);
    let running = |of: &Made| of.container.name == *wanted && matches!(of.state, ContainerState::Running { .. });
    let found = containers.into_iter().find(running).map(|of| of.container);
    found.map(Some).ok_or_else(|| format!("unable to find target container {wanted}"))
}

async fn variables(context: &Context, container: &Container) -> Result<Environment, Missing> {
    let (shared, pod) = (&context.shared, &context.pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut sources = Sources::new(shared.client.clone(), namespace);
    let place = Place {
        host_ips: shared.options.addresses.iter().map(ToString::to_string).collect(),
        pod_ips: context.addresses.iter().map(ToString::to_string).collect(),
        directory: shared.is_real().then(|| shared.options.pod_dir(context.uid())),
    };
    let services = services(shared, pod).await?;
    environment(pod, container, &mut sources, &place, &shared.allocatable, &services).await
}

/// The variables that tell of services. Nobody reads those of a simulated container.
async fn services(shared: &Shared, pod: &Pod) -> Result<BTreeMap<String, String>, Missing> {
    if !shared.is_real() {
        return Ok(BTreeMap::new());
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.enable_service_links != Some(false);
    let services = match &shared.services {
        Some(informer) => {
            informer.synced().await;
            informer.list()
        }
        None => {
            let api: Api<Service> = Api::all(shared.client.clone());
            let list = api.list(&ListParams::default()).await;
            list.map_err(|error| Missing::failed(format!("services have not yet been read: {error}")))?.items
        }
    };
    Ok(service_variables(services.iter().map(|service| &**service), namespace, links))
}
