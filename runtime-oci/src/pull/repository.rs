//! A repository of a registry: asks by the distribution API, and logs in when told to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Uri};
use longshore_core::clock::Clock;
use longshore_core::runtime::{Credentials, ImageName};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::{Challenge, query};
use super::failure::{Failure, tame};
use super::transport::{Answer, Get, HUB, HUB_SERVER, Transport, wants_tls};

/// Most bytes of an answer that is read for its message or its token.
const NOTE_MAX: usize = 256 << 10;

pub(crate) struct Repository<'a> {
    transport: &'a Transport,
    /// The registry's name as images have it.
    host: String,
    path: String,
    base: String,
    credentials: &'a Credentials,
    /// What the registry accepted last.
    login: Mutex<Option<HeaderValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Errors {
    errors: Vec<RegistryError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryError {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Repository<'a> {
    pub(crate) fn new(transport: &'a Transport, name: &ImageName, credentials: &'a Credentials) -> Self {
        let (host, path) = (name.registry(), name.path());
        let server = if host == HUB { HUB_SERVER } else { host };
        let base = format!("{}://{server}/v2/{path}", transport.scheme(host));
        let login = Mutex::new(None);
        Self { transport, host: host.to_owned(), path: path.to_owned(), base, credentials, login }
    }

    /// The registry's name.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.transport.clock.as_ref()
    }

    /// What the repository has below this path, such as `blobs/sha256:…`, from byte `from` on.
    pub(crate) async fn get(&self, below: &str, accept: &str, from: u64) -> Result<Answer, Failure> {
        let uri: Uri = format!("{}/{below}", self.base)
            .parse()
            .map_err(|_| Failure::Final(format!("{} cannot be part of a URL", self.host)))?;
        let mut login = self.login.lock().await.clone();
        let mut fresh = false;
        loop {
            let answer =
                self.transport.get(&uri, Get { accept, authorization: login.as_ref(), from, form: None }).await?;
            match answer.status.as_u16() {
                200 | 206 => return Ok(answer),
                // What another host asks for is not the registry's to ask.
                401 if !fresh && !answer.elsewhere => {
                    let new = self.log_in(&answer.headers).await?;
                    let Some(new) = new else { return Err(self.refused(answer).await) };
                    login = Some(new.clone());
                    *self.login.lock().await = Some(new);
                    fresh = true;
                }
                _ => return Err(self.refused(answer).await),
            }
        }
    }

    /// What to send so that the registry lets us in; `None` if there is nothing.
    async fn log_in(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
        let challenges =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| Challenge::parse(value.to_str().ok()?));
        let challenges: Vec<Challenge> = challenges.collect();
        let bearer = challenges.iter().find(|challenge| challenge.scheme == "bearer");
        match (bearer, self.credentials) {
            (Some(_), Credentials::Token(token)) => secret(format!("Bearer {token}")).map(Some),
            (Some(challenge), _) => self.token(challenge).await.map(Some),
            (None, Credentials::Basic { user, password }) => basic(user, password).map(Some),
            (None, _) => Ok(None),
        }
    }

    /// Asks the registry's service of tokens for one.
    async fn token(&self, challenge: &Challenge) -> Result<HeaderValue, Failure> {
        let bad = |what: &str| Failure::Final(format!("{} asks for a token {what}", self.host));
        let realm = challenge.get("realm").ok_or_else(|| bad("without saying where from"))?;
        if self.base.starts_with("https:") && !realm.starts_with("https://") {
            return Err(bad("that would be fetched without TLS"));
        }
        let scope = format!("repository:{}:pull", self.path);
        let mut parts = vec![("scope", challenge.get("scope").unwrap_or(&scope))];
        parts.extend(challenge.get("service").map(|service| ("service", service)));
        let answer = if let Credentials::IdentityToken(identity) = self.credentials {
            let uri: Uri = realm.parse().map_err(|_| bad("from no URL"))?;
            parts.extend([("grant_type", "refresh_token"), ("client_id", "longshore"), ("refresh_token", identity)]);
            self.transport.get(&uri, Get { form: Some(&query(&parts)), ..Get::default() }).await?
        } else {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let uri: Uri = format!("{realm}{separator}{}", query(&parts)).parse().map_err(|_| bad("from no URL"))?;
            let login = match self.credentials {
                Credentials::Basic { user, password } => Some(basic(user, password)?),
                _ => None,
            };
            self.transport.get(&uri, Get { authorization: login.as_ref(), ..Get::default() }).await?
        };
        if answer.status != 200 {
            return Err(self.refused(answer).await);
        }
        let token: Token = serde_json::from_slice(&answer.body.all(NOTE_MAX).await?)
            .map_err(|_| Failure::Final(format!("the token service of {} sends no token", self.host)))?;
        let token = token.token.or(token.access_token);
        secret(format!("Bearer {}", token.ok_or_else(|| bad("and gives none"))?))
    }

    /// Why there is no answer, with what the registry says of it.
    async fn refused(&self, answer: Answer) -> Failure {
        let (status, elsewhere) = (answer.status.as_u16(), answer.elsewhere);
        let bytes = answer.body.all(NOTE_MAX).await.unwrap_or_default();
        // What Go's servers answer.
        if status == 400 && self.base.starts_with("http:") && bytes.ends_with(b"HTTP request to an HTTPS server.\n") {
            return wants_tls(&self.host);
        }
        let errors: Errors = serde_json::from_slice(&bytes).unwrap_or_default();
        let said: Vec<String> = errors
            .errors
            .iter()
            .take(3)
            .map(|error| if error.message.is_empty() { &error.code } else { &error.message })
            .map(|text| tame(text))
            .collect();
        let said = if said.is_empty() { format!("status {status}") } else { said.join("; ") };
        let host = &self.host;
        match status {
            // A link to a store elsewhere has run out: the next try gets a new one.
            _ if elsewhere => Failure::Broken(format!("the store that {host} points to refuses: {said}")),
            401 | 403 => {
                let hint = match self.credentials {
                    Credentials::Anonymous => "the image may not exist, or a login is needed (imagePullSecrets)",
                    _ => "the login is wrong, or may not pull this image",
                };
                Failure::Final(format!("{host} refuses access: {said}: {hint}"))
            }
            404 => Failure::Final(format!("not found: {host} says: {said}")),
            408 | 416 | 429 | 500..=599 => Failure::Broken(format!("{host} fails: {said}")),
            _ => Failure::Final(format!("{host} answers with status {status}: {said}")),
        }
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Failure> {
    secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// A header's value that is not shown where headers are.
fn secret(text: String) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(&text);
    let mut value = value.map_err(|_| Failure::Final("a login holds characters that no header can have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
