//! Policies by name.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use longshore_core::scheduling::Policy;
use longshore_core::validation::Path;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire::{API_VERSION, GROUP, typed};
use super::{ConfigError, arguments};
use crate::policies;

type Factory = Arc<dyn Fn(&Args<'_>) -> Result<Arc<dyn Policy>, ConfigError> + Send + Sync>;

/// The policies that a configuration may name, each with what makes it from its arguments.
///
/// ```
/// use longshore_core::scheduling::per_node;
/// use longshore_scheduler::config::{Configuration, Registry};
///
/// #[derive(Default, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Arguments {
///     most: i64,
/// }
///
/// let registry = Registry::built_in().with("FewPods", |args| {
///     let Arguments { most } = args.read()?;
///     Ok(per_node::score("FewPods", move |_, node| (most - node.requested("pods")).max(0)))
/// });
/// let text = "
/// apiVersion: kubescheduler.config.k8s.io/v1
/// kind: KubeSchedulerConfiguration
/// profiles:
/// - plugins:
///     score:
///       enabled: [{ name: FewPods, weight: 5 }]
///   pluginConfig:
///   - { name: FewPods, args: { most: 20 } }
/// ";
/// let configuration = Configuration::with_policies(text, &registry)?;
/// assert_eq!(configuration.profiles[0].name(), "default-scheduler");
/// # Ok::<(), longshore_scheduler::config::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    factories: IndexMap<String, Factory>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Default for Registry {
    /// [`Registry::built_in`].
    fn default() -> Self {
        Self::built_in()
    }
}

impl Registry {
    /// The policies of this crate, with upstream's arguments.
    pub fn built_in() -> Self {
        let mut registry = Self { factories: IndexMap::new() };
        for (policy, _) in policies::default_profile() {
            let name = policy.name().to_owned();
            let factory = move |args: &Args<'_>| args.refuse().map(|()| policy.clone());
            registry.factories.insert(name, Arc::new(factory));
        }
        arguments::register(registry).with("Devices", |args| args.refuse().map(|()| policies::Devices::default()))
    }

    /// With one policy more; one of the same name is replaced. The factory is called for each profile that enables the
    /// policy or has arguments for it.
    #[must_use]
    pub fn with<P: Policy>(
        mut self,
        name: &str,
        factory: impl Fn(&Args<'_>) -> Result<P, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        let factory = move |args: &Args<'_>| factory(args).map(|policy| Arc::new(policy) as Arc<dyn Policy>);
        self.factories.insert(name.to_owned(), Arc::new(factory));
        self
    }

    /// The names, in no order that matters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.factories.contains_key(name)
    }

    /// Makes a policy.
    pub(super) fn make(&self, args: &Args<'_>) -> Result<Arc<dyn Policy>, ConfigError> {
        let Some(factory) = self.factories.get(args.plugin) else {
            return Err(ConfigError::new(&args.at, format_args!("plugin {:?} does not exist", args.plugin)));
        };
        let policy = factory(args)?;
        if policy.name() != args.plugin {
            let text = format!("what is registered as {:?} made the policy {:?}", args.plugin, policy.name());
            return Err(ConfigError::new(&args.at, text));
        }
        Ok(policy)
    }
}

/// The arguments of a policy: what `pluginConfig` has for it, if anything.
#[derive(Debug)]
pub struct Args<'a> {
    plugin: &'a str,
    value: Option<&'a Value>,
    at: Path,
}

impl<'a> Args<'a> {
    pub(super) fn new(plugin: &'a str, value: Option<&'a Value>, at: Path) -> Self {
        Self { plugin, value, at }
    }

    /// As they are written.
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// Where they stand, for errors.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Reads them as a type, which says by `deny_unknown_fields` whether there may be others; `apiVersion` and `kind` are
    /// left out. The default if there are none.
    ///
    /// # Errors
    /// A field is unknown or has the wrong type.
    pub fn read<T: DeserializeOwned + Default>(&self) -> Result<T, ConfigError> {
        let Some(value) = self.value else { return Ok(T::default()) };
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| key != "apiVersion" && key != "kind");
        }
        typed(value, &self.at)
    }

    /// Reads them as [`Args::read`], unless they say that they are another policy's.
    pub(super) fn read_own<T: DeserializeOwned + Default>(&self) -> Result<T, ConfigError> {
        let said = |field: &str| self.value.and_then(|value| value.get(field)).and_then(Value::as_str);
        let (plugin, own) = (self.plugin, format!("{}Args", self.plugin));
        if let Some(kind) = said("kind").filter(|kind| *kind != own) {
            let text = format!("args for plugin {plugin} were not of type {own}.{GROUP}, got {kind}.{GROUP}");
            return Err(ConfigError::new(&self.at, text));
        }
        if let Some(version) = said("apiVersion").filter(|version| *version != API_VERSION) {
            let text = format!("no kind {own:?} is registered for version {version:?}");
            return Err(ConfigError::new(&self.at.child("apiVersion"), text));
        }
        self.read()
    }

    /// For a policy without arguments.
    fn refuse(&self) -> Result<(), ConfigError> {
        if self.value.is_none() {
            return Ok(());
        }
        Err(ConfigError::new(&self.at, format_args!("plugin {:?} takes no args", self.plugin)))
    }
}
