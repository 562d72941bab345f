//! Which replica set is the new one, and the numbers of revisions.

use longshore_core::api::{PodTemplateSpec, ReplicaSet};
use longshore_core::kind::KindType;

use super::conditions::{self, PROGRESSING};
use super::draft::{DESIRED, Draft, MAX};
use super::rollout::Rollout;
use crate::claim::controller_ref;
use crate::controller::View;
use crate::hash::hash;
use crate::plan::Verb;

/// Annotation: which revision of the deployment this is.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation: the revisions that this one was before it came back.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Label that tells the pods of a deployment's replica sets apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotations that a replica set does not take over from its deployment.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
];
/// Longest revision history, in bytes.
const HISTORY_MAX: usize = 2000;

/// The template without the label that its replica set adds.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = &mut template.metadata.labels {
        labels.remove(TEMPLATE_HASH);
        if labels.is_empty() {
            template.metadata.labels = None;
        }
    }
    template
}

impl Rollout {
    /// Finds the replica set of the current template among the old ones, or makes one if `create` says so, and sees to
    /// the numbers of revisions.
    pub(super) fn adopt_revision(&mut self, create: bool, view: &View<'_>) {
        if self.new.is_some() || self.collided {
            return;
        }
        let wanted = plain(&self.deployment.spec.template);
        let found = self.old.iter().position(|draft| plain(&draft.is.spec.template) == wanted);
        let Some(index) = found else {
            if create {
                self.make_new(view);
            }
            return;
        };
        let mut draft = self.old.remove(index);
        let revision = self.next_revision();
        self.annotate(&mut draft.is, revision);
        draft.is.spec.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        let revision = draft.annotation(REVISION).unwrap_or_default().to_owned();
        self.set_revision(revision);
        if self.has_deadline() && self.condition(PROGRESSING).is_none() {
            let text = format!("Found new replica set {:?}", draft.is.metadata.name.as_deref().unwrap_or_default());
            self.set_condition(conditions::progressing(true, "FoundNewReplicaSet", text));
        }
        self.new = Some(draft);
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().filter_map(|draft| draft.number(REVISION)).max().unwrap_or(0) + 1
    }

    fn set_revision(&mut self, revision: String) {
        self.deployment.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision);
    }

    /// Copies the deployment's annotations, and moves the revision on.
    fn annotate(&self, set: &mut ReplicaSet, revision: i64) {
        let annotations = set.metadata.annotations.get_or_insert_default();
        let copied = self.deployment.metadata.annotations.iter().flatten();
        annotations.extend(
            copied
                .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        let known = annotations.get(REVISION).cloned();
        let number = match known.as_deref().unwrap_or_default() {
            "" => 0,
            // A number that somebody spoiled is left alone.
            text => text.parse().unwrap_or(i64::MAX),
        };
        if number >= revision {
            return;
        }
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if let Some(known) = known {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&known);
            while history.len() > HISTORY_MAX {
                let Some((_, rest)) = history.split_once(',') else { break };
                *history = rest.to_owned();
            }
        }
    }

    fn make_new(&mut self, view: &View<'_>) {
        let deployment = &self.deployment;
        let (namespace, name) =
            (&deployment.metadata.namespace, deployment.metadata.name.as_deref().unwrap_or_default());
        let hash = hash(&plain(&deployment.spec.template), deployment.status.collision_count);
        let name = format!("{name}-{hash}");
        if view.of::<ReplicaSet>().get(namespace.as_deref().unwrap_or_default(), &name).is_some() {
            // It is not ours, or of another template, else it would have been found: the next look takes another name.
            *self.deployment.status.collision_count.get_or_insert(0) += 1;
            self.collided = true;
            return;
        }
        let mut set = ReplicaSet::default();
        set.metadata.name = Some(name.clone());
        set.metadata.namespace.clone_from(namespace);
        set.metadata.owner_references = Some(vec![controller_ref(&*self.was)]);
        set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
        set.spec.template = deployment.spec.template.clone();
        set.spec.template.metadata.labels.get_or_insert_default().insert(TEMPLATE_HASH.to_owned(), hash.clone());
        set.metadata.labels.clone_from(&set.spec.template.metadata.labels);
        let mut selector = deployment.spec.selector.clone().unwrap_or_default();
        selector.match_labels.insert(TEMPLATE_HASH.to_owned(), hash);
        set.spec.selector = Some(selector);
        set.spec.replicas = Some(0);
        let revision = self.next_revision();
        self.annotate(&mut set, revision);
        let mut draft = Draft { was: None, is: set };
        draft.note_size(&self.deployment);
        self.new = Some(draft);
        let replicas = self.new_size();
        if let Some(draft) = &mut self.new {
            draft.scale_to(replicas, &self.deployment);
        }

        let failure = view.failure().filter(|failure| {
            failure.verb == Verb::Create
                && failure.kind == KindType::of::<ReplicaSet>()
                && !failure.error.is_already_exists()
        });
        if let Some(failure) = failure.filter(|_| self.has_deadline()) {
            let text = format!("Failed to create new replica set {name:?}: {}", failure.error);
            let before = self.deployment.status.clone();
            self.set_condition(conditions::progressing(false, "ReplicaSetCreateError", text));
            self.tell_first = before != self.deployment.status;
            return;
        }
        self.set_revision(revision.to_string());
        if self.has_deadline() {
            let text = format!("Created new replica set {name:?}");
            self.set_condition(conditions::progressing(true, "NewReplicaSetCreated", text));
        }
    }
}
