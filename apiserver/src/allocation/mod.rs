//! Addresses and node ports of services.
//!
//! Each one that is given away is a key of its own, which names the service. It is put in the same commit as the service, on
//! the condition that it is absent, and deleted in the commit in which the service lets go of it. So nothing can be given twice,
//! however many API servers give, and there is nothing to repair: no crash comes between a service and its keys. The price is a
//! key for each address and port, which is less than the service itself.

mod carry;
mod families;
#[cfg(test)]
mod family_tests;
mod range;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use longshore_core::api::Service;
use longshore_core::api::service::{CLUSTER_IP_NONE, ServiceExternalTrafficPolicy, ServiceType};
use longshore_core::client::Error;
use longshore_core::kind::Described;
use longshore_core::store::{ListOptions, Store, Transaction};
use longshore_core::validation::{self, Path};
use serde_json::json;

use crate::registry::Random;
use crate::status;

pub(crate) use carry::prepare;
pub use range::{AddressRange, ParseRangeError, ParseServiceRangesError, PortRange, ServiceRanges};

const ADDRESSES: &str = "/longshore/addresses/";
const NODE_PORTS: &str = "/longshore/node-ports/";

/// How many numbers are tried at random before all that are taken are read.
const PROBES: usize = 8;

/// How many keys are read at once.
const PAGE: usize = 1000;

/// Gives addresses and node ports to services.
#[derive(Debug)]
pub(crate) struct Allocator {
    store: Arc<dyn Store>,
    addresses: ServiceRanges,
    ports: PortRange,
}

/// Numbers that are given away, each under a key.
struct Pool<'a> {
    /// Numbers from 0 up to this.
    size: u64,
    /// Numbers below this are left to users who choose for themselves, as long as there are others.
    band: u64,
    prefix: &'static str,
    name: &'a (dyn Fn(u64) -> String + Send + Sync),
}

impl Allocator {
    pub(crate) fn new(store: Arc<dyn Store>, addresses: ServiceRanges, ports: PortRange) -> Self {
        Self { store, addresses, ports }
    }

    /// The first address of the primary range.
    pub(crate) fn first(&self) -> IpAddr {
        self.addresses.primary().at(1)
    }

    /// Gives `new` what it lacks. What it gets is free now; whether it still is then, the commit says.
    ///
    /// # Errors
    /// 422 if the service chose what it cannot have; 500 if nothing is left.
    pub(crate) async fn give(&self, old: Option<&Service>, new: &mut Service, random: &Random) -> Result<(), Error> {
        let before = old.map(held).unwrap_or_default();
        families::complete(new, old, &self.addresses)?;
        self.give_addresses(new, &before, random).await?;
        self.give_ports(new, &before, random).await
    }

    async fn give_addresses(
        &self,
        service: &mut Service,
        before: &BTreeSet<String>,
        random: &Random,
    ) -> Result<(), Error> {
        if !has_addresses(service) {
            return Ok(());
        }
        // What has no family beside it was checked when families were completed: its own is the family then.
        let wanted = service.spec.ip_families.len();
        service.spec.cluster_ips.resize(wanted.max(service.spec.cluster_ips.len()), String::new());
        for index in 0..service.spec.cluster_ips.len() {
            let chosen = service.spec.cluster_ips[index].clone();
            let family = service.spec.ip_families.get(index).map_or("", String::as_str);
            let Some(range) = self.addresses.of_family(family) else { continue };
            if chosen.is_empty() {
                service.spec.cluster_ips[index] = self.next_address(range, random).await?;
                continue;
            }
            let refuse = |why: String| {
                let detail = format!("failed to allocate IP {chosen}: {why}");
                invalid(service, &Path::new("spec").child("clusterIPs"), json!(service.spec.cluster_ips), detail)
            };
            let address = chosen.parse::<IpAddr>().map_err(|error| refuse(error.to_string()))?;
            if before.contains(&address_key(address)) {
                continue;
            }
            if range.place(address).is_none() {
                return Err(refuse(format!(
                    "the provided IP ({chosen}) is not in the valid range. The range of valid IPs is {range}"
                )));
            }
            if self.is_taken(&address_key(address)).await? {
                return Err(refuse("provided IP is already allocated".to_owned()));
            }
        }
        service.spec.cluster_ip = service.spec.cluster_ips.first().cloned().unwrap_or_default();
        Ok(())
    }

