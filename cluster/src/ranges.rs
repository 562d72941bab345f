//! The address ranges of a cluster on this machine: those that are given, else ones that nothing on the machine uses.

use std::net::IpAddr;

use ipnet::IpNet;
use longshore_apiserver::ServiceRanges;
use longshore_controllers::NodeMasks;
use longshore_core::network::Ranges;
use longshore_network::{has_ipv6, ranges};

use crate::data_dir::{DataDir, Settings};
use crate::local::{NetworkKind, RuntimeKind};
use crate::{Error, machine};

/// Addresses of all nodes' pods: 256 nodes, if there is room.
const CLUSTER_PREFIX: u8 = 16;

/// Addresses of Services: 4094.
const SERVICE_PREFIX: u8 = 20;

/// What a cluster has of IPv6, as sites have it, with two parts of 256 nodes' room: the first is pods', of the second are Services.
const SITE_PREFIX: u8 = 48;
const PART_PREFIX: u8 = 56;
const SERVICE_PREFIX_V6: u8 = 112;

/// Ranges of nodes whose pods only pretend: nothing of them reaches the machine.
const PRETENDED_PODS: &str = "10.64.0.0/12";
const PRETENDED_SERVICES: &str = "10.96.0.0/20";

/// Which addresses a cluster has; what is `None` is chosen when the cluster is made, and stays.
#[derive(Debug, Clone, Default)]
pub struct RangeOptions {
    /// Whether pods and Services have addresses of both families. They have, too, where a range of each is given.
    pub dual_stack: bool,
    /// Addresses of all nodes' pods.
    pub cluster: Option<Ranges>,
    /// Addresses of Services.
    pub services: Option<ServiceRanges>,
}

/// Ranges of the families that a cluster has, the primary first.
struct Chosen {
    pods: Vec<IpNet>,
    cluster: Vec<IpNet>,
    services: Vec<IpNet>,
}

impl RangeOptions {
    fn services(&self) -> Result<Option<Ranges>, Error> {
        self.services.map(|services| parsed("--service-range", &services.to_string())).transpose()
    }

    /// Whether IPv6 stands at each place: the primary family first.
    fn families(&self) -> Result<Vec<bool>, Error> {
        let services = self.services()?;
        let mut given = self.cluster.iter().chain(&services);
        let is_v6 = |ranges: &Ranges| ranges.iter().map(|range| range.addr().is_ipv6()).collect::<Vec<_>>();
        let families = given.next().map_or_else(|| vec![false], is_v6);
        if let (Some(cluster), Some(services)) = (&self.cluster, &services) {
            if is_v6(services) != families {
                return Err(Error::Missing {
                    what: format!(
                        "--cluster-cidr {cluster} and --service-range {services} are not of the same families"
                    ),
                    remedy: "give both ranges of the same families, in the same order".to_owned(),
                });
            }
            if let Some((pods, services)) = cluster.overlap(services) {
                return Err(Error::Missing {
                    what: format!("--cluster-cidr {pods} and --service-range {services} overlap"),
                    remedy: "give ranges that have no address in common".to_owned(),
                });
            }
        }
        if let Some(cluster) = &self.cluster {
            NodeMasks::default()
                .check(cluster)
                .map_err(|error| Error::Missing { what: "--cluster-cidr".to_owned(), remedy: error.to_string() })?;
        }
        if self.dual_stack && families.len() < 2 && (self.cluster.is_some() || services.is_some()) {
            return Err(Error::Missing {
                what: "--dual-stack with a range of one family".to_owned(),
                remedy: "give a range of each family, as in 10.96.0.0/16,fd00::/112, or none".to_owned(),
            });
        }
        Ok(if self.dual_stack && families.len() < 2 { vec![false, true] } else { families })
    }

    /// Whether a cluster can have these, before anything is made; whether a cluster that was made has them.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::OtherSettings`]; say what to do.
    pub(crate) fn check(&self, directory: &DataDir, settings: &Settings) -> Result<(), Error> {
        let families = self.families()?;
        if settings.pod_range.is_empty() {
            return can_speak(settings, families.contains(&true));
        }
        for (option, recorded, asked) in [
            ("cluster-cidr", &settings.cluster_range, self.cluster.as_ref().map(ToString::to_string)),
            ("service-range", &settings.service_range, self.services.as_ref().map(ToString::to_string)),
        ] {
            if let Some(asked) = asked.filter(|asked| asked != recorded) {
                let (directory, recorded) = (directory.path().into(), recorded.clone());
                return Err(Error::OtherSettings { directory, option, recorded, asked });
            }
        }
        if self.dual_stack && !parsed("serviceRange", &settings.service_range)?.is_dual() {
            let directory = directory.path().display();
            return Err(Error::Missing {
                what: format!(
                    "the cluster in {directory} was made without --dual-stack, and addresses stay as they are"
                ),
                remedy: format!(
                    "leave the option out, choose another --data-dir, or delete the cluster with `longshore down --purge \
                     --data-dir {directory}`"
                ),
            });
        }
        Ok(())
    }

