use std::num::NonZeroUsize;

use longshore_core::scheduling::cluster::Cluster;

use super::*;
use crate::experiment::Experiment;
use crate::observer::Happening;
use crate::openb::{Machine, Request};
use crate::report::Report;
use crate::workload::Task;

/// Writes down who got which place when, and how that ended.
#[derive(Default)]
struct Record(Vec<(u64, String)>);

impl Observer for Record {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        let told = match what {
            Happening::Placed(placed) => format!("{} on {}", placed.job.name, cluster.name(placed.node)),
            Happening::Left { job, why, .. } => format!("{} {why:?}", job.name),
            Happening::JobEnded { job, .. } => format!("{} ended", job.name),
            Happening::Refused { job, .. } => format!("{} refused", job.name),
            _ => return,
        };
        self.0.push((at.as_secs(), told));
    }
}

impl Record {
    /// The moments at which this was told.
    fn moments(&self, what: &str) -> Vec<u64> {
        self.0.iter().filter(|(_, told)| told.starts_with(what)).map(|(at, _)| *at).collect()
    }
}

fn node(name: &str) -> What {
    let machine = Machine { name: name.to_owned(), milli_cpu: 4000, memory_mib: 8192, gpus: 2, model: "T4".to_owned() };
    What::Node(Arc::new(machine.node()))
}

fn job(name: &str, class: Class, count: u32, milli_cpu: i64, seconds: Option<u64>) -> Job {
    let request =
        Request { name: name.to_owned(), milli_cpu, memory_mib: 256, gpus: 0, milli: 0, models: String::new() };
    let task = Task { pod: Arc::new(request.pod()), count, duration: seconds.map(Duration::from_secs) };
    Job { name: name.into(), user: "u".into(), class, gang: false, tasks: vec![task] }
}

fn play(events: Vec<(u64, What)>, until: u64, seed: u64) -> (Record, Lived) {
    let mut record = Record::default();
    let events = events
        .into_iter()
        .map(|(at, what)| Ok::<_, std::convert::Infallible>(Event { at: Duration::from_secs(at), what }));
    let scheduler = SchedulerOptions { seed, ..SchedulerOptions::default() };
    let control_plane = ControlPlane { scheduler, seed, until: Duration::from_secs(until) };
    let lived = control_plane.run(events, &mut record).unwrap();
    (record, lived)
}

#[test]
fn jobs_end_by_themselves_and_services_are_deleted() {
    let events = || {
        let mut events: Vec<_> = (0..2).map(|number| (0, node(&format!("n{number}")))).collect();
        events.push((5, What::Job(job("batch", Class::Batch, 4, 2000, Some(100)))));
        events.push((10, What::Job(job("service", Class::Service, 2, 1000, Some(150)))));
        events.push((20, What::Job(job("other", Class::Service, 1, 1000, None))));
        events.push((200, What::Cancel("other".into())));
        events
    };
    let (record, lived) = play(events(), 300, 7);
    assert_eq!(record.moments("batch on "), [5, 5, 5, 5], "{:?}", record.0);
    // The agent needs a moment to start its pod.
    assert!(record.moments("batch Finished").iter().all(|at| (105..=108).contains(at)), "{:?}", record.0);
    assert_eq!(record.moments("batch Finished").len(), 4);
    assert_eq!(record.moments("batch ended").len(), 1);
    assert!(!record.moments("service refused").is_empty(), "the nodes are full: {:?}", record.0);
    assert!(record.moments("service on ").iter().all(|at| (105..=120).contains(at)), "{:?}", record.0);
    assert_eq!(record.moments("service Cancelled").len(), 2);
    assert!(record.moments("other Cancelled").iter().all(|at| (200..=231).contains(at)), "{:?}", record.0);
    assert_eq!((lived.events, lived.running, lived.waiting), (6, 0, 0));
    assert!(lived.figures.iter().any(|figure| figure.name == "time until pods run, mean"));

    let (again, same) = play(events(), 300, 7);
    assert_eq!((again.0, same), (record.0, lived), "a seed decides everything");
}

#[test]
fn pods_of_a_lost_node_are_made_anew_when_its_silence_was_noticed() {
    let mut events = vec![(0, node("a")), (1, What::Job(job("s", Class::Service, 1, 3000, None)))];
    events.push((50, node("b")));
    events.push((100, What::NodeLost("a".into())));
    let (record, lived) = play(events, 600, 1);
    assert_eq!(record.moments("s on a"), [1], "{:?}", record.0);
    assert_eq!(record.moments("s NodeLost"), [100]);
    // 40 s of silence, and 5 minutes that pods tolerate.
    assert!(record.moments("s on b").iter().all(|at| (425..=465).contains(at)), "{:?}", record.0);
    assert_eq!(lived.running, 1, "{:?}", record.0);
}

#[test]
fn pods_of_a_drained_node_go_elsewhere() {
    let mut events = vec![(0, node("a")), (1, What::Job(job("s", Class::Service, 1, 3000, None)))];
    events.push((50, node("b")));
    events.push((100, What::Drain("a".into())));
    let (record, _) = play(events, 200, 1);
    assert!(record.moments("s on b").iter().all(|at| (100..=131).contains(at)), "{:?}", record.0);
    assert_eq!((record.moments("s Drained").len(), record.moments("s on ").len()), (1, 2), "{:?}", record.0);
}

const MANIFESTS: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: a, labels: {disk: ssd}}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop}
  spec:
    replicas: 3
    selector: {matchLabels: {app: web}}
    template: {metadata: {labels: {app: web}}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: i}]}}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata:
    name: web-1
    namespace: shop
    ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: u, controller: true}]
  spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: alone, namespace: shop, uid: x, resourceVersion: '7'}
  spec: {nodeName: a, priority: 9, priorityClassName: high, containers: [{name: c, image: i}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: waits, namespace: shop}
  spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 9}}}]}
";

const EXPERIMENT: &str = "
seeds: 2
simulation:
  source:
    merged:
    - kubernetes: { path: cluster.yaml }
    - jobs: { arrivals: { poisson: { ratePerSecond: 0.05 } }, count: 4, cpu: { constant: 0.5 }, durationSeconds: { constant: 20 } }
  controlPlane: true
  policies: [default, best-fit]
  until: 200
  period: 50
";

#[test]
fn manifests_are_created_and_the_same_seed_gives_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cluster.yaml"), MANIFESTS).unwrap();
    let experiment = |text: &str| Experiment::parse(text, &directory.path().join("x.yaml")).unwrap();
    let run = |jobs| experiment(EXPERIMENT).run(NonZeroUsize::new(jobs).unwrap(), &|_| ()).unwrap();
    let results = run(1);
    let of = |figure: &str| {
        let found = results.runs[0].figures.iter().find(|of| of.name == figure);
        found.unwrap_or_else(|| panic!("no {figure}: {:?}", results.runs[0].figures)).value
    };
    assert_eq!(of("placements"), 3.0 + 1.0 + 4.0);
    assert_eq!((of("pods finished"), of("pods waiting at the end")), (4.0, 1.0));
    let files = |results| Report::of(results).files().unwrap();
    assert!(files(&results) == files(&run(2)), "on any number of threads");

    let refused = |text: &str| experiment(text).check().unwrap_err().to_string();
    assert!(refused(&EXPERIMENT.replace("  until: 200\n", "")).contains("until: SECONDS"));
    assert!(
        refused(&format!("{EXPERIMENT}  serviceJobTimes: [1]\n")).starts_with("serviceJobTimes: with controlPlane")
    );
}
