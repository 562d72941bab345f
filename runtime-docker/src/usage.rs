//! What containers use.

use std::time::Duration;

use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;
use longshore_core::runtime::{Container, Error, Usage};

use crate::engine::{Engine, failed};

impl Engine {
    pub(crate) async fn usage(&self, container: &Container) -> Result<Usage, Error> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = std::pin::pin!(self.client.stats(&container.id, Some(options)));
        let operation = format!("measure container {}", container.container);
        let stats = match stats.next().await {
            Some(stats) => stats.map_err(|error| self.failed(operation, &error))?,
            None => return Err(failed(operation)("the engine gave no figures")),
        };
        let memory = stats.memory_stats.unwrap_or_default();
        let parts = memory.stats.unwrap_or_default();
        // Control groups of version 1 and of version 2.
        let dropped = parts.get("total_inactive_file").or_else(|| parts.get("inactive_file")).copied();
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        Ok(Usage {
            cpu_time: Duration::from_nanos(cpu.unwrap_or_default()),
            memory_working_set: memory.usage.unwrap_or_default().saturating_sub(dropped.unwrap_or_default()),
        })
    }
}
