//! Which policies decide, in which order, with which weight.

use std::sync::Arc;

use longshore_core::scheduling::{
    Binder, Filter, Permit, Policy, PostBind, PostFilter, PreBind, PreEnqueue, QueueOrder, Reserve, Score,
};

use crate::Error;
use crate::policies;

/// The name under which pods ask for the default profile.
pub const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";

/// A policy in a profile.
#[derive(Debug, Clone)]
pub struct Enabled {
    policy: Arc<dyn Policy>,
    weight: i64,
}

impl Enabled {
    /// The policy.
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// What its scores are multiplied by.
    pub fn weight(&self) -> i64 {
        self.weight
    }
}

/// A list of policies under the name that pods ask for by `spec.schedulerName`. The order counts: the first filter that
/// refuses a node is the one that is named.
///
/// ```
/// use longshore_core::scheduling::per_node;
/// use longshore_scheduler::Profile;
///
/// let profile = Profile::default_scheduler()
///     .without("ImageLocality")
///     .with_weight(per_node::score("FewestPods", |_, node| 1000 - node.requested("pods")), 5);
/// assert_eq!(profile.name(), "default-scheduler");
/// ```
#[derive(Debug, Clone)]
pub struct Profile {
    name: Arc<str>,
    policies: Vec<Enabled>,
}

impl Profile {
    /// A profile without policies. It needs at least one that orders the queue and one that binds to be run by a
    /// [`Scheduler`](crate::Scheduler); the [`Engine`](crate::Engine) alone needs none.
    pub fn empty(name: &str) -> Self {
        Self { name: name.into(), policies: Vec::new() }
    }

    /// Upstream's default profile.
    pub fn default_scheduler() -> Self {
        let profile = Self::empty(DEFAULT_SCHEDULER_NAME);
        policies::default_profile().into_iter().fold(profile, |mut profile, (policy, weight)| {
            profile.policies.push(Enabled { policy, weight });
            profile
        })
    }

    /// The same profile under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// With a policy more, at the end; one of the same name is replaced in its place.
    #[must_use]
    pub fn with(self, policy: impl Policy) -> Self {
        self.with_weight(policy, 1)
    }

    /// With a policy more, whose scores are multiplied by `weight`; one of the same name is replaced in its place.
    #[must_use]
    pub fn with_weight(mut self, policy: impl Policy, weight: i64) -> Self {
        let enabled = Enabled { policy: Arc::new(policy), weight };
        match self.policies.iter_mut().find(|old| old.policy.name() == enabled.policy.name()) {
            Some(old) => *old = enabled,
            None => self.policies.push(enabled),
        }
        self
    }

    /// Without the policy of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.policies.retain(|enabled| enabled.policy.name() != name);
        self
    }

    /// The name by which pods ask for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The policies, in order.
    pub fn policies(&self) -> &[Enabled] {
        &self.policies
    }

    /// The same profile with each policy replaced.
    pub(crate) fn map_policies(&self, mut change: impl FnMut(Arc<dyn Policy>) -> Arc<dyn Policy>) -> Self {
        let policies = self.policies.iter();
        let changed = policies.map(|old| Enabled { policy: change(old.policy.clone()), weight: old.weight });
        Self { name: self.name.clone(), policies: changed.collect() }
    }

    pub(crate) fn check_for_shell(&self) -> Result<(), Error> {
        let missing = |what| Error::Profile { profile: self.name().to_owned(), reason: what };
        match self.all(Policy::as_queue_order).count() {
            1 => {}
            0 => return Err(missing("it has no policy that orders the queue; add PrioritySort")),
            _ => return Err(missing("it has several policies that order the queue; keep one")),
        }
        if self.all(Policy::as_binder).next().is_none() {
            return Err(missing("it has no policy that binds; add DefaultBinder"));
        }
        Ok(())
    }

    /// The places and policies that take part in an extension point.
    fn all<'p, T: ?Sized>(
        &'p self,
        point: fn(&'p dyn Policy) -> Option<&'p T>,
    ) -> impl Iterator<Item = (usize, &'p T)> {
        let all = self.policies.iter().enumerate();
        all.filter_map(move |(place, enabled)| Some((place, point(&*enabled.policy)?)))
    }

    pub(crate) fn pre_enqueue(&self) -> impl Iterator<Item = (usize, &dyn PreEnqueue)> {
        self.all(|policy| policy.as_pre_enqueue())
    }

    pub(crate) fn queue_order(&self) -> Option<&dyn QueueOrder> {
        self.all(|policy| policy.as_queue_order()).next().map(|(_, order)| order)
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = (usize, &dyn Filter)> {
        self.all(|policy| policy.as_filter())
    }

    pub(crate) fn post_filters(&self) -> impl Iterator<Item = (usize, &dyn PostFilter)> {
        self.all(|policy| policy.as_post_filter())
    }

    pub(crate) fn scores(&self) -> impl Iterator<Item = (usize, &dyn Score)> {
        self.all(|policy| policy.as_score())
    }

    pub(crate) fn reserves(&self) -> impl DoubleEndedIterator<Item = (usize, &dyn Reserve)> {
        let all = self.policies.iter().enumerate();
        all.filter_map(|(place, enabled)| Some((place, enabled.policy.as_reserve()?)))
    }

    pub(crate) fn permits(&self) -> impl Iterator<Item = (usize, &dyn Permit)> {
        self.all(|policy| policy.as_permit())
    }

    pub(crate) fn pre_binds(&self) -> impl Iterator<Item = (usize, &dyn PreBind)> {
        self.all(|policy| policy.as_pre_bind())
    }

    pub(crate) fn binders(&self) -> impl Iterator<Item = (usize, &dyn Binder)> {
        self.all(|policy| policy.as_binder())
    }

    pub(crate) fn post_binds(&self) -> impl Iterator<Item = (usize, &dyn PostBind)> {
        self.all(|policy| policy.as_post_bind())
    }

    pub(crate) fn name_of(&self, place: usize) -> &str {
        self.policies.get(place).map_or("", |enabled| enabled.policy.name())
    }
}
