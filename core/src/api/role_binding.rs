//! RoleBinding: who holds a role in a namespace.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::RbacV1;
use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path, Report, json};

/// The group of roles and of the users and groups that hold them.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The kind of a subject that is a service account.
pub const SERVICE_ACCOUNT: &str = "ServiceAccount";
/// The kind of a subject that is a user.
pub const USER: &str = "User";
/// The kind of a subject that is a group of users.
pub const SUBJECT_GROUP: &str = "Group";

/// Gives a role to somebody, in the binding's namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct RoleBinding {
    /// Version of the API.
    #[serde(default)]
    pub api_version: RbacV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// Who holds the role.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub subjects: Vec<Subject>,
    /// The role: one of the same namespace, or a cluster role.
    #[serde(default)]
    pub role_ref: RoleRef,
}

/// A role that is bound; it cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct RoleRef {
    /// Its API group.
    #[serde(default)]
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// Who holds a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    #[serde(default)]
    pub kind: String,
    /// API group of the kind; empty for service accounts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub api_group: String,
    /// The name.
    #[serde(default)]
    pub name: String,
    /// Namespace of a service account.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: String,
}

kind!(RoleBinding, "rbac.authorization.k8s.io"/v1, "rolebindings", singular "rolebinding", Namespaced, short [], categories [], subresources []);

/// The columns of bindings of both kinds.
pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", "The role, after its kind."),
    AGE,
    wide("Users", "string", "Users who hold it."),
    wide("Groups", "string", "Groups that hold it."),
    wide("ServiceAccounts", "string", "Service accounts that hold it, after their namespaces."),
];

