//! What a token says, in upstream's words.

use serde::{Deserialize, Serialize};

/// What the names of users begin with that are service accounts; namespace and name follow.
pub(crate) const USER_PREFIX: &str = "system:serviceaccount:";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Whom it may be shown to.
    pub(crate) aud: Vec<String>,
    /// When it ends, in seconds since 1970, as all times here.
    pub(crate) exp: i64,
    /// When it was made.
    pub(crate) iat: i64,
    /// Who made it.
    pub(crate) iss: String,
    /// Its own name.
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Private,
    /// When it begins.
    pub(crate) nbf: i64,
    /// The user.
    pub(crate) sub: String,
}

/// Whose token it is, and the objects with which it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Private {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Named>,
    pub(crate) serviceaccount: Named,
    /// From when on its holder should have taken a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) uid: String,
}
