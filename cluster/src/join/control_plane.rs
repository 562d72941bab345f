//! A machine becomes part of a control plane that another began: it needs the cluster's authority, with its key, and that of tokens.
//!
//! A control plane reaches the store anyway, so that is the way. `longshore token create --control-plane` puts what is needed there as a
//! Secret, sealed (ChaCha20-Poly1305) with a key that the token alone holds. Whoever reads the store learns nothing, and whoever writes it cannot
//! plant another authority: only the token's owner opens or makes what is opened. The first machine to use it deletes it, else it goes
//! when its time is over.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_apiserver::pki::{Authority, Certified, export_token_key, install_token_key};
use longshore_apiserver::{LocalClient, Options as RegistryOptions, Registry};
use longshore_core::api::secret::SecretType;
use longshore_core::api::{ByteString, Secret};
use longshore_core::client::params::DeleteParams;
use longshore_core::client::{Api, Client};
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::store::Store;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::refused;
use crate::data_dir::{DataDir, Settings};
use crate::local::failed;
use crate::{Error, random};

/// Where the Secrets are, and of which type.
pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const TYPE: &str = "longshore.dev/control-plane";

const SEALED: &str = "sealed";
const EXPIRATION: &str = "expiration";

const ID_LENGTH: usize = 6;
const KEY_LENGTH: usize = 32;

/// What opens the authority of a cluster for one more machine. Only [`fmt::Display`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlPlaneToken {
    id: String,
    key: [u8; KEY_LENGTH],
}

impl fmt::Debug for ControlPlaneToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlaneToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Display for ControlPlaneToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.id)?;
        self.key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ControlPlaneToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // It is not repeated, since it may be nearly one.
        let malformed = "a control plane's token is 6 letters and digits, a dot, and 64 hexadecimal digits";
        let (id, digits) = text.trim().split_once('.').ok_or(malformed)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if id.len() != ID_LENGTH || !id.bytes().all(plain) || digits.len() != 2 * KEY_LENGTH || !digits.is_ascii() {
            return Err(malformed);
        }
        let mut key = [0; KEY_LENGTH];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| malformed)?;
        }
        Ok(Self { id: id.to_owned(), key })
    }
}

impl ControlPlaneToken {
    fn new() -> std::io::Result<Self> {
        let id: [u8; ID_LENGTH] = random::bytes()?;
        Ok(Self { id: id.iter().map(|byte| char::from(b'a' + byte % 26)).collect(), key: random::bytes()? })
    }

    fn secret_name(&self) -> String {
        format!("control-plane-{}", self.id)
    }

    fn cipher(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.key).map_err(failed("token"))?;
        Ok(LessSafeKey::new(key))
    }

    fn seal(&self, shared: &Shared) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE_LEN] = random::bytes().map_err(failed("randomness"))?;
        let mut text = serde_json::to_vec(shared).map_err(failed("token"))?;
        let sealed = Nonce::assume_unique_for_key(nonce);
        self.cipher()?.seal_in_place_append_tag(sealed, Aad::from(&self.id), &mut text).map_err(failed("token"))?;
        Ok([&nonce[..], &text].concat())
    }

    /// `None` if it was sealed with another key.
    fn open(&self, sealed: &[u8]) -> Result<Option<Shared>, Error> {
        let Some((nonce, text)) = sealed.split_first_chunk::<NONCE_LEN>() else { return Ok(None) };
        let mut text = text.to_vec();
        let opened = self.cipher()?.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&self.id), &mut text);
        Ok(opened.ok().and_then(|text| serde_json::from_slice(text).ok()))
    }
}

/// What all control planes of a cluster have in common.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shared {
    /// The authority, PEM.
    certificate: String,
    key: String,
    /// The key of service accounts' tokens, PEM.
    token_key: String,
    service_range: String,
    cluster_range: String,
    cluster_domain: String,
    cluster_dns: String,
    expires: Timestamp,
}

