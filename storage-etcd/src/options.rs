//! What can be chosen when a store is opened, and what can go wrong then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::{Clock, SystemClock};
use longshore_core::store::HistoryLimits;

/// How to reach an etcd cluster, and how to use it.
#[derive(Debug, Clone)]
pub struct Options {
    /// URLs of members, such as `https://10.0.0.1:2379`. Those that are named are used; no others are looked for.
    pub endpoints: Vec<String>,
    /// By what members with `https://` are known, and this client to them; `None` where all are `http://`.
    pub tls: Option<Tls>,
    /// Who this client is to an etcd with authentication; `None` for nobody.
    pub credentials: Option<Credentials>,
    /// The clock of time-outs, waits and compaction. Keys expire by etcd's own.
    pub clock: Arc<dyn Clock>,
    /// Seed for the jitter of waits and for the member to begin with; several processes should not share one.
    pub seed: u64,
    /// How much of the recent past is kept in memory for watches; what is older is asked of etcd again.
    pub history: HistoryLimits,
    /// How long connecting to a member may take.
    pub connect_timeout: Duration,
    /// How long one try of a request may take.
    pub request_timeout: Duration,
    /// How long a request is tried again, where that is safe.
    pub patience: Duration,
    /// How often to compact what is older than this; `None` to leave compaction to others, such as etcd's own.
    pub compaction: Option<Duration>,
}

impl Options {
    /// The machine's clock, 8 MiB of history, 2 s to connect, 5 s a try, 15 s of tries, no compaction.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            credentials: None,
            clock: Arc::new(SystemClock::new()),
            seed: 0,
            history: HistoryLimits { changes_max: 100_000, bytes_max: 8 << 20 },
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(15),
            compaction: None,
        }
    }
}

/// Certificates for `https://`, all in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority that signed the members' certificates.
    pub ca: Vec<u8>,
    /// This client's certificate and its key, for an etcd that asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// A user of etcd.
#[derive(Clone)]
pub struct Credentials {
    /// The user. It must be able to read all keys, and to write those that the store is asked to and `compact_rev_key`.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An endpoint that cannot be one, or none at all.
    #[error("{endpoint:?} is no endpoint of etcd ({reason}): write them as https://HOST:2379")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No member answered as it should.
    #[error("etcd at {endpoints} does not answer: {reason}")]
    Unavailable {
        /// The endpoints, by commas.
        endpoints: String,
        /// What the last one that was tried said.
        reason: String,
    },
    /// A member is too old to keep the store's promises.
    #[error("etcd {found} is too old, 3.4 is needed: upgrade it")]
    Version {
        /// What the member says it is.
        found: String,
    },
}
