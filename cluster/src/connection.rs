//! How a part reaches the API servers: by what a kubeconfig says, what its owner adds, and what the cluster publishes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use http::Uri;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use longshore_apiserver::pki::Certified;
use longshore_client::{Failover, RemoteClient};
use longshore_core::client::Client;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::decode::{self, Format};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::cluster_info::ClusterInfo;

/// How often the cluster is asked whether there are further API servers.
const LEARN: Duration = Duration::from_secs(60);

/// What a kubeconfig gives access to.
pub(crate) struct Connection {
    pub(crate) client: Arc<dyn Client>,
    /// The API servers that are known.
    pub(crate) servers: Failover,
    /// The cluster's certificate authority, PEM.
    pub(crate) root_ca: String,
    /// The certificate that the kubeconfig holds; empty texts if it holds none.
    pub(crate) certified: Certified,
}

impl Connection {
    /// URLs of the API servers, the kubeconfig's own first.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.urls().iter().map(base).collect()
    }
}

/// A URL without the path that it need not have.
pub(crate) fn base(url: &Uri) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

/// Reads a kubeconfig. `further` are URLs of API servers of the same cluster.
pub(crate) fn connect(path: &Path, further: &[String]) -> Result<Connection, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read the kubeconfig", path))?;
    let unusable = |reason: String| Error::File { tried: "use the kubeconfig", path: path.into(), reason };
    connection(&text, further).map_err(unusable)
}

/// What the text of a kubeconfig gives access to. A further cluster in it with the same authority is a further API server.
pub(crate) fn connection(text: &str, further: &[String]) -> Result<Connection, String> {
    // The private key is a secret to kube, and the agent needs it to serve.
    let value = narrowed(text, None)?;
    let data = |value: &Value| decoded(value).unwrap_or_default();
    let (clusters, user) = (value["clusters"].as_array().map_or(&[][..], Vec::as_slice), &value["users"][0]["user"]);
    let authority = &value["clusters"][0]["cluster"]["certificate-authority-data"];
    let same = clusters.iter().map(|entry| &entry["cluster"]);
    let same = same.filter(|cluster| authority.is_string() && cluster["certificate-authority-data"] == *authority);
    let urls = same.filter_map(|cluster| cluster["server"].as_str()).chain(further.iter().map(String::as_str));
    let urls = urls.map(url).collect::<Result<Vec<Uri>, String>>()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let servers = Failover::new(kube_config(text)?, &urls, clock).map_err(|error| error.to_string())?;
    let certified =
        Certified { certificate: data(&user["client-certificate-data"]), key: data(&user["client-key-data"]) };
    let client = Arc::new(RemoteClient::over(servers.clone()));
    Ok(Connection { client, servers, root_ca: data(authority), certified })
}

/// A kubeconfig of one context only: the one of this name, else its current one.
///
/// # Errors
/// [`Error::Part`]: it cannot be read, or has no such context.
pub fn of_context(kubeconfig: &str, context: Option<&str>) -> Result<String, Error> {
    let narrowed = narrowed(kubeconfig, context);
    narrowed.map(|value| value.to_string()).map_err(|reason| Error::Part { part: "kubeconfig", reason })
}

/// A kubeconfig whose first cluster and user are those of a context, by default of the current one. Other clusters stay: some may be
/// further servers of the same one.
fn narrowed(kubeconfig: &str, context: Option<&str>) -> Result<Value, String> {
    let (mut value, _) = decode::parse(kubeconfig.as_bytes(), Format::Yaml).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let wanted = context.map_or_else(|| text(&value["current-context"]), str::to_owned);
    let contexts = value["contexts"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(found) = contexts.iter().find(|entry| entry["name"] == *wanted).map(|entry| entry["context"].clone())
    else {
        let names: Vec<String> = contexts.iter().map(|entry| text(&entry["name"])).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(match wanted.as_str() {
            "" => format!("no context is named, and none is the current one; there is {names}"),
            wanted => format!("there is no context {wanted:?}; there is {names}"),
        });
    };
    value["current-context"] = wanted.into();
    for (list, name) in [("clusters", &found["cluster"]), ("users", &found["user"])] {
        if let Some(entries) = value[list].as_array_mut() {
            // Those before it keep their order.
            entries.sort_by_key(|entry| entry["name"] != *name);
        }
    }
    Ok(value)
}

/// The URL of a server that may be given as an address and port.
pub(crate) fn whole(server: &str) -> String {
    let server = server.trim_end_matches('/');
    if server.contains("://") { server.to_owned() } else { format!("https://{server}") }
}

fn url(server: &str) -> Result<Uri, String> {
    whole(server).parse().map_err(|error| format!("--server {server}: {error}"))
}

/// The text that a field of a kubeconfig holds in base64.
pub(crate) fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

/// A client over HTTP, as a kubeconfig says.
pub(crate) fn remote_client(kubeconfig: &str) -> Result<Arc<dyn Client>, String> {
    connection(kubeconfig, &[]).map(|connection| connection.client)
}

/// What a kubeconfig says, for kube's own client.
pub(crate) fn kube_config(kubeconfig: &str) -> Result<Config, String> {
    let config = Kubeconfig::from_yaml(kubeconfig).map_err(|error| error.to_string())?;
    // Reading certificates from the text waits for nothing.
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).now_or_never();
    config.ok_or("it names a program to run")?.map_err(|error| error.to_string())
}

