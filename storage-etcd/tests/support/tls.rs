//! An authority, and certificates by it, for one test.

use std::path::Path;

use longshore_storage_etcd::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// Writes what a member needs, and answers what a client does.
pub fn write(directory: &Path) -> Tls {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf = |names: &[&str], purposes: &[ExtendedKeyUsagePurpose]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = purposes.to_vec();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    // etcd's gateway is a client of its own server, by the server's certificate.
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let server = leaf(&["localhost", "127.0.0.1"], &both);
    let client = leaf(&["client"], &[ExtendedKeyUsagePurpose::ClientAuth]);
    for (name, text) in [("ca.pem", &authority.pem()), ("server.pem", &server.0), ("server.key", &server.1)] {
        std::fs::write(directory.join(name), text).unwrap();
    }
    Tls { ca: authority.pem().into_bytes(), identity: Some((client.0.into_bytes(), client.1.into_bytes())) }
}
