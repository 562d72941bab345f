//! Requests for nodes' certificates: how a node makes them, which are right, and what is signed.
//!
//! The rules are upstream's of the signers `kubernetes.io/kube-apiserver-client-kubelet` and `kubernetes.io/kubelet-serving`: the subject
//! is `system:node:<name>` of `system:nodes`, usages are exactly those of the signer, and only who serves has names.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::api::{ByteString, CertificateSigningRequest};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PublicKey, SanType,
};
use sha2::{Digest, Sha256};

use super::{Authority, Error, SKEW, ServerNames, alternatives, issue_error, new_key, params, tls};

/// What begins the name of a node's agent.
const USER_PREFIX: &str = "system:node:";

/// The group of nodes' agents.
const GROUP: &str = "system:nodes";

/// What a node uses a certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeUse {
    /// To be known to the API server.
    Client,
    /// To be called by it.
    Serving,
}

impl NodeUse {
    /// The signer of such certificates.
    pub const fn signer(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    const fn usage(self) -> &'static str {
        match self {
            Self::Client => "client auth",
            Self::Serving => "server auth",
        }
    }
}

/// The user as which a node's agent is known.
pub fn node_user(node: &str) -> String {
    format!("{USER_PREFIX}{node}")
}

/// A new key and a request for its certificate.
pub struct NewRequest {
    /// The private key, PEM, which stays with who made it.
    pub key: String,
    /// The request.
    pub object: CertificateSigningRequest,
}

impl fmt::Debug for NewRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRequest").field("object", &self.object).finish_non_exhaustive()
    }
}

impl NewRequest {
    /// A request with a key of its own. Addresses are of use for serving only.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn new(node: &str, for_use: NodeUse, addresses: &[IpAddr]) -> Result<Self, Error> {
        Self::with_key(new_key(node)?, node, for_use, addresses)
    }

    /// The request that was made with this key before, and whose answer was lost.
    ///
    /// # Errors
    /// No private key, or a name that cannot stand in a certificate.
    pub fn again(key: &str, node: &str, for_use: NodeUse, addresses: &[IpAddr]) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key).map_err(|error| issue_error(node, &error))?;
        Self::with_key(key, node, for_use, addresses)
    }

    fn with_key(key: KeyPair, node: &str, for_use: NodeUse, addresses: &[IpAddr]) -> Result<Self, Error> {
        let mut params = params(&node_user(node), &[GROUP])?;
        if for_use == NodeUse::Serving {
            params.subject_alt_names = alternatives(node, &ServerNames::node(node, addresses.iter().copied()))?;
        }
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        let request = request.map_err(|error| issue_error(node, &error))?;
        let prefix = match for_use {
            NodeUse::Client => "node-csr",
            NodeUse::Serving => "csr",
        };
        let mut object = CertificateSigningRequest::default();
        // The same key asks for the same thing, so that a request whose answer was lost can be found.
        object.metadata.name = Some(format!("{prefix}-{}", &hex(&Sha256::digest(key.public_key_raw()))[..32]));
        object.spec.request = ByteString(request.into_bytes());
        object.spec.signer_name = for_use.signer().to_owned();
        object.spec.usages = ["digital signature", for_use.usage()].map(str::to_owned).to_vec();
        Ok(Self { key: key.serialize_pem(), object })
    }
}

/// A request that is as its signer wants it.
pub struct NodeRequest {
    /// The node.
    pub node: String,
    /// What for.
    pub for_use: NodeUse,
    /// By what names it is to be called; none for a client.
    pub names: ServerNames,
    public_key: PublicKey,
}

impl fmt::Debug for NodeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, for_use, names, .. } = self;
        f.debug_struct("NodeRequest")
            .field("node", node)
            .field("for_use", for_use)
            .field("names", names)
            .finish_non_exhaustive()
    }
}

fn text(value: &DnValue) -> Option<String> {
    match value {
        DnValue::PrintableString(text) => Some(text.as_str().to_owned()),
        DnValue::Utf8String(text) => Some(text.clone()),
        _ => None,
    }
}

