//! The nodes of a cluster on this machine, and what they stand on: runtime, network, volumes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::network::{Network, Ranges};
use longshore_network::{Bridge, Cni, HostNetwork, NoNetwork, Options as BridgeOptions, cni};
use longshore_node::{NodeAgent, Options as NodeOptions};
use longshore_runtime_simulated::{Options as SimulatedOptions, SimulatedNetwork, SimulatedRuntime};
use nix::mount::{MntFlags, umount2};

use crate::control_plane::ControlPlane;
use crate::data_dir::{DataDir, Settings};
use crate::dns::{DnsOptions, Domain};
use crate::local::{NetworkKind, RuntimeKind};
use crate::offer::plugin_directory;
use crate::ranges::{parsed, per_node};
use crate::real::RealRuntime;
use crate::upkeep::Upkeep;
use crate::{Error, Offer, images};

/// What a node has whose pods only pretend.
const HOLLOW_CAPACITY: [(&str, &str); 4] =
    [("cpu", "32"), ("memory", "128Gi"), ("ephemeral-storage", "512Gi"), ("pods", "110")];

pub(crate) fn network_failed(error: longshore_core::network::Error) -> Error {
    Error::Part { part: "network", reason: error.to_string() }
}

/// Opens the network of a node with real pods, which puts right what a crash left half-made, and tells the agent of it. Answers
/// where pods reach their node, if they reach Services.
async fn network(
    directory: &DataDir,
    settings: &Settings,
    options: &mut NodeOptions,
) -> Result<(Arc<dyn Network>, Option<IpAddr>), Error> {
    let kind = settings.network.parse().map_err(|reason| Error::Part { part: "network", reason })?;
    let (instance, state) = (settings.instance.clone(), directory.join("network"));
    let families = parsed("serviceRange", &settings.service_range)?;
    let services: Vec<IpNet> = families.iter().collect();
    let mut bridge = None;
    if kind == NetworkKind::Bridge {
        let pods: Vec<IpNet> = parsed("podRange", &settings.pod_range)?.iter().collect();
        let (instance, state, services) = (instance.clone(), state.clone(), services.clone());
        options.pod_cidrs = pods.iter().map(ToString::to_string).collect();
        let opened = BridgeOptions { instance, state, cluster: pods.clone(), pods, services, mtu: None };
        bridge = Some(Bridge::open(opened).await.map_err(network_failed)?);
    }
    if options.addresses.is_empty() {
        let gateway = bridge.as_ref().map(Bridge::gateway);
        let own = own_address(families.primary().addr().is_ipv6());
        options.addresses = vec![own.or(gateway).unwrap_or(Ipv4Addr::LOCALHOST.into())];
    }
    // Of the other family, where the machine has one: pods of the node's network have it, and other nodes reach this one's pods by it.
    for v6 in families.iter().map(|range| range.addr().is_ipv6()) {
        if options.addresses.iter().all(|address| address.is_ipv6() != v6) {
            options.addresses.extend(own_address(v6).or_else(|| some_address(v6, &settings.pod_range)));
        }
    }
    let addresses = options.addresses.clone();
    Ok(match (kind, bridge) {
        (_, Some(bridge)) => {
            let gateway = bridge.gateway();
            (Arc::new(bridge), Some(gateway))
        }
        (NetworkKind::Host, None) => {
            (options.host_network, options.proxy) = (true, Some(false));
            (Arc::new(HostNetwork::new(addresses)), None)
        }
        (NetworkKind::None, None) => {
            options.proxy = Some(false);
            (Arc::new(NoNetwork::new()), None)
        }
        (NetworkKind::Cni | NetworkKind::Bridge, None) => {
            let cni = cni::Options {
                instance,
                state,
                configuration: settings.cni_configuration.clone().unwrap_or_else(|| cni::CONFIGURATION.into()),
                plugins: match settings.cni_plugins.as_slice() {
                    [] => cni::PLUGINS.iter().map(PathBuf::from).collect(),
                    plugins => plugins.to_vec(),
                },
                // Plugins know where pods' addresses come from, and tell nobody.
                cluster: Vec::new(),
                services,
            };
            // Pods reach the node at its own address.
            (Arc::new(Cni::open(cni).await.map_err(network_failed)?), addresses.first().copied())
        }
    })
}

