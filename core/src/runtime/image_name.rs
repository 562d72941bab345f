//! Names of images, completed as Docker and Kubernetes complete them.

use super::Error;

/// A complete image name: registry, repository and a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageName {
    /// Reads a name as a pod's spec has it: `web` means `docker.io/library/web:latest`.
    ///
    /// # Errors
    /// [`Error::Invalid`] saying which part is malformed.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Invalid { reason: format!("image name {name:?}: {reason}") };
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        let after_slash = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match rest[after_slash..].find(':') {
            Some(colon) => (&rest[..after_slash + colon], Some(&rest[after_slash + colon + 1..])),
            None => (rest, None),
        };
        if let Some(digest) = digest {
            let hex = digest.strip_prefix("sha256:").ok_or_else(|| invalid("a digest must start with sha256:"))?;
            if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(invalid("a digest must have 64 hexadecimal digits in lower case"));
            }
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(invalid(
                "a tag has up to 128 letters, digits, '_', '.' and '-', and starts with none of the last two",
            ));
        }
        let (host, path) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("docker.io", path),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        // A label between dots is never empty: `..` is a path, no registry.
        if host.split([':', '.']).any(str::is_empty)
            || !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
        {
            return Err(invalid("the registry is not a host name"));
        }
        if path.is_empty() || path.len() > 255 || !path.split('/').all(is_component) {
            return Err(invalid(
                "the repository must be lower-case letters and digits, separated by '.', '_', '-' or '/'",
            ));
        }
        let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { repository: format!("{host}/{library}{path}"), tag, digest: digest.map(str::to_owned) })
    }

    /// Registry and path, such as `docker.io/library/web`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The registry, such as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        self.repository.split_once('/').map_or("", |(registry, _)| registry)
    }

    /// The path in the registry, such as `library/web`.
    pub fn path(&self) -> &str {
        self.repository.split_once('/').map_or("", |(_, path)| path)
    }

    /// The tag, if the name has one: `latest` if it had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, `sha256:…`, if the name has one: it then tells the image, whatever the tag says.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Repository and tag; `None` if the name has a digest only.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.repository))
    }
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_component(component: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(component.bytes().next())
        && edge(component.bytes().last())
        && component.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        && !component.contains("..")
        && !component.contains("___")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (name, complete) in [
            ("web", "docker.io/library/web:latest".to_owned()),
            ("web:1", "docker.io/library/web:1".to_owned()),
            ("team/web", "docker.io/team/web:latest".to_owned()),
            ("index.docker.io/library/web", "docker.io/library/web:latest".to_owned()),
            ("localhost/web", "localhost/web:latest".to_owned()),
            ("host:5000/web", "host:5000/web:latest".to_owned()),
            (&format!("ghcr.io/a/b@{digest}"), format!("ghcr.io/a/b@{digest}")),
            (&format!("web:1@{digest}"), format!("docker.io/library/web:1@{digest}")),
        ] {
            assert_eq!(ImageName::parse(name).map(|n| n.to_string()), Ok(complete), "{name}");
        }
        for name in ["", "Web", "web:", "web@sha256:12", "a//b", "web:.x", "../web", "web/", "a..b", "exa mple.com/x"] {
            assert!(matches!(ImageName::parse(name), Err(Error::Invalid { .. })), "{name}");
        }
    }
}
