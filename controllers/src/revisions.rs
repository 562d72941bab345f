//! Revisions of a template: one ControllerRevision for each version that a workload had.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::controller_revision::RawObject;
use longshore_core::api::{ControllerRevision, PodTemplateSpec};
use longshore_core::kind::AnyObject;
use serde_json::{Value, json};

use crate::claim::controller_ref;
use crate::controller::View;
use crate::hash::hash;
use crate::plan::Action;

/// Label of pods, and of a daemon set's revisions: which revision.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";

/// How the revisions of a workload stand.
#[derive(Debug)]
pub(crate) enum Revisions {
    /// The current template has a revision, the latest.
    Settled {
        /// That one.
        current: Arc<ControllerRevision>,
        /// The others, oldest first.
        old: Vec<Arc<ControllerRevision>>,
    },
    /// First do this, then look again.
    Unsettled(Action),
    /// The name of the new revision is taken: count the collision and look again.
    Collided,
}

/// What a revision keeps: a patch that brings the template back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("API objects have string keys and no failing serializers");
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The template that a revision keeps; `None` if somebody spoiled it.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    serde_json::from_value(revision.data.0["spec"]["template"].clone()).ok()
}

/// The hash in a revision's name.
pub(crate) fn hash_of(revision: &ControllerRevision) -> &str {
    revision.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).map_or("", String::as_str)
}

/// Finds the revision of the current template among those that `owner` owns, or says how to make it.
pub(crate) fn revisions(
    view: &View<'_>,
    owner: &dyn AnyObject,
    mut owned: Vec<Arc<ControllerRevision>>,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
) -> Revisions {
    let created = |revision: &ControllerRevision| revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
    owned.sort_by(|a, b| (a.revision, created(a), &a.metadata.name).cmp(&(b.revision, created(b), &b.metadata.name)));
    let data = data(template);
    let next = owned.last().map_or(0, |last| last.revision) + 1;
    if let Some(index) = owned.iter().rposition(|revision| revision.data.0 == data) {
        let current = owned.remove(index);
        if index == owned.len() {
            return Revisions::Settled { current, old: owned };
        }
        // An earlier template came back: it becomes the latest.
        let revision = ControllerRevision { revision: next, ..(*current).clone() };
        return Revisions::Unsettled(Action::Update { object: Box::new(revision), subresource: None });
    }
    let meta = owner.meta();
    let hash = hash(&data, collisions);
    let name = format!("{}-{hash}", meta.name.as_deref().unwrap_or_default());
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    if view.of::<ControllerRevision>().get(namespace, &name).is_some() {
        return Revisions::Collided;
    }
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    labels.insert(REVISION_HASH.to_owned(), hash);
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        annotations: meta.annotations.clone(),
        owner_references: Some(vec![controller_ref(owner)]),
        ..ObjectMeta::default()
    };
    let new = ControllerRevision { metadata, data: RawObject(data), revision: next, ..ControllerRevision::default() };
    Revisions::Unsettled(Action::Create(Box::new(new)))
}

/// Deletes what goes beyond the history limit, oldest first, unless it is in use.
pub(crate) fn excess(
    old: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    is_used: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Action> {
    let unused: Vec<_> = old.iter().filter(|revision| !is_used(revision)).collect();
    let surplus = unused.len().saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or(0));
    unused.iter().take(surplus).map(|revision| Action::delete(&***revision)).collect()
}
