//! Informers: a local, indexed, always current copy of the objects of a kind.
//!
//! An [`Informer`] lists and watches one kind and keeps what it learns in a cache that readers share. It is also a
//! handle to write through: **a writer sees its own writes.** Every create, update, patch or delete that went through
//! the handle is visible in the cache when the call returns, and no straggler of the watch undoes it. So a controller
//! that decides from the cache right after it acted does not act twice.
//!
//! # Contract
//!
//! 1. After [`Informer::synced`] the cache has held, at one moment, everything the server had at a moment not before
//!    the start of [`Informer::run`].
//! 2. For one object, readers and handlers see resource versions only grow.
//! 3. Handlers are called one at a time, in the order in which the cache changed, after the cache shows the change.
//!    They must be quick and must not wait; typically they add a key to a [`WorkQueue`](crate::queue::WorkQueue).
//! 4. After a write whose outcome is unknown ([`Error::Unavailable`](crate::client::Error::Unavailable)) call
//!    [`Informer::refresh`] before deciding again.
//! 5. Read-your-writes needs resource versions that compare as numbers, which Kubernetes promises from 1.35 on. With a
//!    server that sends others, the cache follows the watch alone.

mod cache;
mod changes;
mod reflector;
mod set;
mod typed;

pub use cache::{Change, ObjectKey};
pub use changes::Changes;
pub use reflector::{DynInformer, Selection};
pub use set::Informers;
pub use typed::Informer;

#[cfg(test)]
mod tests;
