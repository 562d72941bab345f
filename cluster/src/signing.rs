//! Grants nodes their certificates: what upstream's csrapproving, csrsigning and csrcleaner controllers do, where the authority's key is.
//!
//! A node gets its first client certificate by a token, and every further one, to call or to serve, by the one that it has; for
//! itself only. It may serve under its own name, and under addresses that are neither the API server's nor another node's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_apiserver::bootstrap_token::TokenRecord;
use longshore_apiserver::pki::request::{NodeRequest, NodeUse, node_user};
use longshore_apiserver::pki::{Authority, LIFE};
use longshore_controllers::{Action, Controller, ControllerManager, Plan, Settings, Triggers, View};
use longshore_core::api::certificate_signing_request::{CertificateSigningRequestCondition, RequestConditionType};
use longshore_core::api::secret::SecretType;
use longshore_core::api::{ByteString, CertificateSigningRequest, ConditionStatus, Node, Secret};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::informer::ObjectKey;
use longshore_core::kind::Subresource;

use crate::join::control_plane;

/// Whose requests are first ones: holders of tokens.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Shortest life of a certificate that is given, whatever is asked for.
const LIFE_MIN: Duration = Duration::from_secs(600);

/// How long requests are kept that were answered, and those that nobody answers.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
const UNANSWERED: SignedDuration = SignedDuration::from_hours(24);

/// How certificates are granted.
#[derive(Debug, Clone)]
pub(crate) struct SigningOptions {
    /// How long certificates are valid, unless a request wants less.
    pub(crate) life: Duration,
    /// Addresses under which no node serves: the API server's.
    pub(crate) reserved: Vec<IpAddr>,
}

impl SigningOptions {
    pub(crate) fn new(life: Option<Duration>, reserved: Vec<IpAddr>) -> Self {
        Self { life: life.unwrap_or(LIFE), reserved }
    }
}

/// What grants certificates, ready to be run.
pub(crate) fn manager(
    client: Arc<dyn Client>,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    options: SigningOptions,
    seed: u64,
) -> ControllerManager {
    let mut manager = ControllerManager::empty(client, clock, Settings::default(), seed);
    manager.add(SigningController { authority, options });
    manager.add(TokenCleaner);
    manager
}

#[derive(Debug)]
struct SigningController {
    authority: Arc<Authority>,
    options: SigningOptions,
}

impl Controller for SigningController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "certificatesigningrequest"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<CertificateSigningRequest, _>(|change| change.current().map(|request| ObjectKey::of(&**request)));
        triggers.informer::<Node>();
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(request) = view.of::<CertificateSigningRequest>().get("", &key.name) else { return Plan::nothing() };
        self.decide(&request, &view.of::<Node>().list(), now)
    }
}

impl SigningController {
    fn decide(&self, request: &CertificateSigningRequest, nodes: &[Arc<Node>], now: Timestamp) -> Plan {
        use RequestConditionType::{Approved, Denied, Failed};
        let [approved, denied, failed] = [Approved, Denied, Failed].map(|type_| request.has(&type_));
        let answered = denied || failed || !request.status.certificate.0.is_empty();
        let created = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let kept = (if answered { ANSWERED } else { UNANSWERED }) - now.duration_since(created);
        if kept <= SignedDuration::ZERO {
            return vec![Action::delete(request)].into();
        }
        let mut plan = Plan::nothing();
        plan.look_again_in(kept.unsigned_abs());
        let ours = [NodeUse::Client, NodeUse::Serving].iter().any(|of| of.signer() == request.spec.signer_name);
        if answered || !ours {
            return plan;
        }
        let read = NodeRequest::read(request);
        let mut new = request.clone();
        if !approved {
            // What is not granted by itself waits for a person.
            if let Ok(why) = read.and_then(|read| self.grant(request, &read, nodes)) {
                new.status.conditions.push(condition(Approved, "AutoApproved", why, now));
                plan.push(Action::Update { object: Box::new(new), subresource: Some(Subresource::Approval) });
            }
            return plan;
        }
        let signed = read.and_then(|read| {
            let wanted = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let wanted = wanted.map(|seconds| Duration::from_secs(seconds).max(LIFE_MIN));
            let life = self.options.life.min(wanted.unwrap_or(Duration::MAX));
            self.authority.sign(&read, life).map_err(|error| error.to_string())
        });
        match signed {
            Ok(certificate) => new.status.certificate = ByteString(certificate.into_bytes()),
            Err(why) => new.status.conditions.push(condition(Failed, "SignerValidationFailure", &why, now)),
        }
        plan.push(Action::update_status(new));
        plan
    }