/// Removes what connected a node's pods.
pub(crate) async fn purge_network(directory: &DataDir, settings: &Settings) -> Result<(), Error> {
    let (instance, records) = (&settings.instance, directory.join("network"));
    let purged = match settings.network.parse() {
        Ok(NetworkKind::Host | NetworkKind::None) => return Ok(()),
        Ok(NetworkKind::Cni) => Cni::purge(instance, records).await,
        Ok(NetworkKind::Bridge) | Err(_) => Bridge::purge(instance, records).await,
    };
    purged.map_err(network_failed)
}

fn node_directory(directory: &DataDir) -> PathBuf {
    directory.join("node")
}

/// What is chosen for the nodes of a cluster.
pub(crate) struct Choices<'a> {
    /// For their jitter.
    pub(crate) seed: u64,
    /// Whether the demonstration's image is to be made.
    pub(crate) demo: bool,
    /// How long a node may be silent; `None` for the usual time.
    pub(crate) lease: Option<Duration>,
    /// The cluster's DNS and its address, if there is one.
    pub(crate) dns: Option<(&'a DnsOptions, IpAddr)>,
    /// What nodes offer beyond what their machine tells.
    pub(crate) offer: &'a Offer,
    /// How nodes keep house.
    pub(crate) upkeep: &'a Upkeep,
}

/// Starts the agents of all nodes in the control plane's process, and says their names.
pub(crate) async fn start_nodes(
    control: &mut ControlPlane,
    directory: &DataDir,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    choices: Choices<'_>,
) -> Result<Vec<String>, Error> {
    let Choices { seed, demo, lease, dns, offer, upkeep } = choices;
    let heard_of = |mut options: NodeOptions| {
        if let Some(lease) = lease {
            (options.lease_duration, options.lease_interval) = (lease, lease / 4);
        }
        options
    };
    if settings.runtime != RuntimeKind::Simulated.as_str() {
        let name = host_name()?;
        let mut options = heard_of(NodeOptions::new(&name, node_directory(directory), seed));
        // Other nodes find this one where they find the API server.
        options.addresses = Some(called(settings.address).ip()).filter(|ip| !ip.is_loopback()).into_iter().collect();
        offer.apply(&mut options);
        upkeep.apply(&mut options)?;
        let agent = real(control.client("kubelet"), directory, settings, clock, options, dns, demo).await?;
        control.start_node(&name, agent);
        return Ok(vec![name]);
    }
    let pods = parsed("podRange", &settings.pod_range)?;
    let mut names = Vec::new();
    for (number, subnet) in (1..=settings.nodes).zip(per_node(&pods)) {
        let name = format!("node-{number}");
        let seed = seed.wrapping_add(u64::from(number));
        let mut options = heard_of(NodeOptions::new(&name, node_directory(directory).join(&name), seed));
        // So that claims are bound; there is nothing in a volume of theirs.
        options.provision = Some(true);
        offer.apply(&mut options);
        upkeep.apply(&mut options)?;
        if settings.nodes > 1 {
            options.device_plugin_dir = options.device_plugin_dir.map(|directory| directory.join(&name));
        }
        control.start_node(&name, hollow(control.client("kubelet"), subnet, clock, options));
        names.push(name);
    }
    Ok(names)
}

