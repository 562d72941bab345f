use serde_json::json;

use super::*;
use crate::testing::pod;

const OF_NODE: &str = "# mine\nnameserver 8.8.8.8\nsearch example.com\noptions timeout:1\n";

fn options() -> Options {
    let mut options = Options::new("n1", "/r", 3);
    options.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
    options
}

#[test]
fn names_are_looked_up_as_the_policy_says() {
    let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\noptions ndots:5\n";
    let node = "search example.com\nnameserver 8.8.8.8\noptions timeout:1\n";
    let config = json!({"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
    for (spec, expected) in [
        (json!({"dnsPolicy": "ClusterFirst"}), cluster),
        (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), node),
        (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster),
        (json!({"dnsPolicy": "Default"}), node),
        (json!({"dnsPolicy": "None", "dnsConfig": config}), "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"),
        (
            json!({"dnsPolicy": "ClusterFirst", "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
            "search ns.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\noptions ndots:2\n",
        ),
    ] {
        assert_eq!(resolver(&pod("a", spec.clone()), &options(), OF_NODE).to_string(), expected, "{spec}");
    }
    let without = Options::new("n1", "/r", 3);
    assert_eq!(
        resolver(&pod("a", json!({})), &without, OF_NODE).to_string(),
        node,
        "without a server of the cluster's"
    );
}

#[test]
fn a_pod_knows_itself_and_its_aliases() {
    let spec = json!({"subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]});
    let text = hosts(&pod("a", spec), "a", &["10.0.0.1".parse().unwrap()], "cluster.local", "127.0.0.1 node");
    assert!(text.contains("127.0.0.1\tlocalhost\n"));
    assert!(text.contains("10.0.0.1\ta.db.ns.svc.cluster.local\ta\n"));
    assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"));
    assert!(!text.contains("127.0.0.1 node"));
    let on_host = hosts(&pod("a", json!({"hostNetwork": true})), "n1", &[], "cluster.local", "127.0.0.1 node\n");
    assert!(on_host.ends_with("127.0.0.1 node\n"));
}
