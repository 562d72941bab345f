//! Whole lives of pods on a simulated node.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::{ConditionStatus, Lease, Node, Pod, Secret};
use longshore_core::client::Target;
use longshore_core::client::params::PostParams;
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::runtime::{ContainerRef, Credentials, Runtime};
use serde_json::json;

use crate::testing::{World, annotated, condition, pod, state, status};

#[tokio::test]
async fn a_pod_runs_is_ready_and_goes_when_deleted() {
    let world = World::new();
    world
        .with(async {
            world.create(pod("a", json!({}))).await;
            let running =
                world.until("running", || world.pod("a").filter(|pod| condition(pod, "Ready") == "True")).await;
            assert_eq!(running.status.phase, PodPhase::Running);
            assert_eq!(running.status.pod_ip, "10.0.0.1");
            assert_eq!(running.status.host_ip, "192.168.0.1");
            assert_eq!(state(&running, "main"), "Running");
            let main = status(&running, "main");
            assert!(main.ready && main.started == Some(true) && main.container_id.starts_with("simulated://"));
            for type_ in ["PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled"] {
                assert_eq!(condition(&running, type_), "True", "{type_}");
            }
            assert_eq!(world.reasons(), ["Pulling", "Pulled", "Created", "Started"]);
            let writes = world.server.writes();
            world.settle().await;
            assert_eq!(world.server.writes(), writes, "nothing is written when nothing changes");

            world.delete("a", 30);
            world.until("gone", || world.pod("a").is_none().then_some(())).await;
            assert_eq!(world.clock.elapsed(), Duration::ZERO, "one that heeds SIGTERM costs no time");
            assert!(world.runtime.list().await.unwrap().is_empty());
            assert!(world.network.pods.lock().unwrap().is_empty());
            assert!(world.reasons().contains(&"Killing".to_owned()));
        })
        .await;
}

#[tokio::test]
async fn the_node_registers_and_its_lease_is_renewed() {
    let world = World::new();
    world
        .with(async {
            world.pass(Duration::from_secs(25)).await;
            let node = world.node();
            assert_eq!(node.metadata.labels.as_ref().unwrap()["kubernetes.io/hostname"], "n1");
            let ready = node.status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "KubeletReady"));
            assert_eq!(node.status.allocatable["pods"].value(), 110);
            let leases = world.server.objects(KindType::of::<Lease>());
            let lease = leases[0].as_any().downcast_ref::<Lease>().unwrap();
            assert_eq!(lease.spec.holder_identity.as_deref(), Some("n1"));
            let age = world.clock.now().duration_since(lease.spec.renew_time.as_ref().unwrap().0);
            assert!(age.as_secs() < 10, "renewed {} s ago", age.as_secs());
            assert_eq!(lease.metadata.owner_references.as_ref().unwrap()[0].kind, "Node");
            assert_eq!(world.server.objects(KindType::of::<Node>()).len(), 1);
        })
        .await;
}

#[tokio::test]
async fn crashes_are_restarted_with_growing_back_off() {
    let world = World::new();
    world
        .with(async {
            let crashing = pod("a", json!({"containers": [{"name": "main", "image": "web", "command": ["false"]}]}));
            world.create(crashing).await;
            // The first restart comes at once, the next after 10 s, then 20 s, 40 s, …, 300 s.
            let mut starts = Vec::new();
            for restarts in [2, 3, 4, 5, 6, 7, 8, 9] {
                world
                    .until("restart", || world.pod("a").filter(|pod| status(pod, "main").restart_count >= restarts))
                    .await;
                starts.push(world.clock.elapsed().as_secs());
            }
            let waits: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert_eq!((starts[0], waits), (10, vec![20, 40, 80, 160, 300, 300, 300]));
            world.settle().await;
            let waiting = world.pod("a").unwrap();
            assert_eq!(state(&waiting, "main"), "CrashLoopBackOff");
            let last = status(&waiting, "main").last_state.terminated.clone().unwrap();
            assert_eq!((last.exit_code, last.reason.as_str()), (1, "Error"));
            assert_eq!(waiting.status.phase, PodPhase::Running);
            assert_eq!(condition(&waiting, "Ready"), "False");
            assert!(world.reasons().contains(&"BackOff".to_owned()));
            // Attempts do not pile up.
            assert_eq!(world.runtime.list().await.unwrap()[0].containers.len(), 2);
        })
        .await;
}

