//! Which faults come when: a function of the seed alone.
//!
//! Faults come in lanes, one for each layer, and a lane has one fault at a time. So there is always a quorum of members and an API
//! server that nobody touches, and yet faults of different layers meet.

use std::fmt;
use std::time::Duration;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;

use crate::relay::State;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A member of etcd.
    Member(usize),
    /// An API server.
    Server(usize),
    /// A scheduler.
    Scheduler(usize),
    /// Controllers.
    Controllers(usize),
    /// A node's agent.
    Node(usize),
    /// The scheduler that leads when the fault begins.
    LeadingScheduler,
    /// The controllers that lead when the fault begins.
    LeadingControllers,
}

/// A link that passes through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// From an API server to a member.
    Store {
        /// The server.
        server: usize,
        /// The member.
        member: usize,
    },
    /// From a member to another.
    Peer {
        /// Who connects.
        from: usize,
        /// To whom.
        to: usize,
    },
    /// From all clients and watches of the run to an API server.
    Clients(usize),
    /// From a scheduler, controllers or a node to its API server.
    Part(Target),
}

/// Which members have trouble to reach each other; clients reach them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// One is alone, and so without a quorum.
    Alone(usize),
    /// Two reach the third and not each other.
    Apart(usize, usize),
}

impl Split {
    /// The links between them.
    pub fn links(self) -> Vec<Link> {
        let both = |one, other| [Link::Peer { from: one, to: other }, Link::Peer { from: other, to: one }];
        match self {
            Self::Alone(member) => {
                (0..MEMBERS).filter(|other| *other != member).flat_map(|other| both(member, other)).collect()
            }
            Self::Apart(one, other) => both(one, other).into(),
        }
    }
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; it is started again at the end.
    Kill(Target),
    /// `SIGSTOP`, and `SIGCONT` at the end.
    Pause(Target),
    /// No connections.
    Cut(Link),
    /// Bytes wait.
    Delay(Link, Duration),
    /// Connections stand and say nothing; at the end they break off.
    Silence(Link),
    /// An API server reaches no member.
    CutOff(usize),
    /// The links between members are so.
    Partition(Split, State),
    /// A member's disk is full.
    FullDisk(usize),
    /// A member's disk stalls again and again.
    SlowDisk(usize),
    /// A process's clock is off by so many seconds.
    Clock(Target, i64),
}

impl Fault {
    /// Its kind, for the table.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Cut(_) => "link cut",
            Self::Delay(..) => "link delayed",
            Self::Silence(_) => "link silent",
            Self::CutOff(_) => "cut off from the store",
            Self::Partition(_, State::Delayed(_)) => "members slow to each other",
            Self::Partition(Split::Alone(_), State::Silent) => "member silently alone",
            Self::Partition(Split::Alone(_), _) => "member alone",
            Self::Partition(Split::Apart(..), _) => "members apart",
            Self::FullDisk(_) => "disk full",
            Self::SlowDisk(_) => "disk slow",
            Self::Clock(..) => "clock step",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) | Self::Pause(target) => write!(f, "{}: {target:?}", self.kind()),
            Self::Cut(link) | Self::Silence(link) => write!(f, "{}: {link:?}", self.kind()),
            Self::Delay(link, by) => write!(f, "{} by {} ms: {link:?}", self.kind(), by.as_millis()),
            Self::Partition(split, State::Delayed(by)) => {
                write!(f, "{} by {} ms: {split:?}", self.kind(), by.as_millis())
            }
            Self::Partition(split, state) => write!(f, "{}: {split:?}, {state:?}", self.kind()),
            Self::CutOff(server) => write!(f, "{}: Server({server})", self.kind()),
            Self::FullDisk(member) | Self::SlowDisk(member) => write!(f, "{}: Member({member})", self.kind()),
            Self::Clock(target, seconds) => write!(f, "{} by {seconds} s: {target:?}", self.kind()),
        }
    }
}

