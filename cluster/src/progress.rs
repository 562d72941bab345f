//! What a cluster tells while it starts and stops.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Something worth showing happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// A step was taken.
    Step(String),
    /// What is waited for, and how far it is.
    Waiting(Vec<Row>),
    /// Everything that was waited for is ready.
    Ready(Vec<Row>),
}

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it is, such as `deployment default/web`.
    pub name: String,
    /// How far it is.
    pub state: String,
    /// Whether it is as wanted.
    pub ready: bool,
}

/// Takes progress; called from the task that makes it, so it should not block for long.
pub type Observer = Arc<dyn Fn(Progress) + Send + Sync>;
