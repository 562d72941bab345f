use std::collections::BTreeMap;

use longshore_core::api::Event;
use longshore_core::api::job::{
    CompletionMode, JobCondition, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
    PodReplacementPolicy, SuccessPolicy, SuccessPolicyRule,
};
use longshore_core::api::pod::{PodPhase, RestartPolicy};
use longshore_core::client::params::DeleteParams;
use longshore_core::clock::Clock;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ControllerManager;
use crate::garbage_collector::GarbageCollector;
use crate::testing::{Kubelet, World, end, meta, template};

fn controllers(manager: &mut ControllerManager) {
    manager.add(JobController);
    manager.add(GarbageCollector::new(vec![KindType::of::<Job>(), KindType::of::<Pod>()]));
}

fn job(name: &str, parallelism: i32, completions: i32) -> Job {
    let mut job = Job { metadata: meta(name), ..Job::default() };
    job.spec.parallelism = Some(parallelism);
    job.spec.completions = Some(completions);
    job.spec.template = template(name, "app:1");
    job.spec.template.metadata.labels = None;
    job.spec.template.spec.restart_policy = RestartPolicy::Never;
    job
}

fn now(world: &World) -> Job {
    world.one("work")
}

fn conditions(world: &World) -> Vec<(String, String)> {
    let holds = |condition: &JobCondition| condition.status == longshore_core::api::ConditionStatus::True;
    let conditions = now(world).status.conditions.into_iter().filter(holds);
    conditions.map(|condition| (condition.type_, condition.reason)).collect()
}

