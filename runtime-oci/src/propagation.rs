//! Mounts that reach a container after it has started, or leave it.
//!
//! The kernel passes mounts on between places that share them. The runtime makes the container's own tree a slave of the
//! host's or a peer of it, as its mounts need, and the place on the host must be shared to begin with: where it is not, the
//! runtime would start the container and nothing would ever be passed on.

use std::fs;
use std::path::{Path, PathBuf};

use longshore_core::runtime::{Error, Mount, Propagation};

/// How the container's tree takes part, for the runtime's configuration; `None` if none of its mounts does.
///
/// # Errors
/// A mount's source is not shared, in the words of upstream's runtimes.
pub(crate) fn of_root(mounts: &[Mount]) -> Result<Option<&'static str>, Error> {
    let is = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    if !is(Propagation::Bidirectional) && !is(Propagation::HostToContainer) {
        return Ok(None);
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mounts {
        let source = mount.source.canonicalize().unwrap_or_else(|_| mount.source.clone());
        check(&table, &source, mount.propagation).map_err(|reason| Error::Invalid { reason })?;
    }
    Ok(Some(if is(Propagation::Bidirectional) { "rshared" } else { "rslave" }))
}

fn check(table: &str, source: &Path, propagation: Propagation) -> Result<(), String> {
    let (wanted, kind): (&[&str], _) = match propagation {
        Propagation::Private => return Ok(()),
        Propagation::HostToContainer => (&["shared:", "master:"], "shared or slave"),
        Propagation::Bidirectional => (&["shared:"], "shared"),
    };
    let Some((point, tags)) = mount_of(table, source) else { return Ok(()) };
    if tags.iter().any(|tag| wanted.iter().any(|wanted| tag.starts_with(wanted))) {
        return Ok(());
    }
    Err(format!("path \"{}\" is mounted on \"{}\" but it is not a {kind} mount", source.display(), point.display()))
}

/// The mount on which a path lies, with its optional fields. Of several at one place the last lies on top.
fn mount_of<'t>(table: &'t str, path: &Path) -> Option<(PathBuf, Vec<&'t str>)> {
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = PathBuf::from(unescape(fields.nth(4)?));
        Some((point, fields.skip(1).take_while(|field| *field != "-").collect()))
    });
    mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count())
}

/// The kernel writes spaces and the like as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /data rw - tmpfs tmpfs rw
24 22 0:22 / /data/a\\040b rw master:7 - tmpfs tmpfs rw
25 22 0:23 / /twice rw - tmpfs tmpfs rw
26 22 0:24 / /twice rw shared:9 - tmpfs tmpfs rw
";

    #[test]
    fn only_what_is_shared_passes_mounts_on() {
        use Propagation::{Bidirectional, HostToContainer, Private};
        let at = |path: &str, propagation| check(TABLE, Path::new(path), propagation);
        for (path, slave, peer) in
            [("/srv", true, true), ("/data/x", false, false), ("/data/a b/x", true, false), ("/twice/x", true, true)]
        {
            assert!(at(path, Private).is_ok());
            assert_eq!(at(path, HostToContainer).is_ok(), slave, "{path}");
            assert_eq!(at(path, Bidirectional).is_ok(), peer, "{path}");
        }
        let text = "path \"/data/x\" is mounted on \"/data\" but it is not a shared mount";
        assert_eq!(at("/data/x", Bidirectional).unwrap_err(), text);
        assert!(at("/data/x", HostToContainer).unwrap_err().ends_with("not a shared or slave mount"));
    }
}
