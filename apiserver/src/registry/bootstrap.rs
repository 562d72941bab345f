//! Objects that every cluster has.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::persistent_volume::LOCAL_PATH;
use longshore_core::api::service::{ServicePort, ServiceSpec};
use longshore_core::api::storage_class::VolumeBindingMode;
use longshore_core::api::{Namespace, Protocol, Service, ServiceAccount, StorageClass};
use longshore_core::client::params::PostParams;
use longshore_core::client::{Error, Target};
use longshore_core::int_or_string::IntOrString;
use longshore_core::kind::AnyObject;

use super::roles::roles;
use super::{Registry, StartError, name_of, namespace_of};
use crate::admission;

/// The service that stands for the API servers, and where it is.
pub(super) const KUBERNETES: &str = "kubernetes";
pub(super) const NAMESPACE: &str = "default";
pub(super) const PORT_NAME: &str = "https";

/// Where upstream's API server listens; says nothing until a server advertises itself.
const DEFAULT_PORT: i32 = 6443;

pub(super) fn kubernetes() -> ObjectMeta {
    let (name, namespace) = (Some(KUBERNETES.to_owned()), Some(NAMESPACE.to_owned()));
    ObjectMeta { name, namespace, ..ObjectMeta::default() }
}

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The class whose volumes are directories of the node on which their first pod is placed. Who wants no default class sets
/// its annotation to `false`.
fn local_path() -> StorageClass {
    let marked = ("storageclass.kubernetes.io/is-default-class".to_owned(), "true".to_owned());
    StorageClass {
        metadata: ObjectMeta {
            name: Some("local-path".to_owned()),
            annotations: Some([marked].into()),
            ..ObjectMeta::default()
        },
        provisioner: LOCAL_PATH.to_owned(),
        volume_binding_mode: Some(VolumeBindingMode::WaitForFirstConsumer),
        ..StorageClass::default()
    }
}

impl Registry {
    /// Creates what every cluster has, where it is missing.
    pub(super) async fn bootstrap(&self) -> Result<(), StartError> {
        for name in NAMESPACES {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            self.ensure(Box::new(Namespace { metadata, ..Namespace::default() })).await?;
        }
        for namespace in NAMESPACES {
            // The controller would make them too, but later: so these namespaces take pods from the first moment.
            let metadata = ObjectMeta {
                name: Some("default".to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            };
            self.ensure(Box::new(ServiceAccount { metadata, ..ServiceAccount::default() })).await?;
        }
        for class in admission::system_classes() {
            self.ensure(Box::new(class)).await?;
        }
        // Bound to nobody. Whoever has no tokens needs no roles.
        for role in roles().filter(|_| self.tokens.is_some()) {
            self.ensure(Box::new(role)).await?;
        }
        self.ensure(Box::new(local_path())).await?;
        let ports = vec![ServicePort {
            name: PORT_NAME.to_owned(),
            port: 443,
            protocol: Protocol::Tcp,
            target_port: IntOrString::Int(DEFAULT_PORT),
            ..ServicePort::default()
        }];
        let labels = [("component", "apiserver"), ("provider", "kubernetes")];
        let metadata = ObjectMeta {
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..kubernetes()
        };
        // The first address, which nobody else is given before it.
        let cluster_ip = self.allocator.first().to_string();
        let spec = ServiceSpec { ports, cluster_ip, ..ServiceSpec::default() };
        self.ensure(Box::new(Service { metadata, spec, ..Service::default() })).await
    }

    /// Creates an object, or puts it in the place of the one that is there.
    pub(super) async fn replace(&self, object: Box<dyn AnyObject>) -> Result<(), Error> {
        match self.create(object.clone_box(), &PostParams::default()).await {
            Err(error) if error.is_already_exists() => {
                self.update(object, None, &PostParams::default()).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    /// Creates an object unless there is one of its name, or its kind is not served.
    async fn ensure(&self, object: Box<dyn AnyObject>) -> Result<(), StartError> {
        let kind = object.kind_type();
        let target = Target { kind, namespace: namespace_of(&*object), name: name_of(&*object) };
        if !self.serves(kind) || self.cached(target).is_some() {
            return Ok(());
        }
        let what = target.to_string();
        let Err(source) = self.create(object.clone_box(), &PostParams::default()).await else { return Ok(()) };
        // Another server that starts may have been faster, and may have taken what this one was to have.
        let target = Target { kind, namespace: namespace_of(&*object), name: name_of(&*object) };
        match self.find(target, Duration::ZERO).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(StartError::Bootstrap { what, source }),
        }
    }
}
