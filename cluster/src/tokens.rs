//! Tokens with which machines join a cluster as nodes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
pub use longshore_apiserver::bootstrap_token::{BootstrapToken, TokenRecord};
use longshore_apiserver::bootstrap_token::{NAMESPACE, secret_name};
use longshore_apiserver::pki::public_key_hash;
use longshore_core::api::Secret;
use longshore_core::client::params::{ListParams, PostParams};
use longshore_core::client::{Api, Client};
use longshore_core::clock::{Clock, SystemClock};

use crate::cluster_info::ClusterInfo;
use crate::connection::{Connection, connection, is_loopback};
use crate::data_dir::DataDir;
use crate::join::control_plane::{self, ControlPlaneToken};
use crate::local::failed;
use crate::{Error, random};

/// What a machine needs to join.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// URL of the API server.
    pub server: String,
    /// The token, which is good for one machine.
    pub token: BootstrapToken,
    /// Hash of the public key of the cluster's authority.
    pub ca_hash: String,
}

impl Invitation {
    /// The command to run on the machine.
    pub fn command(&self) -> String {
        format!("longshore node --server {} --token {} --ca-hash {}", self.server, self.token, self.ca_hash)
    }
}

/// What a machine needs to become part of the control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneInvitation {
    /// Where the cluster's objects are kept, as `--store` has it.
    pub store: String,
    /// The token, which is good for one machine.
    pub token: ControlPlaneToken,
}

impl ControlPlaneInvitation {
    /// The command to run on the machine.
    pub fn command(&self) -> String {
        format!(
            "LONGSHORE_CONTROL_PLANE_TOKEN={} longshore up --join --store {} --listen 0.0.0.0:6443",
            self.token, self.store
        )
    }
}

/// The tokens of a cluster, to which a kubeconfig leads.
#[derive(Debug)]
pub struct Tokens {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
}

fn unusable(error: longshore_core::client::Error) -> Error {
    failed("token")(error)
}

impl Tokens {
    /// Takes the text of a kubeconfig.
    ///
    /// # Errors
    /// [`Error::Part`] if it cannot be used.
    pub fn new(kubeconfig: &str) -> Result<Self, Error> {
        let Connection { client, .. } = connection(kubeconfig, &[]).map_err(failed("kubeconfig"))?;
        Ok(Self { client, clock: Arc::new(SystemClock::new()) })
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Makes a token that is good for so long, and says how to join with it. `server` is where machines reach the API server, by
    /// default where the cluster says that it is.
    ///
    /// # Errors
    /// [`Error::Part`] with what the API server says; [`Error::Missing`] if only this machine reaches it.
    pub async fn create(&self, life: Duration, description: &str, server: Option<&str>) -> Result<Invitation, Error> {
        let info = ClusterInfo::fetch(self.client.clone()).await.map_err(unusable)?;
        let info = info.ok_or_else(|| Error::Missing {
            what: "the cluster does not say how to join it: there is no config map kube-public/cluster-info".to_owned(),
            remedy: "restart its API server, which publishes it".to_owned(),
        })?;
        let server = server.map_or(info.server, |server| format!("https://{server}"));
        if is_loopback(&server) {
            return Err(Error::Missing {
                what: format!("the API server listens at {server}, which no other machine reaches"),
                remedy: "start it with --listen and an address of this machine, such as --listen 0.0.0.0:6443"
                    .to_owned(),
            });
        }
        let ca_hash = public_key_hash(&info.authority).map_err(failed("certificates"))?;
        let bytes = random::bytes::<64>().map_err(failed("randomness"))?;
        let token = BootstrapToken::from_random(&bytes).ok_or_else(|| failed("randomness")("too little of it"))?;
        let secret = token.to_secret(self.until(life), description);
        self.secrets().create(secret, &PostParams::default()).await.map_err(unusable)?;
        Ok(Invitation { server, token, ca_hash })
    }

    /// Makes a token that is good for so long, for one more machine of the control plane whose directory this is.
    ///
    /// # Errors
    /// [`Error::Part`] with what the API server says; [`Error::Missing`] if this is not a control plane's directory, or only this
    /// machine reaches its store.
    pub async fn create_for_control_plane(
        &self,
        life: Duration,
        directory: &DataDir,
    ) -> Result<ControlPlaneInvitation, Error> {
        let settings = directory.settings()?.ok_or_else(|| Error::NoCluster { directory: directory.path().into() })?;
        if !settings.is_shared() {
            return Err(Error::Missing {
                what: format!(
                    "the cluster's objects are kept as --store {}, which no other machine reaches",
                    settings.store
                ),
                remedy: "several control planes need --store etcd=URL,URL,URL".to_owned(),
            });
        }
        let info = ClusterInfo::fetch(self.client.clone()).await.map_err(unusable)?;
        let cluster_dns = info.map(|info| info.dns.to_string()).unwrap_or_default();
        let (token, secret) = control_plane::invite(directory, &settings, cluster_dns, self.until(life))?;
        self.secrets().create(secret, &PostParams::default()).await.map_err(unusable)?;
        Ok(ControlPlaneInvitation { store: settings.store, token })
    }

    fn until(&self, life: Duration) -> Timestamp {
        let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_add(life).unwrap_or(Timestamp::MAX)
    }

    /// All tokens, and how long each can still be used.
    ///
    /// # Errors
    /// [`Error::Part`] with what the API server says.
    pub async fn list(&self) -> Result<Vec<(TokenRecord, Option<SignedDuration>)>, Error> {
        let list = self.secrets().list(&ListParams::default().fields("type=bootstrap.kubernetes.io/token")).await;
        let records = list.map_err(unusable)?.items.into_iter().filter_map(|secret| TokenRecord::of(&secret));
        let now = self.clock.now();
        Ok(records.map(|record| (record.clone(), record.left(now))).collect())
    }

    /// Deletes a token, by its id or whole.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none; [`Error::Part`] with what the API server says.
    pub async fn delete(&self, token: &str) -> Result<(), Error> {
        let id = token.split('.').next().unwrap_or_default();
        match self.secrets().delete(&secret_name(id), &Default::default()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Err(Error::Missing {
                what: format!("there is no token {id:?}"),
                remedy: "`longshore token list` shows those that there are".to_owned(),
            }),
            Err(error) => Err(unusable(error)),
        }
    }
}
