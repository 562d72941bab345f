//! Pods on the bridge: their addresses, interfaces and records.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;

use longshore_core::network::{Attach, Attached, Error, HostPort};
use longshore_core::runtime::PodRef;
use serde::{Deserialize, Serialize};

use super::host::{Host, State};
use crate::family::Family;
use crate::netlink::{self, Pair, failed};
use crate::nft::PodPorts;
use crate::{disk, ranges};

/// The pod's interface in its own namespace.
const INNER: &str = "eth0";

/// What is kept of a pod, written before anything is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pod: PodRef,
    /// One for each of the node's ranges, in their order.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its interface on the node.
    pub(crate) interface: String,
    pub(crate) host_ports: Vec<HostPort>,
}

impl Record {
    pub(crate) fn attached(&self) -> Attached {
        Attached { pod: self.pod.clone(), addresses: self.addresses.clone() }
    }
}

fn path(host: &Host, uid: &str) -> PathBuf {
    host.pods_directory().join(format!("{uid}.json"))
}

pub(crate) fn check_uid(uid: &str) -> Result<(), Error> {
    let plain = (1..=253).contains(&uid.len())
        && uid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && !uid.starts_with('.');
    if plain { Ok(()) } else { Err(failed("attach a pod")(format!("{uid:?} is not a pod's uid"))) }
}

pub(super) fn attach(host: &Host, state: &mut State, request: &Attach) -> Result<Attached, Error> {
    let uid = &request.pod.uid;
    check_uid(uid)?;
    let namespace = netlink::open_namespace(&request.network_namespace)?;
    if let Some(known) = state.pods.get(uid) {
        let complete = known.host_ports == request.host_ports && known.addresses.len() == host.stacks.len();
        if complete && is_connected(known, &namespace)? {
            return Ok(known.attached());
        }
        // Its sandbox was made anew, or its ports changed.
        detach(host, state, uid)?;
    }
    let (n, addresses) = free_addresses(host, state)?;
    let record = Record {
        pod: request.pod.clone(),
        addresses,
        interface: host.names.pod(n),
        host_ports: request.host_ports.clone(),
    };
    disk::write(&path(host, uid), &record).map_err(failed(format!("record pod {}", request.pod)))?;
    state.next = n + 1;
    state.pods.insert(uid.clone(), record.clone());
    let made = connect(host, &record, &namespace).and_then(|()| host.apply(state));
    if let Err(error) = made {
        // The first error is the one to tell; what cannot be removed now is found again when the network is opened.
        let _ = detach(host, state, uid);
        return Err(error);
    }
    Ok(record.attached())
}

pub(super) fn detach(host: &Host, state: &mut State, uid: &str) -> Result<(), Error> {
    let Some(record) = state.pods.remove(uid) else { return Ok(()) };
    let removed = host
        .apply(state)
        .and_then(|()| remove_interface(&record.interface))
        .and_then(|()| disk::remove(&path(host, uid)).map_err(failed(format!("forget pod {}", record.pod))));
    if removed.is_err() {
        // It still has its address.
        state.pods.insert(uid.to_owned(), record);
    }
    removed
}

fn remove_interface(name: &str) -> Result<(), Error> {
    netlink::run(async |netlink| netlink.delete_link(name).await)
}

/// The next addresses that nobody has, after those given last: one that was just freed is not given at once again, so that
/// nobody's late packets reach the wrong pod.
fn free_addresses(host: &Host, state: &State) -> Result<(u32, Vec<IpAddr>), Error> {
    let used: BTreeSet<IpAddr> = state.pods.values().flat_map(|record| record.addresses.iter().copied()).collect();
    let of = |n| host.stacks.iter().map(|stack| ranges::nth(stack.pods, n)).collect::<Option<Vec<IpAddr>>>();
    let numbers = (state.next.max(2)..).map_while(|n| Some((n, of(n)?)));
    let again = (2..state.next).map_while(|n| Some((n, of(n)?)));
    numbers.chain(again).find(|(_, addresses)| !addresses.iter().any(|address| used.contains(address))).ok_or_else(
        || {
            let ranges: Vec<String> = host.stacks.iter().map(|stack| stack.pods.to_string()).collect();
            Error::NoAddress { range: ranges.join(", "), used: state.pods.len() }
        },
    )
}