/// A fault and when it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it begins, from the start of the run.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
    /// What it is.
    pub fault: Fault,
}

/// How quickly faults follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Shortest and longest time between two faults of a lane, in milliseconds.
    pub gap_ms: (u64, u64),
    /// Shortest and longest time that a fault lasts, in milliseconds.
    pub lasts_ms: (u64, u64),
}

impl Pace {
    /// For a run of half a minute.
    pub const SHORT: Self = Self { gap_ms: (500, 3_000), lasts_ms: (1_500, 5_000) };
    /// For runs of minutes and hours: some faults outlast leases.
    pub const LONG: Self = Self { gap_ms: (2_000, 20_000), lasts_ms: (1_000, 30_000) };
}

/// How many there are of each.
pub const MEMBERS: usize = 3;
/// API servers, schedulers and controllers.
pub const REPLICAS: usize = 3;
/// Nodes.
pub const NODES: usize = 3;

/// A layer, of which one thing is faulty at a time, with the number of its kinds of faults.
type Lane = (fn(&mut Pcg64, usize) -> Fault, usize);

const LANES: [Lane; 6] = [(member, 8), (server, 4), (scheduler, 4), (controllers, 4), (node, 4), (link, 4)];

fn member(rng: &mut Pcg64, kind: usize) -> Fault {
    let member = rng.random_range(0..MEMBERS);
    match kind {
        0 => Fault::Kill(Target::Member(member)),
        1 => Fault::Pause(Target::Member(member)),
        2 => Fault::FullDisk(member),
        3 => Fault::SlowDisk(member),
        4 => Fault::Partition(Split::Alone(member), State::Cut),
        5 => Fault::Partition(Split::Alone(member), State::Silent),
        6 => {
            let other = (member + rng.random_range(1..MEMBERS)) % MEMBERS;
            let state = if rng.random_ratio(1, 2) { State::Cut } else { State::Silent };
            Fault::Partition(Split::Apart(member, other), state)
        }
        _ => Fault::Partition(Split::Alone(member), State::Delayed(Duration::from_millis(rng.random_range(50..600)))),
    }
}

fn server(rng: &mut Pcg64, kind: usize) -> Fault {
    let server = rng.random_range(0..REPLICAS);
    match kind {
        0 => Fault::Kill(Target::Server(server)),
        1 => Fault::Pause(Target::Server(server)),
        2 => Fault::CutOff(server),
        _ => Fault::Clock(Target::Server(server), step(rng)),
    }
}

fn scheduler(rng: &mut Pcg64, kind: usize) -> Fault {
    let one = rng.random_range(0..REPLICAS);
    elected(rng, kind, Target::Scheduler(one), Target::LeadingScheduler)
}

fn controllers(rng: &mut Pcg64, kind: usize) -> Fault {
    let one = rng.random_range(0..REPLICAS);
    elected(rng, kind, Target::Controllers(one), Target::LeadingControllers)
}

/// Mostly the leader is hit: nobody misses the others.
fn elected(rng: &mut Pcg64, kind: usize, one: Target, leading: Target) -> Fault {
    let target = if rng.random_ratio(3, 4) { leading } else { one };
    match kind {
        0 => Fault::Kill(target),
        1 => Fault::Pause(target),
        2 => Fault::Silence(Link::Part(target)),
        _ => Fault::Clock(target, step(rng)),
    }
}

fn node(rng: &mut Pcg64, kind: usize) -> Fault {
    let node = Target::Node(rng.random_range(0..NODES));
    match kind {
        0 => Fault::Kill(node),
        1 => Fault::Pause(node),
        2 => Fault::Cut(Link::Part(node)),
        _ => Fault::Clock(node, step(rng)),
    }
}

