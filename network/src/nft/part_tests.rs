//! What is worked out of a part is what would be worked out of the whole, after any sequence of changes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_core::network::{Allowed, Backend, HostPort, Others, PortRange};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::family::Family;
use crate::nft::node;

/// Few addresses and ports, so that many things meet.
fn pod(random: &mut Pcg64) -> IpAddr {
    match random.random_range(0..8) {
        0 => "fd00::2".parse().unwrap(),
        n => Ipv4Addr::new(10, 1, 0, n).into(),
    }
}

fn some<T>(random: &mut Pcg64, most: usize, one: impl Fn(&mut Pcg64) -> T) -> Vec<T> {
    (0..random.random_range(0..=most)).map(|_| one(random)).collect()
}

fn protocol(random: &mut Pcg64) -> Protocol {
    if random.random_bool(0.7) { Protocol::Tcp } else { Protocol::Udp }
}

fn service(name: String, random: &mut Pcg64) -> ServicePort {
    let address =
        |network: u8| move |random: &mut Pcg64| Ipv4Addr::new(network, 96, 0, random.random_range(1..9)).into();
    let backend = |random: &mut Pcg64| Backend {
        address: pod(random),
        port: 80,
        local: random.random(),
        fallback: random.random_bool(0.2),
    };
    let mut addresses = some(random, 1, address(10));
    addresses.extend(some(random, 2, address(192)));
    addresses.extend(random.random_bool(0.2).then(|| IpAddr::from([0xfd01, 0, 0, 0, 0, 0, 0, 1])));
    ServicePort {
        name,
        protocol: protocol(random),
        addresses,
        balancers: some(random, 1, address(198)),
        balancer_sources: some(random, 1, |_| "192.0.2.0/25".parse().unwrap()),
        port: random.random_range(80..82),
        node_port: random.random_bool(0.5).then(|| random.random_range(30_000..30_003)),
        affinity_seconds: random.random_bool(0.3).then(|| random.random_range(1..3)),
        internal_local: random.random_bool(0.2),
        external_local: random.random_bool(0.2),
        backends: some(random, 4, backend),
    }
}

fn policy(name: String, random: &mut Pcg64) -> Policy {
    let allowed = |random: &mut Pcg64| Allowed {
        pods: random.random_bool(0.3).then(|| some(random, 2, pod)),
        others: random.random_bool(0.7).then(|| Others { pods: some(random, 3, pod), blocks: Vec::new() }),
        ports: random.random_bool(0.3).then(|| vec![PortRange { protocol: protocol(random), first: 80, last: 90 }]),
    };
    let direction = |random: &mut Pcg64| random.random_bool(0.6).then(|| some(random, 2, allowed));
    Policy { name, pods: some(random, 3, pod), ingress: direction(random), egress: direction(random) }
}

/// Removes, adds and replaces a few of twelve.
fn change<T: Clone>(
    of: &mut BTreeMap<String, T>,
    random: &mut Pcg64,
    one: impl Fn(String, &mut Pcg64) -> T,
) -> Arc<Vec<T>> {
    for _ in 0..random.random_range(0..3) {
        let name = format!("ns/{:02}", random.random_range(0..12));
        if random.random_bool(0.3) {
            of.remove(&name);
        } else {
            of.insert(name.clone(), one(name, random));
        }
    }
    Arc::new(of.values().cloned().collect())
}

#[test]
fn a_part_is_as_good_as_the_whole() {
    let mut random = Pcg64::seed_from_u64(5);
    let (mut services, mut policies) = (BTreeMap::new(), BTreeMap::new());
    let mut node = node();
    let mut old: Option<Contents> = None;
    let mut smaller = 0;
    for step in 0..3000 {
        if random.random_bool(0.02) {
            node.cluster = vec![format!("10.{}.0.0/16", random.random_range(1..4)).parse().unwrap()];
        }
        if random.random_bool(0.02) {
            node.services =
                vec![format!("{}.96.0.0/16", [10, 192][usize::from(random.random::<bool>())]).parse().unwrap()];
        }
        let host_port = |random: &mut Pcg64| HostPort {
            protocol: protocol(random),
            host_ip: None,
            host_port: 8080 + u16::from(random.random::<bool>()),
            container_port: 80,
        };
        let new = Contents {
            node: node.clone(),
            pods: some(&mut random, 2, |random| (pod(random), some(random, 1, host_port))),
            services: change(&mut services, &mut random, service),
            policies: change(&mut policies, &mut random, policy),
        };
        if let Some(old) = &old {
            let whole = old.rules(&Part::Whole).difference(&new.rules(&Part::Whole), "ip t");
            assert_eq!(new.changes(old, "ip t"), whole, "step {step}\n{old:?}\n{new:?}");
            let part = new.rules(&Part::differing(old, &new));
            smaller += usize::from(part.chains.len() < new.rules(&Part::Whole).chains.len());
        }
        old = Some(new);
    }
    assert!(smaller > 2500, "{smaller} of 3000 changes were about a part");
}

#[test]
fn what_did_not_change_is_not_worked_out() {
    let mut random = Pcg64::seed_from_u64(6);
    let service = |n: u8, backends: Vec<Backend>| ServicePort {
        addresses: vec![Ipv4Addr::new(10, 96, 1, n).into()],
        balancers: Vec::new(),
        node_port: None,
        backends,
        ..service(format!("ns/{n:02}"), &mut Pcg64::seed_from_u64(u64::from(n)))
    };
    let backend = Backend { address: pod(&mut random), port: 80, local: true, fallback: false };
    let mut services: Vec<ServicePort> = (0..20).map(|n| service(n, vec![backend])).collect();
    let contents = |services: &[ServicePort]| Contents {
        node: node(),
        pods: Vec::new(),
        services: Arc::new(services.to_vec()),
        policies: Arc::default(),
    };
    let old = contents(&services);
    services[7].backends[0].port = 81;
    let new = contents(&services);
    let part = Part::differing(&old, &new);
    let found: Vec<&str> =
        services.iter().filter(|service| part.has_service(service)).map(|s| s.name.as_str()).collect();
    assert_eq!(found, ["ns/07"]);
    assert!(node().family == Family::V4 && !part.has_pod(backend.address));
}
