//! Pods on the bridge: their addresses, interfaces and records.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use longshore_core::network::{Attach, Attached, Error, HostPort};
use longshore_core::runtime::PodRef;
use serde::{Deserialize, Serialize};

use super::host::{Host, State};
use crate::netlink::{self, Pair, failed};
use crate::{disk, ranges};

/// The pod's interface in its own namespace.
const INNER: &str = "eth0";

/// What is kept of a pod, written before anything is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pod: PodRef,
    pub(crate) address: Ipv4Addr,
    /// Its interface on the node.
    pub(crate) interface: String,
    pub(crate) host_ports: Vec<HostPort>,
}

impl Record {
    pub(crate) fn attached(&self) -> Attached {
        Attached { pod: self.pod.clone(), addresses: vec![self.address.into()] }
    }
}

fn path(host: &Host, uid: &str) -> PathBuf {
    host.pods_directory().join(format!("{uid}.json"))
}

fn check(uid: &str) -> Result<(), Error> {
    let plain = (1..=253).contains(&uid.len())
        && uid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && !uid.starts_with('.');
    if plain { Ok(()) } else { Err(failed("attach a pod")(format!("{uid:?} is not a pod's uid"))) }
}

pub(super) fn attach(host: &Host, state: &mut State, request: &Attach) -> Result<Attached, Error> {
    let uid = &request.pod.uid;
    check(uid)?;
    let namespace = netlink::open_namespace(&request.network_namespace)?;
    if let Some(known) = state.pods.get(uid) {
        if known.host_ports == request.host_ports && is_connected(known, &namespace)? {
            return Ok(known.attached());
        }
        // Its sandbox was made anew, or its ports changed.
        detach(host, state, uid)?;
    }
    let (n, address) = free_address(host, state)?;
    let record = Record {
        pod: request.pod.clone(),
        address,
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

/// The next address that nobody has, after the one given last: one that was just freed is not given at once again, so that
/// nobody's late packets reach the wrong pod.
fn free_address(host: &Host, state: &State) -> Result<(u32, Ipv4Addr), Error> {
    let used: std::collections::BTreeSet<Ipv4Addr> = state.pods.values().map(|record| record.address).collect();
    let numbers = (state.next.max(2)..).map_while(|n| Some((n, ranges::nth(host.pods, n)?)));
    let again = (2..state.next).map_while(|n| Some((n, ranges::nth(host.pods, n)?)));
    numbers
        .chain(again)
        .find(|(_, address)| !used.contains(address))
        .ok_or_else(|| Error::NoAddress { range: host.pods.to_string(), used: used.len() })
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
            Ok(addresses.iter().any(|(index, net)| *index == inner.index && net.addr() == record.address))
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
            hardware: super::host::hardware(record.address),
        };
        netlink.add_pair(&pair).await
    })?;
    netlink::inside(namespace, || {
        // The node tells pods of "better" ways past it, which would break the way back from a Service.
        for interface in ["all", INNER] {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/accept_redirects");
            fs::write(&path, "0").map_err(failed(format!("write {path}")))?;
        }
        netlink::run(async |netlink| {
            netlink.set_up("lo").await?;
            let index = netlink.set_up(INNER).await?;
            netlink.add_address(index, record.address, 32).await?;
            netlink.add_link_route(index, host.gateway.into(), None).await?;
            netlink.add_route(ipnet::Ipv4Net::default(), host.gateway).await
        })
    })?;
    netlink::run(async |netlink| netlink.set_up(&record.interface).await.map(|_| ()))
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
pub(super) fn may_make_interfaces() -> Result<(), Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let remedy = "run it with sudo, or choose the host network".to_owned();
    Err(Error::Missing { what: "the right to make network interfaces (root)".to_owned(), remedy })
}
