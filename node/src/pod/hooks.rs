//! What runs right after a container's start and before its stop.

use std::time::Duration;

use longshore_core::api::pod::{Container, LifecycleHandler};
use longshore_core::runtime::ContainerRef;

use super::act::Context;
use super::config::find_container;
use crate::probes::check::{Place, http_get, run_command};

/// # Errors
/// The hook failed: the container must not go on.
pub(crate) async fn post_start(context: &Context, spec: &Container, container: &ContainerRef) -> Result<(), String> {
    let hook = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    match hook {
        Some(hook) => run(context, hook, container).await,
        None => Ok(()),
    }
}

/// Runs the hook, as long as there is time. The container is stopped whatever came of it.
pub(crate) async fn pre_stop(context: &Context, container: &ContainerRef, most: Duration) {
    let found = find_container(&context.pod, &container.name);
    let hook = found.as_ref().and_then(|spec| spec.lifecycle.as_ref()?.pre_stop.as_ref());
    let (Some(hook), false) = (hook, most.is_zero()) else { return };
    let result = tokio::select! {
        biased;
        result = run(context, hook, container) => result,
        () = context.shared.clock.sleep(most) => Err("it did not end in the grace period".to_owned()),
    };
    if let Err(message) = result {
        context.events_of(&container.name).warning("FailedPreStopHook", format!("PreStopHook failed: {message}"));
    }
}

async fn run(context: &Context, hook: &LifecycleHandler, container: &ContainerRef) -> Result<(), String> {
    let shared = &context.shared;
    if let Some(sleep) = &hook.sleep {
        shared.clock.sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if !shared.is_real() {
        return Ok(());
    }
    if let Some(exec) = &hook.exec {
        return run_command(&*shared.runtime, container, exec).await;
    }
    if let Some(get) = &hook.http_get {
        let place = Place::new(&context.pod, container.clone(), context.addresses.first().copied());
        return http_get(&place, get, false).await;
    }
    Ok(())
}
