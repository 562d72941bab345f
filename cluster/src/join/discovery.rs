//! Finding out which cluster it is: the only time that a server is asked that is not trusted yet.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use longshore_apiserver::pki::public_key_hash;
use longshore_core::api::ConfigMap;
use longshore_core::clock::Clock;

use super::refused;
use crate::Error;
use crate::cluster_info::{ClusterInfo, PATH};
use crate::connection::whole;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How far the clocks of a node and its API server may be apart. Well below the 40 s after which a node that says nothing is held for
/// lost, for what it says is compared with the server's clock.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(30);

/// A cluster whose authority has the public key that it should have.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) server: String,
    pub(super) authority: String,
}

/// Asks the servers in their order, until one answers.
pub(super) async fn discover(servers: &[String], hash: &str, clock: &dyn Clock) -> Result<Found, Error> {
    let mut failed = refused("there is no API server to ask", "give one by --server");
    for server in servers {
        let server = whole(server);
        match ask(&server).await {
            Ok(answer) => return found(server, answer, hash, clock),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

type Answer = (ClusterInfo, Option<Timestamp>);

fn found(server: String, (info, date): Answer, hash: &str, clock: &dyn Clock) -> Result<Found, Error> {
    check(&info.authority, hash, &server)?;
    if let Some(date) = date {
        check_clock(clock.now(), date)?;
    }
    Ok(Found { server, authority: info.authority })
}

async fn ask(server: &str) -> Result<Answer, Error> {
    let unreachable = |reason: String| {
        let remedy = "make sure that it runs, that it listens at an address that other machines reach (`--listen`), and that no \
                      firewall is between";
        refused(format!("no API server answers at {server} ({reason})"), remedy)
    };
    let uri: http::Uri = server
        .parse()
        .map_err(|error| refused(format!("--server {server}: {error}"), "give a URL such as https://192.0.2.1:6443"))?;
    let mut config = kube::Config::new(uri);
    // Who it is, the hash tells.
    config.accept_invalid_certs = true;
    let client = kube::Client::try_from(config).map_err(|error| unreachable(error.to_string()))?;
    let request = http::Request::get(PATH).body(Body::empty()).map_err(|error| unreachable(error.to_string()))?;
    let answer = async {
        let answer = client.send(request).await?;
        let (head, body) = answer.into_parts();
        Ok::<_, kube::Error>((head, body.collect_bytes().await?))
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    let answer = answer.map_err(|_| unreachable(format!("not within {} s", PATIENCE.as_secs())))?;
    let (head, body) = answer.map_err(|error| unreachable(chain(&error)))?;
    let date = head.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let info = serde_json::from_slice::<ConfigMap>(&body).ok().as_ref().and_then(ClusterInfo::of);
    let info = info.ok_or_else(|| {
        let what = format!("what answers at {server} does not say which cluster it is (HTTP {})", head.status.as_u16());
        refused(what, "give the address of a Longshore API server of this version as --server")
    })?;
    Ok((info, date))
}

/// What went wrong, down to its cause.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn check(authority: &str, hash: &str, server: &str) -> Result<(), Error> {
    let found = public_key_hash(authority)
        .map_err(|error| refused(error.to_string(), "give the address of a Longshore API server"))?;
    if found == hash.to_ascii_lowercase() {
        return Ok(());
    }
    Err(refused(
        format!("the cluster at {server} is another one: its authority has the hash {found}, not {hash}"),
        "check --server and --ca-hash against what `longshore token create` prints; if both are right, somebody is between this \
         machine and the API server",
    ))
}

fn check_clock(own: Timestamp, server: Timestamp) -> Result<(), Error> {
    if own.duration_since(server).abs() <= SKEW_MAX {
        return Ok(());
    }
    let what = format!("it is {own} here and {server} at the API server");
    Err(refused(
        what,
        "set the clocks of both by NTP (`timedatectl set-ntp true`): a node that is behind counts as lost",
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_apiserver::pki::Authority;
    use longshore_core::clock::VirtualClock;

    use super::*;

    #[test]
    fn a_cluster_is_known_by_the_hash_of_its_authority() {
        let [own, other] = [(); 2].map(|()| Authority::generate(Arc::new(VirtualClock::new())).unwrap());
        let hash = public_key_hash(own.certificate()).unwrap();
        assert!(check(own.certificate(), &hash, "s").is_ok());
        let error = check(other.certificate(), &hash, "s").unwrap_err().to_string();
        let found = public_key_hash(other.certificate()).unwrap();
        assert!(error.contains(&hash) && error.contains(&found), "both are shown: {error}");
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(check_clock(at("2026-01-01T00:00:29Z"), at("2026-01-01T00:00:00Z")).is_ok());
        let error = check_clock(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:02:00Z")).unwrap_err().to_string();
        assert!(error.contains("00:00:00Z here and 2026-01-01T00:02:00Z at"), "{error}");
    }

    #[test]
    fn servers_are_given_as_urls_or_addresses() {
        assert_eq!(whole("192.0.2.1:6443"), "https://192.0.2.1:6443");
        assert_eq!(whole("https://cluster.example:6443/"), "https://cluster.example:6443");
    }
}