/// The cells of [`COLUMNS`].
pub(crate) fn row(metadata: &ObjectMeta, subjects: &[Subject], role: &RoleRef, now: Timestamp) -> Vec<Value> {
    let of = |kind: &str| {
        let named = subjects.iter().filter(|subject| subject.kind == kind);
        let names = named.map(|subject| match subject.namespace.as_str() {
            "" => subject.name.clone(),
            namespace => format!("{namespace}/{}", subject.name),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        columns::name(metadata),
        format!("{}/{}", role.kind, role.name).into(),
        columns::age(metadata, now),
        of(USER),
        of(SUBJECT_GROUP),
        of(SERVICE_ACCOUNT),
    ]
}

/// Names the group where it is left out.
pub(crate) fn set_defaults(subjects: &mut [Subject], role: &mut RoleRef) {
    let others = subjects.iter_mut().filter(|subject| matches!(subject.kind.as_str(), USER | SUBJECT_GROUP));
    for group in others.map(|subject| &mut subject.api_group).chain([&mut role.api_group]) {
        if group.is_empty() {
            GROUP.clone_into(group);
        }
    }
}

/// Checks what is bound, which may be one of these kinds, and to whom.
pub(crate) fn validate(subjects: &[Subject], role: &RoleRef, kinds: &[&str], errors: &mut ErrorList) {
    let at = Path::new("roleRef");
    if role.api_group != GROUP {
        errors.not_supported(&at.child("apiGroup"), role.api_group.as_str(), &[GROUP]);
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.not_supported(&at.child("kind"), role.kind.as_str(), kinds);
    }
    if role.name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.invalid_each(&at.child("name"), &role.name, NameRule::PathSegment.check(&role.name, false));
    }
    let namespaced = kinds.len() > 1;
    for (index, subject) in subjects.iter().enumerate() {
        validate_subject(subject, namespaced, &Path::new("subjects").index(index), errors);
    }
}

fn validate_subject(subject: &Subject, namespaced: bool, at: &Path, errors: &mut ErrorList) {
    if subject.name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    match subject.kind.as_str() {
        SERVICE_ACCOUNT => {
            if !subject.name.is_empty() {
                let wrong = NameRule::DnsSubdomain.check(&subject.name, false);
                errors.invalid_each(&at.child("name"), &subject.name, wrong);
            }
            if !subject.api_group.is_empty() {
                errors.not_supported(&at.child("apiGroup"), subject.api_group.as_str(), &[""]);
            }
            if !namespaced && subject.namespace.is_empty() {
                errors.required(&at.child("namespace"), "");
            }
        }
        USER | SUBJECT_GROUP => {
            if subject.api_group != GROUP {
                errors.not_supported(&at.child("apiGroup"), subject.api_group.as_str(), &[GROUP]);
            }
        }
        other => errors.not_supported(&at.child("kind"), other, &[SERVICE_ACCOUNT, USER, SUBJECT_GROUP]),
    }
}

/// A role cannot be exchanged for another.
pub(crate) fn validate_role_update(new: &RoleRef, old: &RoleRef, errors: &mut ErrorList) {
    if new != old {
        errors.invalid(&Path::new("roleRef"), json(new), "cannot change roleRef");
    }
}

impl Kind for RoleBinding {
    fn set_defaults(&mut self) {
        set_defaults(&mut self.subjects, &mut self.role_ref);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        validate(&self.subjects, &self.role_ref, &["Role", "ClusterRole"], &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(rules::validate_update(self, old));
        validate_role_update(&self.role_ref, &old.role_ref, &mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        row(&self.metadata, &self.subjects, &self.role_ref, now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ClusterRole, ClusterRoleBinding, Role};

    fn of<K: Kind + serde::de::DeserializeOwned>(mut value: Value) -> Vec<String> {
        value["metadata"] = json!({ "name": "a", "namespace": value["namespace"] });
        let mut object: K = serde_json::from_value(value).unwrap();
        object.set_defaults();
        object.validate().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn roles_say_what_may_be_done_with_what() {
        let rule = |rule: Value| json!({ "namespace": "ns", "kind": "Role", "rules": [rule] });
        let fine = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
        assert_eq!(of::<Role>(rule(fine)), [""; 0]);
        assert_eq!(
            of::<Role>(rule(json!({}))),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        let path = json!({ "verbs": ["get"], "nonResourceURLs": ["/metrics"] });
        assert!(of::<Role>(rule(path.clone()))[0].contains("namespaced rules cannot apply to non-resource URLs"));
        assert_eq!(of::<ClusterRole>(json!({ "kind": "ClusterRole", "rules": [path] })), [""; 0]);
        let empty = json!({ "kind": "ClusterRole", "aggregationRule": {} });
        assert!(of::<ClusterRole>(empty)[0].contains("at least one clusterRoleSelector required"));
    }

    #[test]
    fn bindings_name_a_role_and_who_holds_it() {
        let subjects = json!([
            { "kind": "ServiceAccount", "name": "a", "namespace": "ns" },
            { "kind": "User", "name": "jane" },
            { "kind": "Group", "name": "team" },
        ]);
        let role = json!({ "kind": "Role", "name": "reader" });
        let binding = json!({ "kind": "RoleBinding", "namespace": "ns", "subjects": subjects, "roleRef": role });
        assert_eq!(of::<RoleBinding>(binding.clone()), [""; 0]);
        let mut cluster = binding;
        cluster["kind"] = "ClusterRoleBinding".into();
        cluster["namespace"] = Value::Null;
        cluster["subjects"][0]["namespace"] = "".into();
        cluster["subjects"][1]["apiGroup"] = "x".into();
        cluster["subjects"][2]["kind"] = "Team".into();
        let wrong = of::<ClusterRoleBinding>(cluster);
        let fields: Vec<&str> = wrong.iter().filter_map(|error| error.split(": ").next()).collect();
        assert_eq!(
            fields,
            ["roleRef.kind", "subjects[0].namespace", "subjects[1].apiGroup", "subjects[2].kind"],
            "{wrong:?}"
        );
    }

    #[test]
    fn a_bound_role_stays() {
        let of = |name: &str| {
            let role_ref = RoleRef { api_group: GROUP.into(), kind: "Role".into(), name: name.into() };
            RoleBinding { role_ref, ..RoleBinding::default() }
        };
        let errors = of("a").validate_update(&of("b"), None);
        assert!(errors.iter().any(|error| error.to_string().ends_with("cannot change roleRef")), "{errors:?}");
    }
}
