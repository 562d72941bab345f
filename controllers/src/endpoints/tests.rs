use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::endpoint_slice::EndpointSlice;
use longshore_core::api::pod::{ContainerPort, PodPhase};
use longshore_core::api::{Endpoints, Node, Protocol};
use longshore_core::client::params::DeleteParams;
use longshore_core::clock::Clock;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ControllerManager;
use crate::testing::{World, meta, set_ready, template};

fn both(manager: &mut ControllerManager) {
    manager.add(EndpointsController);
    manager.add(EndpointSliceController);
}

fn service(target: impl Into<IntOrString>) -> Service {
    let mut service = Service { metadata: meta("web"), ..Service::default() };
    service.spec.selector = [("app".to_owned(), "web".to_owned())].into();
    service.spec.cluster_ip = "10.96.0.7".into();
    let port = ServicePort { name: "http".into(), port: 80, target_port: target.into(), ..ServicePort::default() };
    service.spec.ports = vec![ServicePort { protocol: Protocol::Tcp, ..port }];
    service
}

fn pod(world: &World, name: &str, ip: &str, port: i32, ready: bool) -> Pod {
    let template = template("web", "app:1");
    let mut pod = Pod { metadata: meta(name), spec: template.spec, ..Pod::default() };
    pod.metadata.labels = template.metadata.labels;
    let port = ContainerPort { name: "serve".into(), container_port: port, ..ContainerPort::default() };
    pod.spec.containers[0].ports = vec![ContainerPort { protocol: Protocol::Tcp, ..port }];
    pod.spec.node_name = "node-0".into();
    pod.status.phase = PodPhase::Running;
    pod.status.pod_ip = ip.into();
    set_ready(&mut pod, ready, world.clock.now());
    pod
}

/// Creates a pod; the server would clear its status.
async fn add(world: &World, pod: Pod) {
    let status = pod.status.clone();
    let name = pod.metadata.name.clone().unwrap();
    world.create(pod).await;
    world.report::<Pod>(&name, |pod| pod.status = status);
}

fn slices(world: &World) -> Vec<EndpointSlice> {
    world.all()
}

