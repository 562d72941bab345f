//! The node's nftables rules: what differs between what they are and what they should be is worked out, and sent.
//!
//! The commands are `nft`'s own text. The same as JSON (which the `nftables` crate writes) takes some thirty lines of types
//! a rule, and nobody could compare it with what `nft list ruleset` shows.

mod base;
mod frames;
mod part;
mod policies;
mod ruleset;
mod services;
mod table;

pub(crate) use base::{Node, PodPorts, Way};
pub(crate) use frames::keep_apart;
pub(crate) use table::Table;

use std::io::{self, Write};
use std::process::{Command, Stdio};

use longshore_core::network::Error;
#[cfg(test)]
use longshore_core::network::ServicePort;

#[cfg(test)]
use crate::family::Family;
use crate::netlink::failed;
use ruleset::Ruleset;

/// Longest part of a name that is made by [`identifier`].
const IDENTIFIER_MAX: usize = 220;

/// Carries commands out in one transaction: all or none.
pub(crate) fn apply(commands: &str) -> Result<(), Error> {
    let mut child = command().args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(missing)?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(commands.as_bytes()));
    let output = child.wait_with_output().map_err(missing)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(failed("change nftables rules")(reason.lines().next().unwrap_or("nft gave no reason")));
    }
    written.map_err(failed("hand rules to nft"))
}

/// What the kernel has under the table's name (with its family), without what sets hold; `None` if there is no such table.
pub(crate) fn list(table: &str) -> Result<Option<String>, Error> {
    let output = command().args(["-t", "list", "table", table]).output().map_err(missing)?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Removes the tables of this name; one that is gone is none.
pub(crate) fn remove(name: &str) -> Result<(), Error> {
    apply(&format!("add table ip {name}\ndelete table ip {name}\n"))?;
    // A kernel without IPv6 or bridges makes none of theirs.
    for table in [format!("ip6 {name}"), frames::table(name)] {
        if list(&table)?.is_some() {
            apply(&format!("delete table {table}\n"))?;
        }
    }
    Ok(())
}

/// A name as that of a chain or set, where `nft` takes letters, digits, `-`, `.`, `/` and `_` (255 of them with what is put
/// around it): `default/web:http` becomes `default/web/http`.
fn identifier(name: &str) -> String {
    let mut identifier = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            // Of a service's port, or in an address, where no `/` is.
            ':' => identifier.push('/'),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '/' => identifier.push(c),
            // No name of Kubernetes' has any of these; two names must still not become one.
            _ => identifier.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    if identifier.len() > IDENTIFIER_MAX {
        let digest = crate::names::digest(&identifier, 12);
        identifier.truncate(IDENTIFIER_MAX - digest.len() - 1);
        // An underscore alone is in no other name.
        identifier = format!("{identifier}_{digest}");
    }
    identifier
}

fn command() -> Command {
    // Debian keeps it where only root's PATH looks.
    let known =
        ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].into_iter().find(|path| std::path::Path::new(path).is_file());
    let mut command = Command::new(known.unwrap_or("nft"));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn missing(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Missing {
            what: "the nft program".into(),
            remedy: "install it (apt-get install nftables)".into(),
        };
    }
    failed("run nft")(error)
}

/// The node of the tests.
#[cfg(test)]
fn node() -> Node {
    Node {
        family: Family::V4,
        way: Way::Bridge { interface: "lst-br".into(), pods: "10.1.0.0/24".parse().unwrap() },
        cluster: vec!["10.1.0.0/16".parse().unwrap()],
        services: vec!["10.96.0.0/16".parse().unwrap()],
    }
}

/// All rules of a table, for the tests.
#[cfg(test)]
fn desired<'a>(node: &Node, pods: impl IntoIterator<Item = PodPorts<'a>>, ports: &[ServicePort]) -> Ruleset {
    let mut ruleset = base::base(node, pods);
    ports.iter().for_each(|port| services::add(&mut ruleset, node, port));
    ruleset
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod kernel_tests;
