//! Logins for registries, out of the secrets that a pod names in `imagePullSecrets`.
//!
//! Which login is for which image follows the kubelet: a key may have a path, and `*` within the parts of a host's name;
//! more specific keys come first.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use longshore_core::api::secret::SecretType;
use longshore_core::api::{Pod, Secret};
use longshore_core::client::{Api, Client};
use longshore_core::runtime::{Credentials, ImageName};
use serde::Deserialize;

/// Docker writes `auth` with padding, others without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where `docker login` keeps what is for Docker Hub.
const HUB: &str = "index.docker.io";

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

/// Logins by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    /// Host, perhaps with a path, and its logins in the order of the secrets.
    logins: BTreeMap<String, Vec<Credentials>>,
}

/// What a pod's secrets hold, and the names of those that cannot be had.
///
/// # Errors
/// The name of a secret that is malformed, and what is wrong; nothing of its content.
pub(crate) async fn keyring(client: &Arc<dyn Client>, pod: &Pod) -> Result<(Keyring, Vec<String>), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let (mut keyring, mut missing) = (Keyring::default(), Vec::new());
    for reference in &pod.spec.image_pull_secrets {
        match api.get_opt(&reference.name).await {
            Ok(Some(secret)) => {
                keyring.add(&secret).map_err(|what| format!("secret \"{}\": {what}", reference.name))?
            }
            // Secrets that cannot be read may not be needed for this image.
            Ok(None) | Err(_) => missing.push(reference.name.clone()),
        }
    }
    Ok((keyring, missing))
}

impl Keyring {
    fn add(&mut self, secret: &Secret) -> Result<(), String> {
        let key = match secret.type_ {
            SecretType::DockerConfigJson => ".dockerconfigjson",
            SecretType::Dockercfg => ".dockercfg",
            _ => return Ok(()),
        };
        let Some(content) = secret.data.get(key) else { return Ok(()) };
        let malformed = |error: serde_json::Error| format!("{key} cannot be read at line {}", error.line());
        let entries = if key == ".dockercfg" {
            serde_json::from_slice(&content.0).map_err(malformed)?
        } else {
            serde_json::from_slice::<ConfigJson>(&content.0).map_err(malformed)?.auths
        };
        for (place, entry) in entries {
            let login = entry.login().ok_or_else(|| format!("{key} has an \"auth\" that is no user and password"))?;
            if let Some(login) = login {
                self.logins.entry(place_of(&place)).or_default().push(login);
            }
        }
        Ok(())
    }

    /// The logins to try for an image, the most specific first.
    pub(crate) fn for_image(&self, name: &ImageName) -> Vec<Credentials> {
        let matching = self.logins.iter().rev().filter(|(place, _)| matches(place, name));
        let hub = self.logins.get(HUB).filter(|_| name.registry() == "docker.io");
        matching.map(|(_, logins)| logins).chain(hub).flatten().cloned().collect()
    }
}

