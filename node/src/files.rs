//! Files that every container finds in `/etc`: `hosts`, `hostname`, `resolv.conf`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_core::api::Pod;
use longshore_core::api::pod::{Container, DnsPolicy};
use longshore_core::runtime::{Mount, Propagation};
use tokio::task::spawn_blocking;

use crate::Options;
use crate::pod::config::{hostname, kernel_hostname};
use crate::shared::Shared;

/// What a resolver is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// Writes the files and gives their mounts, save those in whose place the container mounts something.
///
/// # Errors
/// A file cannot be written.
pub(crate) async fn mounts(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Container,
    addresses: &[IpAddr],
) -> Result<Vec<Mount>, String> {
    let (options, pod, addresses) = (shared.options.clone(), pod.clone(), addresses.to_vec());
    let work =
        move || write(&options, &pod, &addresses).map_err(|error| format!("cannot write the pod's files: {error}"));
    let files = spawn_blocking(work).await.unwrap_or_else(|error| Err(format!("the work broke off: {error}")))?;
    let taken =
        |target: &str| container.volume_mounts.iter().any(|mount| mount.mount_path.trim_end_matches('/') == target);
    let mount = |(name, source): (&str, PathBuf)| {
        let target = format!("/etc/{name}");
        (!taken(&target)).then(|| Mount {
            source,
            target: target.into(),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
        })
    };
    Ok(files.into_iter().filter_map(mount).collect())
}

fn write(options: &Options, pod: &Pod, addresses: &[IpAddr]) -> io::Result<Vec<(&'static str, PathBuf)>> {
    let directory = options.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default()).join("etc");
    fs::create_dir_all(&directory)?;
    let of_node = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = hostname(pod, &options.node_name);
    let contents = [
        ("hosts", hosts(pod, &name, addresses, &options.cluster_domain, &of_node("/etc/hosts"))),
        // Of a pod whose name is too long there is no sandbox either.
        ("hostname", format!("{}\n", kernel_hostname(pod, options).unwrap_or_else(|_| name.clone()))),
        ("resolv.conf", resolver(pod, options, &of_node("/etc/resolv.conf")).to_string()),
    ];
    let mut files = Vec::new();
    for (name, content) in contents {
        let path = directory.join(name);
        // Running containers hold the file: it is changed in place, and only if it differs.
        if fs::read_to_string(&path).ok().as_ref() != Some(&content) {
            fs::write(&path, content)?;
        }
        files.push((name, path));
    }
    Ok(files)
}

fn hosts(pod: &Pod, name: &str, addresses: &[IpAddr], domain: &str, of_node: &str) -> String {
    let spec = &pod.spec;
    let mut text = if spec.host_network {
        format!("# Kubernetes-managed hosts file (host network).\n{of_node}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n".to_owned();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for address in addresses {
            if spec.subdomain.is_empty() {
                text.push_str(&format!("{address}\t{name}\n"));
            } else {
                text.push_str(&format!("{address}\t{name}.{}.{namespace}.svc.{domain}\t{name}\n", spec.subdomain));
            }
        }
        text
    };
    if !spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in &spec.host_aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
    }
    text
}

fn resolver(pod: &Pod, options: &Options, of_node: &str) -> Resolver {
    let spec = &pod.spec;
    let cluster_first = match spec.dns_policy {
        DnsPolicy::ClusterFirstWithHostNet => true,
        DnsPolicy::Default | DnsPolicy::None => false,
        _ => !spec.host_network,
    };
    let node = parse(of_node);
    let mut resolver = if spec.dns_policy == DnsPolicy::None {
        Resolver::default()
    } else if cluster_first && !options.cluster_dns.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &options.cluster_domain;
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        searches.extend(node.searches);
        Resolver {
            nameservers: options.cluster_dns.iter().map(ToString::to_string).collect(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        node
    };
    if let Some(config) = &spec.dns_config {
        merge(&mut resolver.nameservers, config.nameservers.iter().cloned());
        merge(&mut resolver.searches, config.searches.iter().cloned());
        for option in &config.options {
            let text = match &option.value {
                Some(value) => format!("{}:{value}", option.name),
                None => option.name.clone(),
            };
            let same = |have: &String| have.split(':').next() == Some(option.name.as_str());
            resolver.options.retain(|have| !same(have));
            resolver.options.push(text);
        }
    }
    resolver
}

fn merge(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => resolver.nameservers.extend(words.next()),
            Some("search") => resolver.searches = words.collect(),
            Some("options") => resolver.options = words.collect(),
            _ => {}
        }
    }
    resolver
}

impl std::fmt::Display for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for server in &self.nameservers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
