//! The side of a plug-in: serves it to a node's agent, or any kubelet.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use longshore_core::clock::Clock;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::registration::SOCKET;
use super::{DevicePlugin, PluginError, grpc, proto};

/// Time between looks at whether the agent started anew.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a plug-in in a directory of plug-ins, and registers it with the agent there, again whenever the agent started anew,
/// until cancelled.
///
/// # Errors
/// The plug-in's socket cannot be made.
pub async fn serve(
    plugin: Arc<dyn DevicePlugin>,
    directory: &Path,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
) -> io::Result<()> {
    let endpoint = format!("{}.sock", plugin.resource().replace('/', "_"));
    let socket = directory.join(&endpoint);
    while !cancel.is_cancelled() {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        let until = cancel.child_token();
        let register = async {
            let mut known = None;
            // Kubelets remove plug-ins' sockets when they start.
            while socket.exists() {
                let agent = std::fs::metadata(directory.join(SOCKET))
                    .ok()
                    .map(|found| (found.ino(), found.ctime(), found.ctime_nsec()));
                if agent.is_some() && agent != known {
                    match register(&*plugin, directory, &endpoint).await {
                        Ok(()) => known = agent,
                        Err(error) => tracing::warn!(%error, "cannot register, trying again"),
                    }
                }
                clock.sleep(LOOK).await;
            }
            until.cancel();
        };
        let served = grpc::serve(listener, Served(plugin.clone()), &until);
        tokio::join!(until.run_until_cancelled(register), served);
    }
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

async fn register(plugin: &dyn DevicePlugin, directory: &Path, endpoint: &str) -> Result<(), PluginError> {
    let request = proto::Register {
        version: proto::VERSION.to_owned(),
        endpoint: endpoint.to_owned(),
        resource: plugin.resource().to_owned(),
        pre_start: false,
    };
    let called = grpc::call_once(&directory.join(SOCKET), "/v1beta1.Registration/Register", &request.encode()).await;
    called.map(drop)
}

#[derive(Debug, Clone)]
struct Served(Arc<dyn DevicePlugin>);

impl grpc::Handler for Served {
    fn handle(&self, method: String, request: Vec<u8>) -> BoxFuture<'static, Option<grpc::Messages>> {
        let plugin = self.0.clone();
        async move {
            let method = method.strip_prefix("/v1beta1.DevicePlugin/")?;
            let answer = match method {
                // Neither of the options.
                "GetDevicePluginOptions" => Ok(Vec::new()),
                "Allocate" => allocate(&*plugin, &request).await,
                "ListAndWatch" => {
                    let lists = plugin.devices();
                    return Some(lists.map(|list| list.map(|devices| proto::encode_devices(&devices))).boxed());
                }
                _ => return None,
            };
            Some(stream::iter([answer]).boxed())
        }
        .boxed()
    }
}

async fn allocate(plugin: &dyn DevicePlugin, request: &[u8]) -> Result<Vec<u8>, PluginError> {
    let mut allocations = Vec::new();
    for ids in proto::decode_allocate(request)? {
        allocations.push(plugin.allocate(&ids).await?);
    }
    Ok(proto::encode_allocations(&allocations))
}