#[tokio::test]
async fn jobs_end_and_leave_nothing_but_their_status() {
    let world = World::new();
    world
        .with(async {
            for (name, command, policy) in
                [("good", vec!["sleep", "5"], "OnFailure"), ("bad", vec!["sh", "-c", "exit 3"], "Never")]
            {
                let containers = json!([{"name": "main", "image": "web", "command": command}]);
                world.create(pod(name, json!({"restartPolicy": policy, "containers": containers}))).await;
            }
            let ended = |name: &str| {
                world
                    .pod(name)
                    .filter(|pod| pod.status.phase != PodPhase::Running && pod.status.phase != PodPhase::Pending)
            };
            let good = world.until("good ends", || ended("good")).await;
            let bad = world.until("bad ends", || ended("bad")).await;
            assert_eq!(good.status.phase, PodPhase::Succeeded);
            assert_eq!(bad.status.phase, PodPhase::Failed);
            assert_eq!((state(&good, "main"), state(&bad, "main")), ("Completed".into(), "Error".into()));
            assert_eq!(status(&bad, "main").state.terminated.as_ref().unwrap().exit_code, 3);
            assert_eq!(good.status.pod_ip, "10.0.0.1", "the last address stays in the status");
            world.settle().await;
            assert!(world.runtime.list().await.unwrap().is_empty());
            assert!(world.network.pods.lock().unwrap().is_empty());
            world.delete("good", 30);
            world.until("gone", || world.pod("good").is_none().then_some(())).await;
        })
        .await;
}

#[tokio::test]
async fn init_containers_run_in_order_and_sidecars_beside_the_others() {
    let world = World::new();
    world
        .with(async {
            let spec = json!({
                "restartPolicy": "Never",
                "initContainers": [
                    {"name": "one", "image": "web", "command": ["sleep", "3"]},
                    {"name": "side", "image": "web", "restartPolicy": "Always"},
                    {"name": "two", "image": "web", "command": ["sleep", "2"]},
                ],
                "containers": [{"name": "main", "image": "web", "command": ["sleep", "10"]}],
            });
            world.create(pod("a", spec)).await;
            let first = world
                .until("one runs", || {
                    world
                        .pod("a")
                        .filter(|pod| !pod.status.init_container_statuses.is_empty() && state(pod, "one") == "Running")
                })
                .await;
            assert_eq!(
                (state(&first, "side"), state(&first, "main")),
                ("PodInitializing".into(), "PodInitializing".into())
            );
            assert_eq!(condition(&first, "Initialized"), "False");
            let second = world.until("two runs", || world.pod("a").filter(|pod| state(pod, "two") == "Running")).await;
            assert_eq!((state(&second, "one"), state(&second, "side")), ("Completed".into(), "Running".into()));
            assert_eq!(second.status.phase, PodPhase::Pending);
            let third = world.until("main runs", || world.pod("a").filter(|pod| state(pod, "main") == "Running")).await;
            assert_eq!(condition(&third, "Initialized"), "True");
            let last =
                world.until("it ends", || world.pod("a").filter(|pod| pod.status.phase == PodPhase::Succeeded)).await;
            assert_eq!(state(&last, "side"), "Error", "the sidecar was stopped by a signal");
            assert_eq!(world.clock.elapsed().as_secs(), 15);
        })
        .await;
}

#[tokio::test]
async fn one_that_ignores_the_signal_is_killed_when_its_time_is_up() {
    let world = World::new();
    world
        .with(async {
            world.create(annotated(pod("a", json!({})), &[("ignore-term", "true")])).await;
            world.until("ready", || world.pod("a").filter(|pod| condition(pod, "Ready") == "True")).await;
            world.delete("a", 30);
            world.settle().await;
            assert!(world.pod("a").is_some());
            world.pass(Duration::from_secs(3)).await;
            // Deleted again with less time.
            world.delete("a", 2);
            let start = world.clock.elapsed();
            world.until("gone", || world.pod("a").is_none().then_some(())).await;
            assert_eq!((world.clock.elapsed() - start).as_secs(), 2);
        })
        .await;
}

