//! What somebody who is known may do. Service accounts may do what their roles allow. Others may do everything, save for nodes that are
//! about to join, for the tokens that nodes ask for, and for the store as a whole, which is the administrators'.

use ::http::Method;
use longshore_core::api::token_request::TokenRequestSpec;
use longshore_core::api::{
    CertificateSigningRequest, ClusterRole, ClusterRoleBinding, Pod, Role, RoleBinding, ServiceAccount,
};
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, DynObject, KindType, Subresource};
use longshore_core::status::{self, GroupResource};

use super::identity::MASTERS;
use super::path::{Resource, Route};
use super::rbac::{self, Held, What};
use super::review::Review;
use super::{Call, Identity};
use crate::bootstrap_token::GROUP;
use crate::registry::{PatchBody, Registry, refuse_node};

/// What everybody may read who is known, and without which no client finds its way.
const DISCOVERY: [&str; 7] = ["/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"];

fn is_joining(identity: &Identity) -> bool {
    identity.is_in(GROUP)
}

fn forbidden(identity: &Identity, what: &str) -> Error {
    let why = "who holds a bootstrap token may ask for a node's certificate and nothing else";
    status::failure(403, "Forbidden", format!("User {:?} cannot {what}: {why}", identity.user)).into()
}

/// Checks that a request may be made: service accounts may do what roles allow; whoever holds a bootstrap token may create requests for
/// certificates, and read one; only administrators may see the store as a whole.
pub(super) fn check(registry: &Registry, call: &Call, path: &str, route: &Route) -> Result<(), Error> {
    let identity = &call.identity;
    if matches!(route, Route::Store(_)) && !identity.is_in(MASTERS) {
        let message = format!("User {:?} cannot see the store: only members of {MASTERS} may", identity.user);
        return Err(status::failure(403, "Forbidden", message).into());
    }
    if identity.is_service_account() {
        let (verb, what) = asked(call, path, route);
        return check_roles(registry, identity, &verb, &what);
    }
    if !is_joining(identity) {
        return Ok(());
    }
    let allowed = match route {
        Route::Resource(Resource { kind, name, subresource: None, .. }) => {
            let creates = call.method == Method::POST && name.is_none();
            let reads = call.method == Method::GET && name.is_some() && !call.flag("watch");
            *kind == KindType::of::<CertificateSigningRequest>() && (creates || reads)
        }
        Route::Version | Route::Live | Route::Ready => true,
        _ => false,
    };
    if allowed { Ok(()) } else { Err(forbidden(identity, &call.method.as_str().to_lowercase())) }
}

/// Verb and object of a request, as roles name them.
fn asked(call: &Call, path: &str, route: &Route) -> (String, What) {
    let method = call.method.as_str();
    match route {
        Route::Resource(resource) => {
            let subresource = resource.subresource.clone().unwrap_or_default();
            // A watch or a list of one object is of that object.
            let selected = || call.param("fieldSelector").strip_prefix("metadata.name=").map(str::to_owned);
            let one = selected().filter(|name| !name.contains(','));
            let verb = match (method, resource.name.is_some()) {
                ("GET" | "HEAD", _) if call.flag("watch") => "watch",
                // Whichever way the connection is made, a process is run.
                ("GET", _) if ["exec", "attach", "portforward"].contains(&subresource.as_str()) => "create",
                ("GET" | "HEAD", true) => "get",
                ("GET" | "HEAD", false) => "list",
                ("POST", _) => "create",
                ("PUT", _) => "update",
                ("PATCH", _) => "patch",
                ("DELETE", true) => "delete",
                ("DELETE", false) => "deletecollection",
                _ => method,
            };
            let name = resource.name.clone().or(one.filter(|_| matches!(verb, "watch" | "list"))).unwrap_or_default();
            let info = &resource.kind.info;
            // As upstream has it, a namespace is in itself.
            let itself = || (info.kind == "Namespace").then(|| resource.name.clone()).flatten();
            let what = What::Objects {
                group: info.group.to_owned(),
                resource: info.plural.to_owned(),
                subresource,
                namespace: resource.namespace.clone().or_else(itself).unwrap_or_default(),
                name,
            };
            (verb.to_owned(), what)
        }
        Route::Review(review) => {
            let what = What::Objects {
                group: review.group().to_owned(),
                resource: review.plural().to_owned(),
                subresource: String::new(),
                namespace: String::new(),
                name: String::new(),
            };
            ("create".to_owned(), what)
        }
        _ => (method.to_lowercase(), What::Path(path.to_owned())),
    }
}