    /// Why a request is granted without a person's approval.
    fn grant(
        &self,
        request: &CertificateSigningRequest,
        read: &NodeRequest,
        nodes: &[Arc<Node>],
    ) -> Result<&'static str, String> {
        let own = request.spec.username == node_user(&read.node);
        let joins = request.spec.groups.iter().any(|group| group == BOOTSTRAPPERS);
        match read.for_use {
            NodeUse::Client if own => return Ok("Auto approving self kubelet client certificate."),
            NodeUse::Client if joins => return Ok("Auto approving kubelet client certificate."),
            NodeUse::Serving if own => {}
            _ => return Err("it is for somebody else".to_owned()),
        }
        if read.names.dns.iter().any(|name| *name != read.node) {
            return Err("it names another node".to_owned());
        }
        let others = nodes.iter().filter(|node| node.metadata.name.as_deref() != Some(read.node.as_str()));
        let addresses =
            others.flat_map(|node| &node.status.addresses).filter_map(|of| of.address.parse::<IpAddr>().ok());
        let taken: Vec<IpAddr> = addresses.chain(self.options.reserved.iter().copied()).collect();
        match read.names.addresses.iter().find(|address| taken.contains(address) || address.is_unspecified()) {
            Some(address) => Err(format!("{address} is another's")),
            None => Ok("Auto approving self kubelet serving certificate."),
        }
    }
}

