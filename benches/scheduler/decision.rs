//! Decisions only: the engine, without queue or API. Pods are placed one at a time, each a value of its own.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::{Engine, Profile, Unplaced};

use crate::{Measured, Outcome, checks, resident_mib};
use longshore_simulator::generate::scheduler_perf::{Workload, pod};

/// Runs a workload on so many engines side by side.
pub(crate) fn run(workload: &Workload, nodes: usize, threads: usize, verify: bool) -> Outcome<Measured> {
    let all = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| alone(workload, nodes, verify))).collect();
        running.into_iter().map(|thread| thread.join().expect("a run does not panic")).collect::<Outcome<Vec<_>>>()
    })?;
    let seconds = all.iter().map(|measured| measured.seconds).fold(0.0, f64::max);
    let pods = all.iter().map(|measured| measured.pods).sum();
    let rss_mib = all.iter().map(|measured| measured.rss_mib).fold(0.0, f64::max);
    let mut times: Vec<Duration> = all.into_iter().flat_map(|measured| measured.times).collect();
    times.sort_unstable();
    Ok(Measured { pods, seconds, times, rss_mib })
}

fn alone(workload: &Workload, nodes: usize, verify: bool) -> Outcome<Measured> {
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::Uniform { seed: 1 });
    for index in 0..nodes {
        engine.cluster_mut().put_node(Arc::new(workload.node(index)));
    }
    for (name, template, index) in workload.initial_pods(nodes) {
        // Some are never to fit.
        let _ = engine.place(&pod(&name, template, index));
    }
    let pods: Vec<_> =
        workload.measured_pods(nodes).map(|(name, template, index)| pod(&name, template, index)).collect();
    let clock = SystemClock::new();
    let mut times = Vec::with_capacity(pods.len());
    for pod in &pods {
        let start = clock.elapsed();
        let evicted = if workload.preempts { make_room(&mut engine, pod)? } else { Duration::ZERO };
        let best = verify.then(|| engine.explain_by_reference(pod)).transpose()?;
        let again = clock.elapsed();
        let placed = engine.place(pod).map_err(|why| format!("{:?} goes nowhere: {why}", pod.metadata.name))?;
        let took = clock.elapsed() - if verify { again } else { start };
        times.push(if verify { took + evicted } else { took });
        if best.is_some_and(|explanation| !explanation.best.contains(&placed.node)) {
            return Err(format!("{} is not among the best nodes for {:?}", placed.node, pod.metadata.name).into());
        }
    }
    checks::check(&engine, &pods)?;
    let seconds = times.iter().sum::<Duration>().as_secs_f64();
    Ok(Measured { pods: pods.len(), seconds, times, rss_mib: resident_mib() })
}

/// Evicts pods if that is what it takes, and says how long that took.
fn make_room(engine: &mut Engine, pod: &Pod) -> Outcome<Duration> {
    let clock = SystemClock::new();
    let Err(Unplaced::Refused(refused)) = engine.decide(pod) else { return Ok(clock.elapsed()) };
    let way = engine.post_filter(pod, &refused).nomination.ok_or("evictions make no room")?;
    for victim in &way.victims {
        let meta = &victim.metadata;
        engine.unplace(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    }
    Ok(clock.elapsed())
}
