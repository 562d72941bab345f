//! Registries with TLS: whom they may send a client to, and what is said when there is none.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// A server's side of TLS, and the file of its CA.
fn tls(directory: &Path) -> (TlsAcceptor, std::path::PathBuf) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, params.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca)
}

/// Pulls from a registry with TLS that answers so.
async fn pull(answers: impl FnMut(&Asked) -> Reply + Send + 'static) -> Result<Image, String> {
    let clock = TestClock::default();
    let directory = tempfile::tempdir().unwrap();
    let (tls, ca) = tls(directory.path());
    let server = Server::start(&clock, Some(tls), answers).await;
    let registry = Registry { ca: Some(ca), plain_http: false };
    let local = Local::knowing(&clock, BTreeMap::from([(server.address.to_string(), registry)]));
    local.pull(&server, &basic()).await
}

#[tokio::test]
async fn nothing_that_a_registry_with_tls_points_to_is_fetched_without() {
    let content = Content::new(&["a"]);
    let honest = content.clone();
    assert!(pull(move |asked| honest.answer(asked)).await.is_ok());

    let clock = TestClock::default();
    let plain = Server::new(&clock, |_| Reply::ok(r#"{"token": "t0ken"}"#)).await;
    let address = plain.address;
    let error = pull(move |asked| {
        if asked.path.contains("/blobs/") {
            return Reply { status: 307, ..Reply::ok("") }.with("Location", format!("http://{address}{}", asked.path));
        }
        content.answer(asked)
    });
    let error = error.await.unwrap_err();
    assert!(error.contains("redirects from https to plain http"), "{error}");

    let error = pull(move |_| {
        let challenge = format!("Bearer realm=\"http://{address}/token\"");
        Reply::error(401, "UNAUTHORIZED", "who are you?").with("WWW-Authenticate", challenge)
    });
    let error = error.await.unwrap_err();
    assert!(error.contains("asks for a token that would be fetched without TLS"), "{error}");
    assert_eq!(plain.paths(), [""; 0]);
}

#[tokio::test]
async fn what_is_to_be_written_into_registries_json_is_told() {
    let clock = TestClock::default();
    let directory = tempfile::tempdir().unwrap();
    let (tls, _) = tls(directory.path());
    let secure = Server::start(&clock, Some(tls), |_| Reply::ok("")).await;
    let plain = Server::new(&clock, |_| Reply::ok("")).await;
    let go = Server::new(&clock, |_| Reply {
        status: 400,
        ..Reply::ok("Client sent an HTTP request to an HTTPS server.\n")
    })
    .await;
    let listed = || Some(Registry::default());
    for (server, registry, expected) in [
        (&secure, listed(), "{\"ca\": \"/path/to/ca.pem\"}} in registries.json"),
        (&secure, None, "{\"plainHttp\": false}} in registries.json"),
        (&go, None, "{\"plainHttp\": false}} in registries.json"),
        (&plain, listed(), "{\"plainHttp\": true}} in registries.json"),
    ] {
        let registries = registry.map(|registry| (server.address.to_string(), registry));
        let local = Local::knowing(&clock, registries.into_iter().collect());
        let error = local.pull(server, &Credentials::Anonymous).await.unwrap_err();
        assert!(error.contains(&format!("{{\"{}\": ", server.address)) && error.contains(expected), "{error}");
    }
}
