//! Tokens with which nodes join, kept as upstream keeps them: a Secret `bootstrap-token-<id>` in `kube-system`.
//!
//! A token is `abcdef.0123456789abcdef`: an id that everybody may see, and a secret. It is good for one node: the commit that
//! creates the node's request for a certificate marks the token as used, so that of two nodes with one token exactly one joins.
//! From then on it only lets its owner read that request, should the answer have been lost.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use longshore_core::api::secret::SecretType;
use longshore_core::api::{ByteString, Secret};
use longshore_core::client::{Error, Target};
use longshore_core::kind::KindType;
use longshore_core::status;
use subtle::ConstantTimeEq;

use crate::http::{Authenticator, Identity};
use crate::registry::Registry;

/// Namespace of the tokens.
pub const NAMESPACE: &str = "kube-system";

/// What the users begin with as whom holders of tokens are known; the token's id follows.
pub(crate) const USER_PREFIX: &str = "system:bootstrap:";

/// The group of all of them, who may ask for a node's certificate and nothing else.
pub(crate) const GROUP: &str = "system:bootstrappers";

/// The further group that kubeadm gives to nodes that join.
const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Annotation of a used token: the name of the request that it was used for.
const USED_BY: &str = "longshore.dev/used-by";

/// Key of a token's data that says that it may be used.
const USAGE: &str = "usage-bootstrap-authentication";

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token. Only [`fmt::Display`] shows its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootstrapToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

/// A text that is no token; it is not repeated, since it may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token looks like abcdef.0123456789abcdef: 6 and 16 lower-case letters and digits around a dot")]
pub struct Malformed;

fn is_part(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| LETTERS.contains(&byte))
}

impl FromStr for BootstrapToken {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (id, secret) = text.trim().split_once('.').ok_or(Malformed)?;
        if !is_part(id, ID_LENGTH) || !is_part(secret, SECRET_LENGTH) {
            return Err(Malformed);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl BootstrapToken {
    /// A token from bytes of the system's randomness; bytes that would make some letters likelier are passed over. `None` if
    /// there were too few.
    pub fn from_random(bytes: &[u8]) -> Option<Self> {
        let fair = LETTERS.len() * (256 / LETTERS.len());
        let letters = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        let text: String =
            letters.map(|byte| char::from(LETTERS[byte % LETTERS.len()])).take(ID_LENGTH + SECRET_LENGTH).collect();
        let (id, secret) = text.split_at_checked(ID_LENGTH)?;
        (secret.len() == SECRET_LENGTH).then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// What everybody may know of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The object that makes it known to the cluster.
    pub fn to_secret(&self, expires: Timestamp, description: &str) -> Secret {
        let seconds = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
        let mut data = vec![
            ("token-id", self.id.clone()),
            ("token-secret", self.secret.clone()),
            ("expiration", seconds.to_string()),
            (USAGE, "true".to_owned()),
            ("auth-extra-groups", NODE_GROUP.to_owned()),
        ];
        if !description.is_empty() {
            data.push(("description", description.to_owned()));
        }
        let mut secret = Secret {
            type_: SecretType::BootstrapToken,
            data: data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect(),
            ..Secret::default()
        };
        secret.metadata.name = Some(secret_name(&self.id));
        secret.metadata.namespace = Some(NAMESPACE.to_owned());
        secret
    }
}

/// The name of a token's object.
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// What a token's object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token's id.
    pub id: String,
    /// What it was made for.
    pub description: String,
    /// When it ends; `None` for never.
    pub expires: Option<Timestamp>,
    /// The request that it was used for.
    pub used_by: Option<String>,
    /// Whether it may be used to join at all.
    pub allowed: bool,
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.get(key)?.0).ok()
}

impl TokenRecord {
    /// Reads a token's object; `None` if it is none, or is being deleted.
    pub fn of(secret: &Secret) -> Option<Self> {
        let id = text(secret, "token-id")?;
        let is_token = secret.type_ == SecretType::BootstrapToken
            && secret.metadata.name.as_deref() == Some(secret_name(id).as_str())
            && secret.metadata.deletion_timestamp.is_none();
        // A time that cannot be read has passed, as upstream has it.
        let expires = text(secret, "expiration").map(|time| time.parse().unwrap_or(Timestamp::MIN));
        is_token.then(|| Self {
            id: id.to_owned(),
            description: text(secret, "description").unwrap_or_default().to_owned(),
            expires,
            used_by: secret
                .metadata
                .annotations
                .iter()
                .flatten()
                .find(|(key, _)| *key == USED_BY)
                .map(|of| of.1.clone()),
            allowed: text(secret, USAGE) == Some("true"),
        })
    }

    /// How long it can still be used; `None` if it cannot.
    pub fn left(&self, now: Timestamp) -> Option<SignedDuration> {
        let expires = self.expires.unwrap_or(Timestamp::MAX);
        (self.used_by.is_none() && self.allowed && expires > now).then(|| expires.duration_since(now))
    }

    fn expired(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires.filter(|expires| *expires <= now)
    }

