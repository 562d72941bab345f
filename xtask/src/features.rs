//! Features of the facade are additive: each compiles alone, and all compile together.

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
    Ok(())
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