    async fn next_address(&self, range: AddressRange, random: &Random) -> Result<String, Error> {
        let size = range.size();
        let name = |number| range.at(number + 1).to_string();
        let pool = Pool { size, band: band(size, 16, 256), prefix: ADDRESSES, name: &name };
        let number = self.pick(&pool, &BTreeSet::new(), random).await?;
        let number = number.ok_or_else(|| status::internal("failed to allocate a serviceIP: range is full"))?;
        Ok(name(number))
    }

    async fn give_ports(&self, service: &mut Service, before: &BTreeSet<String>, random: &Random) -> Result<(), Error> {
        // Known already, or given in this call.
        let mut given = before.clone();
        if has_node_ports(service) {
            let allocates = service.spec.type_ != ServiceType::LoadBalancer
                || service.spec.allocate_load_balancer_node_ports != Some(false);
            for index in 0..service.spec.ports.len() {
                let port = &service.spec.ports[index];
                if port.node_port != 0 {
                    let path = Path::new("spec").child("ports").index(index).child("nodePort");
                    let chosen = port.node_port;
                    self.take_port(chosen, &mut given)
                        .await?
                        .map_err(|why| invalid(service, &path, json!(chosen), why))?;
                } else if allocates {
                    // The same port in another protocol is the same on the node too.
                    let twin = |other: &&longshore_core::api::service::ServicePort| {
                        other.port == port.port && other.protocol != port.protocol && other.node_port != 0
                    };
                    let number = match service.spec.ports.iter().find(twin) {
                        Some(twin) => twin.node_port,
                        None => self.next_port("nodePort", &mut given, random).await?,
                    };
                    service.spec.ports[index].node_port = number;
                }
            }
        }
        if !needs_health_check(service) {
            return Ok(());
        }
        let chosen = service.spec.health_check_node_port;
        if chosen == 0 {
            service.spec.health_check_node_port = self.next_port("HealthCheck NodePort", &mut given, random).await?;
        } else if let Err(why) = self.take_port(chosen, &mut given).await? {
            return Err(status::internal(format!("failed to allocate requested HealthCheck NodePort {chosen}: {why}")));
        }
        Ok(())
    }

    /// Whether a port can be had; if not, why.
    async fn take_port(&self, port: i32, given: &mut BTreeSet<String>) -> Result<Result<(), String>, Error> {
        let key = port_key(port);
        if given.contains(&key) {
            return Ok(Ok(()));
        }
        if !self.ports.contains(port) {
            let why = "provided port is not in the valid range. The range of valid ports is";
            return Ok(Err(format!("{why} {}", self.ports)));
        }
        if self.is_taken(&key).await? {
            return Ok(Err("provided port is already allocated".to_owned()));
        }
        given.insert(key);
        Ok(Ok(()))
    }

    async fn next_port(&self, what: &str, given: &mut BTreeSet<String>, random: &Random) -> Result<i32, Error> {
        let size = self.ports.size();
        let name = |offset| self.ports.at(offset).to_string();
        let pool = Pool { size, band: band(size, 32, 128), prefix: NODE_PORTS, name: &name };
        let offset = self.pick(&pool, given, random).await?;
        let full = || status::internal(format!("failed to allocate a {what}: range is full"));
        let port = self.ports.at(offset.ok_or_else(full)?);
        given.insert(port_key(port));
        Ok(port)
    }

