//! Whom a bearer token shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use longshore_core::api::{Node, Pod, Secret, ServiceAccount};
use longshore_core::client::{Error, Target};
use longshore_core::kind::KindType;
use longshore_core::status;

use super::{Claims, LEEWAY, Named, Refusal, TokenIssuer, USER_PREFIX};
use crate::bootstrap_token::BootstrapTokens;
use crate::http::{Authenticator, Identity};
use crate::registry::Registry;

/// Knows holders of tokens: pods and others with a token of a service account, and nodes that are about to join.
#[derive(Debug, Clone)]
pub struct BearerTokens {
    registry: Arc<Registry>,
    joining: BootstrapTokens,
}

impl BearerTokens {
    /// Over the objects of this registry. Without [`Options::tokens`](crate::Options::tokens) only nodes that join are known.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { joining: BootstrapTokens::new(registry.clone()), registry }
    }
}

#[async_trait]
impl Authenticator for BearerTokens {
    async fn authenticate(&self, bearer: &str) -> Result<Identity, Error> {
        match self.registry.tokens() {
            // The token of a node that joins has one dot.
            Some(tokens) if bearer.matches('.').nth(1).is_some() => {
                let (identity, _) = review(&self.registry, tokens, bearer, &[tokens.issuer()]).await?;
                identity.map_err(|refusal| status::unauthorized(&refusal.to_string()).into())
            }
            _ => self.joining.authenticate(bearer).await,
        }
    }
}

/// Whom a token of a service account shows that is for one of these audiences, and for which of them; an error if it could not be
/// found out.
pub(crate) async fn review(
    registry: &Registry,
    tokens: &TokenIssuer,
    token: &str,
    audiences: &[&str],
) -> Result<(Result<Identity, Refusal>, Vec<String>), Error> {
    let now = registry.clock().now();
    let claims = match tokens.verify(token, audiences, now) {
        Ok(claims) => claims,
        Err(refusal) => return Ok((Err(refusal), Vec::new())),
    };
    if let Some(gone) = gone(registry, &claims, now).await? {
        return Ok((Err(Refusal::Gone(gone)), Vec::new()));
    }
    let shared = claims.aud.iter().filter(|own| audiences.contains(&own.as_str())).cloned().collect();
    if let Some(warn) = claims.kubernetes.warnafter.filter(|warn| *warn < now.as_second()) {
        tracing::debug!(
            user = claims.sub,
            late = now.as_second() - warn,
            "a token is used that should have been renewed"
        );
    }
    Ok((Ok(identity(claims)), shared))
}

/// What of the objects that a token needs is no longer there.
async fn gone(registry: &Registry, claims: &Claims, now: Timestamp) -> Result<Option<String>, Error> {
    let private = &claims.kubernetes;
    let account = &private.serviceaccount;
    let mut needed = vec![("service account", KindType::of::<ServiceAccount>(), private.namespace.as_str(), account)];
    if let Some(pod) = &private.pod {
        needed.push(("pod", KindType::of::<Pod>(), &private.namespace, pod));
    } else if let Some(node) = &private.node {
        // A pod's node may go before it does.
        needed.push(("node", KindType::of::<Node>(), "", node));
    }
    if let Some(secret) = &private.secret {
        needed.push(("secret", KindType::of::<Secret>(), &private.namespace, secret));
    }
    for (what, kind, namespace, Named { name, uid }) in needed {
        let found = registry.find(Target { kind, namespace, name }, Duration::ZERO).await?;
        let is_there = found.is_some_and(|object| {
            let meta = object.meta();
            let deleted = meta.deletion_timestamp.as_ref().map(|time| time.0);
            let ended = deleted.is_some_and(|at| now.duration_since(at) > SignedDuration::from_secs(LEEWAY));
            meta.uid.as_ref() == Some(uid) && !ended
        });
        if !is_there {
            return Ok(Some(format!("{what} {name:?}")));
        }
    }
    Ok(None)
}

fn identity(claims: Claims) -> Identity {
    let private = claims.kubernetes;
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: String| {
        extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    note("credential-id", format!("JTI={}", claims.jti));
    if let Some(pod) = private.pod {
        note("pod-name", pod.name);
        note("pod-uid", pod.uid);
    }
    if let Some(node) = private.node {
        note("node-name", node.name);
        note("node-uid", node.uid);
    }
    let namespace = private.namespace;
    Identity {
        user: format!("{USER_PREFIX}{namespace}:{}", private.serviceaccount.name),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
        uid: private.serviceaccount.uid,
        extra,
    }
}