/// Whether a pod's interface is there, complete, with its other end in this namespace.
fn is_connected(record: &Record, namespace: &File) -> Result<bool, Error> {
    let outer = netlink::run(async |netlink| netlink.link(&record.interface).await)?;
    // It is brought up last.
    if !outer.is_some_and(|link| link.up) {
        return Ok(false);
    }
    netlink::inside(namespace, || {
        netlink::run(async |netlink| {
            let Some(inner) = netlink.link(INNER).await? else { return Ok(false) };
            let addresses = netlink.addresses().await?;
            Ok(record
                .addresses
                .iter()
                .all(|own| addresses.iter().any(|(index, net)| *index == inner.index && net.addr() == *own)))
        })
    })
}

fn connect(host: &Host, record: &Record, namespace: &File) -> Result<(), Error> {
    let operation = format!("connect pod {}", record.pod);
    netlink::run(async |netlink| {
        // What a crash left half-made.
        netlink.delete_link(&record.interface).await?;
        let bridge = netlink.link(&host.names.bridge).await?;
        let bridge = bridge.ok_or_else(|| failed(operation.as_str())("the bridge is gone"))?;
        let pair = Pair {
            name: &record.interface,
            alias: &host.names.mark,
            bridge: bridge.index,
            mtu: bridge.mtu,
            namespace,
            inner: INNER,
            hardware: super::host::hardware(record.addresses.first().copied().unwrap_or(host.gateway())),
        };
        netlink.add_pair(&pair).await
    })?;
    netlink::inside(namespace, || {
        for stack in &host.stacks {
            // The node tells pods of "better" ways past it, which would break the way back from a Service.
            let mut settings = vec![("all", "accept_redirects", "0"), (INNER, "accept_redirects", "0")];
            if stack.family == Family::V6 {
                settings.extend([("all", "disable_ipv6", "0"), (INNER, "accept_ra", "0")]);
            }
            for (interface, name, value) in settings {
                super::host::set(&stack.parameter(interface, name), value)?;
            }
        }
        netlink::run(async |netlink| {
            netlink.set_up("lo").await?;
            let index = netlink.set_up(INNER).await?;
            for (stack, address) in host.stacks.iter().zip(&record.addresses) {
                netlink.add_address(index, *address, stack.family.bits()).await?;
                netlink.add_link_route(index, stack.gateway.into(), None).await?;
                netlink.add_route(stack.family.everything(), stack.gateway).await?;
            }
            Ok(())
        })
    })?;
    netlink::run(async |netlink| netlink.set_up(&record.interface).await.map(|_| ()))
}

/// Every address of a pod, with the ports of the node that lead there.
pub(super) fn ports(state: &State) -> Vec<PodPorts<'_>> {
    let mut ports = Vec::new();
    for record in state.pods.values() {
        ports.extend(
            record.addresses.iter().map(|address| PodPorts { address: *address, host_ports: &record.host_ports }),
        );
    }
    ports
}

/// Reads every record.
pub(super) fn read(host: &Host) -> Result<Vec<Record>, Error> {
    let read = || disk::records(&host.pods_directory())?.iter().map(|path| disk::read(path)).collect();
    let records: std::io::Result<Vec<Option<Record>>> = read();
    Ok(records.map_err(failed("read the records of pods"))?.into_iter().flatten().collect())
}

/// Forgets a pod whose interface is gone: its address is free.
pub(super) fn forget(host: &Host, uid: &str) -> Result<(), Error> {
    disk::remove(&path(host, uid)).map_err(failed(format!("forget pod {uid}")))
}

/// Whether this process may make interfaces.
pub(crate) fn may_make_interfaces() -> Result<(), Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let remedy = "run it with sudo, or choose the host network".to_owned();
    Err(Error::Missing { what: "the right to make network interfaces (root)".to_owned(), remedy })
}