/// What a service account may do without any role: find out what there is, and what it may do.
fn is_open(verb: &str, what: &What) -> bool {
    match what {
        What::Path(path) => {
            let below =
                |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            matches!(verb, "get" | "head") && DISCOVERY.iter().any(below)
        }
        What::Objects { group, resource, .. } => {
            let is = |review: &Review| review.group() == group && review.plural() == resource;
            verb == "create" && [Review::Subject, Review::Access, Review::Rules].iter().any(is)
        }
    }
}

/// Whether somebody may do something.
pub(super) fn allows(registry: &Registry, identity: &Identity, verb: &str, what: &What) -> bool {
    if identity.is_service_account() {
        return is_open(verb, what) || rbac::allowed(registry, identity, verb, what);
    }
    if is_joining(identity) {
        return match what {
            What::Objects { resource, subresource, name, .. } => {
                let reads_or_creates = verb == "create" || (verb == "get" && !name.is_empty());
                resource == "certificatesigningrequests" && subresource.is_empty() && reads_or_creates
            }
            What::Path(_) => is_open(verb, what),
        };
    }
    !identity.user.is_empty() && !identity.is_in("system:unauthenticated")
}

fn check_roles(registry: &Registry, identity: &Identity, verb: &str, what: &What) -> Result<(), Error> {
    if allows(registry, identity, verb, what) { Ok(()) } else { Err(no_role(identity, verb, what)) }
}

/// The refusal of what no role allows, in upstream's words.
fn no_role(identity: &Identity, verb: &str, what: &What) -> Error {
    let user = &identity.user;
    let none = GroupResource { group: "", resource: "" };
    match what {
        What::Path(path) => status::forbidden(none, "", format!("User {user:?} cannot {verb} path {path:?}")).into(),
        What::Objects { group, resource, subresource, namespace, name } => {
            let part = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
            let place = match namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let why =
                format!("User {user:?} cannot {verb} resource \"{resource}{part}\" in API group {group:?} {place}");
            status::forbidden(GroupResource { group, resource }, name, why).into()
        }
    }
}

fn about(resource: &Resource) -> What {
    What::Objects {
        group: resource.kind.info.group.to_owned(),
        resource: resource.kind.info.plural.to_owned(),
        subresource: String::new(),
        namespace: resource.namespace.clone().unwrap_or_default(),
        name: resource.name.clone().unwrap_or_default(),
    }
}

/// Checks that whoever applies an object that is not there yet may create it.
pub(super) fn check_applies_new(registry: &Registry, identity: &Identity, resource: &Resource) -> Result<(), Error> {
    if identity.is_service_account() { check_roles(registry, identity, "create", &about(resource)) } else { Ok(()) }
}

/// Checks that whoever writes a role, or binds one, gives no more than they hold: unless they may `escalate`, or `bind` it.
pub(super) fn check_grant(registry: &Registry, identity: &Identity, object: &dyn AnyObject) -> Result<(), Error> {
    if !identity.is_service_account() {
        return Ok(());
    }
    let any = object.as_any();
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let name = object.meta().name.as_deref().unwrap_or_default();
    let of = |resource: &str, namespace: &str, name: &str| What::Objects {
        group: longshore_core::api::role_binding::GROUP.to_owned(),
        resource: resource.to_owned(),
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let own = if let Some(role) = any.downcast_ref::<Role>() {
        Some(("escalate", of("roles", namespace, name), role.rules.clone()))
    } else if let Some(role) = any.downcast_ref::<ClusterRole>() {
        // What it will be put together from is not known, so it counts as everything.
        let unknown = role.aggregation_rule.is_some().then(everything).into_iter();
        Some(("escalate", of("clusterroles", "", name), role.rules.iter().cloned().chain(unknown).collect()))
    } else {
        let reference = any.downcast_ref::<RoleBinding>().map(|binding| &binding.role_ref);
        let reference = reference.or_else(|| any.downcast_ref::<ClusterRoleBinding>().map(|binding| &binding.role_ref));
        reference.map(|role| {
            // What a role will allow that is still to be made is not known either.
            let found = Held::of_role(registry, role, namespace).unwrap_or_else(|| vec![everything()]);
            let resource = if role.kind == "Role" { "roles" } else { "clusterroles" };
            ("bind", of(resource, namespace, &role.name), found)
        })
    };
    let Some((verb, what, rules)) = own else { return Ok(()) };
    if allows(registry, identity, verb, &what) || rbac::covers(&Held::by(registry, identity, namespace), &rules) {
        return Ok(());
    }
    let why = format!("user {:?} is attempting to grant RBAC permissions not currently held", identity.user);
    Err(status::forbidden(&object.kind_type().info, name, why).into())
}

fn everything() -> longshore_core::api::role::PolicyRule {
    let all = || vec!["*".to_owned()];
    longshore_core::api::role::PolicyRule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        ..longshore_core::api::role::PolicyRule::default()
    }
}

