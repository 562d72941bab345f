//! The conformance suite of [`Runtime`]: every clause of the [contract](crate::runtime) as cases that any implementation
//! can run.
//!
//! An implementation's test file implements [`Fixture`] and has one line; each case becomes a test of its own:
//!
//! ```text
//! longshore_core::runtime_conformance!(|| async { Ok(MyFixture::new()) });
//! ```
//!
//! `Err` with a reason says that this machine cannot run it; see [`super::skip`]. Cases about real processes are left out,
//! saying so, where [`Capabilities::real`](crate::runtime::Capabilities::real) is false.

#![allow(clippy::unwrap_used, reason = "the cases are tests: a panic is how they fail")]

pub mod configs;
pub mod endings;
pub mod isolation;
pub mod life;
pub mod processes;
pub mod streams;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::clock::Clock;
use crate::runtime::{
    Container, ContainerConfig, ContainerRef, ContainerState, Event, Image, Resources, Runtime, Sandbox, SandboxConfig,
};

/// A case that runs this long, by the machine's clock, hangs.
const CASE_MAX: Duration = Duration::from_secs(60);

/// What a container is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Run until it is asked to stop.
    Run,
    /// Run until it is killed: a request to stop does not impress it.
    Ignore,
    /// Run for a moment and end with this code.
    End {
        /// How long.
        after: Duration,
        /// With which code.
        code: u8,
    },
}

/// What the suite needs to know of an implementation and its surroundings.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Opens the runtime, of which there is nothing at first; called again, it does what another process would.
    async fn open(&self) -> Arc<dyn Runtime>;

    /// An image with `sh`, `sleep`, `echo`, `cat`, `env`, `pwd`, `hostname`, `touch`, `printf`, `dd`, `grep`, `stty`, `nc`,
    /// `ip`, `unshare` and `mkdir` on its `PATH`, put on the node under this name.
    async fn image(&self, name: &str) -> Image;

    /// A directory of the node for logs and mounts.
    fn directory(&self) -> PathBuf;

    /// The clock that the runtime lives by.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Lets a moment pass, at most 50 ms where time is real.
    async fn pass(&self);

    /// Makes a container that does some work. Where processes are real, one that is to run writes `ready` to its log once it
    /// would hear a signal.
    fn assign(&self, work: Work, config: &mut ContainerConfig) {
        let script = match work {
            // A container's first process has no default for signals.
            Work::Run => "trap 'exit 143' TERM; echo ready; sleep 1000000 & wait".to_owned(),
            Work::Ignore => "trap '' TERM; echo ready; sleep 1000000".to_owned(),
            Work::End { after, code } => format!("sleep {}; exit {code}", after.as_secs_f64()),
        };
        config.command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    }

    /// Removes whatever the case has left; called also after it failed.
    async fn clean_up(&self);
}