#[tokio::test]
async fn a_broken_sandbox_is_made_anew() {
    let world = World::new();
    world
        .with(async {
            let created = world.create(pod("a", json!({}))).await;
            world.until("ready", || world.pod("a").filter(|pod| condition(pod, "Ready") == "True")).await;
            world.runtime.break_sandbox(created.metadata.uid.as_deref().unwrap());
            let again = world
                .until("restarted", || {
                    world
                        .pod("a")
                        .filter(|pod| status(pod, "main").restart_count == 1 && condition(pod, "Ready") == "True")
                })
                .await;
            assert_eq!(again.status.pod_ip, "10.0.0.2");
            let last = status(&again, "main").last_state.terminated.clone().unwrap();
            assert_eq!(last.exit_code, 137);
        })
        .await;
}

#[tokio::test]
async fn an_image_is_pulled_with_the_logins_that_the_pod_names() {
    let world = World::new();
    let login = Credentials::Basic { user: "me".into(), password: "right".into() };
    world.runtime.require_login("reg.io/team/web", login).unwrap();
    world
        .with(async {
            let auths = json!({
                "reg.io/team": {"username": "me", "password": "wrong"}, "reg.io": {"username": "me", "password": "right"},
            });
            let secret: Secret = serde_json::from_value(json!({
                "kind": "Secret", "metadata": {"name": "login", "namespace": "ns"},
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": STANDARD.encode(json!({"auths": auths}).to_string())},
            }))
            .unwrap();
            world.api::<Secret>().create(secret, &PostParams::default()).await.unwrap();
            let of = |secrets: &[&str]| {
                let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
                json!({"imagePullSecrets": secrets, "containers": [
                    {"name": "main", "image": "reg.io/team/web", "imagePullPolicy": "Always"},
                ]})
            };
            world.create(pod("with", of(&["login"]))).await;
            world.create(pod("without", of(&["gone"]))).await;
            world.until("running", || world.pod("with").filter(|pod| state(pod, "main") == "Running")).await;
            world.settle().await;
            assert!(state(&world.pod("without").unwrap(), "main").contains("ImagePull"));
            assert!(world.reasons().contains(&"FailedToRetrieveImagePullSecret".to_owned()));
        })
        .await;
}