/// Checks that whoever patches a role or a binding may give whatever may come of it; or approves a certificate, may give anybody one.
pub(super) fn check_part(registry: &Registry, identity: &Identity, resource: &Resource) -> Result<(), Error> {
    if !identity.is_service_account() {
        return Ok(());
    }
    let (kind, mut what) = (resource.kind, about(resource));
    let verb = if kind == KindType::of::<Role>() || kind == KindType::of::<ClusterRole>() {
        "escalate"
    } else if kind == KindType::of::<RoleBinding>() || kind == KindType::of::<ClusterRoleBinding>() {
        if let What::Objects { resource, name, .. } = &mut what {
            "clusterroles".clone_into(resource);
            name.clear();
        }
        "bind"
    } else if kind == KindType::of::<CertificateSigningRequest>()
        && resource.subresource.as_deref() == Some(Subresource::Approval.as_str())
    {
        if let What::Objects { resource, name, .. } = &mut what {
            "signers".clone_into(resource);
            name.clear();
        }
        "approve"
    } else {
        return Ok(());
    };
    check_roles(registry, identity, verb, &what)
}

/// Checks that a node asks for no token but for a pod that it runs.
pub(super) async fn check_token(
    registry: &Registry,
    identity: &Identity,
    account: Target<'_>,
    spec: &TokenRequestSpec,
) -> Result<(), Error> {
    let Some(node) = identity.node() else { return Ok(()) };
    let bound = spec.bound_object_ref.as_ref().map(|bound| bound.name.as_str()).unwrap_or_default();
    let target = Target { kind: KindType::of::<Pod>(), namespace: account.namespace, name: bound };
    let found = registry.find(target, std::time::Duration::ZERO).await?;
    let pod = found.as_ref().and_then(|object| object.as_any().downcast_ref::<Pod>());
    match refuse_node(node, spec, pod) {
        None => Ok(()),
        Some(why) => Err(status::forbidden(&KindType::of::<ServiceAccount>().info, account.name, why).into()),
    }
}

/// As whom a request is to be judged, if an administrator says that it is another's (`kubectl --as`).
pub(super) fn impersonated(call: &Call) -> Result<Option<Identity>, Error> {
    let values = |name: &str| {
        let all = call.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    let Some(user) = values("impersonate-user").into_iter().next().filter(|user| !user.is_empty()) else {
        if call.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            return Err(status::bad_request("requested impersonation without impersonating a user").into());
        }
        return Ok(None);
    };
    if !call.identity.is_in(MASTERS) {
        let own = &call.identity.user;
        let why = format!("User {own:?} cannot impersonate {user:?}: only members of {MASTERS} may");
        return Err(status::failure(403, "Forbidden", why).into());
    }
    let mut groups = values("impersonate-group");
    if let Some(account) = user.strip_prefix(crate::token::USER_PREFIX)
        && groups.is_empty()
    {
        let namespace = account.split(':').next().unwrap_or_default();
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let known = if user == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|group| group == known) {
        groups.push(known.to_owned());
    }
    let uid = values("impersonate-uid").into_iter().next().unwrap_or_default();
    Ok(Some(Identity { user, groups, uid, ..Identity::default() }))
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
