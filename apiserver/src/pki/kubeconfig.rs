//! Kubeconfigs: how kubectl finds the server, knows it, and is known to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Authority, Certified};

/// A complete kubeconfig with the certificates in it. `name` names cluster, user and context; `server` is a URL.
pub fn kubeconfig(name: &str, server: &str, authority: &Authority, user: &Certified) -> String {
    // A JSON string is a YAML string.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (name, server) = (quoted(name), quoted(server));
    let (ca, certificate, key) =
        (BASE64.encode(authority.certificate()), BASE64.encode(&user.certificate), BASE64.encode(&user.key));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {name}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
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
