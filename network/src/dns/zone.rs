//! The cluster's names, and what they stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use longshore_core::network::Protocol;

use super::options::PodNames;

/// The version of the specification that the names follow.
const SCHEMA_VERSION: &str = "1.1.0";
/// How long that may be remembered, in seconds: as the specification's example has it.
const SCHEMA_TTL: u32 = 28_800;

/// What a Service's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What kind of Service it is.
    pub kind: ServiceKind,
    /// Its ready endpoints, each once, in any order.
    pub endpoints: Vec<Endpoint>,
}

/// Kinds of Services that differ in their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// The name stands for the Service's own addresses.
    Cluster {
        /// Cluster IPs.
        addresses: Vec<IpAddr>,
        /// Ports of the Service.
        ports: Vec<Port>,
    },
    /// The name stands for the endpoints.
    Headless,
    /// The name stands for another name.
    External {
        /// The other name.
        name: String,
    },
}

/// An address behind a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Its host name below the Service's name; without one the address makes the name, with `-` for `.` and `:`.
    pub hostname: Option<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A port of a Service or an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Name; empty for the only port of a Service.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Number.
    pub number: u16,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one lives for a moment, and a box would cost more than the copy")]
pub enum Found {
    /// These records, of the type that was asked for.
    Records {
        /// Answers.
        answers: Vec<Record>,
        /// Addresses of the names in the answers.
        additionals: Vec<Record>,
    },
    /// What another name stands for.
    Alias {
        /// The record that says so.
        cname: Record,
        /// The other name.
        target: Name,
    },
    /// There is the name, but nothing of this type.
    NoData,
    /// There is no such name.
    NoName,
    /// The name may be one of the cluster's, whose state is not known yet.
    Unready,
    /// The name is not one of the cluster's.
    Elsewhere,
}

/// A Service and the names that follow from it.
#[derive(Debug)]
struct Entry {
    service: Service,
    name: Name,
    /// The endpoints' names, in their order.
    endpoints: Vec<Name>,
    /// Places of the endpoints by the first label of their names.
    hosts: BTreeMap<String, Vec<usize>>,
}

/// One address that a question leads to, and the ports there.
struct Hit<'a> {
    name: &'a Name,
    address: IpAddr,
    ports: &'a [Port],
}

/// All names of a cluster. Changed Service by Service, so that a change costs what it touches.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    ttl: u32,
    pod_names: PodNames,
    /// Addresses at which the zone is served.
    servers: Vec<IpAddr>,
    ready: bool,
    /// Counts changes.
    serial: u32,
    /// By namespace and name.
    services: BTreeMap<String, BTreeMap<String, Entry>>,
    namespaces: BTreeSet<String>,
    /// Services that have an address, or an endpoint of a name at it.
    reverse: BTreeMap<IpAddr, BTreeSet<(String, String)>>,
    /// How many pods of a namespace have an address.
    pods: BTreeMap<(IpAddr, String), usize>,
}