    /// Why no node can join with it any more.
    pub(crate) fn refusal(&self, now: Timestamp) -> Option<String> {
        let id = &self.id;
        if let Some(request) = &self.used_by {
            return Some(format!("the bootstrap token {id:?} was used already, for the request {request:?}"));
        }
        if let Some(expired) = self.expired(now) {
            return Some(format!("the bootstrap token {id:?} expired at {expired}"));
        }
        (!self.allowed).then(|| format!("the bootstrap token {id:?} may not be used to join"))
    }
}

/// The same object, used for a request.
pub(crate) fn used(secret: &Secret, request: &str) -> Secret {
    let mut used = secret.clone();
    used.metadata.annotations.get_or_insert_default().insert(USED_BY.to_owned(), request.to_owned());
    used.data.insert(USAGE.to_owned(), ByteString(b"false".to_vec()));
    used
}

/// Knows holders of tokens.
#[derive(Debug, Clone)]
pub struct BootstrapTokens {
    registry: Arc<Registry>,
}

impl BootstrapTokens {
    /// Over the tokens of this registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    async fn authenticate(&self, bearer: &str) -> Result<Identity, Error> {
        let unauthorized = |why: String| Error::from(status::unauthorized(&why));
        let token: BootstrapToken = bearer.parse().map_err(|_| unauthorized("Unauthorized".to_owned()))?;
        let name = secret_name(&token.id);
        let target = Target { kind: KindType::of::<Secret>(), namespace: NAMESPACE, name: &name };
        let found = self.registry.find(target, Duration::ZERO).await?;
        let secret = found.as_ref().and_then(|object| object.as_any().downcast_ref::<Secret>());
        let known = secret.and_then(|secret| Some((TokenRecord::of(secret)?, secret.data.get("token-secret")?)));
        // Nothing of a token is told to somebody who does not know its secret.
        let Some((record, _)) = known.filter(|(_, secret)| secret.0.ct_eq(token.secret.as_bytes()).into()) else {
            return Err(unauthorized(format!("there is no bootstrap token {:?} with this secret", token.id)));
        };
        let now = self.registry.clock().now();
        // Whoever used it may still read what came of it.
        let refusal =
            if record.used_by.is_some() && record.expired(now).is_none() { None } else { record.refusal(now) };
        if let Some(refusal) = refusal {
            return Err(unauthorized(refusal));
        }
        Ok(Identity { user: format!("{USER_PREFIX}{}", token.id), groups: groups(secret), ..Identity::default() })
    }
}

/// The groups of a token's holder; of further ones only those that are below the group of all.
fn groups(secret: Option<&Secret>) -> Vec<String> {
    let extra = secret.and_then(|secret| text(secret, "auth-extra-groups")).unwrap_or_default();
    let extra = extra
        .split(',')
        .map(str::trim)
        .filter(|group| group.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with(':')));
    [GROUP].into_iter().chain(extra).chain(["system:authenticated"]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> BootstrapToken {
        "abcdef.0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn tokens_are_read_and_their_secrets_are_not_shown_by_chance() {
        assert_eq!(token().to_string(), "abcdef.0123456789abcdef");
        assert!(!format!("{:?}", token()).contains("0123"));
        for wrong in ["", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0"] {
            assert_eq!(wrong.parse::<BootstrapToken>(), Err(Malformed), "{wrong}");
        }
    }

    #[test]
    fn random_bytes_make_tokens_without_a_favourite_letter() {
        let made = BootstrapToken::from_random(&[[0, 1, 35, 36, 252, 255].as_slice(), &[71; 20]].concat()).unwrap();
        assert_eq!(made.to_string(), "ab9a99.9999999999999999");
        assert_eq!(BootstrapToken::from_random(&[0; 21]), None);
    }

    #[test]
    fn a_token_is_good_once_and_for_its_time() {
        let (now, later) = (Timestamp::UNIX_EPOCH, "1970-01-02T00:00:00Z".parse().unwrap());
        let secret = token().to_secret(later, "worker 1");
        let record = TokenRecord::of(&secret).unwrap();
        assert_eq!(
            (record.id.as_str(), record.description.as_str(), record.expires),
            ("abcdef", "worker 1", Some(later))
        );
        assert_eq!((record.left(now), record.refusal(now)), (Some(SignedDuration::from_hours(24)), None));
        assert!(record.refusal(later).unwrap().contains("expired at 1970-01-02T00:00:00Z"));
        let record = TokenRecord::of(&used(&secret, "node-csr-1")).unwrap();
        assert_eq!(record.left(now), None);
        assert!(record.refusal(now).unwrap().contains("was used already, for the request \"node-csr-1\""));
        let mut other = secret;
        other.type_ = SecretType::Opaque;
        assert_eq!(TokenRecord::of(&other), None);
    }

    #[test]
    fn a_token_gives_no_group_but_those_of_nodes_that_join() {
        let mut secret = token().to_secret(Timestamp::MAX, "");
        secret
            .data
            .insert("auth-extra-groups".into(), "system:masters, system:bootstrappers:a,system:bootstrappersx".into());
        assert_eq!(groups(Some(&secret)), ["system:bootstrappers", "system:bootstrappers:a", "system:authenticated"]);
    }
}