fn phases(world: &World) -> BTreeMap<String, i32> {
    let mut phases = BTreeMap::new();
    for pod in world.all::<Pod>() {
        *phases.entry(pod.status.phase.to_string()).or_default() += 1;
    }
    phases
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// Lets time pass until retries of failed pods are over.
async fn long(world: &World, kubelet: &mut Kubelet) {
    for _ in 0..30 {
        for _ in 0..6 {
            world.yield_all().await;
            kubelet.step(world);
        }
        world.yield_all().await;
        world.clock.advance(Duration::from_secs(30));
    }
}

#[tokio::test]
async fn runs_to_completion_and_is_deleted_in_time() {
    let world = World::new(1);
    let mut kubelet = Kubelet::new(1);
    world
        .with_all(controllers, async {
            let mut work = job("work", 2, 5);
            work.spec.ttl_seconds_after_finished = Some(100);
            world.create(work).await;
            world.yield_all().await;
            assert_eq!((world.all::<Pod>().len(), now(&world).status.active), (2, 2));
            let pod = world.all::<Pod>().remove(0);
            let labels = pod.metadata.labels.as_ref().unwrap();
            assert_eq!((&*labels["job-name"], &*labels["batch.kubernetes.io/job-name"]), ("work", "work"));
            assert_eq!(labels["batch.kubernetes.io/controller-uid"], now(&world).metadata.uid.unwrap());
            assert!(pods::is_tracked(&pod));
            world.settle_with(&mut kubelet).await;
            let status = now(&world).status;
            assert_eq!((status.succeeded, status.failed, status.active, status.ready), (5, 0, 0, Some(0)));
            assert_eq!(status.uncounted_terminated_pods, None);
            let both = [pair("SuccessCriteriaMet", "CompletionsReached"), pair("Complete", "CompletionsReached")];
            assert_eq!(conditions(&world), both);
            assert!(status.completion_time.is_some() && status.start_time.is_some());
            assert!(world.all::<Pod>().iter().all(|pod| !pods::is_tracked(pod)));
            assert!(world.all::<Event>().iter().any(|event| event.reason == "Completed"));
            world.clock.advance(Duration::from_secs(101));
            world.settle_with(&mut kubelet).await;
            assert!(world.all::<Job>().is_empty() && world.all::<Pod>().is_empty());
        })
        .await;
}

#[tokio::test]
async fn failures_back_off_until_the_limit() {
    let world = World::new(2);
    let mut kubelet = Kubelet::new(2);
    kubelet.fails = 1.0;
    world
        .with_all(controllers, async {
            let mut work = job("work", 1, 1);
            work.spec.backoff_limit = Some(2);
            world.create(work).await;
            world.settle_with(&mut kubelet).await;
            assert_eq!((phases(&world)["Failed"], now(&world).status.failed), (1, 1), "the second waits");
            world.clock.advance(Duration::from_secs(10));
            world.settle_with(&mut kubelet).await;
            assert_eq!(phases(&world)["Failed"], 2);
            world.clock.advance(Duration::from_secs(2));
            world.settle_with(&mut kubelet).await;
            assert_eq!(phases(&world)["Failed"], 2, "the third waits twice as long");
            long(&world, &mut kubelet).await;
            assert_eq!((phases(&world)["Failed"], now(&world).status.failed), (3, 3));
            let both = [pair("FailureTarget", "BackoffLimitExceeded"), pair("Failed", "BackoffLimitExceeded")];
            assert_eq!(conditions(&world), both);
        })
        .await;
}

#[tokio::test]
async fn a_deadline_stops_what_runs() {
    let world = World::new(3);
    world.server.set_graceful(true);
    let mut kubelet = Kubelet::new(3);
    world
        .with_all(controllers, async {
            let mut work = job("work", 2, 2);
            work.spec.active_deadline_seconds = Some(60);
            work.spec.template.spec.restart_policy = RestartPolicy::OnFailure;
            world.create(work).await;
            world.settle_with(&mut kubelet).await;
            assert_eq!((now(&world).status.active, now(&world).status.ready), (2, Some(2)));
            world.clock.advance(Duration::from_secs(60));
            world.yield_all().await;
            assert_eq!(conditions(&world), [pair("FailureTarget", "DeadlineExceeded")]);
            world.settle_with(&mut kubelet).await;
            assert_eq!(conditions(&world)[1], pair("Failed", "DeadlineExceeded"));
            let status = now(&world).status;
            assert_eq!((status.active, status.failed, status.terminating), (0, 2, Some(0)));
        })
        .await;
}

#[tokio::test]
async fn indexes_succeed_once_each() {
    let world = World::new(4);
    let mut kubelet = Kubelet::new(4);
    kubelet.fails = 0.3;
    world
        .with_all(controllers, async {
            let mut work = job("work", 3, 7);
            work.spec.completion_mode = Some(CompletionMode::Indexed);
            work.spec.backoff_limit = Some(1000);
            world.create(work).await;
            world.yield_all().await;
            let pods = world.all::<Pod>();
            let indexes: Vec<_> = pods.iter().filter_map(|pod| pods::index(&now(&world), pod)).collect();
            assert_eq!(indexes, [0, 1, 2]);
            assert!(pods[0].metadata.name.as_deref().unwrap().starts_with("work-0-"));
            assert_eq!(
                (&*pods[0].spec.hostname, &*pods[0].spec.containers[0].env[0].name),
                ("work-0", "JOB_COMPLETION_INDEX")
            );
            long(&world, &mut kubelet).await;
            long(&world, &mut kubelet).await;
            let status = now(&world).status;
            assert_eq!((status.succeeded, &*status.completed_indexes), (7, "0-6"));
            assert_eq!(
                (phases(&world)["Succeeded"], Some(&status.failed)),
                (7, phases(&world).get("Failed").or(Some(&0)))
            );
            assert_eq!(conditions(&world)[1].0, "Complete");
        })
        .await;
}

#[tokio::test]
async fn limits_per_index_and_early_success() {
    let world = World::new(5);
    let mut kubelet = Kubelet::new(5);
    kubelet.eager = 0.0;
    world
        .with_all(controllers, async {
            let mut work = job("work", 4, 4);
            work.spec.completion_mode = Some(CompletionMode::Indexed);
            work.spec.backoff_limit_per_index = Some(0);
            world.create(work.clone()).await;
            world.yield_all().await;
            for (index, phase) in [(0, PodPhase::Failed), (1, PodPhase::Succeeded), (2, PodPhase::Succeeded)] {
                let of = |pod: &Pod| pods::index(&now(&world), pod) == Some(index);
                let name = world.all::<Pod>().into_iter().find(of).unwrap().metadata.name.unwrap();
                world.report::<Pod>(&name, |pod| end(pod, phase.clone(), 1, world.clock.now()));
                world.yield_all().await;
            }
            let status = now(&world).status;
            assert_eq!((status.failed_indexes.as_deref(), &*status.completed_indexes), (Some("0"), "1,2"));
            kubelet.eager = 1.0;
            long(&world, &mut kubelet).await;
            assert_eq!(conditions(&world)[1], pair("Failed", "FailedIndexes"));

            world.api::<Job>().delete("work", &DeleteParams::default()).await.unwrap();
            long(&world, &mut kubelet).await;
            kubelet.eager = 0.0;
            work.spec.backoff_limit_per_index = None;
            let rule = SuccessPolicyRule { succeeded_indexes: Some("0,2".into()), succeeded_count: Some(1) };
            work.spec.success_policy = Some(SuccessPolicy { rules: vec![rule] });
            world.create(work).await;
            world.yield_all().await;
            let of = |pod: &Pod| pods::index(&now(&world), pod) == Some(2);
            let name = world.all::<Pod>().into_iter().find(of).unwrap().metadata.name.unwrap();
            world.report::<Pod>(&name, |pod| end(pod, PodPhase::Succeeded, 0, world.clock.now()));
            world.yield_all().await;
            kubelet.eager = 1.0;
            long(&world, &mut kubelet).await;
            assert_eq!(
                conditions(&world),
                [pair("SuccessCriteriaMet", "SuccessPolicy"), pair("Complete", "SuccessPolicy")]
            );
            assert_eq!(now(&world).status.succeeded, 1);
        })
        .await;
}

#[tokio::test]
async fn the_failure_policy_tells_failures_apart() {
    let world = World::new(6);
    let mut kubelet = Kubelet::new(6);
    kubelet.eager = 0.0;
    world
        .with_all(controllers, async {
            let mut work = job("work", 1, 1);
            work.spec.backoff_limit = Some(0);
            let rule = |action: &str, code: i32| PodFailurePolicyRule {
                action: action.into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: None,
                    operator: "In".into(),
                    values: vec![code],
                }),
                ..PodFailurePolicyRule::default()
            };
            work.spec.pod_failure_policy =
                Some(PodFailurePolicy { rules: vec![rule("Ignore", 42), rule("FailJob", 3)] });
            world.create(work).await;
            world.yield_all().await;
            for code in [42, 3] {
                let pod = world.all::<Pod>().into_iter().find(is_active).unwrap();
                let name = pod.metadata.name.unwrap();
                world.report::<Pod>(&name, |pod| end(pod, PodPhase::Failed, code, world.clock.now()));
                long(&world, &mut kubelet).await;
            }
            assert_eq!((now(&world).status.failed, phases(&world)["Failed"]), (1, 2));
            assert_eq!(conditions(&world)[1], pair("Failed", "PodFailurePolicy"));
        })
        .await;
}

