//! Names for Services and pods: a DNS server for one node's pods.
//!
//! # What is answered
//!
//! What "Kubernetes DNS-Based Service Discovery", version 1.1.0, asks for, and where it is silent what CoreDNS' plugin
//! `kubernetes` answers: `<service>.<namespace>.svc.<domain>` (A, AAAA, SRV; the Service's addresses, or those of the ready
//! endpoints of a headless one), `_<port>._<protocol>.<service>…`, `<host>.<service>…` for endpoints, CNAME for
//! `ExternalName`, `10-0-0-1.<namespace>.pod.<domain>`, names of addresses (PTR), `dns-version.<domain>`. A name above
//! others exists; comparisons ignore case, and an answer keeps the case of its question. All other names are asked of stub
//! domains' servers or the upstream servers, and remembered for at most half a minute.
//!
//! # Parts
//!
//! A [`Zone`] is plain data: whoever sees the cluster changes it Service by Service. A [`Server`] answers from it. Until
//! [`Zone::set_ready`] the answer to a name that may be the cluster's is a failure, so that whoever asks tries again; from
//! then on the server goes on with what it was told last, whatever becomes of who told it.
//!
//! # Limits
//!
//! No DNSSEC of its own, no zone transfers, no wildcards (the specification has none), no `autopath`. Equal questions that
//! wait for others' answers are asked one by one.
//!
//! ```
//! use hickory_proto::rr::{Name, RecordType};
//! use longshore_network::dns::{Endpoint, Found, PodNames, Service, ServiceKind, Zone};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut zone = Zone::new(Name::from_ascii("cluster.local.")?, 5, PodNames::Insecure, vec![]);
//! let endpoint = Endpoint { address: "10.1.0.7".parse()?, hostname: Some("web-0".to_owned()), ports: vec![] };
//! zone.set_service("default", "web", Some(Service { kind: ServiceKind::Headless, endpoints: vec![endpoint] }));
//! zone.set_ready();
//! let found = zone.look_up(&Name::from_ascii("web-0.web.default.svc.cluster.local.")?, RecordType::A);
//! assert!(matches!(found, Found::Records { answers, .. } if answers.len() == 1));
//! # Ok(())
//! # }
//! ```

mod cache;
mod forward;
mod message;
mod metrics;
mod options;
mod server;
mod zone;

/// The library of records and messages that the names are made of.
pub use hickory_proto;

pub use metrics::Metrics;
pub use options::{DEFAULT_TTL, Domain, Options, PORT, PodNames, StubDomain, Upstreams, server, ttl};
pub use server::{Names, Server};
pub use zone::{Endpoint, Found, Port, Service, ServiceKind, Zone};
