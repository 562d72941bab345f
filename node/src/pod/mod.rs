//! One pod on its node: decide (pure: [`plan`], [`status`]), then act ([`worker`], `act`).

pub(crate) mod act;
pub(crate) mod conditions;
pub(crate) mod config;
pub(crate) mod container_status;
pub(crate) mod events;
pub(crate) mod hooks;
pub(crate) mod observed;
pub(crate) mod phase;
pub(crate) mod plan;
mod report;
pub(crate) mod resize;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod worker;
