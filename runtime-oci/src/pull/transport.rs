//! One HTTP request to a registry, over TLS or not: every wait has an end, and a login stays with the host it is for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use longshore_core::clock::Clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::failure::{Failure, tame};

/// How long a registry may take to answer, or to send [`WINDOW`] bytes.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Fewer bytes than this in [`STALL`] are as good as none.
const WINDOW: usize = 64 << 10;
/// Docker Hub, as images name it.
pub(crate) const HUB: &str = "docker.io";
/// Where Docker Hub's registry is.
pub(crate) const HUB_SERVER: &str = "registry-1.docker.io";
const REDIRECTS_MAX: usize = 5;

/// How to reach a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// A file of certificates (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Whether it speaks HTTP without TLS.
    pub plain_http: bool,
}

/// Connects to registries.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) clock: Arc<dyn Clock>,
    /// By host, with the port where a name of an image has one.
    pub(crate) registries: BTreeMap<String, Registry>,
    system: Arc<OnceLock<RootCertStore>>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Get<'a> {
    pub(crate) accept: &'a str,
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// The first byte that is wanted.
    pub(crate) from: u64,
    /// What is sent, as a form; it holds secrets, and so goes nowhere but where it is sent.
    pub(crate) form: Option<&'a str>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Whether another host than the one asked gave it.
    pub(crate) elsewhere: bool,
}

/// The rest of an answer. Dropping it closes the connection.
pub(crate) struct Body {
    incoming: Incoming,
    clock: Arc<dyn Clock>,
    host: String,
    window: BoxFuture<'static, ()>,
    in_window: usize,
    _connection: JoinSet<()>,
}

impl Body {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut self.window => return Err(stalled(&self.host)),
                frame = self.incoming.frame() => frame,
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| broken(&self.host, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            self.in_window += data.len();
            if self.in_window >= WINDOW {
                self.in_window = 0;
                self.window = pause(&self.clock, STALL);
            }
            return Ok(Some(data));
        }
    }

    /// All of it, if it is no longer than this.
    pub(crate) async fn all(mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(data) = self.next().await? {
            if bytes.len() + data.len() > most {
                return Err(Failure::Final(format!("{} sends more than the {most} bytes it may", self.host)));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

fn pause(clock: &Arc<dyn Clock>, duration: Duration) -> BoxFuture<'static, ()> {
    let clock = clock.clone();
    Box::pin(async move { clock.sleep(duration).await })
}

fn stalled(host: &str) -> Failure {
    Failure::Broken(format!("{host} sent nothing, or next to nothing, for {} seconds", STALL.as_secs()))
}

fn broken(host: &str, error: &hyper::Error) -> Failure {
    Failure::Broken(format!("the connection to {host} broke: {}", whole(error)))
}

/// An error with what it came from.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    tame(&text)
}

/// Where a URL points to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(uri: &Uri) -> Result<Self, Failure> {
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(Failure::Final("a registry points to something that is neither http nor https".into())),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| Failure::Final("a registry points to a URL without a host".into()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Transport {
    pub(crate) fn new(clock: Arc<dyn Clock>, registries: BTreeMap<String, Registry>) -> Self {
        Self { clock, registries, system: Arc::default() }
    }

    /// The scheme of a registry. Nobody listens in on the loopback device, so TLS is not expected there unless asked for.
    pub(crate) fn scheme(&self, registry: &str) -> &'static str {
        let plain = self.registries.get(registry).map_or_else(|| is_loopback(registry), |known| known.plain_http);
        if plain { "http" } else { "https" }
    }

    /// Asks, and follows where the answer points to.
    pub(crate) async fn get(&self, uri: &Uri, get: Get<'_>) -> Result<Answer, Failure> {
        let first = Origin::of(uri)?;
        let (mut uri, mut origin, mut elsewhere) = (uri.clone(), first.clone(), false);
        for _ in 0..=REDIRECTS_MAX {
            // Once it has left its host, a login does not come back to it either.
            elsewhere |= origin != first;
            let get = Get { authorization: get.authorization.filter(|_| !elsewhere), ..get };
            let mut answer = self.once(&origin, &uri, get).await?;
            answer.elsewhere = elsewhere;
            let moved = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let moved = moved && get.form.is_none();
            let Some(location) = answer.headers.get(LOCATION).filter(|_| moved) else { return Ok(answer) };
            let bad = || Failure::Final(format!("{} redirects to something that is no URL", origin.host));
            uri = resolve(&uri, location.to_str().map_err(|_| bad())?).ok_or_else(bad)?;
            let next = Origin::of(&uri)?;
            if origin.tls && !next.tls {
                let reason = format!("{} redirects from https to plain http ({})", origin.host, next.host);
                return Err(Failure::Final(reason));
            }
            origin = next;
        }
        Err(Failure::Final(format!("{} redirects more than {REDIRECTS_MAX} times", first.host)))
    }

    async fn once(&self, origin: &Origin, uri: &Uri, get: Get<'_>) -> Result<Answer, Failure> {
        let name = authority(uri);
        let exchange = async {
            let stream = self.connect(origin, &name).await?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| broken(&name, &error))?;
            let mut driver = JoinSet::new();
            driver.spawn(async move { drop(connection.await) });
            let request = request(uri, &name, get).map_err(|error| Failure::Final(error.to_string()))?;
            let answer = sender.send_request(request).await.map_err(|error| {
                // Servers of TLS answer plain text with an alert.
                if error.is_parse() && !origin.tls { wants_tls(&name) } else { broken(&name, &error) }
            })?;
            Ok::<_, Failure>((answer, driver))
        };
        let (answer, driver) = tokio::select! {
            biased;
            () = self.clock.sleep(STALL) => return Err(stalled(&name)),
            done = exchange => done?,
        };
        let (parts, incoming) = answer.into_parts();
        let window = pause(&self.clock, STALL);
        let clock = self.clock.clone();
        let body = Body { incoming, clock, host: name.clone(), window, in_window: 0, _connection: driver };
        Ok(Answer { status: parts.status, headers: parts.headers, body, elsewhere: false })
    }

    async fn connect(&self, origin: &Origin, name: &str) -> Result<Pin<Box<dyn Stream>>, Failure> {
        let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
        let found: Vec<_> = match found {
            Ok(found) => found.collect(),
            Err(error) => return Err(Failure::Broken(format!("there is no such host as {}: {error}", origin.host))),
        };
        let stream = TcpStream::connect(found.as_slice()).await;
        let stream = stream.map_err(|error| Failure::Broken(format!("cannot connect to {name}: {error}")))?;
        if !origin.tls {
            return Ok(Box::pin(stream));
        }
        let registry = if name == HUB_SERVER { HUB } else { name };
        let ca = self.registries.get(registry).and_then(|known| known.ca.clone());
        let system = self.system.clone();
        let config = tokio::task::spawn_blocking(move || config(&system, ca)).await;
        let config = config.map_err(|error| Failure::Broken(error.to_string()))??;
        let server = ServerName::try_from(origin.host.clone());
        let server = server.map_err(|_| Failure::Final(format!("{} is no name of a TLS server", origin.host)))?;
        match TlsConnector::from(Arc::new(config)).connect(server, stream).await {
            Ok(stream) => Ok(Box::pin(stream)),
            Err(error) => Err(untrusted(name, &error)),
        }
    }
}