    /// Chooses ranges, unless they were chosen before.
    ///
    /// # Errors
    /// [`Error::Missing`] if no range is free, or the kernel does not speak a family.
    pub(crate) async fn choose(&self, settings: &mut Settings) -> Result<(), Error> {
        if !settings.pod_range.is_empty() {
            return Ok(());
        }
        let families = self.families()?;
        can_speak(settings, families.contains(&true))?;
        let pretends = settings.runtime == RuntimeKind::Simulated.as_str();
        let mut taken = if pretends { Vec::new() } else { ranges::taken().await.map_err(machine::network_failed)? };
        let services = self.services()?;
        let given: Vec<IpNet> = self.cluster.iter().chain(&services).flat_map(Ranges::iter).collect();
        let mut chosen = Chosen { pods: Vec::new(), cluster: Vec::new(), services: Vec::new() };
        for v6 in families {
            let of = |ranges: &Option<Ranges>| {
                ranges.iter().flat_map(Ranges::iter).find(|range| range.addr().is_ipv6() == v6)
            };
            let given = given.iter().copied().filter(|range| range.addr().is_ipv6() == v6);
            let (cluster, services) = match (of(&self.cluster), of(&services)) {
                (Some(cluster), Some(services)) => (cluster, services),
                (cluster, services) => {
                    let free = if pretends {
                        pretended(settings, v6)
                    } else {
                        let taken: Vec<IpNet> = taken.iter().copied().chain(given).collect();
                        free(settings, v6, &taken)
                    };
                    let (free_cluster, free_services) = free.ok_or_else(full)?;
                    (cluster.unwrap_or(free_cluster), services.unwrap_or(free_services))
                }
            };
            let pods = if pretends { Some(cluster) } else { first_node(&cluster, &taken) };
            chosen.pods.push(pods.ok_or_else(full)?);
            chosen.cluster.push(cluster);
            chosen.services.push(services);
            taken.extend([cluster, services]);
        }
        settings.pod_range = listed(&chosen.pods);
        settings.cluster_range = listed(&chosen.cluster);
        settings.service_range = listed(&chosen.services);
        Ok(())
    }
}

