//! Who sends a request.

use x509_parser::prelude::FromDer;

/// The group of everyone who is known.
const AUTHENTICATED: &str = "system:authenticated";

/// The group that may do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// Who sends a request. Whoever serves an [`HttpService`](super::HttpService) puts it into the request's extensions; a
/// request that has none comes from the same process and is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The groups that the user is a member of.
    pub groups: Vec<String>,
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
        Some(Self { user, groups })
    }

    /// Somebody of whom nothing is known.
    pub fn anonymous() -> Self {
        Self { user: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    /// A part of the same process.
    pub fn in_process() -> Self {
        Self { user: "system:apiserver".to_owned(), groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()] }
    }
}