#[tokio::test]
async fn suspension_stops_and_resumes() {
    let world = World::new(7);
    world.server.set_graceful(true);
    let mut kubelet = Kubelet::new(7);
    world
        .with_all(controllers, async {
            let mut work = job("work", 2, 2);
            work.spec.suspend = Some(true);
            world.create(work).await;
            world.settle_with(&mut kubelet).await;
            assert!(world.all::<Pod>().is_empty() && now(&world).status.start_time.is_none());
            assert_eq!(conditions(&world), [pair("Suspended", "JobSuspended")]);
            world.edit::<Job>("work", |job| job.spec.suspend = Some(false));
            world.yield_all().await;
            assert_eq!(world.all::<Pod>().len(), 2);
            assert!(now(&world).status.start_time.is_some() && conditions(&world).is_empty());
            world.edit::<Job>("work", |job| job.spec.suspend = Some(true));
            world.settle_with(&mut kubelet).await;
            assert!(world.all::<Pod>().iter().all(|pod| !is_active(pod)));
            world.edit::<Job>("work", |job| job.spec.suspend = Some(false));
            long(&world, &mut kubelet).await;
            assert_eq!(now(&world).status.succeeded, 2);
        })
        .await;
}

/// Pods succeed, fail and are deleted, under faults, with the process dying in between: every pod that ended is counted
/// exactly once, counts never go back, and never more pods run than may.
#[tokio::test]
async fn random_faults_count_exactly_once() {
    for seed in 0..9 {
        let world = World::new(seed);
        world.server.set_graceful(true);
        let mut kubelet = Kubelet::new(seed);
        kubelet.fails = 0.25;
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let (parallelism, completions) = (rng.random_range(1..5), rng.random_range(1..12));
        let mut work = job("work", parallelism, completions);
        work.spec.backoff_limit = Some(10_000);
        if !seed.is_multiple_of(2) {
            work.spec.completion_mode = Some(CompletionMode::Indexed);
        }
        if seed.is_multiple_of(3) {
            work.spec.pod_replacement_policy = Some(PodReplacementPolicy::Failed);
        }
        world.create(work).await;
        let mut ended = BTreeMap::new();
        let (mut succeeded, mut failed) = (0, 0);
        for life in 0..5 {
            world
                .with_all(controllers, async {
                    for step in 0..rng.random_range(1..60) {
                        world.server.set_faults(Faults::default());
                        kubelet.eager = 0.4;
                        kubelet.step(&world);
                        let pods = world.all::<Pod>();
                        if rng.random_bool(0.05) && !pods.is_empty() {
                            let name = pods[rng.random_range(0..pods.len())].metadata.name.clone().unwrap();
                            if world.one::<Pod>(&name).status.phase == PodPhase::Running {
                                world.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
                            }
                        }
                        world.server.set_faults(Faults {
                            refused: 0.1,
                            answer_lost: 0.1,
                            watch_cut: 0.1,
                            expired: 0.1,
                        });
                        for _ in 0..rng.random_range(1..40) {
                            tokio::task::yield_now().await;
                        }
                        if rng.random_bool(0.6) {
                            world.clock.advance_to_next();
                        }
                        if rng.random_bool(0.2) {
                            world.server.set_lagging(rng.random_bool(0.5));
                        }
                        let place = format!("seed {seed} life {life} step {step}");
                        for pod in world.all::<Pod>() {
                            if matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed) {
                                ended.insert(pod.metadata.uid.unwrap(), pod.status.phase == PodPhase::Succeeded);
                            }
                        }
                        let active = world.all::<Pod>().iter().filter(|pod| is_active(pod)).count();
                        assert!(active <= usize::try_from(parallelism).unwrap(), "{place}: {active} run");
                        let status = now(&world).status;
                        assert!(status.succeeded >= succeeded && status.failed >= failed, "{place}: counts go back");
                        (succeeded, failed) = (status.succeeded, status.failed);
                    }
                    world.server.set_lagging(false);
                    world.server.set_faults(Faults::default());
                    if life == 4 {
                        kubelet.eager = 1.0;
                        kubelet.fails = 0.0;
                        world.settle().await;
                        long(&world, &mut kubelet).await;
                        long(&world, &mut kubelet).await;
                    }
                })
                .await;
        }
        for pod in world.all::<Pod>() {
            ended.insert(pod.metadata.uid.unwrap(), pod.status.phase == PodPhase::Succeeded);
        }
        let status = now(&world).status;
        assert_eq!(status.succeeded, completions, "seed {seed}: {:?} {:?}", status, phases(&world));
        let count = |succeeded: bool| i32::try_from(ended.values().filter(|did| **did == succeeded).count()).unwrap();
        assert_eq!((status.succeeded, status.failed), (count(true), count(false)), "seed {seed}");
        assert_eq!(conditions(&world)[1].0, "Complete", "seed {seed}");
    }
}

#[tokio::test]
async fn pods_of_a_job_that_is_gone_are_let_go() {
    let world = World::new(8);
    let mut kubelet = Kubelet::new(8);
    world
        .with_all(controllers, async {
            world.create(job("work", 2, 2)).await;
            world.yield_all().await;
            world.server.remove(ObjectRef::of(&now(&world)).target());
            world.settle_with(&mut kubelet).await;
            assert!(world.all::<Pod>().is_empty());
        })
        .await;
}
