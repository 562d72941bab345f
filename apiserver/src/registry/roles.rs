//! The roles that every cluster has, by upstream's names: `cluster-admin`, `admin`, `edit` and `view`.
//!
//! They are to be bound by users; nothing of Longshore's needs them. Upstream has more, for its own parts.

use longshore_core::api::ClusterRole;
use longshore_core::api::role::PolicyRule;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["*"];

/// Groups and resources of what most people work with, without secrets and what gives rights.
const COMMON: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "replicationcontrollers/status",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    ("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
];

const ONLY_READ: [&str; 9] = [
    "bindings",
    "events",
    "limitranges",
    "namespaces",
    "namespaces/status",
    "pods/explain",
    "pods/log",
    "pods/status",
    "resourcequotas",
];

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    PolicyRule {
        verbs: owned(verbs),
        api_groups: vec![group.to_owned()],
        resources: owned(resources),
        ..PolicyRule::default()
    }
}

fn view() -> Vec<PolicyRule> {
    let common = COMMON.iter().map(|(group, resources)| rule(READ, group, resources));
    common.chain([rule(READ, "", &ONLY_READ)]).collect()
}

fn edit() -> Vec<PolicyRule> {
    // What only the system writes, and what no one makes by hand.
    let writable = |resource: &&str| !resource.ends_with("/status") && *resource != "controllerrevisions";
    let written = COMMON
        .iter()
        .map(|(group, resources)| rule(WRITE, group, &resources.iter().copied().filter(writable).collect::<Vec<_>>()));
    let own = [
        rule(&[READ, WRITE].concat(), "", &["secrets"]),
        rule(&["create", "get"], "", &["pods/attach", "pods/exec", "pods/portforward"]),
        rule(&["create"], "", &["pods/eviction", "serviceaccounts/token"]),
        rule(&[READ, WRITE].concat(), "coordination.k8s.io", &["leases"]),
    ];
    view().into_iter().chain(written).chain(own).collect()
}

fn admin() -> Vec<PolicyRule> {
    let roles = rule(&[READ, WRITE].concat(), "rbac.authorization.k8s.io", &["rolebindings", "roles"]);
    edit().into_iter().chain([roles]).collect()
}

fn cluster_admin() -> Vec<PolicyRule> {
    let paths =
        PolicyRule { verbs: vec!["*".to_owned()], non_resource_urls: vec!["*".to_owned()], ..PolicyRule::default() };
    vec![rule(ALL, "*", ALL), paths]
}

/// All of them.
pub(super) fn roles() -> impl Iterator<Item = ClusterRole> {
    let all = [("cluster-admin", cluster_admin()), ("admin", admin()), ("edit", edit()), ("view", view())];
    all.into_iter().map(|(name, rules)| {
        let mut role = ClusterRole { rules, ..ClusterRole::default() };
        role.metadata.name = Some(name.to_owned());
        let labels = role.metadata.labels.get_or_insert_default();
        labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned());
        role
    })
}
