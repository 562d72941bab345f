use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::scheduler_perf::WORKLOADS;
use super::{Source, merge};
use crate::traces::{Tally, TraceError};
use crate::workload::{Class, Event, Job, What};

fn read(source: &str, seed: u64) -> Result<Vec<Event>, TraceError> {
    let source: Source = serde_saphyr::from_str(source).unwrap();
    let events: Vec<Event> =
        source.events(Path::new(env!("CARGO_MANIFEST_DIR")), seed, &Tally::default())?.collect::<Result<_, _>>()?;
    assert!(events.is_sorted_by_key(|event| event.at));
    Ok(events)
}

fn line(event: &Event) -> String {
    let what = match &event.what {
        What::Node(node) => format!("node {}", node.metadata.name.as_deref().unwrap()),
        What::NodeLost(name) => format!("lost {name}"),
        What::Drain(name) => format!("drain {name}"),
        What::Job(job) => format!("job {}", job.name),
        What::Cancel(name) => format!("cancel {name}"),
        other => format!("{other:?}"),
    };
    format!("{} {what}", event.at.as_secs_f64())
}

fn lines(source: &str, seed: u64) -> Vec<String> {
    read(source, seed).unwrap().iter().map(line).collect()
}

fn jobs_of(events: &[Event]) -> Vec<&Job> {
    events.iter().filter_map(|event| if let What::Job(job) = &event.what { Some(job) } else { None }).collect()
}

const JOBS: &str = "
jobs:
  name: web
  arrivals: { poisson: { ratePerSecond: 0.5 } }
  untilSeconds: 2000
  class: service
  users: 3
  gang: true
  priority: 7
  pods: { uniform: { from: 0, to: 10 } }
  durationSeconds: { weibull: { shape: 0.7, scale: 300 } }
  cpu: { empirical: { values: [0.5, 1, 4] } }
  memoryGib: { logNormal: { median: 2, sigma: 1 } }
  template:
    metadata: { labels: { app: web } }
    spec:
      nodeSelector: { disk: ssd }
      containers: [{ name: main, resources: { requests: { example.com/fpga: 1 } } }]
";

#[test]
fn jobs_are_what_their_distributions_say() {
    let events = read(JOBS, 5).unwrap();
    let jobs = jobs_of(&events);
    assert!((900..1100).contains(&jobs.len()), "{}", jobs.len());
    let mut users = BTreeMap::<&str, u32>::new();
    for job in &jobs {
        *users.entry(&job.user).or_default() += 1;
        let [task] = &job.tasks[..] else { panic!("{job:?}") };
        assert!(job.gang && job.class == Class::Service && job.priority() == 7 && (1..=10).contains(&task.count));
        let requests = &task.pod.spec.containers[0].resources.requests;
        assert!((500..=4000).contains(&requests["cpu"].milli_value()));
        assert_eq!(requests["example.com/fpga"].value(), 1);
        assert_eq!(task.pod.spec.node_selector["disk"], "ssd");
    }
    assert!(users.len() == 3 && users.values().all(|count| *count > 250), "{users:?}");
    let mut durations: Vec<_> = jobs.iter().map(|job| job.tasks[0].duration.unwrap().as_secs_f64()).collect();
    durations.sort_by(f64::total_cmp);
    let median = durations[durations.len() / 2];
    assert!((median / 177.7 - 1.0).abs() < 0.2, "300 · ln 2 ^ (1 / 0.7), not {median}");
}

#[test]
fn a_seed_is_a_workload() {
    let text = |seed| format!("{:?}", read(JOBS, seed).unwrap());
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    // Of several sources, one does not change the others.
    let count = "jobs: { arrivals: { every: { seconds: 1 } }, count: 2 }";
    assert_eq!(lines(count, 1), ["0 job job-0", "1 job job-1"]);
}

#[test]
fn nodes_have_kinds_and_zones() {
    let source = "nodes: [{ count: 3, cpu: 500m, memory: 1Gi, zones: 2, resources: { example.com/fpga: 2 } }, \
                  { name: gpu, count: 1, cpu: 8, memory: 64Gi, gpus: 2, gpuModel: T4, labels: { disk: ssd } }]";
    let events = read(source, 1).unwrap();
    assert_eq!(
        events.iter().map(line).collect::<Vec<_>>(),
        ["0 node node-0", "0 node node-1", "0 node node-2", "0 node gpu-0"]
    );
    let What::Node(last) = &events[3].what else { panic!() };
    let labels = last.metadata.labels.as_ref().unwrap();
    assert_eq!((labels["gpu-model"].as_str(), labels["disk"].as_str()), ("T4", "ssd"));
    assert_eq!(last.status.allocatable["longshore.dev/gpu"].value(), 2);
    let zone = |event: &Event| match &event.what {
        What::Node(node) => node.metadata.labels.as_ref().unwrap().get("topology.kubernetes.io/zone").cloned(),
        _ => None,
    };
    let zones: Vec<_> = events.iter().map(zone).collect();
    assert_eq!(zones, [Some("zone-0".to_owned()), Some("zone-1".to_owned()), Some("zone-0".to_owned()), None]);
}

