//! Changes as they happen: files that shims and agents touch, and shims that end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use longshore_core::runtime::{ContainerRef, Event};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use crate::disk;
use crate::host::Host;

/// An inotify instance that tokio can wait for.
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// What one listener watches.
struct Watched {
    host: Arc<Host>,
    files: AsyncFd<Watch>,
    /// Shims, until they end; each answers its pod's uid.
    shims: FuturesUnordered<BoxFuture<'static, String>>,
    /// The pods whose shim is watched.
    uids: BTreeSet<String>,
}

/// Everything that changes from now on.
pub(crate) fn stream(host: &Arc<Host>) -> io::Result<BoxStream<'static, Event>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(&host.events(), AddWatchFlags::IN_CLOSE_WRITE)?;
    #[allow(deprecated, reason = "its successor is unsafe; a Watch owns its descriptor until it is dropped")]
    let files = AsyncFd::new(Watch(inotify))?;
    let mut watched = Watched { host: host.clone(), files, shims: FuturesUnordered::new(), uids: BTreeSet::new() };
    for sandbox in disk::directories(&host.sandboxes())? {
        watched.watch_shim(&sandbox.file_name().unwrap_or_default().to_string_lossy());
    }
    let batches = stream::unfold(watched, |mut watched| async move {
        let events = watched.next().await?;
        Some((stream::iter(events), watched))
    });
    Ok(batches.flatten().boxed())
}

impl Watched {
    async fn next(&mut self) -> Option<Vec<Event>> {
        tokio::select! {
            Some(pod_uid) = self.shims.next() => {
                self.uids.remove(&pod_uid);
                Some(vec![Event::Sandbox { pod_uid }])
            }
            events = changed(&self.files) => {
                let events = events?;
                for event in &events {
                    if let Event::Sandbox { pod_uid } = event {
                        self.watch_shim(pod_uid);
                    }
                }
                Some(events)
            }
        }
    }

    /// Watches a pod's shim, if it lives and is not watched yet.
    fn watch_shim(&mut self, uid: &str) {
        let find = || -> Option<AsyncFd<OwnedFd>> {
            let pid: i32 = disk::noted(&self.host.sandbox_directory(uid).join("shim.json")).ok()??;
            let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            #[allow(deprecated, reason = "its successor is unsafe; an OwnedFd owns its descriptor until it is dropped")]
            AsyncFd::new(process).ok()
        };
        if self.uids.contains(uid) {
            return;
        }
        if let Some(process) = find() {
            let uid = uid.to_owned();
            self.uids.insert(uid.clone());
            self.shims.push(Box::pin(async move {
                // A process is ready to read when it has ended.
                let _ = process.readable().await;
                uid
            }));
        }
    }
}

/// The next files that were touched.
async fn changed(files: &AsyncFd<Watch>) -> Option<Vec<Event>> {
    loop {
        let mut ready = files.readable().await.ok()?;
        if let Ok(Ok(events)) = ready.try_io(|fd| Ok(fd.get_ref().0.read_events()?)) {
            // An event without a name says that the kernel lost some.
            return Some(
                events.into_iter().map(|event| event.name.map_or(Event::Resync, |name| named(&name))).collect(),
            );
        }
    }
}

/// What a file touched in the events' directory tells.
fn named(name: &OsStr) -> Event {
    let name = name.to_string_lossy();
    let parts: Vec<&str> = name.split('_').collect();
    match parts.as_slice() {
        [uid, name, attempt] => match attempt.parse() {
            Ok(attempt) => {
                Event::Container(ContainerRef { pod_uid: (*uid).to_owned(), name: (*name).to_owned(), attempt })
            }
            Err(_) => Event::Resync,
        },
        _ => Event::Sandbox { pod_uid: name.into_owned() },
    }
}
