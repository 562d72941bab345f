//! How many pods a budget's group should have, and how many of them must stay healthy.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::{Deployment, Pod, PodDisruptionBudget, ReplicaSet, ReplicationController, StatefulSet};
use longshore_core::int_or_string::IntOrString;
use longshore_core::kind::{AnyObject, Kind};

use crate::claim::controller_of;
use crate::controller::View;

/// What a budget expects of its pods.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// How many there should be.
    pub(super) pods: i32,
    /// How many of them must stay healthy.
    pub(super) healthy: i32,
    /// How many have no controller, so that nobody says how many there should be.
    pub(super) unmanaged: usize,
}

/// What a budget expects, or why that cannot be told.
pub(super) fn expected(view: &View<'_>, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<Expected, String> {
    let spec = &budget.spec;
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let (pods, unmanaged) = scale(view, pods)?;
            let down = most.scaled(pods, true).map_err(|error| error.to_string())?;
            Ok(Expected { pods, healthy: pods.saturating_sub(down).max(0), unmanaged })
        }
        (None, Some(IntOrString::Int(least))) => {
            let pods = i32::try_from(pods.len()).unwrap_or(i32::MAX);
            Ok(Expected { pods, healthy: *least, unmanaged: 0 })
        }
        (None, Some(least)) => {
            let (pods, unmanaged) = scale(view, pods)?;
            let healthy = least.scaled(pods, true).map_err(|error| error.to_string())?;
            Ok(Expected { pods, healthy, unmanaged })
        }
        (None, None) => Ok(Expected::default()),
    }
}

/// How many pods the controllers of these pods ask for together, and how many of the pods have none.
fn scale(view: &View<'_>, pods: &[Arc<Pod>]) -> Result<(i32, usize), String> {
    let (mut scales, mut unmanaged) = (BTreeMap::new(), 0);
    for pod in pods {
        let Some(owner) = controller_of(&**pod) else {
            unmanaged += 1;
            continue;
        };
        if !scales.contains_key(&owner.uid) {
            let (uid, replicas) = scale_of(view, pod)?;
            scales.insert(owner.uid.clone(), (uid, replicas));
        }
    }
    // Several replica sets of one deployment count once.
    let distinct: BTreeMap<String, i32> = scales.into_values().collect();
    Ok((distinct.into_values().fold(0, i32::saturating_add), unmanaged))
}

/// The uid of what asks for a pod, and how many it asks for.
fn scale_of(view: &View<'_>, pod: &Pod) -> Result<(String, i32), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let unknown = || format!("found no controllers for pod {name:?}");
    let owner = controller_of(pod).ok_or_else(unknown)?;
    let scale = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("apps/v1", "ReplicaSet") => owner_of::<ReplicaSet>(view, pod, namespace).map(|set| {
            let deployment = owner_of::<Deployment>(view, &*set, namespace);
            deployment.map_or_else(|| scaled(&*set, set.spec.replicas), |owner| scaled(&*owner, owner.spec.replicas))
        }),
        ("v1", "ReplicationController") => owner_of::<ReplicationController>(view, pod, namespace)
            .map(|controller| scaled(&*controller, controller.spec.replicas)),
        ("apps/v1", "StatefulSet") => {
            owner_of::<StatefulSet>(view, pod, namespace).map(|set| scaled(&*set, set.spec.replicas))
        }
        (version, kind) => {
            let resource = longshore_core::api::kinds()
                .iter()
                .find(|known| known.info.kind == kind && known.info.api_version() == version);
            return Err(resource.map_or_else(unknown, |known| {
                let (plural, group) = (known.info.plural, known.info.group);
                let dot = if group.is_empty() { "" } else { "." };
                format!("{plural}{dot}{group} does not implement the scale subresource")
            }));
        }
    };
    scale.ok_or_else(unknown)
}

fn scaled(object: &dyn AnyObject, replicas: Option<i32>) -> (String, i32) {
    (object.meta().uid.clone().unwrap_or_default(), replicas.unwrap_or(1))
}

/// The controller of an object, if it is of this kind and still the one that the object names.
fn owner_of<K: Kind>(view: &View<'_>, object: &dyn AnyObject, namespace: &str) -> Option<Arc<K>> {
    let owner = controller_of(object).filter(|owner| owner.kind == K::INFO.kind)?;
    let found = view.of::<K>().get(namespace, &owner.name)?;
    (AnyObject::meta(&*found).uid.as_ref() == Some(&owner.uid)).then_some(found)
}
