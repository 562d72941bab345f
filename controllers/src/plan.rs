//! What a controller wants done.

use std::fmt;
use std::time::Duration;

use longshore_core::api::ObjectReference;
use longshore_core::client::params::PropagationPolicy;
use longshore_core::client::{Error, Target};
use longshore_core::events::{Severity, reference};
use longshore_core::informer::ObjectKey;
use longshore_core::kind::{AnyObject, KindType, Subresource};
use serde_json::Value;

/// The name of an object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: &'static KindType,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its uid: an object of the same name but another uid is another object.
    pub uid: String,
}

impl ObjectRef {
    /// The name of an object.
    pub fn of(object: &dyn AnyObject) -> Self {
        let uid = object.meta().uid.clone().unwrap_or_default();
        Self { kind: object.kind_type(), key: ObjectKey::of(object), uid }
    }

    pub(crate) fn target(&self) -> Target<'_> {
        Target { kind: self.kind, namespace: &self.key.namespace, name: &self.key.name }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.info.kind, self.key)
    }
}

/// What an action does to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Creates it.
    Create,
    /// Replaces it or a part of it.
    Update,
    /// Changes it by a patch.
    Patch,
    /// Deletes it.
    Delete,
    /// Only asks about it.
    Confirm,
    /// Only tells people about it.
    Tell,
}

/// How an action ended, to be put into words.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was done.
    pub verb: Verb,
    /// The kind of the object that it was done to.
    pub kind: &'static KindType,
    /// The object's name; for a creation that failed the prefix of the name.
    pub name: &'a str,
    /// The object on whose behalf it was done.
    pub about: &'a ObjectReference,
    /// How it failed, if it did.
    pub error: Option<&'a Error>,
}

/// Puts a report into an event's reason and message.
pub type Words = fn(&Report<'_>) -> (&'static str, String);

/// An event to record.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// What it is about.
    pub about: ObjectReference,
    /// How grave it is.
    pub severity: Severity,
    /// Why, in one CamelCase word.
    pub reason: &'static str,
    /// What happened, for people.
    pub message: String,
}

/// The words of upstream's controllers that create and delete pods.
fn plain_words(report: &Report<'_>) -> (&'static str, String) {
    let kind = report.kind.info.singular;
    match (report.verb, report.error) {
        (Verb::Delete, None) => ("SuccessfulDelete", format!("Deleted {kind}: {}", report.name)),
        (Verb::Delete, Some(error)) => ("FailedDelete", format!("Error deleting: {error}")),
        (Verb::Create, None) => ("SuccessfulCreate", format!("Created {kind}: {}", report.name)),
        (Verb::Create, Some(error)) => ("FailedCreate", format!("Error creating: {error}")),
        (_, None) => ("SuccessfulUpdate", format!("Updated {kind}: {}", report.name)),
        (_, Some(error)) => ("FailedUpdate", format!("Error updating: {error}")),
    }
}

/// One thing to do.
#[derive(Debug)]
pub enum Action {
    /// Create an object. Neighbouring creations run side by side, in batches that double while they succeed.
    Create(Box<dyn AnyObject>),
    /// Replace an object or one of its subresources; its resource version guards against changes in between.
    Update {
        /// The object as it shall be.
        object: Box<dyn AnyObject>,
        /// The part to replace; `None` for the object itself.
        subresource: Option<Subresource>,
    },
    /// Change an object by a merge patch. Put the uid or the resource version into the patch to guard it.
    Patch {
        /// The object.
        target: ObjectRef,
        /// The part to change; `None` for the object itself.
        subresource: Option<Subresource>,
        /// The merge patch.
        patch: Value,
    },
    /// Delete an object. That it is gone already is as good. Neighbouring deletions run side by side, as creations do.
    Delete {
        /// The object; nothing happens to another of the same name.
        target: ObjectRef,
        /// Only if it still has this resource version.
        resource_version: Option<String>,
        /// What happens to its dependents; `None` leaves it to the server.
        propagation: Option<PropagationPolicy>,
        /// Seconds of grace; `None` for the object's own.
        grace_seconds: Option<u32>,
    },
    /// Ask the server, not the cache, whether an object is gone (whatever its uid, if none is given); if it is not, the rest of the plan is dropped and the
    /// key looked at again.
    ConfirmGone(ObjectRef),
    /// Ask the server, not the cache, whether an object is there and nobody deleted it; if not, the rest of the plan is
    /// dropped and the key looked at again.
    ConfirmAlive(ObjectRef),
    /// Ask the server, not the cache, whether a namespace holds no object of a kind; if it does, the rest of the plan is
    /// dropped and the key looked at again.
    ConfirmEmpty {
        /// The kind.
        kind: &'static KindType,
        /// The namespace.
        namespace: Box<str>,
    },
    /// Ask the server, not the cache, whether none of the objects of a kind in a namespace concerns something; if one does, the
    /// rest of the plan is dropped and the key looked at again.
    ConfirmNone {
        /// The kind.
        kind: &'static KindType,
        /// The namespace.
        namespace: Box<str>,
        /// The name of what they may concern.
        name: Box<str>,
        /// Whether an object concerns what is named so.
        concerns: fn(&dyn AnyObject, &str) -> bool,
    },
    /// Record an event. Never fails and never waits.
    Event(Note),
    /// Do something, and record an event that says how it went.
    Reported {
        /// What to do.
        action: Box<Action>,
        /// The object that the event is about.
        about: ObjectReference,
        /// How to say it.
        words: Words,
    },
}

