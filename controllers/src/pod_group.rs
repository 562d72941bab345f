//! Keeps the status of pod groups: how many of their pods are how far, and what that makes of the group.
//!
//! It decides nothing; the scheduler counts for itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::pod_group::{PodGroupPhase, PodGroupStatus, group_of};
use longshore_core::api::{Pod, PodGroup};
use longshore_core::informer::{Change, ObjectKey};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

/// Index of pods by `namespace/group`.
const BY_GROUP: &str = "pod-group/members";

/// The pod group controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodGroupController;

fn group_key(pod: &Pod) -> Option<ObjectKey> {
    Some(ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), group_of(pod)?))
}

/// How far the group is. An ended group stays so when its pods are cleared away.
fn phase(status: &PodGroupStatus, pods: usize, least: usize) -> PodGroupPhase {
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let (running, succeeded, failed) = (count(status.running), count(status.succeeded), count(status.failed));
    if succeeded >= least {
        PodGroupPhase::Finished
    } else if failed > 0 && failed + running + succeeded >= least {
        PodGroupPhase::Failed
    } else if pods < least {
        PodGroupPhase::Pending
    } else if running + succeeded >= least {
        PodGroupPhase::Running
    } else if count(status.scheduled) + succeeded >= least {
        PodGroupPhase::Scheduled
    } else {
        PodGroupPhase::Scheduling
    }
}

fn status(group: &PodGroup, pods: &[std::sync::Arc<Pod>], now: Timestamp) -> PodGroupStatus {
    let count = |wanted: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
    };
    let is = |phase: PodPhase| count(&|pod| pod.status.phase == phase);
    let ended = |pod: &Pod| matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed);
    let owners: BTreeSet<String> = (pods.iter())
        .flat_map(|pod| pod.metadata.owner_references.iter().flatten())
        .map(|owner| format!("{}/{}", group.metadata.namespace.as_deref().unwrap_or_default(), owner.name))
        .collect();
    let mut status = PodGroupStatus {
        phase: PodGroupPhase::Unset,
        occupied_by: owners.into_iter().collect::<Vec<_>>().join(","),
        scheduled: count(&|pod| !pod.spec.node_name.is_empty() && !ended(pod)),
        running: is(PodPhase::Running),
        succeeded: is(PodPhase::Succeeded),
        failed: is(PodPhase::Failed),
        schedule_start_time: group.status.schedule_start_time.clone(),
    };
    status.phase = phase(&status, pods.len(), group.min_member());
    if pods.len() >= group.min_member() && status.schedule_start_time.is_none() {
        let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
        status.schedule_start_time = Some(Time(seconds));
    }
    status
}

impl Controller for PodGroupController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "pod_group"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers
            .informer::<Pod>()
            .add_index(BY_GROUP, |pod| group_key(pod).map(|key| key.to_string()).into_iter().collect());
        triggers.on::<PodGroup, _>(|change| [ObjectKey::of(&**change.object())]);
        triggers.on::<Pod, _>(|change| {
            let old = if let Change::Modified { old, .. } = change { group_key(old) } else { None };
            let new = group_key(change.object());
            old.filter(|old| Some(old) != new.as_ref()).into_iter().chain(new)
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(group) = view.of::<PodGroup>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        if group.metadata.deletion_timestamp.is_some() || group.status.phase == PodGroupPhase::Finished {
            return Plan::nothing();
        }
        let pods = view.of::<Pod>().by_index(BY_GROUP, &key.to_string());
        let status = status(&group, &pods, now);
        if status == group.status {
            return Plan::nothing();
        }
        vec![Action::update_status(PodGroup { status, ..(*group).clone() })].into()
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::api::pod_group::POD_GROUP_LABEL;
    use longshore_core::client::params::DeleteParams;

    use super::*;
    use crate::testing::{World, meta};

    fn member(name: &str) -> Pod {
        let mut pod = Pod { metadata: meta(name), ..Pod::default() };
        pod.metadata.labels = Some([(POD_GROUP_LABEL.to_owned(), "g".to_owned())].into());
        pod.spec.containers.push(longshore_core::api::pod::Container { name: "c".to_owned(), ..Default::default() });
        pod
    }

    fn seen(world: &World) -> (String, [i32; 4]) {
        let PodGroupStatus { phase, scheduled, running, succeeded, failed, .. } = world.one::<PodGroup>("g").status;
        (phase.as_str().to_owned(), [scheduled, running, succeeded, failed])
    }

    async fn report(world: &World, phase: PodPhase) {
        for name in ["a", "b"] {
            world.report::<Pod>(name, |pod| pod.status.phase = phase.clone());
        }
        world.settle().await;
    }

    #[tokio::test]
    async fn the_status_follows_the_pods() {
        let world = World::new(1);
        world
            .with(PodGroupController, async {
                let mut group = PodGroup { metadata: meta("g"), ..PodGroup::default() };
                group.spec.min_member = 2;
                world.create(group).await;
                world.create(member("a")).await;
                world.settle().await;
                assert_eq!(seen(&world), ("Pending".to_owned(), [0; 4]));
                assert_eq!(world.one::<PodGroup>("g").status.schedule_start_time, None);
                let mut owned = member("b");
                owned.metadata.owner_references = Some(vec![crate::testing::owned_by(&world.one::<PodGroup>("g"))]);
                world.create(owned).await;
                world.settle().await;
                assert_eq!(seen(&world), ("Scheduling".to_owned(), [0; 4]));
                let status = world.one::<PodGroup>("g").status;
                assert!(status.schedule_start_time.is_some() && status.occupied_by.ends_with("/g"), "{status:?}");
                for name in ["a", "b"] {
                    world.edit::<Pod>(name, |pod| pod.spec.node_name = "n".to_owned());
                }
                world.settle().await;
                assert_eq!(seen(&world), ("Scheduled".to_owned(), [2, 0, 0, 0]));
                report(&world, PodPhase::Running).await;
                assert_eq!(seen(&world), ("Running".to_owned(), [2, 2, 0, 0]));
                world.report::<Pod>("a", |pod| pod.status.phase = PodPhase::Failed);
                world.settle().await;
                assert_eq!(seen(&world), ("Failed".to_owned(), [1, 1, 0, 1]));
                report(&world, PodPhase::Succeeded).await;
                assert_eq!(seen(&world), ("Finished".to_owned(), [0, 0, 2, 0]));
                world.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
                world.settle().await;
                assert_eq!(seen(&world), ("Finished".to_owned(), [0, 0, 2, 0]), "what has ended stays so");
            })
            .await;
    }
}
