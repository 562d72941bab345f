//! The inflation of FGD's experiments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::devices::WHOLE;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::arrivals::{arrivals, shuffle};
use crate::objects;
use crate::openb::{self, Machine, Request};
use crate::traces::{Events, TraceError};
use crate::workload::{Class, Event, Job, Task, What};

/// Pods of an openb list in random order, drawn again or left out until together they ask for a multiple of all GPUs, one after another;
/// nobody leaves (Weng et al., FGD, USENIX ATC '23). Nodes are in random order too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inflated {
    /// The list of nodes.
    pub nodes: PathBuf,
    /// The list of pods.
    pub pods: PathBuf,
    /// How much GPU arrives, as a multiple of what there is. If left out, each pod of the list arrives once.
    #[serde(default)]
    pub tune: Option<f64>,
    /// How far arrivals are apart.
    #[serde(default = "second")]
    pub gap_seconds: f64,
}

fn second() -> f64 {
    1.0
}

impl Inflated {
    pub(crate) fn events(&self, base: &Path, seed: u64) -> Result<Events, TraceError> {
        let wrong = |reason: String| TraceError::Setting { what: "inflated", reason };
        let gap = match self.gap_seconds {
            gap @ 0.0..=1e6 => Duration::from_secs_f64(gap),
            other => return Err(wrong(format!("gapSeconds is {other}: it must be from 0 to a million"))),
        };
        let unreadable = |error: openb::Error| wrong(error.to_string());
        let mut machines = openb::machines(&base.join(&self.nodes)).map_err(unreadable)?;
        let requests = openb::requests(&base.join(&self.pods)).map_err(unreadable)?;
        let capacity: i64 = machines.iter().map(|machine| machine.gpus * WHOLE).sum();
        #[expect(clippy::cast_possible_truncation, reason = "it is a hundred times the cluster at most")]
        let target = match self.tune {
            None => None,
            Some(_) if capacity == 0 => return Err(wrong("no node has a GPU: there is nothing to tune to".to_owned())),
            Some(tune) if tune > 0.0 && tune <= 100.0 => Some((tune * capacity as f64).round() as i64),
            Some(tune) => return Err(wrong(format!("tune is {tune}: it must be more than 0 and at most 100"))),
        };
        let mut rng = Pcg64::seed_from_u64(seed);
        let order = arrivals(&requests, target, &mut rng);
        machines.sort_by(|a: &Machine, b| a.name.cmp(&b.name));
        shuffle(&mut machines, &mut rng);
        let nodes = machines.into_iter().map(|machine| (Duration::ZERO, What::Node(Arc::new(objects::node(&machine)))));
        let pods: Vec<_> = requests.iter().map(|request: &Request| Arc::new(objects::pod(request))).collect();
        let moments = std::iter::successors(Some(Duration::ZERO), move |at| Some(at.saturating_add(gap)));
        let jobs = moments.zip(order.into_iter().enumerate()).map(move |(at, (number, place))| {
            let tasks = pods.get(place).map(|pod| Task { pod: pod.clone(), count: 1, duration: None });
            let (name, tasks) = (number.to_string().into(), tasks.into_iter().collect());
            (at, What::Job(Job { name, user: "".into(), class: Class::Batch, gang: false, tasks }))
        });
        Ok(Box::new(nodes.chain(jobs).map(|(at, what)| Ok(Event { at, what }))))
    }
}
