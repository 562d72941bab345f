use serde_json::{Value, json};

use longshore_core::kind::Kind;
use longshore_core::network::Protocol;

use super::*;

fn policy(name: &str, spec: Value) -> Arc<NetworkPolicy> {
    let object = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
    let mut policy: NetworkPolicy = serde_json::from_value(object).unwrap();
    policy.set_defaults();
    Arc::new(policy)
}

fn pod(namespace: &str, app: &str, node: &str, address: &str, port: i32) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": app, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]},
            "status": {"podIP": address, "podIPs": [{"ip": address}]},
        }))
        .unwrap(),
    )
}

fn namespace(name: &str) -> Arc<Namespace> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"name": name}}})).unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn world() -> (Vec<Arc<Pod>>, Vec<Arc<Namespace>>) {
    let pods = vec![
        pod("ns", "web", "n1", "10.0.1.1", 8080),
        pod("ns", "api", "n1", "10.0.1.2", 9090),
        pod("ns", "db", "n2", "10.0.2.1", 5432),
        pod("other", "web", "n2", "10.0.2.2", 8081),
    ];
    (pods, vec![namespace("ns"), namespace("other")])
}

fn resolved(spec: Value) -> Vec<Policy> {
    let (pods, namespaces) = world();
    policies(&[policy("p", spec)], &pods, &namespaces, "n1")
}

fn tcp(first: u16, last: u16) -> PortRange {
    PortRange { protocol: Protocol::Tcp, first, last }
}

#[test]
fn only_what_selects_a_pod_of_the_node_counts() {
    let found = resolved(json!({"podSelector": {}}));
    assert_eq!((found[0].name.as_str(), &found[0].pods[..]), ("ns/p", &[ip("10.0.1.1"), ip("10.0.1.2")][..]));
    assert_eq!((&found[0].ingress, &found[0].egress), (&Some(Vec::new()), &None));
    assert_eq!(resolved(json!({"podSelector": {"matchLabels": {"app": "db"}}})), []);
}

#[test]
fn selectors_choose_pods_namespaces_or_both() {
    let from = |peer: Value| {
        let found = resolved(json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [peer]}]}));
        found[0].ingress.as_ref().unwrap()[0].others.clone().unwrap().pods
    };
    let (web, other) = (json!({"matchLabels": {"app": "web"}}), json!({"matchLabels": {"name": "other"}}));
    assert_eq!(from(json!({"podSelector": web})), [ip("10.0.1.1")]);
    assert_eq!(from(json!({"podSelector": {}})), [ip("10.0.1.1"), ip("10.0.1.2"), ip("10.0.2.1")]);
    assert_eq!(from(json!({"namespaceSelector": other})), [ip("10.0.2.2")]);
    assert_eq!(from(json!({"namespaceSelector": {}, "podSelector": web})), [ip("10.0.1.1"), ip("10.0.2.2")]);
}

#[test]
fn a_rule_without_peers_or_ports_allows_all() {
    let found = resolved(json!({"podSelector": {}, "ingress": [{}], "egress": [{}]}));
    let everything = Some(vec![Allowed { pods: None, others: None, ports: None }]);
    assert_eq!((&found[0].ingress, &found[0].egress), (&everything, &everything));
}

#[test]
fn blocks_and_ranges_of_ports_are_taken_over() {
    let found = resolved(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
        "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}}],
        "ports": [{"port": 80}, {"port": 8000, "endPort": 9000}, {"protocol": "UDP"}],
    }]}));
    let block = Block { range: "10.0.0.0/8".parse().unwrap(), except: vec!["10.9.0.0/16".parse().unwrap()] };
    let udp = PortRange { protocol: Protocol::Udp, first: 0, last: u16::MAX };
    let allowed = Allowed {
        pods: None,
        others: Some(Others { pods: Vec::new(), blocks: vec![block] }),
        ports: Some(vec![tcp(80, 80), tcp(8000, 9000), udp]),
    };
    assert_eq!((&found[0].ingress, &found[0].egress), (&None, &Some(vec![allowed])));
}

