//! The kinds that vectors name.

use std::sync::OnceLock;

use longshore_core::api;
use longshore_core::kind::KindType;
use longshore_core::schema::{self, Schema};
use schemars::JsonSchema;

/// Kinds that vectors name but no API server of ours offers.
static OTHERS: &[&KindType] = &[KindType::of::<api::Ingress>()];

fn all() -> impl Iterator<Item = &'static KindType> {
    api::kinds().iter().chain(OTHERS).copied()
}

/// The kind with this `apiVersion` and `kind`.
pub(crate) fn find(api_version: &str, kind: &str) -> Option<&'static KindType> {
    all().find(|of| of.info.kind == kind && of.info.api_version() == api_version)
}

/// The schema of a kind; its name alone is unique.
pub(crate) fn schema(kind: &str) -> Option<&'static Schema> {
    static ROLE: OnceLock<Schema> = OnceLock::new();
    static CRON_JOB: OnceLock<Schema> = OnceLock::new();
    match kind {
        "CronJob" => Some(CRON_JOB.get_or_init(|| plain::<api::CronJob>("CronJob"))),
        "Role" => Some(ROLE.get_or_init(|| plain::<api::Role>("Role"))),
        _ => all().find(|of| of.info.kind == kind).map(schema::of),
    }
}

/// The schema of a type that has no rules yet.
fn plain<T: JsonSchema>(name: &str) -> Schema {
    let generator = schemars::generate::SchemaSettings::default().into_generator();
    schema::from_json_schema(name, generator.into_root_schema_for::<T>().as_value())
}
