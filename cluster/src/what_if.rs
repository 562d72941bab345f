//! Where pods would go in a cluster that runs: worked out here, on a copy of its state that is read through its API. So any
//! cluster that speaks the API can be asked, and none is touched.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::api::{Namespace, Node};
use longshore_core::client::Client;
use longshore_core::kind::{Kind, KindType};
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::config::Configuration;
use longshore_scheduler::{Engine, Profile, WhatIf};

use crate::connection::remote_client;
use crate::listing::{all, list};
use crate::{Entry, Error};

/// Pods, and where they would go.
#[derive(Debug)]
pub struct Tried {
    /// The pods, in the order in which they were tried.
    pub pods: Vec<Arc<Pod>>,
    /// Where they would go, in the same order, and what the cluster would be like.
    pub found: WhatIf,
}

/// Says where the pods of these manifests would go in a cluster as it is. Of a workload it is as many pods as it asks for; objects
/// without pods are passed over. All pods are placed by the profile of the configuration that is named here or, if none is, each by
/// that of its `schedulerName`; a configuration's only profile places them all.
///
/// # Errors
/// [`Error::Manifest`] if a template cannot be read; [`Error::Part`] if there is no pod at all or no such profile, the kubeconfig
/// cannot be used, or the server does not answer.
pub async fn what_if(
    kubeconfig: &str,
    manifests: &[Entry],
    configuration: Configuration,
    profile: Option<&str>,
) -> Result<Tried, Error> {
    let failed = |reason: String| Error::Part { part: "what-if", reason };
    let mut pods = Vec::new();
    for entry in manifests {
        pods.extend(pods_of(entry)?);
    }
    if pods.is_empty() {
        return Err(failed("there is no pod and no workload with pods in these manifests".to_owned()));
    }
    let profiles = chosen(configuration, profile).map_err(failed)?;
    let client = remote_client(kubeconfig).map_err(failed)?;
    let engine = engine(&*client, profiles).await.map_err(|error| failed(error.to_string()))?;
    let found = engine.what_if(None, &pods);
    Ok(Tried { pods, found })
}

/// The profile of this name alone; all if none is named.
fn chosen(configuration: Configuration, name: Option<&str>) -> Result<Vec<Profile>, String> {
    let profiles = configuration.profiles;
    let Some(name) = name else { return Ok(profiles) };
    let names = profiles.iter().map(|profile| profile.name().to_owned()).collect::<Vec<_>>().join(", ");
    let found = profiles.into_iter().find(|profile| profile.name() == name);
    found.map(|profile| vec![profile]).ok_or_else(|| format!("there is no profile {name:?}; there is {names}"))
}

/// A number that is a slip of the pen must not fill the memory.
const PODS_MAX: u64 = 100_000;

/// The pods that an object of a manifest stands for.
fn pods_of(entry: &Entry) -> Result<Vec<Arc<Pod>>, Error> {
    if let Some(pod) = entry.object().as_any().downcast_ref::<Pod>() {
        let mut pod = pod.clone();
        Kind::set_defaults(&mut pod);
        return Ok(vec![Arc::new(pod)]);
    }
    let spec = &entry.value()["spec"];
    if !spec["template"]["spec"]["containers"].is_array() {
        return Ok(Vec::new());
    }
    let mut template: Pod =
        serde_json::from_value(spec["template"].clone()).map_err(|error| entry.wrong(error.to_string()))?;
    Kind::set_defaults(&mut template);
    let meta = entry.object().meta();
    template.metadata.namespace.clone_from(&meta.namespace);
    // What each kind of workload calls the number of its pods.
    let count = ["replicas", "parallelism"].into_iter().find_map(|field| spec[field].as_u64()).unwrap_or(1);
    if count > PODS_MAX {
        return Err(entry.wrong(format!("{count} pods are more than the {PODS_MAX} that are tried at once")));
    }
    let name = meta.name.as_deref().unwrap_or_default();
    let pods = (0..count).map(|index| {
        let mut pod = template.clone();
        pod.metadata.name = Some(format!("{name}-{index}"));
        Arc::new(pod)
    });
    Ok(pods.collect())
}

/// An engine over a copy of the cluster's state.
async fn engine(client: &dyn Client, profiles: Vec<Profile>) -> Result<Engine, longshore_core::client::Error> {
    let mut kinds: Vec<&'static KindType> = Vec::new();
    for enabled in profiles.iter().flat_map(Profile::policies) {
        for kind in enabled.policy().kinds() {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    let engine = Engine::with_profiles(profiles, TieBreak::ByName);
    let mut engine = engine.expect("a configuration has no two profiles of one name");
    let cluster = engine.cluster_mut();
    for namespace in list::<Namespace>(client).await? {
        let meta = &namespace.metadata;
        cluster.put_namespace(meta.name.as_deref().unwrap_or_default(), &meta.labels.clone().unwrap_or_default());
    }
    for node in list::<Node>(client).await? {
        cluster.put_node(node);
    }
    for kind in kinds {
        match all(client, kind).await {
            Ok(objects) => objects.into_iter().for_each(|object| cluster.put_object(object)),
            // As the scheduler does: a server need not serve every kind that a policy would like to see.
            Err(error) => tracing::warn!(%error, kind = kind.info.kind, "cannot be listed; going on without"),
        }
    }
    for pod in list::<Pod>(client).await? {
        cluster.put_pod(pod);
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn a_profile_is_chosen_by_its_name() {
        let text = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles: [{schedulerName: a}, {schedulerName: b}]\n";
        let names = |name: Option<&str>| {
            let profiles = chosen(Configuration::from_yaml(text).unwrap(), name)?;
            Ok(profiles.iter().map(|profile| profile.name().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(None), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(Some("b")), Ok(vec!["b".to_owned()]));
        assert_eq!(names(Some("c")), Err("there is no profile \"c\"; there is a, b".to_owned()));
    }

    #[test]
    fn pods_and_workloads_stand_for_their_pods() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: one, namespace: a}\nspec: {containers: [{name: c, image: i, resources: {limits: {cpu: 1}}}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}\n---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {parallelism: 3, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
        let pods: Vec<_> = parse("f", text).unwrap().iter().flat_map(|entry| pods_of(entry).unwrap()).collect();
        let names: Vec<_> = (pods.iter())
            .map(|pod| {
                format!("{}/{}", pod.metadata.namespace.as_deref().unwrap(), pod.metadata.name.as_deref().unwrap())
            })
            .collect();
        let expected = ["a/one", "default/web-0", "default/web-1", "default/job-0", "default/job-1", "default/job-2"];
        assert_eq!(names, expected);
        assert!(pods[0].spec.containers[0].resources.requests.contains_key("cpu"), "limits are requests, too");
        assert_eq!(pods[1].metadata.labels.as_ref().unwrap()["app"], "web");
        let many = text.replace("replicas: 2", "replicas: 2000000000");
        let error = parse("f", &many).unwrap().iter().find_map(|entry| pods_of(entry).err()).unwrap();
        assert!(error.to_string().contains("2000000000 pods are more than"), "{error}");
    }
}
