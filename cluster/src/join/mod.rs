//! A machine joins a cluster as a node, and stays in it: by a token once, by certificates of its own from then on.
//!
//! 1. The cluster's authority is read without trust, and its public key compared with the hash that was given ([`discovery`]).
//! 2. With the token the node asks for a certificate for a key that it made itself. Key and request are on disk before anything is
//!    sent, so an answer that is lost costs no token ([`join`]).
//! 3. Key, certificate, authority and server's URL are the `kubeconfig` in the node's directory: the next start needs no token.
//! 4. With the client certificate it asks for one to serve with; both are renewed while the node runs ([`identity`]).
//! 5. The addresses of its pods are those that the cluster gives to its Node ([`range`]).

pub(crate) mod control_plane;
mod discovery;
pub(crate) mod identity;
pub(crate) mod range;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_apiserver::bootstrap_token::{BootstrapToken, Malformed};
use longshore_apiserver::pki::request::{NewRequest, NodeUse};
use longshore_apiserver::pki::{Certified, Credentials, kubeconfig_of};
use longshore_core::api::CertificateSigningRequest;
use longshore_core::api::certificate_signing_request::RequestConditionType;
use longshore_core::client::params::PostParams;
use longshore_core::client::{self, Api, Client};
use longshore_core::clock::Clock;

use crate::Error;
use crate::connection::connection;
use crate::data_dir::DataDir;

/// The key of a node that is about to join.
const PENDING: &str = "joining.pem";

/// Time between looks at a request that was not answered yet.
const POLL: Duration = Duration::from_millis(100);

/// How long a request may stay without an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to join a cluster.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// Where API servers are, of which the first that answers is asked: URLs, or addresses and ports.
    pub servers: Vec<String>,
    /// The token; not needed by a node that has joined before.
    pub token: Option<BootstrapToken>,
    /// File that holds the token, if it is not given; read only if it is needed.
    pub token_file: Option<PathBuf>,
    /// Hash of the public key of the cluster's authority, as `longshore token create` prints it.
    pub ca_hash: Option<String>,
}

impl JoinOptions {
    fn token(&self) -> Result<Option<BootstrapToken>, Error> {
        let Some(path) = self.token_file.as_deref().filter(|_| self.token.is_none()) else {
            return Ok(self.token.clone());
        };
        let unusable = |reason: String| Error::File { tried: "read the token in", path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        text.parse().map(Some).map_err(|error: Malformed| unusable(error.to_string()))
    }
}

fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Join { what: what.into(), remedy: remedy.into() }
}

/// Makes the node known to the cluster, and writes its kubeconfig.
pub(crate) async fn join(
    options: &JoinOptions,
    node: &str,
    directory: &DataDir,
    clock: &dyn Clock,
) -> Result<(), Error> {
    let new = "make one with `longshore token create` where the API server runs, and start again with the command that it prints";
    let token = options.token()?.ok_or_else(|| refused("there is no token", new))?;
    let hash = options.ca_hash.as_deref().ok_or_else(|| {
        let remedy =
            "give --ca-hash as `longshore token create` prints it: without it anybody could pose as the API server";
        refused("there is no hash of the cluster's authority", remedy)
    })?;
    let found = discovery::discover(&options.servers, hash, clock).await?;
    let text = kubeconfig_of("longshore", &[&found.server], &found.authority, Credentials::Token(&token.to_string()));
    let connection = connection(&text, &options.servers).map_err(|reason| refused(reason, "give --server as a URL"))?;
    let unusable = |error: longshore_apiserver::pki::Error| refused(error.to_string(), "choose another --name");
    let pending = std::fs::read_to_string(directory.join(PENDING)).ok();
    let request = match pending.and_then(|key| NewRequest::again(&key, node, NodeUse::Client, &[]).ok()) {
        Some(request) => request,
        None => NewRequest::new(node, NodeUse::Client, &[]).map_err(unusable)?,
    };
    directory.write(PENDING, request.key.as_bytes())?;
    let certificate = obtain(&connection.client, clock, &request.object)
        .await
        .map_err(|failure| explain(failure, node, &found.server, new))?;
    let certified = Certified { certificate, key: request.key };
    write_kubeconfig(directory, &connection.urls(), &found.authority, &certified)?;
    tracing::info!(node, server = found.server, "joined");
    // It has served; a leftover would only be used to ask for the same again.
    let _ = std::fs::remove_file(directory.join(PENDING));
    Ok(())
}

