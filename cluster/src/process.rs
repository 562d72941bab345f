//! What every process of Kubernetes tells of itself at `/metrics`: processor time, memory, files, and since when it runs.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What the kernel counts processor time in: hundredths of a second, whatever its own ticks are.
const TICKS: f64 = 100.0;

/// The metrics of this process, read when they are asked for.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(seen) = Seen::read() else { return Ok(()) };
        let cpu = ConstCounter::new(seen.cpu_seconds);
        let text = "Total user and system CPU time spent in seconds";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", text, None, cpu.metric_type())?)?;
        for (name, text, value) in [
            ("process_resident_memory_bytes", "Resident memory size in bytes", seen.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", seen.virtual_bytes),
            ("process_open_fds", "Number of open file descriptors", seen.open_files),
            ("process_max_fds", "Maximum number of open file descriptors", seen.max_files),
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds", seen.started),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, text, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Seen {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
    max_files: f64,
    /// Seconds since 1970.
    started: f64,
}

impl Seen {
    /// Reads `/proc`; `None` where that is not as expected.
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name, in brackets, may hold anything. What follows begins with field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let line = |file: &str, key: &str| {
            let text = std::fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok())
        };
        let open = u32::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
        let (limit, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            resident_bytes: line("/proc/self/status", "VmRSS:")? * 1024.0,
            virtual_bytes: field(23)?,
            open_files: f64::from(open),
            max_files: u32::try_from(limit).map_or(f64::INFINITY, f64::from),
            started: line("/proc/stat", "btime")? + field(22)? / TICKS,
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_process_tells_of_itself_under_the_usual_names() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing: {text}")).parse::<f64>().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_start_time_seconds") > 1.6e9);
    }
}
