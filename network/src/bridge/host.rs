//! What a bridge makes on the host; everything here may block.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use longshore_core::network::{Error, Peer, ServicePort};

use super::Options;
use super::names::Names;
use super::pods::{self, Record};
use crate::netlink::{self, Link, Netlink, failed};
use crate::nft::{self, Node, PodPorts, Ruleset};
use crate::{disk, docker, ranges};

/// What does not change while a bridge is open.
#[derive(Debug)]
pub(super) struct Host {
    options: Options,
    pub(super) names: Names,
    pub(super) pods: Ipv4Net,
    services: Vec<Ipv4Net>,
    pub(super) gateway: Ipv4Addr,
}

/// A range of a peer's pods and the gateway to it.
type Route = (Ipv4Net, Ipv4Addr);

/// What does.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By uid.
    pub(super) pods: BTreeMap<String, Record>,
    services: Vec<ServicePort>,
    /// Routes to peers' pods.
    routes: Vec<Route>,
    /// `None` before they were told: an earlier process may have had others.
    peers: Option<Vec<Peer>>,
    /// What the kernel has, as far as we know.
    applied: Option<Ruleset>,
    /// Number of the address to try next.
    pub(super) next: u32,
    /// Nothing is left of this instance, and nothing is to be put back.
    removed: bool,
}

impl Host {
    pub(super) fn new(options: Options) -> Result<Self, Error> {
        let unusable = |reason: &str| failed(format!("open the network of {}", options.instance))(reason.to_owned());
        let plain = (1..=100).contains(&options.instance.len())
            && options.instance.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if !plain {
            return Err(unusable("its name must be of letters, digits, '-' and '.'"));
        }
        let IpNet::V4(pods) = options.pods else {
            return Err(unusable("only IPv4 ranges are supported for pods"));
        };
        let pods = pods.trunc();
        let gateway = ranges::nth(pods, 1).filter(|_| pods.prefix_len() <= 29);
        let gateway = gateway.ok_or_else(|| unusable("the pods' range is smaller than /29"))?;
        pods::may_make_interfaces()?;
        Ok(Self {
            names: Names::new(&options.instance),
            services: ranges::v4(&options.services),
            pods,
            gateway,
            options,
        })
    }

    pub(super) fn pods_directory(&self) -> PathBuf {
        self.options.state.join("pods")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.options.state.join(name)
    }

