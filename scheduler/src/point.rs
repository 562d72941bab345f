//! The places in a pod's way where policies have a say.

use longshore_core::scheduling::Policy;

/// Where policies take part, in the order in which a pod comes by. Each is a trait in [`longshore_core::scheduling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtensionPoint {
    /// Pods are held back before they are queued.
    PreEnqueue,
    /// The queue is ordered.
    QueueOrder,
    /// Nodes are refused.
    Filter,
    /// Something is done for a pod that no node can take.
    PostFilter,
    /// Nodes are preferred.
    Score,
    /// Devices inside the node are chosen.
    Reserve,
    /// Bindings are delayed or stopped.
    Permit,
    /// Bindings are prepared.
    PreBind,
    /// Pods are bound.
    Bind,
    /// Bindings are told.
    PostBind,
}

impl ExtensionPoint {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::PreEnqueue,
        Self::QueueOrder,
        Self::Filter,
        Self::PostFilter,
        Self::Score,
        Self::Reserve,
        Self::Permit,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
    ];

    /// Whether the policy has a say here.
    pub fn is_of(self, policy: &dyn Policy) -> bool {
        match self {
            Self::PreEnqueue => policy.as_pre_enqueue().is_some(),
            Self::QueueOrder => policy.as_queue_order().is_some(),
            Self::Filter => policy.as_filter().is_some(),
            Self::PostFilter => policy.as_post_filter().is_some(),
            Self::Score => policy.as_score().is_some(),
            Self::Reserve => policy.as_reserve().is_some(),
            Self::Permit => policy.as_permit().is_some(),
            Self::PreBind => policy.as_pre_bind().is_some(),
            Self::Bind => policy.as_binder().is_some(),
            Self::PostBind => policy.as_post_bind().is_some(),
        }
    }
}
