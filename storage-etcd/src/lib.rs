#![doc = include_str!("../README.md")]

mod commit;
mod compactor;
mod failure;
mod follow;
mod leases;
mod maintenance;
mod members;
mod options;
mod pages;
mod store;
mod text;
mod watch;

pub use maintenance::{MemberStatus, RestoreCommand, SavedSnapshot, check_snapshot};
pub use options::{Credentials, OpenError, Options, Tls};
pub use store::EtcdStore;