#[test]
fn a_named_port_is_the_receivers() {
    let found = resolved(json!({
        "podSelector": {}, "ingress": [{"ports": [{"port": "web"}]}],
        "egress": [{"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "web"}, {"port": 53}]}],
    }));
    let of = |pod: &str, port| Allowed { pods: Some(vec![ip(pod)]), others: None, ports: Some(vec![tcp(port, port)]) };
    assert_eq!(found[0].ingress, Some(vec![of("10.0.1.1", 8080), of("10.0.1.2", 9090)]));
    let to = |pods: &[&str], port| Allowed {
        pods: None,
        others: Some(Others { pods: pods.iter().map(|pod| ip(pod)).collect(), blocks: Vec::new() }),
        ports: Some(vec![tcp(port, port)]),
    };
    let both = to(&["10.0.1.1", "10.0.2.2"], 53);
    assert_eq!(found[0].egress, Some(vec![both, to(&["10.0.1.1"], 8080), to(&["10.0.2.2"], 8081)]));
    // Nobody has a port of this name: nothing is allowed.
    let found = resolved(json!({"podSelector": {}, "ingress": [{"ports": [{"port": "none"}]}]}));
    assert_eq!(found[0].ingress, Some(Vec::new()));
}

#[test]
fn pods_that_ended_or_use_the_nodes_network_are_nobody() {
    let mut pods = world().0;
    let mut ended = (*pods[0]).clone();
    ended.status.phase = longshore_core::api::pod::PodPhase::Succeeded;
    pods[0] = Arc::new(ended);
    let mut hosts = (*pods[1]).clone();
    hosts.spec.host_network = true;
    pods[1] = Arc::new(hosts);
    assert_eq!(policies(&[policy("p", json!({"podSelector": {}}))], &pods, &[], "n1"), []);
}

mod of_an_agent {
    use longshore_core::client::Api;
    use longshore_core::client::params::PostParams;
    use longshore_core::kind::KindType;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_pod_is_isolated_before_it_starts_and_let_go_with_its_labels() {
        let mut world = World::new();
        world.options.proxy = Some(true);
        let namespaces: Api<Namespace> = Api::all(world.client());
        namespaces.create((*namespace("ns")).clone(), &PostParams::default()).await.unwrap();
        let selected = json!({"podSelector": {"matchLabels": {"app": "web"}}});
        world.api::<NetworkPolicy>().create((*policy("p", selected)).clone(), &PostParams::default()).await.unwrap();
        world
            .with(async {
                let mut pod = crate::testing::pod("web", json!({}));
                pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
                world.create(pod).await;
                let held = || world.network.policies.lock().unwrap().first().map(|policy| policy.pods.clone());
                let address = world
                    .until("the pod is isolated", || {
                        let pod = world.pod("web")?;
                        let isolated = held();
                        let started =
                            !pod.status.container_statuses.iter().all(|status| status.state.running.is_none());
                        assert!(isolated.is_some() || !started, "it started before");
                        isolated.filter(|_| started)
                    })
                    .await;
                assert_eq!(address, [ip(&world.pod("web").unwrap().status.pod_ip)]);
                let target =
                    longshore_core::client::Target { kind: KindType::of::<Pod>(), namespace: "ns", name: "web" };
                world.server.modify(target, |pod| pod.meta_mut().labels = None);
                world.until("the policy is not about it any more", || held().is_none().then_some(())).await;
            })
            .await;
    }

    #[tokio::test]
    async fn a_cluster_without_policies_waits_for_nothing() {
        let mut world = World::new();
        world.options.proxy = Some(true);
        world
            .with(async {
                world.create(crate::testing::pod("web", json!({}))).await;
                world.until("it runs", || world.pod("web").filter(|pod| !pod.status.pod_ip.is_empty())).await;
                assert_eq!(*world.network.policies.lock().unwrap(), []);
            })
            .await;
    }
}
