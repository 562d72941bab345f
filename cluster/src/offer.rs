//! What a node offers beyond what its machine tells: options of whoever starts a node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::api::ResourceList;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::quantity::Quantity;
use longshore_node::Options as NodeOptions;
use longshore_node::devices::{FakeGpus, serve};
use tokio_util::sync::CancellationToken;

use crate::local::failed;
use crate::{DataDir, Error};

/// What a node offers beyond what its machine tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Resources that the machine does not tell of, or tells wrongly.
    pub resources: ResourceList,
    /// What of the node's resources pods may not use.
    pub reserved: ResourceList,
    /// Kinds of devices of which pods may ask for parts.
    pub shared_devices: BTreeSet<String>,
    /// Where device plug-ins register; `None` for `node/device-plugins` in the data directory, of nodes with real pods.
    pub device_plugin_dir: Option<PathBuf>,
}

impl Offer {
    pub(crate) fn apply(&self, options: &mut NodeOptions) {
        options.capacity.extend(self.resources.clone());
        options.reserved.extend(self.reserved.clone());
        options.shared_devices.extend(self.shared_devices.iter().cloned());
        options.device_plugin_dir.clone_from(&self.device_plugin_dir);
    }
}

/// Reads amounts of resources as options have them: `cpu=500m,memory=1Gi`.
///
/// # Errors
/// Which part is none.
pub fn amounts(text: &str) -> Result<ResourceList, String> {
    let amount = |part: &str| {
        let (name, amount) = part.split_once('=').ok_or_else(|| format!("{part:?} is not NAME=AMOUNT"))?;
        let amount: Quantity = amount.parse().map_err(|error| format!("{part:?}: {error}"))?;
        match amount.sign() {
            ..0 => Err(format!("{part:?}: less than nothing")),
            _ => Ok((name.to_owned(), amount)),
        }
    };
    text.split(',').map(amount).collect()
}

/// Where the plug-ins of a data directory's node register.
pub(crate) fn plugin_directory(node: &Path) -> PathBuf {
    node.join("device-plugins")
}

/// Serves a plug-in for GPUs that only pretend, until cancelled, in a directory of plug-ins, or where the node of a data directory
/// has its own.
///
/// # Errors
/// [`Error::Part`] if its socket cannot be made there.
pub async fn fake_gpus(
    count: usize,
    plugins: Option<PathBuf>,
    data_dir: &DataDir,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let directory = plugins.unwrap_or_else(|| plugin_directory(&data_dir.join("node")));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let served = serve(Arc::new(FakeGpus::new(count)), &directory, clock, cancel).await;
    served.map_err(|error| failed("device plug-in")(format!("cannot serve in {}: {error}", directory.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_options_have_them() {
        let read = amounts("cpu=500m,memory=1Gi,example.com/foo=3").unwrap();
        let told: Vec<String> = read.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        assert_eq!(told, ["cpu=500m", "example.com/foo=3", "memory=1Gi"]);
        assert_eq!(amounts("cpu").unwrap_err(), "\"cpu\" is not NAME=AMOUNT");
        assert!(amounts("cpu=much").unwrap_err().starts_with("\"cpu=much\": "));
        assert!(amounts("cpu=-1").is_err() && amounts("").is_err());
    }
}
