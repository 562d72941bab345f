//! GPUs that only pretend, to try devices out on any machine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use longshore_core::runtime::Device;
use tokio::sync::watch;

use super::{Allocation, DevicePlugin, PluginDevice, PluginError};

/// The kind of [`FakeGpus`].
const GPU: &str = "longshore.dev/gpu";
/// What each of them is in truth: a device that is on every machine and harms nobody.
const NULL: &str = "/dev/null";

/// A plug-in for GPUs called `gpu-0`, `gpu-1`, … of kind `longshore.dev/gpu`. In a container that has one, `/dev/fake-gpu0` is a copy
/// of `/dev/null`, and `VISIBLE_DEVICES` names what it has, as `gpu-0,gpu-1`.
#[derive(Debug)]
pub struct FakeGpus {
    devices: watch::Sender<Vec<PluginDevice>>,
}

impl FakeGpus {
    /// So many GPUs, all of them healthy.
    pub fn new(count: usize) -> Self {
        let devices = (0..count).map(|number| PluginDevice { id: format!("gpu-{number}"), healthy: true });
        Self { devices: watch::Sender::new(devices.collect()) }
    }

    /// Breaks a GPU, or mends it.
    pub fn set_healthy(&self, number: usize, healthy: bool) {
        self.devices.send_modify(|devices| {
            if let Some(device) = devices.get_mut(number) {
                device.healthy = healthy;
            }
        });
    }
}

#[async_trait]
impl DevicePlugin for FakeGpus {
    fn resource(&self) -> &str {
        GPU
    }

    fn devices(&self) -> BoxStream<'static, Result<Vec<PluginDevice>, PluginError>> {
        let receiver = self.devices.subscribe();
        let lists = stream::unfold((receiver, true), |(mut receiver, first)| async move {
            if !first {
                receiver.changed().await.ok()?;
            }
            let devices = receiver.borrow_and_update().clone();
            Some((Ok(devices), (receiver, false)))
        });
        lists.boxed()
    }

    async fn allocate(&self, ids: &[String]) -> Result<Allocation, PluginError> {
        let known = self.devices.borrow().clone();
        let mut devices = Vec::new();
        for id in ids {
            let number = known.iter().position(|device| device.id == *id);
            let number = number.ok_or_else(|| PluginError::new(format_args!("there is no GPU {id}")))?;
            let target = format!("/dev/fake-gpu{number}").into();
            devices.push(Device { source: NULL.into(), target, permissions: "rw".to_owned() });
        }
        let env = BTreeMap::from([("VISIBLE_DEVICES".to_owned(), ids.join(","))]);
        Ok(Allocation { env, devices, ..Allocation::default() })
    }
}
