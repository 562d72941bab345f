//! Volumes made of fields of the pod, keys, tokens and certificates.

use std::collections::BTreeSet;

use super::env;
use super::volumes::{validate_key_to_path, validate_mode};
use crate::api::pod::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, PodCertificateProjection,
    PodSpec, ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};
use crate::validation::names::{is_dns1123_subdomain, validate_signer_name};
use crate::validation::paths::validate_local_non_reserved_path;
use crate::validation::{ErrorList, Path, Report, go_value, validate_label_selector};

/// Fields of the pod that a file can hold, sorted.
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const TOKEN_SECONDS_MIN: i64 = 10 * 60;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const CERTIFICATE_SECONDS_MIN: i32 = 60 * 60;
const CERTIFICATE_SECONDS_MAX: i32 = 91 * 24 * 60 * 60;
/// Signers of Kubernetes' own sign for a day at most.
const KUBERNETES_CERTIFICATE_SECONDS_MAX: i32 = 24 * 60 * 60;
const DUPLICATE: &str = "conflicting duplicate paths";

/// Without a service account there are no tokens.
pub(super) fn refuse_tokens(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    for (index, volume) in spec.volumes.iter().enumerate() {
        for (number, source) in volume.projected.iter().flat_map(|projected| &projected.sources).enumerate() {
            if source.service_account_token.is_some() {
                let at = at.child("volumes").index(index).child("projected").child("sources").index(number);
                let why = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&at.child("serviceAccountToken"), why);
            }
        }
    }
}

/// Checks fields of the pod as files. Errors name the volume, not the item, as upstream's do.
pub(super) fn validate_downward_api(source: &DownwardAPIVolumeSource, at: &Path, errors: &mut ErrorList) {
    validate_mode(source.default_mode, &at.child("defaultMode"), errors);
    for file in &source.items {
        validate_file(file, at, errors);
    }
}

fn validate_file(file: &DownwardAPIVolumeFile, at: &Path, errors: &mut ErrorList) {
    if file.path.is_empty() {
        errors.required(&at.child("path"), "");
    }
    validate_local_non_reserved_path(&file.path, &at.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            env::validate_field(field, &FIELDS, &at.child("fieldRef"), errors);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(at, "resource", why);
            }
        }
        (None, Some(resource)) => env::validate_resource(resource, true, &at.child("resourceFieldRef"), errors),
        (None, None) => errors.required(at, "one of fieldRef and resourceFieldRef is required"),
    }
    validate_mode(file.mode, &at.child("mode"), errors);
}

/// Checks several sources in one directory.
pub(super) fn validate(source: &ProjectedVolumeSource, at: &Path, errors: &mut ErrorList) {
    validate_mode(source.default_mode, &at.child("defaultMode"), errors);
    let mut files = Files { at, taken: BTreeSet::new() };
    for (index, projection) in source.sources.iter().enumerate() {
        let at = at.child("sources").index(index);
        let given = validate_projection(projection, &at, &mut files, errors);
        if given > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

/// The files that a projected volume has.
struct Files<'v> {
    at: &'v Path,
    taken: BTreeSet<&'v str>,
}

impl<'v> Files<'v> {
    /// Takes a path; `named` is what the error says if it is taken.
    fn take(&mut self, path: &'v str, named: &str, errors: &mut ErrorList) {
        if !self.taken.insert(path) {
            errors.invalid(self.at, named, DUPLICATE);
        }
    }
}

/// Checks one source; says how many it really is.
fn validate_projection<'v>(
    projection: &'v VolumeProjection,
    at: &Path,
    files: &mut Files<'v>,
    errors: &mut ErrorList,
) -> usize {
    let mut given = 0;
    if let Some(secret) = &projection.secret {
        given += 1;
        validate_items(&secret.name, &secret.items, &at.child("secret"), files, errors);
    }
    if let Some(map) = &projection.config_map {
        given += 1;
        validate_items(&map.name, &map.items, &at.child("configMap"), files, errors);
    }
    if let Some(fields) = &projection.downward_api {
        given += 1;
        for file in &fields.items {
            validate_file(file, &at.child("downwardAPI"), errors);
            if !file.path.is_empty() {
                files.take(&file.path, &file.path, errors);
            }
        }
    }
    if let Some(token) = &projection.service_account_token {
        given += 1;
        validate_token(token, &at.child("serviceAccountToken"), files.at, errors);
    }
    if let Some(bundle) = &projection.cluster_trust_bundle {
        given += 1;
        let at = at.child("clusterTrustBundle");
        validate_bundle(bundle, &at, errors);
        if bundle.path.is_empty() {
            errors.required(&at.child("path"), "");
        }
        validate_local_non_reserved_path(&bundle.path, &at.child("path"), errors);
        files.take(&bundle.path, &bundle.path, errors);
    }
    if let Some(certificate) = &projection.pod_certificate {
        given += 1;
        validate_certificate(certificate, &at.child("podCertificate"), files, errors);
    }
    given
}