#[test]
fn streams_are_merged_by_time_and_then_by_their_order() {
    let stream = |name: &'static str, moments: &'static [u64]| {
        let event = move |at: &u64| Ok(Event { at: Duration::from_secs(*at), what: What::Cancel(name.into()) });
        Box::new(moments.iter().map(event)) as crate::traces::Events
    };
    let merged = merge([stream("a", &[1, 3, 3]), stream("b", &[]), stream("c", &[0, 3, 5])]);
    let lines: Vec<_> = merged.map(|event| line(&event.unwrap())).collect();
    assert_eq!(lines, ["0 cancel c", "1 cancel a", "3 cancel a", "3 cancel a", "3 cancel c", "5 cancel c"]);
}

const FAILING: &str = "
failing:
  of:
    merged:
    - nodes: [{ count: 2, cpu: 1, memory: 1Gi }]
    - jobs: { arrivals: { every: { seconds: 25 } }, count: 2 }
  upSeconds: { constant: 10 }
  downSeconds: { constant: 5 }
";

#[test]
fn nodes_fail_and_are_repaired() {
    let expected = [
        "0 node node-0",
        "0 node node-1",
        "0 job job-0",
        "10 lost node-0",
        "10 lost node-1",
        "15 node node-0",
        "15 node node-1",
        "25 job job-1",
    ];
    assert_eq!(lines(FAILING, 1), expected, "failures end with the workload");
    let until = lines(&format!("{FAILING}  untilSeconds: 31\n"), 1);
    assert_eq!(until[8..], ["25 lost node-0", "25 lost node-1", "30 node node-0", "30 node node-1"]);
    let drawn = FAILING
        .replace("constant: 10", "exponential: { mean: 1000 }")
        .replace("constant: 5", "weibull: { shape: 2, scale: 10 }");
    let events = lines(&format!("{drawn}  untilSeconds: 1000000\n"), 1);
    let lost = events.iter().filter(|line| line.contains("lost")).count();
    assert!((1800..2150).contains(&lost), "two nodes, each up for 1000 s and down for about 9: {lost}");
}

#[test]
fn a_node_that_is_gone_does_not_fail() {
    // Node 6 of the sample goes after 100 s, node 5 is other after 200 s.
    let failing = |down: u32| {
        let of = "{ google2011: { directory: testdata/google-2011 } }";
        let source =
            "failing: { of: OF, upSeconds: { constant: 150 }, downSeconds: { constant: DOWN }, untilSeconds: 211 }";
        let lines = lines(&source.replace("OF", of).replace("DOWN", &down.to_string()), 1);
        lines.into_iter().filter(|line| !line.contains("job")).collect::<Vec<_>>()
    };
    let before = ["0 node 5", "0 node 6", "100 lost 6", "150 lost 5"];
    assert_eq!(failing(40), [&before[..], &["190 node 5", "200 node 5"]].concat());
    assert_eq!(
        failing(60),
        [&before[..], &["210 node 5"]].concat(),
        "what changes while it is down is seen when it is up"
    );
}

#[test]
fn a_workload_is_scaled_by_copies_time_and_durations() {
    let jobs = "jobs: { arrivals: { every: { seconds: 4 } }, count: 3, durationSeconds: { constant: 10 } }";
    let scaled = format!("scaled: {{ of: {{ {jobs} }}, jobs: 2, time: 0.5, durations: 3 }}");
    let events = read(&scaled, 1).unwrap();
    let expected = ["0 job job-0", "0 job job-0~1", "2 job job-1", "2 job job-1~1", "4 job job-2", "4 job job-2~1"];
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), expected);
    assert!(jobs_of(&events).iter().all(|job| job.tasks[0].duration == Some(Duration::from_secs(30))));
    let many = jobs.replace("count: 3", "count: 10000");
    for (factor, expected) in [(0.3, 3000.0), (1.25, 12_500.0)] {
        let count = lines(&format!("scaled: {{ of: {{ {many} }}, jobs: {factor} }}"), 9).len() as f64;
        assert!((count - expected).abs() < 200.0, "{factor}: {count}");
    }
    // Who is cancelled was there, and as often.
    let trace = "alibaba2018: { directory: testdata/alibaba-2018, machines: false, batch: false }";
    let twice = lines(&format!("scaled: {{ of: {{ {trace} }}, jobs: 2 }}"), 1);
    assert_eq!(twice[4..], ["150 cancel c_1", "150 cancel c_1~1"]);
}

