//! Where objects lie in the store: `/registry/<group>/<resource>/<namespace>/<name>`.

use longshore_core::kind::KindInfo;

/// Prefix of all objects.
pub(crate) const PREFIX: &str = "/registry/";

/// Prefix of a kind's objects.
pub(crate) fn kind_prefix(info: &KindInfo) -> String {
    format!("{PREFIX}{}/{}/", info.group, info.plural)
}

/// An object's key within its kind. The namespace is empty for kinds that have none.
pub(crate) fn short(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// An object's key in the store.
pub(crate) fn full(info: &KindInfo, short: &str) -> String {
    format!("{PREFIX}{}/{}/{short}", info.group, info.plural)
}
