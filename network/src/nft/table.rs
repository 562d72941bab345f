//! An instance's tables, one a family, changed together.

use std::collections::BTreeMap;

use longshore_core::network::{Error, Policy, ServicePort};

use super::{Node, PodPorts, Ruleset, apply, base, list, policies};
use crate::family::Family;

/// What the tables of one name hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    name: String,
    rulesets: BTreeMap<Family, Ruleset>,
}

impl Table {
    /// No table yet.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), rulesets: BTreeMap::new() }
    }

    /// Adds all that a node needs for a family; what is not of it is left out.
    pub(crate) fn add(&mut self, node: &Node, pods: &[PodPorts<'_>], services: &[ServicePort], policies: &[Policy]) {
        let mut ruleset = base::desired(node, pods.iter().copied(), services);
        policies::add(&mut ruleset, node.family, policies);
        self.rulesets.insert(node.family, ruleset);
    }

    /// Commands that lead from another state of these tables to this one; none if they are equal.
    pub(crate) fn changes(&self, from: &Self) -> String {
        let change = |(family, new): (&Family, &Ruleset)| match from.rulesets.get(family) {
            Some(old) => old.difference(new, &self.of(*family)),
            None => new.whole(&self.of(*family)),
        };
        self.rulesets.iter().map(change).collect()
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
                if commands.is_empty() {
                    return Ok(());
                }
                apply(&commands).is_ok()
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
        for (family, ruleset) in &self.rulesets {
            if !list(&self.of(*family))?.is_some_and(|listing| ruleset.matches(&listing)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn of(&self, family: Family) -> String {
        format!("{} {}", family.word(), self.name)
    }
}
