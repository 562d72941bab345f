//! The key with which tokens of service accounts are signed: `sa.key`, beside the authority's.

use std::path::Path;

use super::{Error, files};
use crate::token::SigningKey;

const FILE: &str = "sa.key";

fn unusable(directory: &Path, reason: impl ToString) -> Error {
    Error::TokenKey { path: directory.join(FILE), reason: reason.to_string() }
}

/// The key in a directory, made there if there is none yet. Several processes may do this at once: all end up with the same one.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub fn open_token_key(directory: &Path) -> Result<SigningKey, Error> {
    files::make_directory(directory)?;
    let path = directory.join(FILE);
    let text = match files::read(&path)? {
        Some(text) => text,
        None => files::create(&path, &SigningKey::new_pem().map_err(|error| unusable(directory, error))?)?,
    };
    SigningKey::from_pem(&text).map_err(|error| unusable(directory, error))
}

/// Puts a key into a directory where there is none: that of a cluster of which this machine is to be part.
///
/// # Errors
/// The file cannot be written, or there is another key.
pub fn install_token_key(directory: &Path, text: &str) -> Result<(), Error> {
    files::make_directory(directory)?;
    if files::create(&directory.join(FILE), text)? == text {
        Ok(())
    } else {
        Err(unusable(directory, "it is another cluster's"))
    }
}

/// The text of the key in a directory, made there if there is none yet.
///
/// # Errors
/// As [`open_token_key`].
pub fn export_token_key(directory: &Path) -> Result<String, Error> {
    open_token_key(directory)?;
    files::read(&directory.join(FILE))?.ok_or_else(|| unusable(directory, "it is gone"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let temporary = tempfile::tempdir().unwrap();
        let (first, second) = (temporary.path().join("a"), temporary.path().join("b"));
        let text = export_token_key(&first).unwrap();
        assert_eq!(export_token_key(&first).unwrap(), text);
        let mode = std::fs::metadata(first.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        install_token_key(&second, &text).unwrap();
        install_token_key(&second, &text).unwrap();
        assert_eq!(export_token_key(&second).unwrap(), text);
        let error = install_token_key(&second, "other").unwrap_err().to_string();
        assert!(error.contains("sa.key cannot be used: it is another cluster's"), "{error}");
        std::fs::write(first.join(FILE), "no key").unwrap();
        assert!(open_token_key(&first).unwrap_err().to_string().contains("it holds no private key"));
    }
}
