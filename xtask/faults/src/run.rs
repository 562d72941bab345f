//! One run: everything is started, things go wrong while clients work, everything comes to rest, and the history is checked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::access::{self, Ask, Retrying};
use crate::check::{self, Violation};
use crate::cluster::{Cluster, Leases};
use crate::converge::{self, Listed};
use crate::history::{Event, History, Kind, merge, name, revision};
use crate::plan::{self, Fault, Link, NODES, Pace, Planned, REPLICAS, Target};
use crate::recorder::{Figures, Recorder};
use crate::report::Report;
use crate::workload;

/// Longest wait until everything is as it should be.
const CONVERGE_MAX: Duration = Duration::from_secs(150);

/// Longest wait until every watch has told what every listing shows.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// Between looks.
const POLL: Duration = Duration::from_millis(500);

/// Names of the leases.
const LEASES: (&str, &str) = ("kube-scheduler", "kube-controller-manager");

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `longshore`, with the feature `etcd`.
    pub program: PathBuf,
    /// From it follow the faults and what clients do.
    pub seed: u64,
    /// How long things go wrong.
    pub duration: Duration,
    /// How quickly.
    pub pace: Pace,
    /// How leaders are elected.
    pub leases: Leases,
    /// Where to copy the processes' logs; `None` for nowhere.
    pub logs: Option<PathBuf>,
}

/// Runs it. The calling thread must have been isolated, and the runtime be of this thread alone. `say` gets lines of progress.
///
/// # Errors
/// What could not be done at all; promises that are not kept are in the report.
pub async fn run(options: &Options, say: &dyn Fn(String)) -> Result<Report, String> {
    say(format!("seed {}: starting etcd, API servers, schedulers, controllers and nodes", options.seed));
    let mut cluster = Cluster::start(&options.program, options.leases).await?;
    let done = under_faults(options, &mut cluster, say).await;
    if let Some(logs) = &options.logs {
        cluster.keep_logs(logs);
    }
    cluster.stop().await;
    done
}

async fn under_faults(options: &Options, cluster: &mut Cluster, say: &dyn Fn(String)) -> Result<Report, String> {
    let mut clients = Vec::new();
    let mut watchers = Vec::new();
    for server in 0..REPLICAS {
        clients.push(access::client(&cluster.kubeconfig(server)).await?);
        // With connections of its own.
        watchers.push(access::client(&cluster.kubeconfig(server)).await?);
    }
    until_ready(&clients).await?;
    let recorder = Rc::new(Recorder::default());
    let watches = watchers.iter().enumerate().flat_map(|(server, client)| {
        let watch = |kind| crate::watch::run(client.clone(), server, kind, Rc::clone(&recorder));
        Kind::ALL.map(watch)
    });
    let watches = futures::future::join_all(watches);
    // What was written before all watch, none would have told.
    let (begin, mut begins) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let ended = RefCell::new(Vec::new());
    let drive = async {
        while !recorder.all_listed() {
            tokio::time::sleep(POLL).await;
        }
        begin.send_replace(true);
        let begun = drive(options, cluster, &recorder, &ended, say).await;
        stop.send_replace(true);
        begun
    };
    let work = async {
        if begins.wait_for(|begins| *begins).await.is_ok() {
            workload::run(&clients, Rc::clone(&recorder), options.seed, stopped).await;
        }
    };
    let work = answered(work, stop.subscribe(), CONVERGE_MAX);
    let whole = async {
        let (begun, unanswered) = tokio::join!(drive, work);
        let begun = begun?;
        let lasted = recorder.now();
        say(format!("no more faults; {} requests were answered", recorder.operations()));
        let mut violations = Vec::from_iter(unanswered);
        let converged = at_rest(&clients, say).await;
        let converged_after = recorder.now().saturating_sub(lasted);
        match converged {
            Ok(()) => say(format!("all as it should be after {:.1} s", converged_after.as_secs_f64())),
            Err(missing) => violations.push(Violation::new("convergence", missing)),
        }
        violations.extend(settled(&clients, &recorder).await);
        Ok::<_, String>((begun, lasted, converged_after, violations))
    };
    let (begun, lasted, converged_after, mut violations) = tokio::select! {
        done = whole => done?,
        _ = watches => return Err("a watch ended".to_owned()),
    };
    violations.extend(cluster.panics().into_iter().map(|what| Violation::new("no panic", what)));
    let recorder = Rc::into_inner(recorder).ok_or("somebody still records")?;
    let (history, figures) = recorder.finish();
    if let Some(logs) = &options.logs {
        write_changes(&history, &logs.join("changes.jsonl"));
    }
    violations.extend(figures.unexpected.iter().map(|what| Violation::new("answers", what.clone())));
    let (changes, found) = check::all(&history);
    violations.extend(found);
    let mut report = Report {
        seed: options.seed,
        lasted,
        changes: changes.len(),
        violations,
        converged_after,
        ended: ended.into_inner(),
        ..Report::default()
    };
    measure(&mut report, &figures, &begun);
    Ok(report)
}

