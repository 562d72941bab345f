//! A cell as in the Omega paper: many short batch jobs, few long service jobs, places taken at random where there is room.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Cluster;
use longshore_scheduler::policies::NodeResourcesFit;
use longshore_scheduler::{ExtensionPoint, Profile};
use longshore_simulator::observer::{Happening, Observer};
use longshore_simulator::simulation::{
    Architecture, Commit, Conflicts, DecisionTime, DecisionTimes, Retry, SchedulerSpec, Simulation, Takes,
};
use longshore_simulator::workload::{Class, Event, Job, Task, What};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::json;

/// What arrives, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) nodes: u32,
    pub(crate) cores: u32,
    /// How long jobs arrive, in seconds.
    pub(crate) seconds: f64,
    pub(crate) batch: Arrivals,
    pub(crate) service: Arrivals,
    pub(crate) seed: u64,
}

/// Jobs of one class, all times in seconds and exponentially distributed, the numbers of pods geometrically.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrivals {
    pub(crate) between: f64,
    pub(crate) pods: f64,
    pub(crate) lasts: f64,
    pub(crate) cores: u32,
}

/// Who decides, named as in the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheduling {
    SinglePath,
    MultiPath,
    TwoLevel,
    Shared(Conflicts, Commit),
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measures {
    /// Seconds from a job's arrival to the beginning of its first attempt, in the mean. Jobs that still wait count as far as they do.
    pub(crate) batch_wait: f64,
    pub(crate) service_wait: f64,
    /// The part of the time in which a scheduler of the class decides.
    pub(crate) batch_busy: f64,
    pub(crate) service_busy: f64,
    /// Attempts at service jobs that were in conflict, for each job that was tried.
    pub(crate) conflict_fraction: f64,
    /// Jobs given up.
    pub(crate) given_up: u32,
}

/// So long batch jobs are thought about: a tenth of a second, and 5 ms for each pod.
const BATCH: (f64, f64) = (0.1, 0.005);

fn time((per_job, per_task): (f64, f64)) -> DecisionTime {
    DecisionTime::Modelled { per_job: Duration::from_secs_f64(per_job), per_task: Duration::from_secs_f64(per_task) }
}

/// The scheduling, where thinking about a service job takes so many seconds.
pub(crate) fn simulation(scheduling: Scheduling, per_service_job: f64) -> Simulation {
    let (batch, service) = (time(BATCH), time((per_service_job, BATCH.1)));
    let of = |takes, time| SchedulerSpec { takes, decisions: DecisionTimes::all(time) };
    let two = || vec![of(Takes::Batch, batch), of(Takes::Service, service)];
    let architecture = match scheduling {
        // It has one path for all jobs, so it thinks as long about each.
        Scheduling::SinglePath => Architecture::Monolithic { decisions: DecisionTimes::all(service) },
        Scheduling::MultiPath => Architecture::Monolithic { decisions: DecisionTimes { batch, service } },
        Scheduling::TwoLevel => Architecture::TwoLevel { frameworks: two() },
        Scheduling::Shared(conflicts, commit) => Architecture::SharedState { schedulers: two(), conflicts, commit },
    };
    Simulation { architecture, retry: Retry::Immediate { attempts: 1000 }, preemption: false, ..Simulation::default() }
}

/// Any node with room, each as likely.
fn profile() -> Profile {
    Profile::empty("omega").with(NodeResourcesFit::default()).without_at("NodeResourcesFit", ExtensionPoint::Score)
}

