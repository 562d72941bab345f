//! What an operator asks of etcd: how its members are, and a copy of everything.

use std::path::Path;

use longshore_core::store::Error;
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::failure::Failure;
use crate::members::Member;
use crate::store::EtcdStore;

/// How one member is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Where it was asked.
    pub endpoint: String,
    /// Its version of etcd.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of its file that hold something; the rest is free for use, and given back by defragmenting.
    pub bytes_in_use: u64,
    /// What it complains of, such as `NOSPACE`.
    pub alarms: Vec<String>,
}

impl MemberStatus {
    /// Whether more than half of the file, and of a file that is worth it, would be given back by `etcdctl defrag`.
    pub fn wants_defragmentation(&self) -> bool {
        self.bytes >= 100 << 20 && self.bytes_in_use < self.bytes / 2
    }
}

/// A snapshot that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedSnapshot {
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of what etcd sent, in hexadecimal, as etcd itself counted it.
    pub hash: String,
}

/// How one member is made from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreCommand {
    /// The member's name.
    pub member: String,
    /// The command to run on its machine.
    pub command: String,
}

/// Bytes of the hash at the end of a snapshot.
const HASH_BYTES: usize = 32;

/// What etcd's files are multiples of.
const PAGE_BYTES: u64 = 512;

impl EtcdStore {
    /// Asks each endpoint how it is.
    pub async fn member_statuses(&self) -> Vec<Result<MemberStatus, Error>> {
        let mut statuses = Vec::new();
        for (index, endpoint) in self.members().urls().into_iter().enumerate() {
            let asked = self.members().ask(index, |mut member: Member| async move {
                let status = member.maintenance.status().await?;
                let leads = status.header().is_some_and(|header| header.member_id() == status.leader());
                Ok((status, leads))
            });
            statuses.push(match asked.await {
                Ok((status, leads)) => Ok(MemberStatus {
                    endpoint: endpoint.to_owned(),
                    version: status.version().to_owned(),
                    leads,
                    bytes: u64::try_from(status.db_size()).unwrap_or(0),
                    bytes_in_use: u64::try_from(status.raft_used_db_size()).unwrap_or(0),
                    alarms: status.errors().to_vec(),
                }),
                Err(failure) => Err(failure.of_read("ask a member")),
            });
        }
        statuses
    }

    /// Writes a copy of everything, with all that is not compacted, to a file that does not exist yet: etcd's own format, from
    /// one member, whole or not at all. It holds Secrets; the file is for its owner only.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if etcd broke off; [`Error::NoSpace`] or [`Error::Corrupt`] as the disk says.
    pub async fn save_snapshot(&self, path: &Path) -> Result<SavedSnapshot, Error> {
        let partial = path.with_added_extension("partial");
        if fs::try_exists(path).await.map_err(|error| disk(path, &error))? {
            return Err(Error::Unavailable { reason: format!("{} exists already", path.display()) });
        }
        let saved = self.download(&partial).await;
        if saved.is_err() {
            // What is there of it is of no use; that it could not be made is told.
            let _ = fs::remove_file(&partial).await;
        } else {
            fs::rename(&partial, path).await.map_err(|error| disk(path, &error))?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let opened = fs::File::open(directory).await.map_err(|error| disk(path, &error))?;
            opened.sync_all().await.map_err(|error| disk(path, &error))?;
        }
        saved
    }

    async fn download(&self, path: &Path) -> Result<SavedSnapshot, Error> {
        let broken = |failure: Failure| failure.of_read("copy etcd");
        let snapshot = self.members().read(|mut member: Member| async move { member.maintenance.snapshot().await });
        let mut snapshot = snapshot.await.map_err(broken)?;
        // What an earlier one left, or what is somebody else's: it must be a file of our own, for its owner only.
        let _ = fs::remove_file(path).await;
        let options = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
        let mut file = options.open(path).await.map_err(|error| disk(path, &error))?;
        // A connection that is cut is noticed by its keep-alive.
        while let Some(part) = snapshot.message().await.map_err(|error| broken(error.into()))? {
            file.write_all(part.blob()).await.map_err(|error| disk(path, &error))?;
        }
        file.sync_all().await.map_err(|error| disk(path, &error))?;
        drop(file);
        check_snapshot(path).await
    }

