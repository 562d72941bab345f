//! Which policies decide, in which order, with which weight.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::{
    Binder, Filter, Grouping, Permit, Policy, PostBind, PostFilter, PreBind, PreEnqueue, QueueOrder, Reserve, Score,
};

use crate::policies;
use crate::{Error, ExtensionPoint, Sampling};

/// The name under which pods ask for the default profile.
pub const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";

/// A policy in a profile.
#[derive(Debug, Clone)]
pub struct Enabled {
    policy: Arc<dyn Policy>,
    weight: i64,
}

impl Enabled {
    pub(crate) fn new(policy: Arc<dyn Policy>, weight: i64) -> Self {
        Self { policy, weight }
    }

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
    order: Order,
    sampling: Option<Sampling>,
}

/// By extension point, the places of the policies that take part, in the order in which they are asked.
pub(crate) type Order = [Vec<usize>; ExtensionPoint::COUNT];

impl Profile {
    /// A profile without policies. It needs at least one that orders the queue and one that binds to be run by a
    /// [`Scheduler`](crate::Scheduler); the [`Engine`](crate::Engine) alone needs none.
    pub fn empty(name: &str) -> Self {
        Self::ordered(name, Vec::new(), Order::default())
    }

    /// Upstream's default profile.
    pub fn default_scheduler() -> Self {
        let mut profile = Self::empty(DEFAULT_SCHEDULER_NAME);
        for (policy, weight) in policies::default_profile() {
            profile.put(Enabled { policy, weight });
        }
        profile
    }

