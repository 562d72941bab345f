//! What the disk itself can do.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use longshore::core::clock::{Clock, SystemClock};

use crate::Outcome;

/// Microseconds of each of some writes of 4 KiB, made durable one by one, into a file that has its length already.
pub(crate) fn fdatasync(clock: &SystemClock, directory: &Path) -> Outcome<Vec<f64>> {
    let mut file = File::create(directory.join("probe"))?;
    file.write_all(&[0; 1 << 20])?;
    file.sync_all()?;
    let mut times = Vec::new();
    for index in 0..1000_u32 {
        let start = clock.elapsed();
        file.seek(SeekFrom::Start(u64::from(index % 256) * 4096))?;
        file.write_all(&[index as u8; 4096])?;
        file.sync_data()?;
        times.push((clock.elapsed() - start).as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    for writers in [1, 16, 256, 1024] {
        let ceiling = f64::from(writers) * 1e6 / median;
        eprintln!("    disk  {writers:>4} writers, each waiting for a sync: at most {ceiling:.0} puts/s");
    }
    Ok(times)
}
