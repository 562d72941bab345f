//! Agents that die, servers that fail, and many agents at once.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Pod;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::pod::helpers::is_ready;
use longshore_core::client::params::{Patch, PatchParams};
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::runtime::Runtime;
use longshore_core::testing::client::Faults;
use longshore_core::testing::clock::SkewedClock;
use longshore_runtime_simulated::SimulatedRuntime;
use serde_json::json;

use crate::testing::{FakeNetwork, World, condition, pod, status};
use crate::{NodeAgent, Options};

#[tokio::test]
async fn an_agent_that_dies_harms_no_pod() {
    let world = World::new();
    world
        .with(async {
            for name in ["a", "b"] {
                world.create(pod(name, json!({}))).await;
            }
            world
                .until("both run", || {
                    ["a", "b"]
                        .iter()
                        .all(|name| world.pod(name).is_some_and(|pod| condition(&pod, "Ready") == "True"))
                        .then_some(())
                })
                .await;
        })
        .await;
    let before = world.runtime.list().await.unwrap();
    // While no agent looks, one pod is deleted for good.
    let target = longshore_core::client::Target { kind: KindType::of::<Pod>(), namespace: "ns", name: "b" };
    world.server.remove(target);
    let version = world.pod("a").unwrap().metadata.resource_version;
    world
        .with(async {
            world.settle().await;
            world.settle().await;
            let after = world.runtime.list().await.unwrap();
            assert_eq!(after.len(), 1, "the orphan is gone");
            assert_eq!(after[0], before.iter().find(|sandbox| sandbox.pod.name == "a").unwrap().clone());
            assert_eq!(world.pod("a").unwrap().metadata.resource_version, version, "not even the status was touched");
            assert_eq!(world.network.pods.lock().unwrap().len(), 1);
        })
        .await;
}

#[tokio::test]
async fn agents_that_die_at_any_moment_bring_pods_to_their_end() {
    // Each agent gets a few more turns than the last before it dies.
    for turns in 1..120 {
        let world = World::new();
        let spec = json!({
            "restartPolicy": "OnFailure",
            "initContainers": [{"name": "init", "image": "web", "command": ["true"]}],
            "containers": [{"name": "main", "image": "web", "command": ["sleep", "1"]}],
        });
        world.create(pod("a", spec)).await;
        for _ in 0..3 {
            world
                .with(async {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
        }
        world
            .with(async {
                let last = world
                    .until("it ends", || world.pod("a").filter(|pod| pod.status.phase == PodPhase::Succeeded))
                    .await;
                assert_eq!(status(&last, "main").restart_count, 0, "after {turns} turns");
                assert_eq!(status(&last, "init").restart_count, 0, "after {turns} turns");
                world.delete("a", 5);
                world.until("gone", || world.pod("a").is_none().then_some(())).await;
                assert!(world.runtime.list().await.unwrap().is_empty());
                assert!(world.network.pods.lock().unwrap().is_empty());
            })
            .await;
    }
}

#[tokio::test]
async fn a_report_that_lost_a_race_is_written_again_at_once() {
    // Each time somebody else touches the pod a turn later.
    for turns in 0..80 {
        let world = World::new();
        world.create(pod("a", json!({}))).await;
        world
            .with(async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                let patch = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
                world.api::<Pod>().patch("a", &patch, &PatchParams::default()).await.unwrap();
                world.until("ready", || world.pod("a").filter(is_ready)).await;
            })
            .await;
        assert!(world.clock.elapsed() < Duration::from_millis(500), "after {turns} turns");
    }
}

#[tokio::test]
async fn a_clock_that_was_fast_does_not_keep_a_report_waiting() {
    let world = World::new();
    let clock = SkewedClock::new(world.clock.clone());
    clock.set(300);
    let (runtime, network) = (world.runtime.clone(), world.network.clone());
    let agent = NodeAgent::new(world.client(), runtime, network, Arc::new(clock.clone()), world.options.clone());
    world.create(pod("a", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "web", "command": ["sleep", "2"]}]}))).await;
    let test = async {
        world.until("runs", || world.pod("a").filter(|pod| pod.status.phase == PodPhase::Running)).await;
        world.server.set_faults(Faults { refused: 1.0, ..Faults::default() });
        world.pass(Duration::from_secs(3)).await;
        world.server.set_faults(Faults::default());
        clock.set(0);
        let from = world.clock.elapsed();
        world.until("ends", || world.pod("a").filter(|pod| pod.status.phase == PodPhase::Succeeded)).await;
        world.clock.elapsed() - from
    };
    let waited = world.with_agent(agent, test).await;
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn a_server_that_fails_holds_nothing_up_for_good() {
    let world = World::new();
    world.server.set_faults(Faults { refused: 0.2, answer_lost: 0.2, watch_cut: 0.1, expired: 0.05 });
    for name in ["a", "b", "c"] {
        while world.api::<Pod>().create(pod(name, json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "web", "command": ["sleep", "2"]}]})), &Default::default()).await.is_err() {}
    }
    world
        .with(async {
            for name in ["a", "b", "c"] {
                world.until("it ends", || world.pod(name).filter(|pod| pod.status.phase == PodPhase::Succeeded)).await;
                world.delete(name, 1);
            }
            for name in ["a", "b", "c"] {
                world.until("gone", || world.pod(name).is_none().then_some(())).await;
            }
            world.until("clean", || world.network.pods.lock().unwrap().is_empty().then_some(())).await;
        })
        .await;
}

#[tokio::test]
async fn many_hollow_nodes_live_in_one_process() {
    const NODES: usize = 40;
    const PODS: usize = 3;
    let world = World::new();
    let cancel = tokio_util::sync::CancellationToken::new();
    let mut agents = tokio::task::JoinSet::new();
    for node in 0..NODES {
        let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
        let runtime = SimulatedRuntime::new(clock.clone(), Default::default());
        let options =
            Options { capacity: world.options.capacity.clone(), ..Options::new(format!("n{node}"), "/no", 1) };
        let network = Arc::new(FakeNetwork::default());
        let agent = NodeAgent::new(world.client(), Arc::new(runtime), network, clock, options);
        agents.spawn(agent.run(cancel.clone()));
        for number in 0..PODS {
            world.create(pod(&format!("p{node}-{number}"), json!({"nodeName": format!("n{node}")}))).await;
        }
    }
    let all_ready = || {
        let pods = world.server.objects(KindType::of::<Pod>());
        let ready = pods.iter().filter(|pod| pod.as_any().downcast_ref::<Pod>().is_some_and(is_ready)).count();
        (ready == NODES * PODS).then_some(())
    };
    world.until("all ready", all_ready).await;
    assert!(world.clock.elapsed() < Duration::from_secs(5));
    // Nothing but heartbeats while nothing happens: a lease every ten seconds.
    world.settle().await;
    let writes = world.server.writes();
    world.pass(Duration::from_secs(60)).await;
    let beats = world.server.writes() - writes;
    assert!(beats <= 7 * NODES as u64, "{beats} writes in a minute");
    cancel.cancel();
    while let Some(ended) = agents.join_next().await {
        ended.unwrap();
    }
}
