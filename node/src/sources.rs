//! Values from elsewhere that a pod is given: keys of ConfigMaps and Secrets, fields of its own, its resources.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_core::api::pod::{FileKeySelector, ObjectFieldSelector, ResourceFieldSelector};
use longshore_core::api::{ConfigMap, Pod, ResourceList, Secret};
use longshore_core::client::{Api, Client};
use longshore_core::downward;

use crate::{env_file, volumes};

/// Why a value cannot be had, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Missing {
    pub(crate) message: String,
    /// It is not there, which may be allowed; otherwise it could not be found out.
    pub(crate) absent: bool,
}

impl Missing {
    pub(crate) fn absent(message: impl Into<String>) -> Self {
        Self { message: message.into(), absent: true }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), absent: false }
    }

    /// Nothing where it may be absent, else the error.
    pub(crate) fn unless(self, optional: Option<bool>) -> Result<(), Self> {
        if self.absent && optional == Some(true) { Ok(()) } else { Err(self) }
    }
}

/// Upstream's limits of what is read from a file: bytes of a key and of its value.
const KEY_MAX: usize = 128;
const VALUE_MAX: usize = 32 << 10;

/// The bytes of a ConfigMap or Secret by key.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// Reads what a pod refers to in its namespace, each object once.
#[derive(Debug)]
pub(crate) struct Sources {
    client: Arc<dyn Client>,
    namespace: String,
    config_maps: BTreeMap<String, Result<Arc<Data>, Missing>>,
    secrets: BTreeMap<String, Result<Arc<Data>, Missing>>,
}

impl Sources {
    pub(crate) fn new(client: Arc<dyn Client>, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { client, namespace, config_maps: BTreeMap::new(), secrets: BTreeMap::new() }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) async fn config_map(&mut self, name: &str) -> Result<Arc<Data>, Missing> {
        if let Some(known) = self.config_maps.get(name) {
            return known.clone();
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = match api.get_opt(name).await {
            Ok(Some(map)) => {
                let text = map.data.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
                let binary = map.binary_data.iter().map(|(key, value)| (key.clone(), value.0.clone()));
                Ok(Arc::new(text.chain(binary).collect()))
            }
            Ok(None) => Err(Missing::absent(format!("configmap \"{name}\" not found"))),
            Err(error) => Err(Missing::failed(format!("failed to get configmap \"{name}\": {error}"))),
        };
        self.config_maps.insert(name.to_owned(), found.clone());
        found
    }

    pub(crate) async fn secret(&mut self, name: &str) -> Result<Arc<Data>, Missing> {
        if let Some(known) = self.secrets.get(name) {
            return known.clone();
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = match api.get_opt(name).await {
            Ok(Some(secret)) => {
                Ok(Arc::new(secret.data.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect()))
            }
            Ok(None) => Err(Missing::absent(format!("secret \"{name}\" not found"))),
            Err(error) => Err(Missing::failed(format!("failed to get secret \"{name}\": {error}"))),
        };
        self.secrets.insert(name.to_owned(), found.clone());
        found
    }
}

/// What only the node knows of a pod in time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) host_ips: Vec<String>,
    pub(crate) pod_ips: Vec<String>,
    /// The pod's directory, where its volumes are; `None` if files are not asked for, or containers only pretend.
    pub(crate) directory: Option<PathBuf>,
}

/// A field of the pod as text.
pub(crate) fn field(pod: &Pod, place: &Place, selector: &ObjectFieldSelector) -> Result<String, Missing> {
    let version = if selector.api_version.is_empty() { "v1" } else { &selector.api_version };
    let wrong = |error: downward::Error| Missing::failed(error.to_string());
    let path = downward::convert_field_label(version, &selector.field_path).map_err(wrong)?;
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    Ok(match path.as_str() {
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.restartPolicy" => pod.spec.restart_policy.to_string(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "spec.schedulerName" => pod.spec.scheduler_name.clone(),
        "status.phase" => pod.status.phase.to_string(),
        "status.hostIP" => first(&place.host_ips),
        "status.hostIPs" => place.host_ips.join(","),
        "status.podIP" => first(&place.pod_ips),
        "status.podIPs" => place.pod_ips.join(","),
        _ => downward::field(pod, &path).map_err(wrong)?,
    })
}

/// The value of a key of a file with variables, which lies in a volume that containers may write.
pub(crate) fn file(place: &Place, selector: &FileKeySelector) -> Result<String, Missing> {
    let FileKeySelector { volume_name, path, key, .. } = selector;
    let Some(directory) = &place.directory else { return Ok(String::new()) };
    if key.len() > KEY_MAX {
        return Err(Missing::failed(format!(
            "environment variable key \"{key}\" exceeds maximum length of {KEY_MAX} characters"
        )));
    }
    let unusable =
        |reason: String| format!("couldn't parse env file: \"{path}\" in volume \"{volume_name}\": {reason}");
    let text = volumes::read_text(directory, volume_name, path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Missing::absent(unusable(error.to_string())),
        _ => Missing::failed(unusable(error.to_string())),
    })?;
    let found = env_file::value(&text, key).map_err(|reason| Missing::failed(unusable(reason)))?;
    match found {
        None => Err(Missing::absent(format!("environment variable key \"{key}\" not found in file \"{path}\""))),
        Some(value) if value.len() > VALUE_MAX => {
            Err(Missing::failed(format!("environment variable value for key \"{key}\" exceeds maximum size of 32KB")))
        }
        Some(value) => Ok(value.to_owned()),
    }
}

/// An amount of a container's resources as text; `own` is the container that asks.
pub(crate) fn resource(
    pod: &Pod,
    own: &str,
    selector: &ResourceFieldSelector,
    allocatable: &ResourceList,
) -> Result<String, Missing> {
    let container = if selector.container_name.is_empty() { own } else { &selector.container_name };
    downward::resource(pod, container, selector, allocatable).map_err(|error| Missing::failed(error.to_string()))
}