impl Zone {
    /// The empty zone of a domain, not ready. Answers may be remembered for `ttl` seconds.
    pub fn new(origin: Name, ttl: u32, pod_names: PodNames, servers: Vec<IpAddr>) -> Self {
        let mut origin = origin.to_lowercase();
        origin.set_fqdn(true);
        Self {
            origin,
            ttl,
            pod_names,
            servers,
            ready: false,
            serial: 1,
            services: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            reverse: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    /// The domain.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// From now on a name that is not known does not exist.
    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Adds, replaces or removes a Service.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let entry = service.and_then(|service| Entry::new(&self.origin, namespace, name, service));
        let of_namespace = self.services.entry(namespace.to_owned()).or_default();
        let old = match entry {
            Some(entry) => {
                for address in entry.reverse() {
                    let known = self.reverse.entry(address).or_default();
                    known.insert((namespace.to_owned(), name.to_owned()));
                }
                of_namespace.insert(name.to_owned(), entry)
            }
            None => of_namespace.remove(name),
        };
        let kept: BTreeSet<IpAddr> = of_namespace.get(name).into_iter().flat_map(Entry::reverse).collect();
        if of_namespace.is_empty() {
            self.services.remove(namespace);
        }
        for address in old.iter().flat_map(Entry::reverse).filter(|address| !kept.contains(address)) {
            if let Some(known) = self.reverse.get_mut(&address) {
                known.remove(&(namespace.to_owned(), name.to_owned()));
                if known.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
        self.serial = self.serial.wrapping_add(1);
    }

    /// Says whether there is a namespace.
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        if exists {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
        self.serial = self.serial.wrapping_add(1);
    }

    /// One pod more has this address.
    pub fn add_pod(&mut self, namespace: &str, address: IpAddr) {
        *self.pods.entry((address, namespace.to_owned())).or_default() += 1;
    }

    /// One pod less has this address.
    pub fn remove_pod(&mut self, namespace: &str, address: IpAddr) {
        let key = (address, namespace.to_owned());
        match self.pods.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.pods.remove(&key)),
        }
    }

    /// Who is responsible for the zone, and for how long it may be remembered that a name is not there.
    pub fn soa(&self) -> Record {
        let below = |label: &str| self.below(&[label]).unwrap_or_else(|| self.origin.clone());
        let server = self.below(&["ns", "dns"]).unwrap_or_else(|| self.origin.clone());
        let soa = SOA::new(server, below("hostmaster"), self.serial, 7200, 1800, 86400, self.ttl);
        Record::from_rdata(self.origin.clone(), self.ttl, RData::SOA(soa))
    }

    /// What a name stands for.
    pub fn look_up(&self, name: &Name, kind: RecordType) -> Found {
        if !self.origin.zone_of(name) {
            return self.backwards(name, kind);
        }
        if !self.ready {
            return Found::Unready;
        }
        let count = usize::from(name.num_labels() - self.origin.num_labels());
        let mut labels = Vec::with_capacity(count);
        for label in name.iter().take(count) {
            // No name of Kubernetes' has any other byte.
            let Ok(text) = std::str::from_utf8(label) else { return Found::NoName };
            labels.push(text.to_ascii_lowercase());
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => self.apex(name, kind),
            ["dns-version"] if kind == RecordType::TXT => {
                let data = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
                records(vec![Record::from_rdata(name.clone(), SCHEMA_TTL, data)])
            }
            ["dns-version" | "dns" | "svc"] => Found::NoData,
            ["ns", "dns"] => records(self.addresses(name, kind, self.servers.iter().copied())),
            ["pod"] if self.pod_names != PodNames::Disabled => Found::NoData,
            [namespace, "svc"] if self.has_namespace(namespace) => Found::NoData,
            [namespace, "pod"] if self.pod_names != PodNames::Disabled && self.has_namespace(namespace) => {
                Found::NoData
            }
            [pod, namespace, "pod"] => self.pod(name, kind, pod, namespace),
            [parts @ .., service, namespace, "svc"] => {
                match self.services.get(*namespace).and_then(|services| services.get(*service)) {
                    Some(entry) => self.service(name, kind, entry, parts),
                    None => Found::NoName,
                }
            }
            _ => Found::NoName,
        }
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name) || self.services.contains_key(name)
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        below(&self.origin, labels)
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    fn addresses(&self, name: &Name, kind: RecordType, addresses: impl Iterator<Item = IpAddr>) -> Vec<Record> {
        let data = addresses.filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
            (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
            _ => None,
        });
        data.map(|data| self.record(name, data)).collect()
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Found {
        let Some(server) = self.below(&["ns", "dns"]) else { return Found::NoData };
        match kind {
            RecordType::SOA => records(vec![self.record(name, self.soa().data)]),
            RecordType::NS => Found::Records {
                additionals: both(|kind| self.addresses(&server, kind, self.servers.iter().copied())),
                answers: vec![self.record(name, RData::NS(NS(server.clone())))],
            },
            _ => Found::NoData,
        }
    }

    /// `10-0-0-1.<namespace>.pod`.
    fn pod(&self, name: &Name, kind: RecordType, pod: &str, namespace: &str) -> Found {
        let Some(address) = undash(pod) else { return Found::NoName };
        let exists = match self.pod_names {
            PodNames::Disabled => false,
            PodNames::Insecure => self.has_namespace(namespace),
            PodNames::Verified => self.pods.contains_key(&(address, namespace.to_owned())),
        };
        if exists { records(self.addresses(name, kind, std::iter::once(address))) } else { Found::NoName }
    }

    /// What stands before a Service's name: nothing, an endpoint's host name, or a port's name and protocol.
    fn service(&self, name: &Name, kind: RecordType, entry: &Entry, parts: &[&str]) -> Found {
        if let ServiceKind::External { name: other } = &entry.service.kind {
            return if parts.is_empty() { self.alias(name, other) } else { Found::NoName };
        }
        let (hits, port) = match parts {
            [] => (entry.all(), None),
            [protocol] if protocol.starts_with('_') => {
                // No record has this name, but those of ports are below it.
                let protocol = &protocol[1..];
                let any = entry.all().iter().flat_map(|hit| hit.ports).any(|port| is(port, &port.name, protocol));
                return if any { Found::NoData } else { Found::NoName };
            }
            [host] => (entry.host(host), None),
            [port, protocol] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) if !port.is_empty() => (entry.all(), Some((port, protocol))),
                _ => return Found::NoName,
            },
            _ => return Found::NoName,
        };
        let wanted = |of: &Port| port.is_none_or(|(name, protocol)| is(of, name, protocol));
        let hits: Vec<&Hit<'_>> = hits.iter().filter(|hit| port.is_none() || hit.ports.iter().any(wanted)).collect();
        if hits.is_empty() {
            return Found::NoName;
        }
        if kind != RecordType::SRV {
            let addresses: BTreeSet<IpAddr> = hits.iter().map(|hit| hit.address).collect();
            return records(self.addresses(name, kind, addresses.into_iter()));
        }
        // One name may have several addresses.
        let targets: BTreeSet<(&Name, u16)> = hits
            .iter()
            .flat_map(|hit| hit.ports.iter().filter(|port| wanted(port)).map(|port| (hit.name, port.number)))
            .collect();
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or_default().max(1);
        let srv = |(target, port): (&Name, u16)| RData::SRV(SRV::new(0, weight, port, target.clone()));
        let answers: Vec<Record> = targets.into_iter().map(|target| self.record(name, srv(target))).collect();
        let mut additionals = Vec::new();
        for hit in hits.iter().filter(|_| !answers.is_empty()) {
            additionals.extend(both(|kind| self.addresses(hit.name, kind, std::iter::once(hit.address))));
        }
        if answers.is_empty() { Found::NoData } else { Found::Records { answers, additionals } }
    }

    fn alias(&self, name: &Name, other: &str) -> Found {
        // A name that reads as an address cannot be one, so nothing has it.
        if other.trim_end_matches('.').parse::<IpAddr>().is_ok() {
            return Found::NoName;
        }
        let Ok(mut target) = Name::from_ascii(other) else { return Found::NoName };
        target.set_fqdn(true);
        Found::Alias { cname: self.record(name, RData::CNAME(CNAME(target.clone()))), target }
    }

    /// Names of addresses: those of Services, else those of endpoints with a host name.
    fn backwards(&self, name: &Name, kind: RecordType) -> Found {
        let is_arpa = name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"arpa"));
        let parsed = if is_arpa { name.parse_arpa_name().ok() } else { None };
        let Some(net) = parsed.filter(|net| net.prefix_len() == net.max_prefix_len()) else { return Found::Elsewhere };
        if !self.ready {
            return Found::Unready;
        }
        let address = net.addr();
        let known = self.reverse.get(&address).into_iter().flatten();
        let entries = known.filter_map(|(namespace, name)| self.services.get(namespace)?.get(name));
        let (mut services, mut endpoints) = (Vec::new(), BTreeSet::new());
        for entry in entries {
            match &entry.service.kind {
                ServiceKind::Cluster { addresses, .. } if addresses.contains(&address) => services.push(&entry.name),
                _ => {
                    let named = entry.service.endpoints.iter().zip(&entry.endpoints);
                    let named = named.filter(|(of, _)| of.address == address && of.hostname.is_some());
                    endpoints.extend(named.map(|(_, name)| name));
                }
            }
        }
        let targets: Vec<&Name> = if services.is_empty() { endpoints.into_iter().collect() } else { services };
        match (targets.is_empty(), kind) {
            (true, _) => Found::Elsewhere,
            (false, RecordType::PTR) => {
                records(targets.into_iter().map(|target| self.record(name, RData::PTR(PTR(target.clone())))).collect())
            }
            (false, _) => Found::NoData,
        }
    }
}

