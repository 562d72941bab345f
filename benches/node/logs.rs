//! A container that writes more than is kept.

use std::path::Path;
use std::time::Duration;

use longshore_core::api::Pod;
use longshore_core::client::params::PostParams;
use longshore_core::clock::Clock;
use serde_json::json;

use crate::place::Place;
use crate::pods::{self, Memory};
use crate::{BUSYBOX, Outcome};

pub(crate) struct Measured {
    /// From the container's start to its end as a watcher sees it.
    pub(crate) took: Duration,
    /// The most bytes that its logs had, and those that are kept.
    pub(crate) peak: u64,
    pub(crate) kept: u64,
    /// The shim's, when it has written all.
    pub(crate) shim: Memory,
}

/// Has a container write so many MiB in lines of 100 bytes.
pub(crate) async fn measure(place: &Place, mib: usize) -> Outcome<Measured> {
    let line = "x".repeat(99);
    let script = format!(
        "{BUSYBOX} yes {line} | {BUSYBOX} head -c {}; {BUSYBOX} touch /done; exec {BUSYBOX} sleep 1000000",
        mib << 20
    );
    let mut pod: Pod = pods::pod("logs", &[BUSYBOX, "sh", "-c", &script])?;
    // It tells by its readiness that it has written all.
    pod.spec.containers[0].readiness_probe = Some(serde_json::from_value(
        json!({"exec": {"command": [BUSYBOX, "test", "-e", "/done"]}, "periodSeconds": 1}),
    )?);
    let begin = place.clock.elapsed();
    place.api::<Pod>().create(pod, &PostParams::default()).await?;
    let mut peak = 0;
    let ready = place.until::<Pod>(|pod| {
        let mut conditions = pod.status.conditions.iter();
        conditions.any(|of| of.type_ == "Ready" && of.status.as_str() == "True")
    });
    let watching = async {
        loop {
            peak = peak.max(size(&place.logs()));
            place.clock.sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ready = ready => ready?,
        () = watching => {}
    }
    let took = place.clock.elapsed() - begin;
    let (kept, shim) = (size(&place.logs()), pods::shims(place));
    pods::delete(place, &["logs".to_owned()]).await?;
    Ok(Measured { took, peak: peak.max(kept), kept, shim })
}

/// Bytes of all files below.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            data => data.map_or(0, |data| data.len()),
        })
        .sum()
}
