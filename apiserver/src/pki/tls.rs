//! From PEM text to rustls.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::Clock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::{Authority, Certified, Error, ServerNames};

/// The first certificate of a PEM text.
pub(super) fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(tls)
}

fn tls(error: impl fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// Whether a certificate says that this authority signed it.
pub(super) fn is_issued_by(certificate: &X509Certificate<'_>, authority: &X509Certificate<'_>) -> bool {
    let signer = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref().map(|key| key.0),
        _ => None,
    });
    let own = authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
        _ => None,
    });
    signer.is_some() && signer == own
}

/// Whether a certificate has all of these names.
pub(super) fn covers(certificate: &X509Certificate<'_>, names: &ServerNames) -> bool {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let present = alternatives.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let has_address = |address: &IpAddr| {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        present.iter().any(|name| matches!(name, GeneralName::IPAddress(bytes) if *bytes == octets))
    };
    let has_dns = |dns: &String| present.iter().any(|name| matches!(name, GeneralName::DNSName(name) if name == dns));
    names.addresses.iter().all(has_address) && names.dns.iter().all(has_dns)
}

/// rustls reads the time from the injected clock.
#[derive(Debug)]
struct Time(Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl Authority {
    /// How a server shows `certified`. Clients may show a certificate of this authority, or none; with any other the
    /// connection is refused.
    ///
    /// # Errors
    /// A certificate or key that cannot be used.
    pub fn server_tls(&self, certified: &Certified) -> Result<Arc<ServerConfig>, Error> {
        server_tls(&self.certificate, certified, Arc::clone(&self.clock))
    }

    /// How a client of this cluster's servers shows `certified`, if it has one.
    ///
    /// # Errors
    /// A certificate or key that cannot be used.
    pub fn client_tls(&self, certified: Option<&Certified>) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Time(Arc::clone(&self.clock))))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots(&self.certificate)?);
        let config = match certified {
            Some(certified) => {
                let (chain, key) = parts(certified)?;
                builder.with_client_auth_cert(chain, key).map_err(tls)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

/// How a part serves under `name` with the certificate of its kubeconfig, which names `authority` (PEM) as well. Clients may show
/// a certificate of that authority, or none.
///
/// # Errors
/// [`Error::OtherName`], or a certificate or key that cannot be used.
pub fn part_tls(
    authority: &str,
    certified: &Certified,
    name: &str,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Error> {
    let names = ServerNames { dns: vec![name.to_owned()], ..ServerNames::default() };
    let der = certificate(&certified.certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(tls)?;
    if !covers(&parsed, &names) {
        return Err(Error::OtherName { name: name.to_owned() });
    }
    server_tls(authority, certified, clock)
}

fn roots(authority: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority)?).map_err(tls)?;
    Ok(Arc::new(roots))
}

fn server_tls(authority: &str, certified: &Certified, clock: Arc<dyn Clock>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots(authority)?, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(tls)?;
    let (chain, key) = parts(certified)?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn parts(certified: &Certified) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).map_err(tls)?;
    Ok((vec![certificate(&certified.certificate)?], key))
}