fn condition(
    type_: RequestConditionType,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequestCondition {
    let now = Timestamp::from_second(now.as_second()).ok().map(Time);
    CertificateSigningRequestCondition {
        type_,
        status: ConditionStatus::True,
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

/// Deletes tokens whose time is over, as upstream's controller of this name. One that was used is kept until then, for whoever used it.
#[derive(Debug)]
struct TokenCleaner;

impl Controller for TokenCleaner {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "tokencleaner"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<Secret, _>(|change| {
            let is_token = |secret: &&Arc<Secret>| {
                secret.type_ == SecretType::BootstrapToken || secret.type_.as_str() == control_plane::TYPE
            };
            let token = change.current().filter(is_token);
            token.map(|secret| ObjectKey::of(&**secret))
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let secret = view.of::<Secret>().get(&key.namespace, &key.name);
        secret.map(|secret| expire(&secret, now)).unwrap_or_default()
    }
}

fn expire(secret: &Secret, now: Timestamp) -> Plan {
    let expires = TokenRecord::of(secret).and_then(|record| record.expires).or_else(|| control_plane::expires(secret));
    let Some(expires) = expires else { return Plan::nothing() };
    let left = expires.duration_since(now);
    if left <= SignedDuration::ZERO {
        return vec![Action::delete(secret)].into();
    }
    let mut plan = Plan::nothing();
    plan.look_again_in(left.unsigned_abs());
    plan
}

#[cfg(test)]
mod tests {
    use longshore_apiserver::bootstrap_token::BootstrapToken;
    use longshore_apiserver::pki::request::{NewRequest, Validity};
    use longshore_core::clock::VirtualClock;
    use serde_json::json;

    use super::*;

    const OWN: [u8; 4] = [192, 0, 2, 1];

    fn controller(clock: &VirtualClock) -> SigningController {
        let authority = Arc::new(Authority::generate(Arc::new(clock.clone())).unwrap());
        let options = SigningOptions { life: Duration::from_secs(86400), reserved: vec![[192, 0, 2, 9].into()] };
        SigningController { authority, options }
    }

    fn request(
        for_use: NodeUse,
        address: [u8; 4],
        user: &str,
        groups: &[&str],
        now: Timestamp,
    ) -> CertificateSigningRequest {
        let mut request = NewRequest::new("a", for_use, &[address.into()]).unwrap().object;
        request.spec.username = user.to_owned();
        request.spec.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        request.metadata.creation_timestamp = Some(Time(now));
        request
    }

    /// The request after the plan, if it is changed.
    fn after(plan: &Plan) -> Option<CertificateSigningRequest> {
        match plan.actions.first()? {
            Action::Update { object, .. } => object.as_any().downcast_ref().cloned(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn nodes_are_granted_what_is_their_own_and_nothing_else() {
        let clock = VirtualClock::new();
        let (controller, now) = (controller(&clock), clock.now());
        let other = json!({"metadata": {"name": "b"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]}});
        let nodes = [Arc::new(serde_json::from_value(other).unwrap())];
        let granted = |request: CertificateSigningRequest| after(&controller.decide(&request, &nodes, now)).is_some();
        let (client, serving) = (NodeUse::Client, NodeUse::Serving);
        assert!(granted(request(client, OWN, "system:bootstrap:abcdef", &["system:bootstrappers"], now)));
        assert!(granted(request(client, OWN, "system:node:a", &["system:nodes"], now)));
        assert!(granted(request(serving, OWN, "system:node:a", &["system:nodes"], now)));
        assert!(!granted(request(client, OWN, "system:node:b", &["system:nodes"], now)));
        assert!(!granted(request(serving, OWN, "system:bootstrap:abcdef", &["system:bootstrappers"], now)));
        assert!(!granted(request(serving, [192, 0, 2, 2], "system:node:a", &["system:nodes"], now)), "another node's");
        assert!(
            !granted(request(serving, [192, 0, 2, 9], "system:node:a", &["system:nodes"], now)),
            "the API server's"
        );
        let mut wrong = request(client, OWN, "system:node:a", &["system:nodes"], now);
        wrong.spec.usages.push("server auth".into());
        assert!(!granted(wrong));
    }

    #[test]
    fn what_is_approved_is_signed_for_as_long_as_it_is_wanted() {
        let clock = VirtualClock::new();
        let (controller, now) = (controller(&clock), clock.now());
        let mut request = request(NodeUse::Serving, OWN, "system:node:a", &["system:nodes"], now);
        request.spec.expiration_seconds = Some(3600);
        let approved = after(&controller.decide(&request, &[], now)).unwrap();
        let issued = after(&controller.decide(&approved, &[], now)).unwrap();
        let pem = String::from_utf8(issued.status.certificate.0.clone()).unwrap();
        let validity = Validity::of(&pem).unwrap();
        assert_eq!((validity.node(), validity.until), (Some("a"), now + SignedDuration::from_hours(1)));
        assert!(validity.covers(&[OWN.into()]) && !validity.covers(&[[192, 0, 2, 3].into()]));
        let plan = controller.decide(&issued, &[], now);
        assert!(plan.actions.is_empty() && plan.look_again == Some(Duration::from_secs(3600)));
        let plan = controller.decide(&issued, &[], now + SignedDuration::from_hours(1));
        assert!(matches!(plan.actions[..], [Action::Delete { .. }]), "answered requests are not kept for ever");
    }

    #[test]
    fn tokens_go_when_their_time_is_over() {
        let (now, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let secret = token.to_secret(now + hour, "");
        let plan = expire(&secret, now);
        assert!(plan.actions.is_empty() && plan.look_again == Some(hour.unsigned_abs()));
        assert!(matches!(expire(&secret, now + hour).actions[..], [Action::Delete { .. }]));
    }

    #[test]
    fn what_a_person_approved_and_cannot_be_signed_says_why() {
        let clock = VirtualClock::new();
        let (controller, now) = (controller(&clock), clock.now());
        let mut request = request(NodeUse::Client, OWN, "admin", &["system:masters"], now);
        request.spec.usages = vec!["server auth".into()];
        request.status.conditions = vec![condition(RequestConditionType::Approved, "KubectlApprove", "", now)];
        let failed = after(&controller.decide(&request, &[], now)).unwrap();
        assert!(failed.status.conditions[1].message.contains("usages did not match"), "{failed:?}");
    }
}
