//! Carries one check out: a command in the container, an HTTP request or a connection to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use longshore_core::api::Pod;
use longshore_core::api::pod::{ExecAction, HTTPGetAction, Probe, UriScheme};
use longshore_core::int_or_string::IntOrString;
use longshore_core::runtime::{ContainerRef, Error, ExecRequest, Output, Runtime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{grpc, tls};
use crate::shared::Shared;

/// Bytes of a check's output or answer that are kept for the message.
pub(super) const ANSWER_MAX: usize = 10 << 10;

/// Where a container is reached.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) container: ContainerRef,
    /// The pod's address; `None` while it has none.
    pub(crate) address: Option<IpAddr>,
    /// Named ports of the container.
    pub(crate) ports: BTreeMap<String, u16>,
}

impl Place {
    pub(crate) fn new(pod: &Pod, container: ContainerRef, address: Option<IpAddr>) -> Self {
        let spec = pod.spec.containers.iter().chain(&pod.spec.init_containers).find(|of| of.name == container.name);
        let named = spec.iter().flat_map(|spec| &spec.ports).filter(|port| !port.name.is_empty());
        let ports = named.filter_map(|port| Some((port.name.clone(), u16::try_from(port.container_port).ok()?)));
        Self { ports: ports.collect(), container, address }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        match port {
            IntOrString::Int(number) => u16::try_from(*number)
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| format!("invalid port number: {number}")),
            IntOrString::String(name) => {
                let number = self.ports.get(name).copied().or_else(|| name.parse().ok());
                number.ok_or_else(|| format!("couldn't find port: {name:?} in pod"))
            }
        }
    }

    pub(super) fn host(&self, host: &str) -> Result<String, String> {
        match self.address {
            _ if !host.is_empty() => Ok(host.to_owned()),
            Some(address) => Ok(address.to_string()),
            None => Err("the pod has no address".to_owned()),
        }
    }
}

/// Whether the container is well; if not, why, in upstream's words.
pub(crate) async fn check(shared: Arc<Shared>, place: Place, probe: Probe) -> Result<(), String> {
    if !shared.is_real() {
        // A simulated container is what its behaviour says: as well as it runs.
        return Ok(());
    }
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds).unwrap_or(0).max(1));
    let attempt = async {
        if let Some(exec) = &probe.exec {
            run_command(&*shared.runtime, &place.container, exec).await
        } else if let Some(get) = &probe.http_get {
            http_get(&place, get, true).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let (host, port) = (place.host(&tcp.host)?, place.port(&tcp.port)?);
            connect(&host, port).await.map(drop)
        } else if let Some(action) = &probe.grpc {
            grpc::check(&place, action).await
        } else {
            Err("missing probe handler for container".to_owned())
        }
    };
    tokio::select! {
        biased;
        result = attempt => result,
        () = shared.clock.sleep(timeout) => Err(timed_out(&probe, timeout)),
    }
}

fn timed_out(probe: &Probe, timeout: Duration) -> String {
    if let Some(exec) = &probe.exec {
        format!("command timed out: {:?} timed out after {}s", exec.command.join(" "), timeout.as_secs())
    } else if probe.grpc.is_some() {
        format!("timeout: health rpc did not complete within {}s", timeout.as_secs())
    } else {
        "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()
    }
}

/// Runs a command in a container; code 0 is success.
pub(crate) async fn run_command(
    runtime: &dyn Runtime,
    container: &ContainerRef,
    exec: &ExecAction,
) -> Result<(), String> {
    let request = ExecRequest { command: exec.command.clone(), stdin: false, tty: false };
    let mut session = match runtime.exec(container, &request).await {
        Ok(session) => session,
        // What the runtime cannot do says nothing about the container.
        Err(Error::Unsupported { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let mut said = Vec::new();
    while let Some(output) = session.output.next().await {
        match output.map_err(|error| error.to_string())? {
            Output::Stdout(bytes) | Output::Stderr(bytes) => {
                let room = ANSWER_MAX.saturating_sub(said.len());
                said.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Output::Exit(0) => return Ok(()),
            Output::Exit(code) if said.is_empty() => return Err(format!("command exited with code {code}")),
            Output::Exit(_) => return Err(String::from_utf8_lossy(&said).into_owned()),
        }
    }
    Err("the command's end was not seen".to_owned())
}

pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let failed = |error: std::io::Error| format!("dial tcp {}: connect: {}", join(host, port), reason(&error));
    match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect(SocketAddr::new(address, port)).await.map_err(failed),
        Err(_) => TcpStream::connect((host, port)).await.map_err(failed),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Asks an HTTP server. A hook (`is_probe` false) does not mind the answer's code.
pub(crate) async fn http_get(place: &Place, get: &HTTPGetAction, is_probe: bool) -> Result<(), String> {
    let (host, port) = (place.host(&get.host)?, place.port(&get.port)?);
    let secure = get.scheme == UriScheme::Https;
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let scheme = if secure { "https" } else { "http" };
    let url = format!("{scheme}://{}{path}", join(&host, port));
    let failed = |what: &dyn std::fmt::Display| format!("Get \"{url}\": {what}");
    let stream = connect(&host, port).await.map_err(|error| failed(&error))?;
    let request = request(&path, &join(&host, port), get).map_err(|error| failed(&error))?;
    let status = if secure {
        let stream = tls::connect_unverified(stream, &host).await.map_err(|error| failed(&error))?;
        send(stream, request).await
    } else {
        send(stream, request).await
    };
    let status = status.map_err(|error| failed(&error))?;
    // Redirects count as success without being followed: the server is alive enough to redirect.
    if !is_probe || (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {status}"))
    }
}

fn request(
    path: &str,
    authority: &str,
    get: &HTTPGetAction,
) -> Result<http::Request<Empty<bytes::Bytes>>, http::Error> {
    let mut request = http::Request::get(path);
    let given = |name: &str| get.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    if !given("host") {
        request = request.header("Host", authority);
    }
    if !given("user-agent") {
        request = request.header("User-Agent", "kube-probe/1.35");
    }
    if !given("accept") {
        request = request.header("Accept", "*/*");
    }
    for header in &get.http_headers {
        request = request.header(&header.name, &header.value);
    }
    request.header("Connection", "close").body(Empty::new())
}

async fn send<S>(stream: S, request: http::Request<Empty<bytes::Bytes>>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        // The answer is read so that the server does not see a broken connection, but not for ever.
        let _ = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        drop(sender);
        Ok(status)
    };
    // The connection is driven here: no task of its own.
    let (status, _) = futures::future::join(exchange, connection).await;
    status
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
