use longshore_core::clock::VirtualClock;
use longshore_core::runtime::{Credentials, Resources};
use longshore_core::testing::runtime::configs;

use super::*;

fn sandbox(uid: &str, annotations: &[(&str, &str)]) -> SandboxConfig {
    let annotations = annotations.iter().map(|(k, v)| (format!("{ANNOTATION_PREFIX}{k}"), (*v).to_owned())).collect();
    SandboxConfig { annotations, ..configs::sandbox(uid, "/var/log/pods".as_ref()) }
}

async fn container(runtime: &SimulatedRuntime, uid: &str, command: &[&str]) -> ContainerConfig {
    let image = runtime.images().pull("web", &Credentials::Anonymous).await.unwrap();
    ContainerConfig {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        resources: Resources { cpu_request_milli: 500, ..Resources::default() },
        ..configs::container(uid, "main", &image.id)
    }
}

async fn started(annotations: &[(&str, &str)], command: &[&str]) -> (VirtualClock, SimulatedRuntime, ContainerRef) {
    let clock = VirtualClock::new();
    let runtime = SimulatedRuntime::new(Arc::new(clock.clone()), Options::default());
    runtime.create_sandbox(&sandbox("p", annotations)).await.unwrap();
    let config = container(&runtime, "p", command).await;
    runtime.create_container(&config).await.unwrap();
    runtime.start_container(&config.container).await.unwrap();
    (clock, runtime, config.container)
}

async fn state(runtime: &SimulatedRuntime) -> ContainerState {
    runtime.list().await.unwrap()[0].containers[0].state.clone()
}

#[tokio::test]
async fn a_container_ends_when_its_time_has_come_and_says_so() {
    let (clock, runtime, name) = started(&[("run-for", "90s"), ("main.exit-code", "3")], &[]).await;
    let mut events = runtime.events().await.unwrap();
    let next = events.next();
    tokio::pin!(next);
    assert!(futures::poll!(&mut next).is_pending());
    assert!(matches!(state(&runtime).await, ContainerState::Running { .. }));
    assert_eq!(clock.advance_to_next(), Some(Duration::from_secs(90)));
    assert_eq!(next.await, Some(Event::Container(name.clone())));
    let ContainerState::Exited { started_at: Some(start), finished_at, code: 3, signal: 0, .. } = state(&runtime).await
    else {
        panic!("{:?}", state(&runtime).await)
    };
    assert_eq!(finished_at.duration_since(start).as_secs(), 90);
    assert!(matches!(runtime.start_container(&name).await, Err(Error::WrongState { .. })));
}

#[tokio::test]
async fn commands_tell_what_to_do() {
    for (command, seconds, expected) in [
        (&["sleep", "2"][..], 2, Some(0)),
        (&["/bin/true"], 0, Some(0)),
        (&["false"], 0, Some(1)),
        (&["sh", "-c", "echo hi; sleep 1; sleep 2; exit 7; sleep 9"], 3, Some(7)),
        (&["sh", "-c", "sleep 1; serve"], 3600, None),
        (&["httpd", "-f"], 3600, None),
    ] {
        let (clock, runtime, _) = started(&[], command).await;
        clock.advance(Duration::from_secs(seconds));
        match (state(&runtime).await, expected) {
            (ContainerState::Exited { code, .. }, Some(expected)) => assert_eq!(code, expected, "{command:?}"),
            (ContainerState::Running { .. }, None) => {}
            (state, _) => panic!("{command:?}: {state:?}"),
        }
    }
}

#[tokio::test]
async fn stopping_waits_for_one_that_ignores_the_signal() {
    let (clock, runtime, name) = started(&[("ignore-term", "true")], &[]).await;
    let stop = runtime.stop_container(&name, Duration::from_secs(30));
    tokio::pin!(stop);
    assert!(futures::poll!(&mut stop).is_pending());
    clock.advance(Duration::from_secs(30));
    stop.await.unwrap();
    assert!(matches!(state(&runtime).await, ContainerState::Exited { code: 137, signal: 9, .. }));
    let usage = runtime.usage(&name).await;
    assert!(matches!(usage, Err(Error::WrongState { .. })));
}

#[tokio::test]
async fn bad_annotations_and_missing_images_are_refused() {
    let runtime = SimulatedRuntime::new(Arc::new(VirtualClock::new()), Options::default());
    runtime.create_sandbox(&sandbox("p", &[("run-for", "soon")])).await.unwrap();
    let mut config = container(&runtime, "p", &[]).await;
    let refused = runtime.create_container(&config).await.unwrap_err().to_string();
    assert!(refused.contains("simulated.longshore.dev/run-for"), "{refused}");
    config.image.0 = "sha256:00".into();
    assert!(matches!(runtime.create_container(&config).await, Err(Error::Image { .. })));
    runtime.forbid_image("gone:1").unwrap();
    assert!(runtime.images().pull("gone:1", &Credentials::Anonymous).await.is_err());
}

#[tokio::test]
async fn usage_follows_the_request_and_a_broken_sandbox_is_not_ready() {
    let (clock, runtime, name) = started(&[("memory", "1024")], &[]).await;
    clock.advance(Duration::from_secs(10));
    let usage = runtime.usage(&name).await.unwrap();
    assert_eq!(usage, Usage { cpu_time: Duration::from_secs(5), memory_working_set: 1024 });
    runtime.break_sandbox("p");
    assert!(!runtime.list().await.unwrap()[0].ready);
    assert!(matches!(state(&runtime).await, ContainerState::Exited { code: 137, .. }));
}
