//! Options of how a node keeps house, by the names that Kubernetes' kubelet gives them.

use std::time::Duration;

use clap::Args;
use longshore_cluster::upkeep::{ImageGc, LogLimits, Upkeep, parse_sysctl};
use longshore_core::quantity::Quantity;

use crate::part::duration;

/// How a node keeps house.
#[derive(Debug, Args)]
#[command(next_help_heading = "Upkeep")]
pub(crate) struct UpkeepOptions {
    /// Percentage of the images' disk in use from which on images that nobody uses are removed; 100 for never
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    image_gc_high_threshold: u8,
    /// Percentage at which that ends; less than the other
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=99))]
    image_gc_low_threshold: u8,
    /// How long an image is kept at least
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    minimum_image_ttl_duration: Duration,
    /// Size at which a container's log is turned over
    #[arg(long, value_name = "SIZE", default_value = "10Mi", value_parser = size)]
    container_log_max_size: u64,
    /// How many files of a container's log are kept, the present one included
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    container_log_max_files: u32,
    /// Kernel parameters that pods may set beyond those that are safe, such as net.core.somaxconn or kernel.msg*
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = parse_sysctl)]
    allowed_unsafe_sysctls: Vec<String>,
}

/// Reads an amount of bytes: 10Mi.
fn size(text: &str) -> Result<u64, String> {
    let amount: Quantity = text.parse().map_err(|error| format!("{error}"))?;
    u64::try_from(amount.value()).ok().filter(|bytes| *bytes > 0).ok_or_else(|| "it must be more than 0".to_owned())
}

impl UpkeepOptions {
    pub(crate) fn upkeep(self) -> Upkeep {
        Upkeep {
            image_gc: ImageGc {
                high_percent: self.image_gc_high_threshold,
                low_percent: self.image_gc_low_threshold,
                min_age: self.minimum_image_ttl_duration,
            },
            log_limits: LogLimits { max_bytes: self.container_log_max_size, max_files: self.container_log_max_files },
            allowed_unsafe_sysctls: self.allowed_unsafe_sysctls,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        options: UpkeepOptions,
    }

    fn read(options: &str) -> Result<Upkeep, String> {
        let read = Program::try_parse_from(std::iter::once("longshore").chain(options.split_whitespace()));
        read.map(|program| program.options.upkeep()).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_the_kubelets() {
        assert_eq!(read(""), Ok(Upkeep::default()));
        let chosen = read(
            "--image-gc-high-threshold 90 --image-gc-low-threshold 60 --minimum-image-ttl-duration 1h \
             --container-log-max-size 1Mi --container-log-max-files 2 \
             --allowed-unsafe-sysctls net.core.somaxconn,kernel.msg*",
        );
        let image_gc = ImageGc { high_percent: 90, low_percent: 60, min_age: Duration::from_secs(3600) };
        let log_limits = LogLimits { max_bytes: 1 << 20, max_files: 2 };
        let allowed_unsafe_sysctls = vec!["net.core.somaxconn".to_owned(), "kernel.msg*".to_owned()];
        assert_eq!(chosen, Ok(Upkeep { image_gc, log_limits, allowed_unsafe_sysctls }));
        for (wrong, why) in [
            ("--image-gc-high-threshold 101", "101 is not in 1..=100"),
            ("--container-log-max-files 1", "1 is not in 2.."),
            ("--container-log-max-size 0", "it must be more than 0"),
            ("--allowed-unsafe-sysctls vm.swappiness", "not known to be namespaced"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
