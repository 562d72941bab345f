//! One world: everything is started, things go wrong while clients work, everything comes to rest, and the history is checked.

mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::kind::KindType;
use longshore_core::store::{HistoryLimits, ListOptions, MemoryStore, Store};
use longshore_core::testing::clock::SkewedClock;
use longshore_core::testing::faults::{Faults, FaultyStore};
use longshore_faults::check::{self, Violation};
use longshore_faults::history::Kind;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio::sync::watch;

use crate::branch::{Branch, Sabotage};
use crate::fences::Fences;
use crate::log::{Log, kind_type, name, revision};
use crate::parts::{self, Machine};
use crate::plan::{self, Fault, Part, Planned, Size};
use crate::processes::{Place, Processes};
use crate::truth::{Truth, prefix};
use crate::wire::{Port, Wire};
use crate::workload::{Task, Worker};
use crate::{panics, reached, rest};

/// When faults begin: by then servers and nodes are there, or nearly.
const BEGIN: Duration = Duration::from_secs(3);

/// Longest wait until everything is as it should be.
const REST_MAX: Duration = Duration::from_secs(300);

/// Between looks.
const LOOK: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long things go wrong at most, in virtual time: a third of it at least, as the seed says.
    pub duration: Duration,
    /// A bug that is put in, to see whether it is found.
    pub sabotage: Option<Sabotage>,
}

impl Default for Options {
    /// Up to a quarter of a minute of faults, and no bug that we know of.
    fn default() -> Self {
        Self { duration: Duration::from_secs(15), sabotage: None }
    }
}

/// What a world came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What went wrong when, in words.
    pub plan: Vec<String>,
    /// Changes that observers told, each once.
    pub changes: u64,
    /// States that were reached, and how often.
    pub reached: BTreeMap<&'static str, u64>,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// Of all that happened: the same for the same seed.
    pub fingerprint: u64,
}

/// Runs the world of a seed on the calling thread.
pub fn run(seed: u64, options: &Options) -> Outcome {
    panics::take();
    let mut world = World::new(seed, options);
    let ran = world.live();
    let mut outcome = world.judge();
    if let Err(stuck) = ran {
        outcome.violations.insert(0, Violation::new("convergence", stuck));
    }
    drop(world);
    outcome.violations.extend(panics::take().into_iter().map(|what| Violation::new("no panic", what)));
    outcome
}

/// A process, what it stands on, and how often it was started.
#[derive(Debug)]
struct Seat {
    place: Place,
    clock: SkewedClock,
    wire: Option<Wire>,
    starts: u64,
}