/// What kept a part from its answer: what the API server said of it, or that nobody answers where the kubeconfig points.
pub(crate) fn refused(part: &'static str) -> impl Fn(kube::Error) -> Error {
    move |error| {
        let reason = match error {
            kube::Error::Api(status) => status.message.clone(),
            kube::Error::Service(error) => unreachable(&*error),
            other => other.to_string(),
        };
        Error::Part { part, reason }
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> String {
    let deepest = std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error);
    format!(
        "cannot reach the API server that the kubeconfig names ({deepest}); `longshore status` tells whether the cluster runs"
    )
}

/// Learns from the cluster, until cancelled, which API servers there are; tells of each that may be new.
///
/// Those that are of use to their own machine alone are left out, unless the one that is known is such a one.
pub(crate) async fn learn(
    client: &Arc<dyn Client>,
    clock: &dyn Clock,
    known: &str,
    cancel: &CancellationToken,
    mut tell: impl FnMut(Uri),
) {
    let learning = async {
        loop {
            match ClusterInfo::fetch(client.clone()).await {
                Ok(info) => {
                    let servers = info.into_iter().flat_map(|info| info.servers);
                    let urls = servers.filter(|server| !is_loopback(server) || is_loopback(known));
                    urls.filter_map(|server| url(&server).ok()).for_each(&mut tell);
                }
                Err(error) => tracing::debug!(%error, "cannot ask which API servers there are"),
            }
            clock.sleep(LEARN).await;
        }
    };
    cancel.run_until_cancelled(learning).await;
}

/// Whether only the machine itself reaches a server at this URL.
pub(crate) fn is_loopback(server: &str) -> bool {
    ["//127.", "//[::1]", "//localhost"].iter().any(|part| server.contains(part))
}

#[cfg(test)]
mod tests {
    use longshore_apiserver::pki::{Authority, Credentials, kubeconfig_of};

    use super::*;

    #[test]
    fn a_context_leads_to_its_own_cluster() {
        let authority = |letter: &str| STANDARD.encode(letter);
        let text = format!(
            "current-context: b\nclusters:\n- {{name: one, cluster: {{server: 'https://192.0.2.1', certificate-authority-data: {one}}}}}\n- {{name: two, cluster: {{server: 'https://192.0.2.2', certificate-authority-data: {two}}}}}\nusers:\n- {{name: u, user: {{client-key-data: {one}}}}}\n- {{name: v, user: {{client-key-data: {two}}}}}\ncontexts:\n- {{name: a, context: {{cluster: one, user: u}}}}\n- {{name: b, context: {{cluster: two, user: v}}}}\n",
            one = authority("1"),
            two = authority("2"),
        );
        let of = |context: Option<&str>| {
            let value = narrowed(&text, context)?;
            let (cluster, user) = (&value["clusters"][0]["cluster"], &value["users"][0]["user"]);
            Ok((cluster["server"].as_str().unwrap().to_owned(), decoded(&user["client-key-data"]).unwrap()))
        };
        assert_eq!(of(None), Ok(("https://192.0.2.2".to_owned(), "2".to_owned())), "the current one");
        assert_eq!(of(Some("a")), Ok(("https://192.0.2.1".to_owned(), "1".to_owned())));
        assert_eq!(of(Some("c")), Err("there is no context \"c\"; there is a, b".to_owned()));
        let unnamed = narrowed(&text.replace("current-context: b", ""), None).unwrap_err();
        assert_eq!(unnamed, "no context is named, and none is the current one; there is a, b");
        assert_eq!(narrowed("{}", Some("a")).unwrap_err(), "there is no context \"a\"; there is none");
        assert!(of_context(&text, Some("a")).unwrap().contains(r#""current-context":"a""#));
    }

    #[test]
    fn api_servers_are_those_of_the_kubeconfig_and_those_that_are_added() {
        let servers = ["https://192.0.2.1:6443", "https://192.0.2.2:6443"];
        let authority = Authority::generate(Arc::new(SystemClock::new())).unwrap();
        let text = kubeconfig_of("longshore", &servers, authority.certificate(), Credentials::Nobody);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let urls = |further: &[&str]| {
            let further: Vec<String> = further.iter().map(|server| (*server).to_owned()).collect();
            runtime.block_on(async { connection(&text, &further).map(|connection| connection.urls()) })
        };
        assert_eq!(urls(&[]).unwrap(), servers);
        let three = ["https://192.0.2.1:6443", "https://192.0.2.2:6443", "https://192.0.2.3:6443"];
        assert_eq!(urls(&["192.0.2.3:6443", "https://192.0.2.1:6443/"]).unwrap(), three);
        assert!(urls(&["https://a b"]).unwrap_err().starts_with("--server https://a b: "));
    }
}