/// Makes a token for what a directory's control plane shares, and the Secret that it opens.
pub(crate) fn invite(
    directory: &DataDir,
    settings: &Settings,
    cluster_dns: String,
    expires: Timestamp,
) -> Result<(ControlPlaneToken, Secret), Error> {
    let authority = Authority::export(&directory.join("pki")).map_err(failed("certificates"))?;
    let Certified { certificate, key } = authority.ok_or_else(|| Error::Missing {
        what: format!("the key of the cluster's authority is not in {}", directory.path().display()),
        remedy: "run it where an API server runs, with its --data-dir".to_owned(),
    })?;
    let Settings { service_range, cluster_range, cluster_domain, .. } = settings.clone();
    let token_key = export_token_key(&directory.join("pki")).map_err(failed("certificates"))?;
    let shared =
        Shared { certificate, key, token_key, service_range, cluster_range, cluster_domain, cluster_dns, expires };
    let token = ControlPlaneToken::new().map_err(failed("randomness"))?;
    let seconds = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
    let data = [(SEALED, token.seal(&shared)?), (EXPIRATION, seconds.to_string().into_bytes())];
    let mut secret = Secret {
        type_: SecretType::Other(TYPE.into()),
        data: data.map(|(key, value)| (key.to_owned(), ByteString(value))).into(),
        ..Secret::default()
    };
    secret.metadata.name = Some(token.secret_name());
    secret.metadata.namespace = Some(NAMESPACE.to_owned());
    Ok((token, secret))
}

/// When such a Secret is of no use any more.
pub(crate) fn expires(secret: &Secret) -> Option<Timestamp> {
    if secret.type_.as_str() != TYPE {
        return None;
    }
    std::str::from_utf8(&secret.data.get(EXPIRATION)?.0).ok()?.parse().ok()
}

/// How a machine becomes part of a control plane.
#[derive(Debug, Clone, Default)]
pub struct ControlPlaneJoin {
    /// The token; not needed by a machine that is part of it already.
    pub token: Option<ControlPlaneToken>,
    /// File that holds the token, if it is not given; read only if it is needed.
    pub token_file: Option<PathBuf>,
}

