//! What is served: discovery by group and version, all at once, and the server's version.

use ::http::Response;
use axum::body::Body;
use longshore_core::kind::{KindType, Subresource};
use serde_json::{Value, json};

use super::path::Discovery;
use super::{answer, review};

/// The Kubernetes version whose behaviour is served.
const GIT_VERSION: &str = "v1.35.4+longshore";

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Something that is served under a name of its own.
struct Entry {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
    verbs: &'static [&'static str],
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    subresources: &'static [Subresource],
}

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

/// Everything that is served, kinds of stored objects first.
fn entries(kinds: &[&'static KindType]) -> Vec<Entry> {
    let stored = kinds.iter().map(|kind| {
        let info = &kind.info;
        Entry {
            group: info.group,
            version: info.version,
            kind: info.kind,
            plural: info.plural,
            singular: info.singular,
            namespaced: info.namespaced,
            verbs: &VERBS,
            short_names: info.short_names,
            categories: info.categories,
            subresources: info.subresources,
        }
    });
    let reviews = review::ALL.iter().map(|review| Entry {
        group: review.group(),
        version: "v1",
        kind: review.kind(),
        plural: review.plural(),
        singular: review.singular(),
        namespaced: false,
        verbs: &["create"],
        short_names: &[],
        categories: &[],
        subresources: &[],
    });
    stored.chain(reviews).collect()
}

/// Whether there is anything in this group (and version).
pub(super) fn has(kinds: &[&'static KindType], group: &str, version: Option<&str>) -> bool {
    let fits = |own_group: &str, own_version: &str| own_group == group && version.is_none_or(|of| of == own_version);
    kinds.iter().any(|kind| fits(kind.info.group, kind.info.version))
        || review::ALL.iter().any(|review| fits(review.group(), "v1"))
}

/// The answer to `/`.
pub(super) fn index(kinds: &[&'static KindType]) -> Value {
    let entries = entries(kinds);
    let mut paths: Vec<String> =
        ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned).to_vec();
    for entry in &entries {
        if entry.group.is_empty() {
            paths.push(format!("/api/{}", entry.version));
        } else {
            paths.push(format!("/apis/{}", entry.group));
            paths.push(format!("/apis/{}/{}", entry.group, entry.version));
        }
    }
    paths.sort_unstable();
    paths.dedup();
    json!({ "paths": paths })
}

pub(super) fn serve(kinds: &[&'static KindType], accept: &str, what: &Discovery) -> Response<Body> {
    let entries = entries(kinds);
    match what {
        Discovery::Core | Discovery::Groups if wants_all(accept) => {
            let core = *what == Discovery::Core;
            let items: Vec<Value> = groups(&entries)
                .into_iter()
                .filter(|group| group.is_empty() == core)
                .map(|group| all(&entries, group))
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
            let groups: Vec<Value> = groups(&entries)
                .into_iter()
                .filter(|group| !group.is_empty())
                .map(|name| group(&entries, name))
                .collect();
            answer::json(200, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        Discovery::Group(name) => {
            let mut group = group(&entries, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            answer::json(200, &group)
        }
        Discovery::Version(group, version) => {
            let resources: Vec<Value> = served(&entries, group, version).flat_map(resources).collect();
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

/// Whether the client prefers everything in one document, in the version that is served.
fn wants_all(accept: &str) -> bool {
    accept.split(',').any(|media| {
        let mut parts = media.split(';').map(str::trim);
        parts.next() == Some("application/json")
            && ["as=APIGroupDiscoveryList", "v=v2", "g=apidiscovery.k8s.io"]
                .iter()
                .all(|wanted| media.split(';').any(|part| part.trim() == *wanted))
    })
}

fn groups(entries: &[Entry]) -> Vec<&'static str> {
    let mut groups: Vec<_> = entries.iter().map(|entry| entry.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn versions(entries: &[Entry], group: &str) -> Vec<&'static str> {
    let mut versions: Vec<_> = entries.iter().filter(|entry| entry.group == group).map(|entry| entry.version).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn served<'a>(entries: &'a [Entry], group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Entry> {
    entries.iter().filter(move |entry| entry.group == group && entry.version == version)
}

fn group(entries: &[Entry], name: &str) -> Value {
    let versions: Vec<Value> = versions(entries, name)
        .into_iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "preferredVersion": versions.first(), "versions": versions })
}

/// Verbs of a subresource.
fn verbs(subresource: Subresource) -> &'static [&'static str] {
    match subresource {
        Subresource::Binding | Subresource::Eviction | Subresource::Token => &["create"],
        Subresource::Finalize => &["update"],
        Subresource::Log | Subresource::Explain => &["get"],
        Subresource::Exec | Subresource::Attach | Subresource::PortForward => &["create", "get"],
        _ => &["get", "patch", "update"],
    }
}

/// Group, version and kind of what a subresource takes and gives.
fn shape_of(entry: &Entry, subresource: Subresource) -> (&'static str, &'static str, &'static str) {
    match subresource {
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        Subresource::Eviction => ("policy", "v1", "Eviction"),
        Subresource::Token => ("authentication.k8s.io", "v1", "TokenRequest"),
        Subresource::Binding => ("", "v1", "Binding"),
        Subresource::Explain => ("longshore.dev", "v1", "PodExplanation"),
        Subresource::Exec => ("", "v1", "PodExecOptions"),
        Subresource::Attach => ("", "v1", "PodAttachOptions"),
        Subresource::PortForward => ("", "v1", "PodPortForwardOptions"),
        _ => (entry.group, entry.version, entry.kind),
    }
}

fn resources(entry: &Entry) -> Vec<Value> {
    let mut own = json!({
        "name": entry.plural, "singularName": entry.singular, "namespaced": entry.namespaced, "kind": entry.kind,
        "verbs": entry.verbs,
    });
    if !entry.short_names.is_empty() {
        own["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        own["categories"] = json!(entry.categories);
    }
    let parts = entry.subresources.iter().map(|part| {
        let (group, version, kind) = shape_of(entry, *part);
        let mut value = json!({
            "name": format!("{}/{}", entry.plural, part.as_str()), "singularName": "", "namespaced": entry.namespaced,
            "kind": kind, "verbs": verbs(*part),
        });
        if (group, version) != (entry.group, entry.version) {
            value["group"] = group.into();
            value["version"] = version.into();
        }
        value
    });
    std::iter::once(own).chain(parts).collect()
}

fn all(entries: &[Entry], group: &str) -> Value {
    let versions: Vec<Value> = versions(entries, group)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> = served(entries, group, version).map(discovered).collect();
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

fn discovered(entry: &Entry) -> Value {
    let names =
        |(group, version, kind): (&str, &str, &str)| json!({ "group": group, "version": version, "kind": kind });
    let parts: Vec<Value> = entry
        .subresources
        .iter()
        .map(|part| {
            let kind = names(shape_of(entry, *part));
            json!({ "subresource": part.as_str(), "responseKind": kind, "verbs": verbs(*part) })
        })
        .collect();
    let mut resource = json!({
        "resource": entry.plural, "responseKind": names((entry.group, entry.version, entry.kind)),
        "singularResource": entry.singular, "verbs": entry.verbs,
        "scope": if entry.namespaced { "Namespaced" } else { "Cluster" },
    });
    if !entry.short_names.is_empty() {
        resource["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        resource["categories"] = json!(entry.categories);
    }
    if !parts.is_empty() {
        resource["subresources"] = json!(parts);
    }
    resource
}
