//! CertificateSigningRequest: somebody with a key of its own asks the cluster's authority for a certificate.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::age::human_duration;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ByteString, CertificatesV1, ConditionStatus};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::validation::{ErrorList, NameRule, Path, Report};
use crate::{kind, string_enum};

/// A request for a certificate. Only its metadata can change afterwards; it is approved or denied through `approval`, and what
/// signs it writes the certificate through `status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct CertificateSigningRequest {
    /// Version of the API.
    #[serde(default)]
    pub api_version: CertificatesV1,
    /// Name, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is asked for, and by whom.
    #[serde(default)]
    pub spec: CertificateSigningRequestSpec,
    /// Whether it is approved, and the certificate.
    #[serde(default)]
    pub status: CertificateSigningRequestStatus,
}

/// What is asked for, and by whom.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSigningRequestSpec {
    /// The request as of PKCS#10, PEM.
    #[serde(default)]
    pub request: ByteString,
    /// Who is asked to sign it, such as `kubernetes.io/kubelet-serving`.
    #[serde(default)]
    pub signer_name: String,
    /// For how many seconds the certificate is wanted; the signer may give another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i32>,
    /// What the certificate is to be used for.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub usages: Vec<String>,
    /// Who asks; set by the API server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub username: String,
    /// The uid of who asks; set by the API server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: String,
    /// The groups of who asks; set by the API server.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub groups: Vec<String>,
    /// What else is known of who asks; set by the API server.
    #[serde(default, skip_serializing_if = "is_default")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Whether a request is approved, and the certificate.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSigningRequestStatus {
    /// What was decided.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<CertificateSigningRequestCondition>,
    /// The certificate, PEM; empty until it is issued.
    #[serde(default, skip_serializing_if = "is_default")]
    pub certificate: ByteString,
}

/// What was decided about a request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSigningRequestCondition {
    /// What.
    #[serde(default)]
    pub type_: RequestConditionType,
    /// Whether it is so; `Approved`, `Denied` and `Failed` can only be true.
    #[serde(default)]
    pub status: ConditionStatus,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When the status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

string_enum! {
    /// What can be decided about a request.
    pub enum RequestConditionType {
        /// It is to be signed.
        Approved,
        /// It is not to be signed.
        Denied,
        /// It could not be signed.
        Failed,
    }
}

kind!(CertificateSigningRequest, "certificates.k8s.io"/v1, "certificatesigningrequests", singular "certificatesigningrequest", Cluster, short ["csr"], categories [], subresources [Status, Approval]);

const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "string", "Who is asked to sign."),
    column("Requestor", "string", "Who asks."),
    column("RequestedDuration", "string", "For how long."),
    column("Condition", "string", "What was decided."),
];

/// What a certificate can be used for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The signer of upstream's beta API, which this one does not know.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// Shortest life that can be asked for, in seconds.
const EXPIRATION_MIN: i32 = 600;

/// Longest domain of a signer's name.
const DOMAIN_MAX: usize = 253;

impl CertificateSigningRequest {
    /// Whether a condition is there.
    pub fn has(&self, type_: &RequestConditionType) -> bool {
        self.status.conditions.iter().any(|condition| condition.type_ == *type_)
    }

    fn condition_text(&self) -> String {
        let mut text = match (self.has(&RequestConditionType::Denied), self.has(&RequestConditionType::Approved)) {
            (true, _) => "Denied",
            (false, true) => "Approved",
            (false, false) => "Pending",
        }
        .to_owned();
        if self.has(&RequestConditionType::Failed) {
            text.push_str(",Failed");
        }
        if !self.status.certificate.0.is_empty() {
            text.push_str(",Issued");
        }
        text
    }
}

/// Whether bytes are a PEM block of this label. What is in it only who signs can tell.
fn is_pem(bytes: &[u8], label: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let Some((_, rest)) = text.split_once(begin.as_str()) else { return false };
    let Some((body, _)) = rest.split_once(end.as_str()) else { return false };
    let body: String = body.split_ascii_whitespace().collect();
    !body.is_empty() && STANDARD.decode(body).is_ok()
}