/// The agent of a node with real pods, at the options' addresses or this machine's own. Its pods find the cluster's names at
/// an address, if there is one.
pub(crate) async fn real(
    client: Arc<dyn Client>,
    directory: &DataDir,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    mut options: NodeOptions,
    dns: Option<(&DnsOptions, IpAddr)>,
    demo: bool,
) -> Result<NodeAgent, Error> {
    let Settings { runtime: kind, docker_host, instance, .. } = settings;
    let registries = directory.registries()?;
    let runtime = RealRuntime::open(directory, kind, docker_host.as_deref(), instance, registries).await?;
    if demo {
        images::make_demo(&runtime).await?;
    }
    let (network, node) = network(directory, settings, &mut options).await?;
    options.device_plugin_dir.get_or_insert_with(|| plugin_directory(&options.root_dir));
    options.cluster_domain.clone_from(&settings.cluster_domain);
    let Some(((dns, address), node)) = dns.zip(node) else {
        return Ok(NodeAgent::new(client, runtime.runtime(), network, clock.clone(), options));
    };
    let domain: Domain = settings.cluster_domain.parse().map_err(|reason| Error::Part { part: "DNS", reason })?;
    let server = dns.serve(domain, (node, address), clock, options.seed).await?;
    options.cluster_dns = vec![address];
    Ok(NodeAgent::new(client, runtime.runtime(), network, clock.clone(), options).with_dns(server))
}

/// The agent of a node whose pods only pretend, with addresses of `pods`.
pub(crate) fn hollow(
    client: Arc<dyn Client>,
    pods: Ranges,
    clock: &Arc<dyn Clock>,
    mut options: NodeOptions,
) -> NodeAgent {
    let runtime = SimulatedRuntime::new(clock.clone(), SimulatedOptions::default());
    let network = SimulatedNetwork::new(pods.clone());
    if options.addresses.is_empty() {
        options.addresses = network.node_addresses();
    }
    options.pod_cidrs = pods.iter().map(|range| range.to_string()).collect();
    let capacity = HOLLOW_CAPACITY.iter().filter_map(|(name, text)| Some(((*name).to_owned(), text.parse().ok()?)));
    options.capacity = capacity.chain(options.capacity).collect();
    NodeAgent::new(client, Arc::new(runtime), Arc::new(network), clock.clone(), options)
}

/// The addresses that an address stands for: itself, or all of this machine's if it stands for all.
pub(crate) fn addresses_of(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    });
    addresses.collect()
}

/// Where others call what listens at an address.
pub(crate) fn called(listen: SocketAddr) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    let some = || addresses_of(listen.ip()).into_iter().find(|address| address.is_ipv4() && !address.is_loopback());
    let own = own_address(false).or_else(some).unwrap_or([127, 0, 0, 1].into());
    SocketAddr::new(own, listen.port())
}

/// An address of a family that this machine has where others may be, outside of its pods' ranges.
fn some_address(v6: bool, pods: &str) -> Option<IpAddr> {
    let pods: Option<Ranges> = pods.parse().ok();
    let is_pods = |address: IpAddr| pods.iter().flat_map(Ranges::iter).any(|range| range.contains(&address));
    let is_near = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let any = if v6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let own = addresses_of(any).into_iter().filter(|address| address.is_ipv6() == v6 && !address.is_loopback());
    own.filter(|address| !is_near(*address)).find(|address| !is_pods(*address))
}

/// The address of a family by which this machine reaches others; `None` if it has no way to them.
fn own_address(v6: bool) -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing: it only asks for the route to an address kept for documentation.
    let (any, other) = if v6 { ("::", "2001:db8::1") } else { ("0.0.0.0", "198.51.100.1") };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

pub(crate) fn host_name() -> Result<String, Error> {
    let name = nix::unistd::gethostname()
        .map_err(|error| Error::Part { part: "node", reason: format!("this machine has no name: {error}") })?;
    // What a node's name may hold: upstream lowers the host's name as well.
    Ok(name.to_string_lossy().to_lowercase())
}

/// Takes away what pods' volumes left mounted below the node's directory, the innermost first.
pub(crate) fn unmount_volumes(directory: &DataDir) -> Result<(), Error> {
    let path = node_directory(directory);
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(Error::file("read", "/proc/self/mountinfo"))?;
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = targets.filter(|target| target.starts_with(&path)).collect();
    below.sort_unstable_by_key(|target| std::cmp::Reverse(target.as_os_str().len()));
    for target in below {
        umount2(&target, MntFlags::MNT_DETACH).map_err(|error| Error::file("unmount", &target)(error.into()))?;
    }
    Ok(())
}

/// The kernel writes blanks and backslashes of paths as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        assert_eq!(unescape("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescape("/plain"), PathBuf::from("/plain"));
    }
}