/// Address, ready, serving and terminating of every endpoint, in order.
fn conditions(world: &World) -> Vec<(String, bool, bool, bool)> {
    let endpoints = slices(world).into_iter().flat_map(|slice| slice.endpoints);
    let mut all: Vec<_> = endpoints
        .map(|endpoint| {
            let is = endpoint.conditions;
            (endpoint.addresses[0].clone(), is.ready.unwrap(), is.serving.unwrap(), is.terminating.unwrap())
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn pods_come_become_ready_and_go() {
    let world = World::new(1);
    world
        .with_all(both, async {
            let mut node = Node::default();
            node.metadata.name = Some("node-0".into());
            node.metadata.labels = Some([(ZONE.to_owned(), "z1".to_owned())].into());
            world.create(node).await;
            world.create(service(8080)).await;
            world.settle().await;
            assert_eq!(slices(&world).len(), 1, "one slice says that there is nobody");
            assert!(world.one::<Endpoints>("web").subsets.is_empty());

            add(&world, pod(&world, "a", "10.0.0.1", 8080, true)).await;
            add(&world, pod(&world, "b", "10.0.0.2", 8080, false)).await;
            let mut leaving = pod(&world, "c", "10.0.0.3", 8080, true);
            leaving.metadata.finalizers = Some(vec!["example.com/hold".into()]);
            add(&world, leaving).await;
            world.api::<Pod>().delete("c", &DeleteParams::default()).await.unwrap();
            add(&world, {
                let mut ended = pod(&world, "d", "10.0.0.4", 8080, false);
                ended.status.phase = PodPhase::Failed;
                ended
            })
            .await;
            world.settle().await;
            let expected =
                [("10.0.0.1", true, true, false), ("10.0.0.2", false, false, false), ("10.0.0.3", false, true, true)];
            let expected = expected.map(|(ip, ready, serving, leaving)| (ip.to_owned(), ready, serving, leaving));
            assert_eq!(conditions(&world), expected);
            let [slice] = &slices(&world)[..] else { panic!("one slice") };
            assert_eq!((&slice.ports[0].name, slice.ports[0].port), (&Some("http".to_owned()), Some(8080)));
            let labels = slice.metadata.labels.as_ref().unwrap();
            assert_eq!(labels["kubernetes.io/service-name"], "web");
            assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
            assert!(!labels.contains_key(HEADLESS));
            assert_eq!(slice.endpoints[0].zone.as_deref(), Some("z1"));
            assert_eq!(slice.endpoints[0].node_name.as_deref(), Some("node-0"));
            assert!(slice.metadata.name.as_deref().unwrap().starts_with("web-"));
            let endpoints = world.one::<Endpoints>("web");
            let [subset] = &endpoints.subsets[..] else { panic!("one subset") };
            assert_eq!((&*subset.addresses[0].ip, &*subset.not_ready_addresses[0].ip), ("10.0.0.1", "10.0.0.2"));
            assert_eq!((subset.addresses.len(), subset.ports[0].port), (1, 8080));

            world.edit::<Service>("web", |service| service.spec.publish_not_ready_addresses = true);
            world.settle().await;
            assert!(conditions(&world).iter().all(|endpoint| endpoint.1));
            assert_eq!(world.one::<Endpoints>("web").subsets[0].addresses.len(), 3);

            world.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
            world.settle().await;
            assert!(world.all::<Endpoints>().is_empty());
        })
        .await;
}

#[tokio::test]
async fn named_ports_lead_where_each_pod_says() {
    let world = World::new(2);
    world
        .with_all(both, async {
            world.create(service("serve")).await;
            add(&world, pod(&world, "a", "10.0.0.1", 8080, true)).await;
            add(&world, pod(&world, "b", "10.0.0.2", 9090, true)).await;
            world.settle().await;
            let mut found: Vec<_> = slices(&world)
                .iter()
                .map(|slice| (slice.ports[0].port.unwrap(), slice.endpoints[0].addresses[0].clone()))
                .collect();
            found.sort();
            assert_eq!(found, [(8080, "10.0.0.1".to_owned()), (9090, "10.0.0.2".to_owned())]);
            assert_eq!(world.one::<Endpoints>("web").subsets.len(), 2);
        })
        .await;
}

#[tokio::test]
async fn headless_services_and_hostnames() {
    let world = World::new(3);
    world
        .with_all(both, async {
            let mut headless = service(8080);
            headless.spec.cluster_ip = CLUSTER_IP_NONE.into();
            headless.spec.ports.clear();
            world.create(headless).await;
            let mut named = pod(&world, "a", "10.0.0.1", 8080, true);
            (named.spec.hostname, named.spec.subdomain) = ("db-0".into(), "web".into());
            add(&world, named).await;
            world.settle().await;
            let [slice] = &slices(&world)[..] else { panic!("one slice") };
            assert!(slice.ports.is_empty() && slice.metadata.labels.as_ref().unwrap().contains_key(HEADLESS));
            assert_eq!(slice.endpoints[0].hostname.as_deref(), Some("db-0"));
            assert_eq!(world.one::<Endpoints>("web").subsets[0].addresses[0].hostname, "db-0");
        })
        .await;
}

#[tokio::test]
async fn each_family_of_a_service_has_slices_of_its_own() {
    use longshore_core::api::pod::PodIP;
    let world = World::new(3);
    world
        .with_all(both, async {
            world.create(service(8080)).await;
            for (name, ips) in [("a", &["10.0.0.1", "fd00::1"][..]), ("b", &["10.0.0.2"])] {
                let mut pod = pod(&world, name, ips[0], 8080, true);
                pod.status.pod_ips = ips.iter().map(|ip| PodIP { ip: (*ip).to_owned() }).collect();
                add(&world, pod).await;
            }
            for (families, expected, first) in [
                (&["IPv4"][..], &[("IPv4", &["10.0.0.1", "10.0.0.2"][..])][..], &["10.0.0.1", "10.0.0.2"][..]),
                (
                    &["IPv4", "IPv6"],
                    &[("IPv4", &["10.0.0.1", "10.0.0.2"]), ("IPv6", &["fd00::1"])],
                    &["10.0.0.1", "10.0.0.2"],
                ),
                (&["IPv6", "IPv4"], &[("IPv4", &["10.0.0.1", "10.0.0.2"]), ("IPv6", &["fd00::1"])], &["fd00::1"]),
                (&["IPv6"], &[("IPv6", &["fd00::1"])], &["fd00::1"]),
            ] {
                let mut service = world.one::<Service>("web");
                service.spec.ip_families = families.iter().map(|family| (*family).to_owned()).collect();
                world.edit::<Service>("web", |known| *known = service);
                world.settle().await;
                let mut found: Vec<(String, Vec<String>)> = slices(&world)
                    .into_iter()
                    .map(|slice| {
                        let addresses = slice.endpoints.into_iter().map(|endpoint| endpoint.addresses[0].clone());
                        (slice.address_type.as_str().to_owned(), addresses.collect())
                    })
                    .collect();
                found.iter_mut().for_each(|(_, addresses)| addresses.sort());
                found.sort();
                let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
                let expected: Vec<_> = expected.iter().map(|(type_, all)| ((*type_).to_owned(), owned(all))).collect();
                assert_eq!(found, expected, "{families:?}");
                let addresses = world.one::<Endpoints>("web").subsets.remove(0).addresses;
                assert_eq!(addresses.into_iter().map(|address| address.ip).collect::<Vec<_>>(), first, "{families:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_change_touches_one_slice() {
    let world = World::new(4);
    let add_slices = |manager: &mut ControllerManager| manager.add(EndpointSliceController);
    world
        .with_all(add_slices, async {
            for index in 0..250 {
                let ip = format!("10.1.{}.{}", index / 250, index % 250);
                add(&world, pod(&world, &format!("p{index:03}"), &ip, 8080, true)).await;
            }
            world.create(service(8080)).await;
            world.settle().await;
            let mut sizes: Vec<_> = slices(&world).iter().map(|slice| slice.endpoints.len()).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [50, 100, 100]);
            let before = world.server.writes();
            world.report::<Pod>("p120", |pod| set_ready(pod, false, world.clock.now()));
            world.settle().await;
            assert_eq!(world.server.writes() - before, 2, "the pod and its slice");
            add(&world, pod(&world, "extra", "10.2.0.1", 8080, true)).await;
            world.settle().await;
            let mut sizes: Vec<_> = slices(&world).iter().map(|slice| slice.endpoints.len()).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [51, 100, 100]);
        })
        .await;
}

/// Under faults the slices never list an endpoint twice in one slice, and in the end they show exactly the pods there are.
#[tokio::test]
async fn random_faults() {
    for seed in 0..6 {
        let world = World::new(seed);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let mut made = 0;
        world.create(service("serve")).await;
        for life in 0..3 {
            world
                .with_all(both, async {
                    for _ in 0..40 {
                        world.server.set_faults(Faults::default());
                        let pods = world.all::<Pod>();
                        match rng.random_range(0..4) {
                            0 | 1 => {
                                made += 1;
                                let port = if rng.random_bool(0.8) { 8080 } else { 9090 };
                                let ip = format!("10.0.{seed}.{made}");
                                add(&world, pod(&world, &format!("p{made}"), &ip, port, rng.random_bool(0.5))).await;
                            }
                            2 if !pods.is_empty() => {
                                let name = pods[rng.random_range(0..pods.len())].metadata.name.clone().unwrap();
                                world.report::<Pod>(&name, |pod| {
                                    let ready = !is_ready(pod);
                                    set_ready(pod, ready, world.clock.now());
                                });
                            }
                            3 if !pods.is_empty() => {
                                let name = pods[rng.random_range(0..pods.len())].metadata.name.clone().unwrap();
                                world.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
                            }
                            _ => world.server.set_lagging(rng.random_bool(0.5)),
                        }
                        world.server.set_faults(Faults {
                            refused: 0.1,
                            answer_lost: 0.1,
                            watch_cut: 0.1,
                            expired: 0.1,
                        });
                        for _ in 0..rng.random_range(1..30) {
                            tokio::task::yield_now().await;
                        }
                        world.clock.advance_to_next();
                        for slice in slices(&world) {
                            let mut ips: Vec<_> = slice.endpoints.iter().flat_map(|of| of.addresses.clone()).collect();
                            let all = ips.len();
                            ips.sort();
                            ips.dedup();
                            assert_eq!(ips.len(), all, "seed {seed} life {life}: an endpoint is listed twice");
                        }
                    }
                    world.server.set_faults(Faults::default());
                    world.server.set_lagging(false);
                    world.settle().await;
                })
                .await;
        }
        let mut expected: Vec<_> = world
            .all::<Pod>()
            .iter()
            .map(|pod| (pod.status.pod_ip.clone(), is_ready(pod), is_ready(pod), false))
            .collect();
        expected.sort();
        assert_eq!(conditions(&world), expected, "seed {seed}");
        let subsets = world.one::<Endpoints>("web").subsets;
        let ready: usize = subsets.iter().map(|subset| subset.addresses.len()).sum();
        assert_eq!(ready, expected.iter().filter(|endpoint| endpoint.1).count(), "seed {seed}");
    }
}

#[test]
fn changes_that_do_not_matter() {
    let world = World::new(5);
    let old = pod(&world, "a", "10.0.0.1", 8080, true);
    let mut new = old.clone();
    new.metadata.annotations = Some([("note".to_owned(), "x".to_owned())].into());
    assert!(!matters(&old, &new));
    new.metadata.deletion_timestamp = Some(Time(world.clock.now()));
    assert!(matters(&old, &new));
}

#[tokio::test]
async fn endpoints_of_a_service_that_would_have_traffic_stay_near_say_for_whom_they_are() {
    let world = World::new(9);
    world
        .with_all(both, async {
            let mut node = Node::default();
            node.metadata.name = Some("node-0".into());
            node.metadata.labels = Some([(ZONE.to_owned(), "z1".to_owned())].into());
            world.create(node).await;
            world.create(service(8080)).await;
            add(&world, pod(&world, "a", "10.0.0.1", 8080, true)).await;
            add(&world, pod(&world, "b", "10.0.0.2", 8080, false)).await;
            let mut elsewhere = pod(&world, "c", "10.0.0.3", 8080, true);
            elsewhere.spec.node_name = "node-1".into();
            add(&world, elsewhere).await;
            let hints = || {
                let mut all: Vec<_> = slices(&world).into_iter().flat_map(|slice| slice.endpoints).collect();
                all.sort_by(|a, b| a.addresses.cmp(&b.addresses));
                let hints = all.into_iter().map(|endpoint| serde_json::to_value(endpoint.hints).unwrap());
                hints.collect::<Vec<_>>()
            };
            let (zone, none) = (serde_json::json!([{"name": "z1"}]), serde_json::Value::Null);
            for (wish, expected) in [
                (Some("PreferClose"), [serde_json::json!({"forZones": zone}), none.clone(), none.clone()]),
                (
                    Some("PreferSameNode"),
                    [
                        serde_json::json!({"forZones": zone, "forNodes": [{"name": "node-0"}]}),
                        none.clone(),
                        serde_json::json!({"forNodes": [{"name": "node-1"}]}),
                    ],
                ),
                (Some("PreferSameZone"), [serde_json::json!({"forZones": zone}), none.clone(), none.clone()]),
                (None, [none.clone(), none.clone(), none.clone()]),
            ] {
                world.edit::<Service>("web", |service| service.spec.traffic_distribution = wish.map(str::to_owned));
                world.settle().await;
                assert_eq!(hints(), expected, "{wish:?}");
            }
        })
        .await;
}
