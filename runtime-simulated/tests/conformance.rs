//! The conformance suite of runtimes, in virtual time.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::runtime::{ContainerConfig, Image, Runtime};
use longshore_core::testing::runtime::{Fixture, Work};
use longshore_runtime_simulated::{ANNOTATION_PREFIX, Options, SimulatedRuntime};

struct Simulated {
    clock: VirtualClock,
    runtime: SimulatedRuntime,
}

#[async_trait]
impl Fixture for Simulated {
    async fn open(&self) -> Arc<dyn Runtime> {
        Arc::new(self.runtime.clone())
    }

    async fn image(&self, name: &str) -> Image {
        self.runtime.add_image(name).unwrap();
        self.runtime.images().resolve(name).await.unwrap().unwrap()
    }

    fn directory(&self) -> PathBuf {
        PathBuf::from("/nowhere")
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    async fn pass(&self) {
        self.clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }

    fn assign(&self, work: Work, config: &mut ContainerConfig) {
        let mut note = |name: &str, value: String| {
            config.annotations.insert(format!("{ANNOTATION_PREFIX}{name}"), value);
        };
        match work {
            Work::Run => note("run-for", "never".into()),
            Work::Ignore => note("ignore-term", "true".into()),
            Work::End { after, code } => {
                note("run-for", format!("{}ms", after.as_millis()));
                note("exit-code", code.to_string());
            }
        }
    }

    async fn clean_up(&self) {}
}

longshore_core::runtime_conformance!(|| async {
    let clock = VirtualClock::new();
    let runtime = SimulatedRuntime::new(Arc::new(clock.clone()), Options::default());
    Ok::<_, String>(Simulated { clock, runtime })
});