fn write_kubeconfig(
    directory: &DataDir,
    servers: &[String],
    authority: &str,
    certified: &Certified,
) -> Result<(), Error> {
    let text = kubeconfig_of("longshore", servers, authority, Credentials::Certificate(certified));
    directory.write("kubeconfig", text.as_bytes())
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum NotIssued {
    /// The server refused, or was not reached.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Somebody decided that there shall be none.
    #[error("the request {request} was refused: {why}")]
    Refused { request: String, why: String },
    /// Nobody answered.
    #[error("nobody signed the request {request} within {} s; `kubectl get csr {request}` shows how it stands", PATIENCE.as_secs())]
    Late { request: String },
}

/// Asks for a certificate and waits for it.
pub(crate) async fn obtain(
    client: &Arc<dyn Client>,
    clock: &dyn Clock,
    request: &CertificateSigningRequest,
) -> Result<String, NotIssued> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = request.metadata.name.clone().unwrap_or_default();
    let mut seen = match api.create(request.clone(), &PostParams::default()).await {
        Ok(created) => created,
        // It was sent before, and the answer was lost.
        Err(error) if error.is_already_exists() => api.get(&name).await?,
        Err(error) => match api.get(&name).await {
            Ok(seen) => seen,
            Err(_) => return Err(error.into()),
        },
    };
    let start = clock.elapsed();
    loop {
        if !seen.status.certificate.0.is_empty() {
            return Ok(String::from_utf8_lossy(&seen.status.certificate.0).into_owned());
        }
        let no =
            |type_: &RequestConditionType| matches!(type_, RequestConditionType::Denied | RequestConditionType::Failed);
        if let Some(condition) = seen.status.conditions.iter().find(|condition| no(&condition.type_)) {
            return Err(NotIssued::Refused {
                request: name,
                why: format!("{}: {}", condition.reason, condition.message),
            });
        }
        if clock.elapsed().saturating_sub(start) > PATIENCE {
            return Err(NotIssued::Late { request: name });
        }
        clock.sleep(POLL).await;
        seen = api.get(&name).await?;
    }
}

/// What to do about a node that could not join.
fn explain(failure: NotIssued, node: &str, server: &str, new_token: &str) -> Error {
    let what = failure.to_string();
    let NotIssued::Client(error) = &failure else {
        return refused(what, "look at the API server's log, and approve it with `kubectl certificate approve`");
    };
    let remedy = match error.code() {
        401 | 403 => new_token.to_owned(),
        409 => format!(
            "choose another --name, or stop that node; if it is gone for good, `kubectl delete node {node}` and wait until nothing \
             is heard of it (40 s)"
        ),
        0 if what.contains("certificate") => format!(
            "the API server's certificate does not hold for {server}: use an address that it listens at, or start it with --address"
        ),
        0 => format!("make sure that the API server runs and that {server} is reached from here"),
        _ => "look at the API server's log".to_owned(),
    };
    refused(what, remedy)
}

#[cfg(test)]
mod tests {
    use longshore_apiserver::bootstrap_token::BootstrapTokens;
    use longshore_apiserver::bootstrap_token::secret_name;
    use longshore_apiserver::http::{Authenticator, HttpService, Identity};
    use longshore_apiserver::pki::Authority;
    use longshore_apiserver::{LocalClient, Options, Registry};
    use longshore_client::RemoteClient;
    use longshore_core::api::Secret;
    use longshore_core::clock::VirtualClock;
    use longshore_core::store::MemoryStore;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::signing;

    /// A control plane that grants certificates.
    struct World {
        clock: VirtualClock,
        registry: Arc<Registry>,
        admin: Arc<dyn Client>,
    }

    impl World {
        async fn new() -> Self {
            let clock = VirtualClock::new();
            let registry =
                Registry::start(Arc::new(MemoryStore::new()), Arc::new(clock.clone()), Options::new(1)).await.unwrap();
            let admin = Arc::new(LocalClient::new(registry.clone(), "test"));
            Self { clock, registry, admin }
        }

        async fn token(&self, text: &str) -> BootstrapToken {
            let token: BootstrapToken = text.parse().unwrap();
            let expires = self.clock.now() + jiff::SignedDuration::from_hours(1);
            let api: Api<Secret> = Api::namespaced(self.admin.clone(), "kube-system");
            api.create(token.to_secret(expires, ""), &PostParams::default()).await.unwrap();
            token
        }

        /// Who shows a token is known as.
        async fn known(&self, token: &str) -> Result<Identity, String> {
            let tokens = BootstrapTokens::new(self.registry.clone());
            tokens.authenticate(token).await.map_err(|error| error.to_string())
        }

        /// A client that somebody else calls with.
        fn client(&self, identity: Identity) -> Arc<dyn Client> {
            let service = HttpService::new(self.registry.clone()).map_request(
                move |mut request: http::Request<kube::client::Body>| {
                    request.extensions_mut().insert(identity.clone());
                    request
                },
            );
            Arc::new(RemoteClient::new(kube::Client::new(service, "default")))
        }

        /// Runs something while certificates are granted.
        async fn granting<T>(&self, work: impl Future<Output = T>) -> T {
            let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
            let authority = Arc::new(Authority::generate(clock.clone()).unwrap());
            let options = signing::SigningOptions::new(None, Vec::new());
            let manager = signing::manager(self.admin.clone(), authority, clock, options, 1);
            let cancel = CancellationToken::new();
            let work = async {
                let mut work = std::pin::pin!(work);
                loop {
                    tokio::select! {
                        biased;
                        done = &mut work => break done,
                        () = tokio::time::sleep(Duration::from_millis(1)) => { self.clock.advance(POLL); }
                    }
                }
            };
            let (_, done) = tokio::join!(manager.run(cancel.clone()), async {
                let done = work.await;
                cancel.cancel();
                done
            });
            done
        }
    }

