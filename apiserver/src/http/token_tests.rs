//! Tokens and roles, by requests as their holders send them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use longshore_core::clock::VirtualClock;
use longshore_core::store::MemoryStore;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Authenticator, HttpService, Identity};
use crate::registry::{Options, Registry};
use crate::token::{BearerTokens, SigningKey, TokenIssuer};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PODS: &str = "/api/v1/namespaces/default/pods";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

struct World {
    registry: Arc<Registry>,
    service: HttpService,
    clock: VirtualClock,
}

impl World {
    async fn new() -> Self {
        let clock = VirtualClock::new();
        let mut options = Options::new(1);
        options.tokens = Some(Arc::new(TokenIssuer::new(SigningKey::generate().unwrap(), "cluster.local")));
        let registry = Registry::start(Arc::new(MemoryStore::new()), Arc::new(clock.clone()), options).await.unwrap();
        let world = Self { service: HttpService::new(registry.clone()), registry, clock };
        for name in ["robot", "other"] {
            world.made(ACCOUNTS, json!({ "metadata": { "name": name } })).await;
        }
        world
    }

    /// What comes of a request of somebody, `None` for an administrator.
    async fn send(&self, who: Option<&Identity>, method: &str, path: &str, body: Value) -> (u16, Value) {
        // Roles and tokens are judged by what the cache has, which is a moment behind.
        self.registry.refresh().await.unwrap();
        let mut request = ::http::Request::builder().method(method).uri(path);
        if method == "PATCH" {
            request = request.header("content-type", "application/merge-patch+json");
        }
        if let Some(who) = who {
            request = request.extension(who.clone());
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.service.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn made(&self, path: &str, body: Value) -> Value {
        let (code, answer) = self.send(None, "POST", path, body).await;
        assert_eq!(code, 201, "{answer}");
        answer
    }

    async fn token(&self, account: &str, spec: Value) -> (u16, Value) {
        let path = format!("{ACCOUNTS}/{account}/token");
        self.send(None, "POST", &path, json!({ "spec": spec, "status": { "expirationTimestamp": null } })).await
    }

    async fn text(&self, account: &str, spec: Value) -> String {
        let (code, answer) = self.token(account, spec).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    async fn known(&self, token: &str) -> Result<Identity, String> {
        self.registry.refresh().await.unwrap();
        BearerTokens::new(self.registry.clone()).authenticate(token).await.map_err(|error| {
            assert_eq!(error.code(), 401);
            error.to_string()
        })
    }

    async fn robot(&self) -> Identity {
        self.known(&self.text("robot", json!({})).await).await.unwrap()
    }

    async fn pod(&self, name: &str, account: &str) -> Value {
        let spec = json!({ "serviceAccountName": account, "containers": [{ "name": "c", "image": "i" }] });
        self.made(PODS, json!({ "metadata": { "name": name }, "spec": spec })).await
    }

    async fn bind(&self, pod: &str, node: &str) {
        let target = json!({ "kind": "Node", "name": node });
        let status = json!({ "allocatable": { "cpu": "2", "pods": "10" } });
        self.made("/api/v1/nodes", json!({ "metadata": { "name": node }, "status": status })).await;
        self.made(&format!("{PODS}/{pod}/binding"), json!({ "target": target })).await;
    }

    async fn grant(&self, rules: Value) {
        let role = json!({ "metadata": { "name": "r" }, "rules": rules });
        self.made(&format!("{RBAC}/namespaces/default/roles"), role).await;
        let subject = json!({ "kind": "ServiceAccount", "name": "robot", "namespace": "default" });
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" });
        let binding = json!({ "metadata": { "name": "b" }, "subjects": [subject], "roleRef": reference });
        self.made(&format!("{RBAC}/namespaces/default/rolebindings"), binding).await;
    }
}

fn bound(pod: &Value) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"] })
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn a_token_names_its_account_and_its_pod() {
    let world = World::new().await;
    let pod = world.pod("p", "robot").await;
    world.bind("p", "n1").await;
    let (code, answer) =
        world.token("robot", json!({ "expirationSeconds": 3607, "boundObjectRef": bound(&pod) })).await;
    assert_eq!((code, answer["kind"].as_str()), (201, Some("TokenRequest")), "{answer}");
    let token = answer["status"]["token"].as_str().unwrap();
    let claims = claims(token);
    let own = &claims["kubernetes.io"];
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!("https://kubernetes.default.svc.cluster.local"), &json!([claims["iss"]]))
    );
    assert_eq!((&own["namespace"], &own["pod"]["uid"]), (&json!("default"), &pod["metadata"]["uid"]));
    assert_eq!(own["node"]["name"], "n1");
    let age = |of: &Value| of.as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(
        (age(&own["warnafter"]), age(&claims["exp"])),
        (3607, 365 * 86400),
        "programs that read it once keep working"
    );
    let identity = world.known(token).await.unwrap();
    assert_eq!(identity.user, "system:serviceaccount:default:robot");
    assert_eq!(identity.groups, ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
    assert_eq!(identity.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert!(identity.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
    let review = json!({ "spec": { "token": token } });
    let status = &world.made("/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"];
    assert_eq!((&status["authenticated"], &status["user"]["username"]), (&json!(true), &json!(identity.user)));
    let review = json!({ "spec": { "token": token, "audiences": ["vault"] } });
    let status = &world.made("/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"];
    assert_eq!(status["authenticated"], false);
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_upstreams_words() {
    let world = World::new().await;
    let pod = world.pod("p", "other").await;
    let cases = [
        ("robot", json!({ "expirationSeconds": 599 }), 422, "may not specify a duration less than 10 minutes"),
        (
            "robot",
            json!({ "expirationSeconds": (1_i64 << 32) + 1 }),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        ("nobody", json!({}), 404, "serviceaccounts \"nobody\" not found"),
        ("robot", json!({ "boundObjectRef": bound(&pod) }), 400, "pod running with different serviceaccount name"),
        (
            "robot",
            json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "q" } }),
            404,
            "pods \"q\" not found",
        ),
        (
            "robot",
            json!({ "boundObjectRef": { "kind": "Service", "apiVersion": "v1", "name": "q" } }),
            400,
            "cannot bind token",
        ),
        (
            "robot",
            json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "x" } }),
            409,
            "does not match the UID in record",
        ),
        ("robot", json!({ "audiences": 1 }), 400, "invalid type"),
    ];
    for (account, spec, code, message) in cases {
        let (got, answer) = world.token(account, spec.clone()).await;
        assert_eq!(got, code, "{spec}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(message), "{spec}: {answer}");
    }
    let named = json!({ "metadata": { "name": "other" } });
    assert_eq!(world.send(None, "POST", &format!("{ACCOUNTS}/robot/token"), named).await.0, 400);
    assert_eq!(world.send(None, "GET", &format!("{ACCOUNTS}/robot/token"), Value::Null).await.0, 405);
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_pod_and_its_account() {
    let world = World::new().await;
    let short = world.text("robot", json!({ "expirationSeconds": 600 })).await;
    world.clock.advance(Duration::from_secs(661));
    assert!(world.known(&short).await.unwrap_err().contains("expired"));
    let vault = world.text("robot", json!({ "audiences": ["vault"] })).await;
    assert!(world.known(&vault).await.unwrap_err().contains("audiences"));
    assert!(world.known("a.b.c").await.is_err());
    assert!(world.known("abcdef.0123456789abcdef").await.unwrap_err().contains("there is no bootstrap token"));

    let pod = world.pod("p", "robot").await;
    let of_pod = world.text("robot", json!({ "boundObjectRef": bound(&pod) })).await;
    let plain = world.text("robot", json!({})).await;
    assert!(world.known(&of_pod).await.is_ok());
    world.send(None, "DELETE", &format!("{PODS}/p?gracePeriodSeconds=0"), Value::Null).await;
    assert_eq!(world.known(&of_pod).await.unwrap_err(), "the token's pod \"p\" is no longer there");
    world.pod("p", "robot").await;
    assert!(world.known(&of_pod).await.is_err(), "another pod of that name");
    assert!(world.known(&plain).await.is_ok());
    world.send(None, "DELETE", &format!("{ACCOUNTS}/robot"), Value::Null).await;
    assert_eq!(world.known(&plain).await.unwrap_err(), "the token's service account \"robot\" is no longer there");
    world.made(ACCOUNTS, json!({ "metadata": { "name": "robot" } })).await;
    assert!(world.known(&plain).await.is_err(), "another account of that name");
}

#[tokio::test]
async fn a_service_account_may_do_what_roles_allow_and_nothing_else() {
    let world = World::new().await;
    world.pod("p", "default").await;
    let robot = world.robot().await;
    let who = Some(&robot);
    for path in ["/api", "/apis", "/api/v1", "/version", "/openapi/v2", "/livez"] {
        assert_eq!(world.send(who, "GET", path, Value::Null).await.0, 200, "{path}");
    }
    for path in [PODS, "/metrics", "/api/v1/nodes", "/", "/longshore/store"] {
        assert_eq!(world.send(who, "GET", path, Value::Null).await.0, 403, "{path}");
    }
    let (_, refused) = world.send(who, "GET", &format!("{PODS}/p"), Value::Null).await;
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: User \"system:serviceaccount:default:robot\" cannot get resource \"pods\" in API group \"\" in \
         the namespace \"default\""
    );
    world.grant(json!([{ "verbs": ["get", "list", "create"], "apiGroups": [""], "resources": ["pods"] }])).await;
    let body = json!({ "metadata": { "name": "x" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let cases = [
        ("GET", PODS.to_owned(), Value::Null, 200),
        ("GET", format!("{PODS}/p"), Value::Null, 200),
        ("GET", format!("{PODS}?watch=true"), Value::Null, 403),
        ("GET", format!("{PODS}/p/log"), Value::Null, 403),
        ("GET", format!("{PODS}/p/exec?command=sh"), Value::Null, 403),
        ("POST", PODS.to_owned(), body.clone(), 201),
        ("POST", format!("{PODS}/p/binding"), json!({ "target": { "name": "n" } }), 403),
        ("PUT", format!("{PODS}/x"), body, 403),
        ("PATCH", format!("{PODS}/x"), json!({ "metadata": { "labels": { "a": "b" } } }), 403),
        ("DELETE", format!("{PODS}/x"), Value::Null, 403),
        ("DELETE", PODS.to_owned(), Value::Null, 403),
        ("GET", "/api/v1/pods".to_owned(), Value::Null, 403),
        ("GET", "/api/v1/namespaces/kube-system/pods".to_owned(), Value::Null, 403),
        ("POST", format!("{ACCOUNTS}/other/token"), json!({}), 403),
    ];
    for (method, path, body, code) in cases {
        let (got, answer) = world.send(who, method, &path, body).await;
        assert_eq!(got, code, "{method} {path}: {answer}");
    }
    let ask = |verb: &str| json!({ "spec": { "resourceAttributes": { "verb": verb, "resource": "pods", "namespace": "default" } } });
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, allowed) in [("get", true), ("delete", false)] {
        assert_eq!(world.send(who, "POST", review, ask(verb)).await.1["status"]["allowed"], allowed, "{verb}");
    }
    let mut about = ask("get");
    about["spec"]["user"] = robot.user.as_str().into();
    let others = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(world.made(others, about.clone()).await["status"]["allowed"], true);
    assert_eq!(world.send(who, "POST", others, about).await.0, 403);
    world.send(None, "DELETE", &format!("{RBAC}/namespaces/default/rolebindings/b"), Value::Null).await;
    assert_eq!(world.send(who, "GET", PODS, Value::Null).await.0, 403, "what is taken away is gone");
}

#[tokio::test]
async fn a_service_account_gives_nobody_more_than_it_has() {
    let world = World::new().await;
    let rbac = json!({
        "verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
        "resourceNames": [],
    });
    let writes = json!({ "verbs": ["create", "patch"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"] });
    let pods = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
    world.grant(json!([writes, pods])).await;
    let robot = world.robot().await;
    let who = Some(&robot);
    let (roles, bindings) =
        (format!("{RBAC}/namespaces/default/roles"), format!("{RBAC}/namespaces/default/rolebindings"));
    let role = |name: &str, rule: &Value| json!({ "metadata": { "name": name }, "rules": [rule] });
    let secrets = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["secrets"] });
    let (code, answer) = world.send(who, "POST", &roles, role("bad", &secrets)).await;
    assert_eq!(code, 403);
    assert!(answer["message"].as_str().unwrap().contains("attempting to grant RBAC permissions not currently held"));
    assert_eq!(world.send(who, "POST", &roles, role("worse", &rbac)).await.0, 403);
    assert_eq!(world.send(who, "POST", &roles, role("good", &pods)).await.0, 201);
    assert_eq!(world.send(who, "PATCH", &format!("{roles}/good"), json!({ "rules": [secrets] })).await.0, 403);
    let binding = |name: &str, kind: &str, role: &str| {
        let subject = json!({ "kind": "ServiceAccount", "name": "robot", "namespace": "default" });
        json!({ "metadata": { "name": name }, "subjects": [subject], "roleRef": { "kind": kind, "name": role } })
    };
    assert_eq!(world.send(who, "POST", &bindings, binding("x", "ClusterRole", "cluster-admin")).await.0, 403);
    assert_eq!(world.send(who, "POST", &bindings, binding("y", "Role", "good")).await.0, 201);
    assert_eq!(world.send(who, "POST", &bindings, binding("later", "Role", "to-be-made")).await.0, 403);
    let everywhere = format!("{RBAC}/clusterrolebindings");
    assert_eq!(world.send(who, "POST", &everywhere, binding("z", "ClusterRole", "view")).await.0, 403);
}

#[tokio::test]
async fn cluster_roles_hold_everywhere_and_may_be_put_together() {
    let world = World::new().await;
    let robot = world.robot().await;
    let rule = json!({ "verbs": ["list"], "apiGroups": [""], "resources": ["nodes"] });
    let part = json!({ "metadata": { "name": "part", "labels": { "of": "sum" } }, "rules": [rule] });
    world.made(&format!("{RBAC}/clusterroles"), part).await;
    let selectors = json!([{ "matchLabels": { "of": "sum" } }]);
    let sum = json!({ "metadata": { "name": "sum" }, "aggregationRule": { "clusterRoleSelectors": selectors } });
    world.made(&format!("{RBAC}/clusterroles"), sum).await;
    let subject = json!({ "kind": "Group", "name": "system:serviceaccounts:default" });
    let binding = json!({ "metadata": { "name": "b" }, "subjects": [subject], "roleRef": { "kind": "ClusterRole", "name": "sum" } });
    world.made(&format!("{RBAC}/clusterrolebindings"), binding).await;
    assert_eq!(world.send(Some(&robot), "GET", "/api/v1/nodes", Value::Null).await.0, 200);
    assert_eq!(world.send(Some(&robot), "GET", PODS, Value::Null).await.0, 403);
}

#[tokio::test]
async fn a_node_has_tokens_for_the_pods_that_it_runs() {
    let world = World::new().await;
    let (near, far) = (world.pod("near", "robot").await, world.pod("far", "robot").await);
    world.bind("near", "n1").await;
    world.bind("far", "n2").await;
    let node = Identity {
        user: "system:node:n1".into(),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..Identity::default()
    };
    let mut without_uid = bound(&near);
    without_uid["uid"] = "".into();
    let cases = [
        (json!({ "boundObjectRef": bound(&near) }), 201, ""),
        (
            json!({ "boundObjectRef": bound(&near), "audiences": ["vault"] }),
            403,
            "no volume with a token for this audience",
        ),
        (json!({ "boundObjectRef": bound(&far) }), 403, "scheduled on a different node"),
        (json!({ "boundObjectRef": without_uid }), 403, "without a uid"),
        (json!({}), 403, "not bound to a pod"),
    ];
    for (spec, code, message) in cases {
        let (got, answer) =
            world.send(Some(&node), "POST", &format!("{ACCOUNTS}/robot/token"), json!({ "spec": spec })).await;
        assert_eq!(got, code, "{spec}: {answer}");
        assert!(answer["message"].as_str().unwrap_or_default().contains(message), "{spec}: {answer}");
    }
    let (code, _) = world
        .send(
            Some(&node),
            "POST",
            &format!("{ACCOUNTS}/other/token"),
            json!({ "spec": { "boundObjectRef": bound(&near) } }),
        )
        .await;
    assert_eq!(code, 400, "the pod runs under another account");
}
