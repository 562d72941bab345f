//! Simulated containers that say that they are real and remember what they were made from.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use longshore_core::connection::Connection;
use longshore_core::runtime::{
    Capabilities, Container, ContainerConfig, ContainerRef, Error, Event, ExecRequest, Images, Info, Output, Resources,
    Runtime, Sandbox, SandboxConfig, Session, Usage,
};
use longshore_runtime_simulated::SimulatedRuntime;
use tokio::io::SimplexStream;

#[derive(Debug)]
pub(crate) struct Pretending {
    pub(crate) inner: Arc<SimulatedRuntime>,
    pub(crate) configs: Mutex<Vec<ContainerConfig>>,
    /// What commands run in containers exit with.
    pub(crate) exec_code: AtomicI32,
    pub(crate) commands: Mutex<Vec<Vec<String>>>,
}

impl Pretending {
    pub(crate) fn new(inner: Arc<SimulatedRuntime>) -> Arc<Self> {
        Arc::new(Self { inner, configs: Mutex::default(), exec_code: AtomicI32::new(0), commands: Mutex::default() })
    }
}

#[async_trait]
impl Runtime for Pretending {
    fn info(&self) -> Info {
        let capabilities = Capabilities { streams: true, pull: false, real: true, recursive_read_only: false };
        Info { name: "pretending".into(), version: "1".into(), capabilities }
    }

    fn images(&self) -> &dyn Images {
        self.inner.images()
    }

    async fn list(&self) -> Result<Vec<Sandbox>, Error> {
        self.inner.list().await
    }

    async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, Error> {
        self.inner.sandbox(pod_uid).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        self.inner.events().await
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        self.inner.create_sandbox(config).await
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), Error> {
        self.inner.remove_sandbox(pod_uid).await
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        self.configs.lock().unwrap().push(config.clone());
        self.inner.create_container(config).await
    }

    async fn start_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.inner.start_container(container).await
    }

    async fn stop_container(&self, container: &ContainerRef, grace: Duration) -> Result<(), Error> {
        self.inner.stop_container(container, grace).await
    }

    async fn remove_container(&self, container: &ContainerRef) -> Result<(), Error> {
        self.inner.remove_container(container).await
    }

    async fn exec(&self, _: &ContainerRef, request: &ExecRequest) -> Result<Session, Error> {
        self.commands.lock().unwrap().push(request.command.clone());
        let code = self.exec_code.load(Ordering::SeqCst);
        let said = Output::Stderr("not well".into());
        Ok(Session { input: None, output: stream::iter([Ok(said), Ok(Output::Exit(code))]).boxed() })
    }

    async fn attach(&self, container: &ContainerRef, stdin: bool) -> Result<Session, Error> {
        self.inner.attach(container, stdin).await
    }

    /// On port 80 listens one who sends back what it is sent.
    async fn connect(&self, _: &str, port: u16) -> Result<Box<dyn Connection>, Error> {
        match port {
            80 => Ok(Box::new(SimplexStream::new_unsplit(1 << 10))),
            _ => Err(Error::Failed { operation: "connect".into(), reason: "connection refused".into() }),
        }
    }

    async fn update_container(&self, container: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        self.inner.update_container(container, resources).await
    }

    async fn update_sandbox(&self, pod_uid: &str, resources: &Resources) -> Result<(), Error> {
        self.inner.update_sandbox(pod_uid, resources).await
    }

    async fn usage(&self, container: &ContainerRef) -> Result<Usage, Error> {
        self.inner.usage(container).await
    }
}
