use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::TlsConnector;

use super::*;
use crate::testing::World;

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self) -> Identity {
        let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

/// Asks for `/healthz` as somebody; the answer's code or what went wrong.
async fn ask(address: SocketAddr, authority: &Authority, identity: Option<Identity>) -> Result<u16, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| text(&error))?;
    let name = ServerName::try_from("node").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| text(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| text(&error))?;
    let exchange = async {
        let request =
            hyper::Request::get("/healthz").header("Host", "node").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let code = answer.status().as_u16();
        let _ = answer.into_body().collect().await;
        drop(sender);
        Ok(code)
    };
    futures::future::join(exchange, connection).await.0
}

#[tokio::test]
async fn only_those_whom_the_authority_knows_are_served() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (chain, key) = authority.issue();
    let tls = server_config(chain, key, authority.certificate.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cancel, service) = (CancellationToken::new(), World::new().agent().service());
    let server = serve(listener, Arc::new(tls), service, cancel.clone());
    let clients = async {
        assert_eq!(ask(address, &authority, Some(authority.issue())).await, Ok(200));
        assert!(ask(address, &authority, None).await.is_err(), "without a certificate");
        assert!(ask(address, &authority, Some(stranger.issue())).await.is_err(), "with somebody else's");
        cancel.cancel();
    };
    tokio::join!(server, clients);
}
