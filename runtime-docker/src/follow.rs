//! Copies logs as they grow.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use crate::logs::Logs;

/// An inotify instance that tokio can wait for.
#[derive(Debug)]
pub(crate) struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub(crate) fn open() -> io::Result<AsyncFd<Self>> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        #[allow(deprecated, reason = "its successor is unsafe; a Watch owns its descriptor until it is dropped")]
        AsyncFd::new(Self(inotify))
    }

    /// Watches the directory in which the engine has a container's log.
    pub(crate) fn add(&self, directory: &Path) -> io::Result<WatchDescriptor> {
        let wanted = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        self.0.add_watch(directory, wanted).map_err(|error| {
            io::Error::other(format!(
                "the Docker Engine's log in {} cannot be followed: {error}; the engine must see the same files as this process",
                directory.display()
            ))
        })
    }

    pub(crate) fn remove(&self, watch: WatchDescriptor) {
        // It went with its directory.
        let _ = self.0.rm_watch(watch);
    }
}

impl Logs {
    /// Copies logs as they grow, for as long as the answer lives.
    pub(crate) fn follow(self: &Arc<Self>) -> JoinSet<()> {
        let logs = self.clone();
        let mut follower = JoinSet::new();
        follower.spawn(async move {
            while let Some(ids) = logs.grown().await {
                for id in ids {
                    if let Err(error) = logs.sync(&id).await {
                        tracing::warn!(container = id, %error, "its log cannot be copied");
                    }
                }
            }
        });
        follower
    }

    /// The containers that have said something.
    async fn grown(&self) -> Option<Vec<String>> {
        loop {
            let mut ready = self.files.readable().await.ok()?;
            let Ok(Ok(events)) = ready.try_io(|fd| Ok(fd.get_ref().0.read_events()?)) else { continue };
            if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)) {
                return Some(self.all());
            }
            let mut ids: Vec<_> = events.iter().filter_map(|event| self.watched(event.wd)).collect();
            ids.sort_unstable();
            ids.dedup();
            return Some(ids);
        }
    }
}