    /// A number that is free now: at random, so that two servers seldom want the same. The commit has the last word.
    async fn pick(&self, pool: &Pool<'_>, avoid: &BTreeSet<String>, random: &Random) -> Result<Option<u64>, Error> {
        let key = |number: u64| format!("{}{}", pool.prefix, (pool.name)(number));
        if pool.size > pool.band {
            for _ in 0..PROBES {
                let number = pool.band + random.below(pool.size - pool.band);
                let key = key(number);
                if !avoid.contains(&key) && !self.is_taken(&key).await? {
                    return Ok(Some(number));
                }
            }
        }
        let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
        let mut taken = BTreeSet::new();
        loop {
            let page = self.store.list(pool.prefix, options.clone()).await;
            let page = page.map_err(|error| status::from_store(error, "read what services have"))?;
            taken.extend(page.entries.into_iter().map(|entry| entry.key));
            if !page.more {
                break;
            }
            // Of whatever revision: the commit has the last word.
            options.after = taken.last().cloned();
        }
        let free = |number: &u64| {
            let key = key(*number);
            !avoid.contains(&key) && !taken.contains(&key)
        };
        Ok((pool.band..pool.size).find(free).or_else(|| (0..pool.band.min(pool.size)).find(free)))
    }

    async fn is_taken(&self, key: &str) -> Result<bool, Error> {
        let read = self.store.get(key).await.map_err(|error| status::from_store(error, "read what services have"))?;
        Ok(read.value.is_some())
    }
}

/// What has to be committed with `new` (`None`: with the removal of the old service), so that what it has is its own, and what
/// it no longer has is free.
pub(crate) fn exchange(old: Option<&Service>, new: Option<&Service>) -> Transaction {
    let (before, after) = (old.map(held).unwrap_or_default(), new.map(held).unwrap_or_default());
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let owner = new.map(|new| format!("{}/{}", text(&new.metadata.namespace), text(&new.metadata.name)));
    let mut transaction = Transaction::new();
    for key in after.difference(&before) {
        transaction = transaction.expect(key, 0).put(key, owner.clone().unwrap_or_default());
    }
    for key in before.difference(&after) {
        transaction = transaction.delete(key);
    }
    transaction
}

/// The part of a range, at its start, that is given only when the rest is gone: a `step`th, within bounds.
fn band(size: u64, step: u64, most: u64) -> u64 {
    const LEAST: u64 = 16;
    if size < LEAST { 0 } else { (size / step).clamp(LEAST, most) }
}

fn address_key(address: IpAddr) -> String {
    format!("{ADDRESSES}{address}")
}

fn port_key(port: i32) -> String {
    format!("{NODE_PORTS}{port}")
}

/// The keys of everything that a stored service has.
fn held(service: &Service) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    if has_addresses(service) {
        held.extend(service.spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).map(address_key));
    }
    if has_node_ports(service) {
        held.extend(service.spec.ports.iter().map(|port| port.node_port).filter(|port| *port != 0).map(port_key));
    }
    if needs_health_check(service) && service.spec.health_check_node_port != 0 {
        held.insert(port_key(service.spec.health_check_node_port));
    }
    held
}

fn is_external_name(service: &Service) -> bool {
    service.spec.type_ == ServiceType::ExternalName
}

fn is_headless(service: &Service) -> bool {
    service.spec.cluster_ip == CLUSTER_IP_NONE
        || service.spec.cluster_ips.first().is_some_and(|ip| ip == CLUSTER_IP_NONE)
}

/// Whether the service has addresses of its own.
fn has_addresses(service: &Service) -> bool {
    !is_external_name(service) && !is_headless(service)
}

fn has_node_ports(service: &Service) -> bool {
    matches!(service.spec.type_, ServiceType::NodePort | ServiceType::LoadBalancer)
}

/// Whether load balancers must be told which nodes have pods of the service.
fn needs_health_check(service: &Service) -> bool {
    service.spec.type_ == ServiceType::LoadBalancer
        && service.spec.external_traffic_policy == ServiceExternalTrafficPolicy::Local
}

fn invalid(service: &Service, path: &Path, value: serde_json::Value, detail: String) -> Error {
    let errors = vec![validation::Error::invalid(path, value, detail)];
    status::invalid(&Service::INFO, service.metadata.name.as_deref().unwrap_or_default(), &errors)
}
