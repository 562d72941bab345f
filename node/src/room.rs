//! What of the node's resources its pods have been given. All of it is given here, so that nothing is given twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_core::api::{Node, Pod, ResourceList};
use tokio::sync::watch;

use crate::admission;
use crate::pod::observed::Refusal;
use crate::pod::resize::{self, Pending};

/// The pods that count against the node, each with the resources that it was granted.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// By uid.
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// Counts what may have made room.
    freed: watch::Sender<u64>,
}

impl Room {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new pod what it asks for, or says why it is not taken.
    pub(crate) fn admit(&self, pod: &Arc<Pod>, node: Option<&Node>, allocatable: &ResourceList) -> Result<(), Refusal> {
        let mut pods = self.pods();
        admission::admit(pod, node, allocatable, pods.values())?;
        pods.insert(uid(pod).to_owned(), pod.clone());
        Ok(())
    }

    /// Counts a pod that the node had taken before, with what it was granted then.
    pub(crate) fn keep(&self, pod: &Arc<Pod>) {
        self.pods().insert(uid(pod).to_owned(), resize::held(pod, &pod.status).unwrap_or_else(|| pod.clone()));
    }

    /// Gives a pod that runs what it asks for now, or says why it stays as it is.
    pub(crate) fn grant(&self, pod: &Arc<Pod>, allocatable: &ResourceList) -> Result<(), Pending> {
        let mut pods = self.pods();
        let others = pods.iter().filter(|(other, _)| *other != uid(pod)).map(|(_, other)| other);
        if pods.get(uid(pod)).is_none_or(|held| resize::grows(held, pod)) {
            resize::fits(pod, allocatable, others)?;
        }
        if let Some(held) = pods.get_mut(uid(pod)) {
            *held = pod.clone();
        }
        drop(pods);
        self.freed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What a pod had is free.
    pub(crate) fn release(&self, uid: &str) {
        if self.pods().remove(uid).is_some() {
            self.freed.send_modify(|count| *count += 1);
        }
    }

    /// Tells when there may be more room than before.
    pub(crate) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
