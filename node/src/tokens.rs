//! Tokens of service accounts for pods' volumes: asked for once, and again in time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::pod::ServiceAccountTokenProjection;
use longshore_core::api::token_request::{BoundObjectReference, TokenRequestSpec};
use longshore_core::api::{Pod, TokenRequest};
use longshore_core::client::Client;
use longshore_core::clock::Clock;

/// A token is renewed when this part of its life is over, in hundredths, or after a day.
const RENEW_PERCENT: i32 = 80;
const RENEW_AT_LATEST: SignedDuration = SignedDuration::from_hours(24);

/// Audience and seconds that a volume asks for.
type Wanted = (String, Option<i64>);

#[derive(Debug, Clone)]
struct Held {
    token: String,
    made: Timestamp,
    expires: Timestamp,
}

impl Held {
    fn is_due(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.made);
        let life = self.expires.duration_since(self.made);
        age >= RENEW_AT_LATEST || age.saturating_mul(100) >= life.saturating_mul(RENEW_PERCENT)
    }
}

/// The tokens that the pods of a node have, by the pods' uids. They are only in memory: an agent that starts asks anew.
pub(crate) struct Tokens {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    held: Mutex<BTreeMap<String, BTreeMap<Wanted, Held>>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("pods", &self.held().len()).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(client: Arc<dyn Client>, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<Wanted, Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token for a volume: the one that the pod has, or a new one if that is due.
    ///
    /// # Errors
    /// There is none that is still good, in words for an event.
    pub(crate) async fn get(&self, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<String, String> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let wanted = (source.audience.clone(), source.expiration_seconds);
        let known = self.held().get(&uid).and_then(|tokens| tokens.get(&wanted)).cloned();
        let now = self.clock.now();
        if let Some(known) = known.as_ref().filter(|known| !known.is_due(now)) {
            return Ok(known.token.clone());
        }
        match self.client.create_token(&request(pod, source)).await {
            Ok(made) => {
                let status = made.status;
                let held = Held { token: status.token, made: now, expires: status.expiration_timestamp.0 };
                let token = held.token.clone();
                self.held().entry(uid).or_default().insert(wanted, held);
                Ok(token)
            }
            Err(error) => match known.filter(|known| known.expires > now) {
                Some(known) => {
                    let pod = pod.metadata.name.as_deref().unwrap_or_default();
                    tracing::warn!(pod, %error, expires = %known.expires, "cannot renew a token yet");
                    Ok(known.token)
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    /// Forgets what a pod had that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.held().remove(uid);
    }
}

fn request(pod: &Pod, source: &ServiceAccountTokenProjection) -> TokenRequest {
    let mut request = TokenRequest::default();
    request.metadata.namespace.clone_from(&pod.metadata.namespace);
    request.metadata.name = Some(pod.spec.service_account_name.clone());
    request.spec = TokenRequestSpec {
        audiences: Some(source.audience.clone()).filter(|audience| !audience.is_empty()).into_iter().collect(),
        expiration_seconds: source.expiration_seconds,
        bound_object_ref: Some(BoundObjectReference {
            kind: "Pod".to_owned(),
            api_version: "v1".to_owned(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }),
    };
    request
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longshore_core::client::Error;
    use serde_json::json;

    use super::*;
    use crate::testing::{World, pod};

    fn source(audience: &str, seconds: i64) -> ServiceAccountTokenProjection {
        let expiration_seconds = Some(seconds);
        ServiceAccountTokenProjection { audience: audience.into(), expiration_seconds, path: "token".into() }
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_again_in_time() {
        let world = World::new();
        let tokens = Tokens::new(world.client(), Arc::new(world.clock.clone()));
        let pod = pod("p", json!({ "serviceAccountName": "robot" }));
        let first = tokens.get(&pod, &source("vault", 1000)).await.unwrap();
        assert!(first.starts_with("ns/robot/vault/p/"), "{first}");
        world.clock.advance(Duration::from_secs(799));
        assert_eq!(tokens.get(&pod, &source("vault", 1000)).await.unwrap(), first);
        let other = tokens.get(&pod, &source("", 1000)).await.unwrap();
        assert_ne!(other, first, "another audience, another token");
        world.clock.advance(Duration::from_secs(1));
        assert_ne!(tokens.get(&pod, &source("vault", 1000)).await.unwrap(), first);
        assert_eq!(tokens.get(&pod, &source("", 1000)).await.unwrap(), other);
        tokens.forget(pod.metadata.uid.as_deref().unwrap_or_default());
        assert_ne!(tokens.get(&pod, &source("", 1000)).await.unwrap(), other, "a pod that is gone has none");
    }

    #[tokio::test]
    async fn a_long_token_is_renewed_each_day_and_kept_while_the_server_is_away() {
        let world = World::new();
        let tokens = Tokens::new(world.client(), Arc::new(world.clock.clone()));
        let pod = pod("p", json!({}));
        let week = source("", 7 * 86400);
        let first = tokens.get(&pod, &week).await.unwrap();
        world.clock.advance(Duration::from_secs(86400));
        let away = || Error::Unavailable { operation: "create".into(), reason: "away".into() };
        world.server.fail_with([away()]);
        assert_eq!(tokens.get(&pod, &week).await.unwrap(), first, "it is still good");
        assert_ne!(tokens.get(&pod, &week).await.unwrap(), first);
        world.clock.advance(Duration::from_secs(8 * 86400));
        world.server.fail_with([away()]);
        assert_eq!(tokens.get(&pod, &week).await.unwrap_err(), "failed to fetch token: create: away");
    }
}
