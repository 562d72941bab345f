//! Services of both address families through the registry: what they are given, what they are refused, what they let go.

use std::collections::BTreeSet;

use longshore_core::api::Service;
use longshore_core::client::params::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::range::{AddressRange, ServiceRanges};
use super::tests::{Cluster, texts};

const BOTH: &str = "10.96.0.0/16,fd00::/112";
const V6_FIRST: &str = "fd00::/112,10.96.0.0/16";
const V4: &str = "10.96.0.0/16";
const V6: &str = "fd00::/112";

/// Policy, families, and the families of the addresses (`None` as it is).
fn shown(service: &Service) -> Value {
    let family = |ip: &String| match ip.as_str() {
        "None" => "None",
        ip if ip.contains(':') => "IPv6",
        _ => "IPv4",
    };
    let addresses: Vec<_> = service.spec.cluster_ips.iter().map(family).collect();
    assert_eq!(service.spec.cluster_ip, service.spec.cluster_ips.first().cloned().unwrap_or_default());
    json!([service.spec.ip_family_policy, service.spec.ip_families, addresses])
}

#[tokio::test]
async fn a_new_service_has_the_families_that_it_asks_for_as_far_as_there_are() {
    let (single, prefer, require) = ("SingleStack", "PreferDualStack", "RequireDualStack");
    let both: &[&str] = &["IPv4", "IPv6"];
    let turned: &[&str] = &["IPv6", "IPv4"];
    let (four, six, none): (&[&str], &[&str], &[&str]) = (&["IPv4"], &["IPv6"], &["None"]);
    for (ranges, spec, policy, families, addresses) in [
        (BOTH, json!({}), single, four, four),
        (V6_FIRST, json!({}), single, six, six),
        (BOTH, json!({ "ipFamilies": ["IPv6"] }), single, six, six),
        (BOTH, json!({ "clusterIP": "fd00::9" }), single, six, six),
        (BOTH, json!({ "ipFamilyPolicy": prefer }), prefer, both, both),
        (V6_FIRST, json!({ "ipFamilyPolicy": prefer }), prefer, turned, turned),
        (V4, json!({ "ipFamilyPolicy": prefer }), prefer, four, four),
        (V6, json!({ "ipFamilyPolicy": prefer }), prefer, six, six),
        (BOTH, json!({ "ipFamilyPolicy": require }), require, both, both),
        (BOTH, json!({ "ipFamilyPolicy": require, "ipFamilies": ["IPv6"] }), require, turned, turned),
        (BOTH, json!({ "ipFamilyPolicy": prefer, "ipFamilies": ["IPv6", "IPv4"] }), prefer, turned, turned),
        (BOTH, json!({ "ipFamilyPolicy": require, "clusterIP": "fd00::9" }), require, turned, turned),
        (
            BOTH,
            json!({ "ipFamilyPolicy": prefer, "clusterIPs": ["10.96.0.9", "fd00::9"], "clusterIP": "10.96.0.9" }),
            prefer,
            both,
            both,
        ),
        (BOTH, json!({ "ipFamilyPolicy": require, "type": "NodePort" }), require, both, both),
        (BOTH, json!({ "clusterIP": "None" }), single, four, none),
        (BOTH, json!({ "clusterIP": "None", "ipFamilyPolicy": prefer }), prefer, both, none),
        (V4, json!({ "clusterIP": "None", "ipFamilyPolicy": prefer }), prefer, four, none),
        (
            BOTH,
            json!({ "clusterIP": "None", "ipFamilyPolicy": require, "ipFamilies": ["IPv6"] }),
            require,
            turned,
            none,
        ),
        // What selects itself may have any families.
        (V4, json!({ "clusterIP": "None", "selector": {} }), require, both, none),
        (V6, json!({ "clusterIP": "None", "selector": {} }), require, turned, none),
        (V4, json!({ "clusterIP": "None", "selector": {}, "ipFamilies": ["IPv6"] }), require, turned, none),
        (V4, json!({ "clusterIP": "None", "selector": {}, "ipFamilyPolicy": single }), single, four, none),
    ] {
        let cluster = Cluster::of(ranges).await;
        let service = cluster.create("web", spec.clone()).await.unwrap();
        assert_eq!(shown(&service), json!([policy, families, addresses]), "{ranges}: {spec}");
        let mut held: BTreeSet<String> = service.spec.cluster_ips.iter().filter(|ip| *ip != "None").cloned().collect();
        held.extend(
            service.spec.ports.iter().map(|port| port.node_port).filter(|port| *port != 0).map(|it| it.to_string()),
        );
        let first = if ranges.starts_with("fd") { "fd00::1" } else { "10.96.0.1" };
        held.insert(first.to_owned());
        assert_eq!(cluster.given().await, held, "{ranges}: {spec}");
        cluster.services.delete("web", &DeleteParams::default()).await.unwrap();
        assert_eq!(cluster.given().await, texts(&[first]), "nothing is left");
    }
    let cluster = Cluster::of(BOTH).await;
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    assert_eq!(shown(&cluster.create("away", external).await.unwrap()), json!([null, [], []]));
}

