//! The assignment of pods to nodes.

use longshore_core::api::pod::PodCondition;
use longshore_core::api::pod::helpers::set_condition;
use longshore_core::api::{ConditionStatus, Pod};
use longshore_core::client::{Bind, Error, Target};
use longshore_core::kind::{AnyObject, DynObject, KindType, Subresource};

use super::Registry;
use super::update::{Attempts, Change, Commit};
use crate::admission::Operation;
use crate::status;

impl Registry {
    /// Assigns a pod to a node, and charges the node's ledger in the same commit.
    ///
    /// # Errors
    /// 409 if the pod is assigned already or is another than meant, or if the node is not there or has no room for
    /// it (the message says what is missing); 404.
    pub async fn bind(&self, bind: &Bind, dry_run: bool) -> Result<(), Error> {
        let kind = KindType::of::<Pod>();
        let cache = self.cache.kind(kind)?;
        let target = Target { kind, namespace: &bind.namespace, name: &bind.pod };
        let commit = Commit { target, operation: Operation::Update(Some(Subresource::Binding)), dry_run };
        let mut attempts = Attempts::default();
        while let Some(current) = self.attempt(cache, target, &mut attempts).await? {
            let change = self.bound(bind, &current.object).map(Change::Put);
            if self.carry_out(cache, commit, &mut attempts, &current, change).await?.is_some() {
                return Ok(());
            }
        }
        Err(status::conflict(&kind.info, &bind.pod, status::MODIFIED))
    }

    fn bound(&self, bind: &Bind, old: &DynObject) -> Result<Box<dyn AnyObject>, Error> {
        let name = &bind.pod;
        let refuse = |why: String| Err(status::conflict(&old.kind_type().info, name, why));
        let Some(old) = old.as_any().downcast_ref::<Pod>() else {
            return Err(status::internal("what is stored as a pod is none"));
        };
        let uid = old.metadata.uid.as_deref().unwrap_or_default();
        if !bind.uid.is_empty() && bind.uid != uid {
            return refuse(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
                bind.uid
            ));
        }
        if old.metadata.deletion_timestamp.is_some() {
            return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let node = &old.spec.node_name;
        if !node.is_empty() {
            return refuse(format!("pod {name} is already assigned to node {node:?}"));
        }
        if !old.spec.scheduling_gates.is_empty() {
            return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut pod = old.clone();
        pod.spec.node_name.clone_from(&bind.node);
        let scheduled =
            PodCondition { type_: "PodScheduled".to_owned(), status: ConditionStatus::True, ..PodCondition::default() };
        set_condition(&mut pod.status, scheduled, self.now().0);
        if !bind.annotations.is_empty() {
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.extend(bind.annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(Box::new(pod))
    }
}
