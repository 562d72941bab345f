//! What a controller wants done.

use std::fmt;
use std::time::Duration;

use longshore_core::client::Target;
use longshore_core::client::params::PropagationPolicy;
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
    /// Ask the server, not the cache, whether an object is gone; if it is not, the rest of the plan is dropped and the
    /// key looked at again.
    ConfirmGone(ObjectRef),
    /// Ask the server, not the cache, whether a namespace holds no object of a kind; if it does, the rest of the plan is
    /// dropped and the key looked at again.
    ConfirmEmpty {
        /// The kind.
        kind: &'static KindType,
        /// The namespace.
        namespace: Box<str>,
    },
}

impl Action {
    /// Whether this may run side by side with a neighbour of the same sort.
    pub(crate) fn sort(&self) -> Option<u8> {
        match self {
            Self::Create(_) => Some(0),
            Self::Delete { .. } => Some(1),
            Self::ConfirmGone(_) | Self::ConfirmEmpty { .. } => Some(2),
            Self::Update { .. } | Self::Patch { .. } => None,
        }
    }

    /// The kind of object that it touches.
    pub(crate) fn kind(&self) -> &'static KindType {
        match self {
            Self::Create(object) | Self::Update { object, .. } => object.kind_type(),
            Self::Patch { target, .. } | Self::Delete { target, .. } | Self::ConfirmGone(target) => target.kind,
            Self::ConfirmEmpty { kind, .. } => kind,
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
            Self::ConfirmEmpty { kind, namespace } => write!(f, "confirm no {} in {namespace}", kind.info.plural),
        }
    }
}

/// What a controller wants done about one key.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do, in this order. The first failure ends the plan: the key is looked at again after its back-off.
    pub actions: Vec<Action>,
    /// When to look again although nothing changed.
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
