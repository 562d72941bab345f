//! `longshore device-plugin`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use longshore_cluster::{Error, Offer, amounts, fake_gpus};
use longshore_core::api::ResourceList;

use crate::{Place, signals};

/// What a node offers.
#[derive(Debug, Args)]
pub(crate) struct OfferOptions {
    /// Resources that the node offers beside what its machine tells, as example.com/foo=3; may be given several times
    #[arg(long = "extended-resource", value_name = "NAME=AMOUNT,…", value_parser = amounts)]
    resources: Vec<ResourceList>,
    /// What of its resources pods may not use, as cpu=500m,memory=1Gi
    #[arg(long, value_name = "NAME=AMOUNT,…", value_parser = amounts)]
    reserved: Vec<ResourceList>,
    /// A kind of device of which pods may ask for thousandths, as longshore.dev/gpu; may be given several times
    #[arg(long = "share-device", value_name = "RESOURCE")]
    shared: Vec<String>,
    /// Where device plug-ins register [default: node/device-plugins in the data directory; Kubernetes' is /var/lib/kubelet/device-plugins]
    #[arg(long, value_name = "DIR")]
    device_plugin_dir: Option<PathBuf>,
}

impl OfferOptions {
    pub(crate) fn offer(&self) -> Offer {
        let all = |lists: &[ResourceList]| {
            lists.iter().flatten().map(|(name, amount)| (name.clone(), amount.clone())).collect()
        };
        Offer {
            resources: all(&self.resources),
            reserved: all(&self.reserved),
            shared_devices: self.shared.iter().cloned().collect(),
            device_plugin_dir: self.device_plugin_dir.clone(),
        }
    }
}

/// Subcommands of `device-plugin`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// GPUs that only pretend: longshore.dev/gpu, a copy of /dev/null each
    FakeGpu {
        #[command(flatten)]
        place: Place,
        /// How many
        #[arg(long, default_value_t = 4)]
        count: usize,
        /// Where to register [default: where the node of the data directory has it]
        #[arg(long, value_name = "DIR")]
        device_plugin_dir: Option<PathBuf>,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<ExitCode, Error> {
    let Command::FakeGpu { place, count, device_plugin_dir } = command;
    let run = async |cancel| fake_gpus(count, device_plugin_dir, &place.directory(), cancel).await;
    signals::until_asked(run).await.map(|()| ExitCode::SUCCESS)
}
