//! Faults as they begin and end in a world.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use longshore_core::api::Lease;
use longshore_core::store::Store;
use longshore_core::testing::faults::Faults;
use longshore_faults::history::Kind;
use rand::RngExt;

use super::World;
use crate::log::name;
use crate::parts::{self, Machine};
use crate::plan::{Fault, Link, Part, Target};
use crate::wire::Trouble;

impl World {
    /// The part that a target is now.
    fn resolve(&self, target: Target) -> Part {
        let (lease, part): (_, fn(usize) -> Part) = match target {
            Target::Part(part) => return part,
            Target::LeadingScheduler => (parts::SCHEDULER, Part::Scheduler),
            Target::LeadingControllers => (parts::CONTROLLERS, Part::Controllers),
        };
        let leases = self.log.state(0, Kind::Lease);
        let lease = leases.iter().find(|object| name(object) == lease);
        let holder = lease.and_then(|lease| lease.as_any().downcast_ref::<Lease>()?.spec.holder_identity.clone());
        // `scheduler-1`, or `scheduler-1-2` of the one that was started twice.
        let number = holder.and_then(|holder| holder.split('-').nth(1)?.parse().ok());
        part(number.unwrap_or(0))
    }

    /// Lets a fault begin.
    pub(super) fn begin(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(target) => {
                let part = self.resolve(target);
                self.kill(part);
                self.hit.push((fault, part));
            }
            Fault::PowerLoss(node) => {
                self.kill(Part::Node(node));
                let clock = self.seats[&Part::Node(node)].clock.clone();
                self.machines[node] = Machine::new(node, Arc::new(clock));
            }
            Fault::Pause(target) => {
                let part = self.resolve(target);
                self.processes.pause(self.seats[&part].place, true);
                self.hit.push((fault, part));
            }
            Fault::Clock(target, seconds) => {
                let part = self.resolve(target);
                self.seats[&part].clock.set(seconds);
                self.hit.push((fault, part));
            }
            Fault::Cut(link) => self.trouble(fault, link, Trouble { cut: true, ..Trouble::default() }),
            Fault::Silence(link) => self.trouble(fault, link, Trouble { silent: true, ..Trouble::default() }),
            Fault::Lossy(link) => {
                let trouble = Trouble { lost_requests: 15, lost_answers: 15, cut_watches: 10, ..Trouble::default() };
                self.trouble(fault, link, trouble);
            }
            Fault::Slow(link) => {
                let latency = Duration::from_millis(self.rng.random_range(50..1_500));
                self.trouble(fault, link, Trouble { latency, ..Trouble::default() });
            }
            Fault::StoreErrors(server) => {
                let faults = Faults { unavailable_before: 0.15, unavailable_after: 0.15, ..Faults::none() };
                self.stores[server].set_faults(faults);
            }
            Fault::StoreSlow(server) => {
                let delay_max = Duration::from_millis(self.rng.random_range(20..800));
                self.stores[server].set_faults(Faults { delay: 0.7, delay_max, ..Faults::none() });
                self.branches[server].set_late(delay_max * 2);
            }
            Fault::StoreWatches(server) => {
                self.stores[server].set_faults(Faults { cut_watch: 0.3, ..Faults::none() });
            }
            Fault::StoreAway(server) => {
                let faults = Faults { unavailable_before: 1.0, cut_watch: 1.0, ..Faults::none() };
                self.stores[server].set_faults(faults);
            }
            Fault::Compaction => {
                if let Some(Ok(status)) = self.store.status().now_or_never() {
                    // It may have been compacted further already, when the ring was full.
                    let _ = self.store.compact(status.revision).now_or_never();
                }
            }
        }
        Ok(())
    }

    /// Ends a fault, and undoes what it did.
    pub(super) fn end(&mut self, fault: Fault) -> Result<(), String> {
        let hit = self.hit.iter().position(|(known, _)| *known == fault).map(|at| self.hit.swap_remove(at).1);
        match fault {
            Fault::Kill(_) => hit.map_or(Ok(()), |part| self.start(part))?,
            Fault::PowerLoss(node) => self.start(Part::Node(node))?,
            Fault::Pause(_) => {
                if let Some(part) = hit {
                    self.processes.pause(self.seats[&part].place, false);
                }
            }
            Fault::Clock(..) => {
                if let Some(part) = hit {
                    self.seats[&part].clock.set(0);
                }
            }
            Fault::Cut(link) | Fault::Silence(link) | Fault::Lossy(link) | Fault::Slow(link) => {
                self.set_trouble(link, hit, Trouble::default());
            }
            Fault::StoreErrors(server)
            | Fault::StoreSlow(server)
            | Fault::StoreWatches(server)
            | Fault::StoreAway(server) => {
                self.stores[server].set_faults(Faults::none());
                self.branches[server].set_late(Duration::ZERO);
            }
            Fault::Compaction => {}
        }
        Ok(())
    }

    fn kill(&mut self, part: Part) {
        if let Part::Server(server) = part {
            self.ports[server].close();
        }
        self.processes.kill(self.seats[&part].place);
    }

    fn trouble(&mut self, fault: Fault, link: Link, trouble: Trouble) {
        let part = match link {
            Link::Part(target) => Some(self.resolve(target)),
            Link::Client(_) | Link::Observers(_) => None,
        };
        self.hit.extend(part.map(|part| (fault, part)));
        self.set_trouble(link, part, trouble);
    }

    fn set_trouble(&self, link: Link, part: Option<Part>, trouble: Trouble) {
        let wire = match link {
            Link::Part(_) => part.and_then(|part| self.seats[&part].wire.as_ref()),
            Link::Client(client) => self.clients.1.get(client),
            Link::Observers(server) => self.observers.1.get(server),
        };
        if let Some(wire) = wire {
            wire.set(trouble);
        }
    }
}