fn link(rng: &mut Pcg64, kind: usize) -> Fault {
    let server = rng.random_range(0..REPLICAS);
    let store = Link::Store { server, member: rng.random_range(0..MEMBERS) };
    let link = if rng.random_ratio(1, 2) { store } else { Link::Clients(server) };
    match kind {
        0 => Fault::Cut(link),
        1 => Fault::Silence(link),
        _ => Fault::Delay(link, Duration::from_millis(rng.random_range(20..400))),
    }
}

fn step(rng: &mut Pcg64) -> i64 {
    *[-300, -30, 30, 300].get(rng.random_range(0..4_usize)).unwrap_or(&30)
}

/// The faults of a run, in the order in which they begin.
pub fn faults(seed: u64, duration: Duration, pace: Pace) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (lane, (fault, count)) in (0_u64..).zip(LANES) {
        let mut rng = Pcg64::seed_from_u64(seed.wrapping_mul(31).wrapping_add(lane));
        let mut time = |(least, most)| Duration::from_millis(rng.random_range(least..=most));
        let mut at = time(pace.gap_ms);
        let mut kinds = Vec::new();
        loop {
            let until = at + time(pace.lasts_ms);
            let gap = time(pace.gap_ms);
            if until > duration {
                break;
            }
            let mut rng = Pcg64::seed_from_u64(seed ^ u64::try_from(until.as_nanos()).unwrap_or(lane));
            // Every kind comes before one comes again.
            if kinds.is_empty() {
                kinds.extend(0..count);
                kinds.shuffle(&mut rng);
            }
            let kind = kinds.pop().unwrap_or(0);
            planned.push(Planned { from: at, until, fault: fault(&mut rng, kind) });
            at = until + gap;
        }
    }
    planned.sort_by_key(|planned| planned.from);
    planned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let plan = |seed| faults(seed, Duration::from_secs(600), Pace::LONG);
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn a_short_run_has_faults_of_many_kinds() {
        for seed in 0..20 {
            let kinds: BTreeSet<_> =
                faults(seed, Duration::from_secs(25), Pace::SHORT).iter().map(|one| one.fault.kind()).collect();
            assert!(kinds.len() >= 6, "{seed}: {kinds:?}");
        }
    }

    #[test]
    fn whoever_is_alone_reaches_nobody_and_is_reached_by_nobody() {
        let links = Split::Alone(1).links();
        assert_eq!(links.len(), 4);
        let with_one =
            |link: &Link| matches!(link, Link::Peer { from: 1, to: 0 | 2 } | Link::Peer { from: 0 | 2, to: 1 });
        assert!(links.iter().all(with_one), "{links:?}");
        assert_eq!(Split::Apart(2, 0).links(), [Link::Peer { from: 2, to: 0 }, Link::Peer { from: 0, to: 2 }]);
    }

    #[test]
    fn a_long_run_has_partitions_of_all_kinds() {
        let plan = faults(3, Duration::from_secs(600), Pace::LONG);
        let kinds: BTreeSet<_> = plan.iter().map(|one| one.fault.kind()).collect();
        for kind in ["member alone", "member silently alone", "members apart", "members slow to each other"] {
            assert!(kinds.contains(kind), "{kind}: {kinds:?}");
        }
    }

    #[test]
    fn never_is_more_than_one_member_or_one_server_down() {
        let is_member = |fault: Fault| {
            matches!(
                fault,
                Fault::Kill(Target::Member(_))
                    | Fault::Pause(Target::Member(_))
                    | Fault::FullDisk(_)
                    | Fault::Partition(..)
            )
        };
        let is_server = |fault: Fault| {
            matches!(fault, Fault::Kill(Target::Server(_)) | Fault::Pause(Target::Server(_)) | Fault::CutOff(_))
        };
        let plan = faults(7, Duration::from_secs(3_600), Pace::LONG);
        for of in [is_member, is_server] {
            let same: Vec<_> = plan.iter().filter(|one| of(one.fault)).collect();
            assert!(same.len() > 50 && same.windows(2).all(|two| two[0].until < two[1].from));
        }
    }
}