impl Entry {
    /// `None` if the names are too long to be asked for.
    fn new(origin: &Name, namespace: &str, name: &str, service: Service) -> Option<Self> {
        let own = below(origin, &[name, namespace, "svc"])?;
        let mut kept = Vec::with_capacity(service.endpoints.len());
        let mut endpoints = Vec::with_capacity(service.endpoints.len());
        let mut hosts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for endpoint in service.endpoints {
            let host =
                endpoint.hostname.as_ref().map_or_else(|| dash(endpoint.address), |name| name.to_ascii_lowercase());
            let Some(name) = below(&own, &[&host]) else { continue };
            hosts.entry(host).or_default().push(kept.len());
            endpoints.push(name);
            kept.push(endpoint);
        }
        Some(Self { service: Service { endpoints: kept, ..service }, name: own, endpoints, hosts })
    }

    /// What the Service's own name leads to.
    fn all(&self) -> Vec<Hit<'_>> {
        match &self.service.kind {
            ServiceKind::Cluster { addresses, ports } => {
                addresses.iter().map(|address| Hit { name: &self.name, address: *address, ports }).collect()
            }
            ServiceKind::Headless => (0..self.endpoints.len()).map(|place| self.endpoint(place)).collect(),
            ServiceKind::External { .. } => Vec::new(),
        }
    }

    /// What a name below it leads to.
    fn host(&self, host: &str) -> Vec<Hit<'_>> {
        self.hosts.get(host).into_iter().flatten().map(|place| self.endpoint(*place)).collect()
    }

    fn endpoint(&self, place: usize) -> Hit<'_> {
        let endpoint = &self.service.endpoints[place];
        Hit { name: &self.endpoints[place], address: endpoint.address, ports: &endpoint.ports }
    }

    /// Addresses that lead back to it.
    fn reverse(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let own: &[IpAddr] = match &self.service.kind {
            ServiceKind::Cluster { addresses, .. } => addresses,
            _ => &[],
        };
        let named = self.service.endpoints.iter().filter(|endpoint| endpoint.hostname.is_some());
        own.iter().copied().chain(named.map(|endpoint| endpoint.address))
    }
}

fn below(name: &Name, labels: &[&str]) -> Option<Name> {
    let own = labels.iter().map(|label| label.as_bytes());
    let mut name = Name::from_labels(own.chain(name.iter())).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn is(port: &Port, name: &str, protocol: &str) -> bool {
    let of_port = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    of_port == protocol && port.name.eq_ignore_ascii_case(name)
}

fn records(answers: Vec<Record>) -> Found {
    if answers.is_empty() { Found::NoData } else { Found::Records { answers, additionals: Vec::new() } }
}

fn both(of: impl Fn(RecordType) -> Vec<Record>) -> Vec<Record> {
    [of(RecordType::A), of(RecordType::AAAA)].concat()
}

fn dash(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a label was made from.
fn undash(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".");
    v4.parse().ok().or_else(|| label.replace('-', ":").parse().ok())
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
