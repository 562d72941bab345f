//! What a bridge makes on the host; everything here may block.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use longshore_core::network::{Error, Peer, Policy, ServicePort};

use super::Options;
use super::pods::{self, Record};
use crate::family::{Family, has_ipv6};
use crate::names::Names;
use crate::netlink::{self, Link, Netlink, failed};
use crate::nft::{self, Node, Table, Way};
use crate::{disk, docker, ranges};

/// What does not change while a bridge is open.
#[derive(Debug)]
pub(super) struct Host {
    options: Options,
    pub(super) names: Names,
    /// One for each family that pods have, the primary first.
    pub(super) stacks: Vec<Stack>,
}

/// The addresses of one family.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) family: Family,
    pub(super) pods: IpNet,
    pub(super) gateway: IpAddr,
    services: Vec<IpNet>,
}

impl Stack {
    /// Path of an interface's kernel parameter.
    pub(super) fn parameter(&self, interface: &str, name: &str) -> String {
        let version = if self.family == Family::V4 { "ipv4" } else { "ipv6" };
        format!("/proc/sys/net/{version}/conf/{interface}/{name}")
    }
}

/// A range of a peer's pods and the gateway to it.
type Route = (IpNet, IpAddr);

/// What does.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By uid.
    pub(super) pods: BTreeMap<String, Record>,
    services: Arc<Vec<ServicePort>>,
    policies: Arc<Vec<Policy>>,
    /// Routes to peers' pods.
    routes: Vec<Route>,
    /// `None` before they were told: an earlier process may have had others.
    peers: Option<Vec<Peer>>,
    /// What the kernel has, as far as we know.
    applied: Option<Table>,
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
        let mut stacks: Vec<Stack> = Vec::new();
        for pods in &options.pods {
            let (pods, family) = (pods.trunc(), Family::of(pods.addr()));
            if stacks.iter().any(|stack| stack.family == family) {
                return Err(unusable("pods have two ranges of one family"));
            }
            let gateway = ranges::nth(pods, 1).filter(|_| family.bits() - pods.prefix_len() >= 3);
            let gateway = gateway.ok_or_else(|| unusable("the pods' range has less than eight addresses"))?;
            stacks.push(Stack { family, pods, gateway, services: family.ranges(&options.services) });
        }
        if stacks.is_empty() {
            return Err(unusable("pods have no range"));
        }
        if stacks.iter().any(|stack| stack.family == Family::V6) {
            has_ipv6()?;
        }
        pods::may_make_interfaces()?;
        Ok(Self { names: Names::new(&options.instance), stacks, options })
    }

    pub(super) fn gateway(&self) -> IpAddr {
        self.stacks[0].gateway
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
        self.forward()?;
        let bridge = &self.names.bridge;
        nft::keep_apart(&self.names, hardware(self.gateway()))?;
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
        let addresses = netlink.addresses().await?.into_iter().map(|(index, net)| (Some(index), net));
        let routes = netlink.routes().await?.into_iter().map(|route| (route.interface, route.destination));
        for (interface, taken) in addresses.chain(routes) {
            let mut mine = self.stacks.iter().flat_map(|stack| std::iter::once(&stack.pods).chain(&stack.services));
            let clash = mine.find(|range| ranges::overlap(range, &taken));
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
            netlink.add_bridge(bridge, hardware(self.gateway()), mtu).await?;
        }
        for stack in self.stacks.iter().filter(|stack| stack.family == Family::V6) {
            set(&stack.parameter(bridge, "disable_ipv6"), "0")?;
        }
        let index = netlink.set_up(bridge).await?;
        netlink.set_alias(index, mark).await?;
        for stack in &self.stacks {
            netlink.add_address(index, stack.gateway, stack.pods.prefix_len()).await?;
            // So that Services have a way, also where there is no default route; and others see that the range is taken.
            for range in &stack.services {
                netlink.add_link_route(index, *range, Some(stack.gateway)).await?;
            }
        }
        Ok(())
    }

    /// Makes the kernel pass on what comes from the bridge and goes to it.
    fn forward(&self) -> Result<(), Error> {
        let bridge = &self.names.bridge;
        for stack in &self.stacks {
            match stack.family {
                Family::V4 => {
                    set("/proc/sys/net/ipv4/ip_forward", "1")?;
                    // Node ports answer at 127.0.0.1, too; the rules keep pods from it.
                    set(&stack.parameter(bridge, "route_localnet"), "1")?;
                    set(&stack.parameter(bridge, "forwarding"), "1")?;
                    set(&stack.parameter(bridge, "send_redirects"), "0")?;
                }
                Family::V6 => forward_v6(stack)?,
            }
        }
        Ok(())
    }

    fn desired(&self, state: &State) -> Table {
        let mut table = Table::new(&self.names.mark);
        for stack in &self.stacks {
            let peers = state.routes.iter().map(|(range, _)| *range);
            let told = self.options.cluster.iter().copied().chain([stack.pods]).chain(peers);
            let node = Node {
                family: stack.family,
                way: Way::Bridge { interface: self.names.bridge.clone(), pods: stack.pods },
                cluster: stack.family.ranges(&told.collect::<Vec<_>>()),
                services: stack.services.clone(),
            };
            table.add(node, &pods::ports(state), &state.services, &state.policies);
        }
        table
    }

    /// Brings the kernel's rules to what they should be, in one transaction.
    pub(super) fn apply(&self, state: &mut State) -> Result<(), Error> {
        self.desired(state).replace(&mut state.applied)
    }

    pub(super) fn set_services(&self, state: &mut State, services: Vec<ServicePort>) -> Result<(), Error> {
        if services == *state.services {
            return Ok(());
        }
        let before = std::mem::replace(&mut state.services, Arc::new(services));
        if let Err(error) = self.apply(state) {
            state.services = before;
            return Err(error);
        }
        disk::write_parts(&self.file("services"), &before, &state.services, |service| &service.name)
            .map_err(failed("record the services"))
    }

    pub(super) fn set_policies(&self, state: &mut State, policies: Vec<Policy>) -> Result<(), Error> {
        if policies == *state.policies {
            return Ok(());
        }
        let before = std::mem::replace(&mut state.policies, Arc::new(policies));
        if let Err(error) = self.apply(state) {
            state.policies = before;
            return Err(error);
        }
        disk::write(&self.file("policies.json"), &*state.policies).map_err(failed("record the policies"))
    }

    pub(super) fn set_peers(&self, state: &mut State, peers: Vec<Peer>) -> Result<(), Error> {
        if state.peers.as_ref() == Some(&peers) {
            return Ok(());
        }
        let mut wanted = Vec::new();
        for peer in &peers {
            let ranges = Family::of(peer.address).ranges(&peer.pods);
            wanted.extend(ranges.into_iter().map(|range| (range, peer.address)));
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
        disk::write(&self.file("routes.json"), routes).map_err(failed("record the routes to other nodes"))
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
        self.forward()?;
        nft::keep_apart(&self.names, hardware(self.gateway()))?;
        let complete = match &state.applied {
            Some(applied) => applied.is_complete()?,
            None => false,
        };
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
    let routes: Option<Vec<Route>> = disk::read(&directory.join("routes.json")).map_err(failed("read the routes"))?;
    Ok(routes.unwrap_or_default())
}

impl State {
    /// What an earlier process has recorded.
    pub(super) fn read(host: &Host) -> Result<Self, Error> {
        let pods: BTreeMap<String, Record> =
            pods::read(host)?.into_iter().map(|record| (record.pod.uid.clone(), record)).collect();
        let first = |record: &Record| ranges::place(host.stacks[0].pods, *record.addresses.first()?);
        let last = pods.values().filter_map(first);
        let mut services: Vec<ServicePort> =
            disk::read_parts(&host.file("services")).map_err(failed("read the services"))?;
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let policies = disk::read(&host.file("policies.json")).map_err(failed("read the policies"))?;
        Ok(Self {
            next: last.max().map_or(2, |last| last.saturating_add(1)),
            pods,
            services: Arc::new(services),
            policies: Arc::new(policies.unwrap_or_default()),
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
pub(super) fn set(path: &str, value: &str) -> Result<(), Error> {
    if fs::read_to_string(path).is_ok_and(|found| found.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(failed(format!("write {value} to {path}")))
}

/// Makes the kernel pass on IPv6. A kernel that does so takes no more advertisements of routers, and may lose its own way out,
/// except from interfaces that are told to take them all the same.
fn forward_v6(stack: &Stack) -> Result<(), Error> {
    let all = stack.parameter("all", "forwarding");
    if fs::read_to_string(&all).is_ok_and(|found| found.trim() == "1") {
        return Ok(());
    }
    let interfaces = fs::read_dir("/proc/sys/net/ipv6/conf").map_err(failed("list interfaces that speak IPv6"))?;
    for interface in interfaces.flatten() {
        let path = stack.parameter(&interface.file_name().to_string_lossy(), "accept_ra");
        if fs::read_to_string(&path).is_ok_and(|found| found.trim() == "1") {
            set(&path, "2")?;
        }
    }
    set(&all, "1")
}

/// A hardware address that follows from an IP address, so that an address given again still leads to whom it should.
pub(super) fn hardware(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    [0x0a, 0x58, a, b, c, d]
}