    /// The commands that make a new cluster of these members from a snapshot. etcd's members must be stopped for that, and none
    /// of them can do it for itself.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no member answers; the commands can then be had with their names filled in by hand.
    pub async fn restore_commands(&self, snapshot: &Path) -> Result<Vec<RestoreCommand>, Error> {
        let listed = self.members().read(|mut member: Member| async move { member.cluster.member_list().await }).await;
        let listed = listed.map_err(|failure| failure.of_read("list the members"))?;
        let members: Vec<(&str, &str)> = listed
            .members()
            .iter()
            .map(|member| (member.name(), member.peer_urls().first().map_or("", String::as_str)))
            .collect();
        Ok(commands(snapshot, &members))
    }
}

fn commands(snapshot: &Path, members: &[(&str, &str)]) -> Vec<RestoreCommand> {
    let cluster: Vec<String> = members.iter().map(|(name, peer)| format!("{name}={peer}")).collect();
    let cluster = cluster.join(",");
    let command = |(name, peer): &(&str, &str)| RestoreCommand {
        member: (*name).to_owned(),
        command: format!(
            "etcdctl snapshot restore {} --name {} --initial-cluster {} --initial-advertise-peer-urls {} --data-dir {}",
            quoted(&snapshot.display().to_string()),
            quoted(name),
            quoted(&cluster),
            quoted(peer),
            quoted(&format!("/var/lib/etcd/{name}-restored"))
        ),
    };
    members.iter().map(command).collect()
}

/// A word of a shell's command, in quotes where it needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Checks that a file is a whole snapshot: the hash at its end is that of what is before.
///
/// # Errors
/// [`Error::Corrupt`] if it is not; [`Error::Unavailable`] if it cannot be read.
pub async fn check_snapshot(path: &Path) -> Result<SavedSnapshot, Error> {
    let damaged = |what: &str| Error::Corrupt { reason: format!("{}: {what}", path.display()) };
    let mut file = File::open(path).await.map_err(|error| disk(path, &error))?;
    let bytes = file.metadata().await.map_err(|error| disk(path, &error))?.len();
    if bytes < PAGE_BYTES || bytes % PAGE_BYTES != HASH_BYTES as u64 {
        return Err(damaged("this is no snapshot of etcd's, or only a part of one"));
    }
    let (mut hash, mut left) = (Sha256::new(), bytes - HASH_BYTES as u64);
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buffer[..part]).await.map_err(|error| disk(path, &error))?;
        hash.update(&buffer[..part]);
        left -= part as u64;
    }
    let mut told = [0; HASH_BYTES];
    file.read_exact(&mut told).await.map_err(|error| disk(path, &error))?;
    let counted = hash.finalize();
    if counted.as_slice() != told {
        return Err(damaged("its hash is not that of its content"));
    }
    Ok(SavedSnapshot { bytes, hash: told.iter().map(|byte| format!("{byte:02x}")).collect() })
}

fn disk(path: &Path, error: &std::io::Error) -> Error {
    let reason = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::NoSpace { reason },
        _ => Error::Unavailable { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_restored_as_part_of_one_new_cluster() {
        let members = [("a", "http://10.0.0.1:2380"), ("b", "http://10.0.0.2:2380")];
        let commands = commands(Path::new("/backup/one.db"), &members);
        assert_eq!(commands.len(), 2);
        assert_eq!(
            commands[1].command,
            "etcdctl snapshot restore /backup/one.db --name b --initial-cluster \
             a=http://10.0.0.1:2380,b=http://10.0.0.2:2380 --initial-advertise-peer-urls http://10.0.0.2:2380 \
             --data-dir /var/lib/etcd/b-restored"
        );
    }

    #[test]
    fn defragmenting_is_recommended_where_it_gives_back_much() {
        let status = |bytes, bytes_in_use| MemberStatus {
            endpoint: String::new(),
            version: String::new(),
            leads: false,
            bytes,
            bytes_in_use,
            alarms: Vec::new(),
        };
        assert!(status(200 << 20, 60 << 20).wants_defragmentation());
        assert!(!status(200 << 20, 150 << 20).wants_defragmentation());
        assert!(!status(10 << 20, 1 << 20).wants_defragmentation());
    }
}
