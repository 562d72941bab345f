//! Serves the agent's service over TLS to those whose certificate an authority signed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client_authority)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(format!("cannot verify clients by this authority: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until cancelled, then breaks off what is still open. `tls` must demand client certificates, as
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
                let (acceptor, service) = (acceptor.clone(), service.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, acceptor, service).await {
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
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, service: NodeService) -> io::Result<()> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))??;
    let service = service.map_request(|request: hyper::Request<Incoming>| request.map(Body::new));
    Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
        .map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