fn validate_signer_name(at: &Path, name: &str, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(at, "");
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, path] = segments[..] else {
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(at, name, form);
    };
    if domain.len() > DOMAIN_MAX {
        errors.too_long(at, DOMAIN_MAX);
    }
    for label in domain.split('.') {
        for error in is_dns1123_label(label) {
            errors.invalid(at, domain, format!("validating label {label:?}: {error}"));
        }
    }
    if !domain.contains('.') {
        errors.invalid(at, domain, "should be a domain with at least two segments separated by dots");
    }
    for label in path.split('.') {
        for error in is_dns1123_subdomain(label) {
            errors.invalid(at, path, format!("validating label {label:?}: {error}"));
        }
    }
}

impl CertificateSigningRequestSpec {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        if !is_pem(&self.request.0, "CERTIFICATE REQUEST") {
            let value = serde_json::to_value(&self.request).unwrap_or_default();
            errors.invalid(&at.child("request"), value, "PEM block type must be CERTIFICATE REQUEST");
        }
        let usages = at.child("usages");
        if self.usages.is_empty() {
            errors.required(&usages, "");
        }
        for (index, usage) in self.usages.iter().enumerate() {
            if !USAGES.contains(&usage.as_str()) {
                errors.not_supported(&usages.index(index), usage.as_str(), &USAGES);
            }
            if self.usages[..index].contains(usage) {
                errors.duplicate(&usages.index(index), usage.as_str());
            }
        }
        let signer = at.child("signerName");
        if self.signer_name == LEGACY_SIGNER {
            let legacy = "the legacy signerName is not allowed via this API version";
            errors.invalid(&signer, self.signer_name.as_str(), legacy);
        } else {
            validate_signer_name(&signer, &self.signer_name, errors);
        }
        if let Some(seconds) = self.expiration_seconds.filter(|seconds| *seconds < EXPIRATION_MIN) {
            let short = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&at.child("expirationSeconds"), seconds, short);
        }
    }
}

impl CertificateSigningRequestStatus {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        let at_conditions = at.child("conditions");
        let mut decided: Option<&RequestConditionType> = None;
        for (index, condition) in self.conditions.iter().enumerate() {
            let (at, type_) = (at_conditions.index(index), &condition.type_);
            if type_.as_str().is_empty() {
                errors.required(&at.child("type"), "");
            }
            match type_ {
                RequestConditionType::Approved | RequestConditionType::Denied => {
                    if decided.is_some_and(|decided| decided != type_) {
                        let both = "Approved and Denied conditions are mutually exclusive";
                        errors.invalid(&at.child("type"), type_.as_str(), both);
                    }
                    decided = Some(type_);
                }
                _ => {}
            }
            if type_.is_known() && condition.status != ConditionStatus::True {
                errors.not_supported(&at.child("status"), condition.status.as_str(), &["True"]);
            }
            if self.conditions[..index].iter().any(|other| other.type_ == *type_) {
                errors.duplicate(&at.child("type"), type_.as_str());
            }
        }
        if !self.certificate.0.is_empty() && !is_pem(&self.certificate.0, "CERTIFICATE") {
            errors.invalid(&at.child("certificate"), "<certificate data>", "must contain one or more PEM blocks");
        }
    }

    /// What was decided stays decided, and what was issued stays issued.
    fn validate_update(&self, old: &Self, errors: &mut ErrorList) {
        let at = Path::new("status");
        for kept in old.conditions.iter().filter(|condition| condition.type_.is_known()) {
            if self.conditions.iter().all(|condition| condition.type_ != kept.type_) {
                let removed = format!("updates may not remove a condition of type {:?}", kept.type_.as_str());
                errors.forbidden(&at.child("conditions"), removed);
            }
        }
        if !old.certificate.0.is_empty() && self.certificate != old.certificate {
            errors.forbidden(&at.child("certificate"), "updates may not modify existing certificate content");
        }
    }
}

fn is_decision(condition: &CertificateSigningRequestCondition) -> bool {
    matches!(condition.type_, RequestConditionType::Approved | RequestConditionType::Denied)
}

