//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is being deleted, and the namespaces that a
//! cluster cannot be without stay.

use async_trait::async_trait;
use longshore_core::api::Namespace;
use longshore_core::client::params::GetParams;
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, KindType};

use super::{AdmissionRule, Operation, Request, forbidden, is};
use crate::status;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Nothing is created in a namespace that does not exist or is being deleted; `default`, `kube-public` and `kube-system` cannot
/// be deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamespaceLifecycle;

#[async_trait]
impl AdmissionRule for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        let info = &object.kind_type().info;
        if request.operation != Operation::Create || !info.namespaced {
            return Ok(());
        }
        let name = object.meta().namespace.as_deref().unwrap_or_default();
        let target = Target { kind: KindType::of::<Namespace>(), namespace: "", name };
        let namespace = match request.registry.cached(target) {
            Some(namespace) => namespace,
            // The cache may be behind: ask the store before refusing.
            None => request.registry.get(target, &GetParams::default()).await?,
        };
        if namespace.meta().deletion_timestamp.is_none() {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let cause = ("NamespaceTerminating", format!("namespace {name} is being terminated"));
        let own = object.meta().name.as_deref().unwrap_or_default();
        Err(status::forbidden_because(info, own, why, (cause.0, &cause.1, "metadata.namespace")))
    }

    async fn validate(&self, request: &mut Request<'_>, object: &dyn AnyObject) -> Result<(), Error> {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let info = &object.kind_type().info;
        if request.operation == Operation::Delete && is(info, "", "Namespace") && IMMORTAL.contains(&name) {
            return Err(forbidden(object, "this namespace may not be deleted"));
        }
        Ok(())
    }
}
