//! Which faults come when: a function of the seed alone.
//!
//! Faults come in lanes, one for each layer, and a lane has one fault at a time. So there is always an API server that nobody touches,
//! and yet faults of different layers meet. Not every world has every lane.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An API server.
    Server(usize),
    /// A scheduler.
    Scheduler(usize),
    /// Controllers.
    Controllers(usize),
    /// A node's agent.
    Node(usize),
}

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Part(Part),
    /// The scheduler that leads when the fault begins.
    LeadingScheduler,
    /// The controllers that lead when the fault begins.
    LeadingControllers,
}

/// A wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// From a part to its API server.
    Part(Target),
    /// From a client of the workload.
    Client(usize),
    /// From the observers to an API server.
    Observers(usize),
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; it is started again at the end.
    Kill(Target),
    /// The same, and the machine's containers are gone.
    PowerLoss(usize),
    /// `SIGSTOP`, and `SIGCONT` at the end.
    Pause(Target),
    /// A wall clock is off by so many seconds.
    Clock(Target, i64),
    /// Nothing passes, and that is known at once.
    Cut(Link),
    /// Nothing passes, and nobody is told.
    Silence(Link),
    /// Some requests, answers and watches are lost.
    Lossy(Link),
    /// Everything takes long.
    Slow(Link),
    /// What a server asks of the store fails, before or after it happened.
    StoreErrors(usize),
    /// What a server asks of the store, and what it is told by it, comes late.
    StoreSlow(usize),
    /// A server's watches of the store are cut.
    StoreWatches(usize),
    /// A server reaches the store not at all.
    StoreAway(usize),
    /// The store forgets its past.
    Compaction,
}

impl Fault {
    /// Its kind, for the totals.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::PowerLoss(_) => "power loss",
            Self::Pause(_) => "pause",
            Self::Clock(..) => "clock step",
            Self::Cut(_) => "wire cut",
            Self::Silence(_) => "wire silent",
            Self::Lossy(_) => "wire lossy",
            Self::Slow(_) => "wire slow",
            Self::StoreErrors(_) => "store errors",
            Self::StoreSlow(_) => "store slow",
            Self::StoreWatches(_) => "store watches cut",
            Self::StoreAway(_) => "store away",
            Self::Compaction => "compaction",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) | Self::Pause(target) => write!(f, "{}: {target:?}", self.kind()),
            Self::Clock(target, seconds) => write!(f, "{} by {seconds} s: {target:?}", self.kind()),
            Self::Cut(link) | Self::Silence(link) | Self::Lossy(link) | Self::Slow(link) => {
                write!(f, "{}: {link:?}", self.kind())
            }
            Self::PowerLoss(node) => write!(f, "{}: Node({node})", self.kind()),
            Self::StoreErrors(server)
            | Self::StoreSlow(server)
            | Self::StoreWatches(server)
            | Self::StoreAway(server) => write!(f, "{}: Server({server})", self.kind()),
            Self::Compaction => f.write_str(self.kind()),
        }
    }
}

/// A fault and when it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it begins, from the start of the faults.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
    /// What it is.
    pub fault: Fault,
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// API servers.
    pub servers: usize,
    /// Schedulers.
    pub schedulers: usize,
    /// Controllers.
    pub controllers: usize,
    /// Nodes.
    pub nodes: usize,
    /// Clients.
    pub clients: usize,
}

/// A layer: what may go wrong in it.
type Lane = fn(&mut Pcg64, &Size) -> [Fault; 4];

const LANES: [Lane; 6] = [servers, store, schedulers, controllers, nodes, wires];

/// In how many worlds of a hundred a lane is there.
const LANE_PERCENT: u32 = 70;

fn servers(rng: &mut Pcg64, size: &Size) -> [Fault; 4] {
    let server = rng.random_range(0..size.servers);
    let target = Target::Part(Part::Server(server));
    [Fault::Kill(target), Fault::Pause(target), Fault::StoreAway(server), Fault::Clock(target, step(rng))]
}

fn store(rng: &mut Pcg64, size: &Size) -> [Fault; 4] {
    let server = rng.random_range(0..size.servers);
    [Fault::StoreErrors(server), Fault::StoreSlow(server), Fault::StoreWatches(server), Fault::Compaction]
}