impl Action {
    /// What this has in common with neighbours that may run side by side with it; `None` if it runs alone.
    pub(crate) fn sort(&self) -> Option<(Verb, &'static str)> {
        let verb = self.verb();
        match verb {
            Verb::Create | Verb::Delete | Verb::Confirm => Some((verb, self.kind()?.info.kind)),
            Verb::Update | Verb::Patch | Verb::Tell => None,
        }
    }

    /// The object that it touches; `None` if the server will choose its name.
    pub(crate) fn object(&self) -> Option<ObjectKey> {
        match self {
            Self::Create(object) if object.meta().name.as_deref().unwrap_or_default().is_empty() => None,
            Self::Create(object) | Self::Update { object, .. } => Some(ObjectKey::of(&**object)),
            Self::Patch { target, .. }
            | Self::Delete { target, .. }
            | Self::ConfirmGone(target)
            | Self::ConfirmAlive(target) => Some(target.key.clone()),
            Self::ConfirmEmpty { .. } | Self::ConfirmNone { .. } | Self::Event(_) => None,
            Self::Reported { action, .. } => action.object(),
        }
    }

    /// What it does.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::Update { .. } => Verb::Update,
            Self::Patch { .. } => Verb::Patch,
            Self::Delete { .. } => Verb::Delete,
            Self::ConfirmGone(_) | Self::ConfirmAlive(_) | Self::ConfirmEmpty { .. } | Self::ConfirmNone { .. } => {
                Verb::Confirm
            }
            Self::Event(_) => Verb::Tell,
            Self::Reported { action, .. } => action.verb(),
        }
    }

    /// The same, and an event about `about` that says how it went, in the words of upstream's pod control.
    #[must_use]
    pub fn reported_to(self, about: &dyn AnyObject) -> Self {
        self.reported_with(about, plain_words)
    }

    /// The same, and an event about `about` that says how it went in these words.
    #[must_use]
    pub fn reported_with(self, about: &dyn AnyObject, words: Words) -> Self {
        Self::Reported { action: Box::new(self), about: reference(about), words }
    }

    /// Records that something happened to an object.
    pub fn event(about: &dyn AnyObject, severity: Severity, reason: &'static str, message: impl Into<String>) -> Self {
        Self::Event(Note { about: reference(about), severity, reason, message: message.into() })
    }

    /// Deletes an object as its kind and its dependents usually are.
    pub fn delete(object: &dyn AnyObject) -> Self {
        Self::Delete { target: ObjectRef::of(object), resource_version: None, propagation: None, grace_seconds: None }
    }

    /// Replaces an object's status.
    pub fn update_status(object: impl AnyObject) -> Self {
        Self::Update { object: Box::new(object), subresource: Some(Subresource::Status) }
    }

    /// The kind of object that it touches.
    pub(crate) fn kind(&self) -> Option<&'static KindType> {
        match self {
            Self::Create(object) | Self::Update { object, .. } => Some(object.kind_type()),
            Self::Patch { target, .. }
            | Self::Delete { target, .. }
            | Self::ConfirmGone(target)
            | Self::ConfirmAlive(target) => Some(target.kind),
            Self::ConfirmEmpty { kind, .. } | Self::ConfirmNone { kind, .. } => Some(kind),
            Self::Event(_) => None,
            Self::Reported { action, .. } => action.kind(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |subresource: &Option<Subresource>| subresource.map_or("", Subresource::as_str);
        match self {
            Self::Create(object) => {
                let meta = object.meta();
                let name = meta.name.as_deref().or(meta.generate_name.as_deref()).unwrap_or_default();
                write!(f, "create {} {}/{name}", object.kind_type().info.kind, meta.namespace.as_deref().unwrap_or(""))
            }
            Self::Update { object, subresource } => {
                write!(f, "update {} {} {}", object.kind_type().info.kind, ObjectKey::of(&**object), part(subresource))
            }
            Self::Patch { target, subresource, patch } => write!(f, "patch {target} {} {patch}", part(subresource)),
            Self::Delete { target, propagation, .. } => {
                write!(f, "delete {target}")?;
                propagation.as_ref().map_or(Ok(()), |propagation| write!(f, " {propagation:?}"))
            }
            Self::ConfirmGone(target) => write!(f, "confirm gone {target}"),
            Self::ConfirmAlive(target) => write!(f, "confirm alive {target}"),
            Self::ConfirmEmpty { kind, namespace } => write!(f, "confirm no {} in {namespace}", kind.info.plural),
            Self::ConfirmNone { kind, namespace, name, .. } => {
                write!(f, "confirm none of {} in {namespace} concerns {name}", kind.info.plural)
            }
            Self::Event(note) => write!(f, "tell about {} {}: {}", note.about.kind, note.about.name, note.message),
            Self::Reported { action, .. } => action.fmt(f),
        }
    }
}

/// What a controller wants done about one key.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do, in this order. The first failure ends the plan: the key is looked at again after its back-off.
    pub actions: Vec<Action>,
    /// When to look again although nothing changed. It may be sooner: no wait is longer than a minute, for the clock may be
    /// set meanwhile.
    pub look_again: Option<Duration>,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Looks again after this time at the latest.
    pub fn look_again_in(&mut self, delay: Duration) {
        self.look_again = Some(self.look_again.map_or(delay, |known| known.min(delay)));
    }
}

impl From<Vec<Action>> for Plan {
    fn from(actions: Vec<Action>) -> Self {
        Self { actions, look_again: None }
    }
}
