//! The cluster's own certificates: an authority in a directory, what it signs, and kubeconfigs that carry it.
//!
//! ```
//! use std::sync::Arc;
//! use longshore_apiserver::pki::{Authority, ServerNames, kubeconfig};
//! use longshore_core::clock::SystemClock;
//!
//! let authority = Authority::generate(Arc::new(SystemClock::new()))?;
//! let server = authority.issue_server("kube-apiserver", &ServerNames::apiserver([]))?;
//! let tls = authority.server_tls(&server)?;
//! let admin = authority.issue_client("kubernetes-admin", &["system:masters"])?;
//! println!("{}", kubeconfig("longshore", "https://127.0.0.1:6443", &authority, &admin));
//! # let _ = tls;
//! # Ok::<_, longshore_apiserver::pki::Error>(())
//! ```

mod files;
mod kubeconfig;
pub mod request;
#[cfg(test)]
mod tests;
mod tls;
mod token_key;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

pub use kubeconfig::{Credentials, kubeconfig, kubeconfig_of};
pub use request::public_key_hash;
pub use tls::part_tls;
pub use token_key::{export_token_key, install_token_key, open_token_key};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the authority is valid.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long what it signs is valid.
pub const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long before its end a stored certificate is issued anew.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);

/// Clocks of other machines may be behind by this much.
const SKEW: Duration = Duration::from_secs(3600);

/// Names of the API server that every pod and kubectl may use.
const APISERVER_NAMES: [&str; 5] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {operation} {path}: {source}; make sure that this user may write to the directory")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error(
        "{path} cannot be used: {reason}; put back the right file, or remove both ca.crt and ca.key for a new authority \
         (every certificate and kubeconfig of the cluster must then be issued anew)"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key of tokens is another than it should be, or none.
    #[error(
        "{path} cannot be used: {reason}; put back the right file, or remove it on all control planes for a new key, which makes void \
         every token that was given out"
    )]
    TokenKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot issue a certificate for {subject:?}: {reason}")]
    Issue {
        /// Whom it was for.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate that does not let its owner serve by this name.
    #[error("it is no certificate for a server of the name {name:?}")]
    OtherName {
        /// The name that it would need.
        name: String,
    },
    /// Certificates that rustls does not take.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// A certificate and its private key, both as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The names by which a server may be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerNames {
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// DNS names.
    pub dns: Vec<String>,
}

impl ServerNames {
    /// The names of an API server: those of the Service `kubernetes`, this machine's loopback, and `addresses` (those
    /// that it listens on, and the Service's ClusterIP).
    pub fn apiserver(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        let mut all: Vec<IpAddr> = loopback.into_iter().chain(addresses).collect();
        all.sort_unstable();
        all.dedup();
        // The unspecified address stands for all of the machine's and is none that a client could call.
        all.retain(|address| !address.is_unspecified());
        Self { addresses: all, dns: APISERVER_NAMES.map(str::to_owned).to_vec() }
    }

    /// The names of a node: its name and addresses.
    pub fn node(name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { addresses: addresses.into_iter().collect(), dns: vec![name.to_owned()] }
    }
}