/// Waits for clients, which try again until they are answered; a violation if they still wait so long after they were told to stop.
async fn answered(
    work: impl Future<Output = ()>,
    mut stop: watch::Receiver<bool>,
    longest: Duration,
) -> Option<Violation> {
    let overdue = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(longest).await;
    };
    tokio::select! {
        () = work => None,
        () = overdue => {
            let what = format!("clients still wait for answers {} s after the last fault", longest.as_secs());
            Some(Violation::new("answers", what))
        }
    }
}

/// Writes down what watches told, each change once, for whoever looks for what happened.
fn write_changes(history: &History, to: &Path) {
    let mut text = String::new();
    for Event { kind, revision, change, object, .. } in merge(&history.streams).0 {
        let line = json!({ "revision": revision, "kind": kind.to_string(), "change": format!("{change:?}"), "object": *object });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    // Whoever looks for the file and finds none sees that; the verdict does not depend on it.
    let _ = to.parent().map(fs::create_dir_all).and_then(|_| fs::write(to, text).ok());
}

/// Waits until all nodes are ready.
async fn until_ready(clients: &[Client]) -> Result<(), String> {
    let mut access = Retrying::new(clients, 0);
    let look = async {
        loop {
            let nodes = list(&mut access, Kind::Node).await;
            if nodes.len() == NODES && converge::missing(&Listed { nodes, ..Listed::default() }).is_none() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(CONVERGE_MAX, look).await.map_err(|_| "the nodes are not ready in time".to_owned())
}

/// Makes faults begin and end, and starts again what ends by itself. Answers what began when, and what it was.
async fn drive(
    options: &Options,
    cluster: &mut Cluster,
    recorder: &Recorder,
    ended: &RefCell<Vec<String>>,
    say: &dyn Fn(String),
) -> Result<Vec<(Duration, Planned)>, String> {
    let planned = plan::faults(options.seed, options.duration, options.pace);
    let mut steps: Vec<(Duration, bool, Planned)> = Vec::new();
    for one in &planned {
        steps.extend([(one.from, true, *one), (one.until, false, *one)]);
    }
    steps.sort_by_key(|(at, begins, _)| (*at, *begins));
    let start = recorder.now();
    let mut begun = Vec::new();
    // Pauses of processes that were started again meanwhile, or members that are out of space, are no reason to start others.
    let mut running: Vec<Fault> = Vec::new();
    for (at, begins, one) in steps {
        loop {
            let left = (start + at).saturating_sub(recorder.now());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(POLL)).await;
            if !running.iter().any(|fault| matches!(fault, Fault::Kill(_) | Fault::FullDisk(_))) {
                again(cluster, recorder, ended, say)?;
            }
        }
        let now = recorder.now();
        if begins {
            let leaders = (recorder.holder(LEASES.0), recorder.holder(LEASES.1));
            let lasts = (one.until - one.from).as_secs_f64();
            say(format!("{:6.1} s  {} for {lasts:.1} s", (now - start).as_secs_f64(), one.fault));
            cluster.begin(one.fault, (&leaders.0, &leaders.1));
            begun.push((now, one));
            running.push(one.fault);
        } else {
            cluster.end(one.fault)?;
            running.retain(|fault| *fault != one.fault);
        }
    }
    again(cluster, recorder, ended, say)?;
    Ok(begun)
}

fn again(
    cluster: &mut Cluster,
    recorder: &Recorder,
    ended: &RefCell<Vec<String>>,
    say: &dyn Fn(String),
) -> Result<(), String> {
    for name in cluster.supervise()? {
        say(format!("{:6.1} s  {name} had ended by itself and is started again", recorder.now().as_secs_f64()));
        ended.borrow_mut().push(name);
    }
    Ok(())
}

async fn list(access: &mut Retrying<'_>, kind: Kind) -> Vec<Value> {
    let (answer, _) = access.until_answered(&Ask::get(kind.path())).await;
    answer.ok().and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
}

/// Waits until everything is as it should be; what is not, if it never is.
async fn at_rest(clients: &[Client], say: &dyn Fn(String)) -> Result<(), String> {
    let mut access = Retrying::new(clients, 0);
    let last = RefCell::new(String::new());
    let look = async {
        loop {
            let listed = Listed {
                deployments: list(&mut access, Kind::Deployment).await,
                stateful_sets: list(&mut access, Kind::StatefulSet).await,
                pods: list(&mut access, Kind::Pod).await,
                nodes: list(&mut access, Kind::Node).await,
            };
            match converge::missing(&listed) {
                None => return,
                Some(missing) if missing != *last.borrow() => {
                    say(format!("not yet: {missing}"));
                    *last.borrow_mut() = missing;
                }
                Some(_) => {}
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let done = tokio::time::timeout(CONVERGE_MAX, look).await;
    done.map_err(|_| format!("not within {} s: {}", CONVERGE_MAX.as_secs(), last.borrow()))
}

/// Waits until what each server's watches told comes to what each server lists; what does not, if it never does.
async fn settled(clients: &[Client], recorder: &Recorder) -> Vec<Violation> {
    let until = recorder.now() + SETTLE_MAX;
    loop {
        let mut differences = Vec::new();
        for (server, client) in clients.iter().enumerate() {
            for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Lease | Kind::Node)) {
                let Ok(list) = Ask::get(kind.path()).once(client).await else {
                    differences.push(Violation::new("watches", format!("server {server} does not list {kind}")));
                    continue;
                };
                let items = list["items"].as_array().into_iter().flatten();
                let listed: BTreeMap<String, u64> = items.map(|item| (name(item).to_owned(), revision(item))).collect();
                let told = recorder.state(server, kind);
                if listed != told {
                    let what =
                        format!("{kind} of server {server}: the listing has {listed:?}, the watch told {told:?}");
                    differences.push(Violation::new("watches", what));
                }
            }
        }
        if differences.is_empty() || recorder.now() > until {
            return differences;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Adds what was measured.
fn measure(report: &mut Report, figures: &Figures, begun: &[(Duration, Planned)]) {
    report.operations.clone_from(&figures.operations);
    for (_, planned) in begun {
        *report.faults.entry(planned.fault.kind()).or_default() += 1;
    }
    report.retried = figures.retried.len();
    if let Some(longest) = figures.retried.iter().max_by_key(|one| one.until - one.from) {
        report.unavailable = longest.until - longest.from;
        let lasts =
            |(at, one): &(Duration, Planned)| *at < longest.until && *at + (one.until - one.from) > longest.from;
        report.unavailable_during =
            begun.iter().filter(|one| lasts(one)).map(|(_, one)| one.fault.to_string()).collect();
    }
    for (at, planned) in begun {
        let (Fault::Kill(target) | Fault::Pause(target) | Fault::Silence(Link::Part(target))) = planned.fault else {
            continue;
        };
        let lease = match target {
            Target::LeadingScheduler => LEASES.0,
            Target::LeadingControllers => LEASES.1,
            _ => continue,
        };
        // One that came back before its lease ran out was not lost.
        let Some((elected, ..)) = figures.elections.iter().find(|(elected, name, _)| name == lease && elected > at)
        else {
            continue;
        };
        if *elected > *at + (planned.until - planned.from).max(Duration::from_secs(25)) {
            continue;
        }
        if target == Target::LeadingControllers {
            report.controlling_gaps.push(*elected - *at);
        } else if let Some(bound) = figures.bindings.iter().find(|bound| *bound >= elected) {
            report.scheduling_gaps.push(*bound - *at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_that_are_never_answered_are_a_violation_once_they_were_to_stop() {
        let (stop, stopped) = watch::channel(false);
        let work = tokio::task::yield_now();
        assert!(answered(work, stopped.clone(), Duration::ZERO).await.is_none(), "while things go wrong they may wait");
        stop.send_replace(true);
        let in_time = answered(std::future::ready(()), stopped.clone(), Duration::from_secs(3600)).await;
        assert!(in_time.is_none());
        let never = answered(std::future::pending(), stopped, Duration::ZERO).await;
        assert_eq!(never.map(|violation| violation.promise), Some("answers"));
    }
}
