//! From lists of what is enabled and disabled to a profile, by upstream's rules.
//!
//! `multiPoint` is put over the default policies. At each extension point what is enabled there by name comes on top of that:
//! first those that `multiPoint` has too, then the others of `multiPoint`, then the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use longshore_core::scheduling::Policy;
use longshore_core::validation::{Error, Path};

use super::ConfigError;
use super::registry::{Args, Registry};
use super::wire::{API_VERSION, Plugin, PluginSet, ProfileDocument, Stage};
use crate::profile::{Enabled, Order, Profile};
use crate::{ExtensionPoint, policies};

/// Stands for all that is enabled by default.
const ALL: &str = "*";

/// Names that upstream had once and refuses to enable; to disable them does no harm.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

/// Where policies may be enabled by name though they have nothing to do there here, as upstream's do.
const ELSEWHERE: [(&str, &[Stage]); 3] = [
    ("DefaultPreemption", &[Stage::PreEnqueue]),
    ("DynamicResources", &[Stage::PreEnqueue, Stage::Reserve, Stage::PreBind]),
    ("VolumeBinding", &[Stage::PreScore, Stage::Score, Stage::Reserve]),
];

/// Makes the profile; `at` is its place.
pub(super) fn profile(
    name: &str,
    document: &ProfileDocument,
    at: &Path,
    registry: &Registry,
) -> Result<Profile, ConfigError> {
    check_names(document, &at.child("plugins"), registry)?;
    let all = multi_point(&document.plugins);
    let made = make(document, &all, at, registry)?;
    let plugins = at.child("plugins");
    let mut order = Order::default();
    for point in ExtensionPoint::ALL {
        order[point as usize] = places(point, document, &all, &made, &plugins)?;
    }
    let problem = |stage: Stage, text: String| Err(ConfigError::new(&stage.path(&plugins), text));
    let sorts = order[ExtensionPoint::QueueOrder as usize].len();
    if sorts != 1 {
        let text =
            format!("only one queue sort plugin required for profile with scheduler name {name:?}, but got {sorts}");
        return problem(Stage::QueueSort, text);
    }
    if order[ExtensionPoint::Bind as usize].is_empty() {
        let text = format!("at least one bind plugin is needed for profile with scheduler name {name:?}");
        return problem(Stage::Bind, text);
    }
    let score = document.plugins.get(&Stage::Score).map_or(&[][..], |set| &set.enabled);
    let weight = |name: &str| {
        let plugin = score.iter().chain(&all).find(|plugin| plugin.name == name);
        plugin.map_or(1, |plugin| plugin.weight).max(1)
    };
    let policies = made.into_iter().map(|(name, policy)| Enabled::new(policy, weight(&name))).collect();
    Ok(Profile::ordered(name, policies, order))
}

/// Checks names and weights, wherever they stand.
fn check_names(document: &ProfileDocument, plugins: &Path, registry: &Registry) -> Result<(), ConfigError> {
    let mut messages = Vec::new();
    for (stage, set) in &document.plugins {
        let kind = if *stage == Stage::MultiPoint { "plugin".to_owned() } else { stage.plugin() };
        for (index, Plugin { name, weight }) in set.enabled.iter().enumerate() {
            let at = stage.path(plugins).child("enabled").index(index);
            if REMOVED.contains(&name.as_str()) {
                messages.push(removed(&at, name));
            } else if !registry.knows(name) {
                messages.push(unknown(&at, &kind, name, registry));
            }
            if set.enabled[..index].iter().any(|other| other.name == *name) {
                messages.push(format!("{at}: plugin {name:?} already registered as {kind:?}"));
            }
            if !(0..=i64::from(i32::MAX)).contains(weight) {
                let detail = format!("not in valid range [0, {}]", i32::MAX);
                messages.push(Error::invalid(&at.child("weight"), *weight, detail).message());
            }
        }
        for (index, Plugin { name, .. }) in set.disabled.iter().enumerate() {
            if name != ALL && !REMOVED.contains(&name.as_str()) && !registry.knows(name) {
                let at = stage.path(plugins).child("disabled").index(index);
                messages.push(unknown(&at, &kind, name, registry));
            }
        }
    }
    ConfigError::none_of(messages)
}

fn unknown(at: &Path, kind: &str, name: &str, registry: &Registry) -> String {
    let mut known: Vec<&str> = registry.names().collect();
    known.sort_unstable();
    format!("{at}: {kind} {name:?} does not exist; there are {}", known.join(", "))
}

fn removed(at: &Path, name: &str) -> String {
    let detail = format!("was invalid in version \"v1\" (KubeSchedulerConfiguration is version {API_VERSION:?})");
    Error::invalid(at, name, detail).message()
}

