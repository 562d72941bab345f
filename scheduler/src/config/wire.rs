//! The wire format, `kubescheduler.config.k8s.io/v1`.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::decode::{self, Format};
use longshore_core::go_duration;
use longshore_core::validation::{Error, Path};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::ConfigError;
use crate::ExtensionPoint;

pub(super) const GROUP: &str = "kubescheduler.config.k8s.io";
pub(super) const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// A configuration as it is written. What has no meaning here is read all the same: see the [module](super).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Document {
    api_version: String,
    kind: String,
    pub(super) parallelism: Option<i32>,
    pub(super) leader_election: LeaderElection,
    pub(super) client_connection: ClientConnection,
    enable_profiling: Option<bool>,
    enable_contention_profiling: Option<bool>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    pub(super) pod_initial_backoff_seconds: Option<i64>,
    pub(super) pod_max_backoff_seconds: Option<i64>,
    pub(super) profiles: Vec<ProfileDocument>,
    pub(super) extenders: Vec<Value>,
    delay_cache_until_active: bool,
}

/// How the leader is elected; empty and zero stand for the default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct LeaderElection {
    pub(super) leader_elect: Option<bool>,
    pub(super) lease_duration: GoDuration,
    pub(super) renew_deadline: GoDuration,
    pub(super) retry_period: GoDuration,
    pub(super) resource_lock: String,
    pub(super) resource_name: String,
    pub(super) resource_namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ClientConnection {
    kubeconfig: String,
    accept_content_types: String,
    content_type: String,
    qps: f32,
    pub(super) burst: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ProfileDocument {
    pub(super) scheduler_name: Option<String>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    #[serde(deserialize_with = "by_stage")]
    pub(super) plugins: BTreeMap<Stage, PluginSet>,
    pub(super) plugin_config: Vec<PluginConfig>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PluginSet {
    pub(super) enabled: Vec<Plugin>,
    pub(super) disabled: Vec<Plugin>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plugin {
    pub(super) name: String,
    /// 0 stands for 1.
    #[serde(default)]
    pub(super) weight: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginConfig {
    pub(super) name: String,
    pub(super) args: Option<Value>,
}

/// Upstream's extension points, and the one that stands for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    MultiPoint,
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Stage {
    const ALL: [Self; 13] = [
        Self::MultiPoint,
        Self::PreEnqueue,
        Self::QueueSort,
        Self::PreFilter,
        Self::Filter,
        Self::PostFilter,
        Self::PreScore,
        Self::Score,
        Self::Reserve,
        Self::Permit,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
    ];

    fn field(self) -> String {
        let name = format!("{self:?}");
        let (first, rest) = name.split_at(1);
        format!("{}{rest}", first.to_ascii_lowercase())
    }

    /// As upstream's errors call a plugin for it.
    pub(super) fn plugin(self) -> String {
        format!("{self:?}Plugin")
    }

    /// Below the path of the plugins.
    pub(super) fn path(self, plugins: &Path) -> Path {
        plugins.child(&self.field())
    }

    /// What it is here. Looking at a pod before any node is looked at is part of filtering and of scoring.
    pub(super) fn point(self) -> Option<ExtensionPoint> {
        Some(match self {
            Self::MultiPoint => return None,
            Self::PreEnqueue => ExtensionPoint::PreEnqueue,
            Self::QueueSort => ExtensionPoint::QueueOrder,
            Self::PreFilter | Self::Filter => ExtensionPoint::Filter,
            Self::PostFilter => ExtensionPoint::PostFilter,
            Self::PreScore | Self::Score => ExtensionPoint::Score,
            Self::Reserve => ExtensionPoint::Reserve,
            Self::Permit => ExtensionPoint::Permit,
            Self::PreBind => ExtensionPoint::PreBind,
            Self::Bind => ExtensionPoint::Bind,
            Self::PostBind => ExtensionPoint::PostBind,
        })
    }
}

/// Fields with names, not variants of an enum, so that errors below them can say where they are.
fn by_stage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Stage, PluginSet>, D::Error> {
    let by_field: BTreeMap<String, PluginSet> = BTreeMap::deserialize(deserializer)?;
    let stage = |field: &str| {
        Stage::ALL.into_iter().find(|stage| stage.field() == field).ok_or_else(|| {
            let all = Stage::ALL.map(|stage| format!("`{}`", stage.field())).join(", ");
            serde::de::Error::custom(format_args!("unknown field `{field}`, expected one of {all}"))
        })
    };
    by_field.into_iter().map(|(field, set)| Ok((stage(&field)?, set))).collect()
}

/// A duration such as `15s`, with its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GoDuration {
    pub(super) nanos: i64,
    pub(super) text: String,
}

impl GoDuration {
    /// The duration, or a default for zero; a negative one is zero.
    pub(super) fn or(&self, default: Duration) -> Duration {
        if self.nanos == 0 { default } else { Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0)) }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nanos = go_duration::parse(&text).map_err(serde::de::Error::custom)?;
        Ok(Self { nanos, text })
    }
}

/// Reads a document.
pub(super) fn document(text: &str) -> Result<Document, ConfigError> {
    let (mut value, repeated) =
        decode::parse(text.as_bytes(), Format::Yaml).map_err(|error| ConfigError::new(&Path::default(), error))?;
    ConfigError::none_of(repeated)?;
    drop_nulls(&mut value);
    // What it is comes first: of a document of another kind, every field is unknown.
    let said = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    for (field, right) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let at = Path::new(field);
        match said(field) {
            "" => errors.push(Error::required(&at, right)),
            other if other != right => errors.push(Error::not_supported(&at, other, &[right])),
            _ => {}
        }
    }
    ConfigError::no_errors(&errors)?;
    let document: Document = typed(value, &Path::default())?;
    debug_assert_eq!((document.api_version.as_str(), document.kind.as_str()), (API_VERSION, KIND));
    Ok(document)
}

/// Reads a value as a type; what is wrong is named by its place below `at`.
pub(super) fn typed<T: DeserializeOwned>(value: Value, at: &Path) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let below = error.path().to_string();
        let at = match below.strip_prefix('.').unwrap_or(&below) {
            "" => at.clone(),
            below => at.child(below),
        };
        ConfigError::new(&at, error.inner())
    })
}

/// A null is as good as nothing, as in all objects.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
