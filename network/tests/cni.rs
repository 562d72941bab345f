//! Networks of the reference CNI plugins with real packets, on machines made of network namespaces.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use longshore_core::network::{Backend, Network, Protocol};
use longshore_network::Cni;
use support::{Namespace, cni_options, missing_plugins, missing_v6, on_a_machine, pod, run, service, traces, who};

#[test]
fn services_and_host_ports_lead_to_pods_of_plugins() {
    if let Some(reason) = missing_plugins() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let outside = machine.neighbour();
        let options = cni_options(machine.directory.path(), &["10.1.0.0/24"]);
        let network = Cni::open(options.clone()).await.unwrap();
        let (a, b) = (pod(&network, "a").await, pod(&network, "b").await);
        assert_eq!(a.address.to_string(), "10.1.0.2");
        assert_eq!(b.namespace.ask("10.1.0.2:80").await.unwrap(), "a 10.1.0.3");
        // Both are behind one bridge; each gets to the other and to itself.
        for backend in [&a, &b] {
            network.set_services(&[service("default/web:http", "10.101.0.1", &[backend])]).await.unwrap();
            for client in [&a, &b] {
                let answer = client.namespace.ask("10.101.0.1:8080").await.unwrap();
                assert_eq!(who(&answer), backend.namespace.name);
            }
        }

        let mapped = Namespace::new("mapped");
        network.attach(&mapped.request_with(Protocol::Tcp, 8088, 80)).await.unwrap();
        let _server = mapped.serve(80);
        assert_eq!(outside.ask("192.0.2.1:8088").await.unwrap(), "mapped 192.0.2.2");
        network.detach(&mapped.pod()).await.unwrap();
        assert!(outside.ask("192.0.2.1:8088").await.is_err());

        // What an earlier process attached, another removes, by the configuration of then.
        let attached = network.attached().await.unwrap();
        drop(network);
        let other = r#"{"name": "other", "cniVersion": "1.0.0", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"}}]}"#;
        std::fs::write(options.configuration.join("00-other.conflist"), other).unwrap();
        let network = Cni::open(options.clone()).await.unwrap();
        assert_eq!(network.attached().await.unwrap(), attached);
        assert_eq!(who(&a.namespace.ask("10.101.0.1:8080").await.unwrap()), "b");
        network.detach(&a.namespace.pod()).await.unwrap();
        drop(network);
        Cni::purge("test", options.state.clone()).await.unwrap();
        assert!(!run("nft list tables").contains("longshore"));
        assert_eq!(run("ip -o link show type veth").matches("cni0").count(), 0);
        assert!(!options.state.exists());
        Cni::purge("test", options.state).await.unwrap();
    });
}

#[test]
fn a_pod_that_lost_its_interface_is_connected_anew() {
    if let Some(reason) = missing_plugins() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let network = Cni::open(cni_options(machine.directory.path(), &["10.1.0.0/24"])).await.unwrap();
        let a = pod(&network, "a").await;
        a.namespace.run_now(|| drop(run("ip link delete eth0")));
        let again = network.attach(&a.namespace.request()).await.unwrap();
        let answer = support::ask(&format!("{}:80", again.addresses[0])).await.unwrap();
        assert_eq!(who(&answer), "a");
    });
}

#[test]
fn what_is_missing_is_said_before_a_pod_comes() {
    if let Some(reason) = missing_plugins() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let options = cni_options(machine.directory.path(), &["10.1.0.0/24"]);
        let list = r#"{"name": "other", "cniVersion": "1.0.0", "plugins": [{"type": "calico"}]}"#;
        std::fs::write(options.configuration.join("00-other.conflist"), list).unwrap();
        let error = Cni::open(options.clone()).await.unwrap_err().to_string();
        assert!(error.contains("the CNI plugin calico in /usr/lib/cni is missing"), "{error}");
        std::fs::remove_dir_all(&options.configuration).unwrap();
        std::fs::create_dir(&options.configuration).unwrap();
        let error = Cni::open(options.clone()).await.unwrap_err().to_string();
        assert!(error.contains("a network's configuration in") && error.contains("net.d"), "{error}");
    });
}

#[test]
fn nothing_is_left_after_a_crash_even_of_pods_that_ended_first() {
    if let Some(reason) = missing_plugins() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let options = cni_options(machine.directory.path(), &["10.1.0.0/24"]);
        let network = Cni::open(options.clone()).await.unwrap();
        let first = pod(&network, "first").await;
        network.detach(&first.namespace.pod()).await.unwrap();
        // The plugins' bridge stays, and so do the empty chains of portmap's.
        let before = (traces(), run("iptables -t nat -S"));
        drop(network);
        let network = Cni::open(options.clone()).await.unwrap();
        let (a, b) = (pod(&network, "a").await, pod(&network, "b").await);
        assert_ne!(run("iptables -t nat -S"), before.1);
        drop(network);
        // One pod's namespace has no process any more, the other's attaching was not noted as done.
        a.namespace.end();
        let record = options.state.join("pods/uid-b.json");
        let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        noted["result"] = serde_json::Value::Null;
        std::fs::write(&record, noted.to_string()).unwrap();
        let network = Cni::open(options.clone()).await.unwrap();
        let attached = network.attached().await.unwrap();
        assert_eq!(attached.iter().map(|of| of.pod.name.as_str()).collect::<Vec<_>>(), ["a"]);
        drop(network);
        Cni::purge("test", options.state.clone()).await.unwrap();
        let without_tables = |text: &str| text.replace("table ip longshore-test\n", "");
        assert_eq!(traces(), without_tables(&before.0));
        assert_eq!(run("iptables -t nat -S"), before.1);
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(&options.state.display().to_string()), "{mounts}");
        assert!(!options.state.exists());
        drop(b);
    });
}

#[test]
fn pods_of_plugins_have_services_in_both_families() {
    if let Some(reason) = missing_plugins().or_else(missing_v6) {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let options = cni_options(machine.directory.path(), &["10.1.0.0/24", "fd01::/64"]);
        let network = Cni::open(options.clone()).await.unwrap();
        let (a, b) = (pod(&network, "a").await, pod(&network, "b").await);
        assert_eq!(a.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.2", "fd01::2"]);
        let _server = a.namespace.serve_v6(81);
        let mut web = service("default/six:http", "fd02::1", &[]);
        web.backends = vec![Backend { address: a.addresses[1], port: 81, local: true, fallback: false }];
        network.set_services(&[service("default/four:http", "10.101.0.1", &[&a]), web]).await.unwrap();
        for client in [&a, &b] {
            for address in ["10.101.0.1:8080", "[fd02::1]:8080"] {
                assert_eq!(who(&client.namespace.ask(address).await.unwrap()), "a", "{address}");
            }
        }
        network.clean_up().await.unwrap();
        assert!(!run("nft list tables").contains("longshore"));
    });
}
