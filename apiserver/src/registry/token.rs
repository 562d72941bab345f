//! The subresource `token` of service accounts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::token_request::{BoundObjectReference, TokenRequestSpec, TokenRequestStatus};
use longshore_core::api::{Node, Pod, Secret, ServiceAccount, TokenRequest};
use longshore_core::client::{Error, Target};
use longshore_core::kind::{DynObject, KindType};
use longshore_core::status::{self as core_status, GroupResource};
use longshore_core::validation::{Error as Wrong, Path};

use super::Registry;
use crate::status;
use crate::token::{Claims, Named, Private, TokenIssuer, USER_PREFIX};

/// How long a token lives for which nothing was said, in seconds.
const DEFAULT_LIFE: i64 = 3600;
const SHORTEST_LIFE: i64 = 600;
const LONGEST_LIFE: i64 = 1 << 32;

/// The life that admission gives the tokens of pods. As upstream has it, such a token that is only good here and goes with its pod is
/// still taken for a year: programs that read their token once keep working.
pub(crate) const POD_LIFE: i64 = 3607;
const EXTENDED_LIFE: i64 = 365 * 24 * 3600;

impl Registry {
    /// What makes tokens of service accounts, where anything does.
    pub(crate) fn tokens(&self) -> Option<&TokenIssuer> {
        self.tokens.as_deref()
    }

    /// Makes a token for the service account that the request's metadata names.
    ///
    /// # Errors
    /// 404 if the account or what the token is bound to does not exist, or this registry makes no tokens; 409 if what it is bound to has
    /// another uid; 422 for a life that is too short or too long.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error> {
        let Some(tokens) = self.tokens() else {
            return Err(status::failure(404, "NotFound", "this API server makes no tokens: it was given no key"));
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (text(&request.metadata.namespace), text(&request.metadata.name));
        let account = self.existing::<ServiceAccount>(&namespace, &name).await?;
        let mut spec = request.spec.clone();
        let life = *spec.expiration_seconds.get_or_insert(DEFAULT_LIFE);
        validate(&name, life)?;
        if spec.audiences.is_empty() {
            spec.audiences = vec![tokens.issuer().to_owned()];
        }
        let mut private =
            Private { serviceaccount: named(&account), namespace: namespace.clone(), ..Private::default() };
        if let Some(bound) = &spec.bound_object_ref {
            self.bind_token(bound, &mut private).await?;
        }
        let now = self.clock.now().as_second();
        let only_here = spec.audiences.iter().all(|audience| audience == tokens.issuer());
        let mut ends = now.saturating_add(life);
        if life == POD_LIFE && private.pod.is_some() && only_here {
            private.warnafter = Some(ends);
            ends = now.saturating_add(EXTENDED_LIFE);
        }
        let claims = Claims {
            aud: spec.audiences.clone(),
            exp: ends,
            iat: now,
            iss: tokens.issuer().to_owned(),
            jti: self.random.uid(),
            kubernetes: private,
            nbf: now,
            sub: format!("{USER_PREFIX}{namespace}:{name}"),
        };
        let token = tokens.sign(&claims).map_err(status::internal)?;
        let mut metadata = request.metadata.clone();
        metadata.creation_timestamp = Some(self.now());
        let due = self.now().0.saturating_add(SignedDuration::from_secs(life)).unwrap_or(Timestamp::MAX);
        let status = TokenRequestStatus { token, expiration_timestamp: Time(due) };
        Ok(TokenRequest { metadata, spec, status, ..TokenRequest::default() })
    }

    async fn existing<K: longshore_core::kind::Kind>(&self, namespace: &str, name: &str) -> Result<DynObject, Error> {
        let kind = KindType::of::<K>();
        let found = self.find(Target { kind, namespace, name }, Duration::ZERO).await?;
        found.ok_or_else(|| status::not_found(&kind.info, name))
    }

    /// Notes the object with which the token ends, and where a pod is.
    async fn bind_token(&self, bound: &BoundObjectReference, private: &mut Private) -> Result<(), Error> {
        let BoundObjectReference { kind, api_version, name, uid } = bound;
        let object = match (api_version.as_str(), kind.as_str()) {
            ("v1", "Pod") => self.existing::<Pod>(&private.namespace, name).await?,
            ("v1", "Node") => self.existing::<Node>("", name).await?,
            ("v1", "Secret") => self.existing::<Secret>(&private.namespace, name).await?,
            _ => {
                return Err(status::bad_request(format!(
                    "cannot bind token for serviceaccount to object of type {kind:?}"
                )));
            }
        };
        let object_name = named(&object);
        if !uid.is_empty() && *uid != object_name.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
                 deleted and then recreated"
            );
            let resource = GroupResource { group: "", resource: kind };
            return Err(core_status::conflict(resource, name, why).into());
        }
        match (kind.as_str(), object.as_any().downcast_ref::<Pod>()) {
            (_, Some(pod)) => {
                let account = &private.serviceaccount.name;
                if pod.spec.service_account_name != *account {
                    return Err(status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                private.pod = Some(object_name);
                let node = &pod.spec.node_name;
                if !node.is_empty() {
                    let target = Target { kind: KindType::of::<Node>(), namespace: "", name: node };
                    let found = self.find(target, Duration::ZERO).await?;
                    let unknown = || Named { name: node.clone(), uid: String::new() };
                    private.node = Some(found.as_ref().map_or_else(unknown, named));
                }
            }
            ("Node", _) => private.node = Some(object_name),
            _ => private.secret = Some(object_name),
        }
        Ok(())
    }
}

fn named(object: &DynObject) -> Named {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Named { name: text(&object.meta().name), uid: text(&object.meta().uid) }
}

fn validate(name: &str, life: i64) -> Result<(), Error> {
    let at = Path::new("spec").child("expirationSeconds");
    let why = match life {
        ..SHORTEST_LIFE => "may not specify a duration less than 10 minutes",
        SHORTEST_LIFE..=LONGEST_LIFE => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let kind = GroupResource { group: "authentication.k8s.io", resource: "TokenRequest" };
    Err(core_status::invalid(kind, name, &[Wrong::invalid(&at, life, why)]).into())
}

/// Why a node may not have the token that it asks for; a node acts for the pods that it runs and for nobody else.
pub(crate) fn refuse_node(node: &str, spec: &TokenRequestSpec, pod: Option<&Pod>) -> Option<&'static str> {
    let bound = spec.bound_object_ref.as_ref();
    if bound.is_none_or(|bound| bound.api_version != "v1" || bound.kind != "Pod" || bound.name.is_empty()) {
        return Some("node requested token not bound to a pod");
    }
    if bound.is_some_and(|bound| bound.uid.is_empty()) {
        return Some("node requested token with a pod binding without a uid");
    }
    let Some(pod) = pod.filter(|pod| pod.spec.node_name == node) else {
        return Some("node requested token bound to a pod scheduled on a different node");
    };
    let audience = match spec.audiences.as_slice() {
        [] => "",
        [only] => only.as_str(),
        _ => return Some("node may only request 0 or 1 audiences"),
    };
    let sources = pod.spec.volumes.iter().filter_map(|volume| volume.projected.as_ref()).flat_map(|of| &of.sources);
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    (!tokens.any(|token| token.audience == audience)).then_some("the pod has no volume with a token for this audience")
}
