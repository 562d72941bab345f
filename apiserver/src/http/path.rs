//! What a request's path names.

use longshore_core::kind::KindType;

use super::discovery;
use super::keeper::Question;
use super::review::{self, Review};

/// Where a request goes.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    /// `/`.
    Index,
    /// `/livez`, `/healthz`: whether the process is alive.
    Live,
    /// `/readyz`: whether it can do its work.
    Ready,
    /// `/metrics`.
    Metrics,
    /// `/longshore/store` and below.
    Store(Question),
    /// `/version`.
    Version,
    /// Lists of what is served.
    Discovery(Discovery),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`, or one of the documents below it.
    OpenApi(Option<String>),
    /// A question that is answered at once.
    Review(Review),
    /// Objects.
    Resource(Resource),
}

/// A document of discovery.
#[derive(Debug, PartialEq)]
pub(super) enum Discovery {
    /// `/api`.
    Core,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`.
    Version(String, String),
}

/// Objects of a kind, or one of them, or a part of it.
#[derive(Debug, PartialEq)]
pub(super) struct Resource {
    pub(super) kind: &'static KindType,
    /// `None` for all namespaces, and for kinds that have none.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

/// Reads a path; `None` if nothing is served there.
pub(super) fn parse(kinds: &[&'static KindType], path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => return Some(Route::Index),
        ["livez" | "healthz", ..] => return Some(Route::Live),
        ["readyz", ..] => return Some(Route::Ready),
        ["openapi", "v2"] => return Some(Route::OpenApiV2),
        ["openapi", "v3"] => return Some(Route::OpenApi(None)),
        ["openapi", "v3", path @ ..] => return Some(Route::OpenApi(Some(path.join("/")))),
        ["metrics"] => return Some(Route::Metrics),
        ["longshore", "store"] => return Some(Route::Store(Question::Status)),
        ["longshore", "store", "snapshot"] => return Some(Route::Store(Question::Snapshot)),
        ["longshore", "store", "compact"] => return Some(Route::Store(Question::Compact)),
        ["version"] => return Some(Route::Version),
        ["api"] => return Some(Route::Discovery(Discovery::Core)),
        ["apis"] => return Some(Route::Discovery(Discovery::Groups)),
        ["apis", group] => {
            return discovery::has(kinds, group, None).then(|| Route::Discovery(Discovery::Group((*group).to_owned())));
        }
        _ => {}
    }
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    if !discovery::has(kinds, group, Some(version)) {
        return None;
    }
    if rest.is_empty() {
        return Some(Route::Discovery(Discovery::Version(group.to_owned(), version.to_owned())));
    }
    if let Some(review) = review::ALL.into_iter().find(|of| of.group() == group && rest == [of.plural()]) {
        return Some(Route::Review(review));
    }
    let find = |plural: &str| {
        kinds
            .iter()
            .copied()
            .find(|kind| kind.info.plural == plural && kind.info.group == group && kind.info.version == version)
    };
    let owned = |text: &str| Some(text.to_owned());
    let (kind, namespace, tail) = match rest {
        // `namespaces/<name>/status` is a part of a namespace, not a kind within it.
        ["namespaces", namespace, plural, tail @ ..] if find(plural).is_some_and(|kind| kind.info.namespaced) => {
            (find(plural)?, owned(namespace), tail)
        }
        [plural, tail @ ..] => (find(plural)?, None, tail),
        [] => return None,
    };
    let (name, subresource) = match tail {
        [] => (None, None),
        [name] => (owned(name), None),
        [name, subresource] => (owned(name), owned(subresource)),
        _ => return None,
    };
    if kind.info.namespaced && namespace.is_none() && name.is_some() {
        return None;
    }
    Some(Route::Resource(Resource { kind, namespace, name, subresource }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> Option<Resource> {
        match parse(longshore_core::api::kinds(), path)? {
            Route::Resource(resource) => Some(resource),
            _ => None,
        }
    }

    #[test]
    fn paths_name_kinds_objects_and_parts() {
        let one = resource("/api/v1/namespaces/default/configmaps/a").unwrap();
        assert_eq!(
            (one.kind.info.kind, one.namespace.as_deref(), one.name.as_deref()),
            ("ConfigMap", Some("default"), Some("a"))
        );
        let all = resource("/api/v1/configmaps").unwrap();
        assert_eq!((all.namespace, all.name), (None, None));
        let part = resource("/api/v1/namespaces/default/finalize").unwrap();
        assert_eq!(
            (part.kind.info.kind, part.name.as_deref(), part.subresource.as_deref()),
            ("Namespace", Some("default"), Some("finalize"))
        );
        assert!(resource("/api/v1/configmaps/a").is_none(), "an object of a namespace needs one");
        assert!(resource("/api/v2/configmaps").is_none());
        assert!(resource("/api/v1/nothings").is_none());
    }
}
