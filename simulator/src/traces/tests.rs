use std::fmt::Write;
use std::path::{Path, PathBuf};

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use proptest::prelude::*;
use serde_json::Value;

use super::{Tally, TraceError};
use crate::generate::Source;
use crate::workload::{Event, Job, What};

/// Files by name.
type Files<'f> = &'f [(&'f str, &'f [u8])];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn read(base: &Path, source: &str, tally: &Tally) -> Result<Vec<Event>, TraceError> {
    let source: Source = serde_saphyr::from_str(source).unwrap();
    source.events(base, 1, tally)?.collect()
}

/// All events of a sample, each as a line, and what was left out.
fn told(source: &str) -> (Vec<String>, Vec<(&'static str, u64)>) {
    let tally = Tally::with_limit(0);
    let events = read(&testdata(), source, &tally).unwrap();
    (events.iter().map(line).collect(), tally.left_out().into_iter().collect())
}

fn line(event: &Event) -> String {
    let what = match &event.what {
        What::Node(node) => self::node(node),
        What::NodeLost(name) => format!("lost {name}"),
        What::Job(job) => self::job(job),
        What::Cancel(name) => format!("cancel {name}"),
        What::Running { pod, node } => {
            format!("running {} on {node}", pod.metadata.name.as_deref().unwrap_or_default())
        }
        What::Object(object) => {
            format!("{} {}", object.kind_type().info.kind, object.meta().name.as_deref().unwrap_or_default())
        }
        other => format!("{other:?}"),
    };
    format!("{} {what}", event.at.as_secs_f64())
}

fn node(node: &Node) -> String {
    let mut text = format!("node {}:", node.metadata.name.as_deref().unwrap_or_default());
    for (name, amount) in node.status.allocatable.iter().filter(|(name, _)| *name != "pods") {
        write!(text, " {name}={amount}").unwrap();
    }
    for (name, value) in node.metadata.labels.iter().flatten().filter(|(name, _)| *name != "kubernetes.io/hostname") {
        write!(text, " [{name}={value}]").unwrap();
    }
    text
}

fn job(job: &Job) -> String {
    let mut text = format!("{:?} {} of {:?} at {}:", job.class, job.name, &*job.user, job.priority());
    for task in &job.tasks {
        write!(text, " {} of{}", task.count, requests(&task.pod)).unwrap();
        let duration = task.duration.map_or("ever".to_owned(), |duration| duration.as_secs_f64().to_string());
        write!(text, " for {duration}").unwrap();
    }
    text
}

fn requests(pod: &Pod) -> String {
    let requests = pod.spec.containers.iter().flat_map(|container| &container.resources.requests);
    requests.fold(String::new(), |text, (name, amount)| format!("{text} {name}={amount}"))
}

/// The first job's first pod, as JSON.
fn first_pod(source: &str, of: &str) -> Value {
    let events = read(&testdata(), source, &Tally::with_limit(0)).unwrap();
    let job = events.iter().find_map(|event| match &event.what {
        What::Job(job) if &*job.name == of => Some(job.clone()),
        _ => None,
    });
    serde_json::to_value(&*job.unwrap().tasks[0].pod).unwrap()
}

#[test]
fn openb_runs_in_its_own_time() {
    let (events, left_out) = told("openb: { nodes: openb-times/nodes.csv, pods: openb-times/pods.csv }");
    assert_eq!(
        events,
        [
            "0 node openb-node-a: cpu=64 longshore.dev/gpu=2 longshore.dev/gpu-milli=2k memory=274877906944 [gpu-model=P100]",
            "0 node openb-node-b: cpu=96 memory=412316860416",
            "0 Batch early of \"\" at 0: 1 of cpu=12 longshore.dev/gpu=2 memory=17179869184 for 900",
            "500 Service late of \"\" at 0: 1 of cpu=8 longshore.dev/gpu-milli=500 memory=17179869184 for 8400",
            "700 Batch never-placed of \"\" at 0: 1 of cpu=4 memory=8589934592 for 60",
            "800 Batch forever of \"\" at 0: 1 of cpu=1 memory=1073741824 for ever",
        ]
    );
    assert!(left_out.is_empty());
}

#[test]
fn spot_jobs_have_workers_and_can_be_evicted() {
    let (events, _) = told("alibabaSpot2026: { directory: alibaba-2026, gang: true }");
    assert_eq!(
        events,
        [
            "0 node node-1: cpu=128 longshore.dev/gpu=1 longshore.dev/gpu-milli=1k memory=0 [gpu-model=A10]",
            "0 node node-2: cpu=192 longshore.dev/gpu=8 longshore.dev/gpu-milli=8k memory=0 [gpu-model=GPU-series-1]",
            "0 Batch job-1 of \"0\" at 1000: 1 of cpu=12 longshore.dev/gpu=1 memory=0 for 120",
            "30 Batch job-2 of \"1\" at 0: 2 of cpu=16 longshore.dev/gpu=8 memory=0 for 600",
            "30 Batch job-3 of \"1\" at 1000: 1 of cpu=4 longshore.dev/gpu-milli=500 memory=0 for 60.5",
        ]
    );
    let pod = first_pod("alibabaSpot2026: { directory: alibaba-2026 }", "job-2");
    let affinity = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let expression = &affinity["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!((&expression["key"], &expression["values"][0]), (&"gpu-model".into(), &"GPU-series-1".into()));
}

#[test]
fn services_and_batch_of_2018_share_machines_that_come_and_go() {
    let (events, left_out) =
        told("alibaba2018: { directory: alibaba-2018, largestMachine: { cpu: 96, memory: 100Gi } }");
    assert_eq!(
        events,
        [
            "0 node m_1: cpu=96 memory=100Gi [failure_domain_1=7] [failure_domain_2=33]",
            "0 node m_2: cpu=96 memory=50Gi [failure_domain_1=8] [failure_domain_2=34]",
            "0 Service c_1 of \"app_5052\" at 1: 1 of cpu=4 memory=1675037245 for ever",
            "20 Service c_2 of \"app_5052\" at 1: 1 of cpu=8 memory=3360811909 for ever",
            "100 Batch j_3/M1 of \"j_3\" at 0: 10 of cpu=1 memory=418759311 for 60",
            "150 cancel c_1",
            "160 Batch j_3/R2_1 of \"j_3\" at 0: 3 of cpu=500m memory=214748364 for 10",
            "200 lost m_2",
        ]
    );
    assert_eq!(left_out, [("tasks that had not ended", 1)]);
    for (spread, expected) in [("preferred", "ScheduleAnyway"), ("required", "DoNotSchedule")] {
        let pod = first_pod(&format!("alibaba2018: {{ directory: alibaba-2018, spread: {spread} }}"), "c_1");
        let spread = pod["spec"]["topologySpreadConstraints"].as_array().unwrap();
        let keys: Vec<_> = spread.iter().map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
        assert_eq!(keys, ["failure_domain_1", "failure_domain_2"]);
        assert!(spread.iter().all(|constraint| constraint["whenUnsatisfiable"] == expected
            && constraint["labelSelector"]["matchLabels"]["app_du"] == "app_5052"));
    }
    let pod = first_pod("alibaba2018: { directory: alibaba-2018, spread: none }", "c_1");
    assert!(pod["spec"]["topologySpreadConstraints"].is_null());
}

#[test]
fn pai_tasks_have_the_users_of_their_jobs() {
    let (events, left_out) = told("alibabaPai2020: { directory: alibaba-2020 }");
    assert_eq!(
        events,
        [
            "0 node machine-1: cpu=96 longshore.dev/gpu=2 longshore.dev/gpu-milli=2k memory=549755813888 [gpu-model=T4]",
            "0 node machine-2: cpu=96 memory=549755813888",
            "0 Batch job-b/tensorflow of \"user-2\" at 0: 1 of cpu=10 longshore.dev/gpu=2 memory=68719476736 for 180",
            "90 Batch job-a/ps of \"user-1\" at 0: 1 of cpu=0 memory=2147483648 for 390",
            "100 Batch job-a/worker of \"user-1\" at 0: 2 of cpu=6 longshore.dev/gpu-milli=500 memory=31457280k for 380",
        ]
    );
    assert_eq!(left_out, [("tasks that did not run, or had not ended", 1)]);
}

#[test]
fn tasks_of_2011_run_as_long_as_their_last_run() {
    let (events, left_out) = told("google2011: { directory: google-2011, constraints: true }");
    assert_eq!(
        events,
        [
            "0 node 5: cpu=32 memory=68527062201 [platform=HofLGzk1Or/8Ildj2+Lqv0UGGvY82NLoni8+J/Yy0RU=]",
            "0 node 6: cpu=64 memory=256Gi [platform=70ZOvysYGtB6j9MUHMPzA2Iy7GRzWeJTdX0YCLRKGVg=]",
            "0 Service 100 of \"alice\" at 9: 2 of cpu=8 memory=16Gi for ever",
            // The first was killed after 10 s; the second was evicted, ran again and failed after 20 s: it began again.
            "1 Batch 200@1000000 of \"bob\" at 0: 1 of cpu=4 memory=8Gi for 10 1 of cpu=4 memory=8Gi for 20",
            "26 Batch 200@26000000 of \"bob\" at 0: 1 of cpu=4 memory=8Gi for 3",
            "100 lost 6",
            "200 node 5: cpu=32 memory=128Gi [platform=HofLGzk1Or/8Ildj2+Lqv0UGGvY82NLoni8+J/Yy0RU=]",
        ]
    );
    let expected =
        [("machines of which nobody knows what they have", 1), ("tasks that ended without ever having run", 2)];
    assert_eq!(left_out, expected);
    let apart = first_pod("google2011: { directory: google-2011 }", "100");
    let term = &apart["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(term["labelSelector"]["matchLabels"], apart["metadata"]["labels"]);
    let wants = first_pod("google2011: { directory: google-2011, constraints: true }", "200@1000000");
    let affinity = &wants["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        affinity["nodeSelectorTerms"][0]["matchExpressions"],
        serde_json::json!([
            { "key": "attribute/GK", "operator": "In", "values": ["2"] },
            { "key": "attribute/ri", "operator": "Lt", "values": ["5"] },
        ])
    );
}

#[test]
fn instances_of_2019_are_put_in_order_and_have_their_collections_user() {
    let (events, left_out) = told("google2019: { directory: google-2019, constraints: true }");
    assert_eq!(
        events,
        [
            "0 node 11: cpu=32 memory=64Gi [platform=p-1] [switch=sw-a]",
            "0 node 12: cpu=64 memory=256Gi [platform=p-2] [switch=sw-b]",
            "0 Service 900 of \"alice\" at 200: 1 of cpu=8 memory=16Gi for ever",
            "100 Batch 901@100000000 of \"bob\" at 25: 1 of cpu=4 memory=8Gi for 40",
            "300 lost 12",
        ]
    );
    assert_eq!(
        left_out,
        [
            ("limits of a job's tasks on a machine or a switch that are more than 1", 1),
            ("machines of which nobody knows what they have", 1),
            ("tasks that run inside of an alloc set", 1),
            ("waits of a job for others to end", 1),
        ]
    );
    let pod = first_pod("google2019: { directory: google-2019, constraints: true }", "900");
    let affinity = &pod["spec"]["affinity"];
    let terms = &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    assert_eq!(terms[0]["matchExpressions"][1]["values"], serde_json::json!(["4"]), "at least 5 is more than 4");
    let apart = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"].as_array().unwrap();
    assert_eq!(apart.len(), 1);
}

#[test]
fn virtual_machines_take_shares_of_the_kinds_that_they_may_run_on() {
    let source = "azurePacking2020: { path: azure-packing-2020, machines: [{ kind: \"16\", count: 1 }] }";
    let (events, left_out) = told(source);
    assert_eq!(
        events,
        [
            "0 node machine-16-0: cpu=64 memory=256Gi trace/hdd=1M trace/nic=1M trace/ssd=1M [machine=16]",
            "0 Service 10 of \"1\" at 1: 1 of cpu=16 memory=64Gi trace/nic=100k trace/ssd=100k for 21600",
            "43200 Service 30 of \"2\" at 0: 1 of cpu=2666m memory=8Gi trace/nic=22500 trace/ssd=12500 for 64800",
        ]
    );
    let none = "virtual machines of a type that runs on none of the kinds of machines";
    assert_eq!(left_out, [(none, 2), ("virtual machines that ended before the trace began", 1)]);
    let both = "azurePacking2020: { path: azure-packing-2020, machines: [{ kind: '16', count: 0 }, { kind: '17', count: 0 }] }";
    let (events, _) = told(both);
    assert_eq!(
        events[0],
        "0 Service 10 of \"1\" at 1: 1 of cpu=32 memory=64Gi trace/nic=100k trace/ssd=100k for 21600"
    );
    assert_eq!(events[1], "5400 Service 20 of \"1\" at 1: 1 of cpu=8 memory=32Gi trace/ssd=200k for ever");
}

/// A file of SQLite with what these statements put there.
#[cfg(feature = "sqlite")]
fn sqlite(directory: &Path, statements: &str) {
    let file = rusqlite::Connection::open(directory.join("trace.sqlite")).unwrap();
    file.execute_batch(statements).unwrap();
}

/// As the trace is published: the same rows, of numbers.
#[cfg(feature = "sqlite")]
#[test]
fn a_file_of_sqlite_says_what_its_tables_as_csv_say() {
    let directory = tempfile::tempdir().unwrap();
    let mut statements = String::from(
        "CREATE TABLE vm (vmId INTEGER, tenantId INTEGER, vmTypeId INTEGER, priority INTEGER, starttime REAL, endtime REAL);
         CREATE TABLE vmType (id INTEGER, vmTypeId INTEGER, machineId INTEGER, core REAL, memory REAL, hdd REAL, ssd REAL, nic REAL);",
    );
    for table in ["vm", "vmType"] {
        let rows =
            std::fs::read_to_string(testdata().join("azure-packing-2020").join(table).with_extension("csv")).unwrap();
        for row in rows.lines().skip(1) {
            let values: Vec<&str> = row.split(',').map(|value| if value.is_empty() { "NULL" } else { value }).collect();
            statements.push_str(&format!("INSERT INTO {table} VALUES ({});", values.join(", ")));
        }
    }
    sqlite(directory.path(), &statements);
    let machines = "machines: [{ kind: '16', count: 1 }, { kind: '17', count: 1 }]";
    let tally = Tally::with_limit(0);
    let of = format!("azurePacking2020: {{ path: trace.sqlite, {machines} }}");
    let events = read(directory.path(), &of, &tally).unwrap();
    let csv = told(&format!("azurePacking2020: {{ path: azure-packing-2020, {machines} }}"));
    assert_eq!((events.iter().map(line).collect::<Vec<_>>(), tally.left_out().into_iter().collect()), csv);
    assert!(csv.0.len() > 4, "{csv:?}");
}

#[cfg(feature = "sqlite")]
#[test]
fn what_is_bad_in_a_file_of_sqlite_is_counted_or_named() {
    let directory = tempfile::tempdir().unwrap();
    let source = "azurePacking2020: { path: trace.sqlite, machines: [{ kind: '1', count: 1 }] }";
    let read = |tally: &Tally| read(directory.path(), source, tally);
    let refused = || read(&Tally::with_limit(0)).unwrap_err().to_string();
    std::fs::write(directory.path().join("trace.sqlite"), [b'x'; 5000]).unwrap();
    let error = refused();
    assert!(error.contains("trace.sqlite") && error.contains("not a database"), "{error}");
    std::fs::remove_file(directory.path().join("trace.sqlite")).unwrap();
    sqlite(directory.path(), "CREATE TABLE vmType (vmTypeId, machineId, core, memory);");
    let error = refused();
    assert!(error.contains("it has no table vm"), "{error}");
    sqlite(directory.path(), "CREATE TABLE vm (vmId, tenantId, vmTypeId, priority, starttime);");
    let error = refused();
    assert!(error.contains("there is no column endtime"), "{error}");
    sqlite(
        directory.path(),
        "DROP TABLE vm; CREATE TABLE vm (vmId, tenantId, vmTypeId, priority, starttime, endtime);
         INSERT INTO vmType VALUES (1, 1, 0.5, 0.5), (2, 1, 'much', 0.5);
         INSERT INTO vm VALUES (1, 1, 1, 0, 0.5, NULL), (2, 1, 1, 0, 0, zeroblob(9)), (3, 1, 1, 0, 0, zeroblob(2000000));",
    );
    let tally = Tally::with_limit(9);
    let error = read(&tally).unwrap_err().to_string();
    assert!(error.contains("too big"), "{error}");
    sqlite(directory.path(), "DELETE FROM vm WHERE vmId = 3;");
    let tally = Tally::with_limit(9);
    assert_eq!(read(&tally).unwrap().len(), 2, "a machine and a virtual machine");
    let told: Vec<String> = tally.first_bad_rows().iter().map(ToString::to_string).collect();
    assert!(told[0].ends_with("vmType: line 2: core is \"much\": it must be a number"), "{told:?}");
    assert!(told[1].ends_with("vm: line 2: it has bytes where text or a number must be"), "{told:?}");
    assert_eq!(told.len(), 2);
}

#[test]
fn a_cluster_is_there_as_it_is() {
    let (events, left_out) = told("kubernetes: { path: kubernetes/cluster.yaml }");
    assert_eq!(
        events,
        [
            "0 Namespace shop",
            "0 node worker-1: cpu=4 memory=16Gi",
            "0 running web-1 on worker-1",
            "0 Batch shop/Job/sum of \"shop\" at 0: 1 of cpu=2 for ever 1 of cpu=2 for ever",
        ]
    );
    assert_eq!(left_out, [("Deployment", 1), ("pods on nodes that are not there", 1), ("pods that have ended", 1)]);
    // The same as JSON, and in a folder.
    let directory = tempfile::tempdir().unwrap();
    let yaml = std::fs::read_to_string(testdata().join("kubernetes/cluster.yaml")).unwrap();
    let list: Value = serde_saphyr::from_str(yaml.split("\n---").next().unwrap()).unwrap();
    std::fs::write(directory.path().join("list.json"), serde_json::to_string_pretty(&list).unwrap()).unwrap();
    let again = read(directory.path(), "kubernetes: { path: . }", &Tally::with_limit(0)).unwrap();
    assert_eq!(again.iter().map(line).collect::<Vec<_>>(), events[1..]);
}

/// The bad rows of a reader over files that are written for it, each as `file: line: reason`.
fn bad_rows(source: &str, files: Files<'_>, limit: u64) -> Result<Vec<String>, TraceError> {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let tally = Tally::with_limit(limit);
    read(directory.path(), source, &tally)?;
    assert_eq!(tally.bad_rows(), tally.first_bad_rows().len() as u64);
    let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
    Ok(tally.first_bad_rows().iter().map(|row| format!("{}: {}: {}", name(&row.file), row.line, row.reason)).collect())
}

const OPENB: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time\n";

#[test]
fn bad_rows_are_counted_with_their_lines() {
    let openb = format!(
        "{OPENB}a,1,1,0,0,5,6\n\nb,1,1,0,0,5\nc,x,1,0,0,5,6\nd,-1,1,0,0,5,6\ne,1,1,0,0,7,6\nf,1,1,0,0,1e300,\ng,1,1,0,0,NaN,\n"
    );
    let mut openb = openb.into_bytes();
    openb.extend(b"h\xff,1,1,0,0,5,6\n");
    openb.extend(vec![b'1'; 2 << 20]);
    openb.extend(b"\ni,1,1,0,0,4,6");
    let google = "600000000,,1,0,,0,u,0,0,0.1,0.1,0,0\n1,2\n600000000,,1,0,,9,u,0,0,0.1,0.1,0,0\n600000000,,1,1,,0,u,0,0,1.5,0.1,0,0\n\
                  9223372036854775806,,1,1,,0,u,0,0,0.5,0.1,0,0\n-1,,1,1,,1,u,0,0,0.5,0.1,0,0\n";
    let cases: &[(&str, Files<'_>, &[&str])] = &[
        (
            "openb: { pods: pods.csv }",
            &[("pods.csv", &openb)],
            &[
                "pods.csv: 4: it has 6 columns: there must be 7",
                "pods.csv: 5: cpu_milli is \"x\": it must be a whole number",
                "pods.csv: 6: cpu_milli is -1: it must be from 0 to 2^40",
                "pods.csv: 7: deletion_time is before the pod's start",
                "pods.csv: 8: creation_time is 1000000000000000000000000000000000000000000000000000000000000000000000000000",
                "pods.csv: 9: creation_time is \"NaN\": it must be a number",
                "pods.csv: 10: it is not UTF-8 after 1 bytes",
                "pods.csv: 11: it is longer than 1048576 bytes",
            ],
        ),
        (
            "google2011: { directory: ., machines: false }",
            &[("task_events.csv", google.as_bytes())],
            &[
                "task_events.csv: 2: it has 2 columns: there must be 13",
                "task_events.csv: 3: the event type is 9: it must be from 0 to 8",
                "task_events.csv: 4: CPU request is 1.5: it must be from 0 to 1",
                "task_events.csv: 5: the time is 9223372036854775806: it must be less than a hundred years",
                "task_events.csv: 6: timestamp is \"-1\": it must be a whole number",
            ],
        ),
        (
            "google2019: { directory: ., machines: false }",
            &[
                ("collection_events.json", b"{\"type\":77}\n7\n"),
                ("instance_events.json", b"{\"type\":0,\n{\"type\":0,\"time\":\"x\"}\n{\"type\":-1}\n{\"type\":0,\"instance_index\":-5}\n"),
            ],
            &[
                "collection_events.json: 1: type is 77: it must be from 0 to 10",
                "collection_events.json: 2: ",
                "instance_events.json: 1: EOF",
                "instance_events.json: 2: \"x\" is not a whole number",
                "instance_events.json: 3: type is -1: it is out of range",
                "instance_events.json: 4: instance_index is -5: it is out of range",
            ],
        ),
        (
            "alibaba2018: { directory: ., machines: false, containers: false }",
            &[("batch_task.csv", b"M1,0,j,1,T,1,2,100,1\nM1,1,j,1,T,3,2,100,1\nM1,1,j,1,T,1,2,100,101\nM1,1,j,1,T,1,2,,1\n")],
            &[
                "batch_task.csv: 1: instance_num is 0",
                "batch_task.csv: 2: end_time is before start_time",
                "batch_task.csv: 3: plan_mem is 101: it must be from 0 to 100",
                "batch_task.csv: 4: plan_cpu is empty",
            ],
        ),
        (
            "alibabaSpot2026: { directory: ., machines: false }",
            &[(
                "job_info_df.csv",
                b"job_type,duration,submit_time,worker_num,gpu_request,cpu_request,gpu_model,job_name\n\
                  LP,1,1,1,1,1,m,j\nHP,1,1,0,1,1,m,j\nHP,1,1,1,1.5,1,m,j\nHP,-1,1,1,1,1,m,j\n",
            )],
            &[
                "job_info_df.csv: 2: job_type is \"LP\": it must be HP or Spot",
                "job_info_df.csv: 3: worker_num is 0",
                "job_info_df.csv: 4: gpu_request is 1.5: it must be a whole number",
                "job_info_df.csv: 5: duration is -1",
            ],
        ),
        (
            "alibabaPai2020: { directory: ., machines: false }",
            &[("pai_job_table.csv", b"j,i,u,s,1,2\nj\n"), ("pai_task_table.csv", b"j,t,0.5,s,1,2,1,1,1,T4\nj,t,1,s,5,2,1,1,1,T4\n")],
            &[
                "pai_job_table.csv: 2: it has 1 columns: there must be 6",
                "pai_task_table.csv: 1: inst_num is 0.5",
                "pai_task_table.csv: 2: end_time is before start_time",
            ],
        ),
        (
            "azurePacking2020: { path: ., machines: [{ kind: '1', count: 1 }] }",
            &[
                ("vmType.csv", b"vmTypeId,machineId,core,memory\n1,1,2,0.5\n2,1,0.5,0.5\n"),
                ("vm.csv", b"vmId,tenantId,vmTypeId,priority,starttime,endtime\n1,1,7,0,0,1\n2,1,2,3,0,1\n3,1,2,0,1,0\n"),
            ],
            &[
                "vmType.csv: 2: core is 2: it must be from 0 to 1",
                "vm.csv: 2: there is no vmTypeId \"7\"",
                "vm.csv: 3: priority is \"3\": it must be 0 or 1",
                "vm.csv: 4: endtime is before starttime",
            ],
        ),
        (
            "kubernetes: { path: all.yaml }",
            &[("all.yaml", b"kind: Pod\n---\napiVersion: v1\nkind: Node\nmetadata: {}\n---\nkind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: p\n  spec:\n    containers: 5\n- [\n")],
            &[
                "all.yaml: 1: Object 'apiVersion' is missing",
                "all.yaml: 3: the Node has no metadata.name",
                "all.yaml: 10: ",
                "all.yaml: 16: ",
            ],
        ),
    ];
    for (source, files, expected) in cases {
        let found = bad_rows(source, files, 100).unwrap();
        assert_eq!(found.len(), expected.len(), "{source}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{found:?}, not {expected:?}");
        }
        let error = bad_rows(source, files, 1).unwrap_err().to_string();
        assert!(error.starts_with("more than 1 bad rows, the last of them ") && error.contains(": line "), "{error}");
    }
}

#[test]
fn rows_out_of_order_are_put_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let rows = "a,1,1,0,0,30,40\nb,1,1,0,0,10,40\nc,1,1,0,0,20,40\n";
    std::fs::write(directory.path().join("pods.csv"), format!("{OPENB}{rows}")).unwrap();
    let events = read(directory.path(), "openb: { pods: pods.csv }", &Tally::with_limit(0)).unwrap();
    let moments: Vec<_> = events.iter().map(|event| event.at.as_secs()).collect();
    assert_eq!(moments, [0, 10, 20]);
}

#[test]
fn what_is_missing_is_named() {
    for (source, file, expected) in [
        ("google2011: { directory: . }", "x", "has no machine_events.csv"),
        ("google2011: { directory: nowhere }", "x", "nowhere"),
        ("openb: { pods: pods.csv }", "pods.csv", "there is no column name"),
        ("openb: { pods: pods }", "x", "cannot read"),
        ("azurePacking2020: { path: ., machines: [] }", "x", "name at least one kind"),
        ("kubernetes: { path: nothing.yaml }", "x", "nothing.yaml"),
    ] {
        let error = bad_rows(source, &[(file, b"a,b\n")], 5).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}: {error}");
    }
    // A file that is cut off in the middle of what is compressed.
    let packed = std::fs::read(testdata().join("google-2011/task_events/part-00000-of-00002.csv.gz")).unwrap();
    let cut = &packed[..packed.len() / 2];
    let error =
        bad_rows("google2011: { directory: ., machines: false }", &[("task_events.csv.gz", cut)], 5).unwrap_err();
    assert!(matches!(error, TraceError::Read { .. }), "{error}");
}

/// Every reader, and the files that it reads with their first lines.
const READERS: &[(&str, &[(&str, &str)])] = &[
    (
        "openb: { nodes: nodes.csv, pods: pods.csv }",
        &[("nodes.csv", "sn,cpu_milli,memory_mib,gpu,model\n"), ("pods.csv", OPENB)],
    ),
    (
        "alibabaSpot2026: { directory: . }",
        &[
            ("node_info_df.csv", "gpu_model,gpu_capacity_num,cpu_num,node_name\n"),
            (
                "job_info_df.csv",
                "job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type\n",
            ),
        ],
    ),
    ("alibaba2018: { directory: . }", &[("machine_meta.csv", ""), ("container_meta.csv", ""), ("batch_task.csv", "")]),
    (
        "alibabaPai2020: { directory: . }",
        &[("pai_machine_spec.csv", ""), ("pai_job_table.csv", ""), ("pai_task_table.csv", "")],
    ),
    (
        "google2011: { directory: ., constraints: true }",
        &[("machine_events.csv", ""), ("task_events.csv", ""), ("task_constraints.csv", "")],
    ),
    (
        "google2019: { directory: ., constraints: true }",
        &[("machine_events.json", ""), ("collection_events.json", ""), ("instance_events.json", "")],
    ),
    (
        "azurePacking2020: { path: ., machines: [{ kind: '1', count: 2 }] }",
        &[
            ("vm.csv", "vmId,tenantId,vmTypeId,priority,starttime,endtime\n"),
            ("vmType.csv", "vmTypeId,machineId,core,memory,hdd,ssd,nic\n"),
        ],
    ),
    ("kubernetes: { path: all.yaml }", &[("all.yaml", "")]),
];

fn rows() -> impl Strategy<Value = Vec<u8>> {
    let values: &'static [&'static str] = &[
        "",
        "0",
        "1",
        "-1",
        "0.5",
        "600000001",
        "9223372036854775807",
        "18446744073709551616",
        "1e308",
        "NaN",
        "inf",
        "x",
        "HP",
        "USING",
        "stopped",
        "\"1\"",
    ];
    let row = prop::collection::vec(prop::sample::select(values), 1..15).prop_map(|row| row.join(",").into_bytes());
    let fields: &'static [&'static str] = &[
        "\"time\"",
        "\"type\"",
        "\"collection_id\"",
        "\"machine_id\"",
        "\"instance_index\"",
        "\"capacity\"",
        "\"resource_request\"",
    ];
    let numbers: &'static [&'static str] = &[
        "0",
        "1",
        "3",
        "6",
        "\"5\"",
        "-1",
        "1e99",
        "null",
        "{\"cpus\":0.5,\"memory\":1}",
        "[]",
        "9223372036854775807",
    ];
    let json =
        prop::collection::vec((prop::sample::select(fields), prop::sample::select(numbers)), 0..6).prop_map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect();
            format!("{{{}}}", pairs.join(",")).into_bytes()
        });
    let yaml: &'static [&'static str] = &[
        "---",
        "items:",
        "- apiVersion: v1",
        "apiVersion: v1",
        "  kind: Pod",
        "kind: Node",
        "  metadata:",
        "    name: é",
        "  - -",
        "- ",
    ];
    let yaml = prop::sample::select(yaml).prop_map(|line| line.as_bytes().to_vec());
    let any = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(prop_oneof![4 => row, 3 => json, 3 => yaml, 1 => any], 0..12)
        .prop_map(|rows| rows.join(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_reader_panics_or_breaks_the_order_of_time(contents in prop::collection::vec(rows(), 3)) {
        let directory = tempfile::tempdir().unwrap();
        for (source, files) in READERS {
            for ((name, header), rows) in files.iter().zip(&contents) {
                std::fs::write(directory.path().join(name), [header.as_bytes(), rows].concat()).unwrap();
            }
            let source: Source = serde_saphyr::from_str(source).unwrap();
            let Ok(events) = source.events(directory.path(), 1, &Tally::with_limit(1000)) else { continue };
            let mut now = std::time::Duration::ZERO;
            for event in events {
                let at = event.unwrap().at;
                prop_assert!(at >= now);
                now = at;
            }
        }
    }
}
