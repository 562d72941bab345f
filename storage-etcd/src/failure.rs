//! What a failed request means: above all, whether it may have happened.

use std::error::Error as _;
use std::fmt;

use longshore_core::store::Error;
use tonic::{Code, ConnectError, Status};

/// What a member says that knows of no leader.
const NO_LEADER: &str = "etcdserver: no leader";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

/// What is known of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It never reached etcd, or etcd turned it away before it proposed it to its members: nothing has happened, and the
    /// same request may be made again.
    Nothing,
    /// It may have happened, may happen yet, or may never.
    Unknown,
    /// A revision is compacted.
    Compacted,
    /// A revision has not happened yet.
    Future,
    /// etcd's quota is used up. Nothing has happened, save in the case that [`crate::commit`] explains.
    NoSpace,
    /// More bytes than etcd takes; nothing has happened.
    TooLarge,
    /// A lease that a put names is gone; nothing has happened.
    LeaseGone,
    /// etcd will not do it, however often it is asked; nothing has happened.
    Refused,
}

impl Failure {
    pub(crate) fn nothing(reason: impl Into<String>) -> Self {
        Self { kind: Kind::Nothing, reason: reason.into() }
    }

    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self { kind: Kind::Unknown, reason: reason.into() }
    }

    /// Whether another try may go better.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Nothing | Kind::Unknown)
    }

    /// Whether the member that was asked knows of no leader, as one that is cut off from the others.
    pub(crate) fn has_no_leader(&self) -> bool {
        self.reason.contains(NO_LEADER)
    }

    /// What the store's callers are told of a read.
    pub(crate) fn of_read(self, what: &str) -> Error {
        match self.kind {
            Kind::NoSpace => Error::NoSpace { reason: self.reason },
            _ => Error::Unavailable { reason: format!("cannot {what}: {self}") },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        let (kind, reason) = match &error {
            etcd_client::Error::GRpcStatus(status) => (kind_of(status), told(status)),
            etcd_client::Error::InvalidArgs(_) | etcd_client::Error::InvalidUri(_) => {
                (Kind::Refused, error.to_string())
            }
            _ => (Kind::Unknown, error.to_string()),
        };
        Self { kind, reason }
    }
}

/// The status and the innermost cause of it, which says more.
fn told(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause {
        Some(cause) => format!("{} ({cause})", status.message()),
        None => status.message().to_owned(),
    }
}

/// What etcd's servers say in their errors, of which the codes alone say too little.
fn kind_of(status: &Status) -> Kind {
    if was_not_connected(status) {
        return Kind::Nothing;
    }
    let says = |text: &str| status.message().contains(text);
    match status.code() {
        Code::OutOfRange if says("compacted") => Kind::Compacted,
        Code::OutOfRange if says("future revision") => Kind::Future,
        Code::ResourceExhausted if says("database space exceeded") => Kind::NoSpace,
        // Counted before anything is proposed.
        Code::ResourceExhausted if says("etcdserver: too many requests") => Kind::Nothing,
        Code::ResourceExhausted if says("larger than max") => Kind::TooLarge,
        Code::InvalidArgument if says("request is too large") => Kind::TooLarge,
        Code::NotFound if says("requested lease not found") => Kind::LeaseGone,
        // Asked when the request arrives (all of ours require a leader), before it is looked at.
        Code::Unavailable if says(NO_LEADER) => Kind::Nothing,
        // Tokens are looked at before requests are; a new one is fetched with the next try.
        Code::Unauthenticated => Kind::Nothing,
        Code::InvalidArgument if says("revision of auth store is old") => Kind::Nothing,
        Code::InvalidArgument | Code::PermissionDenied | Code::FailedPrecondition | Code::Unimplemented => {
            Kind::Refused
        }
        _ => Kind::Unknown,
    }
}

/// Whether there was no connection to send the request by.
fn was_not_connected(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, message: &str) -> Kind {
        Failure::from(etcd_client::Error::GRpcStatus(Status::new(code, message))).kind
    }

    #[test]
    fn only_what_was_never_proposed_counts_as_nothing() {
        assert_eq!(kind(Code::Unavailable, NO_LEADER), Kind::Nothing);
        assert_eq!(kind(Code::ResourceExhausted, "etcdserver: too many requests"), Kind::Nothing);
        assert_eq!(kind(Code::Unauthenticated, "etcdserver: invalid auth token"), Kind::Nothing);
        for unknown in ["etcdserver: leader changed", "etcdserver: request timed out", "transport error"] {
            assert_eq!(kind(Code::Unavailable, unknown), Kind::Unknown, "{unknown}");
        }
        assert_eq!(kind(Code::Unknown, "h2 protocol error"), Kind::Unknown);
        assert_eq!(kind(Code::Cancelled, ""), Kind::Unknown);
    }

    #[test]
    fn what_etcd_says_of_revisions_and_space_is_understood() {
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(kind(Code::OutOfRange, compacted), Kind::Compacted);
        assert_eq!(kind(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"), Kind::Future);
        assert_eq!(kind(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), Kind::NoSpace);
        assert_eq!(kind(Code::InvalidArgument, "etcdserver: request is too large"), Kind::TooLarge);
        assert_eq!(kind(Code::PermissionDenied, "etcdserver: permission denied"), Kind::Refused);
    }
}
