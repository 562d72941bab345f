//! The environment of a container.

use std::collections::BTreeMap;

use longshore_core::api::pod::{Container, EnvVar};
use longshore_core::api::service::CLUSTER_IP_NONE;
use longshore_core::api::{Pod, Protocol, ResourceList, Service};

use crate::expand::expand;
use crate::sources::{self, Missing, Place, Sources};

/// Variables in order; of two with one name the later counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(String, String)>,
    /// Keys of `envFrom` sources that are no names of variables and were left out.
    pub(crate) skipped: Vec<String>,
}

impl Environment {
    /// `$(VAR)` in a text.
    pub(crate) fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name).map(str::to_owned))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().rev().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// The environment of a container of a pod. `services` are those of the pod's namespace that it is told of, and
/// `kubernetes` of the default one.
///
/// # Errors
/// A source that is not optional is missing.
pub(crate) async fn environment(
    pod: &Pod,
    container: &Container,
    sources: &mut Sources,
    place: &Place,
    allocatable: &ResourceList,
    services: &BTreeMap<String, String>,
) -> Result<Environment, Missing> {
    let mut env = Environment::default();
    for from in &container.env_from {
        let (data, optional) = if let Some(source) = &from.config_map_ref {
            (sources.config_map(&source.name).await, source.optional)
        } else if let Some(source) = &from.secret_ref {
            (sources.secret(&source.name).await, source.optional)
        } else {
            continue;
        };
        let data = match data {
            Ok(data) => data,
            Err(missing) => {
                missing.unless(optional)?;
                continue;
            }
        };
        for (key, value) in &*data {
            let name = format!("{}{key}", from.prefix);
            if is_variable_name(&name) {
                env.variables.push((name, String::from_utf8_lossy(value).into_owned()));
            } else {
                env.skipped.push(name);
            }
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            Some(_) => value_from(pod, container, variable, sources, place, allocatable).await?,
            None => Some(expand(&variable.value, |name| {
                env.get(name).or_else(|| services.get(name).map(String::as_str)).map(str::to_owned)
            })),
        };
        if let Some(value) = value {
            env.variables.push((variable.name.clone(), value));
        }
    }
    // What a pod sets itself wins over what services say.
    for (name, value) in services {
        if env.get(name).is_none() {
            env.variables.push((name.clone(), value.clone()));
        }
    }
    Ok(env)
}

async fn value_from(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &mut Sources,
    place: &Place,
    allocatable: &ResourceList,
) -> Result<Option<String>, Missing> {
    let Some(from) = variable.value_from.as_deref() else { return Ok(None) };
    if let Some(selector) = &from.field_ref {
        return sources::field(pod, place, selector).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return sources::resource(pod, &container.name, selector, allocatable).map(Some);
    }
    if let Some(selector) = &from.file_key_ref {
        return match sources::file(place, selector) {
            Ok(value) => Ok(Some(value)),
            Err(missing) => missing.unless(selector.optional).map(|()| None),
        };
    }
    let namespace = sources.namespace().to_owned();
    let (data, kind, name, key, optional) = if let Some(selector) = &from.config_map_key_ref {
        (sources.config_map(&selector.name).await, "ConfigMap", &selector.name, &selector.key, selector.optional)
    } else if let Some(selector) = &from.secret_key_ref {
        (sources.secret(&selector.name).await, "Secret", &selector.name, &selector.key, selector.optional)
    } else {
        let message = format!(
            "variable {}: this node reads values from fields, resources, ConfigMaps, Secrets and files",
            variable.name
        );
        return Err(Missing::failed(message));
    };
    let found = data.and_then(|data| {
        let missing = || Missing::absent(format!("couldn't find key {key} in {kind} {namespace}/{name}"));
        data.get(key).cloned().ok_or_else(missing)
    });
    match found {
        Ok(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
        Err(missing) => missing.unless(optional).map(|()| None),
    }
}

/// Upstream's relaxed rule: any printable ASCII but `=`.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// The variables by which a pod in `namespace` is told of services. `kubernetes` of namespace `default` is told of
/// always, the others if `links`.
pub(crate) fn service_variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let own = |part: &Option<String>| part.clone().unwrap_or_default();
        let (name, of) = (own(&service.metadata.name), own(&service.metadata.namespace));
        let is_master = of == "default" && name == "kubernetes";
        let spec = &service.spec;
        let has_address = !spec.cluster_ip.is_empty() && spec.cluster_ip != CLUSTER_IP_NONE;
        if has_address && (is_master || links && of == namespace) {
            variables_of(service, &name, &mut variables);
        }
    }
    variables
}

fn variables_of(service: &Service, name: &str, variables: &mut BTreeMap<String, String>) {
    let upper = |text: &str| text.replace('-', "_").to_uppercase();
    let prefix = upper(name);
    let address = &service.spec.cluster_ip;
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.clone() };
    let Some(first) = service.spec.ports.first() else { return };
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), address.clone());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in &service.spec.ports {
        if !port.name.is_empty() {
            set(format!("{prefix}_SERVICE_PORT_{}", upper(&port.name)), port.port.to_string());
        }
    }
    for (number, port) in service.spec.ports.iter().enumerate() {
        let protocol = if port.protocol.is_unset() { Protocol::Tcp } else { port.protocol.clone() };
        let lower = protocol.as_str().to_lowercase();
        let url = format!("{lower}://{bracketed}:{}", port.port);
        if number == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let prefix = format!("{prefix}_PORT_{}_{protocol}", port.port);
        set(prefix.clone(), url);
        set(format!("{prefix}_PROTO"), lower);
        set(format!("{prefix}_PORT"), port.port.to_string());
        set(format!("{prefix}_ADDR"), address.clone());
    }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
