//! Differences as the kernel takes them: after each, the table is the same as one made whole.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_core::network::{Backend, Protocol, ServicePort};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::{apply, desired, list, node, remove};

fn service(n: u8, random: &mut Pcg64) -> ServicePort {
    let backend =
        |b: u8| Backend { address: Ipv4Addr::new(10, 1, 0, b).into(), port: 80, local: b < 4, fallback: b == 3 };
    let mut backends: Vec<Backend> = (2..8).filter(|_| random.random_bool(0.4)).map(backend).collect();
    backends.truncate(random.random_range(0..5));
    ServicePort {
        name: format!("default/s{n}:web"),
        protocol: if n.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp },
        addresses: vec![Ipv4Addr::new(10, 96, 0, n).into(), Ipv4Addr::new(192, 0, 2, n).into()],
        balancers: vec![Ipv4Addr::new(198, 51, 100, n).into()],
        balancer_sources: if n < 4 { Vec::new() } else { vec!["192.0.2.0/25".parse().unwrap()] },
        port: 80,
        node_port: random.random_bool(0.5).then_some(30_000 + u16::from(n)),
        affinity_seconds: random.random_bool(0.3).then(|| random.random_range(1..4)),
        internal_local: random.random_bool(0.2),
        external_local: random.random_bool(0.2),
        backends,
    }
}

#[test]
fn differences_lead_where_the_whole_would() {
    if !nix::unistd::geteuid().is_root() {
        return longshore_core::testing::skip("changing nftables rules needs root");
    }
    on_own_network(|| {
        let node = node();
        let mut random = Pcg64::seed_from_u64(3);
        let mut current = desired(&node, [], &[]);
        apply(&current.whole("ip by-steps")).unwrap();
        for step in 0..30 {
            let services: Vec<ServicePort> = (1..7)
                .filter(|_| random.random_bool(0.7))
                .collect::<Vec<u8>>()
                .into_iter()
                .map(|n| service(n, &mut random))
                .collect();
            let next = desired(&node, [], &services);
            let commands = current.difference(&next, "ip by-steps");
            if !commands.is_empty() {
                apply(&commands).unwrap_or_else(|error| panic!("step {step}: {error}\n{commands}"));
            }
            apply(&next.whole("ip as-whole")).unwrap();
            for table in ["ip by-steps", "ip as-whole"] {
                assert!(next.matches(&list(table).unwrap().unwrap()), "step {step}: {table}");
            }
            assert_eq!(blocks("ip by-steps"), blocks("ip as-whole"), "step {step}");
            current = next;
        }
        remove("by-steps").unwrap();
        remove("by-steps").unwrap();
        assert_eq!(list("ip by-steps").unwrap(), None);
    });
}

/// A kernel that looks into a map while a transaction replaces it may find nothing there: about one update in seventy
/// refused a connection before the rules had a way out.
#[test]
fn connections_are_taken_while_backends_change() {
    if !nix::unistd::geteuid().is_root() {
        return longshore_core::testing::skip("changing nftables rules needs root");
    }
    on_own_network(|| {
        let backends = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3)];
        ip("link set lo up");
        ip("address add 192.0.2.1/32 dev lo");
        ip("route add 10.96.0.0/16 dev lo src 192.0.2.1");
        backends.iter().for_each(|address| ip(&format!("address add {address}/32 dev lo")));
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let (port, done) = (listener.local_addr().unwrap().port(), AtomicBool::new(false));
        let rules = |backends: &[Ipv4Addr]| {
            let backend =
                |address: &Ipv4Addr| Backend { address: (*address).into(), port, local: true, fallback: false };
            let service = ServicePort {
                name: "default/web:http".into(),
                protocol: Protocol::Tcp,
                addresses: vec![Ipv4Addr::new(10, 96, 0, 1).into()],
                balancers: Vec::new(),
                balancer_sources: Vec::new(),
                port: 80,
                node_port: None,
                affinity_seconds: None,
                internal_local: false,
                external_local: false,
                backends: backends.iter().map(backend).collect(),
            };
            desired(&node(), [], &[service])
        };
        let (one, other) = (rules(&backends), rules(&[backends[1], backends[0]]));
        apply(&one.whole("ip changing")).unwrap();
        let (taken, refused) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(listener.accept());
                }
            });
            let client = scope.spawn(|| {
                let (mut taken, mut refused) = (0, Vec::new());
                while !done.load(Ordering::Relaxed) {
                    match connect_and_reset(SocketAddr::from(([10, 96, 0, 1], 80))) {
                        Ok(()) => taken += 1,
                        Err(error) => refused.push(error.to_string()),
                    }
                }
                // The listener waits for one more before it sees that all is done.
                drop(TcpStream::connect((backends[0], port)));
                (taken, refused)
            });
            let changed = (0..75).try_for_each(|_| {
                apply(&one.difference(&other, "ip changing"))?;
                apply(&other.difference(&one, "ip changing"))
            });
            done.store(true, Ordering::Relaxed);
            changed.unwrap();
            client.join().unwrap()
        });
        assert_eq!(refused, Vec::<String>::new(), "beside {taken} that were taken");
        assert!(taken > 0);
    });
}

/// A connection that leaves nothing waiting behind: the client has few ports, and makes thousands.
fn connect_and_reset(address: SocketAddr) -> std::io::Result<()> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &at_once)?;
    Ok(())
}

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs a test in a network namespace that goes with it.
fn on_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What a table holds: rules in their order, elements in any, since the kernel keeps none.
fn blocks(table: &str) -> BTreeMap<String, Vec<String>> {
    let output = super::command().args(["list", "table", table]).output().unwrap();
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut head = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines().map(str::trim) {
        if ["chain ", "map ", "set "].iter().any(|word| line.starts_with(word)) {
            head = line.to_owned();
            blocks.insert(head.clone(), Vec::new());
        } else if let Some(block) = blocks.get_mut(&head) {
            if head.starts_with("chain") {
                block.push(line.to_owned());
            } else {
                let elements = line.trim_start_matches("elements = {").trim_end_matches('}').split(',');
                block.extend(elements.map(|element| element.trim().to_owned()).filter(|element| !element.is_empty()));
                block.sort_unstable();
            }
        }
    }
    blocks.values_mut().for_each(|lines| lines.retain(|line| !matches!(line.as_str(), "" | "}")));
    blocks
}
