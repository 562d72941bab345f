//! A plug-in in a process of its own, behind its socket.

use std::path::PathBuf;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use super::{Allocation, DevicePlugin, PluginDevice, PluginError, grpc, proto};

/// A plug-in that registered.
#[derive(Debug)]
pub(crate) struct RemotePlugin {
    pub(crate) resource: String,
    pub(crate) socket: PathBuf,
    /// Whether it wants to hear of each container before it starts.
    pub(crate) pre_start: bool,
}

#[async_trait]
impl DevicePlugin for RemotePlugin {
    fn resource(&self) -> &str {
        &self.resource
    }

    fn devices(&self) -> BoxStream<'static, Result<Vec<PluginDevice>, PluginError>> {
        let socket = self.socket.clone();
        let call = async move { grpc::call(&socket, "/v1beta1.DevicePlugin/ListAndWatch", &[]).await };
        let lists = stream::once(call).flat_map(|called| match called {
            Ok(messages) => messages.map(|message| proto::decode_devices(&message?)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        lists.boxed()
    }

    async fn allocate(&self, ids: &[String]) -> Result<Allocation, PluginError> {
        let request = proto::encode_allocate(ids);
        let answer = grpc::call_once(&self.socket, "/v1beta1.DevicePlugin/Allocate", &request).await?;
        let allocation = proto::decode_allocation(&answer)?;
        if self.pre_start {
            let request = proto::encode_ids(ids);
            grpc::call_once(&self.socket, "/v1beta1.DevicePlugin/PreStartContainer", &request).await?;
        }
        Ok(allocation)
    }
}
