//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is being deleted.

use longshore_core::api::Namespace;
use longshore_core::client::params::GetParams;
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, KindType};

use super::Operation;
use crate::registry::Registry;
use crate::status;

pub(super) async fn admit(registry: &Registry, operation: Operation, object: &dyn AnyObject) -> Result<(), Error> {
    let info = &object.kind_type().info;
    if operation != Operation::Create || !info.namespaced {
        return Ok(());
    }
    let name = object.meta().namespace.as_deref().unwrap_or_default();
    let target = Target { kind: KindType::of::<Namespace>(), namespace: "", name };
    let namespace = match registry.cached(target) {
        Some(namespace) => namespace,
        // The cache may be behind: ask the store before refusing.
        None => registry.get(target, &GetParams::default()).await?,
    };
    if namespace.meta().deletion_timestamp.is_none() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = ("NamespaceTerminating", format!("namespace {name} is being terminated"));
    let own = object.meta().name.as_deref().unwrap_or_default();
    Err(status::forbidden_because(info, own, why, (cause.0, &cause.1, "metadata.namespace")))
}
