//! The one rule of the house: a crate depends only on crates of lower floors.

use std::fs;

use crate::root;

/// The crates by floor, as `ARCHITECTURE.md` draws them.
const FLOORS: &[(&str, u8)] = &[
    ("core", 1),
    ("scheduler", 2),
    ("client", 2),
    ("network", 2),
    ("runtime-docker", 2),
    ("runtime-oci", 2),
    ("runtime-simulated", 2),
    ("storage-etcd", 2),
    ("storage-embedded", 2),
    ("apiserver", 3),
    ("controllers", 3),
    ("node", 3),
    ("simulator", 4),
    ("cluster", 4),
    ("cli", 5),
    (".", 5),
];

fn floor(directory: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == directory).map(|(_, floor)| *floor)
}

/// The workspace's crates that a manifest's `[dependencies]` name.
fn dependencies(manifest: &str) -> Vec<&str> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.trim().strip_prefix("longshore-"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .collect()
}

/// What is wrong with one crate's dependencies.
fn violations(directory: &str, manifest: &str) -> Vec<String> {
    let Some(own) = floor(directory) else { return vec![format!("{directory} is on no floor")] };
    dependencies(manifest)
        .into_iter()
        .filter(|below| floor(below).is_none_or(|floor| floor >= own))
        .map(|below| format!("{directory} (floor {own}) depends on {below}"))
        .collect()
}

#[test]
fn arrows_point_down() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let workspace = read("Cargo.toml");
    let architecture = read("ARCHITECTURE.md");
    let members =
        workspace.lines().skip_while(|line| !line.starts_with("members")).take_while(|line| !line.starts_with(']'));
    let mut checked = 0;
    for member in members.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|name| !name.starts_with("xtask"))
    {
        let manifest = read(&format!("{member}/Cargo.toml"));
        assert_eq!(violations(member, &manifest), Vec::<String>::new());
        let drawn = if member == "." { "longshore" } else { member };
        assert!(architecture.contains(&format!("**{drawn}**")), "ARCHITECTURE.md does not describe {drawn}");
        checked += 1;
    }
    assert!(checked >= 6, "only {checked} crates were found in the workspace");
}

#[test]
fn an_arrow_up_or_sideways_is_found() {
    let manifest = "[dependencies]\nlongshore-core.workspace = true\nlongshore-client = { workspace = true }\n[dev-dependencies]\nlongshore-node.workspace = true\n";
    assert_eq!(dependencies(manifest), ["core", "client"]);
    assert_eq!(violations("network", manifest), ["network (floor 2) depends on client"]);
    assert!(violations("node", manifest).is_empty());
}
