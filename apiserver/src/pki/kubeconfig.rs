//! Kubeconfigs: how kubectl finds the server, knows it, and is known to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Authority, Certified};

/// How a kubeconfig's owner is known.
#[derive(Debug, Clone, Copy)]
pub enum Credentials<'a> {
    /// By a certificate.
    Certificate(&'a Certified),
    /// By a token.
    Token(&'a str),
    /// Not at all.
    Nobody,
}

/// A complete kubeconfig with the certificates in it. `name` names cluster, user and context; `server` is a URL.
pub fn kubeconfig(name: &str, server: &str, authority: &Authority, user: &Certified) -> String {
    kubeconfig_of(name, &[server], authority.certificate(), Credentials::Certificate(user))
}

/// The same for whoever has only the authority's certificate (PEM), and perhaps several servers. The first is the one that is used;
/// each of the others stands there as a cluster of its own, for whoever knows what to make of them.
pub fn kubeconfig_of(name: &str, servers: &[impl AsRef<str>], authority: &str, credentials: Credentials<'_>) -> String {
    // A JSON string is a YAML string.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let ca = BASE64.encode(authority);
    let clusters = servers.iter().enumerate().map(|(at, server)| {
        let name = if at == 0 { quoted(name) } else { quoted(&format!("{name}-{}", at + 1)) };
        let server = quoted(server.as_ref());
        format!("- name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n")
    });
    let (clusters, name) = (clusters.collect::<String>(), quoted(name));
    let user = match credentials {
        Credentials::Certificate(user) => format!(
            "
    client-certificate-data: {}
    client-key-data: {}",
            BASE64.encode(&user.certificate),
            BASE64.encode(&user.key)
        ),
        Credentials::Token(token) => format!("\n    token: {}", quoted(token)),
        Credentials::Nobody => " {}".to_owned(),
    };
    format!(
        "apiVersion: v1
kind: Config
clusters:
{clusters}users:
- name: {name}
  user:{user}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
current-context: {name}
preferences: {{}}
"
    )
}