/// An implementation under test.
pub struct Subject {
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    /// An image with which containers are made.
    pub image: Image,
    /// What is known of it.
    pub fixture: Arc<dyn Fixture>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Subject").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

/// The name of the image that cases use.
const IMAGE: &str = "localhost/conformance:1";

/// Runs one case; what [`runtime_conformance!`](crate::runtime_conformance) expands to.
///
/// # Panics
/// When the case fails or hangs.
pub fn run<M, F, X, C, G>(make: M, case: C)
where
    M: FnOnce() -> F,
    F: Future<Output = Result<X, String>>,
    X: Fixture,
    C: FnOnce(Subject) -> G,
    G: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture: Arc<dyn Fixture> = match make().await {
            Ok(fixture) => Arc::new(fixture),
            Err(reason) => return super::skip(&reason),
        };
        let subject =
            Subject { runtime: fixture.open().await, image: fixture.image(IMAGE).await, fixture: fixture.clone() };
        let case = tokio::time::timeout(CASE_MAX, case(subject));
        let done = std::panic::AssertUnwindSafe(case).catch_unwind().await;
        fixture.clean_up().await;
        match done {
            Ok(done) => done.expect("the case hangs"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
}

/// Runs the whole suite on the runtimes that an expression makes: one test a case.
#[macro_export]
macro_rules! runtime_conformance {
    ($make:expr) => {
        $crate::runtime_conformance! { @cases $make;
            life {
                clause_1_list_shows_what_was_made
                clause_1_everything_is_found_when_opened_again
                clause_3_what_exists_is_not_made_again
                clause_3_attempts_are_containers_of_their_own
                clause_3_names_are_free_after_removal
                clause_4_states_only_go_forward
                clause_4_exit_codes_are_kept
                clause_5_what_was_dropped_can_be_done_again
                clause_6_events_tell_of_every_change
                clause_6_every_listener_hears
                what_is_needed_must_be_there
                images_in_use_stay
            }
            endings {
                clause_2_what_is_not_there_can_be_ended
                clause_2_endings_can_be_repeated
                stop_asks_first
                stop_kills_when_the_grace_is_over
                stop_without_grace_kills_at_once
                a_created_container_can_be_stopped
                several_may_stop_one_container
                a_running_container_can_be_removed
                a_sandbox_takes_its_containers_along
            }
            processes {
                logs_are_in_the_format_of_cri
                logs_stay_after_removal
                commands_environment_and_directory_are_as_given
                a_pods_containers_share_its_host_name
                mounts_are_as_given
                a_read_only_root_is_not_written_to
                termination_messages_are_kept
                a_program_that_is_not_there_says_so
                exec_streams_and_ends_with_a_code
                exec_reads_what_it_is_sent
                exec_needs_a_running_container
                usage_is_measured
            }
            isolation {
                the_default_filter_refuses_what_reaches_beyond
                a_filter_of_the_node_is_applied
                capabilities_are_as_given
                groups_are_as_given
                privileges_are_not_gained
                proc_is_masked_unless_asked
                a_privileged_container_has_everything
                sysctls_are_the_pods_own
                containers_share_processes_when_asked
                a_container_joins_another_ones_processes
                a_process_tree_that_ignores_signals_is_killed
                want_of_memory_is_told
                a_pods_limits_hold_for_all_its_containers
                limits_change_while_a_container_runs
                logs_are_bounded
            }
            streams {
                exec_on_a_terminal_has_its_size
                a_terminal_interrupts
                closed_input_leaves_the_output_open
                exec_tells_how_it_went
                clause_7_a_dropped_session_leaves_nothing
                attach_hears_a_container
                attach_gives_a_container_its_input
                attach_shares_a_terminal
                clause_7_a_slow_listener_is_cut_off
                connect_reaches_into_a_pod
                streams_are_there_or_unsupported
            }
        }
    };
    (@cases $make:expr; $($module:ident { $($case:ident)* })*) => {
        $($(
            #[test]
            fn $case() {
                $crate::testing::runtime::run($make, $crate::testing::runtime::$module::$case);
            }
        )*)*
    };
}

// === what cases share ===

impl Subject {
    /// The configuration of a sandbox.
    fn sandbox(&self, uid: &str) -> SandboxConfig {
        let mut config = configs::sandbox(uid, &self.fixture.directory().join("logs"));
        config.pod.name = format!("pod-{uid}");
        config.hostname = format!("host-of-{uid}");
        config.labels = [("app".to_owned(), uid.to_owned())].into();
        config.annotations = [("note".to_owned(), "of the sandbox".to_owned())].into();
        config
    }

    fn logs(&self, uid: &str) -> PathBuf {
        self.fixture.directory().join("logs").join(uid)
    }

    /// The configuration of a container's first attempt.
    fn container(&self, uid: &str, name: &str, work: Work) -> ContainerConfig {
        let mut config = ContainerConfig {
            image_name: IMAGE.into(),
            resources: Resources { memory_limit: Some(64 << 20), ..Resources::default() },
            termination_message_path: "/dev/termination-log".into(),
            labels: [("role".to_owned(), name.to_owned())].into(),
            annotations: [("note".to_owned(), "of the container".to_owned())].into(),
            ..configs::container(uid, name, &self.image.id)
        };
        self.fixture.assign(work, &mut config);
        config
    }

    /// The configuration of a container that runs a script.
    fn script(&self, uid: &str, name: &str, script: &str) -> ContainerConfig {
        let mut config = self.container(uid, name, Work::Run);
        config.command = configs::script(script);
        config
    }

    /// Makes a sandbox.
    async fn make_sandbox(&self, uid: &str) -> Sandbox {
        self.runtime.create_sandbox(&self.sandbox(uid)).await.unwrap()
    }

    /// Makes a container and starts it.
    async fn start(&self, config: &ContainerConfig) -> ContainerRef {
        self.runtime.create_container(config).await.unwrap();
        self.runtime.start_container(&config.container).await.unwrap();
        self.ready(config).await;
        config.container.clone()
    }

    /// Waits until a container that runs would hear a signal.
    async fn ready(&self, config: &ContainerConfig) {
        let speaks = config.command.iter().any(|word| word.contains("echo ready"));
        if speaks && self.runtime.info().capabilities.real {
            self.logged(&self.find(&config.container).await.unwrap(), " ready\n").await;
        }
    }

    /// Makes a sandbox with one container that runs.
    async fn running(&self, uid: &str, work: Work) -> ContainerRef {
        self.make_sandbox(uid).await;
        self.start(&self.container(uid, "main", work)).await
    }

    /// A container, if there is one of this name.
    async fn find(&self, name: &ContainerRef) -> Option<Container> {
        let sandbox = self.runtime.sandbox(&name.pod_uid).await.unwrap()?;
        sandbox.containers.into_iter().find(|container| container.container == *name)
    }

    async fn state(&self, name: &ContainerRef) -> ContainerState {
        self.find(name).await.unwrap_or_else(|| panic!("{name} is not listed")).state
    }

    /// The state in which a container ends.
    async fn ended(&self, name: &ContainerRef) -> ContainerState {
        loop {
            match self.state(name).await {
                state @ ContainerState::Exited { .. } => return state,
                _ => self.fixture.pass().await,
            }
        }
    }

    /// Waits until a log holds something.
    async fn logged(&self, container: &Container, what: &str) -> String {
        loop {
            let log = std::fs::read_to_string(&container.log_path).unwrap_or_default();
            if log.contains(what) {
                return log;
            }
            self.fixture.pass().await;
        }
    }

    /// Runs a script to its end and answers its exit code and its log's text by lines, without stamps.
    async fn output(&self, config: &ContainerConfig) -> (i32, Vec<String>) {
        let name = self.start(config).await;
        let code = code(&self.ended(&name).await);
        let container = self.find(&name).await.unwrap();
        let log = std::fs::read_to_string(container.log_path).unwrap();
        (code, log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect())
    }

    /// Whether containers are real processes; says so if not.
    fn is_real(&self) -> bool {
        let info = self.runtime.info();
        if !info.capabilities.real {
            println!("NOT APPLICABLE: the {} runtime has no real processes", info.name);
        }
        info.capabilities.real
    }
}

fn code(state: &ContainerState) -> i32 {
    match state {
        ContainerState::Exited { code, .. } => *code,
        state => panic!("it has not ended: {state:?}"),
    }
}

/// Waits for an event; one that tells to list is as good.
async fn heard(subject: &Subject, events: &mut BoxStream<'static, Event>, wanted: &Event) {
    loop {
        tokio::select! {
            biased;
            event = events.next() => {
                let event = event.expect("events go on");
                if event == *wanted || event == Event::Resync {
                    return;
                }
            }
            () = subject.fixture.pass() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_listed_in_the_macro() {
        let listed = include_str!("mod.rs").split("macro_rules! runtime_conformance").nth(1).unwrap();
        let listed = listed.split("(@cases").next().unwrap();
        let sources = [
            include_str!("life.rs"),
            include_str!("endings.rs"),
            include_str!("processes.rs"),
            include_str!("isolation.rs"),
            include_str!("streams.rs"),
        ];
        let mut cases = 0;
        for line in sources.iter().flat_map(|source| source.lines()) {
            let Some(name) = line.strip_prefix("pub async fn ").and_then(|rest| rest.split('(').next()) else {
                continue;
            };
            assert!(listed.lines().any(|line| line.trim() == name), "{name} reaches no implementation");
            cases += 1;
        }
        assert!(cases >= 30, "{cases} cases");
    }
}
