//! What is served: discovery by group and version, all at once, and the server's version.

use ::http::Response;
use axum::body::Body;
use longshore_core::kind::{KindType, Subresource};
use serde_json::{Value, json};

use super::answer;
use super::path::Discovery;

/// The Kubernetes version whose behaviour is served.
const GIT_VERSION: &str = "v1.35.4+longshore";

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "35", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}

pub(super) fn serve(kinds: &[&'static KindType], accept: &str, what: &Discovery) -> Response<Body> {
    let aggregated = accept.contains("as=APIGroupDiscoveryList");
    match what {
        Discovery::Core | Discovery::Groups if aggregated => {
            let core = *what == Discovery::Core;
            let items: Vec<Value> = groups(kinds)
                .into_iter()
                .filter(|group| group.is_empty() == core)
                .map(|group| all(kinds, group))
                .collect();
            let list = json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
            });
            let content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            answer::respond(200, content_type, Body::from(list.to_string()))
        }
        Discovery::Core => {
            answer::json(200, &json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }))
        }
        Discovery::Groups => {
            let groups: Vec<Value> =
                groups(kinds).into_iter().filter(|group| !group.is_empty()).map(|name| group(kinds, name)).collect();
            answer::json(200, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        Discovery::Group(name) => {
            let mut group = group(kinds, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            answer::json(200, &group)
        }
        Discovery::Version(group, version) => {
            let resources: Vec<Value> = served(kinds, group, version).flat_map(resources).collect();
            let group_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
            answer::json(
                200,
                &json!({
                    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
                }),
            )
        }
    }
}

fn groups(kinds: &[&'static KindType]) -> Vec<&'static str> {
    let mut groups: Vec<_> = kinds.iter().map(|kind| kind.info.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn versions(kinds: &[&'static KindType], group: &str) -> Vec<&'static str> {
    let mut versions: Vec<_> =
        kinds.iter().filter(|kind| kind.info.group == group).map(|kind| kind.info.version).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn served<'a>(
    kinds: &'a [&'static KindType],
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'static KindType> + 'a {
    kinds.iter().copied().filter(move |kind| kind.info.group == group && kind.info.version == version)
}

fn group(kinds: &[&'static KindType], name: &str) -> Value {
    let versions: Vec<Value> = versions(kinds, name)
        .into_iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "preferredVersion": versions.first(), "versions": versions })
}

/// Verbs of a subresource.
fn verbs(subresource: Subresource) -> &'static [&'static str] {
    match subresource {
        Subresource::Binding | Subresource::Eviction => &["create"],
        Subresource::Finalize => &["update"],
        Subresource::Log => &["get"],
        _ => &["get", "patch", "update"],
    }
}

fn resources(kind: &'static KindType) -> Vec<Value> {
    let info = &kind.info;
    let mut own = json!({
        "name": info.plural, "singularName": info.singular, "namespaced": info.namespaced, "kind": info.kind,
        "verbs": VERBS,
    });
    if !info.short_names.is_empty() {
        own["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        own["categories"] = json!(info.categories);
    }
    let parts = info.subresources.iter().map(|part| {
        json!({
            "name": format!("{}/{}", info.plural, part.as_str()), "singularName": "", "namespaced": info.namespaced,
            "kind": info.kind, "verbs": verbs(*part),
        })
    });
    std::iter::once(own).chain(parts).collect()
}

fn all(kinds: &[&'static KindType], group: &str) -> Value {
    let versions: Vec<Value> = versions(kinds, group)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> = served(kinds, group, version).map(discovered).collect();
            json!({ "version": version, "resources": resources, "freshness": "Current" })
        })
        .collect();
    let metadata = if group.is_empty() {
        json!({ "creationTimestamp": null })
    } else {
        json!({ "name": group, "creationTimestamp": null })
    };
    json!({ "metadata": metadata, "versions": versions })
}

fn discovered(kind: &'static KindType) -> Value {
    let info = &kind.info;
    let names = json!({ "group": info.group, "version": info.version, "kind": info.kind });
    let parts: Vec<Value> = info
        .subresources
        .iter()
        .map(|part| json!({ "subresource": part.as_str(), "responseKind": names, "verbs": verbs(*part) }))
        .collect();
    let mut resource = json!({
        "resource": info.plural, "responseKind": names, "singularResource": info.singular, "verbs": VERBS,
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
    });
    if !info.short_names.is_empty() {
        resource["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        resource["categories"] = json!(info.categories);
    }
    if !parts.is_empty() {
        resource["subresources"] = json!(parts);
    }
    resource
}
