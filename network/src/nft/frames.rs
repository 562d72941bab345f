//! The rules for frames, before anybody looks for addresses in them: a pod's go to its node, none to another pod.
//!
//! Ports of a bridge can be isolated from each other, but the module `br_netfilter` passes what it has translated from one port to
//! the other by itself: where it is loaded no pod would reach a Service behind its own bridge.

use longshore_core::network::Error;

use super::ruleset::{Chain, Ruleset};
use super::{apply, list};
use crate::names::Names;

/// Frames to many: the lowest bit of the first byte tells.
const MANY: &str = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00";
const ONE: &str = "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00";

/// Sees to it that what pods send passes the node's routing alone; `hardware` is their bridge's address. Nothing is done if the
/// rules are there.
pub(crate) fn keep_apart(names: &Names, hardware: [u8; 6]) -> Result<(), Error> {
    let table = table(&names.mark);
    let rules = rules(names, hardware);
    match list(&table)? {
        Some(listing) if rules.matches(&listing) => Ok(()),
        _ => apply(&rules.whole(&table)),
    }
}

/// The table's name with its family.
pub(super) fn table(mark: &str) -> String {
    format!("bridge {mark}")
}

fn rules(names: &Names, hardware: [u8; 6]) -> Ruleset {
    let pods = format!("iifname \"{}*\"", names.prefix);
    let bridge = hardware.map(|byte| format!("{byte:02x}")).join(":");
    let mut ruleset = Ruleset::default();
    let mut chain = |name: &str, hook: &str, rule: String| {
        let hook = format!("type filter hook {hook} ; policy accept ;");
        ruleset.chains.insert(name.to_owned(), Chain { hook, rules: vec![rule] });
    };
    // Before a translation, which puts another receiver's address on the frame.
    chain("enter", "prerouting priority -300", format!("{pods} {ONE} ether daddr != {bridge} drop"));
    // The node's own copy of a frame to many does not come by here.
    chain("through", "forward priority -200", format!("{pods} {MANY} drop"));
    ruleset
}
