//! Questions that clients ask about themselves: `kubectl auth whoami`, `kubectl auth can-i`. Nothing of them is stored.

use ::http::Response;
use axum::body::Body;
use longshore_core::client::Error;
use serde_json::{Value, json};

use super::{Call, answer, options};
use crate::status;

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Review {
    /// Who am I?
    Subject,
    /// May I do this?
    Access,
    /// What may I do in this namespace?
    Rules,
}

/// All questions.
pub(super) const ALL: [Review; 3] = [Review::Subject, Review::Access, Review::Rules];

impl Review {
    pub(super) const fn group(self) -> &'static str {
        match self {
            Self::Subject => "authentication.k8s.io",
            Self::Access | Self::Rules => "authorization.k8s.io",
        }
    }

    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Subject => "SelfSubjectReview",
            Self::Access => "SelfSubjectAccessReview",
            Self::Rules => "SelfSubjectRulesReview",
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Subject => "selfsubjectreviews",
            Self::Access => "selfsubjectaccessreviews",
            Self::Rules => "selfsubjectrulesreviews",
        }
    }

    pub(super) const fn singular(self) -> &'static str {
        match self {
            Self::Subject => "selfsubjectreview",
            Self::Access => "selfsubjectaccessreview",
            Self::Rules => "selfsubjectrulesreview",
        }
    }

    /// Answers the question in the request's body. There are no roles yet: whoever is known may do everything.
    pub(super) fn serve(self, call: &Call) -> Result<Response<Body>, Error> {
        let mut review = options::value(call)?;
        if !review.is_object() {
            return Err(status::bad_request(format!("the body is not a {}", self.kind())));
        }
        let written = review["kind"].as_str().unwrap_or(self.kind());
        if written != self.kind() {
            return Err(status::bad_request(format!("the body is a {written}, not a {}", self.kind())));
        }
        if self == Self::Access
            && review["spec"]["resourceAttributes"].is_null() == review["spec"]["nonResourceAttributes"].is_null()
        {
            return Err(status::failure(
                422,
                "Invalid",
                "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: \
                 exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
        review["kind"] = self.kind().into();
        review["apiVersion"] = format!("{}/v1", self.group()).into();
        if !review["metadata"].is_object() {
            review["metadata"] = json!({ "creationTimestamp": null });
        }
        review["status"] = self.status(call);
        Ok(answer::json(201, &review))
    }

    fn status(self, call: &Call) -> Value {
        let identity = &call.identity;
        match self {
            Self::Subject => json!({ "userInfo": { "username": identity.user, "groups": identity.groups } }),
            Self::Access => {
                json!({ "allowed": true, "reason": "there are no roles: whoever is known may do everything" })
            }
            Self::Rules => json!({
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
                "incomplete": false,
            }),
        }
    }
}
