//! Between etcd's keys and values and the store's.

use bytes::Bytes;
use longshore_core::store::{Error, KeyValue, Revision};

/// The key that etcd's ranges write for "from the first key" and "to the last".
pub(crate) const ALL: &[u8] = b"\0";

/// etcd counts revisions in signed numbers, and from 1.
pub(crate) fn revision(number: i64) -> Revision {
    Revision::try_from(number).unwrap_or(0)
}

/// The other way round. No etcd gets as far as the numbers that do not fit.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// First key, and first key that no longer belongs, of the keys that start with `prefix` and come after `after`.
pub(crate) fn range(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let start = match after {
        Some(after) if after >= prefix => [after.as_bytes(), ALL].concat(),
        _ if prefix.is_empty() => ALL.to_vec(),
        _ => prefix.as_bytes().to_vec(),
    };
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 255, so the last byte can always be raised.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end = ALL.to_vec(),
    }
    (start, end)
}

/// An entry as the store tells it.
pub(crate) fn entry(found: &etcd_client::KeyValue) -> Result<KeyValue, Error> {
    let key = std::str::from_utf8(found.key()).map_err(|_| Error::Corrupt {
        reason: format!("the key {} in etcd is not text", found.key().escape_ascii()),
    })?;
    Ok(KeyValue {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(found.value()),
        revision: revision(found.mod_revision()),
        created: revision(found.create_revision()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prefix: &str, after: Option<&str>) -> (String, String) {
        let (start, end) = range(prefix, after);
        (String::from_utf8_lossy(&start).into_owned(), String::from_utf8_lossy(&end).into_owned())
    }

    #[test]
    fn a_range_begins_with_the_prefix_or_right_after_a_key_and_ends_with_the_prefix() {
        let pair = |start: &str, end: &str| (start.to_owned(), end.to_owned());
        assert_eq!(texts("/a/", None), pair("/a/", "/a0"));
        assert_eq!(texts("/a/", Some("/a/b")), pair("/a/b\0", "/a0"));
        assert_eq!(texts("/a/", Some("/")), pair("/a/", "/a0"));
        assert_eq!(texts("", None), pair("\0", "\0"));
        assert_eq!(texts("", Some("/a")), pair("/a\0", "\0"));
    }
}
