//! Objects that every cluster has.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::endpoint_slice::{self, AddressType, EndpointConditions};
use longshore_core::api::endpoints::{self, EndpointAddress, EndpointSubset};
use longshore_core::api::persistent_volume::LOCAL_PATH;
use longshore_core::api::service::{ServicePort, ServiceSpec};
use longshore_core::api::storage_class::VolumeBindingMode;
use longshore_core::api::{EndpointSlice, Endpoints, Namespace, Protocol, Service, ServiceAccount, StorageClass};
use longshore_core::client::params::{PatchParams, PostParams};
use longshore_core::client::{Error, Target};
use longshore_core::int_or_string::IntOrString;
use longshore_core::kind::{AnyObject, KindType};
use serde_json::json;

use super::{PatchBody, Registry, StartError, name_of, namespace_of};
use crate::admission;

/// The service that stands for the API servers, and where it is.
const KUBERNETES: &str = "kubernetes";
const NAMESPACE: &str = "default";
const PORT_NAME: &str = "https";

/// Where upstream's API server listens; says nothing until a server advertises itself.
const DEFAULT_PORT: i32 = 6443;

fn kubernetes() -> ObjectMeta {
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

    /// Tells the cluster where this server can be reached: behind the service `kubernetes` in namespace `default`. Of an
    /// address that only this machine reaches, only the port is told.
    ///
    /// # Errors
    /// What a write says.
    pub async fn advertise(&self, address: SocketAddr) -> Result<(), Error> {
        let ip = address.ip().to_string();
        let port = i32::from(address.port());
        let target = json!({ "spec": { "ports": [{ "port": 443, "protocol": "TCP", "targetPort": port }] } });
        let service = Target { kind: KindType::of::<Service>(), namespace: NAMESPACE, name: KUBERNETES };
        self.patch(service, None, &PatchBody::Strategic(target), &PatchParams::default()).await?;
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            return Ok(());
        }
        let labels = [("kubernetes.io/service-name".to_owned(), KUBERNETES.to_owned())].into();
        let slice = EndpointSlice {
            metadata: ObjectMeta { labels: Some(labels), ..kubernetes() },
            address_type: if address.is_ipv4() { AddressType::IPv4 } else { AddressType::IPv6 },
            endpoints: vec![endpoint_slice::Endpoint {
                addresses: vec![ip.clone()],
                conditions: EndpointConditions { ready: Some(true), ..EndpointConditions::default() },
                ..endpoint_slice::Endpoint::default()
            }],
            ports: vec![endpoint_slice::EndpointPort {
                name: Some(PORT_NAME.to_owned()),
                port: Some(port),
                protocol: Some(Protocol::Tcp),
                ..endpoint_slice::EndpointPort::default()
            }],
            ..EndpointSlice::default()
        };
        let subset = EndpointSubset {
            addresses: vec![EndpointAddress { ip, ..EndpointAddress::default() }],
            ports: vec![endpoints::EndpointPort {
                name: PORT_NAME.to_owned(),
                port,
                protocol: Protocol::Tcp,
                ..endpoints::EndpointPort::default()
            }],
            ..EndpointSubset::default()
        };
        let endpoints = Endpoints { metadata: kubernetes(), subsets: vec![subset], ..Endpoints::default() };
        self.replace(Box::new(slice)).await?;
        self.replace(Box::new(endpoints)).await
    }

    /// Creates an object, or puts it in the place of the one that is there.
    async fn replace(&self, object: Box<dyn AnyObject>) -> Result<(), Error> {
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
