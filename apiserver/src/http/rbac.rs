//! What roles allow: rules only ever add up, and what none allows is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_core::api::role::PolicyRule;
use longshore_core::api::role_binding::{RoleRef, SERVICE_ACCOUNT, SUBJECT_GROUP, Subject, USER};
use longshore_core::api::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use longshore_core::selector::Selector;

use super::Identity;
use crate::registry::Registry;
use crate::token::USER_PREFIX;

const ALL: &str = "*";

/// What somebody wants to do something with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Objects, or a part of them.
    Objects {
        group: String,
        resource: String,
        /// Empty for the objects themselves.
        subresource: String,
        /// Empty for all namespaces, and for kinds that have none.
        namespace: String,
        /// Empty for all.
        name: String,
    },
    /// Something else that has a path.
    Path(String),
}

impl What {
    fn namespace(&self) -> &str {
        match self {
            Self::Objects { namespace, .. } => namespace,
            Self::Path(_) => "",
        }
    }
}

/// The roles that somebody holds in a namespace; without one only those of the whole cluster.
#[derive(Debug, Default)]
pub(super) struct Held {
    roles: Vec<Arc<Role>>,
    cluster_roles: Vec<Arc<ClusterRole>>,
}

impl Held {
    pub(super) fn by(registry: &Registry, identity: &Identity, namespace: &str) -> Self {
        let mut held = Self::default();
        let mut seen = BTreeSet::new();
        for binding in registry.cached_in::<ClusterRoleBinding>(None) {
            if binding.subjects.iter().any(|subject| is(identity, subject, "")) {
                held.add(registry, &binding.role_ref, "", &mut seen);
            }
        }
        if !namespace.is_empty() {
            for binding in registry.cached_in::<RoleBinding>(Some(namespace)) {
                if binding.subjects.iter().any(|subject| is(identity, subject, namespace)) {
                    held.add(registry, &binding.role_ref, namespace, &mut seen);
                }
            }
        }
        held
    }

    /// What a role allows that is bound in a namespace, without one everywhere; `None` if there is no such role yet.
    pub(super) fn of_role(registry: &Registry, role: &RoleRef, namespace: &str) -> Option<Vec<PolicyRule>> {
        let mut held = Self::default();
        held.add(registry, role, namespace, &mut BTreeSet::new());
        let found = !held.roles.is_empty() || !held.cluster_roles.is_empty();
        found.then(|| held.rules().cloned().collect())
    }

    fn add(&mut self, registry: &Registry, role: &RoleRef, namespace: &str, seen: &mut BTreeSet<String>) {
        match role.kind.as_str() {
            "ClusterRole" => {
                if let Some(found) = registry.cached_one::<ClusterRole>("", &role.name) {
                    self.add_cluster_role(registry, found, seen);
                }
            }
            "Role" if !namespace.is_empty() => self.roles.extend(registry.cached_one::<Role>(namespace, &role.name)),
            _ => {}
        }
    }

    /// Adds a role, and those that it is put together from. Upstream has a controller copy their rules; here they are asked each time.
    fn add_cluster_role(&mut self, registry: &Registry, role: Arc<ClusterRole>, seen: &mut BTreeSet<String>) {
        if !seen.insert(role.metadata.name.clone().unwrap_or_default()) {
            return;
        }
        if let Some(aggregated) = &role.aggregation_rule {
            let read = |selector| Selector::from_object(Some(selector)).unwrap_or_else(|_| Selector::nothing());
            let selectors: Vec<Selector> = aggregated.cluster_role_selectors.iter().map(read).collect();
            for other in registry.cached_in::<ClusterRole>(None) {
                let labels = other.metadata.labels.clone().unwrap_or_default();
                if selectors.iter().any(|selector| selector.matches(&labels)) {
                    self.add_cluster_role(registry, other, seen);
                }
            }
        }
        self.cluster_roles.push(role);
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &PolicyRule> {
        self.roles.iter().flat_map(|role| &role.rules).chain(self.cluster_roles.iter().flat_map(|role| &role.rules))
    }

    pub(super) fn allow(&self, verb: &str, what: &What) -> bool {
        self.rules().any(|rule| allows(rule, verb, what))
    }
}

/// Whether somebody's roles allow it.
pub(super) fn allowed(registry: &Registry, identity: &Identity, verb: &str, what: &What) -> bool {
    Held::by(registry, identity, what.namespace()).allow(verb, what)
}

/// Whether somebody is a binding's subject.
fn is(identity: &Identity, subject: &Subject, namespace: &str) -> bool {
    match subject.kind.as_str() {
        USER => identity.user == subject.name,
        SUBJECT_GROUP => identity.is_in(&subject.name),
        SERVICE_ACCOUNT => {
            let namespace = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
            let own = identity.user.strip_prefix(USER_PREFIX).and_then(|rest| rest.split_once(':'));
            !namespace.is_empty() && own == Some((namespace, subject.name.as_str()))
        }
        _ => false,
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == ALL || own == wanted)
}

fn allows(rule: &PolicyRule, verb: &str, what: &What) -> bool {
    if !has(&rule.verbs, verb) {
        return false;
    }
    match what {
        What::Objects { group, resource, subresource, name, .. } => {
            let is_resource = rule.resources.iter().any(|own| match own.split_once('/') {
                None => own == ALL || (own == resource && subresource.is_empty()),
                Some((of, part)) => part == subresource && (of == ALL || of == resource),
            });
            let is_name = rule.resource_names.is_empty() || rule.resource_names.contains(name);
            has(&rule.api_groups, group) && is_resource && is_name
        }
        What::Path(path) => rule.non_resource_urls.iter().any(|own| match own.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => own == path,
        }),
    }
}

