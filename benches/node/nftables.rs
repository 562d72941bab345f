//! Services on one node: how long the bridge takes to make the rules of many of them, and to follow one endpoint that changes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use longshore_core::clock::{Clock, SystemClock};
use longshore_core::network::{Backend, Network, Protocol, ServicePort};

use crate::{Outcome, bare};

/// Endpoints of each Service.
pub(crate) const ENDPOINTS: u8 = 10;

/// What one table of Services cost.
pub(crate) struct Measured {
    /// To make all of it.
    pub(crate) set_up: Duration,
    /// To follow one endpoint, as often as it was asked.
    pub(crate) changes: Vec<Duration>,
}

/// Measures a table of so many Services.
pub(crate) async fn measure(size: u16, rounds: usize) -> Outcome<Measured> {
    let directory = tempfile::tempdir()?;
    let bridge = bare::bridge(directory.path(), "nftables", ["10.89.0.0/24", "10.98.0.0/16"]).await?;
    let clock = SystemClock::new();
    let mut services: Vec<ServicePort> = (0..size).map(service).collect();
    let start = clock.elapsed();
    bridge.set_services(&services).await?;
    let set_up = clock.elapsed() - start;
    let mut changes = Vec::new();
    for round in 0..rounds {
        let changed = &mut services[usize::from(size / 2)].backends[0].address;
        *changed = Ipv4Addr::new(10, 0, 0, u8::try_from(round % 200)?).into();
        let start = clock.elapsed();
        bridge.set_services(&services).await?;
        changes.push(clock.elapsed() - start);
    }
    bridge.clean_up().await?;
    Ok(Measured { set_up, changes })
}

/// The Service of a number; names are in the order of numbers.
fn service(n: u16) -> ServicePort {
    let [high, low] = n.to_be_bytes();
    let backend = |b: u8| {
        let address = IpAddr::from(Ipv4Addr::new(10, 1 + b, high, low));
        Backend { address, port: 8080, local: b == 0, fallback: false }
    };
    ServicePort {
        name: format!("default/service-{n:05}:http"),
        protocol: Protocol::Tcp,
        addresses: vec![Ipv4Addr::new(10, 98, high, low).into()],
        balancers: Vec::new(),
        balancer_sources: Vec::new(),
        port: 80,
        node_port: None,
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        backends: (1..=ENDPOINTS).map(backend).collect(),
    }
}
