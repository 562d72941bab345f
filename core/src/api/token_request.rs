//! TokenRequest: a token for a service account, made by its subresource `token` and never stored.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::api::AuthenticationV1;
use crate::api::wire::{self, is_default};

/// Asks for a token of the service account that its metadata names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct TokenRequest {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AuthenticationV1,
    /// Name and namespace of the service account.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the token shall be good for.
    #[serde(default)]
    pub spec: TokenRequestSpec,
    /// The token.
    #[serde(default)]
    pub status: TokenRequestStatus,
}

/// What a token shall be good for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequestSpec {
    /// Whom the token may be shown to; the API server if there are none.
    #[serde(default, deserialize_with = "wire::null_as_empty")]
    pub audiences: Vec<String>,
    /// How long it lives, in seconds; an hour by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
    /// The object with which it ends.
    #[serde(default)]
    pub bound_object_ref: Option<BoundObjectReference>,
}

/// The object with which a token ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundObjectReference {
    /// `Pod`, `Secret` or `Node`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: String,
    /// Its API version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub api_version: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Its uid; empty for whichever has the name now.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: String,
}

/// The token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequestStatus {
    /// The token; whoever has it is the service account.
    #[serde(default)]
    pub token: String,
    /// When a new one is due.
    #[serde(default = "never")]
    pub expiration_timestamp: Time,
}

fn never() -> Time {
    Time(Timestamp::UNIX_EPOCH)
}

impl Default for TokenRequestStatus {
    fn default() -> Self {
        Self { token: String::new(), expiration_timestamp: never() }
    }
}

impl std::fmt::Debug for TokenRequestStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequestStatus")
            .field("expiration_timestamp", &self.expiration_timestamp)
            .finish_non_exhaustive()
    }
}