    /// Makes everything that is not there.
    pub(super) fn set_up(&self, state: &mut State) -> Result<(), Error> {
        let directory = self.pods_directory();
        fs::create_dir_all(&directory).map_err(failed(format!("create {}", directory.display())))?;
        // From here on somebody who finds the directory knows whose things may be on the host.
        disk::write(&self.file("instance.json"), &self.options.instance).map_err(failed("record the network"))?;
        let links = netlink::run(async |netlink| {
            self.check_ranges(&netlink).await?;
            self.bridge(&netlink).await?;
            netlink.links().await
        })?;
        self.forget_lost(state, &links)?;
        set("/proc/sys/net/ipv4/ip_forward", "1")?;
        let bridge = &self.names.bridge;
        // Node ports answer at 127.0.0.1, too; the rules keep pods from it.
        set(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet"), "1")?;
        set(&format!("/proc/sys/net/ipv4/conf/{bridge}/forwarding"), "1")?;
        set(&format!("/proc/sys/net/ipv4/conf/{bridge}/send_redirects"), "0")?;
        state.applied = None;
        self.apply(state)?;
        self.routes(&state.routes)?;
        docker::allow(bridge, &self.names.mark)
    }

    /// Forgets pods whose interface is gone, and removes interfaces whose pod is.
    fn forget_lost(&self, state: &mut State, links: &[Link]) -> Result<(), Error> {
        let lost: Vec<String> = state
            .pods
            .iter()
            .filter(|(_, record)| !links.iter().any(|link| link.name == record.interface && link.up))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &lost {
            state.pods.remove(uid);
        }
        let known = |name: &str| state.pods.values().any(|record| record.interface == name);
        let unknown: Vec<String> =
            own(&self.names, links).filter(|name| !known(name) && *name != self.names.bridge).collect();
        remove_links(&unknown)?;
        // The record goes last: as long as it is there, the interface may be.
        lost.iter().try_for_each(|uid| pods::forget(self, uid))
    }

    async fn check_ranges(&self, netlink: &Netlink) -> Result<(), Error> {
        let own = netlink.link(&self.names.bridge).await?.map(|link| link.index);
        let addresses = netlink.addresses().await?.into_iter().map(|(index, net)| (Some(index), IpNet::from(net)));
        let routes = netlink.routes().await?.into_iter().map(|route| (route.interface, route.destination));
        for (interface, taken) in addresses.chain(routes) {
            let mine = std::iter::once(&self.pods).chain(&self.services);
            let clash = mine.copied().map(IpNet::from).find(|range| ranges::overlap(range, &taken));
            if let Some(range) = clash.filter(|_| interface.is_none() || interface != own) {
                let reason = format!("{range} overlaps {taken}, which this machine uses: choose another range");
                return Err(failed(format!("open the network of {}", self.options.instance))(reason));
            }
        }
        Ok(())
    }

    async fn bridge(&self, netlink: &Netlink) -> Result<(), Error> {
        let Names { bridge, mark, .. } = &self.names;
        let found = netlink.link(bridge).await?;
        if let Some(other) = found.as_ref().filter(|link| !link.alias.is_empty() && link.alias != *mark) {
            let reason = format!("an interface of this name belongs to {}", other.alias);
            return Err(failed(format!("make bridge {bridge}"))(reason));
        }
        if found.is_none() {
            let mtu = match self.options.mtu {
                Some(mtu) => mtu,
                None => netlink.default_mtu().await?.unwrap_or(1500),
            };
            netlink.add_bridge(bridge, hardware(self.gateway), mtu).await?;
        }
        let index = netlink.set_up(bridge).await?;
        netlink.set_alias(index, mark).await?;
        netlink.add_address(index, self.gateway, self.pods.prefix_len()).await?;
        // So that Services have a way, also where there is no default route; and others see that the range is taken.
        for range in &self.services {
            netlink.add_link_route(index, *range, Some(self.gateway)).await?;
        }
        Ok(())
    }

    fn desired(&self, state: &State) -> Ruleset {
        let peers = state.routes.iter().map(|(range, _)| *range);
        let cluster = ranges::v4(&self.options.cluster).into_iter().chain([self.pods]).chain(peers).collect();
        let node =
            Node { bridge: self.names.bridge.clone(), pods: self.pods, cluster, services: self.services.clone() };
        let pods =
            state.pods.values().map(|record| PodPorts { address: record.address, host_ports: &record.host_ports });
        nft::desired(&node, pods, &state.services)
    }

    /// Brings the kernel's rules to what they should be, in one transaction.
    pub(super) fn apply(&self, state: &mut State) -> Result<(), Error> {
        let (desired, table) = (self.desired(state), &self.names.mark);
        let changed = match &state.applied {
            Some(applied) => {
                let commands = applied.difference(&desired, table);
                if commands.is_empty() {
                    return Ok(());
                }
                nft::apply(&commands).is_ok()
            }
            None => false,
        };
        if !changed {
            // Nothing is known of the table, or it is not what we think.
            nft::apply(&desired.whole(table))?;
        }
        state.applied = Some(desired);
        Ok(())
    }

    pub(super) fn set_services(&self, state: &mut State, services: Vec<ServicePort>) -> Result<(), Error> {
        if services == state.services {
            return Ok(());
        }
        let before = std::mem::replace(&mut state.services, services);
        if let Err(error) = self.apply(state) {
            state.services = before;
            return Err(error);
        }
        disk::write(&self.file("services.json"), &state.services).map_err(failed("record the services"))
    }

    pub(super) fn set_peers(&self, state: &mut State, peers: Vec<Peer>) -> Result<(), Error> {
        if state.peers.as_ref() == Some(&peers) {
            return Ok(());
        }
        let mut wanted = Vec::new();
        for peer in &peers {
            if let IpAddr::V4(gateway) = peer.address {
                wanted.extend(ranges::v4(&peer.pods).into_iter().map(|range| (range, gateway)));
            }
        }
        let gone: Vec<Route> = state.routes.iter().filter(|route| !wanted.contains(route)).copied().collect();
        state.routes = wanted.iter().chain(&gone).copied().collect();
        self.record_routes(&state.routes)?;
        remove_routes(&gone)?;
        self.routes(&wanted)?;
        state.routes = wanted;
        self.apply(state)?;
        self.record_routes(&state.routes)?;
        state.peers = Some(peers);
        Ok(())
    }

    fn record_routes(&self, routes: &[Route]) -> Result<(), Error> {
        let texts: Vec<(String, Ipv4Addr)> =
            routes.iter().map(|(range, gateway)| (range.to_string(), *gateway)).collect();
        disk::write(&self.file("routes.json"), &texts).map_err(failed("record the routes to other nodes"))
    }

    fn routes(&self, routes: &[Route]) -> Result<(), Error> {
        if routes.is_empty() {
            return Ok(());
        }
        netlink::run(async |netlink| {
            for (range, gateway) in routes {
                netlink.add_route(*range, *gateway).await?;
            }
            Ok(())
        })
    }

    pub(super) fn repair(&self, state: &mut State) -> Result<(), Error> {
        if state.removed {
            return Ok(());
        }
        let bridge = netlink::run(async |netlink| netlink.link(&self.names.bridge).await)?;
        if !bridge.is_some_and(|link| link.up) {
            return self.set_up(state);
        }
        set("/proc/sys/net/ipv4/ip_forward", "1")?;
        let listing = nft::list(&self.names.mark)?;
        let complete = listing.is_some_and(|listing| state.applied.as_ref().is_some_and(|a| a.matches(&listing)));
        if !complete {
            state.applied = None;
            self.apply(state)?;
        }
        self.routes(&state.routes)?;
        docker::allow(&self.names.bridge, &self.names.mark)
    }

    pub(super) fn clean_up(&self, state: &mut State) -> Result<(), Error> {
        purge(&self.options.instance, &self.options.state)?;
        *state = State { removed: true, ..State::default() };
        Ok(())
    }
}

/// Removes whatever is on the host under an instance's names, last its records.
pub(super) fn purge(instance: &str, directory: &Path) -> Result<(), Error> {
    pods::may_make_interfaces()?;
    let names = Names::new(instance);
    remove_routes(&read_routes(directory)?)?;
    docker::disallow(&names.bridge, &names.mark)?;
    let links = netlink::run(async |netlink| netlink.links().await)?;
    let own: Vec<String> = own(&names, &links).collect();
    remove_links(&own)?;
    match nft::remove(&names.mark) {
        // Without the program nobody has made a table.
        Ok(()) | Err(Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(format!("remove {}", directory.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Interfaces of an instance. Between being made and being marked one has only its name.
fn own<'a>(names: &'a Names, links: &'a [Link]) -> impl Iterator<Item = String> + 'a {
    let own =
        |link: &&Link| link.alias == names.mark || (link.alias.is_empty() && link.name.starts_with(&names.prefix));
    links.iter().filter(own).map(|link| link.name.clone())
}

fn read_routes(directory: &Path) -> Result<Vec<Route>, Error> {
    let routes: Option<Vec<(String, Ipv4Addr)>> =
        disk::read(&directory.join("routes.json")).map_err(failed("read the routes"))?;
    let route = |(range, gateway): (String, Ipv4Addr)| Some((range.parse().ok()?, gateway));
    Ok(routes.unwrap_or_default().into_iter().filter_map(route).collect())
}

impl State {
    /// What an earlier process has recorded.
    pub(super) fn read(host: &Host) -> Result<Self, Error> {
        let pods: BTreeMap<String, Record> =
            pods::read(host)?.into_iter().map(|record| (record.pod.uid.clone(), record)).collect();
        let last = pods.values().map(|record| u32::from(record.address) - u32::from(host.pods.network()));
        Ok(Self {
            next: last.max().map_or(2, |last| last + 1),
            pods,
            services: disk::read(&host.file("services.json")).map_err(failed("read the services"))?.unwrap_or_default(),
            routes: read_routes(&host.options.state)?,
            ..Self::default()
        })
    }
}

fn remove_links(names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    netlink::run(async |netlink| {
        for name in names {
            netlink.delete_link(name).await?;
        }
        Ok(())
    })
}

fn remove_routes(routes: &[Route]) -> Result<(), Error> {
    if routes.is_empty() {
        return Ok(());
    }
    netlink::run(async |netlink| {
        for (range, gateway) in routes {
            netlink.delete_route(*range, *gateway).await?;
        }
        Ok(())
    })
}

/// Sets a kernel parameter, unless it is set: where it may not be written it may well be right.
fn set(path: &str, value: &str) -> Result<(), Error> {
    if fs::read_to_string(path).is_ok_and(|found| found.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(failed(format!("write {value} to {path}")))
}

/// A hardware address that follows from an IP address, so that an address given again still leads to whom it should.
pub(super) fn hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}