/// Why there is no TLS with a server.
fn untrusted(name: &str, error: &std::io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let set = |setting: &str| format!("{{\"{name}\": {{{setting}}}}} in registries.json");
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => Failure::Final(format!(
            "the certificate of {name} is not trusted ({}): the file of its CA is named as {}",
            tame(&format!("{reason:?}")),
            set("\"ca\": \"/path/to/ca.pem\"")
        )),
        Some(rustls::Error::InvalidMessage(_)) => Failure::Final(format!(
            "{name} does not speak TLS: if it shall be reached without, say {}",
            set("\"plainHttp\": true")
        )),
        _ => Failure::Broken(format!("no TLS with {name}: {}", whole(error))),
    }
}

/// A server was asked without TLS that does not like it.
pub(crate) fn wants_tls(name: &str) -> Failure {
    Failure::Final(format!(
        "{name} was asked without TLS and seems to speak it: say {{\"{name}\": {{\"plainHttp\": false}}}} in registries.json"
    ))
}

fn config(system: &OnceLock<RootCertStore>, ca: Option<PathBuf>) -> Result<ClientConfig, Failure> {
    let mut roots = system
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        })
        .clone();
    if let Some(path) = ca {
        let wrong = |error: &dyn std::fmt::Display| Failure::Final(format!("CA file {}: {error}", path.display()));
        let mut pem = Vec::new();
        File::open(&path)
            .and_then(|file| BufReader::new(file).take(1 << 20).read_to_end(&mut pem))
            .map_err(|error| wrong(&error))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.len() == before {
            return Err(wrong(&"it holds no certificate in PEM"));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Final(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn request(uri: &Uri, host: &str, get: Get<'_>) -> http::Result<http::Request<Full<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let method = if get.form.is_some() { http::Method::POST } else { http::Method::GET };
    let request = http::Request::builder().method(method).uri(path);
    let mut request = request.header(HOST, host).header(USER_AGENT, "longshore");
    if get.form.is_some() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if !get.accept.is_empty() {
        request = request.header(ACCEPT, get.accept);
    }
    if let Some(login) = get.authorization {
        request = request.header(AUTHORIZATION, login);
    }
    if get.from > 0 {
        request = request.header(RANGE, format!("bytes={}-", get.from));
    }
    request.body(Full::new(Bytes::copy_from_slice(get.form.unwrap_or_default().as_bytes())))
}

/// Host and port of a URL, without a user that may be in it.
fn authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Where a `Location` points to.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with("//") {
        return format!("{}:{location}", base.scheme_str()?).parse().ok();
    }
    if location.starts_with('/') {
        return format!("{}://{}{location}", base.scheme_str()?, base.authority()?).parse().ok();
    }
    location.parse().ok()
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