    fn request(node: &str) -> NewRequest {
        NewRequest::new(node, NodeUse::Client, &[]).unwrap()
    }

    #[tokio::test]
    async fn of_two_nodes_with_one_token_exactly_one_joins() {
        let world = World::new().await;
        let token = world.token("abcdef.0123456789abcdef").await;
        let client = world.client(world.known(&token.to_string()).await.unwrap());
        let (first, second) = (request("a"), request("b"));
        let (a, b) = world
            .granting(async {
                tokio::join!(
                    obtain(&client, &world.clock, &first.object),
                    obtain(&client, &world.clock, &second.object)
                )
            })
            .await;
        let won = [&a, &b].into_iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{a:?} {b:?}");
        let lost = a.err().or(b.err()).unwrap().to_string();
        assert!(lost.contains("the bootstrap token \"abcdef\" was used already"), "{lost}");
    }

    #[tokio::test]
    async fn a_certificate_whose_answer_was_lost_is_had_with_the_same_token_and_key() {
        let world = World::new().await;
        let token = world.token("abcdef.0123456789abcdef").await;
        let client = world.client(world.known(&token.to_string()).await.unwrap());
        let first = request("a");
        let again = NewRequest::again(&first.key, "a", NodeUse::Client, &[]).unwrap();
        assert_eq!(first.object.metadata.name, again.object.metadata.name);
        world
            .granting(async {
                let issued = obtain(&client, &world.clock, &first.object).await.unwrap();
                let client = world.client(world.known(&token.to_string()).await.unwrap());
                assert_eq!(obtain(&client, &world.clock, &again.object).await.unwrap(), issued);
            })
            .await;
    }

    #[tokio::test]
    async fn tokens_that_are_wrong_say_so() {
        let world = World::new().await;
        let token = world.token("abcdef.0123456789abcdef").await;
        let unknown = "there is no bootstrap token";
        for (shown, reason) in
            [("nonsense", "Unauthorized"), ("abcdef.0123456789abcdee", unknown), ("zzzzzz.0123456789abcdef", unknown)]
        {
            let error = world.known(shown).await.unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        world.clock.advance(Duration::from_secs(3601));
        assert!(world.known(&token.to_string()).await.unwrap_err().contains("expired at"));
    }

    #[tokio::test]
    async fn whoever_holds_a_token_asks_for_a_certificate_and_nothing_else() {
        let world = World::new().await;
        let token = world.token("abcdef.0123456789abcdef").await;
        let client = world.client(world.known(&token.to_string()).await.unwrap());
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
        let error = secrets.get(&secret_name("abcdef")).await.unwrap_err();
        assert_eq!(error.code(), 403, "{error}");
        let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
        assert_eq!(requests.list(&Default::default()).await.unwrap_err().code(), 403);
        // What could not be granted costs no token.
        let serving = NewRequest::new("a", NodeUse::Serving, &[]).unwrap();
        assert_eq!(requests.create(serving.object, &PostParams::default()).await.unwrap_err().code(), 403);
        let mut other = request("a").object;
        other.spec.username = "system:admin".into();
        let created = requests.create(other, &PostParams::default()).await.unwrap();
        assert_eq!(created.spec.username, "system:bootstrap:abcdef");
        let other: Api<CertificateSigningRequest> = Api::all(world.admin.clone());
        let strange = other.create(request("b").object, &PostParams::default()).await.unwrap();
        assert_eq!(requests.get(strange.metadata.name.as_deref().unwrap()).await.unwrap_err().code(), 403);
    }

    #[tokio::test]
    async fn the_name_of_a_living_node_is_taken_and_the_token_is_not_spent_on_it() {
        let world = World::new().await;
        let token = world.token("abcdef.0123456789abcdef").await;
        let mut lease = longshore_core::api::Lease::default();
        lease.metadata.name = Some("a".into());
        lease.metadata.namespace = Some("kube-node-lease".into());
        lease.spec.lease_duration_seconds = Some(40);
        lease.spec.renew_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(world.clock.now()));
        world.admin.create(Box::new(lease), &PostParams::default()).await.unwrap();
        let client = world.client(world.known(&token.to_string()).await.unwrap());
        world
            .granting(async {
                let error = obtain(&client, &world.clock, &request("a").object).await.unwrap_err();
                assert!(error.to_string().contains("the name \"a\" is taken by a node that is alive"), "{error}");
                world.clock.advance(Duration::from_secs(41));
                assert!(obtain(&client, &world.clock, &request("a").object).await.is_ok());
            })
            .await;
    }
}
