//! What somebody who is known may do. There are no roles yet: everything, save for nodes that are about to join, and for the store
//! as a whole, which is the administrators'.

use ::http::Method;
use longshore_core::api::CertificateSigningRequest;
use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, DynObject, KindType};
use longshore_core::status;

use super::Identity;
use super::identity::MASTERS;
use super::path::{Resource, Route};
use crate::bootstrap_token::GROUP;
use crate::registry::PatchBody;

fn is_joining(identity: &Identity) -> bool {
    identity.groups.iter().any(|group| group == GROUP)
}

fn forbidden(identity: &Identity, what: &str) -> Error {
    let why = "who holds a bootstrap token may ask for a node's certificate and nothing else";
    status::failure(403, "Forbidden", format!("User {:?} cannot {what}: {why}", identity.user)).into()
}

/// Checks that a request may be made: whoever holds a bootstrap token may create requests for certificates, and read one; only
/// administrators may see the store as a whole.
pub(super) fn check(identity: &Identity, method: &Method, route: &Route, watches: bool) -> Result<(), Error> {
    if matches!(route, Route::Store(_)) && !identity.groups.iter().any(|group| group == MASTERS) {
        let message = format!("User {:?} cannot see the store: only members of {MASTERS} may", identity.user);
        return Err(status::failure(403, "Forbidden", message).into());
    }
    if !is_joining(identity) {
        return Ok(());
    }
    let allowed = match route {
        Route::Resource(Resource { kind, name, subresource: None, .. }) => {
            let creates = method == Method::POST && name.is_none();
            let reads = method == Method::GET && name.is_some() && !watches;
            *kind == KindType::of::<CertificateSigningRequest>() && (creates || reads)
        }
        Route::Version | Route::Live | Route::Ready => true,
        _ => false,
    };
    if allowed { Ok(()) } else { Err(forbidden(identity, &method.as_str().to_lowercase())) }
}

/// Checks that an object may be seen: of requests, a node that is about to join sees its own.
pub(super) fn check_seen(identity: &Identity, object: &DynObject) -> Result<(), Error> {
    let request = object.as_any().downcast_ref::<CertificateSigningRequest>();
    if is_joining(identity) && request.is_none_or(|request| request.spec.username != identity.user) {
        return Err(forbidden(identity, "read this request"));
    }
    Ok(())
}

/// Notes in a request for a certificate who asks, whatever it says itself.
pub(super) fn note_requester(identity: &Identity, object: &mut dyn AnyObject) {
    if let Some(request) = object.as_any_mut().downcast_mut::<CertificateSigningRequest>() {
        request.spec.username.clone_from(&identity.user);
        request.spec.groups.clone_from(&identity.groups);
        request.spec.uid.clear();
        request.spec.extra.clear();
    }
}

/// The same for one that server-side apply may create.
pub(super) fn note_requester_of_patch(identity: &Identity, kind: &KindType, patch: &mut PatchBody) {
    let PatchBody::Apply(value) = patch else { return };
    if kind == KindType::of::<CertificateSigningRequest>() && value["spec"].is_object() {
        value["spec"]["username"] = identity.user.as_str().into();
        value["spec"]["groups"] = identity.groups.clone().into();
        for field in ["uid", "extra"] {
            value["spec"].as_object_mut().map(|spec| spec.remove(field));
        }
    }
}
