//! The assignment of pods to nodes.

use longshore_core::client::{Bind, Error, Target};
use longshore_core::kind::{AnyObject, DynObject};
use serde_json::{Value, json};

use super::Registry;
use super::update::{Attempts, Change};
use crate::status;

impl Registry {
    /// Assigns a pod to a node.
    ///
    /// # Errors
    /// 409 if the pod is assigned already or is another than meant; 404.
    pub async fn bind(&self, bind: &Bind, dry_run: bool) -> Result<(), Error> {
        let kind = self.kinds.iter().copied().find(|kind| kind.info.group.is_empty() && kind.info.kind == "Pod");
        let kind =
            kind.ok_or_else(|| status::failure(404, "NotFound", "the server could not find the requested resource"))?;
        let cache = self.cache.kind(kind)?;
        let target = Target { kind, namespace: &bind.namespace, name: &bind.pod };
        let mut attempts = Attempts::default();
        while let Some(current) = self.attempt(cache, target, &mut attempts).await? {
            let change = self.bound(target, bind, &current.object).map(Change::Put);
            if self.carry_out(cache, target, &mut attempts, &current, change, dry_run).await?.is_some() {
                return Ok(());
            }
        }
        Err(status::conflict(&kind.info, &bind.pod, status::MODIFIED))
    }

    fn bound(&self, target: Target<'_>, bind: &Bind, old: &DynObject) -> Result<Box<dyn AnyObject>, Error> {
        let info = &target.kind.info;
        let refuse = |why: String| Err(status::conflict(info, target.name, why));
        let uid = old.meta().uid.as_deref().unwrap_or_default();
        if !bind.uid.is_empty() && bind.uid != uid {
            return refuse(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
                bind.uid
            ));
        }
        if old.meta().deletion_timestamp.is_some() {
            return refuse(format!("pod {} is being deleted, cannot be assigned to a host", target.name));
        }
        let node = old.field("spec.nodeName").unwrap_or_default();
        if !node.is_empty() {
            return refuse(format!("pod {} is already assigned to node {node:?}", target.name));
        }
        let mut value = old.to_value();
        if value["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return refuse(format!("pod {} has non-empty .spec.schedulingGates", target.name));
        }
        value["spec"]["nodeName"] = bind.node.clone().into();
        set_scheduled(&mut value, &self.now().0.to_string());
        let mut pod = (target.kind.from_value)(value).map_err(status::internal)?;
        if !bind.annotations.is_empty() {
            let annotations = pod.meta_mut().annotations.get_or_insert_default();
            annotations.extend(bind.annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(pod)
    }
}

/// Sets the condition PodScheduled to true.
fn set_scheduled(pod: &mut Value, now: &str) {
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    }));
    if let Some(condition) = conditions.last_mut().and_then(Value::as_object_mut) {
        condition.remove("lastProbeTime");
    }
}
