//! Questions that clients ask about themselves (`kubectl auth whoami`, `kubectl auth can-i`), and servers about their clients. Nothing of
//! them is stored.

use std::sync::Arc;

use ::http::Response;
use axum::body::Body;
use longshore_core::client::Error;
use serde_json::{Value, json};

use super::rbac::{Held, What};
use super::{Call, Identity, answer, authorization, options};
use crate::registry::Registry;
use crate::{status, token};

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Review {
    /// Who am I?
    Subject,
    /// May I do this?
    Access,
    /// What may I do in this namespace?
    Rules,
    /// May somebody else do this?
    OthersAccess,
    /// Whose token is this?
    Token,
}

/// All questions.
pub(super) const ALL: [Review; 5] =
    [Review::Subject, Review::Access, Review::Rules, Review::OthersAccess, Review::Token];

impl Review {
    pub(super) const fn group(self) -> &'static str {
        match self {
            Self::Subject | Self::Token => "authentication.k8s.io",
            Self::Access | Self::Rules | Self::OthersAccess => "authorization.k8s.io",
        }
    }

    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Subject => "SelfSubjectReview",
            Self::Access => "SelfSubjectAccessReview",
            Self::Rules => "SelfSubjectRulesReview",
            Self::OthersAccess => "SubjectAccessReview",
            Self::Token => "TokenReview",
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Subject => "selfsubjectreviews",
            Self::Access => "selfsubjectaccessreviews",
            Self::Rules => "selfsubjectrulesreviews",
            Self::OthersAccess => "subjectaccessreviews",
            Self::Token => "tokenreviews",
        }
    }

    pub(super) const fn singular(self) -> &'static str {
        match self {
            Self::Subject => "selfsubjectreview",
            Self::Access => "selfsubjectaccessreview",
            Self::Rules => "selfsubjectrulesreview",
            Self::OthersAccess => "subjectaccessreview",
            Self::Token => "tokenreview",
        }
    }

    /// Answers the question in the request's body.
    pub(super) async fn serve(self, registry: &Arc<Registry>, call: &Call) -> Result<Response<Body>, Error> {
        let mut review = options::value(call)?;
        if !review.is_object() {
            return Err(status::bad_request(format!("the body is not a {}", self.kind())));
        }
        let written = review["kind"].as_str().unwrap_or(self.kind());
        if written != self.kind() {
            return Err(status::bad_request(format!("the body is a {written}, not a {}", self.kind())));
        }
        if matches!(self, Self::Access | Self::OthersAccess)
            && review["spec"]["resourceAttributes"].is_null() == review["spec"]["nonResourceAttributes"].is_null()
        {
            return Err(status::failure(
                422,
                "Invalid",
                format!(
                    "{}.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: exactly one of \
                     nonResourceAttributes or resourceAttributes must be specified",
                    self.kind()
                ),
            ));
        }
        review["kind"] = self.kind().into();
        review["apiVersion"] = format!("{}/v1", self.group()).into();
        if !review["metadata"].is_object() {
            review["metadata"] = json!({ "creationTimestamp": null });
        }
        review["status"] = self.status(registry, call, &review["spec"]).await?;
        Ok(answer::json(201, &review))
    }

    async fn status(self, registry: &Arc<Registry>, call: &Call, spec: &Value) -> Result<Value, Error> {
        let identity = &call.identity;
        Ok(match self {
            Self::Subject => json!({ "userInfo": identity.to_user_info() }),
            Self::Access => access(registry, identity, spec),
            Self::OthersAccess => access(registry, &somebody(spec), spec),
            Self::Rules => rules(registry, identity, text(&spec["namespace"])),
            Self::Token => token_status(registry, spec).await?,
        })
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Who is meant by a question about others.
fn somebody(spec: &Value) -> Identity {
    Identity {
        user: text(&spec["user"]).to_owned(),
        groups: texts(&spec["groups"]).into_iter().map(str::to_owned).collect(),
        uid: text(&spec["uid"]).to_owned(),
        ..Identity::default()
    }
}

fn access(registry: &Registry, identity: &Identity, spec: &Value) -> Value {
    let (objects, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let own = |field: &str| text(&objects[field]).to_owned();
    let (verb, what) = if objects.is_null() {
        (text(&path["verb"]), What::Path(text(&path["path"]).to_owned()))
    } else {
        let what = What::Objects {
            group: own("group"),
            resource: own("resource"),
            subresource: own("subresource"),
            namespace: own("namespace"),
            name: own("name"),
        };
        (text(&objects["verb"]), what)
    };
    let allowed = authorization::allows(registry, identity, verb, &what);
    // A reason for a refusal would be printed by `kubectl auth can-i`, which upstream's leaves at `no`.
    match (allowed, identity.is_service_account()) {
        (false, _) => json!({ "allowed": false }),
        (true, true) => json!({ "allowed": true, "reason": "a role allows it" }),
        (true, false) => {
            let reason = "only service accounts need roles: others who are known may do everything";
            json!({ "allowed": true, "reason": reason })
        }
    }
}

fn rules(registry: &Registry, identity: &Identity, namespace: &str) -> Value {
    if !identity.is_service_account() {
        return json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            "incomplete": false,
        });
    }
    let held = Held::by(registry, identity, namespace);
    let objects = held.rules().filter(|rule| !rule.resources.is_empty()).map(|rule| {
        json!({
            "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
            "resourceNames": rule.resource_names,
        })
    });
    let paths = held.rules().filter(|rule| !rule.non_resource_urls.is_empty());
    let paths = paths.map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
    json!({
        "resourceRules": objects.collect::<Vec<_>>(), "nonResourceRules": paths.collect::<Vec<_>>(), "incomplete": false,
    })
}

async fn token_status(registry: &Registry, spec: &Value) -> Result<Value, Error> {
    let Some(tokens) = registry.tokens() else {
        return Ok(json!({ "authenticated": false, "error": "this API server knows no tokens: it was given no key" }));
    };
    let mut audiences = texts(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(tokens.issuer());
    }
    let (identity, shared) = token::review(registry, tokens, text(&spec["token"]), &audiences).await?;
    Ok(match identity {
        Ok(identity) => json!({ "authenticated": true, "user": identity.to_user_info(), "audiences": shared }),
        Err(refusal) => json!({ "authenticated": false, "error": refusal.to_string() }),
    })
}
