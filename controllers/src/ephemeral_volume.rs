//! Makes the claims of volumes that live as long as their pod. They are the pod's, so they go with it.

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::pod::helpers::{claim_name, is_terminal};
use longshore_core::api::{PersistentVolumeClaim, Pod};
use longshore_core::informer::{Change, ObjectKey};

use crate::claim::controller_ref;
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

/// The ephemeral volume controller.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EphemeralVolumeController;

impl Controller for EphemeralVolumeController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "ephemeral_volume"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        let has = |pod: &Pod| pod.spec.volumes.iter().any(|volume| volume.ephemeral.is_some());
        triggers.on::<Pod, _>(move |change: &Change<Arc<Pod>>| {
            change.current().filter(|pod| has(pod)).map(|pod| ObjectKey::of(&**pod))
        });
        triggers.on::<PersistentVolumeClaim, _>(|change: &Change<Arc<PersistentVolumeClaim>>| match change {
            Change::Deleted(claim) => crate::claim::controller_key::<Pod>(&**claim),
            _ => None,
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        let Some(pod) = view.of::<Pod>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        if pod.metadata.deletion_timestamp.is_some() || is_terminal(&pod) {
            return Plan::nothing();
        }
        let claims = view.of::<PersistentVolumeClaim>();
        let mut actions = Vec::new();
        for volume in &pod.spec.volumes {
            let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
            let (Some(template), Some(name)) = (template, claim_name(&pod, volume)) else { continue };
            // One of that name that is not the pod's own keeps the pod from being placed, and that says why.
            if claims.get(&key.namespace, &name).is_some() {
                continue;
            }
            let mut claim = PersistentVolumeClaim { spec: template.spec.clone(), ..PersistentVolumeClaim::default() };
            claim.metadata.name = Some(name.into_owned());
            claim.metadata.namespace.clone_from(&pod.metadata.namespace);
            claim.metadata.labels.clone_from(&template.metadata.labels);
            claim.metadata.annotations.clone_from(&template.metadata.annotations);
            claim.metadata.owner_references = Some(vec![controller_ref(&*pod)]);
            actions.push(Action::Create(Box::new(claim)));
        }
        actions.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, meta};

    #[tokio::test]
    async fn a_pod_gets_the_claims_of_its_own_volumes() {
        let world = World::new(1);
        world
            .with(EphemeralVolumeController, async {
                let mut pod = Pod { metadata: meta("a"), ..Pod::default() };
                let volume = serde_json::json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": {
                    "metadata": { "labels": { "of": "a" } },
                    "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
                } } });
                pod.spec.volumes = vec![serde_json::from_value(volume).unwrap()];
                let pod = world.create(pod).await;
                world.settle().await;
                let claim = world.one::<PersistentVolumeClaim>("a-scratch");
                assert_eq!(
                    claim.metadata.owner_references.as_ref().unwrap()[0].uid,
                    *pod.metadata.uid.as_ref().unwrap()
                );
                assert_eq!(claim.metadata.labels.as_ref().unwrap()["of"], "a");
                assert_eq!(claim.spec.resources.requests["storage"].to_string(), "1Gi");
            })
            .await;
    }
}