impl Entry {
    /// `None` if it is malformed, and no login if it is empty.
    fn login(self) -> Option<Option<Credentials>> {
        // Beside one, docker leaves a user without a password.
        if !self.identity_token.is_empty() {
            return Some(Some(Credentials::IdentityToken(self.identity_token)));
        }
        let (user, password) = if self.auth.is_empty() {
            (self.username, self.password)
        } else {
            let text = String::from_utf8(BASE64.decode(self.auth.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            // Old versions of docker filled it up with zeros.
            (user.to_owned(), password.trim_matches('\0').to_owned())
        };
        let empty = user.is_empty() && password.is_empty();
        Some((!empty).then_some(Credentials::Basic { user, password }))
    }
}

/// A key without its scheme and without the version of the registry's API.
fn place_of(key: &str) -> String {
    let place = key.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let path = path.strip_prefix("v1/").or(path.strip_prefix("v2/")).unwrap_or(path);
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

fn matches(place: &str, name: &ImageName) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let port = |host: &str| host.split_once(':').map(|(_, port)| port.to_owned());
    let parts = |host: &str| -> Vec<String> {
        host.split_once(':').map_or(host, |(host, _)| host).split('.').map(str::to_owned).collect()
    };
    let (wanted, found) = (parts(host), parts(name.registry()));
    port(host) == port(name.registry())
        && wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
        && name.path().starts_with(path)
}

/// `*` stands for any text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when what follows the last `*` does not fit: its end, and one more byte of the text for it.
    let (mut at, mut position, mut star) = (0, 0, None);
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, position));
            at += 1;
        } else if pattern.get(at) == Some(&text[position]) {
            (at, position) = (at + 1, position + 1);
        } else if let Some((after, taken)) = star {
            (at, position) = (after, taken + 1);
            star = Some((after, taken + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(type_: &str, key: &str, content: &str) -> Secret {
        let data = base64::engine::general_purpose::STANDARD.encode(content);
        serde_json::from_value(json!({"kind": "Secret", "metadata": {"name": "s"}, "type": type_, "data": {key: data}}))
            .unwrap()
    }

    fn keyring(auths: &Value) -> Keyring {
        let mut keyring = Keyring::default();
        let content = json!({"auths": auths}).to_string();
        keyring.add(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &content)).unwrap();
        keyring
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let logins = keyring.for_image(&ImageName::parse(image).unwrap());
        let user = |login| match login {
            Credentials::Basic { user, .. } => user,
            other => panic!("{other:?}"),
        };
        logins.into_iter().map(user).collect()
    }

    #[test]
    fn the_logins_for_an_image_are_found_the_most_specific_first() {
        let login = |user: &str| json!({"username": user, "password": "p"});
        let keyring = keyring(&json!({
            "https://index.docker.io/v1/": login("hub"),
            "quay.io": login("all"), "quay.io/team": login("team"), "https://quay.io/v2/other": login("other"),
            "*.example.com": login("star"), "example.com:5000": login("port"), "a*c.b.io": login("within"),
        }));
        for (image, expected) in [
            ("web", &["hub"][..]),
            ("docker.io/team/web:1", &["hub"]),
            ("quay.io/x/web", &["all"]),
            ("quay.io/team/web", &["team", "all"]),
            ("quay.io/other/web", &["other", "all"]),
            ("reg.example.com/web", &["star"]),
            ("a.reg.example.com/web", &[]),
            ("example.com:5000/web", &["port"]),
            ("example.com/web", &[]),
            ("abbc.b.io/web", &["within"]),
            ("abb.b.io/web", &[]),
        ] {
            assert_eq!(users(&keyring, image), expected, "{image}");
        }
    }

    #[test]
    fn both_kinds_of_secrets_are_read_and_others_are_not() {
        let auth = |text: &str| base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        let cfg = json!({"x.io": {"auth": auth("me:pass:word"), "username": "not-me"}, "y.io": {}}).to_string();
        let mut keyring = Keyring::default();
        keyring.add(&secret("kubernetes.io/dockercfg", ".dockercfg", &cfg)).unwrap();
        keyring.add(&secret("Opaque", ".dockercfg", &cfg)).unwrap();
        let login = Credentials::Basic { user: "me".into(), password: "pass:word".into() };
        assert_eq!(keyring.for_image(&ImageName::parse("x.io/web").unwrap()), [login]);
        assert!(users(&keyring, "y.io/web").is_empty());
    }

    #[test]
    fn an_identity_token_stands_for_user_and_password() {
        let auth = base64::engine::general_purpose::STANDARD.encode("00000000:");
        let keyring = keyring(&json!({"x.io": {"auth": auth, "identitytoken": "t0ken"}}));
        let logins = keyring.for_image(&ImageName::parse("x.io/web").unwrap());
        assert_eq!(logins, [Credentials::IdentityToken("t0ken".into())]);
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told_without_its_content() {
        for content in [r#"{"x.io": {"auth": "aGlkZGVu"}}"#, r#"{"x.io": {"password": hidden}}"#, "hidden"] {
            let secret = secret("kubernetes.io/dockercfg", ".dockercfg", content);
            let error = Keyring::default().add(&secret).unwrap_err();
            assert!(error.contains(".dockercfg") && !error.contains("hidden"), "{error}");
        }
    }
}