/// What is enabled everywhere: the default policies but those disabled, each as it is enabled anew if it is; then the others
/// that are enabled.
fn multi_point(sets: &BTreeMap<Stage, PluginSet>) -> Vec<Plugin> {
    let none = PluginSet::default();
    let own = sets.get(&Stage::MultiPoint).unwrap_or(&none);
    let mut all = Vec::new();
    for (policy, weight) in policies::default_profile() {
        let name = policy.name();
        if disables(own, name) {
            continue;
        }
        let anew = own.enabled.iter().find(|plugin| plugin.name == name).cloned();
        all.push(anew.unwrap_or_else(|| Plugin { name: name.to_owned(), weight }));
    }
    for plugin in &own.enabled {
        if all.iter().all(|other| other.name != plugin.name) {
            all.push(plugin.clone());
        }
    }
    all
}

fn disables(set: &PluginSet, name: &str) -> bool {
    set.disabled.iter().any(|plugin| plugin.name == name || plugin.name == ALL)
}

/// Makes every policy that is enabled anywhere, and those with arguments, so that these are checked.
fn make(
    document: &ProfileDocument,
    all: &[Plugin],
    at: &Path,
    registry: &Registry,
) -> Result<IndexMap<String, Arc<dyn Policy>>, ConfigError> {
    let mut messages = Vec::new();
    let mut keep =
        |made: Result<Arc<dyn Policy>, ConfigError>| made.map_err(|error| messages.extend(error.into_messages())).ok();
    // Nothing stands for what could not be made.
    let mut configured: BTreeMap<&str, Option<Arc<dyn Policy>>> = BTreeMap::new();
    for (index, config) in document.plugin_config.iter().enumerate() {
        let at = at.child("pluginConfig").index(index);
        let name = config.name.as_str();
        let wrong = if configured.contains_key(name) {
            Some(Error::duplicate(&at, name).message())
        } else if REMOVED.contains(&name) {
            Some(removed(&at, name))
        } else if !registry.knows(name) {
            Some(unknown(&at, "plugin", name, registry))
        } else {
            None
        };
        let args = Args::new(name, config.args.as_ref(), at.child("args"));
        configured.insert(name, keep(wrong.map_or_else(|| registry.make(&args), |text| Err(ConfigError::of(text)))));
    }
    let mut made = IndexMap::new();
    let named = document.plugins.values().flat_map(|set| &set.enabled);
    for Plugin { name, .. } in all.iter().chain(named) {
        if made.contains_key(name) {
            continue;
        }
        let policy = match configured.get(name.as_str()) {
            Some(policy) => policy.clone(),
            None => keep(registry.make(&Args::new(name, None, at.child("plugins")))),
        };
        made.extend(policy.map(|policy| (name.clone(), policy)));
    }
    ConfigError::none_of(messages)?;
    Ok(made)
}

/// The places, among all that were made, of the policies that take part at an extension point, in their order.
fn places(
    point: ExtensionPoint,
    document: &ProfileDocument,
    all: &[Plugin],
    made: &IndexMap<String, Arc<dyn Policy>>,
    plugins: &Path,
) -> Result<Vec<usize>, ConfigError> {
    let takes_part = |name: &str| made.get(name).is_some_and(|policy| point.is_of(&**policy));
    let none = PluginSet::default();
    // What looks at pods first belongs to what comes after it. Enabling a policy there enables it here; for a score that has no
    // effect of its own.
    let (mut own, mut first) = (&none, &none);
    for (stage, set) in document.plugins.iter().filter(|(stage, _)| stage.point() == Some(point)) {
        for (index, plugin) in set.enabled.iter().enumerate() {
            let name = plugin.name.as_str();
            let elsewhere = ELSEWHERE.iter().any(|(other, stages)| *other == name && stages.contains(stage));
            if !takes_part(name) && !elsewhere {
                let at = stage.path(plugins).child("enabled").index(index);
                let text = format!("plugin {name:?} does not extend {} plugin", stage.plugin());
                return Err(ConfigError::new(&at, text));
            }
        }
        match stage {
            Stage::PreFilter => first = set,
            Stage::PreScore => {}
            _ => own = set,
        }
    }
    let from_all: Vec<&str> = names(all).filter(|name| !disables(own, name)).collect();
    let (over, more): (Vec<&str>, Vec<&str>) = names(&own.enabled).partition(|name| from_all.contains(name));
    let mut order: Vec<&str> = over.clone();
    order.extend(from_all.iter().filter(|name| !over.contains(name)));
    order.extend(more);
    for name in names(&first.enabled).filter(|name| !disables(own, name)) {
        if !order.contains(&name) {
            order.push(name);
        }
    }
    Ok(order.into_iter().filter(|name| takes_part(name)).filter_map(|name| made.get_index_of(name)).collect())
}

fn names(plugins: &[Plugin]) -> impl Iterator<Item = &str> {
    plugins.iter().map(|plugin| plugin.name.as_str())
}