impl Kind for CertificateSigningRequest {
    fn prepare_for_create(&mut self) {
        self.status = CertificateSigningRequestStatus::default();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        self.spec = old.spec.clone();
        match subresource {
            Some(Subresource::Approval) => self.status.certificate = old.status.certificate.clone(),
            Some(_) => {
                // Who signs does not approve.
                self.status.conditions.retain(|condition| !is_decision(condition));
                let decided = old.status.conditions.iter().filter(|condition| is_decision(condition)).cloned();
                self.status.conditions.splice(0..0, decided);
            }
            None => self.status = old.status.clone(),
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        self.spec.validate(&Path::new("spec"), &mut errors);
        self.status.validate(&Path::new("status"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(rules::validate_update(self, old));
        self.status.validate_update(&old.status, &mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let duration = self
            .spec
            .expiration_seconds
            .map_or_else(|| "<none>".to_owned(), |seconds| human_duration(SignedDuration::from_secs(seconds.into())));
        vec![
            columns::name(&self.metadata),
            columns::age(&self.metadata, now),
            self.spec.signer_name.as_str().into(),
            self.spec.username.as_str().into(),
            duration.into(),
            self.condition_text().into(),
        ]
    }

    fn field(&self, label: &str) -> Option<String> {
        (label == "spec.signerName").then(|| self.spec.signer_name.clone())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["spec.signerName"]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> CertificateSigningRequest {
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAAEC\n-----END CERTIFICATE REQUEST-----\n";
        let mut request = CertificateSigningRequest::default();
        request.metadata.name = Some("csr-1".into());
        request.metadata.resource_version = Some("1".into());
        request.spec.request = pem.into();
        request.spec.signer_name = "kubernetes.io/kubelet-serving".into();
        request.spec.usages = vec!["server auth".into()];
        request
    }

    fn condition(type_: RequestConditionType) -> CertificateSigningRequestCondition {
        CertificateSigningRequestCondition { type_, status: ConditionStatus::True, ..Default::default() }
    }

    fn messages(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        assert_eq!(messages(&request().validate()), Vec::<String>::new());
        let mut wrong = request();
        wrong.spec.request = "nothing".into();
        wrong.spec.usages = vec!["client auth".into(), "client auth".into(), "fun".into()];
        wrong.spec.signer_name = "signer".into();
        wrong.spec.expiration_seconds = Some(599);
        let found = messages(&wrong.validate());
        let expected = [
            "PEM block type must be CERTIFICATE REQUEST",
            "spec.usages[1]: Duplicate value: \"client auth\"",
            "spec.usages[2]: Unsupported value: \"fun\"",
            "of the form 'example.com/signer-name'",
            "spec.expirationSeconds: Invalid value: 599",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn approval_and_issue_are_written_apart_and_stay() {
        let old = request();
        let mut approved = old.clone();
        approved.spec.username = "somebody".into();
        approved.status.conditions = vec![condition(RequestConditionType::Approved)];
        approved.status.certificate = "not yet".into();
        let mut written = approved.clone();
        written.prepare_for_update(&old, Some(Subresource::Approval));
        assert_eq!((written.spec.username.as_str(), written.condition_text().as_str()), ("", "Approved"));
        let mut through_status = approved.clone();
        through_status.prepare_for_update(&old, Some(Subresource::Status));
        assert!(!through_status.has(&RequestConditionType::Approved), "who signs does not approve");
        let mut plain = approved;
        plain.prepare_for_update(&old, None);
        assert_eq!(plain.status, old.status);

        let mut both = written.clone();
        both.status.conditions.push(condition(RequestConditionType::Denied));
        let found = messages(&both.validate_update(&written, Some(Subresource::Approval)));
        assert!(found[0].contains("Approved and Denied conditions are mutually exclusive"), "{found:?}");
        let found = messages(&old.validate_update(&written, Some(Subresource::Approval)));
        assert!(found[0].contains("updates may not remove a condition of type \"Approved\""), "{found:?}");
    }

    #[test]
    fn the_table_shows_who_asked_and_what_was_decided() {
        let mut issued = request();
        issued.spec.username = "system:node:a".into();
        issued.spec.expiration_seconds = Some(3600);
        assert_eq!(issued.row(Timestamp::UNIX_EPOCH)[5], json!("Pending"));
        issued.status.conditions = vec![condition(RequestConditionType::Approved)];
        issued.status.certificate = "x".into();
        let row = issued.row(Timestamp::UNIX_EPOCH);
        assert_eq!(
            row[2..],
            [json!("kubernetes.io/kubelet-serving"), json!("system:node:a"), json!("60m"), json!("Approved,Issued")]
        );
    }
}