#[tokio::test]
async fn families_and_addresses_that_cannot_be_had_are_refused() {
    const MULTIPLE: &str = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    for (ranges, spec, expected) in [
        (
            V4,
            json!({ "ipFamilyPolicy": "RequireDualStack" }),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
                .to_owned(),
        ),
        (
            V6,
            json!({ "ipFamilies": ["IPv4"] }),
            "spec.ipFamilies[0]: Invalid value: \"IPv4\": not configured on this cluster".to_owned(),
        ),
        (
            V4,
            json!({ "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"] }),
            "spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster".to_owned(),
        ),
        (
            BOTH,
            json!({ "ipFamilies": ["IPv4", "IPv6"] }),
            format!("spec.ipFamilyPolicy: Invalid value: \"SingleStack\": {MULTIPLE} IP families are specified"),
        ),
        (
            BOTH,
            json!({ "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"] }),
            format!("spec.ipFamilyPolicy: Invalid value: \"SingleStack\": {MULTIPLE} cluster IPs are specified"),
        ),
        (
            BOTH,
            json!({ "clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"] }),
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`".to_owned(),
        ),
        (
            BOTH,
            json!({ "ipFamilyPolicy": "RequireDualStack", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "10.96.0.10"] }),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.10\"]: may specify no more than one IP for each IP family"
                .to_owned(),
        ),
        (
            BOTH,
            json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv4"] }),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"".to_owned(),
        ),
        (
            BOTH,
            json!({ "ipFamilyPolicy": "RequireDualStack", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd09::9"] }),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"fd09::9\"]: failed to allocate IP fd09::9: the provided IP (fd09::9) \
             is not in the valid range. The range of valid IPs is fd00::/112"
                .to_owned(),
        ),
        (
            V4,
            json!({ "ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"] }),
            "spec.clusterIPs[1]: Invalid value: [\"10.96.0.9\",\"fd00::9\"]: IPv6 is not configured on this cluster".to_owned(),
        ),
    ] {
        let cluster = Cluster::of(ranges).await;
        let before = cluster.given().await;
        let error = cluster.create("web", spec.clone()).await.expect_err(&spec.to_string());
        assert_eq!(error.to_string(), format!("Service \"web\" is invalid: {expected}"));
        assert_eq!(cluster.given().await, before, "what is refused takes nothing: {spec}");
    }
}

#[tokio::test]
async fn a_service_gets_a_second_address_and_gives_it_back() {
    let cluster = Cluster::of(BOTH).await;
    let one = cluster.create("web", json!({})).await.unwrap();
    let first = one.spec.cluster_ip.clone();
    for policy in ["RequireDualStack", "PreferDualStack"] {
        let both = cluster.patch("web", json!({ "ipFamilyPolicy": policy })).await.unwrap();
        assert_eq!(shown(&both), json!([policy, ["IPv4", "IPv6"], ["IPv4", "IPv6"]]));
        assert_eq!(both.spec.cluster_ip, first, "the primary one stays");
        assert_eq!(cluster.given().await, texts(&["10.96.0.1", &first, &both.spec.cluster_ips[1]]));
        let one = cluster.patch("web", json!({ "ipFamilyPolicy": "SingleStack" })).await.unwrap();
        assert_eq!(shown(&one), json!(["SingleStack", ["IPv4"], ["IPv4"]]));
        assert_eq!(cluster.given().await, texts(&["10.96.0.1", &first]), "the second is free again");
    }
    // One that is chosen, and lists that say the same as the policy.
    let chosen = json!({ "ipFamilyPolicy": "PreferDualStack", "clusterIPs": [first, "fd00::9"] });
    let both = cluster.patch("web", chosen).await.unwrap();
    assert_eq!(both.spec.cluster_ips[1], "fd00::9");
    // Who knows nothing of families, and puts back what it was not told, takes nothing away.
    let mut bare: Service = (*both).clone();
    (bare.spec.ip_families, bare.spec.ip_family_policy) = (Vec::new(), None);
    bare.spec.cluster_ips = Vec::new();
    let kept = cluster.services.update(bare, &PostParams::default()).await.unwrap();
    assert_eq!(shown(&kept), json!(["PreferDualStack", ["IPv4", "IPv6"], ["IPv4", "IPv6"]]));
    let lists = json!({ "ipFamilyPolicy": "SingleStack", "clusterIPs": [first], "ipFamilies": ["IPv4"] });
    let one = cluster.patch("web", lists).await.unwrap();
    assert_eq!(shown(&one), json!(["SingleStack", ["IPv4"], ["IPv4"]]));
    // Another may have it at once.
    cluster.create("other", json!({ "clusterIP": "fd00::9" })).await.unwrap();
    let taken = json!({ "ipFamilyPolicy": "RequireDualStack", "clusterIPs": [first, "fd00::9"] });
    let error = cluster.patch("web", taken).await.unwrap_err().to_string();
    assert!(error.contains("failed to allocate IP fd00::9: provided IP is already allocated"), "{error}");
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", &first, "fd00::9"]));
}

#[tokio::test]
async fn an_update_that_contradicts_itself_is_refused() {
    let cluster = Cluster::of(BOTH).await;
    let both = cluster.create("web", json!({ "ipFamilyPolicy": "RequireDualStack" })).await.unwrap();
    let (first, second) = (both.spec.cluster_ips[0].clone(), both.spec.cluster_ips[1].clone());
    let before = cluster.given().await;
    for (spec, expected) in [
        (
            json!({ "clusterIPs": [first] }),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP",
        ),
        (
            json!({ "ipFamilies": ["IPv4"] }),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
        ),
        (
            json!({ "ipFamilyPolicy": "SingleStack", "clusterIP": second, "clusterIPs": [second], "ipFamilies": ["IPv6"] }),
            "may not change once set",
        ),
        (
            json!({ "clusterIP": second, "clusterIPs": [second, first], "ipFamilies": ["IPv6", "IPv4"] }),
            "may not change once set",
        ),
        (json!({ "clusterIPs": [first, "fd00::9"] }), "may not change once set"),
    ] {
        let error = cluster.patch("web", spec.clone()).await.expect_err(&spec.to_string()).to_string();
        assert!(error.contains(expected), "{spec}: {error}");
        assert_eq!(cluster.given().await, before, "{spec}");
    }
    assert_eq!(shown(&cluster.services.get("web").await.unwrap()), shown(&both));
}

#[tokio::test]
async fn types_change_with_both_addresses() {
    let cluster = Cluster::of(BOTH).await;
    let both = json!({ "ipFamilyPolicy": "PreferDualStack" });
    let web = cluster.create("web", both.clone()).await.unwrap();
    let away = json!({ "type": "ExternalName", "externalName": "example.com" });
    assert_eq!(shown(&cluster.patch("web", away).await.unwrap()), json!([null, [], []]));
    assert_eq!(cluster.given().await, texts(&["10.96.0.1"]));
    let back = json!({ "type": "ClusterIP", "externalName": null, "ipFamilyPolicy": "PreferDualStack" });
    let web_again = cluster.patch("web", back).await.unwrap();
    assert_eq!(shown(&web_again), shown(&web));
    assert_eq!(cluster.given().await.len(), 3);
    // A headless service changes families as it likes, and has no address before and after.
    cluster.create("peers", json!({ "clusterIP": "None" })).await.unwrap();
    let peers = cluster.patch("peers", both).await.unwrap();
    assert_eq!(shown(&peers), json!(["PreferDualStack", ["IPv4", "IPv6"], ["None"]]));
    let peers =
        cluster.patch("peers", json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"] })).await.unwrap();
    assert_eq!(shown(&peers), json!(["SingleStack", ["IPv6"], ["None"]]));
}

#[tokio::test]
async fn a_preference_is_left_alone_when_its_cluster_changes() {
    let cluster = Cluster::of(V4).await;
    cluster.create("web", json!({ "ipFamilyPolicy": "PreferDualStack" })).await.unwrap();
    // The same store, and a server that has both families by now.
    let cluster = cluster.restarted(BOTH).await;
    let web = cluster.patch("web", json!({ "selector": { "app": "other" } })).await.unwrap();
    assert_eq!(shown(&web), json!(["PreferDualStack", ["IPv4"], ["IPv4"]]));
    let web = cluster.patch("web", json!({ "ipFamilies": ["IPv4", "IPv6"] })).await.unwrap();
    assert_eq!(shown(&web), json!(["PreferDualStack", ["IPv4", "IPv6"], ["IPv4", "IPv6"]]));
    let cluster = cluster.restarted(V4).await;
    let kept = cluster.patch("web", json!({ "selector": { "app": "web" } })).await.unwrap();
    assert_eq!(kept.spec.cluster_ips, web.spec.cluster_ips);
    assert_eq!(cluster.given().await.len(), 3);
}

#[tokio::test]
async fn a_full_range_leaves_the_other_family_alone() {
    // Room for two addresses of IPv4, of which the service kubernetes has one.
    let cluster = Cluster::of("10.96.0.0/30,fd00::/112").await;
    cluster.create("web", json!({ "ipFamilyPolicy": "RequireDualStack" })).await.unwrap();
    let before = cluster.given().await;
    let error = cluster.create("more", json!({ "ipFamilyPolicy": "RequireDualStack" })).await.unwrap_err();
    assert!(error.to_string().contains("failed to allocate a serviceIP: range is full"), "{error}");
    assert_eq!(cluster.given().await, before, "no address of the other family is lost");
    cluster.create("six", json!({ "ipFamilies": ["IPv6"] })).await.unwrap();
}

#[test]
fn ranges_of_both_families_are_read() {
    let both: ServiceRanges = "fd00::9/112, 10.96.3.4/16".parse().unwrap();
    assert_eq!((both.to_string().as_str(), both.is_dual()), ("fd00::/112,10.96.0.0/16", true));
    assert_eq!(both.primary(), "fd00::/112".parse::<AddressRange>().unwrap());
    assert_eq!(both.of_family("IPv4"), "10.96.0.0/16".parse().ok());
    assert_eq!(ServiceRanges::from(AddressRange::DEFAULT).of_family("IPv6"), None);
    for (wrong, complaint) in [
        ("10.96.0.0/16,10.97.0.0/16", "are of one family"),
        ("10.96.0.0/16,fd00::/127", "fd00::/127\": it has no room for two addresses"),
        ("10.96.0.0/31", "10.96.0.0/31\": it has no room for two addresses"),
        ("10.96.0.0", "cannot read range \"10.96.0.0\""),
        ("10.96.0.0/16,fd00::/112,fd01::/112", "more than two ranges"),
    ] {
        let error = wrong.parse::<ServiceRanges>().unwrap_err().to_string();
        assert!(error.contains(complaint), "{wrong}: {error}");
    }
}