/// The cluster's certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority in memory only.
    ///
    /// # Errors
    /// The system has no randomness to make a key from.
    pub fn generate(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let key = new_key("the cluster's authority")?;
        let certificate = authority_certificate(&key, &*clock)?;
        Self::from_parts(certificate, key, clock, Path::new("ca.crt"))
    }

    /// The authority in a directory (`ca.crt`, `ca.key`), made there if there is none yet. Several processes may do
    /// this at once: all end up with the same one.
    ///
    /// # Errors
    /// The files cannot be read or written, do not belong together, or the certificate has run out.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        files::make_directory(directory)?;
        let (certificate_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        let certificate = files::read(&certificate_path)?;
        let key = match files::read(&key_path)? {
            Some(key) => key,
            None if certificate.is_some() => {
                let reason = format!("it has no private key beside it ({} is missing)", key_path.display());
                return Err(Error::Unusable { path: certificate_path, reason });
            }
            None => files::create(&key_path, &new_key("the cluster's authority")?.serialize_pem())?,
        };
        let key = KeyPair::from_pem(&key).map_err(|error| Error::Unusable {
            path: key_path,
            reason: format!("it holds no private key ({error})"),
        })?;
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => files::create(&certificate_path, &authority_certificate(&key, &*clock)?)?,
        };
        Self::from_parts(certificate, key, clock, &certificate_path)
    }

    /// Puts an authority into a directory where there is none: that of a cluster of which this machine is to be part.
    ///
    /// # Errors
    /// The files cannot be written, or there is another authority.
    pub fn install(directory: &Path, authority: &Certified) -> Result<(), Error> {
        files::make_directory(directory)?;
        // The key first, as `open` does: an authority without its key would be of no use to anybody.
        for (name, text) in [("ca.key", &authority.key), ("ca.crt", &authority.certificate)] {
            let path = directory.join(name);
            if files::create(&path, text)? != *text {
                return Err(Error::Unusable { path, reason: "it is another cluster's".to_owned() });
            }
        }
        Ok(())
    }

    /// The authority in a directory as [`Authority::install`] takes it; `None` if there is none.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn export(directory: &Path) -> Result<Option<Certified>, Error> {
        let (certificate, key) = (files::read(&directory.join("ca.crt"))?, files::read(&directory.join("ca.key"))?);
        Ok(certificate.zip(key).map(|(certificate, key)| Certified { certificate, key }))
    }

    fn from_parts(certificate: String, key: KeyPair, clock: Arc<dyn Clock>, path: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { path: path.to_owned(), reason };
        let der = tls::certificate(&certificate).map_err(|error| unusable(error.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| unusable(format!("it holds no certificate ({error})")))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(unusable("its private key (ca.key) is another's".to_owned()));
        }
        if parsed.validity().not_after.timestamp() <= clock.now().as_second() {
            return Err(unusable(format!("it ran out at {}", parsed.validity().not_after)));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { certificate, issuer, clock })
    }

    /// The authority's certificate as PEM text.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server that is called by these names.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn issue_server(&self, name: &str, names: &ServerNames) -> Result<Certified, Error> {
        let mut params = params(name, &[])?;
        params.subject_alt_names = alternatives(name, names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, params)
    }

    /// A certificate by which a client is known to the API server as `user`, a member of `groups`.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate, or more than two groups.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<Certified, Error> {
        let mut params = params(user, groups)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(user, params)
    }

    /// A certificate for a node's agent: the API server knows the agent by it as `system:node:<name>`, and it serves
    /// with it under the node's name and addresses.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn issue_node(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Certified, Error> {
        self.issue_part(&format!("system:node:{name}"), &["system:nodes"], &ServerNames::node(name, addresses))
    }

    /// A certificate for a part that has two faces: the API server knows it as `user`, and others call it by these names.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn issue_part(&self, user: &str, groups: &[&str], names: &ServerNames) -> Result<Certified, Error> {
        let mut params = params(user, groups)?;
        params.subject_alt_names = alternatives(user, names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(user, params)
    }

    fn issue(&self, subject: &str, mut params: CertificateParams) -> Result<Certified, Error> {
        let now = Duration::from_secs(u64::try_from(self.clock.now().as_second()).unwrap_or(0));
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(SKEW);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + LIFE;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = new_key(subject)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| issue_error(subject, &error))?;
        Ok(Certified { certificate: signed.pem(), key: key.serialize_pem() })
    }

    /// The certificate in `<directory>/<file>.crt` and `.key`, or a new one that `issue` makes and that is kept there:
    /// when there is none, when it is not this authority's, when it ends within 30 days, or when `names` has one that it
    /// lacks.
    ///
    /// # Errors
    /// The files cannot be read or written, or what `issue` says.
    pub fn load_or_issue(
        &self,
        directory: &Path,
        file: &str,
        names: &ServerNames,
        issue: impl FnOnce(&Self) -> Result<Certified, Error>,
    ) -> Result<Certified, Error> {
        files::make_directory(directory)?;
        let (certificate_path, key_path) =
            (directory.join(format!("{file}.crt")), directory.join(format!("{file}.key")));
        if let (Some(certificate), Some(key)) = (files::read(&certificate_path)?, files::read(&key_path)?)
            && self.still_good(&certificate, &key, names)
        {
            return Ok(Certified { certificate, key });
        }
        let certified = issue(self)?;
        files::replace(&key_path, &certified.key)?;
        files::replace(&certificate_path, &certified.certificate)?;
        Ok(certified)
    }

    /// Whether a stored certificate can still be used.
    fn still_good(&self, certificate: &str, key: &str, names: &ServerNames) -> bool {
        let Ok(der) = tls::certificate(certificate) else { return false };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let Ok(own) = tls::certificate(&self.certificate) else { return false };
        let Ok((_, own)) = x509_parser::parse_x509_certificate(&own) else { return false };
        let Ok(key) = KeyPair::from_pem(key) else { return false };
        let ends = parsed.validity().not_after.timestamp();
        let renew = self.clock.now().as_second() + i64::try_from(RENEW.as_secs()).unwrap_or(i64::MAX);
        tls::is_issued_by(&parsed, &own)
            && parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && ends > renew
            && tls::covers(&parsed, names)
    }
}

fn alternatives(subject: &str, names: &ServerNames) -> Result<Vec<SanType>, Error> {
    let dns = names.dns.iter().map(|name| {
        let name = name.as_str().try_into().map_err(|error| issue_error(subject, &error))?;
        Ok(SanType::DnsName(name))
    });
    dns.chain(names.addresses.iter().map(|address| Ok(SanType::IpAddress(*address)))).collect()
}

fn new_key(subject: &str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|error| issue_error(subject, &error))
}

fn issue_error(subject: &str, error: &rcgen::Error) -> Error {
    Error::Issue { subject: subject.to_owned(), reason: error.to_string() }
}

fn params(name: &str, groups: &[&str]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    // rcgen keeps one value an attribute type, but takes the organization's OID as a type of its own: room for two.
    let organizations = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    if groups.len() > organizations.len() {
        let reason = format!("{} groups, but a certificate holds at most {}", groups.len(), organizations.len());
        return Err(Error::Issue { subject: name.to_owned(), reason });
    }
    for (type_, group) in organizations.into_iter().zip(groups) {
        subject.push(type_, *group);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    Ok(params)
}

fn authority_certificate(key: &KeyPair, clock: &dyn Clock) -> Result<String, Error> {
    let name = "longshore-ca";
    let mut params = params(name, &[])?;
    let now = Duration::from_secs(u64::try_from(clock.now().as_second()).unwrap_or(0));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + AUTHORITY_LIFE;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key).map(|certificate| certificate.pem()).map_err(|error| issue_error(name, &error))
}