fn validate_items<'v>(name: &str, items: &'v [KeyToPath], at: &Path, files: &mut Files<'v>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    for (index, item) in items.iter().enumerate() {
        validate_key_to_path(item, &at.child("items").index(index), errors);
        if !item.path.is_empty() {
            files.take(&item.path, name, errors);
        }
    }
}

/// Checks a token. Errors about its path are about the volume's, as upstream has it.
fn validate_token(token: &ServiceAccountTokenProjection, at: &Path, volume: &Path, errors: &mut ErrorList) {
    let (seconds, at) = (token.expiration_seconds.unwrap_or_default(), at.child("expirationSeconds"));
    if seconds < TOKEN_SECONDS_MIN {
        errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > TOKEN_SECONDS_MAX {
        errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if token.path.is_empty() {
        errors.required(&volume.child("path"), "");
    } else {
        validate_local_non_reserved_path(&token.path, &volume.child("path"), errors);
    }
}

fn validate_bundle(bundle: &ClusterTrustBundleProjection, at: &Path, errors: &mut ErrorList) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => errors.invalid(at, go_value(bundle), "only one of name and signerName may be used"),
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&at.child("name"), "must be a valid object name");
            }
            for why in wrong_with_bundle_name(name) {
                let why = format!("not a valid clustertrustbundlename: {why}");
                errors.invalid(&at.child("name"), name.as_str(), why);
            }
            if let Some(selector) = &bundle.label_selector {
                let why = "labelSelector must be unset if name is specified";
                errors.invalid(&at.child("labelSelector"), crate::validation::json(selector), why);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.required(&at.child("signerName"), "must be a valid signer name");
            }
            errors.extend(validate_signer_name(signer, &at.child("signerName")));
            validate_label_selector(bundle.label_selector.as_ref(), &at.child("labelSelector"), errors);
        }
        (None, None) => errors.required(at, "either name or signerName must be specified"),
    }
}

/// Bundles of a signer carry its name, with a colon for the slash, before their own.
fn wrong_with_bundle_name(name: &str) -> Vec<String> {
    let signer = name.rsplit_once(':').map(|(signer, own)| (signer.replace(':', "/"), own));
    match signer {
        None => is_dns1123_subdomain(name),
        Some((signer, own)) => {
            let prefix = format!("{}:", signer.replace('/', ":"));
            let wrong = is_dns1123_subdomain(own);
            if name.starts_with(&prefix) {
                wrong
            } else {
                vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
            }
        }
    }
}

fn validate_certificate<'v>(
    certificate: &'v PodCertificateProjection,
    at: &Path,
    files: &mut Files<'v>,
    errors: &mut ErrorList,
) {
    let signer = certificate.signer_name.as_str();
    errors.extend(validate_signer_name(signer, &at.child("signerName")));
    if !KEY_TYPES.contains(&certificate.key_type.as_str()) {
        errors.not_supported(&at.child("keyType"), certificate.key_type.as_str(), &KEY_TYPES);
    }
    if let Some(seconds) = certificate.max_expiration_seconds {
        let at = at.child("maxExpirationSeconds");
        let of_kubernetes = signer.split('/').next().is_some_and(|domain| domain == "kubernetes.io");
        let most = if of_kubernetes { KUBERNETES_CERTIFICATE_SECONDS_MAX } else { CERTIFICATE_SECONDS_MAX };
        if seconds < CERTIFICATE_SECONDS_MIN {
            let why = format!("if provided, maxExpirationSeconds must be >= {CERTIFICATE_SECONDS_MIN}");
            errors.invalid(&at, seconds, why);
        } else if seconds > most {
            errors.invalid(&at, seconds, format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
    }
    let paths = [
        ("credentialBundlePath", &certificate.credential_bundle_path),
        ("keyPath", &certificate.key_path),
        ("certificateChainPath", &certificate.certificate_chain_path),
    ];
    for (field, path) in paths.into_iter().filter(|(_, path)| !path.is_empty()) {
        validate_local_non_reserved_path(path, &at.child(field), errors);
        files.take(path, path, errors);
    }
    if paths.iter().all(|(_, path)| path.is_empty()) {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at, why);
    }
}
