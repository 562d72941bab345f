//! The API server: the registry, its watch cache, the local client, and the HTTP server that kubectl drives.
//!
//! [`Registry`] is the one write path and needs no HTTP. [`LocalClient`] is the client of parts in the same process.

pub mod admission;
mod allocation;
pub mod bootstrap_token;
mod cache;
pub mod http;
mod key;
mod ledger;
mod local;
pub mod pki;
mod registry;
mod selector;
mod status;
pub mod token;

pub use crate::http::HttpService;
pub use allocation::{AddressRange, ParseRangeError, ParseServiceRangesError, PortRange, ServiceRanges};
pub use local::LocalClient;
pub use registry::{Options, PatchBody, Registry, StartError, Warnings};
