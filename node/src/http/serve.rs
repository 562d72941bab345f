//! Serves the agent's service over TLS to those whose certificate an authority signed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use longshore_core::connection::Takeover;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::NodeService;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// Time for a client to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Wait after the kernel had no connection to give, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Time for connections to end when the service does.
const GOODBYES: Duration = Duration::from_secs(1);

/// A configuration for [`serve`]: the node's certificate chain and key, and the authority that signs the certificates
/// of those who may call.
///
/// # Errors
/// A certificate or key that rustls cannot use.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_authority: CertificateDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let key = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?;
    server_config_of(Arc::new(SingleCertAndKey::from(key)), client_authority)
}

/// The same for a node whose certificate may change while it serves.
///
/// # Errors
/// An authority that rustls cannot use.
pub fn server_config_of(
    certificates: Arc<dyn ResolvesServerCert>,
    client_authority: CertificateDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client_authority)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(format!("cannot verify clients by this authority: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until cancelled. Then WebSockets get a moment to say goodbye, and what is still open is broken off. `tls` must demand client certificates, as
/// [`server_config`] makes it.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, service: NodeService, cancel: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = connections.join_next() => {}
            }
        }
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, service, stopping) = (acceptor.clone(), service.clone(), cancel.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, acceptor, service, stopping).await {
                        tracing::debug!(%error, "a connection to the node ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let goodbyes = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYES, goodbyes).await;
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: NodeService,
    stopping: CancellationToken,
) -> io::Result<()> {
    // Who types wants to see it.
    let _ = stream.set_nodelay(true);
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))??;
    let taken_over = Arc::new(Mutex::new(None));
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        let (service, taken_over) = (service.clone(), Arc::clone(&taken_over));
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            let answer = service.oneshot(request.map(Body::new)).await;
            if let Some(takeover) = answer.as_ref().ok().and_then(|answer| answer.extensions().get::<Takeover>()) {
                *taken_over.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, takeover.clone()));
            }
            answer
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    match stopping.run_until_cancelled(served).await {
        None => return Ok(()),
        Some(ended) => ended.map_err(|error| io::Error::other(error.to_string()))?,
    }
    let taken_over = taken_over.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((upgrade, takeover)) = taken_over {
        let connection = upgrade.await.map_err(io::Error::other)?;
        takeover.run(Box::new(TokioIo::new(connection)), stopping).await;
    }
    Ok(())
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
