//! Decisions only: the engine, on one thread, without queue or API. Pods are placed one at a time.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::{Engine, Profile, Unplaced};

use crate::workloads::{Workload, pod};

/// What was measured.
pub struct Measured {
    /// From the first call to the end of the last.
    pub seconds: f64,
    /// Each call, sorted.
    pub times: Vec<Duration>,
    /// The engine afterwards, to be checked.
    pub engine: Engine,
    /// What was placed.
    pub pods: Vec<Arc<Pod>>,
}

/// An engine with the workload's nodes and initial pods.
pub fn prepared(workload: &Workload, nodes: usize) -> Engine {
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::Uniform { seed: 1 });
    for index in 0..nodes {
        engine.cluster_mut().put_node(Arc::new(workload.node(index)));
    }
    for (kind, (template, count)) in workload.initial.iter().enumerate() {
        for index in 0..workload.scaled(*count, nodes) {
            // Some are never to fit.
            let _ = engine.place(&pod(&format!("initial-{kind}-{index}"), *template, index));
        }
    }
    engine
}

/// Runs a workload.
pub fn run(workload: &Workload, nodes: usize) -> Measured {
    let mut engine = prepared(workload, nodes);
    let (template, count) = workload.measured;
    let pods: Vec<_> =
        (0..workload.scaled(count, nodes)).map(|index| pod(&format!("pod-{index}"), template, index)).collect();
    let clock = SystemClock::new();
    let mut times = Vec::with_capacity(pods.len());
    let begin = clock.elapsed();
    for pod in &pods {
        let start = clock.elapsed();
        place(&mut engine, pod, workload.preempts);
        times.push(clock.elapsed() - start);
    }
    let seconds = (clock.elapsed() - begin).as_secs_f64();
    times.sort_unstable();
    Measured { seconds, times, engine, pods }
}

/// Places a pod, by evicting others if that is what it takes.
fn place(engine: &mut Engine, pod: &Arc<Pod>, preempts: bool) {
    let refused = match engine.place(pod) {
        Ok(_) => return,
        Err(Unplaced::Refused(diagnosis)) if preempts => diagnosis,
        Err(why) => panic!("{:?} goes nowhere: {why}", pod.metadata.name),
    };
    let way = engine.post_filter(pod, &refused).nomination.expect("evicting others makes room");
    for victim in &way.victims {
        let meta = &victim.metadata;
        engine.unplace(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    }
    let placed = engine.place(pod);
    assert!(placed.is_ok(), "{:?} goes nowhere though room was made: {:?}", pod.metadata.name, placed.err());
}