#[tokio::test]
async fn images_that_cannot_be_had_are_waited_for() {
    let world = World::new();
    world.runtime.forbid_image("gone:1").unwrap();
    world.with(async {
        let of = |image: &str, policy: &str| json!({"containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]});
        world.create(pod("gone", of("gone:1", "IfNotPresent"))).await;
        world.create(pod("never", of("other", "Never"))).await;
        world.create(pod("bad", of("UPPER", "Always"))).await;
        world.settle().await;
        let waits = |name: &str| state(&world.pod(name).unwrap(), "main");
        assert_eq!(waits("gone"), "ImagePullBackOff");
        assert_eq!(waits("never"), "ErrImageNeverPull");
        assert_eq!(waits("bad"), "InvalidImageName");
        assert_eq!(world.pod("gone").unwrap().status.phase, PodPhase::Pending);
        world.runtime.add_image("other").unwrap();
        world.until("it came", || world.pod("never").filter(|pod| state(pod, "main") == "Running")).await;
        assert_eq!(world.clock.elapsed().as_secs(), 10);
    })
    .await;
}

#[tokio::test]
async fn pods_that_do_not_fit_are_refused() {
    let world = World::new();
    world.with(async {
        let asks = |cpu: &str| json!({"containers": [{"name": "main", "image": "web", "resources": {"requests": {"cpu": cpu}}}]});
        world.create(pod("first", asks("3"))).await;
        world.settle().await;
        world.create(pod("second", asks("2"))).await;
        world.create(pod("third", json!({"nodeSelector": {"disk": "ssd"}}))).await;
        world.settle().await;
        let refused = world.pod("second").unwrap().status;
        assert_eq!((refused.phase, refused.reason.as_str()), (PodPhase::Failed, "OutOfcpu"));
        assert_eq!(refused.message, "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000");
        assert_eq!(world.pod("third").unwrap().status.reason, "NodeAffinity");
        // What is refused takes nothing, and what ends gives its share back.
        world.delete("first", 0);
        world.settle().await;
        world.create(pod("fourth", asks("4"))).await;
        world.until("it fits", || world.pod("fourth").filter(|pod| condition(pod, "Ready") == "True")).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_active_for_too_long_fails() {
    let world = World::new();
    world
        .with(async {
            world.create(pod("a", json!({"activeDeadlineSeconds": 60, "restartPolicy": "Never"}))).await;
            let failed =
                world.until("failed", || world.pod("a").filter(|pod| pod.status.phase == PodPhase::Failed)).await;
            assert_eq!(failed.status.reason, "DeadlineExceeded");
            assert_eq!(world.clock.elapsed().as_secs(), 60);
        })
        .await;
}

#[tokio::test]
async fn a_container_ended_from_outside_is_started_again() {
    let world = World::new();
    world
        .with(async {
            let created = world.create(pod("a", json!({}))).await;
            world.until("ready", || world.pod("a").filter(|pod| condition(pod, "Ready") == "True")).await;
            let uid = created.metadata.uid.clone().unwrap();
            world.runtime.end_container(&ContainerRef { pod_uid: uid, name: "main".into(), attempt: 0 }, 139);
            let again = world
                .until("again", || {
                    world
                        .pod("a")
                        .filter(|pod| status(pod, "main").restart_count == 1 && condition(pod, "Ready") == "True")
                })
                .await;
            assert_eq!(status(&again, "main").last_state.terminated.as_ref().unwrap().exit_code, 139);
        })
        .await;
}

#[tokio::test]
async fn moments_between_seconds_do_not_keep_a_pod_from_its_end() {
    let world = World::new();
    world.clock.advance(Duration::from_millis(1234));
    world
        .with(async {
            world.create(pod("a", json!({}))).await;
            world.until("ready", || world.pod("a").filter(|pod| condition(pod, "Ready") == "True")).await;
            let writes = world.server.writes();
            world.clock.advance(Duration::from_millis(345));
            world.settle().await;
            assert_eq!(world.server.writes(), writes);
            world.delete("a", 30);
            world.until("gone", || world.pod("a").is_none().then_some(())).await;
            assert_eq!(world.clock.elapsed().as_millis(), 1234 + 345);
        })
        .await;
}

#[tokio::test]
async fn a_running_container_is_given_other_resources() {
    let world = World::new();
    world
        .with(async {
            let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
            let resources = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
            let main = json!({"name": "main", "image": "web", "resources": resources, "resizePolicy": policy});
            world.create(pod("a", json!({"containers": [main]}))).await;
            let granted = |cpu: &str, restarts: i32| {
                let cpu = cpu.parse().unwrap();
                world.pod("a").filter(|pod| {
                    let main = pod.status.container_statuses.first();
                    main.is_some_and(|main| {
                        let in_force = main.resources.as_ref().and_then(|resources| resources.requests.get("cpu"));
                        let allocated = main.allocated_resources.get("cpu");
                        in_force == Some(&cpu)
                            && allocated == Some(&cpu)
                            && main.restart_count == restarts
                            && main.ready
                    })
                })
            };
            world.until("it runs", || granted("1", 0)).await;
            let resize = |name: &str, amount: &str| {
                let target = Target { kind: KindType::of::<Pod>(), namespace: "ns", name: "a" };
                world.server.modify(target, |object| {
                    let pod = object.as_any_mut().downcast_mut::<Pod>().unwrap();
                    let resources = &mut pod.spec.containers[0].resources;
                    let list = if name == "cpu" { &mut resources.requests } else { &mut resources.limits };
                    list.insert(name.to_owned(), amount.parse().unwrap());
                });
            };
            let in_runtime = async || world.runtime.list().await.unwrap()[0].containers.last().unwrap().resources;
            resize("cpu", "1500m");
            let resized = world.until("in place", || granted("1500m", 0)).await;
            assert_eq!(in_runtime().await.cpu_request_milli, 1500);
            assert_eq!(condition(&resized, "PodResizeInProgress"), "", "it is done");
            resize("memory", "2Gi");
            world.until("restarted", || granted("1500m", 1)).await;
            assert_eq!(in_runtime().await.memory_limit, Some(2 << 30));

            // What the node cannot give changes nothing, also for the agent that comes next.
            resize("cpu", "5");
            let pending = |pod: &Pod| condition(pod, "PodResizePending") == "True";
            world.until("it is told", || world.pod("a").filter(pending)).await;
            assert!(granted("1500m", 1).is_some());
        })
        .await;
    world
        .with(async {
            world.pass(Duration::from_secs(40)).await;
            let pod = world.pod("a").unwrap();
            let condition = pod.status.conditions.iter().find(|condition| condition.type_ == "PodResizePending");
            assert_eq!(condition.unwrap().reason, "Infeasible");
            let main = status(&pod, "main");
            assert_eq!(main.allocated_resources["cpu"], "1500m".parse().unwrap());
            assert_eq!(main.restart_count, 1);
        })
        .await;
}

#[tokio::test]
async fn a_resize_waits_until_there_is_room_and_then_happens_at_once() {
    let mut world = World::new();
    world.options.capacity = crate::testing::quantities(&[("cpu", "4"), ("memory", "8Gi")]);
    world
        .with(async {
            let asks = |cpu: &str| {
                let resources = json!({"requests": {"cpu": cpu}});
                json!({"containers": [{"name": "main", "image": "web", "resources": resources}]})
            };
            for (name, cpu) in [("a", "1"), ("b", "1"), ("c", "2")] {
                world.create(pod(name, asks(cpu))).await;
            }
            let resize = |name: &str, cpu: &str| {
                let target = Target { kind: KindType::of::<Pod>(), namespace: "ns", name };
                world.server.modify(target, |object| {
                    let pod = object.as_any_mut().downcast_mut::<Pod>().unwrap();
                    pod.spec.containers[0].resources.requests.insert("cpu".to_owned(), cpu.parse().unwrap());
                });
            };
            let holds = |name: &str, cpu: &str| {
                let cpu = cpu.parse().unwrap();
                world.pod(name).filter(|pod| {
                    pod.status
                        .container_statuses
                        .first()
                        .is_some_and(|main| main.ready && main.allocated_resources.get("cpu") == Some(&cpu))
                })
            };
            let deferred = |name: &str| {
                let found = world.pod(name)?.status.conditions;
                found.into_iter().find(|condition| condition.type_ == "PodResizePending")
            };
            world.until("all run", || holds("a", "1").and(holds("b", "1")).and(holds("c", "2"))).await;
            resize("a", "2");
            let condition = world.until("it is told", || deferred("a")).await;
            assert_eq!(condition.reason, "Deferred");
            let message = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000";
            assert_eq!(condition.message, message);
            // What another waits for is not taken: it counts with what it has.
            resize("b", "2");
            world.until("it is told", || deferred("b")).await;
            let before = world.clock.elapsed();
            resize("c", "1");
            world.until("one of them has it", || holds("a", "2").or_else(|| holds("b", "2"))).await;
            world.settle().await;
            assert!(deferred("a").is_some() != deferred("b").is_some(), "and only one");
            world.delete("c", 0);
            world.until("both have it", || holds("a", "2").and(holds("b", "2"))).await;
            assert!(world.clock.elapsed() - before < Duration::from_secs(1), "nobody looks again and again");
            assert!(deferred("a").is_none() && deferred("b").is_none());
        })
        .await;
}

#[tokio::test]
async fn a_node_that_stood_still_says_that_it_is_well_again() {
    let world = World::new();
    world
        .with(async {
            world.pass(Duration::from_secs(15)).await;
            let target = Target { kind: KindType::of::<Node>(), namespace: "", name: "n1" };
            world.server.modify(target, |object| {
                let node = object.as_any_mut().downcast_mut::<Node>().unwrap();
                let ready = node.status.conditions.iter_mut().find(|condition| condition.type_ == "Ready").unwrap();
                ready.status = ConditionStatus::Unknown;
            });
            world.clock.advance(Duration::from_secs(60));
            world.settle().await;
            let node = world.node();
            let ready = node.status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
            assert_eq!(ready.status, ConditionStatus::True);
            assert_eq!(world.clock.elapsed(), Duration::from_secs(75), "it does not wait for its next report");
        })
        .await;
}

#[tokio::test]
async fn a_node_that_is_wrongly_held_for_lost_says_that_it_is_well() {
    let world = World::new();
    world
        .with(async {
            world.pass(Duration::from_secs(15)).await;
            // Whoever writes this was itself cut off: the lease was renewed all the time.
            let target = Target { kind: KindType::of::<Node>(), namespace: "", name: "n1" };
            world.server.modify(target, |object| {
                let node = object.as_any_mut().downcast_mut::<Node>().unwrap();
                let ready = node.status.conditions.iter_mut().find(|condition| condition.type_ == "Ready").unwrap();
                ready.status = ConditionStatus::Unknown;
            });
            world.pass(Duration::from_secs(40)).await;
            let node = world.node();
            let ready = node.status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
            assert_eq!(ready.status, ConditionStatus::True);
        })
        .await;
}
