//! What a run found, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::check::Violation;

/// What a run found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How long faults and clients went on.
    pub lasted: Duration,
    /// Requests that were answered, by what they were.
    pub operations: BTreeMap<&'static str, u64>,
    /// Changes that watches told, each once.
    pub changes: usize,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// Requests that had to be tried again.
    pub retried: usize,
    /// The longest time until one of those was answered.
    pub unavailable: Duration,
    /// What was wrong then.
    pub unavailable_during: Vec<String>,
    /// From the loss of the scheduler that led to the next binding by another.
    pub scheduling_gaps: Vec<Duration>,
    /// From the loss of the controllers that led to the next that did.
    pub controlling_gaps: Vec<Duration>,
    /// From the end of all faults until everything was as it should be.
    pub converged_after: Duration,
    /// Processes that ended by themselves and were started again.
    pub ended: Vec<String>,
}

impl Report {
    /// One JSON object.
    pub fn json(&self) -> Value {
        let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        json!({
            "seed": self.seed,
            "seconds": self.lasted.as_secs_f64(),
            "operations": self.operations,
            "changes": self.changes,
            "faults": self.faults,
            "violations": self.violations.iter().map(Violation::to_string).collect::<Vec<_>>(),
            "retried": self.retried,
            "longest_unavailable_seconds": self.unavailable.as_secs_f64(),
            "longest_unavailable_during": self.unavailable_during,
            "leader_loss_to_binding_seconds": seconds(&self.scheduling_gaps),
            "leader_loss_to_controllers_seconds": seconds(&self.controlling_gaps),
            "converged_after_seconds": self.converged_after.as_secs_f64(),
            "ended_by_themselves": self.ended,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_kind = |kinds: Vec<String>| if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        let times =
            |times: &[Duration]| by_kind(times.iter().map(|time| format!("{:.1} s", time.as_secs_f64())).collect());
        let operations = self.operations.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let faults = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let total: u64 = self.operations.values().sum();
        let mut line = |name: &str, text: String| writeln!(f, "{name:32} {text}");
        line("seed", self.seed.to_string())?;
        line("minutes", format!("{:.1}", self.lasted.as_secs_f64() / 60.0))?;
        line("operations", format!("{total} ({})", by_kind(operations)))?;
        line("changes seen by every watch", self.changes.to_string())?;
        line("faults", format!("{} ({})", self.faults.values().sum::<usize>(), by_kind(faults)))?;
        line("requests tried again", self.retried.to_string())?;
        let during = if self.unavailable_during.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.unavailable_during.join("; "))
        };
        line("longest unavailability", format!("{:.1} s{during}", self.unavailable.as_secs_f64()))?;
        line("leader lost to next binding", times(&self.scheduling_gaps))?;
        line("leader lost to next controllers", times(&self.controlling_gaps))?;
        line("all converged after", format!("{:.1} s", self.converged_after.as_secs_f64()))?;
        line("ended by themselves", by_kind(self.ended.clone()))?;
        line("violations", self.violations.len().to_string())?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        Ok(())
    }
}
