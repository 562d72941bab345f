//! Where plug-ins register: the agent's socket in the directory of plug-ins.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::remote::RemotePlugin;
use super::{DevicePlugin, PluginError, grpc, proto};

/// The agent's socket, under the name that plug-ins look for.
pub(crate) const SOCKET: &str = "kubelet.sock";

/// Where the plug-ins that registered go.
type Registered = mpsc::Sender<Arc<dyn DevicePlugin>>;

/// Takes registrations until cancelled. Without a socket there are no plug-ins, and the node does without.
pub(crate) async fn run(directory: &Path, registered: Registered, cancel: &CancellationToken) {
    let socket = directory.join(SOCKET);
    let bind = || {
        std::fs::create_dir_all(directory)?;
        // What an earlier agent left. Plug-ins watch for a new one, and register again.
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(&socket)
    };
    match bind() {
        Ok(listener) => grpc::serve(listener, Registrar { directory: directory.into(), registered }, cancel).await,
        Err(error) => {
            tracing::warn!(socket = %socket.display(), %error, "device plug-ins cannot register");
        }
    }
}

#[derive(Debug, Clone)]
struct Registrar {
    directory: Arc<Path>,
    registered: Registered,
}

impl grpc::Handler for Registrar {
    fn handle(&self, method: String, request: Vec<u8>) -> BoxFuture<'static, Option<grpc::Messages>> {
        let this = self.clone();
        async move {
            if method != "/v1beta1.Registration/Register" {
                return None;
            }
            // The answer is `Empty`.
            let answer = this.register(&request).await.map(|()| Vec::new());
            Some(stream::iter([answer]).boxed())
        }
        .boxed()
    }
}

impl Registrar {
    async fn register(&self, request: &[u8]) -> Result<(), PluginError> {
        let proto::Register { version, endpoint, resource, pre_start } = proto::Register::decode(request)?;
        if version != proto::VERSION {
            return Err(PluginError::new(format_args!(
                "requested API version {version:?} is not supported by kubelet. Supported version is {:?}",
                proto::VERSION
            )));
        }
        if endpoint.is_empty() || Path::new(&endpoint).file_name().is_none_or(|name| name != endpoint.as_str()) {
            return Err(PluginError::new("the endpoint is no name of a file in the directory of plug-ins"));
        }
        super::manager::check_name(&resource)
            .map_err(|why| PluginError::new(format_args!("the ResourceName {resource:?} is invalid: {why}")))?;
        tracing::info!(resource, endpoint, "a device plug-in registered");
        let plugin = RemotePlugin { resource, socket: self.directory.join(endpoint), pre_start };
        let sent = self.registered.send(Arc::new(plugin)).await;
        sent.map_err(|_| PluginError::new("the agent is stopping"))
    }
}
