//! A second scheduler for a Kubernetes cluster, upstream's or Longshore's: pods with `schedulerName: packing` go where most is
//! used already, and rather to nodes labelled `spot=yes`. All others are left to the cluster's own scheduler.
//!
//! Run it with `cargo run --example second_scheduler --features client,scheduler` and a kubeconfig for the cluster. Several
//! may run: they elect a leader by a Lease. What it decides it tells as events, as the cluster's own scheduler does.

use std::sync::Arc;

use longshore::client::RemoteClient;
use longshore::core::clock::{Clock, SystemClock};
use longshore::core::leader::LeaderConfig;
use longshore::core::scheduling::per_node;
use longshore::scheduler::policies::{NodeResourcesFit, Strategy};
use longshore::scheduler::{Options, Profile, Scheduler};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Arc::new(RemoteClient::new(kube::Client::try_default().await?));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Upstream's default profile with one policy set up otherwise, and one of our own.
    let profile = Profile::default_scheduler()
        .named("packing")
        .with(NodeResourcesFit::new(Strategy::most_allocated()))
        .with_weight(per_node::score("PreferSpot", |_, node| 100 * i64::from(node.label("spot") == Some("yes"))), 2);
    let identity = format!("packing-{}", std::process::id());
    let options = Options {
        profiles: vec![profile],
        leader: Some(LeaderConfig::new("kube-system", "packing-scheduler", &identity)),
        seed: u64::from(std::process::id()),
        ..Options::default()
    };
    let scheduler = Scheduler::new(client, clock, options)?;
    let cancel = CancellationToken::new();
    tokio::select! {
        () = scheduler.run(cancel.clone()) => {}
        _ = tokio::signal::ctrl_c() => cancel.cancel(),
    }
    Ok(())
}
