//! What the agent reads from the machine that it runs on.

use std::fs;
use std::path::Path;

use longshore_core::api::ResourceList;
use longshore_core::api::node::NodeSystemInfo;
use longshore_core::quantity::{Format, Quantity};
use nix::sys::statvfs::statvfs;

/// Memory below which the node is short of it, as upstream's default threshold.
const MEMORY_MIN: u64 = 100 << 20;
/// Share of a disk, in hundredths, below which the node is short of it, as upstream's default threshold.
const DISK_MIN_PERCENT: u64 = 10;
/// A disk with this much free is not short, whatever its size: a tenth of a large disk is room for many pods.
const DISK_ENOUGH: u64 = 2 << 30;

/// How much is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
}

/// Where the kernel tells of its huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// CPU, memory, huge pages and disk of the machine; `root` tells which disk.
pub(crate) fn capacity(root: &Path) -> ResourceList {
    let mut capacity = ResourceList::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let number = |value: u64, format| Quantity::from_value(i64::try_from(value).unwrap_or(i64::MAX), format);
    capacity.insert("cpu".to_owned(), number(cores as u64, Format::DecimalSi));
    if let Some(total) = memory_info("MemTotal") {
        capacity.insert("memory".to_owned(), number(total, Format::BinarySi));
    }
    if let Some((total, _)) = disk(root) {
        capacity.insert("ephemeral-storage".to_owned(), number(total, Format::BinarySi));
    }
    for (page, total) in huge_pages(Path::new(HUGE_PAGES)) {
        capacity.insert(format!("hugepages-{}", number(page, Format::BinarySi)), number(total, Format::BinarySi));
    }
    capacity
}

/// The sizes of huge pages that there may be, and the bytes that are set aside in pages of each.
fn huge_pages(directory: &Path) -> Vec<(u64, u64)> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kib = name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok());
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok();
        let count = count.and_then(|count| count.trim().parse::<u64>().ok());
        if let (Some(kib), Some(count)) = (kib, count) {
            let page: u64 = u64::saturating_mul(kib, 1 << 10);
            sizes.push((page, page.saturating_mul(count)));
        }
    }
    sizes.sort_unstable();
    sizes
}

pub(crate) fn pressure(root: &Path) -> Pressure {
    Pressure {
        memory: memory_info("MemAvailable").is_some_and(|left| left < MEMORY_MIN),
        disk: disk(root).is_some_and(|(total, left)| is_short(total, left)),
    }
}

fn is_short(total: u64, left: u64) -> bool {
    left < DISK_ENOUGH && left.saturating_mul(100) < total.saturating_mul(DISK_MIN_PERCENT)
}

/// What software the machine runs, save the agent and its runtime.
pub(crate) fn system_info() -> NodeSystemInfo {
    let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    NodeSystemInfo {
        machine_id: line("/etc/machine-id"),
        system_uuid: line("/sys/class/dmi/id/product_uuid"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        operating_system: "linux".to_owned(),
        architecture: architecture().to_owned(),
        ..NodeSystemInfo::default()
    }
}

/// Kubernetes' name of the architecture that this was built for, which is Go's.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim().trim_matches('"')).to_owned()
}

/// Bytes of a field of `/proc/meminfo`.
fn memory_info(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kib_field(&text, field).map(|kib| kib << 10)
}

fn kib_field(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Bytes of the disk on which a path lies, and how many of them are free.
fn disk(path: &Path) -> Option<(u64, u64)> {
    // The agent's directory may not be there yet; its parent lies on the same disk.
    let stat = path.ancestors().find_map(|path| statvfs(path).ok())?;
    let block = stat.fragment_size();
    Some((stat.blocks() * block, stat.blocks_available() * block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_is_not_short_with_a_tenth_of_it_taken() {
        const GIB: u64 = 1 << 30;
        assert!(!is_short(252 * GIB, 18 * GIB));
        assert!(is_short(252 * GIB, GIB) && is_short(10 * GIB, GIB / 2));
        assert!(!is_short(5 * GIB, GIB));
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let text = "MemTotal:       16316412 kB\nMemFree:          217652 kB\nMemAvailable:    9 kB\n";
        assert_eq!(kib_field(text, "MemTotal"), Some(16_316_412));
        assert_eq!(kib_field(text, "MemAvailable"), Some(9));
        assert_eq!(kib_field(text, "Mem"), None);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"), "Debian GNU/Linux 13");
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn huge_pages_are_told_by_their_size() {
        let directory = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "512\n"), ("hugepages-1048576kB", "0\n"), ("other", "7\n")] {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("nr_hugepages"), count).unwrap();
        }
        assert_eq!(huge_pages(directory.path()), [(2 << 20, 1 << 30), (1 << 30, 0)]);
        assert!(huge_pages(Path::new("/no/such/directory")).is_empty());
    }

    #[test]
    fn this_machine_has_something() {
        let capacity = capacity(Path::new("/"));
        assert!(capacity["cpu"].value() >= 1);
        assert!(capacity["memory"].value() > 0);
        assert!(!system_info().kernel_version.is_empty());
    }
}
