//! The kernel's links, addresses and routes, by rtnetlink. Everything here blocks and is for threads that may.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use ipnet::IpNet;
use longshore_core::network::Error;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// An error of this crate's: what was tried and what happened.
pub(crate) fn failed<E: Display>(operation: impl Into<String>) -> impl FnOnce(E) -> Error {
    let operation = operation.into();
    move |error| Error::Failed { operation, reason: error.to_string() }
}

/// As [`failed`], with the kernel's reason alone.
fn refused(operation: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let operation = operation.into();
    move |error| match error {
        rtnetlink::Error::NetlinkError(message) => failed(operation)(message.to_io()),
        error => failed(operation)(error),
    }
}

fn errno(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => -message.raw_code(),
        _ => 0,
    }
}

/// Talks to the kernel about the calling thread's network namespace.
pub(crate) fn run<T>(work: impl AsyncFnOnce(Netlink) -> Result<T, Error>) -> Result<T, Error> {
    let unusable = |error: io::Error| failed("talk to the kernel by netlink")(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(unusable)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(unusable)?;
        // The connection does its part only while it is awaited, too.
        tokio::select! {
            done = work(Netlink(handle)) => done,
            () = connection => Err(unusable(io::ErrorKind::ConnectionReset.into())),
        }
    })
}

/// Does something on a thread that has entered a network namespace; the caller's stays as it is.
pub(crate) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(failed("enter a network namespace"))?;
            work()
        });
        entered.join().unwrap_or_else(|_| Err(failed("work in a network namespace")("its thread panicked")))
    })
}

/// A network interface.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// A note that stays with the interface: whose it is.
    pub(crate) alias: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Link { index: message.header.index, name: String::new(), alias: String::new(), up, mtu: 0 };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                _ => {}
            }
        }
        link
    }
}

/// A route of the main tables.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) interface: Option<u32>,
}

/// One end of a veth pair for a pod, and the other.
#[derive(Debug, Clone)]
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    /// The pod's network namespace, its interface's name there and hardware address.
    pub(crate) namespace: &'a File,
    pub(crate) inner: &'a str,
    pub(crate) hardware: [u8; 6],
}

#[derive(Clone)]
pub(crate) struct Netlink(Handle);

