//! The node's heartbeat: a lease in `kube-node-lease` that the agent renews.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use longshore_core::api::lease::LeaseSpec;
use longshore_core::api::{Lease, Node};
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Error};
use tokio_util::sync::CancellationToken;

use crate::register::Reporter;
use crate::shared::Shared;

/// Namespace of the nodes' leases.
pub(crate) const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease until cancelled. After a failure it is tried again sooner: others must not hold the node for lost.
pub(crate) async fn run(shared: &Shared, reporter: &Reporter, cancel: &CancellationToken) {
    let work = async {
        let mut last = None;
        loop {
            match renew(shared, reporter, last.take()).await {
                Ok(lease) => {
                    last = Some(lease);
                    shared.clock.sleep(shared.options.lease_interval).await;
                }
                Err(error) => {
                    tracing::warn!(node = shared.options.node_name, %error, "cannot renew the node's lease");
                    shared.clock.sleep(shared.options.lease_interval / 5).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(work).await;
}

async fn renew(shared: &Shared, reporter: &Reporter, last: Option<Arc<Lease>>) -> Result<Arc<Lease>, Error> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), NAMESPACE);
    let name = &shared.options.node_name;
    let last = match last {
        Some(last) => Some(last),
        None => api.get_opt(name).await?,
    };
    let mut lease = last.as_deref().cloned().unwrap_or_default();
    let now = MicroTime(shared.clock.now());
    let patience = SignedDuration::try_from(shared.options.lease_duration).unwrap_or(SignedDuration::MAX);
    let was_lost = lease.spec.renew_time.as_ref().is_some_and(|before| now.0.duration_since(before.0) > patience);
    let spec = &mut lease.spec;
    if spec.holder_identity.as_ref() != Some(name) {
        *spec = LeaseSpec { holder_identity: Some(name.clone()), ..LeaseSpec::default() };
    }
    spec.lease_duration_seconds = Some(i32::try_from(shared.options.lease_duration.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(now);
    let metadata = &mut lease.metadata;
    // The lease goes with its node. The node may have registered only after the lease was first made.
    if metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
        metadata.owner_references = reporter.node().and_then(|node| owner(&node)).map(|owner| vec![owner]);
    }
    if last.is_some() {
        let renewed = api.update(lease, &PostParams::default()).await?;
        if was_lost {
            // Others have written that nobody knows how the node is.
            reporter.changed.notify_one();
        }
        return Ok(renewed);
    }
    lease.metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(NAMESPACE.to_owned()),
        owner_references: lease.metadata.owner_references,
        ..ObjectMeta::default()
    };
    api.create(lease, &PostParams::default()).await
}

fn owner(node: &Node) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}
