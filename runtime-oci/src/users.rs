//! Who a container's processes run as, by what is asked for and what the image's `/etc/passwd` and `/etc/group` say.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use longshore_core::runtime::{Error, Security};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// The longest file of users that is read.
const FILE_MAX: u64 = 1 << 20;

/// Ids of a container's first process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// The user that `security` asks for, or else the image, whose files lie below `root`.
///
/// # Errors
/// [`Error::Invalid`] if there is none of this name or number.
pub(crate) fn user(security: &Security, image: &str, root: &Path) -> Result<User, Error> {
    let file = |path: &str| {
        read(root, path).map_err(|error| Error::Invalid { reason: format!("the image's {path}: {error}") })
    };
    resolve(security, image, &file("etc/passwd")?, &file("etc/group")?).map_err(|reason| Error::Invalid { reason })
}

/// A file of the image; empty if there is none. Whatever the image has there, no file of the node is read.
fn read(root: &Path, path: &str) -> io::Result<String> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve(security: &Security, image: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (image_user, image_group) = image.split_once(':').unwrap_or((image, ""));
    let id = |id: i64| u32::try_from(id).map_err(|_| format!("{id} is not a user or group id"));
    let accounts: Vec<Account<'_>> = passwd.lines().filter_map(account).collect();
    let of_uid = |uid: u32| accounts.iter().find(|account| account.uid == uid);
    let (uid, account) = match security.user {
        Some(given) => (id(given)?, of_uid(id(given)?)),
        None if image_user.is_empty() => (0, of_uid(0)),
        None => match (accounts.iter().find(|account| account.name == image_user), image_user.parse()) {
            (Some(account), _) => (account.uid, Some(account)),
            (None, Ok(uid)) => (uid, of_uid(uid)),
            (None, Err(_)) if image_user == "root" => (0, None),
            (None, Err(_)) => {
                return Err(format!("unable to find user {image_user}: no matching entries in passwd file"));
            }
        },
    };
    let gid = match security.group {
        Some(given) => id(given)?,
        None if security.user.is_none() && !image_group.is_empty() => {
            let found = group.lines().filter_map(named_group).find(|(name, ..)| *name == image_group);
            let gid = found.map(|(_, gid, _)| gid).or_else(|| image_group.parse().ok());
            gid.ok_or_else(|| format!("unable to find group {image_group}: no matching entries in group file"))?
        }
        None => account.map_or(0, |account| account.gid),
    };
    let mut groups = security.supplemental_groups.iter().map(|group| id(*group)).collect::<Result<Vec<_>, _>>()?;
    if let (Some(account), false) = (account, security.strict_groups) {
        let member = |members: &str| members.split(',').any(|member| member == account.name);
        let more = group.lines().filter_map(named_group).filter(|(.., members)| member(members));
        groups.extend(more.map(|(_, gid, _)| gid));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

fn account(line: &str) -> Option<Account<'_>> {
    let mut fields = line.split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    Some(Account { name, uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

fn named_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    Some((name, fields.next()?.parse().ok()?, fields.next().unwrap_or_default().trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:50:other,web\nmore:x:51:web\n";

    fn check(security: &Security, image: &str, expected: Result<(u32, u32, &[u32]), &str>) {
        let found = resolve(security, image, PASSWD, GROUP);
        let expected = expected.map(|(uid, gid, groups)| User { uid, gid, groups: groups.to_vec() });
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{image}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{image}: {found:?}"),
        }
    }

    #[test]
    fn names_and_numbers_are_found_in_the_image() {
        let none = Security::default();
        check(&none, "", Ok((0, 0, &[])));
        check(&none, "root", Ok((0, 0, &[])));
        check(&none, "web", Ok((33, 34, &[50, 51])));
        check(&none, "33", Ok((33, 34, &[50, 51])));
        check(&none, "web:logs", Ok((33, 50, &[50, 51])));
        check(&none, "1000:7", Ok((1000, 7, &[])));
        check(&none, "nobody", Err("unable to find user nobody"));
        check(&none, "web:none", Err("unable to find group none"));
        let given = Security { user: Some(33), ..Security::default() };
        check(&given, "1000:7", Ok((33, 34, &[50, 51])));
        check(&Security { group: Some(9), ..given }, "", Ok((33, 9, &[50, 51])));
        check(&Security { user: Some(-1), ..Security::default() }, "", Err("-1 is not a user"));
    }

    #[test]
    fn groups_are_merged_or_strict() {
        let merged = Security { user: Some(33), supplemental_groups: vec![51, 60], ..Security::default() };
        check(&merged, "", Ok((33, 34, &[50, 51, 60])));
        check(&Security { strict_groups: true, ..merged }, "", Ok((33, 34, &[51, 60])));
    }

    #[test]
    fn a_link_out_of_the_image_leads_nowhere() {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", image.path().join("etc/group")).unwrap();
        std::fs::write(image.path().join("etc/passwd"), PASSWD).unwrap();
        assert_eq!(read(image.path(), "etc/group").unwrap(), PASSWD);
        assert_eq!(read(image.path(), "etc/none").unwrap(), "");
        assert_eq!(read(image.path(), "etc").unwrap(), "");
    }
}
