//! The real kubectl against the server: what people type, and what they then read.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod apply;
#[path = "../common/mod.rs"]
mod common;
mod create;
mod delete;
mod discovery;
mod get;
mod logs;
mod nodes;
mod rollout;
mod tool;
