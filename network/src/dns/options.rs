//! How names are served.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use hickory_proto::rr::Name;

/// The port of DNS.
pub const PORT: u16 = 53;
/// How long answers about the cluster may be remembered, in seconds, if nothing else is said: CoreDNS' own choice.
pub const DEFAULT_TTL: u32 = 5;
/// Longest such time, as CoreDNS has it.
const TTL_MAX: u32 = 3600;
/// Where a machine says who answers its own questions.
const MACHINE: &str = "/etc/resolv.conf";

/// Which names of the form `10-0-0-1.<namespace>.pod.<domain>` there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodNames {
    /// None.
    Disabled,
    /// One for every address in every namespace, whether or not there is such a pod: the default, as in the configuration
    /// that kubeadm writes; it costs nothing, but certificates must not rely on these names.
    #[default]
    Insecure,
    /// Those of pods. Whoever serves the names must then know all pods.
    Verified,
}

impl FromStr for PodNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disabled" => Ok(Self::Disabled),
            "insecure" => Ok(Self::Insecure),
            "verified" => Ok(Self::Verified),
            _ => Err(format!("there are no pod names {text:?}; there are: disabled, insecure, verified")),
        }
    }
}

/// Who answers what the cluster does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstreams {
    /// The servers that a file in the form of `resolv.conf` names, read anew every few seconds.
    File(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

/// A domain with servers of its own: `DOMAIN=ADDRESS[:PORT][,ADDRESS[:PORT]…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StubDomain {
    /// The domain.
    pub domain: Domain,
    /// Its servers, tried in this order.
    pub servers: Vec<SocketAddr>,
}

/// A domain's name: labels of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(pub(super) Name);

/// How names are served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Domain of the cluster's names.
    pub domain: Domain,
    /// Where to listen, UDP and TCP; port 0 chooses a free one.
    pub listen: SocketAddr,
    /// Addresses at which pods find the server; what leads there is never asked.
    pub addresses: Vec<IpAddr>,
    /// How long answers about the cluster may be remembered, in seconds; the same holds for answers that there is nothing.
    pub ttl: u32,
    /// Which pods have names.
    pub pod_names: PodNames,
    /// Who answers everything else.
    pub upstreams: Upstreams,
    /// Who answers for some domains; the longest that fits counts, also inside of the cluster's.
    pub stub_domains: Vec<StubDomain>,
    /// Seed of shuffles and of the numbers of questions.
    pub seed: u64,
}

impl Options {
    /// The usual: `cluster.local`, 5 s, other names as the machine has them.
    pub fn new(listen: SocketAddr, seed: u64) -> Self {
        Self {
            domain: Domain::default(),
            listen,
            addresses: Vec::new(),
            ttl: DEFAULT_TTL,
            pod_names: PodNames::default(),
            upstreams: Upstreams::File(MACHINE.into()),
            stub_domains: Vec::new(),
            seed,
        }
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self(Name::from_labels(["cluster", "local"]).unwrap_or_default())
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not a domain: {why}");
        let plain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let fits = |label: &str| {
            label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if plain.is_empty() || !plain.split('.').all(|label| !label.is_empty() && fits(label)) {
            return Err(wrong("labels of letters, digits and '-' are expected, with '.' between them"));
        }
        let mut name =
            Name::from_labels(plain.split('.').map(str::as_bytes)).map_err(|error| wrong(&error.to_string()))?;
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_ascii().trim_end_matches('.'))
    }
}

impl FromStr for StubDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (domain, servers) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not DOMAIN=ADDRESS, such as corp.example=10.0.0.53"))?;
        Ok(Self { domain: domain.parse()?, servers: servers.split(',').map(server).collect::<Result<_, _>>()? })
    }
}

/// Reads `ADDRESS` or `ADDRESS:PORT` of a DNS server; the port is 53 if it is not said.
///
/// # Errors
/// Says what was expected.
pub fn server(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT)).or_else(|_| text.parse());
    parsed.map_err(|_| format!("{text:?} is not the address of a DNS server, such as 10.0.0.53 or 10.0.0.53:5353"))
}

/// The servers that a text in the form of `resolv.conf` names.
pub(super) fn servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("nameserver"), Some(address)) = (words.next(), words.next())
            && let Ok(address) = address.parse::<IpAddr>()
        {
            servers.push(SocketAddr::new(address, PORT));
        }
    }
    servers
}

/// Reads how long answers may be remembered, in seconds.
///
/// # Errors
/// Says what was expected.
pub fn ttl(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= TTL_MAX);
    seconds.ok_or_else(|| format!("{text:?} is not a time from 0 to {TTL_MAX} seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_meant_is_read_and_everything_else_says_why() {
        assert_eq!("Cluster.Local.".parse::<Domain>().unwrap().to_string(), "cluster.local");
        assert_eq!(Domain::default().to_string(), "cluster.local");
        for wrong in ["", ".", "a..b", "a b", "-a.b", "*.a", &"a".repeat(64), &"abc.".repeat(80)] {
            assert!(wrong.parse::<Domain>().unwrap_err().contains("is not a domain"), "{wrong}");
        }
        let stub: StubDomain = "corp.example=10.0.0.1,[fd00::1]:5353".parse().unwrap();
        assert_eq!(stub.servers, ["10.0.0.1:53".parse().unwrap(), "[fd00::1]:5353".parse().unwrap()]);
        assert!("corp.example".parse::<StubDomain>().unwrap_err().contains("DOMAIN=ADDRESS"));
        assert!("corp.example=dns".parse::<StubDomain>().unwrap_err().contains("address of a DNS server"));
        assert_eq!(server("::1").unwrap(), "[::1]:53".parse().unwrap());
        assert_eq!((ttl("0"), ttl("30")), (Ok(0), Ok(30)));
        assert!(ttl("3601").is_err() && ttl("-1").is_err() && ttl("5s").is_err());
        assert!("most".parse::<PodNames>().unwrap_err().contains("disabled, insecure, verified"));
    }

    #[test]
    fn servers_are_read_as_resolvers_read_them() {
        let text = "# nameserver 9.9.9.9\nnameserver 10.0.0.1\n search a\nnameserver fe80::1%eth0\nnameserver ::1 # local\nnameserver\n";
        assert_eq!(servers(text), ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
