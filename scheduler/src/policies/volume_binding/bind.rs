//! Binding a pod's claims once its node is known, and waiting until they have their volumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::api::persistent_volume_claim::SELECTED_NODE;
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::claim_name;
use longshore_core::api::{CSIDriver, CSIStorageCapacity, Node, PersistentVolume, PersistentVolumeClaim, StorageClass};
use longshore_core::client::params::{ListParams, PostParams};
use longshore_core::client::{Api, Client, Error};
use longshore_core::clock::Clock;
use longshore_core::kind::{Described, Kind};
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Binding, PreBind};
use longshore_core::status;

use super::VolumeBinding;
use super::claims::Claims;
use super::find::Volumes;

/// How often claims are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

#[async_trait]
impl PreBind for VolumeBinding {
    async fn pre_bind(&self, client: &Arc<dyn Client>, clock: &dyn Clock, binding: &Binding) -> Result<(), Error> {
        let pod = &*binding.pod;
        if !pod.spec.volumes.iter().any(|volume| claim_name(pod, volume).is_some()) {
            return Ok(());
        }
        if !bind(client, binding).await? {
            return Ok(());
        }
        let end = clock.elapsed() + self.patience;
        while !are_bound(client, binding).await? {
            if clock.elapsed() >= end {
                return Err(refused(pod, "timed out waiting for the condition".to_owned()));
            }
            clock.sleep(INTERVAL).await;
        }
        Ok(())
    }
}

/// Gives every waiting claim a volume, or has one made for the node. Returns whether there were any.
///
/// What is there is asked for anew: since the decision another pod may have been quicker, and then an update conflicts and
/// the pod is tried again.
async fn bind(client: &Arc<dyn Client>, binding: &Binding) -> Result<bool, Error> {
    let pod = &*binding.pod;
    let mut cluster = Cluster::new();
    put_claims(&mut cluster, client, pod).await?;
    put_all::<StorageClass>(&mut cluster, client).await?;
    let claims = Claims::of(pod, &cluster).map_err(|refusal| refused(pod, refusal.to_string()))?;
    if claims.waiting.is_empty() && !claims.immediate {
        return Ok(false);
    }
    put_all::<PersistentVolume>(&mut cluster, client).await?;
    put_all::<CSIDriver>(&mut cluster, client).await?;
    put_all::<CSIStorageCapacity>(&mut cluster, client).await?;
    let node = Api::<Node>::all(client.clone()).get(&binding.bind.node).await?;
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let volumes = Volumes::for_claims(&cluster, &claims);
    let found = volumes.found(&binding.bind.node, labels, &claims);
    let found = found.ok_or_else(|| refused(pod, "the node's volumes are no longer available".to_owned()))?;
    let api: Api<PersistentVolume> = Api::all(client.clone());
    for (place, volume) in &found.existing {
        api.update(volume.set_aside_for(&claims.waiting[*place]), &PostParams::default()).await?;
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &binding.bind.namespace);
    for place in &found.to_make {
        let mut claim = (*claims.waiting[*place]).clone();
        let annotations = claim.metadata.annotations.get_or_insert_default();
        if annotations.insert(SELECTED_NODE.to_owned(), binding.bind.node.clone()).as_ref() != Some(&binding.bind.node)
        {
            api.update(claim, &PostParams::default()).await?;
        }
    }
    Ok(true)
}

/// Whether all of the pod's claims have their volumes.
async fn are_bound(client: &Arc<dyn Client>, binding: &Binding) -> Result<bool, Error> {
    let pod = &*binding.pod;
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &binding.bind.namespace);
    for name in pod.spec.volumes.iter().filter_map(|volume| claim_name(pod, volume)) {
        let claim = api.get(&name).await?;
        if claim.is_fully_bound() {
            continue;
        }
        let selected = claim.annotation(SELECTED_NODE);
        if !selected.is_empty() && selected != binding.bind.node {
            let text = format!("selectedNode of claim {name} no longer is {}", binding.bind.node);
            return Err(refused(pod, text));
        }
        return Ok(false);
    }
    Ok(true)
}

async fn put_claims(cluster: &mut Cluster, client: &Arc<dyn Client>, pod: &Pod) -> Result<(), Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    for name in pod.spec.volumes.iter().filter_map(|volume| claim_name(pod, volume)) {
        cluster.put_object(api.get(&name).await?);
    }
    Ok(())
}

async fn put_all<K: Kind>(cluster: &mut Cluster, client: &Arc<dyn Client>) -> Result<(), Error> {
    for object in Api::<K>::all(client.clone()).list(&ListParams::default()).await?.items {
        cluster.put_object(object);
    }
    Ok(())
}

fn refused(pod: &Pod, why: String) -> Error {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Error::Api(Box::new(status::conflict(&Pod::INFO, name, format!("binding volumes: {why}"))))
}
