//! The kinds that vectors name.

use longshore_core::kind::KindType;
use longshore_core::schema::{self, Schema};

/// Every kind that vectors may name, whether an API server offers it or not.
static KINDS: &[&KindType] = &[];

/// The kind with this `apiVersion` and `kind`.
pub(crate) fn find(api_version: &str, kind: &str) -> Option<&'static KindType> {
    KINDS.iter().copied().find(|of| of.info.kind == kind && of.info.api_version() == api_version)
}

/// The schema of a kind; its name alone is unique.
pub(crate) fn schema(kind: &str) -> Option<&'static Schema> {
    KINDS.iter().copied().find(|of| of.info.kind == kind).map(schema::of)
}