impl NodeRequest {
    /// Reads a request and checks its signature and form.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words; other signers are not this authority's.
    pub fn read(request: &CertificateSigningRequest) -> Result<Self, String> {
        let for_use =
            [NodeUse::Client, NodeUse::Serving].into_iter().find(|of| of.signer() == request.spec.signer_name);
        let for_use = for_use.ok_or_else(|| format!("nobody here signs for {:?}", request.spec.signer_name))?;
        let pem = String::from_utf8_lossy(&request.spec.request.0);
        let read = CertificateSigningRequestParams::from_pem(&pem).map_err(|error| error.to_string())?;
        let subject = read.params.distinguished_name.iter();
        let (mut organizations, mut name) = (Vec::new(), None);
        for (type_, value) in subject {
            match type_ {
                DnType::OrganizationName => organizations.push(text(value).unwrap_or_default()),
                DnType::CommonName => name = text(value),
                _ => {}
            }
        }
        if organizations != [GROUP] {
            return Err("subject organization is not system:nodes".to_owned());
        }
        let node = name.as_deref().and_then(|name| name.strip_prefix(USER_PREFIX)).filter(|node| !node.is_empty());
        let node = node.ok_or("subject common name does not begin with system:node:")?.to_owned();
        let usages = &request.spec.usages;
        let known = ["digital signature", "key encipherment", for_use.usage()];
        let needed = ["digital signature", for_use.usage()];
        if !needed.iter().all(|usage| usages.iter().any(|of| of == usage))
            || !usages.iter().all(|usage| known.contains(&usage.as_str()))
        {
            return Err(format!("usages did not match {needed:?}"));
        }
        let mut names = ServerNames::default();
        for name in &read.params.subject_alt_names {
            match name {
                SanType::DnsName(name) => names.dns.push(name.as_str().to_owned()),
                SanType::IpAddress(address) => names.addresses.push(*address),
                SanType::Rfc822Name(_) => return Err("email subjectAltNames are not allowed".to_owned()),
                SanType::URI(_) => return Err("URI subjectAltNames are not allowed".to_owned()),
                _ => return Err("subjectAltNames of other sorts than DNS and IP are not allowed".to_owned()),
            }
        }
        let named = !names.dns.is_empty() || !names.addresses.is_empty();
        match for_use {
            NodeUse::Client if named => Err("DNS and IP subjectAltNames are not allowed".to_owned()),
            NodeUse::Serving if !named => Err("DNS or IP subjectAltName is required".to_owned()),
            _ => Ok(Self { node, for_use, names, public_key: read.public_key }),
        }
    }
}

impl Authority {
    /// Signs what a node asks for, for so long. The same request gives the same certificate at the same moment.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn sign(&self, request: &NodeRequest, life: Duration) -> Result<String, Error> {
        let user = node_user(&request.node);
        let mut params: CertificateParams = params(&user, &[GROUP])?;
        params.subject_alt_names = alternatives(&user, &request.names)?;
        params.extended_key_usages = vec![match request.for_use {
            NodeUse::Client => ExtendedKeyUsagePurpose::ClientAuth,
            NodeUse::Serving => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let now = Duration::from_secs(u64::try_from(self.clock.now().as_second()).unwrap_or(0));
        // Of a short life the part before it began is no longer, or it would be renewed as soon as it is there.
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(SKEW.min(life));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + life;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(|error| issue_error(&user, &error))?;
        Ok(signed.pem())
    }
}

/// Whose a certificate is and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// The common name.
    pub user: String,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// DNS names and addresses of who serves with it.
    names: Vec<Vec<u8>>,
}

impl Validity {
    /// Reads a certificate (PEM).
    ///
    /// # Errors
    /// It is none.
    pub fn of(certificate: &str) -> Result<Self, Error> {
        let der = tls::certificate(certificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|error| Error::Tls(error.to_string()))?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|error| Error::Tls(error.to_string()));
        let user = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
        let extension = parsed.subject_alternative_name().ok().flatten();
        let names = extension.map(|extension| extension.value.general_names.clone()).unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            x509_parser::extensions::GeneralName::IPAddress(bytes) => Some(bytes.to_vec()),
            _ => None,
        });
        Ok(Self {
            user: user.to_owned(),
            from: time(parsed.validity().not_before.timestamp())?,
            until: time(parsed.validity().not_after.timestamp())?,
            names: names.collect(),
        })
    }

    /// Whether who serves with it may be called by these addresses.
    pub fn covers(&self, addresses: &[IpAddr]) -> bool {
        let bytes = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        addresses.iter().all(|address| self.names.contains(&bytes(address)))
    }

    /// The node whose it is, if it is a node's.
    pub fn node(&self) -> Option<&str> {
        self.user.strip_prefix(USER_PREFIX)
    }
}

/// The hash of a certificate's public key by which it can be told from others, in kubeadm's form: `sha256:` and the SHA-256 of
/// the subject's public key info in hexadecimal digits.
///
/// # Errors
/// The text (PEM) is no certificate.
pub fn public_key_hash(certificate: &str) -> Result<String, Error> {
    let der = tls::certificate(certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|error| Error::Tls(error.to_string()))?;
    Ok(format!("sha256:{}", hex(&Sha256::digest(parsed.public_key().raw))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
