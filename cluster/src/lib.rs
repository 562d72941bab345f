//! Puts the parts together: a whole cluster in one process for laptops ([`Cluster`]) and for tests (`testing`, behind the
//! feature of that name), or each part in a process of its own ([`remote`]).

mod cluster_info;
mod connection;
mod control_plane;
mod data_dir;
pub mod demo;
pub mod dns;
mod down;
mod error;
mod explain;
pub mod images;
mod join;
mod leading;
mod listing;
mod local;
mod machine;
mod manifests;
mod offer;
mod parts;
mod process;
mod progress;
mod random;
mod ranges;
mod readiness;
mod real;
pub mod remote;
mod requirements;
mod scheduling;
mod serving;
mod signing;
mod snapshot;
mod status;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tokens;
pub mod upkeep;
mod waiting;
mod what_if;

use std::process::ExitCode;

pub use connection::of_context;
pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use data_dir::{DataDir, Lock, Settings};
pub use down::down;
pub use error::Error;
pub use explain::explain;
pub use join::control_plane::{ControlPlaneJoin, ControlPlaneToken};
pub use leading::LeaderOptions;
pub use local::{Cluster, NetworkKind, NetworkOptions, RuntimeKind, UpOptions};
pub use longshore_apiserver::admission::Unsupported;
pub use longshore_scheduler::config::Configuration as SchedulerConfiguration;
pub use manifests::{Entry, apply, parse, read};
pub use offer::{Offer, amounts, fake_gpus};
pub use progress::{Observer, Progress, Row};
pub use ranges::RangeOptions;
pub use readiness::{Readiness, readiness};
pub use requirements::missing_programs;
pub use scheduling::read_scheduler_configuration;
pub use snapshot::{Snapshot, snapshot};
pub use status::{Report, kubeconfig, status};
pub use store::{EtcdAccess, Keeper, MemberReport, Restoring, StoreKind, StoreReport};
pub use what_if::{Tried, what_if};

/// What a program must do, before anything else, when its first argument is `shim`: it is then the process that stays
/// with a pod.
pub fn shim_main() -> ExitCode {
    longshore_runtime_oci::shim::main(std::env::args_os().skip(2))
}