/// Rules of more single permissions than this are not compared.
const MOST: usize = 10_000;

/// Whether everything that rules allow is allowed by what is held already, so that who holds it may pass it on.
pub(super) fn covers(held: &Held, rules: &[PolicyRule]) -> bool {
    let sizes = |rule: &PolicyRule| {
        let objects = [&rule.api_groups, &rule.resources].iter().map(|list| list.len()).fold(1, usize::saturating_mul);
        let objects =
            objects.saturating_mul(rule.resource_names.len().max(1)).saturating_add(rule.non_resource_urls.len());
        objects.saturating_mul(rule.verbs.len())
    };
    if rules.iter().map(sizes).fold(0, usize::saturating_add) > MOST {
        return false;
    }
    rules.iter().all(|rule| {
        let paths = rule.non_resource_urls.iter().map(|path| What::Path(path.clone()));
        let any = [String::new()];
        let names: &[String] = if rule.resource_names.is_empty() { &any[..] } else { &rule.resource_names };
        let mut wanted: Vec<What> = paths.collect();
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let (of, part) = resource.split_once('/').unwrap_or((resource, ""));
                wanted.extend(names.iter().map(|name| What::Objects {
                    group: group.clone(),
                    resource: of.to_owned(),
                    subresource: part.to_owned(),
                    namespace: String::new(),
                    name: name.clone(),
                }));
            }
        }
        rule.verbs.iter().all(|verb| wanted.iter().all(|what| held.allow(verb, what)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: Value) -> PolicyRule {
        serde_json::from_value(value).unwrap()
    }

    fn objects(group: &str, resource: &str, name: &str) -> What {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        What::Objects {
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    #[test]
    fn rules_allow_what_they_name_and_nothing_else() {
        let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]});
        let one = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]});
        let scales = json!({"verbs": ["update"], "apiGroups": ["apps"], "resources": ["*/scale"]});
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]});
        let path = |text: &str| What::Path(text.to_owned());
        let cases = [
            (&pods, "get", objects("", "pods", "a"), true),
            (&pods, "list", objects("", "pods", ""), true),
            (&pods, "get", objects("", "pods/log", "a"), true),
            (&pods, "delete", objects("", "pods", "a"), false),
            (&pods, "get", objects("", "pods/exec", "a"), false),
            (&pods, "get", objects("metrics.k8s.io", "pods", "a"), false),
            (&pods, "get", objects("", "podtemplates", "a"), false),
            (&pods, "get", path("/api/v1/pods"), false),
            (&one, "delete", objects("", "secrets", "a"), true),
            (&one, "delete", objects("", "secrets", "b"), false),
            (&one, "list", objects("", "secrets", ""), false),
            (&scales, "update", objects("apps", "deployments/scale", "a"), true),
            (&scales, "update", objects("apps", "deployments", "a"), false),
            (&scales, "update", objects("apps", "deployments/status", "a"), false),
            (&all, "impersonate", objects("apps", "deployments/scale", "a"), true),
            (&all, "get", path("/metrics"), false),
            (&paths, "get", path("/metrics"), true),
            (&paths, "get", path("/metrics/more"), false),
            (&paths, "get", path("/logs/a/b"), true),
            (&paths, "post", path("/metrics"), false),
            (&paths, "get", objects("", "pods", "a"), false),
        ];
        for (of, verb, what, expected) in cases {
            assert_eq!(allows(&rule(of.clone()), verb, &what), expected, "{of} {verb} {what:?}");
        }
    }

    #[test]
    fn nobody_passes_on_more_than_they_hold() {
        let held = |rules: Value| Held {
            roles: vec![Arc::new(serde_json::from_value(json!({ "kind": "Role", "rules": rules })).unwrap())],
            ..Held::default()
        };
        let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
        let named = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]});
        let any = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]});
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let path = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]});
        let cases = [
            (json!([pods]), json!([pods, named]), true),
            (json!([named]), json!([pods]), false),
            (json!([pods]), json!([any]), false),
            (json!([all]), json!([any, pods, all]), true),
            (json!([all]), json!([path]), false),
            (json!([pods]), json!([]), true),
            (json!([]), json!([pods]), false),
        ];
        for (own, wanted, expected) in cases {
            let rules: Vec<PolicyRule> = serde_json::from_value(wanted.clone()).unwrap();
            assert_eq!(covers(&held(own.clone()), &rules), expected, "{own} covers {wanted}");
        }
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let huge = rule(json!({"verbs": many, "apiGroups": many, "resources": many, "resourceNames": many}));
        assert!(!covers(&held(json!([all])), &[huge]), "not even looked at");
    }
}