impl Cell {
    /// Runs it until no more jobs arrive.
    pub(crate) fn run(
        self,
        scheduling: Scheduling,
        per_service_job: f64,
    ) -> Result<Measures, Box<dyn std::error::Error>> {
        let mut watcher = Watcher::default();
        let until = Duration::from_secs_f64(self.seconds);
        let simulation = simulation(scheduling, per_service_job);
        let ended = simulation.run(profile(), self.events()?, Some(until), &mut watcher)?;
        let busy = |scheduler: usize| {
            let scheduler = scheduler.min(ended.busy.len() - 1);
            ended.busy[scheduler].as_secs_f64() / self.seconds
        };
        let [batch_wait, service_wait] = [Class::Batch, Class::Service].map(|class| watcher.wait(class, until));
        let (conflicts, tried) = (f64::from(watcher.conflicts), f64::from(watcher.tried));
        Ok(Measures {
            batch_wait,
            service_wait,
            batch_busy: busy(0),
            service_busy: busy(1),
            conflict_fraction: conflicts / tried.max(1.0),
            given_up: watcher.given_up,
        })
    }

    fn events(self) -> Result<Vec<Result<Event, Infallible>>, serde_json::Error> {
        let mut rng = Pcg64::seed_from_u64(self.seed);
        let mut events = Vec::new();
        for number in 0..self.nodes {
            let node: Node = serde_json::from_value(json!({
                "metadata": { "name": format!("n{number}") },
                "status": { "allocatable": { "cpu": self.cores.to_string(), "memory": "64Gi", "pods": "110" } },
            }))?;
            events.push(Event { at: Duration::ZERO, what: What::Node(Arc::new(node)) });
        }
        for (class, arrivals) in [(Class::Batch, self.batch), (Class::Service, self.service)] {
            arrivals.jobs(class, self.seconds, &mut rng, &mut events)?;
        }
        events.sort_by_key(|event| event.at);
        Ok(events.into_iter().map(Ok).collect())
    }
}

impl Arrivals {
    fn jobs(self, class: Class, until: f64, rng: &mut Pcg64, events: &mut Vec<Event>) -> Result<(), serde_json::Error> {
        let mut exponential = |mean: f64| -mean * (1.0 - rng.random::<f64>()).ln();
        let requests = json!({ "cpu": self.cores.to_string(), "memory": "1Gi" });
        let pod: Pod = serde_json::from_value(json!({
            "spec": { "containers": [{ "name": "main", "resources": { "requests": requests } }] },
        }))?;
        let pod = Arc::new(pod);
        let mut at = exponential(self.between);
        while at < until {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small")]
            let count = 1 + exponential(self.pods - 0.5) as u32;
            let duration = Some(Duration::from_secs_f64(exponential(self.lasts)));
            let job = Job {
                name: format!("{class:?}{}", events.len()).to_lowercase().into(),
                user: "omega".into(),
                class,
                gang: false,
                tasks: vec![Task { pod: pod.clone(), count, duration }],
            };
            events.push(Event { at: Duration::from_secs_f64(at), what: What::Job(job) });
            at += exponential(self.between);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Watcher {
    /// Of each job, when it arrived and how long it waited.
    waits: std::collections::BTreeMap<Arc<str>, (Class, Duration, Option<Duration>)>,
    conflicts: u32,
    tried: u32,
    given_up: u32,
}

impl Watcher {
    fn wait(&self, class: Class, until: Duration) -> f64 {
        let jobs = || self.waits.values().filter(|(of, ..)| *of == class);
        let waits = jobs().map(|(_, arrived, wait)| wait.unwrap_or(until.saturating_sub(*arrived)).as_secs_f64());
        waits.sum::<f64>() / jobs().count().max(1) as f64
    }
}

impl Observer for Watcher {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, _: &Cluster) {
        match what {
            Happening::JobArrived(job) => drop(self.waits.insert(job.name.clone(), (job.class, at, None))),
            Happening::GivenUp { .. } => self.given_up += 1,
            Happening::Attempt(attempt) => {
                if attempt.first
                    && let Some((.., wait)) = self.waits.get_mut(&attempt.job.name)
                {
                    *wait = Some(attempt.began - attempt.arrived);
                }
                if attempt.job.class == Class::Service {
                    self.tried += u32::from(attempt.first);
                    self.conflicts += u32::from(attempt.conflicts > 0);
                }
            }
            _ => {}
        }
    }
}
