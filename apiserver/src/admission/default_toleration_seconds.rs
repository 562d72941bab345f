//! DefaultTolerationSeconds: a pod stays for a while on a node that fails.

use async_trait::async_trait;
use longshore_core::api::pod::{Toleration, TolerationOperator};
use longshore_core::client::Error;
use longshore_core::kind::AnyObject;

use super::{AdmissionRule, Request, new_pod};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NO_EXECUTE: &str = "NoExecute";

/// Pods that say nothing about it tolerate for a time that their node is not ready or not reachable.
#[derive(Debug, Clone, Copy)]
pub struct DefaultTolerationSeconds {
    /// How long a pod stays on a node that is not ready, in seconds.
    pub not_ready: i64,
    /// How long a pod stays on a node that cannot be reached, in seconds.
    pub unreachable: i64,
}

impl Default for DefaultTolerationSeconds {
    /// Five minutes each.
    fn default() -> Self {
        Self { not_ready: 300, unreachable: 300 }
    }
}

#[async_trait]
impl AdmissionRule for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
        let Some(pod) = new_pod(request, object) else { return Ok(()) };
        for (key, seconds) in [(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)] {
            let says = |toleration: &Toleration| {
                (toleration.key == key || toleration.key.is_empty())
                    && (toleration.effect == NO_EXECUTE || toleration.effect.is_empty())
            };
            if !pod.spec.tolerations.iter().any(says) {
                pod.spec.tolerations.push(Toleration {
                    key: key.to_owned(),
                    operator: TolerationOperator::Exists,
                    effect: NO_EXECUTE.to_owned(),
                    toleration_seconds: Some(seconds),
                    ..Toleration::default()
                });
            }
        }
        Ok(())
    }
}