fn schedulers(rng: &mut Pcg64, size: &Size) -> [Fault; 4] {
    let one = Part::Scheduler(rng.random_range(0..size.schedulers));
    elected(rng, one, Target::LeadingScheduler)
}

fn controllers(rng: &mut Pcg64, size: &Size) -> [Fault; 4] {
    let one = Part::Controllers(rng.random_range(0..size.controllers));
    elected(rng, one, Target::LeadingControllers)
}

/// Mostly the leader is hit: nobody misses the others.
fn elected(rng: &mut Pcg64, one: Part, leading: Target) -> [Fault; 4] {
    let target = if rng.random_ratio(3, 4) { leading } else { Target::Part(one) };
    let wire = if rng.random() { Fault::Silence(Link::Part(target)) } else { Fault::Lossy(Link::Part(target)) };
    [Fault::Kill(target), Fault::Pause(target), wire, Fault::Clock(target, step(rng))]
}

fn nodes(rng: &mut Pcg64, size: &Size) -> [Fault; 4] {
    let node = rng.random_range(0..size.nodes);
    let target = Target::Part(Part::Node(node));
    let clock = if rng.random() { Fault::Clock(target, step(rng)) } else { Fault::PowerLoss(node) };
    [Fault::Kill(target), Fault::Pause(target), Fault::Cut(Link::Part(target)), clock]
}

fn wires(rng: &mut Pcg64, size: &Size) -> [Fault; 4] {
    let link = match rng.random_range(0..3) {
        0 => Link::Observers(rng.random_range(0..size.servers)),
        _ => Link::Client(rng.random_range(0..size.clients)),
    };
    [Fault::Cut(link), Fault::Silence(link), Fault::Lossy(link), Fault::Slow(link)]
}

fn step(rng: &mut Pcg64) -> i64 {
    [-300, -30, 30, 300][rng.random_range(0..4_usize)]
}

/// The faults of a world, in the order in which they begin.
pub fn faults(seed: u64, duration: Duration, size: &Size) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (number, lane) in (0_u64..).zip(LANES) {
        let mut rng = Pcg64::seed_from_u64(seed.wrapping_mul(31).wrapping_add(number));
        if rng.random_range(0..100) >= LANE_PERCENT {
            continue;
        }
        // Some faults outlast leases, most do not.
        let mut time = |least, most| Duration::from_millis(rng.random_range(least..=most));
        let mut at = time(100, 4_000);
        let mut times = Vec::new();
        while at < duration {
            let until = at + time(300, 3_000) * if time(0, 2).is_zero() { 5 } else { 1 };
            times.push((at, until.min(duration)));
            at = until + time(300, 5_000);
        }
        let mut kinds: Vec<usize> = Vec::new();
        for (from, until) in times {
            // Every kind comes before one comes again.
            if kinds.is_empty() {
                kinds.extend(0..4);
                kinds.shuffle(&mut rng);
            }
            let fault = lane(&mut rng, size)[kinds.pop().unwrap_or(0)];
            planned.push(Planned { from, until, fault });
        }
    }
    planned.sort_by_key(|planned| planned.from);
    planned
}

/// Faults by kind.
pub fn count(planned: &[Planned]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for planned in planned {
        *counts.entry(planned.fault.kind()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { servers: 2, schedulers: 2, controllers: 2, nodes: 3, clients: 6 };

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let plan = |seed| faults(seed, Duration::from_secs(60), &SIZE);
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn all_kinds_occur_and_never_are_two_servers_down() {
        let mut kinds = BTreeMap::new();
        for seed in 0..50 {
            let plan = faults(seed, Duration::from_secs(60), &SIZE);
            for (kind, times) in count(&plan) {
                *kinds.entry(kind).or_insert(0) += times;
            }
            let down = |fault: Fault| match fault {
                Fault::Kill(Target::Part(Part::Server(_))) | Fault::Pause(Target::Part(Part::Server(_))) => true,
                fault => matches!(fault, Fault::StoreAway(_)),
            };
            let down: Vec<_> = plan.iter().filter(|one| down(one.fault)).collect();
            assert!(down.windows(2).all(|two| two[0].until < two[1].from), "seed {seed}");
        }
        assert_eq!(kinds.len(), 13, "{kinds:?}");
    }
}
