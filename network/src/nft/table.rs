//! An instance's tables, one a family, changed together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use longshore_core::network::{Error, HostPort, Policy, ServicePort};

use super::part::Part;
use super::{Node, PodPorts, Ruleset, apply, base, list, policies, services};
use crate::family::Family;

/// What the tables of one name hold.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    name: String,
    families: BTreeMap<Family, Contents>,
}

/// What the rules of one table follow from. What is not of its family is left out of them.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) node: Node,
    pub(super) pods: Vec<(IpAddr, Vec<HostPort>)>,
    pub(super) services: Arc<Vec<ServicePort>>,
    pub(super) policies: Arc<Vec<Policy>>,
}

impl Contents {
    /// The rules of a part.
    pub(super) fn rules(&self, part: &Part) -> Ruleset {
        let pods = self.pods.iter().map(|(address, host_ports)| PodPorts { address: *address, host_ports });
        let mut ruleset = base::base(&self.node, pods);
        for service in self.services.iter().filter(|service| part.has_service(service)) {
            services::add(&mut ruleset, &self.node, service);
        }
        policies::add(&mut ruleset, self.node.family, &self.policies, part);
        ruleset
    }

    /// Commands that make the table, named with its family, this one, if it is that of `old`.
    pub(super) fn changes(&self, old: &Self, table: &str) -> String {
        let part = Part::differing(old, self);
        old.rules(&part).difference(&self.rules(&part), table)
    }
}

impl Table {
    /// No table yet.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), families: BTreeMap::new() }
    }

    /// Adds all that a node needs for a family; what is not of it is left out.
    pub(crate) fn add(
        &mut self,
        node: Node,
        pods: &[PodPorts<'_>],
        services: &Arc<Vec<ServicePort>>,
        policies: &Arc<Vec<Policy>>,
    ) {
        let pods = pods.iter().map(|pod| (pod.address, pod.host_ports.to_vec())).collect();
        let contents = Contents { node, pods, services: services.clone(), policies: policies.clone() };
        self.families.insert(contents.node.family, contents);
    }

    /// Commands that lead from another state of these tables to this one; none if they are equal.
    pub(crate) fn changes(&self, from: &Self) -> String {
        let change = |(family, new): (&Family, &Contents)| match from.families.get(family) {
            Some(old) => new.changes(old, &self.of(*family)),
            None => new.rules(&Part::Whole).whole(&self.of(*family)),
        };
        self.families.iter().map(change).collect()
    }

    /// Commands that make the tables, whatever they were.
    pub(crate) fn whole(&self) -> String {
        self.changes(&Self::new(&self.name))
    }

    /// Brings the kernel to hold this, in one transaction; `applied` is what it has as far as we know.
    pub(crate) fn replace(self, applied: &mut Option<Self>) -> Result<(), Error> {
        let changed = match applied {
            Some(applied) => {
                let commands = self.changes(applied);
                commands.is_empty() || apply(&commands).is_ok()
            }
            None => false,
        };
        if !changed {
            // Nothing is known of the tables, or they are not what we think.
            apply(&self.whole())?;
        }
        *applied = Some(self);
        Ok(())
    }

    /// Whether the kernel still has all of this but what sets hold.
    pub(crate) fn is_complete(&self) -> Result<bool, Error> {
        for (family, contents) in &self.families {
            let rules = contents.rules(&Part::Whole);
            if !list(&self.of(*family))?.is_some_and(|listing| rules.matches(&listing)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn of(&self, family: Family) -> String {
        format!("{} {}", family.word(), self.name)
    }
}
