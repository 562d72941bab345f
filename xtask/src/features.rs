//! Features of the facade are additive: each compiles alone, and all compile together; and no crate picks a version of
//! Kubernetes for its embedder.

use crate::{Result, cargo, root};

/// The arguments that select no features, each alone, and all.
fn combinations(features: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![vec!["--no-default-features".to_owned()]];
    for feature in features {
        all.push(vec!["--no-default-features".to_owned(), "--features".to_owned(), feature.clone()]);
    }
    all.push(vec!["--all-features".to_owned()]);
    all
}

/// The names in a manifest's `[features]` table.
fn features_of(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| !name.starts_with('#') && name != "default")
        .collect()
}

/// Runs the chore.
pub(crate) fn run() -> Result<()> {
    let path = root().join("Cargo.toml");
    let manifest =
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    for arguments in combinations(&features_of(&manifest)) {
        println!("features: {}", arguments.join(" "));
        crate::run(cargo().args(["check", "--quiet", "--package", "longshore", "--lib"]).args(&arguments))?;
    }
    outside()
}

/// Checks an embedder with another version of Kubernetes, with the versions of crates that the workspace has pinned.
fn outside() -> Result<()> {
    println!("features: an embedder with another version of k8s-openapi");
    let directory = root().join("xtask/outside");
    std::fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock"))
        .map_err(|error| format!("cannot copy Cargo.lock to {}: {error}", directory.display()))?;
    let target = root().join("target");
    let mut check = cargo();
    // Inside the workspace the version comes from the environment (.cargo/config.toml); this one picks its own.
    check.env("K8S_OPENAPI_ENABLED_VERSION", "").current_dir(&directory);
    crate::run(check.args(["check", "--quiet", "--target-dir"]).arg(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_and_combined() {
        let manifest =
            "[package]\nname = 1\n[features]\n# why = not\ndefault = [\"a\"]\na = []\nb = [\"a\"]\n[lints]\nc = 1\n";
        assert_eq!(features_of(manifest), ["a", "b"]);
        let all = combinations(&features_of(manifest));
        assert_eq!(all.len(), 4);
        assert_eq!(all[2], ["--no-default-features", "--features", "b"]);
    }
}
