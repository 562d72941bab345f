//! Jobs from distributions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::PodTemplateSpec;
use longshore_core::api::pod::{Container, Pod};
use longshore_core::quantity::{Format, Quantity};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::distribution::{Distribution, Sampler};
use super::process::Process;
use crate::traces::{Events, TraceError};
use crate::workload::{Class, Event, Job, Task, What};

/// As many pods as a job has at most.
const MOST_PODS: f64 = 1e6;

/// The longest that anything runs, in seconds.
const LONGEST: f64 = 3.2e9;

/// Jobs of one kind, without end unless `count` or `untilSeconds` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jobs {
    /// What their names begin with; other jobs of the workload must have another one.
    #[serde(default = "job")]
    pub name: String,
    /// When they arrive.
    pub arrivals: Process,
    /// How many there are.
    #[serde(default)]
    pub count: Option<u64>,
    /// None arrives at this moment or later.
    #[serde(default)]
    pub until_seconds: Option<f64>,
    /// What they are for.
    #[serde(default = "batch")]
    pub class: Class,
    /// How many users they are of, each as likely.
    #[serde(default = "one")]
    pub users: u32,
    /// All pods of a job get places, or none does.
    #[serde(default)]
    pub gang: bool,
    /// The pods' priority.
    #[serde(default)]
    pub priority: i32,
    /// How many pods a job has, rounded, at least 1.
    #[serde(default = "single")]
    pub pods: Distribution,
    /// How long all pods of a job run; if left out, for ever.
    #[serde(default)]
    pub duration_seconds: Option<Distribution>,
    /// What the pods are, but for what the following fields say.
    #[serde(default)]
    pub template: PodTemplateSpec,
    /// Cores that each pod of a job asks for.
    #[serde(default)]
    pub cpu: Option<Distribution>,
    /// Memory that each pod of a job asks for, in GiB.
    #[serde(default)]
    pub memory_gib: Option<Distribution>,
}

fn job() -> String {
    "job".to_owned()
}

fn batch() -> Class {
    Class::Batch
}

fn one() -> u32 {
    1
}

fn single() -> Distribution {
    Distribution::Constant(1.0)
}

impl Jobs {
    pub(crate) fn events(&self, base: &Path, seed: u64) -> Result<Events, TraceError> {
        let mut rng = Pcg64::seed_from_u64(seed);
        let sampler = |of: &Option<Distribution>| of.as_ref().map(|of| of.sampler(base)).transpose();
        let mut shapes = Shapes {
            name: self.name.clone(),
            users: (0..self.users.max(1)).map(|user| format!("user-{user}").into()).collect(),
            class: self.class,
            gang: self.gang,
            pods: self.pods.sampler(base)?,
            duration: sampler(&self.duration_seconds)?,
            cpu: sampler(&self.cpu)?,
            memory_gib: sampler(&self.memory_gib)?,
            template: self.pod(),
            // When jobs arrive does not change with what they are.
            rng: Pcg64::seed_from_u64(rng.random()),
        };
        let until = match self.until_seconds {
            Some(until) if until >= 0.0 => Duration::try_from_secs_f64(until).unwrap_or(Duration::MAX),
            Some(until) => {
                let reason = format!("untilSeconds is {until}: it must be at least 0");
                return Err(TraceError::Setting { what: "jobs", reason });
            }
            None => Duration::MAX,
        };
        let moments = self.arrivals.moments(base, rng)?.take_while(move |at| *at < until);
        let numbered = (0..self.count.unwrap_or(u64::MAX)).zip(moments);
        Ok(Box::new(numbered.map(move |(number, at)| Ok(Event { at, what: What::Job(shapes.job(number)) }))))
    }

    fn pod(&self) -> Pod {
        let PodTemplateSpec { metadata, spec } = self.template.clone();
        let mut pod = Pod { metadata, spec, ..Pod::default() };
        pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        pod.spec.priority.get_or_insert(self.priority);
        if pod.spec.containers.is_empty() {
            pod.spec.containers.push(Container { name: "main".to_owned(), ..Container::default() });
        }
        pod
    }
}

struct Shapes {
    name: String,
    users: Vec<Arc<str>>,
    class: Class,
    gang: bool,
    pods: Sampler,
    duration: Option<Sampler>,
    cpu: Option<Sampler>,
    memory_gib: Option<Sampler>,
    template: Pod,
    rng: Pcg64,
}

impl Shapes {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all is clamped")]
    fn job(&mut self, number: u64) -> Job {
        let rng = &mut self.rng;
        let count = self.pods.draw(rng).round().clamp(1.0, MOST_PODS) as u32;
        let duration = self.duration.as_ref().map(|sampler| Duration::from_secs_f64(sampler.draw(rng).min(LONGEST)));
        let mut pod = self.template.clone();
        let requests = pod.spec.containers.first_mut().map(|container| &mut container.resources.requests);
        if let Some(requests) = requests {
            let mut ask = |name: &str, quantity| requests.insert(name.to_owned(), quantity);
            if let Some(cpu) = &self.cpu {
                ask("cpu", Quantity::from_milli((cpu.draw(rng).min(1e9) * 1000.0).ceil() as i64, Format::DecimalSi));
            }
            if let Some(memory) = &self.memory_gib {
                let bytes = memory.draw(rng).min(1e6) * (1_u64 << 30) as f64;
                ask("memory", Quantity::from_value(bytes.ceil() as i64, Format::BinarySi));
            }
        }
        let user = self.users.get(rng.random_range(0..self.users.len())).cloned().unwrap_or_default();
        let name = format!("{}-{number}", self.name).into();
        let tasks = vec![Task { pod: Arc::new(pod), count, duration }];
        Job { name, user, class: self.class, gang: self.gang, tasks }
    }
}
