//! Binding: what is done for a pod once it has a node, beside the loop.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::client::{Api, Client, Error};
use longshore_core::clock::Clock;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::Binding;

use super::{Placed, TRACED};
use crate::Profile;

/// Wait before asking again what became of a binding whose answer was lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How a binding ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The pod is bound to the node.
    Bound,
    /// Somebody else was quicker: the pod has another node, or the node no longer has room.
    Conflict(String),
    /// It failed, and the pod is not bound.
    Failed(String),
    /// The pod is gone.
    Gone,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Conflict(_) => "conflict",
            Self::Failed(_) => "failed",
            Self::Gone => "gone",
        }
    }
}

/// A binding that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) key: ObjectKey,
    pub(super) binding: Binding,
    pub(super) outcome: Outcome,
    pub(super) profile: Arc<Profile>,
    /// When the try began, and which it was.
    pub(super) started: Duration,
    pub(super) attempt: u32,
}

/// Binds and says how it ended. An answer that was lost is asked for until it is known.
#[tracing::instrument(target = TRACED, name = "binding", level = "debug", skip_all, fields(
    namespace = placed.bind.namespace,
    name = placed.bind.pod,
    profile = placed.profile.name(),
    attempt = placed.attempt,
    result,
    node = placed.bind.node,
))]
pub(super) async fn bind(client: Arc<dyn Client>, clock: Arc<dyn Clock>, placed: Placed) -> Ended {
    let Placed { pod, profile, bind, started, attempt } = placed;
    let binding = Binding { pod, bind };
    let key = ObjectKey::of(&*binding.pod);
    let outcome = match carry_out(&client, &*clock, &profile, &binding).await {
        Ok(()) => Outcome::Bound,
        Err((_, error)) if error.is_not_found() => Outcome::Gone,
        Err((_, error)) if error.is_conflict() => Outcome::Conflict(error.to_string()),
        Err((step, error @ Error::Api(_))) => Outcome::Failed(format!("{step}: {error}")),
        Err((step, error)) => find_out(&client, &*clock, &binding, &format!("{step}: {error}")).await,
    };
    tracing::Span::current().record("result", outcome.word());
    tracing::debug!(target: TRACED, "ended");
    if matches!(outcome, Outcome::Bound) {
        for (_, policy) in profile.post_binds() {
            policy.post_bind(&client, &binding).await;
        }
    }
    Ended { key, binding, outcome, profile, started, attempt }
}

async fn carry_out(
    client: &Arc<dyn Client>,
    clock: &dyn Clock,
    profile: &Profile,
    binding: &Binding,
) -> Result<(), (String, Error)> {
    for (place, policy) in profile.pre_binds() {
        let step = |error| (format!("running PreBind plugin {:?}", profile.name_of(place)), error);
        policy.pre_bind(client, clock, binding).await.map_err(step)?;
    }
    for (place, policy) in profile.binders() {
        let step = |error| (format!("running Bind plugin {:?}", profile.name_of(place)), error);
        if policy.bind(client, binding).await.map_err(step)? {
            return Ok(());
        }
    }
    let reason = format!("no policy of profile {} binds this pod", profile.name());
    Err(("running Bind plugins".to_owned(), Error::Decode { operation: "bind".to_owned(), reason }))
}

/// What became of a binding whose answer was lost.
async fn find_out(client: &Arc<dyn Client>, clock: &dyn Clock, binding: &Binding, why: &str) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &binding.bind.namespace);
    loop {
        match pods.get_opt(&binding.bind.pod).await {
            Ok(None) => return Outcome::Gone,
            Ok(Some(pod)) if pod.metadata.uid.as_deref().unwrap_or_default() != binding.bind.uid => {
                return Outcome::Gone;
            }
            Ok(Some(pod)) if pod.spec.node_name == binding.bind.node => return Outcome::Bound,
            Ok(Some(pod)) if pod.spec.node_name.is_empty() => return Outcome::Failed(why.to_owned()),
            Ok(Some(pod)) => return Outcome::Conflict(format!("the pod was bound to {}", pod.spec.node_name)),
            Err(error) => {
                tracing::debug!(%error, pod = binding.bind.pod, "cannot find out whether the pod was bound; asking again");
                clock.sleep(ASK_AGAIN).await;
            }
        }
    }
}