impl ControlPlaneJoin {
    fn token(&self) -> Result<ControlPlaneToken, Error> {
        let new = "make one with `longshore token create --control-plane` where an API server runs, and give it by \
                   --token-file or LONGSHORE_CONTROL_PLANE_TOKEN";
        let Some(path) = self.token_file.as_deref().filter(|_| self.token.is_none()) else {
            return self.token.clone().ok_or_else(|| refused("there is no token", new));
        };
        let unusable = |reason: String| Error::File { tried: "read the token in", path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        text.parse().map_err(|why: &str| unusable(why.to_owned()))
    }
}

/// Takes the cluster's authority into a directory that has none, and what the cluster has in common into its settings.
pub(crate) async fn join(
    join: &ControlPlaneJoin,
    directory: &DataDir,
    settings: &mut Settings,
    store: Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
) -> Result<(), Error> {
    let pki = directory.join("pki");
    if Authority::export(&pki).map_err(failed("certificates"))?.is_some() {
        return Ok(());
    }
    let token = join.token()?;
    let mut options = RegistryOptions::new(random::seed().map_err(failed("randomness"))?);
    options.kinds = vec![KindType::of::<Secret>()];
    let registry = Registry::start(store, clock.clone(), options).await.map_err(failed("registry"))?;
    let client: Arc<dyn Client> = Arc::new(LocalClient::new(registry.clone(), "longshore"));
    let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
    let joined = take(&token, &secrets, directory, settings, &**clock).await;
    registry.stop().await;
    joined
}

async fn take(
    token: &ControlPlaneToken,
    secrets: &Api<Secret>,
    directory: &DataDir,
    settings: &mut Settings,
    clock: &dyn Clock,
) -> Result<(), Error> {
    let again = "make another with `longshore token create --control-plane` where an API server of the cluster runs";
    let gone = || {
        let what = format!(
            "the store knows no control plane's token {:?}: it was used, has expired, or is another store's",
            token.id
        );
        refused(what, again)
    };
    let name = token.secret_name();
    let secret = secrets.get_opt(&name).await.map_err(failed("store"))?.ok_or_else(gone)?;
    let sealed = secret.data.get(SEALED).map(|sealed| token.open(&sealed.0)).transpose()?.flatten();
    let shared =
        sealed.ok_or_else(|| refused(format!("the token {:?} does not open what it should", token.id), again))?;
    if shared.expires <= clock.now() {
        return Err(gone());
    }
    let Shared { certificate, key, token_key, service_range, cluster_range, cluster_domain, cluster_dns, .. } = shared;
    (settings.service_range, settings.cluster_domain, settings.cluster_dns) =
        (service_range, cluster_domain, cluster_dns);
    // No node of this directory's takes any of it.
    settings.pod_range.clone_from(&cluster_range);
    settings.cluster_range = cluster_range;
    directory.record(settings)?;
    // The authority last: whoever has it has joined.
    install_token_key(&directory.join("pki"), &token_key).map_err(failed("certificates"))?;
    Authority::install(&directory.join("pki"), &Certified { certificate, key }).map_err(failed("certificates"))?;
    if let Err(error) = secrets.delete(&name, &DeleteParams::default()).await {
        tracing::warn!(%error, token = token.id, "the token can be used again until it expires");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longshore_core::client::params::PostParams;
    use longshore_core::clock::VirtualClock;
    use longshore_core::store::MemoryStore;

    use super::*;

    /// A first control plane's directory, and a second's that is empty.
    struct World {
        first: DataDir,
        second: DataDir,
        settings: Settings,
        clock: VirtualClock,
        store: Arc<dyn Store>,
        _temp: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let [first, second] = ["a", "b"].map(|name| DataDir::new(temp.path().join(name)));
            for directory in [&first, &second] {
                std::fs::create_dir(directory.path()).unwrap();
            }
            let clock = VirtualClock::new();
            Authority::open(&first.join("pki"), Arc::new(clock.clone())).unwrap();
            let mut settings = Settings::new("0001".into(), "etcd=x", "none", 0);
            settings.service_range = "10.3.0.0/20".into();
            settings.cluster_range = "10.4.0.0/16".into();
            Self { first, second, settings, clock, store: Arc::new(MemoryStore::new()), _temp: temp }
        }

        async fn token(&self) -> ControlPlaneToken {
            let expires = self.clock.now() + jiff::SignedDuration::from_hours(1);
            let (token, secret) = invite(&self.first, &self.settings, "10.3.0.10".into(), expires).unwrap();
            let registry = Registry::start(self.store.clone(), Arc::new(self.clock.clone()), RegistryOptions::new(1))
                .await
                .unwrap();
            let client: Arc<dyn Client> = Arc::new(LocalClient::new(registry, "test"));
            let stored = Api::namespaced(client, NAMESPACE).create(secret, &PostParams::default()).await.unwrap();
            assert_eq!(super::expires(&stored), Some(expires));
            token
        }

        async fn join(&self, text: &str) -> Result<Settings, String> {
            let options = ControlPlaneJoin { token: Some(text.parse()?), token_file: None };
            let mut settings = Settings::new("0002".into(), "etcd=x", "none", 0);
            let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
            let joined = join(&options, &self.second, &mut settings, self.store.clone(), &clock).await;
            joined.map(|()| settings).map_err(|error| error.to_string())
        }
    }

    #[tokio::test]
    async fn the_authority_comes_sealed_through_the_store_and_once() {
        let world = World::new();
        let token = world.token().await;
        let settings = world.join(&token.to_string()).await.unwrap();
        assert_eq!((settings.instance.as_str(), settings.service_range.as_str()), ("0002", "10.3.0.0/20"));
        assert_eq!((settings.cluster_range.as_str(), settings.cluster_dns.as_str()), ("10.4.0.0/16", "10.3.0.10"));
        let read = |directory: &DataDir| Authority::export(&directory.join("pki")).unwrap().unwrap();
        assert_eq!(read(&world.first), read(&world.second));
        let key = |directory: &DataDir| export_token_key(&directory.join("pki")).unwrap();
        assert_eq!(key(&world.first), key(&world.second));
        // Whoever has joined needs no token, and the same one brings nobody else in.
        assert!(world.join(&token.to_string()).await.is_ok());
        std::fs::remove_dir_all(world.second.join("pki")).unwrap();
        let error = world.join(&token.to_string()).await.unwrap_err();
        assert!(error.contains("it was used, has expired, or is another store's"), "{error}");
    }

    #[tokio::test]
    async fn tokens_that_are_wrong_or_late_bring_nothing() {
        let world = World::new();
        let token = world.token().await;
        let mut wrong = token.clone();
        wrong.key[0] ^= 1;
        let error = world.join(&wrong.to_string()).await.unwrap_err();
        assert!(error.contains("does not open what it should"), "{error}");
        world.clock.advance(Duration::from_secs(3600));
        assert!(world.join(&token.to_string()).await.unwrap_err().contains("has expired"));
        assert!(world.join("abcdef.12").await.unwrap_err().contains("64 hexadecimal digits"));
        assert!(!world.second.join("pki").exists());
        assert!(!format!("{token:?}").contains(&token.to_string()[7..]));
    }
}