    /// A profile whose policies take part where `order` says.
    pub(crate) fn ordered(name: &str, policies: Vec<Enabled>, order: Order) -> Self {
        Self { name: name.into(), policies, order, sampling: None }
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
    /// It takes part wherever it has a say.
    #[must_use]
    pub fn with_weight(mut self, policy: impl Policy, weight: i64) -> Self {
        self.put(Enabled { policy: Arc::new(policy), weight });
        self
    }

    fn put(&mut self, enabled: Enabled) {
        let place = self.place_of(enabled.policy.name()).unwrap_or(self.policies.len());
        for point in ExtensionPoint::ALL {
            let order = &mut self.order[point as usize];
            match (order.iter().position(|other| *other == place), point.is_of(&*enabled.policy)) {
                (None, true) => {
                    let next = order.iter().position(|other| *other > place).unwrap_or(order.len());
                    order.insert(next, place);
                }
                (Some(at), false) => drop(order.remove(at)),
                _ => {}
            }
        }
        if place < self.policies.len() {
            self.policies[place] = enabled;
        } else {
            self.policies.push(enabled);
        }
    }

    /// Without the policy of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Some(place) = self.place_of(name) {
            self.policies.remove(place);
            for order in &mut self.order {
                order.retain(|other| *other != place);
                order.iter_mut().filter(|other| **other > place).for_each(|other| *other -= 1);
            }
        }
        self
    }

    /// With the policy of this name taking part everywhere but here.
    #[must_use]
    pub fn without_at(mut self, name: &str, point: ExtensionPoint) -> Self {
        if let Some(place) = self.place_of(name) {
            self.order[point as usize].retain(|other| *other != place);
        }
        self
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.policies.iter().position(|enabled| enabled.policy.name() == name)
    }

    /// Chooses from a part of the nodes only. Without it all are looked at, which is not slower: see [`Sampling`].
    #[must_use]
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// How many nodes are enough to choose from; `None` if all are looked at.
    pub fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// The name by which pods ask for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The policies, in order.
    pub fn policies(&self) -> &[Enabled] {
        &self.policies
    }

    /// The policies that take part here, in the order in which they are asked.
    pub fn at(&self, point: ExtensionPoint) -> impl Iterator<Item = &Enabled> {
        self.order[point as usize].iter().map(|place| &self.policies[*place])
    }

    /// The same profile with each policy replaced.
    pub(crate) fn map_policies(&self, mut change: impl FnMut(Arc<dyn Policy>) -> Arc<dyn Policy>) -> Self {
        let mut changed = self.clone();
        for enabled in &mut changed.policies {
            enabled.policy = change(enabled.policy.clone());
        }
        changed
    }

    pub(crate) fn check_for_shell(&self) -> Result<(), Error> {
        let missing = |what| Error::Profile { profile: self.name().to_owned(), reason: what };
        match self.order[ExtensionPoint::QueueOrder as usize].len() {
            1 => {}
            0 => return Err(missing("it has no policy that orders the queue; add PrioritySort")),
            _ => return Err(missing("it has several policies that order the queue; keep one")),
        }
        if self.order[ExtensionPoint::Bind as usize].is_empty() {
            return Err(missing("it has no policy that binds; add DefaultBinder"));
        }
        Ok(())
    }

    /// The places and policies that take part in an extension point.
    fn all<'p, T: ?Sized>(
        &'p self,
        point: ExtensionPoint,
        of: fn(&'p dyn Policy) -> Option<&'p T>,
    ) -> impl DoubleEndedIterator<Item = (usize, &'p T)> {
        let places = self.order[point as usize].iter();
        places.filter_map(move |&place| Some((place, of(&*self.policies[place].policy)?)))
    }

    pub(crate) fn pre_enqueue(&self) -> impl Iterator<Item = (usize, &dyn PreEnqueue)> {
        self.all(ExtensionPoint::PreEnqueue, |policy| policy.as_pre_enqueue())
    }

    pub(crate) fn queue_order(&self) -> Option<&dyn QueueOrder> {
        self.all(ExtensionPoint::QueueOrder, |policy| policy.as_queue_order()).next().map(|(_, order)| order)
    }

    pub(crate) fn queue_order_name(&self) -> &str {
        self.order[ExtensionPoint::QueueOrder as usize].first().map_or("", |place| self.name_of(*place))
    }

    /// The policy that says which pods belong together, with its place.
    pub(crate) fn grouping(&self) -> Option<(usize, &dyn Grouping)> {
        let policies = self.policies.iter().enumerate();
        policies.filter_map(|(place, enabled)| Some((place, enabled.policy.as_grouping()?))).next()
    }

    /// The pod's group.
    pub(crate) fn group_of(&self, pod: &Pod) -> Option<ObjectKey> {
        let (_, grouping) = self.grouping()?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        Some(ObjectKey::new(namespace, grouping.group(pod)?))
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = (usize, &dyn Filter)> {
        self.all(ExtensionPoint::Filter, |policy| policy.as_filter())
    }

    pub(crate) fn post_filters(&self) -> impl Iterator<Item = (usize, &dyn PostFilter)> {
        self.all(ExtensionPoint::PostFilter, |policy| policy.as_post_filter())
    }

    pub(crate) fn scores(&self) -> impl Iterator<Item = (usize, &dyn Score)> {
        self.all(ExtensionPoint::Score, |policy| policy.as_score())
    }

    pub(crate) fn reserves(&self) -> impl DoubleEndedIterator<Item = (usize, &dyn Reserve)> {
        self.all(ExtensionPoint::Reserve, |policy| policy.as_reserve())
    }

    pub(crate) fn permits(&self) -> impl Iterator<Item = (usize, &dyn Permit)> {
        self.all(ExtensionPoint::Permit, |policy| policy.as_permit())
    }

    pub(crate) fn pre_binds(&self) -> impl Iterator<Item = (usize, &dyn PreBind)> {
        self.all(ExtensionPoint::PreBind, |policy| policy.as_pre_bind())
    }

    pub(crate) fn binders(&self) -> impl Iterator<Item = (usize, &dyn Binder)> {
        self.all(ExtensionPoint::Bind, |policy| policy.as_binder())
    }

    pub(crate) fn post_binds(&self) -> impl Iterator<Item = (usize, &dyn PostBind)> {
        self.all(ExtensionPoint::PostBind, |policy| policy.as_post_bind())
    }

    pub(crate) fn name_of(&self, place: usize) -> &str {
        self.policies.get(place).map_or("", |enabled| enabled.policy.name())
    }
}
