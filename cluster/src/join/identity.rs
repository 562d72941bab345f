//! Who a joined node is: its two certificates, renewed while it runs, and everything that shows them.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use longshore_apiserver::pki::Certified;
use longshore_apiserver::pki::request::{NewRequest, NodeUse, Validity};
use longshore_client::Failover;
use longshore_core::api::TokenRequest;
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use longshore_core::client::{self, Bind, Client, Deleted, DynList, Scope, Target, WatchStream};
use longshore_core::clock::Clock;
use longshore_core::kind::{AnyObject, DynObject, Subresource};
use longshore_node::http::server_config_of;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{obtain, refused, write_kubeconfig};
use crate::connection::{Connection, base, connect, connection, learn};
use crate::data_dir::DataDir;
use crate::{Error, local};

/// The certificate to serve with and its key.
const SERVING: &str = "serving.pem";

/// Wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Longest sleep: a machine that was suspended looks at its clock again soon.
const NAP: Duration = Duration::from_secs(600);

/// A node's certificates.
#[derive(Debug)]
pub(crate) struct NodeIdentity {
    node: String,
    addresses: Vec<IpAddr>,
    root_ca: String,
    directory: DataDir,
    clock: Arc<dyn Clock>,
    seed: u64,
    client: Arc<CurrentClient>,
    serving: Arc<CurrentServing>,
}