#[test]
fn a_window_begins_with_the_nodes_that_are_there() {
    let trace = "google2011: { directory: testdata/google-2011 }";
    let window =
        |from, until| lines(&format!("window: {{ of: {{ {trace} }}, fromSeconds: {from}, untilSeconds: {until} }}"), 1);
    assert_eq!(window(10, 101), ["0 node 5", "0 node 6", "16 job 200@26000000", "90 lost 6"]);
    assert_eq!(window(150, 1000), ["0 node 5", "50 node 5"]);
    assert_eq!(window(500, 600), ["0 node 5"]);
    assert!(window(0, 0).is_empty());
}

#[test]
fn scheduler_perf_has_its_pods() {
    for workload in WORKLOADS.iter().filter(|workload| ["AllDifferent", "PreemptionBasic"].contains(&workload.name)) {
        let source = format!("schedulerPerf: {{ workload: {}, nodes: 10, gapSeconds: 0.01 }}", workload.name);
        let events = read(&source, 1).unwrap();
        let (before, measured) = (workload.initial_pods(10).count(), workload.measured_pods(10).count());
        assert_eq!(events.len(), 10 + before + measured, "{}", workload.name);
        assert_eq!(events.iter().filter(|event| event.at > Duration::ZERO).count(), measured);
    }
    let error = read("schedulerPerf: { workload: Nothing }", 1).unwrap_err().to_string();
    assert!(error.contains("there is no workload Nothing; there are: SchedulingBasic, "), "{error}");
}

#[test]
fn inflation_reaches_its_target() {
    let source =
        "inflated: { nodes: testdata/openb/nodes.csv, pods: testdata/openb/default.csv, tune: 1.3, gapSeconds: 0.5 }";
    let events = read(source, 42).unwrap();
    let amount = |pod: &longshore_core::api::Pod| {
        let requests = &pod.spec.containers[0].resources.requests;
        let of = |name: &str| requests.get(name).map_or(0, longshore_core::quantity::Quantity::value);
        of("longshore.dev/gpu") * 1000 + of("longshore.dev/gpu-milli")
    };
    let asked: i64 = jobs_of(&events).iter().map(|job| amount(&job.tasks[0].pod)).sum();
    let nodes = events.iter().filter_map(|event| if let What::Node(node) = &event.what { Some(node) } else { None });
    let has: i64 =
        nodes.filter_map(|node| node.status.allocatable.get("longshore.dev/gpu")).map(|gpus| gpus.value() * 1000).sum();
    let load = asked as f64 / has as f64;
    assert!((1.29..1.302).contains(&load), "{load}");
    assert_eq!(events.last().unwrap().at.as_secs_f64(), 0.5 * (jobs_of(&events).len() - 1) as f64);
    assert_eq!(
        format!("{:?}", events[..50].iter().map(line).collect::<Vec<_>>()),
        format!("{:?}", lines(source, 42)[..50].to_vec())
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let nodes = "nodes: []";
    for (source, expected) in [
        (format!("scaled: {{ of: {{ {nodes} }}, jobs: 0 }}"), "scaled: jobs: it is 0"),
        (format!("scaled: {{ of: {{ {nodes} }}, time: -1 }}"), "scaled: time: it is -1"),
        (format!("window: {{ of: {{ {nodes} }}, untilSeconds: -1 }}"), "window: untilSeconds: it is -1"),
        (
            format!("failing: {{ of: {{ {nodes} }}, upSeconds: {{ constant: 1 }}, downSeconds: {{ constant: -1 }} }}"),
            "from 0",
        ),
        ("jobs: { arrivals: { every: { seconds: 1 } }, untilSeconds: -1 }".to_owned(), "untilSeconds is -1"),
        ("inflated: { nodes: testdata/openb/nodes.csv, pods: nowhere }".to_owned(), "nowhere"),
        (
            "inflated: { nodes: testdata/openb/nodes.csv, pods: testdata/openb/default.csv, tune: 0 }".to_owned(),
            "tune is 0",
        ),
    ] {
        let error = read(&source, 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}: {error}");
    }
    assert!(serde_saphyr::from_str::<Source>("google2011: { directory: x, unknown: 1 }").is_err());
}