impl Netlink {
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        match self.0.link().get().match_name(name).execute().try_next().await {
            Ok(link) => Ok(link.map(Link::from)),
            Err(error) if errno(&error) == libc::ENODEV => Ok(None),
            Err(error) => Err(refused(format!("look up interface {name}"))(error)),
        }
    }

    pub(crate) async fn links(&self) -> Result<Vec<Link>, Error> {
        self.0.link().get().execute().map_ok(Link::from).try_collect().await.map_err(refused("list interfaces"))
    }

    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.0.link().del(link.index).execute().await {
            Err(error) if errno(&error) != libc::ENODEV => Err(refused(format!("remove interface {name}"))(error)),
            _ => Ok(()),
        }
    }

    pub(crate) async fn add_bridge(&self, name: &str, hardware: [u8; 6], mtu: u32) -> Result<(), Error> {
        // With an address of its own: else it takes one of its ports' and changes it with them.
        let message = LinkBridge::new(name).address(hardware.to_vec()).mtu(mtu).build();
        self.0.link().add(message).execute().await.map_err(refused(format!("make bridge {name}")))
    }

    /// Makes a veth pair, one end on the bridge. It is not up yet.
    pub(crate) async fn add_pair(&self, pair: &Pair<'_>) -> Result<(), Error> {
        let failed = |error| refused(format!("make interface {}", pair.name))(error);
        let peer = rtnetlink::LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.inner)
            .mtu(pair.mtu)
            .address(pair.hardware.to_vec())
            .setns_by_fd(pair.namespace.as_raw_fd())
            .build();
        let message = LinkVeth::new(pair.name, pair.inner)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .mtu(pair.mtu)
            .controller(pair.bridge)
            .build();
        self.0.link().add(message).execute().await.map_err(failed)?;
        let made = self.link(pair.name).await?.ok_or_else(|| failed(rtnetlink::Error::RequestFailed))?;
        self.set_alias(made.index, pair.alias).await?;
        // A pod reaches itself through its Service.
        let port = LinkBridgePort::new(made.index).hairpin(true).build();
        self.0.link().set_port(port).execute().await.map_err(failed)
    }

    pub(crate) async fn set_alias(&self, index: u32, alias: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index).alias(alias).build();
        self.0.link().set(message).execute().await.map_err(refused(format!("mark interface {index} as {alias}")))
    }

    pub(crate) async fn set_up(&self, name: &str) -> Result<u32, Error> {
        let failed = |error| refused(format!("bring up interface {name}"))(error);
        let link = self.link(name).await?.ok_or_else(|| failed(rtnetlink::Error::RequestFailed))?;
        let message = LinkUnspec::new_with_index(link.index).up().build();
        self.0.link().set(message).execute().await.map_err(failed)?;
        Ok(link.index)
    }

    pub(crate) async fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Error> {
        let mut request = self.0.address().add(index, address, prefix).replace();
        if address.is_ipv6() {
            // Addresses are given once: nobody needs to look for a second owner, which takes a second.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(refused(format!("give address {address}/{prefix} to interface {index}")))
    }

    /// All addresses and the interfaces that have them.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, Error> {
        let messages: Vec<_> =
            self.0.address().get().execute().try_collect().await.map_err(refused("list addresses"))?;
        let address = |message: rtnetlink::packet_route::address::AddressMessage| {
            let (index, prefix) = (message.header.index, message.header.prefix_len);
            message.attributes.into_iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address @ IpAddr::V4(_))
                | AddressAttribute::Address(address @ IpAddr::V6(_)) => {
                    Some((index, IpNet::new(address, prefix).ok()?))
                }
                _ => None,
            })
        };
        Ok(messages.into_iter().filter_map(address).collect())
    }

    /// The routes that are no default routes.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut messages = Vec::new();
        for mut filter in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            filter.header.table = 0;
            let found: Vec<_> =
                self.0.route().get(filter).execute().try_collect().await.map_err(refused("list routes"))?;
            messages.extend(found);
        }
        let route = |message: rtnetlink::packet_route::route::RouteMessage| {
            let mut interface = None;
            let mut destination: Option<IpAddr> = None;
            for attribute in &message.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = Some((*address).into()),
                    RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = Some((*address).into()),
                    RouteAttribute::Oif(index) => interface = Some(*index),
                    _ => {}
                }
            }
            let destination = IpNet::new(destination?, message.header.destination_prefix_length).ok()?;
            (destination.prefix_len() > 0).then_some(Route { destination, interface })
        };
        Ok(messages.into_iter().filter_map(route).collect())
    }

    /// The largest packet of the interface that the default route goes through.
    pub(crate) async fn default_mtu(&self) -> Result<Option<u32>, Error> {
        let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages: Vec<_> =
            self.0.route().get(filter).execute().try_collect().await.map_err(refused("list routes"))?;
        let default = messages.iter().filter(|message| message.header.destination_prefix_length == 0);
        let interface = default.flat_map(|message| &message.attributes).find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let links = self.links().await?;
        Ok(links.into_iter().find(|link| Some(link.index) == interface).map(|link| link.mtu))
    }

    /// Adds or replaces a route through an interface, to what is directly on it.
    pub(crate) async fn add_link_route(&self, index: u32, to: IpNet, source: Option<IpAddr>) -> Result<(), Error> {
        let operation = format!("add the route to {to} on interface {index}");
        let mut route = destination(to, &operation)?.output_interface(index).scope(match to {
            IpNet::V4(_) => RouteScope::Link,
            // IPv6 knows no other.
            IpNet::V6(_) => RouteScope::Universe,
        });
        if let Some(source) = source {
            route = route.pref_source(source).map_err(failed(operation.as_str()))?;
        }
        self.0.route().add(route.build()).replace().execute().await.map_err(refused(operation))
    }

    /// Adds or replaces a route by way of a gateway of the same family.
    pub(crate) async fn add_route(&self, to: IpNet, gateway: IpAddr) -> Result<(), Error> {
        let operation = format!("add the route to {to} via {gateway}");
        let route = destination(to, &operation)?.gateway(gateway).map_err(failed(operation.as_str()))?.build();
        self.0.route().add(route).replace().execute().await.map_err(refused(operation))
    }

    pub(crate) async fn delete_route(&self, to: IpNet, gateway: IpAddr) -> Result<(), Error> {
        let operation = format!("remove the route to {to}");
        let mut route = destination(to, &operation)?.gateway(gateway).map_err(failed(operation.as_str()))?.build();
        route.header.scope = RouteScope::NoWhere;
        match self.0.route().del(route).execute().await {
            Err(error) if errno(&error) != libc::ESRCH => Err(refused(operation)(error)),
            _ => Ok(()),
        }
    }
}

fn destination(to: IpNet, operation: &str) -> Result<RouteMessageBuilder<IpAddr>, Error> {
    RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.addr(), to.prefix_len()).map_err(failed(operation))
}

/// Brings up a network namespace's loopback.
pub(crate) fn loopback(namespace: &Path) -> Result<(), Error> {
    let namespace = open_namespace(namespace)?;
    inside(&namespace, || run(async |netlink| netlink.set_up("lo").await.map(drop)))
}

/// Opens a network namespace.
pub(crate) fn open_namespace(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(failed(format!("open network namespace {}", path.display())))
}