impl NodeIdentity {
    /// Reads who the node of a directory is, and gets a certificate to serve with at these addresses if it has none that is good.
    /// `further` are URLs of API servers that the directory may not know.
    pub(crate) async fn open(
        directory: &DataDir,
        addresses: &[IpAddr],
        further: &[String],
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, Error> {
        let path = directory.kubeconfig();
        let unusable = |reason: String| Error::File { tried: "use the kubeconfig", path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(Error::file("read the kubeconfig", &path))?;
        let Connection { client, servers, root_ca, certified } = connection(&text, further).map_err(unusable)?;
        let validity = Validity::of(&certified.certificate).map_err(|error| unusable(error.to_string()))?;
        let node = validity.node().ok_or_else(|| unusable("it is no node's".to_owned()))?.to_owned();
        let client = Arc::new(CurrentClient(RwLock::new(Calling { client, servers, certified, validity })));
        let stored = std::fs::read_to_string(directory.join(SERVING)).ok();
        let stored = stored.map(|pem| Certified { certificate: pem.clone(), key: pem });
        let serving = stored.and_then(|certified| serving(&certified).ok());
        let now = clock.now();
        let good = serving.filter(|(_, validity)| {
            validity.until > now && validity.covers(addresses) && validity.node() == Some(node.as_str())
        });
        let addresses = addresses.to_vec();
        let (directory, fresh) = (directory.clone(), good.is_none());
        let serving = match good {
            Some(serving) => serving,
            None => {
                let whole: Arc<dyn Client> = client.clone();
                let certified = issue(&whole, &*clock, &node, NodeUse::Serving, &addresses).await.map_err(|why| {
                    let remedy = "a node serves under its own addresses only: give --address with one that no other node and no API \
                                  server has; for a node beside its API server, `longshore certificate node` makes its kubeconfig";
                    refused(why, remedy)
                })?;
                keep_serving(&directory, &certified)?;
                serving_of(&certified)?
            }
        };
        tracing::debug!(node, fresh, "the node's certificate to serve with is there");
        let serving = Arc::new(CurrentServing(RwLock::new(serving)));
        Ok(Self { node, addresses, root_ca, directory, clock, seed, client, serving })
    }

    /// The node's name.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Access to the cluster, always with the present certificate.
    pub(crate) fn client(&self) -> Arc<dyn Client> {
        self.client.clone()
    }

    /// How the node serves, always with the present certificate.
    pub(crate) fn server_tls(&self) -> Result<Arc<rustls::ServerConfig>, String> {
        let authority = CertificateDer::from_pem_slice(self.root_ca.as_bytes()).map_err(|error| error.to_string())?;
        server_config_of(self.serving.clone(), authority).map(Arc::new).map_err(|error| error.to_string())
    }

    /// Renews both certificates in time, and learns which API servers there are, until cancelled.
    pub(crate) async fn run(&self, cancel: &CancellationToken) {
        let both = async { tokio::join!(self.keep(NodeUse::Client), self.keep(NodeUse::Serving)) };
        let client = self.client();
        let known = self.client.read().urls().into_iter().next().unwrap_or_default();
        let learning = learn(&client, &*self.clock, &known, cancel, |url| self.add(&url));
        tokio::join!(cancel.run_until_cancelled(both), learning);
    }

    /// Notes an API server, for the next start too.
    fn add(&self, url: &http::Uri) {
        let calling = self.client.read();
        let known = calling.servers.urls().len();
        let added = calling.servers.add(url).map_err(|error| error.to_string());
        if calling.servers.urls().len() == known && added.is_ok() {
            return;
        }
        let written = added.and_then(|()| {
            let written = write_kubeconfig(&self.directory, &calling.urls(), &self.root_ca, &calling.certified);
            written.map_err(|error| error.to_string())
        });
        match written {
            Ok(()) => tracing::info!(server = %url, "learned of another API server"),
            Err(why) => tracing::warn!(server = %url, why, "cannot note another API server"),
        }
    }

    async fn keep(&self, for_use: NodeUse) {
        for round in 0.. {
            let at =
                renewal(&self.validity(for_use), fraction(self.seed ^ u64::from(for_use == NodeUse::Serving), round));
            while let Some(left) = left(self.clock.now(), at) {
                self.clock.sleep(left.min(NAP)).await;
            }
            while let Err(why) = self.renew(for_use).await {
                tracing::warn!(node = self.node, ?for_use, why, "cannot renew the node's certificate, trying again");
                self.clock.sleep(RETRY).await;
            }
            tracing::info!(node = self.node, ?for_use, until = %self.validity(for_use).until, "renewed the node's certificate");
        }
    }

    fn validity(&self, for_use: NodeUse) -> Validity {
        match for_use {
            NodeUse::Client => self.client.read().validity.clone(),
            NodeUse::Serving => self.serving.0.read().unwrap_or_else(PoisonError::into_inner).1.clone(),
        }
    }

    /// Gets another certificate for another key. It is on disk before it is used.
    async fn renew(&self, for_use: NodeUse) -> Result<(), String> {
        let certified = issue(&self.client(), &*self.clock, &self.node, for_use, &self.addresses).await?;
        match for_use {
            NodeUse::Client => {
                let validity = Validity::of(&certified.certificate).map_err(|error| error.to_string())?;
                let urls = self.client.read().urls();
                write_kubeconfig(&self.directory, &urls, &self.root_ca, &certified)
                    .map_err(|error| error.to_string())?;
                let connection = connect(&self.directory.kubeconfig(), &[]).map_err(|error| error.to_string())?;
                let Connection { client, servers, certified, .. } = connection;
                let new = Calling { client, servers, certified, validity };
                *self.client.0.write().unwrap_or_else(PoisonError::into_inner) = new;
            }
            NodeUse::Serving => {
                let new = serving(&certified)?;
                keep_serving(&self.directory, &certified).map_err(|error| error.to_string())?;
                *self.serving.0.write().unwrap_or_else(PoisonError::into_inner) = new;
            }
        }
        Ok(())
    }
}

async fn issue(
    client: &Arc<dyn Client>,
    clock: &dyn Clock,
    node: &str,
    for_use: NodeUse,
    addresses: &[IpAddr],
) -> Result<Certified, String> {
    let request = NewRequest::new(node, for_use, addresses).map_err(|error| error.to_string())?;
    let certificate = obtain(client, clock, &request.object).await.map_err(|error| error.to_string())?;
    Ok(Certified { certificate, key: request.key })
}

fn keep_serving(directory: &DataDir, certified: &Certified) -> Result<(), Error> {
    directory.write(SERVING, format!("{}{}", certified.certificate, certified.key).as_bytes())
}

/// What rustls serves with, and how long.
type Serving = (Arc<CertifiedKey>, Validity);

fn serving(certified: &Certified) -> Result<Serving, String> {
    let chain = CertificateDer::from_pem_slice(certified.certificate.as_bytes()).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).map_err(|error| error.to_string())?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(vec![chain], key, &provider).map_err(|error| error.to_string())?;
    Ok((Arc::new(key), Validity::of(&certified.certificate).map_err(|error| error.to_string())?))
}

fn serving_of(certified: &Certified) -> Result<Serving, Error> {
    serving(certified).map_err(local::failed("certificates"))
}

/// When to renew: at 70 to 90 % of a certificate's life, so that nodes that joined together do not ask together.
fn renewal(validity: &Validity, fraction: f64) -> Timestamp {
    let life = validity.until.duration_since(validity.from);
    let part = SignedDuration::try_from_secs_f64(life.as_secs_f64() * (0.7 + 0.2 * fraction)).unwrap_or(life);
    validity.from.checked_add(part).unwrap_or(validity.until)
}

/// A number from 0 to 1 that differs from seed to seed and from round to round (the mixing of SplitMix64).
fn fraction(seed: u64, round: u64) -> f64 {
    let mut mixed = seed.wrapping_add(round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    #[allow(clippy::cast_precision_loss, reason = "53 bits are enough of a fraction")]
    let fraction = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// How long to wait for a moment; `None` once it has come.
fn left(now: Timestamp, at: Timestamp) -> Option<Duration> {
    Duration::try_from(at.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// The certificate that a server shows now.
#[derive(Debug)]
struct CurrentServing(RwLock<Serving>);

impl ResolvesServerCert for CurrentServing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

/// A client with the certificate of now. What was begun with an earlier one ends with it, and begins again with this.
#[derive(Debug)]
struct CurrentClient(RwLock<Calling>);

/// How a node calls.
#[derive(Debug)]
struct Calling {
    client: Arc<dyn Client>,
    servers: Failover,
    certified: Certified,
    validity: Validity,
}

impl Calling {
    fn urls(&self) -> Vec<String> {
        self.servers.urls().iter().map(base).collect()
    }
}

impl CurrentClient {
    fn read(&self) -> RwLockReadGuard<'_, Calling> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Arc<dyn Client> {
        self.read().client.clone()
    }
}

#[async_trait]
impl Client for CurrentClient {
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, client::Error> {
        self.now().get(target, params).await
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, client::Error> {
        self.now().list(scope, params).await
    }

    async fn watch(&self, scope: Scope<'_>, params: &WatchParams, from: &str) -> Result<WatchStream, client::Error> {
        self.now().watch(scope, params, from).await
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, client::Error> {
        self.now().create(object, params).await
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, client::Error> {
        self.now().update(object, subresource, params).await
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, client::Error> {
        self.now().patch(target, subresource, patch, params).await
    }

    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, client::Error> {
        self.now().delete(target, params).await
    }

    async fn bind(&self, bind: &Bind) -> Result<(), client::Error> {
        self.now().bind(bind).await
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, client::Error> {
        self.now().create_token(request).await
    }
}

#[cfg(test)]
mod tests {
    use longshore_apiserver::pki::Authority;
    use longshore_apiserver::pki::request::NodeRequest;
    use longshore_core::clock::VirtualClock;

    use super::*;

    #[test]
    fn certificates_are_renewed_between_seventy_and_ninety_per_cent_of_their_life() {
        let clock = VirtualClock::new();
        let authority = Authority::generate(Arc::new(clock.clone())).unwrap();
        let request = NodeRequest::read(&NewRequest::new("a", NodeUse::Client, &[]).unwrap().object).unwrap();
        let day = Duration::from_secs(86400);
        let validity = Validity::of(&authority.sign(&request, day).unwrap()).unwrap();
        let life = validity.until.duration_since(validity.from);
        let mut seen: Vec<Timestamp> = (0..100).map(|seed| renewal(&validity, fraction(seed, 0))).collect();
        seen.sort();
        let part = |at: &Timestamp| at.duration_since(validity.from).as_secs_f64() / life.as_secs_f64();
        assert!(seen.iter().map(part).all(|part| (0.7..=0.9).contains(&part)));
        assert!(part(&seen[0]) < 0.72 && part(&seen[99]) > 0.88, "spread over all of it");
        assert_ne!(fraction(1, 0), fraction(1, 1));
        // A life that is shorter than the hour by which certificates begin earlier is no cause to renew at once.
        let short = Validity::of(&authority.sign(&request, Duration::from_secs(60)).unwrap()).unwrap();
        assert!(renewal(&short, 0.0) > clock.now());
    }
}
