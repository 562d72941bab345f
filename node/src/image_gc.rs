//! Removes images that nobody uses when their disk fills, the least recently used first, as the kubelet does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::api::{Node, ObjectReference};
use longshore_core::events::Severity;
use longshore_core::kind::KindType;
use longshore_core::runtime::{Error, Image, ImageDisk, ImageId};
use tokio_util::sync::CancellationToken;

use crate::options::ImageGc;
use crate::shared::Shared;

/// Time between looks at the disk.
const PERIOD: Duration = Duration::from_secs(300);

/// Keeps the images' disk from filling until cancelled; ends at once where images take no room of the node's.
pub(crate) async fn run(shared: &Shared, cancel: &CancellationToken) {
    let policy = shared.options.image_gc;
    if policy.high_percent >= 100 || matches!(shared.runtime.images().disk().await, Ok(None)) {
        return;
    }
    let work = async {
        let mut known = Known::default();
        let mut failed = false;
        loop {
            let collected = collect(shared, policy, &mut known).await;
            if let Err(reason) = &collected {
                tracing::warn!(reason, "images cannot be removed");
                // Once may be chance.
                if failed {
                    warn(shared, "ImageGCFailed", reason);
                }
            }
            failed = collected.is_err();
            shared.clock.sleep(PERIOD).await;
        }
    };
    cancel.run_until_cancelled(work).await;
}

/// Looks once, and removes what it takes to come down to the lower threshold.
async fn collect(shared: &Shared, policy: ImageGc, known: &mut Known) -> Result<(), String> {
    let images = shared.runtime.images();
    let text = |error: Error| error.to_string();
    let Some(disk) = images.disk().await.map_err(text)? else { return Ok(()) };
    let sandboxes = shared.runtime.list().await.map_err(text)?;
    let used = sandboxes.iter().flat_map(|sandbox| &sandbox.containers).map(|container| container.image.clone());
    let listed = images.list().await.map_err(text)?;
    let now = shared.clock.elapsed();
    // Right after a start, the pods that need what is there may not run yet.
    let is_first = !known.looked;
    known.look(&listed, &used.collect(), now);
    if is_first || used_percent(disk) < u64::from(policy.high_percent) {
        return Ok(());
    }
    let wanted = u64::try_from(u128::from(disk.capacity) * u128::from(100 - policy.low_percent.min(100)) / 100);
    let wanted = wanted.unwrap_or(u64::MAX);
    let (mut available, mut errors) = (disk.available, Vec::new());
    for image in known.candidates(&listed, now, policy.min_age) {
        if available >= wanted {
            break;
        }
        tracing::info!(image = image.id.0, names = ?image.tags, "removing an image to free the disk");
        match images.remove(&image.id.0).await {
            // Layers may be shared, so what that freed is measured.
            Ok(()) => available = images.disk().await.map_err(text)?.map_or(available, |disk| disk.available),
            // A container began to use it, or somebody else removed it.
            Err(Error::WrongState { .. } | Error::NotFound { .. }) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if available >= wanted {
        return Ok(());
    }
    let freed = available.saturating_sub(disk.available);
    if !errors.is_empty() {
        let (bytes, errors) = (wanted - disk.available, errors.join("; "));
        return Err(format!(
            "wanted to free {bytes} bytes, but freed {freed} bytes space with errors in image deletion: [{errors}]"
        ));
    }
    let message = format!(
        "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient space \
         by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, \
         logs, volumes, or other data.",
        used_percent(disk),
        size(disk.capacity)
    );
    warn(shared, "FreeDiskSpaceFailed", &message);
    Err(message)
}

fn used_percent(disk: ImageDisk) -> u64 {
    let free = u128::from(disk.available.min(disk.capacity)) * 100 / u128::from(disk.capacity.max(1));
    100 - u64::try_from(free).unwrap_or(100)
}

/// Bytes as people read them, with one digit after the point.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (bytes.max(1).ilog2() / 10).min(6);
    if power == 0 {
        return format!("{bytes} B");
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[power as usize])
}

fn warn(shared: &Shared, reason: &str, message: &str) {
    let (name, info) = (&shared.options.node_name, KindType::of::<Node>().info);
    // The kubelet does not know its node's uid either: what concerns a node's own work has its name there.
    let about = ObjectReference {
        kind: info.kind.to_owned(),
        name: name.clone(),
        uid: name.clone(),
        ..ObjectReference::default()
    };
    shared.recorder.record_about(about, Severity::Warning, reason, message);
}

/// What the looks at the disk have shown of an image; `None` is before the first.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Option<Duration>,
    last_used: Option<Duration>,
}

/// The images that are there, and when each was used.
#[derive(Debug, Default)]
struct Known {
    images: BTreeMap<ImageId, Seen>,
    looked: bool,
}

impl Known {
    fn look(&mut self, images: &[Image], used: &BTreeSet<ImageId>, now: Duration) {
        // Whoever pulled an image wanted it: it counts as used then.
        let new = self.looked.then_some(now);
        self.looked = true;
        self.images.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let seen = self.images.entry(image.id.clone()).or_insert(Seen { first: new, last_used: new });
            if used.contains(&image.id) {
                seen.last_used = Some(now);
            }
        }
    }

    /// What may go, in the order in which it should: not what is in use now, nor what came just now.
    fn candidates<'a>(&self, images: &'a [Image], now: Duration, min_age: Duration) -> Vec<&'a Image> {
        let mut candidates: Vec<(Seen, &Image)> = images
            .iter()
            .filter(|image| !image.pinned)
            .filter_map(|image| Some((*self.images.get(&image.id)?, image)))
            .collect();
        let is_young = |seen: &Seen| seen.first.is_some_and(|first| now.saturating_sub(first) < min_age);
        candidates.retain(|(seen, _)| seen.last_used.is_none_or(|used| used < now) && !is_young(seen));
        candidates.sort_by_key(|(seen, image)| (seen.last_used, seen.first, &image.id));
        candidates.into_iter().map(|(_, image)| image).collect()
    }
}

#[cfg(test)]
#[path = "image_gc_tests.rs"]
mod tests;
