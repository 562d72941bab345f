//! Who sends a request.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use x509_parser::prelude::FromDer;

use crate::token::USER_PREFIX;

/// The group of everyone who is known.
const AUTHENTICATED: &str = "system:authenticated";

/// The group that may do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// The group of all service accounts.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// Who sends a request. Whoever serves an [`HttpService`](super::HttpService) puts it into the request's extensions; a
/// request that has none comes from the same process and is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The groups that the user is a member of.
    pub groups: Vec<String>,
    /// The uid of the object that the user is, such as a service account; empty for others.
    pub uid: String,
    /// What else is known of the user, by names such as `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// Whom a verified client certificate names: the common name is the user, organizations are the groups. `None` if
    /// it names no user.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        if user.is_empty() {
            return None;
        }
        let mut groups: Vec<String> =
            subject.iter_organization().filter_map(|value| value.as_str().ok()).map(str::to_owned).collect();
        groups.push(AUTHENTICATED.to_owned());
        Some(Self { user, groups, ..Self::default() })
    }

    /// Somebody of whom nothing is known.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self { user: "system:anonymous".to_owned(), groups, ..Self::default() }
    }

    /// A part of the same process.
    pub fn in_process() -> Self {
        let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
        Self { user: "system:apiserver".to_owned(), groups, ..Self::default() }
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Whether it is a service account, whose rights are roles; whatever it showed to be known.
    pub(super) fn is_service_account(&self) -> bool {
        self.user.starts_with(USER_PREFIX) || self.is_in(SERVICE_ACCOUNTS)
    }

    /// The node that it is the agent of.
    pub(super) fn node(&self) -> Option<&str> {
        self.user.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }

    /// As clients are told, in upstream's `UserInfo`.
    pub(super) fn to_user_info(&self) -> Value {
        let mut info = json!({ "username": self.user, "groups": self.groups });
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}