fn listed(ranges: &[IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn full() -> Error {
    Error::Missing {
        what: "no private address range is free on this machine".to_owned(),
        remedy: "remove routes to 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16 (of IPv6: to fd6c:7368::/32) that are not needed, or \
                 give --cluster-cidr and --service-range"
            .to_owned(),
    }
}

/// Reads ranges that were recorded or given.
pub(crate) fn parsed(name: &str, text: &str) -> Result<Ranges, Error> {
    text.parse().map_err(|error| Error::Part { part: "network", reason: format!("{name} {text}: {error}") })
}

/// Whether the kernel has IPv6, if a cluster of these settings shall serve it.
fn can_speak(settings: &Settings, v6: bool) -> Result<(), Error> {
    let serves = [NetworkKind::Bridge, NetworkKind::Cni].iter().any(|kind| kind.as_str() == settings.network);
    let real = settings.runtime != RuntimeKind::Simulated.as_str();
    if v6 && serves && real { has_ipv6().map_err(machine::network_failed) } else { Ok(()) }
}

/// Where free ranges of IPv4 are looked for: the private ranges, first at a place that differs from one instance to another, so
/// that two clusters which start at the same moment do not choose the same.
fn candidates(instance: &str) -> Vec<IpNet> {
    let second = 64 + u32::from_str_radix(instance, 16).unwrap_or_default() % 128;
    let texts = [format!("10.{second}.0.0/16"), "10.0.0.0/8".into(), "172.16.0.0/12".into(), "192.168.0.0/16".into()];
    texts.iter().filter_map(|range| range.parse().ok()).collect()
}

/// Likewise of IPv6: unique local addresses (RFC 4193), whose identifier is `ls` and the instance's.
fn sites(instance: &str) -> Vec<IpNet> {
    let texts = [format!("fd6c:7368:{instance}::/{SITE_PREFIX}"), "fd6c:7368::/32".into()];
    texts.iter().filter_map(|range| range.parse().ok()).collect()
}

/// Free ranges of one family for all nodes' pods, and for Services.
fn free(settings: &Settings, v6: bool, taken: &[IpNet]) -> Option<(IpNet, IpNet)> {
    if v6 {
        return parts(ranges::free(&sites(&settings.instance), SITE_PREFIX, taken)?);
    }
    let candidates = candidates(&settings.instance);
    let node = NodeMasks::default().v4;
    // Room for nodes that join, if there is some.
    let cluster = (CLUSTER_PREFIX..=node).find_map(|prefix| ranges::free(&candidates, prefix, taken))?;
    let taken: Vec<IpNet> = taken.iter().copied().chain([cluster]).collect();
    Some((cluster, ranges::free(&candidates, SERVICE_PREFIX, &taken)?))
}

/// Pods' part and the Services' range of a site.
fn parts(site: IpNet) -> Option<(IpNet, IpNet)> {
    let mut parts = site.subnets(PART_PREFIX).ok()?;
    let cluster = parts.next()?;
    Some((cluster, IpNet::new(parts.next()?.network(), SERVICE_PREFIX_V6).ok()?))
}

fn pretended(settings: &Settings, v6: bool) -> Option<(IpNet, IpNet)> {
    if v6 {
        return parts(sites(&settings.instance).first().copied()?);
    }
    Some((PRETENDED_PODS.parse().ok()?, PRETENDED_SERVICES.parse().ok()?))
}

/// The range of the first node of a cluster that touches nothing on the machine.
fn first_node(cluster: &IpNet, taken: &[IpNet]) -> Option<IpNet> {
    ranges::free(&[*cluster], NodeMasks::default().of(cluster), taken)
}

/// The ranges of nodes out of those of a cluster, one of each family a node.
pub(crate) fn per_node(cluster: &Ranges) -> impl Iterator<Item = Ranges> + use<> {
    let of = |range: IpNet| range.subnets(NodeMasks::default().of(&range)).into_iter().flatten();
    let mut families: Vec<_> = cluster.iter().map(of).collect();
    std::iter::from_fn(move || {
        let mut next = families.iter_mut().map(Iterator::next);
        let primary = next.next()??;
        match next.next() {
            None => Some(primary.into()),
            Some(secondary) => Ranges::new(primary, Some(secondary?)).ok(),
        }
    })
}

/// Refuses an API server whose address is of another family than the Service `kubernetes`, which leads to it, would have.
///
/// # Errors
/// [`Error::Missing`]. Of an address that only this machine reaches, nobody is led anywhere.
pub(crate) fn check_family(called: IpAddr, services: &ServiceRanges) -> Result<(), Error> {
    let first = services.primary();
    if called.is_loopback() || called.is_ipv4() == first.at(1).is_ipv4() {
        return Ok(());
    }
    Err(Error::Missing {
        what: format!("pods could not reach the API server at {called} by a Service out of {first}"),
        remedy: format!(
            "--listen at an address of {}, or let the other family come first in --service-range",
            first.family()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("00ab".to_owned(), "memory", RuntimeKind::Simulated.as_str(), 1)
    }

    fn options(dual_stack: bool, cluster: &str, services: &str) -> RangeOptions {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        RangeOptions {
            dual_stack,
            cluster: some(cluster).map(|text| text.parse().unwrap()),
            services: some(services).map(|text| text.parse().unwrap()),
        }
    }

    #[test]
    fn instances_look_in_different_places_first() {
        assert_ne!(candidates("0001")[0], candidates("0002")[0]);
        assert_eq!(candidates("ffff").len(), 4);
        assert_ne!(sites("0001")[0], sites("0002")[0]);
        assert_eq!(sites("ffff")[0].to_string(), "fd6c:7368:ffff::/48");
    }

    #[tokio::test]
    async fn what_is_not_given_is_chosen_of_the_families_that_are_asked_for() {
        for (dual_stack, cluster, services, expected) in [
            (false, "", "", ["10.64.0.0/12", "10.64.0.0/12", "10.96.0.0/20"]),
            (
                true,
                "",
                "",
                [
                    "10.64.0.0/12,fd6c:7368:ab::/56",
                    "10.64.0.0/12,fd6c:7368:ab::/56",
                    "10.96.0.0/20,fd6c:7368:ab:100::/112",
                ],
            ),
            (
                false,
                "fd00::/56,10.1.0.0/16",
                "",
                ["fd00::/56,10.1.0.0/16", "fd00::/56,10.1.0.0/16", "fd6c:7368:ab:100::/112,10.96.0.0/20"],
            ),
            (
                true,
                "",
                "10.9.0.0/16,fd09::/112",
                ["10.64.0.0/12,fd6c:7368:ab::/56", "10.64.0.0/12,fd6c:7368:ab::/56", "10.9.0.0/16,fd09::/112"],
            ),
        ] {
            let mut settings = settings();
            options(dual_stack, cluster, services).choose(&mut settings).await.unwrap();
            assert_eq!([settings.pod_range, settings.cluster_range, settings.service_range], expected);
        }
    }

    #[test]
    fn free_ranges_touch_neither_what_is_taken_nor_each_other() {
        let taken: Vec<IpNet> =
            ["fd6c:7368:ab:700::/64", "10.107.0.0/16", "10.0.0.0/16"].map(|it| it.parse().unwrap()).into();
        let (cluster, services) = free(&settings(), true, &taken).unwrap();
        assert_eq!(
            (cluster.to_string(), services.to_string()),
            ("fd6c:7368::/56".into(), "fd6c:7368:0:100::/112".into())
        );
        assert_eq!(first_node(&cluster, &taken).unwrap().to_string(), "fd6c:7368::/64");
        let (cluster, services) = free(&settings(), false, &taken).unwrap();
        assert_eq!((cluster.to_string(), services.to_string()), ("10.1.0.0/16".into(), "10.2.0.0/20".into()));
    }

    #[test]
    fn ranges_that_no_cluster_can_have_are_refused() {
        let directory = DataDir::new("/no/such/directory");
        for (dual_stack, cluster, services, complaint) in [
            (false, "10.1.0.0/16", "10.1.4.0/24", "--cluster-cidr 10.1.0.0/16 and --service-range 10.1.4.0/24 overlap"),
            (false, "10.1.0.0/16,fd00::/56", "10.2.0.0/16", "are not of the same families"),
            (false, "10.1.0.0/16,fd00::/56", "fd01::/112,10.2.0.0/16", "in the same order"),
            (true, "10.1.0.0/16", "", "--dual-stack with a range of one family"),
            (false, "10.1.0.0/16,fd00::/108", "", "fd00::/108 has no room for a node's pods"),
        ] {
            let error = options(dual_stack, cluster, services).check(&directory, &settings()).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[tokio::test]
    async fn a_cluster_keeps_the_ranges_that_it_was_made_with() {
        let directory = DataDir::new("/no/such/directory");
        let mut single = settings();
        options(false, "", "").choose(&mut single).await.unwrap();
        let check = |settings: &Settings, options: RangeOptions| options.check(&directory, settings);
        check(&single, options(false, "10.64.0.0/12", "10.96.0.0/20")).unwrap();
        let error = check(&single, options(true, "", "")).unwrap_err().to_string();
        assert!(error.contains("was made without --dual-stack"), "{error}");
        let error = check(&single, options(false, "10.1.0.0/16", "")).unwrap_err().to_string();
        assert!(error.contains("was made with --cluster-cidr 10.64.0.0/12, not 10.1.0.0/16"), "{error}");
        let mut dual = settings();
        options(true, "", "").choose(&mut dual).await.unwrap();
        check(&dual, options(true, "", "")).unwrap();
        check(&dual, options(false, "", "")).unwrap();
    }

    #[test]
    fn nodes_get_one_range_of_each_family() {
        let nodes: Vec<_> = per_node(&"10.0.0.0/23,fd00::/56".parse().unwrap()).map(|node| node.to_string()).collect();
        assert_eq!(nodes, ["10.0.0.0/24,fd00::/64", "10.0.1.0/24,fd00:0:0:1::/64"]);
    }

    #[test]
    fn an_api_server_is_reached_by_the_primary_family() {
        let services: ServiceRanges = "fd00::/112,10.96.0.0/16".parse().unwrap();
        for good in ["127.0.0.1", "2001:db8::1"] {
            check_family(good.parse().unwrap(), &services).unwrap();
        }
        let error = check_family([192, 0, 2, 1].into(), &services).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && error.contains("--listen at an address of IPv6"), "{error}");
    }
}
