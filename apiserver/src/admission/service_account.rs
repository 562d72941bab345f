//! ServiceAccount: every pod has a service account, which must exist, and a token of it unless somebody does not want that.

use std::time::Duration;

use async_trait::async_trait;
use longshore_core::api::config_map::ROOT_CA;
use longshore_core::api::pod::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector,
    ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use longshore_core::api::{Pod, ServiceAccount};
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, KindType};

use super::{AdmissionRule, Request, forbidden, new_pod};
use crate::registry::POD_LIFE;

/// The account of pods that name none.
const DEFAULT: &str = "default";

/// The annotation of a pod that an agent runs from a file and only shows to the API.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How long a pod waits for its namespace's default account, which a controller makes soon after the namespace.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the names of volumes with what a pod needs to call the API begin with.
const VOLUME: &str = "kube-api-access-";

/// Where programs look for it.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Every pod has a service account, `default` unless it names one; the account must exist, and its secrets for pulling
/// images become those of pods that have none. Where the registry makes tokens ([`Options::tokens`](crate::Options::tokens)), containers
/// find one in `/var/run/secrets/kubernetes.io/serviceaccount`, unless the pod or its account says
/// `automountServiceAccountToken: false`, or something else is mounted there.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceAccounts;

#[async_trait]
impl AdmissionRule for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        let kind = KindType::of::<ServiceAccount>();
        let Some(pod) = new_pod(request, object) else { return Ok(()) };
        if is_mirror(pod) {
            if pod.spec.service_account_name.is_empty() {
                return if has_token(pod) {
                    Err(forbidden(object, "a mirror pod may not use ServiceAccountToken volume projections"))
                } else {
                    Ok(())
                };
            }
            return Err(forbidden(object, "a mirror pod may not reference service accounts"));
        }
        if pod.spec.service_account_name.is_empty() {
            DEFAULT.clone_into(&mut pod.spec.service_account_name);
        }
        pod.spec.service_account.clone_from(&pod.spec.service_account_name);
        if request.registry.serves(kind) {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = &pod.spec.service_account_name;
            let target = Target { kind, namespace, name };
            let patience = if name == DEFAULT { PATIENCE } else { Duration::ZERO };
            let Some(account) = request.registry.find(target, patience).await? else {
                let why =
                    format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
                return Err(forbidden(object, why));
            };
            let Some(account) = account.as_any().downcast_ref::<ServiceAccount>() else { return Ok(()) };
            if pod.spec.image_pull_secrets.is_empty() {
                pod.spec.image_pull_secrets.clone_from(&account.image_pull_secrets);
            }
            let own = pod.spec.automount_service_account_token;
            if own.or(account.automount_service_account_token).unwrap_or(true) && request.registry.tokens().is_some() {
                mount(pod, || request.registry.fresh_name(VOLUME));
            }
        }
        Ok(())
    }
}

fn has_token(pod: &Pod) -> bool {
    let sources = pod.spec.volumes.iter().flat_map(|volume| &volume.projected).flat_map(|projected| &projected.sources);
    sources.into_iter().any(|source| source.service_account_token.is_some())
}

/// Mounts token, certificate and namespace in the containers that have nothing there.
fn mount(pod: &mut Pod, fresh_name: impl FnOnce() -> String) {
    let known = pod.spec.volumes.iter().map(|volume| &volume.name).find(|name| name.starts_with(VOLUME)).cloned();
    let bare = |container: &Container| container.volume_mounts.iter().all(|mount| mount.mount_path != MOUNT_PATH);
    let containers = pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers);
    let bare: Vec<&mut Container> = containers.filter(|container| bare(container)).collect();
    if bare.is_empty() {
        return;
    }
    let is_new = known.is_none();
    let name = known.unwrap_or_else(fresh_name);
    for container in bare {
        let mount = VolumeMount {
            name: name.clone(),
            read_only: true,
            mount_path: MOUNT_PATH.to_owned(),
            ..VolumeMount::default()
        };
        container.volume_mounts.push(mount);
    }
    if is_new {
        let projected = Some(Box::new(access()));
        pod.spec.volumes.push(Volume { name, projected, ..Volume::default() });
    }
}

/// What a program needs to call the API.
fn access() -> ProjectedVolumeSource {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(POD_LIFE),
        ..ServiceAccountTokenProjection::default()
    };
    let certificate = ConfigMapProjection {
        name: ROOT_CA.to_owned(),
        items: vec![KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), ..KeyToPath::default() }],
        ..ConfigMapProjection::default()
    };
    let field = ObjectFieldSelector { field_path: "metadata.namespace".to_owned(), ..ObjectFieldSelector::default() };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    let namespace = DownwardAPIProjection { items: vec![namespace] };
    ProjectedVolumeSource {
        sources: vec![
            VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
            VolumeProjection { config_map: Some(certificate), ..VolumeProjection::default() },
            VolumeProjection { downward_api: Some(namespace), ..VolumeProjection::default() },
        ],
        ..ProjectedVolumeSource::default()
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}