struct World {
    seed: u64,
    size: Size,
    tasks: Vec<Task>,
    rng: Pcg64,
    clock: VirtualClock,
    processes: Processes,
    store: Arc<MemoryStore>,
    truth: Arc<Truth>,
    /// What each server takes for the store.
    stores: Vec<Arc<FaultyStore>>,
    branches: Vec<Arc<Branch>>,
    ports: Vec<Port>,
    seats: BTreeMap<Part, Seat>,
    machines: Vec<Machine>,
    clients: (Place, Vec<Wire>),
    observers: (Place, Vec<Wire>),
    stop: watch::Sender<bool>,
    /// Whether all clients have finished what they began.
    done: Arc<AtomicBool>,
    fences: Arc<Fences>,
    log: Arc<Log>,
    /// How long things go wrong.
    duration: Duration,
    plan: Vec<Planned>,
    kinds: Vec<&'static KindType>,
    /// Whom a fault that is there has hit.
    hit: Vec<(Fault, Part)>,
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut rng = Pcg64::seed_from_u64(seed);
        let tasks = Task::some(&mut rng);
        let mut some = |most| rng.random_range(1..=most);
        let size = Size { servers: 2, schedulers: some(2), controllers: some(2), nodes: some(3), clients: tasks.len() };
        let duration = options.duration.mul_f64(rng.random_range(1.0 / 3.0..=1.0));
        let clock = VirtualClock::new();
        let limits = HistoryLimits { changes_max: 400, ..HistoryLimits::default() };
        let store = Arc::new(MemoryStore::with_clock(Arc::new(clock.clone()), limits));
        let truth = Arc::new(Truth::new(store.clone()));
        let mut processes = Processes::new(clock.clone(), rng.random());
        let ports: Vec<Port> = (0..size.servers).map(|_| Port::default()).collect();
        let fences = Arc::new(Fences::new(store.clone(), options.sabotage != Some(Sabotage::NoFences)));
        let right: Arc<dyn Clock> = Arc::new(clock.clone());
        let branches = (0..size.servers).map(|server| {
            let sabotage = options.sabotage.filter(|_| server == 0);
            Arc::new(Branch::new(truth.clone(), right.clone(), sabotage))
        });
        let branches: Vec<Arc<Branch>> = branches.collect();
        let store_of = |branch: &Arc<Branch>| {
            Arc::new(FaultyStore::with_clock(branch.clone(), Faults::none(), rng.random(), right.clone()))
        };
        let stores = branches.iter().map(store_of).collect();
        let wire = |clock: Arc<dyn Clock>, first: usize, only: bool, seed: u64| {
            let mut wired = ports.clone();
            wired.rotate_left(first % size.servers);
            wired.truncate(if only { 1 } else { wired.len() });
            Wire::new(clock, wired, fences.clone(), seed)
        };
        let mut seats = BTreeMap::new();
        let numbered = |count, part: fn(usize) -> Part| (0..count).map(part);
        let parts = numbered(size.servers, Part::Server)
            .chain(numbered(size.schedulers, Part::Scheduler))
            .chain(numbered(size.controllers, Part::Controllers))
            .chain(numbered(size.nodes, Part::Node));
        for (number, part) in parts.enumerate() {
            let clock = SkewedClock::new(clock.clone());
            let wired = !matches!(part, Part::Server(_));
            let wire = wired.then(|| wire(Arc::new(clock.clone()), number, false, rng.random()));
            seats.insert(part, Seat { place: processes.place(), clock, wire, starts: 0 });
        }
        let machines = (0..size.nodes).map(|node| Machine::new(node, Arc::new(seats[&Part::Node(node)].clock.clone())));
        let machines = machines.collect();
        let clients = (0..size.clients).map(|client| wire(right.clone(), client, false, rng.random())).collect();
        let observers = (0..size.servers).map(|server| wire(right.clone(), server, true, rng.random())).collect();
        let (clients, observers) = ((processes.place(), clients), (processes.place(), observers));
        let plan = plan::faults(seed, duration, &size);
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Lease).map(kind_type).collect();
        Self {
            seed,
            size,
            tasks,
            rng,
            clock,
            processes,
            store,
            truth,
            stores,
            branches,
            ports,
            seats,
            machines,
            clients,
            observers,
            stop: watch::Sender::new(false),
            done: Arc::default(),
            fences,
            log: Arc::default(),
            duration,
            plan,
            kinds,
            hit: Vec::new(),
        }
    }

    /// Everything until it is at rest.
    fn live(&mut self) -> Result<(), String> {
        for part in self.seats.keys().copied().collect::<Vec<_>>() {
            self.start(part)?;
        }
        self.start_observers()?;
        self.start_clients()?;
        let mut steps: Vec<(Duration, bool, Planned)> = Vec::new();
        for one in &self.plan {
            steps.extend([(one.from, true, *one), (one.until, false, *one)]);
        }
        steps.sort_by_key(|(at, begins, _)| (*at, *begins));
        for (at, begins, one) in steps {
            self.processes.run_until(BEGIN + at)?;
            tracing::info!(at = ?self.clock.elapsed(), fault = %one.fault, begins, "fault");
            if begins { self.begin(one.fault)? } else { self.end(one.fault)? }
        }
        self.processes.run_until(BEGIN + self.duration)?;
        tracing::info!(at = ?self.clock.elapsed(), "no more faults");
        self.stop.send_replace(true);
        self.come_to_rest()
    }

    fn come_to_rest(&mut self) -> Result<(), String> {
        let until = self.clock.elapsed() + REST_MAX;
        loop {
            self.processes.run_until(self.clock.elapsed() + LOOK)?;
            // A request that nobody knows the outcome of yet may have been carried out.
            let asked = (!self.done.load(Ordering::Relaxed)).then(|| "a client waits for an answer".to_owned());
            let missing = asked.or_else(|| rest::missing(&self.log, 0, self.size.nodes)).or_else(|| self.untold());
            match missing {
                None => return Ok(()),
                Some(missing) if self.clock.elapsed() >= until => {
                    return Err(format!("not within {} s: {missing}", REST_MAX.as_secs()));
                }
                Some(missing) => tracing::debug!(at = ?self.clock.elapsed(), missing, "not yet"),
            }
        }
    }

    /// Where what an observer was told is not what the store holds.
    fn untold(&self) -> Option<String> {
        for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Lease | Kind::Node)) {
            let prefix = prefix(kind);
            let page = self.store.list(&prefix, ListOptions::default()).now_or_never()?.ok()?;
            let held = page.entries.iter().map(|entry| (&entry.key[prefix.len()..], entry.revision));
            let held: BTreeMap<&str, u64> = held.collect();
            for server in 0..self.size.servers {
                let state = self.log.state(server, kind);
                let told: BTreeMap<&str, u64> = state.iter().map(|object| (name(object), revision(object))).collect();
                if told != held {
                    return Some(format!("{kind}: the store holds {held:?}, server {server} told {told:?}"));
                }
            }
        }
        None
    }

    /// What all that happened comes to.
    fn judge(&self) -> Outcome {
        let told = self.log.finish(&self.truth.happened(), self.size.servers);
        let mut violations: Vec<Violation> =
            told.unexpected.iter().map(|what| Violation::new("answers", what.clone())).collect();
        let (events, found) = check::all(&told.history);
        violations.extend(found);
        violations.extend(self.fences.check(&events));
        Outcome {
            seed: self.seed,
            violations,
            faults: plan::count(&self.plan),
            plan: self.plan.iter().map(describe).collect(),
            changes: events.len() as u64,
            reached: reached::reached(&events, &told.history.streams),
            lasted: self.clock.elapsed(),
            fingerprint: told.fingerprint,
        }
    }

    /// Starts a part, again or for the first time.
    fn start(&mut self, part: Part) -> Result<(), String> {
        let seed = self.rng.random();
        let same_name: bool = self.rng.random();
        let Some(seat) = self.seats.get_mut(&part) else { return Ok(()) };
        seat.starts += 1;
        let clock: Arc<dyn Clock> = Arc::new(seat.clock.clone());
        let client = |manager| seat.wire.as_ref().map(|wire| wire.client(manager)).ok_or("it has no wire");
        // One that comes back may call itself as before, or not.
        let identity = |name: &str, number| match same_name {
            true => format!("{name}-{number}"),
            false => format!("{name}-{number}-{}", seat.starts),
        };
        match part {
            Part::Server(server) => {
                let (store, requests) = (self.stores[server].clone(), self.ports[server].listen());
                self.processes.start(seat.place, parts::server(store, clock, seed, requests))
            }
            Part::Scheduler(number) => {
                let identity = identity("scheduler", number);
                self.processes.start(seat.place, parts::scheduler(client("scheduler")?, clock, identity, seed))
            }
            Part::Controllers(number) => {
                let (identity, kinds) = (identity("controllers", number), self.kinds.clone());
                let main = parts::controllers(client("controller-manager")?, clock, identity, seed, kinds);
                self.processes.start(seat.place, main)
            }
            Part::Node(node) => {
                let machine = self.machines[node].clone();
                self.processes.start(seat.place, machine.agent(client("kubelet")?, clock, seed))
            }
        }
    }

    fn start_observers(&mut self) -> Result<(), String> {
        let (place, wires) = &self.observers;
        let watches = wires.iter().enumerate().flat_map(|(server, wire)| {
            let (log, clock) = (&self.log, Arc::new(self.clock.clone()));
            Kind::ALL.map(|kind| {
                let client = wire.client("observer");
                crate::observe::run(client, clock.clone(), server, kind, log.clone())
            })
        });
        let watches = join_all(watches.collect::<Vec<_>>());
        self.processes.start(*place, async move { drop(watches.await) })
    }

    fn start_clients(&mut self) -> Result<(), String> {
        let streams = self.size.servers * Kind::ALL.len();
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let mut workers = Vec::new();
        for (number, (wire, task)) in (0_u64..).zip(self.clients.1.iter().zip(&self.tasks)) {
            let (log, stop) = (self.log.clone(), self.stop.subscribe());
            let client = wire.client("client");
            let worker = Worker::new(client, clock.clone(), log, stop, (number, self.rng.random()));
            workers.push(worker.run(*task));
        }
        let (log, done) = (self.log.clone(), self.done.clone());
        self.processes.start(self.clients.0, async move {
            // What was written before all observe, none would have told.
            while log.streams() < streams {
                clock.sleep(Duration::from_millis(200)).await;
            }
            join_all(workers).await;
            done.store(true, Ordering::Relaxed);
        })
    }
}

fn describe(planned: &Planned) -> String {
    let (from, until) = (BEGIN + planned.from, BEGIN + planned.until);
    format!("{:7.3} s to {:7.3} s  {}", from.as_secs_f64(), until.as_secs_f64(), planned.fault)
}
