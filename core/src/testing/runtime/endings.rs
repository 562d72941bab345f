//! Stopping and removing.

use std::time::Duration;

use futures::future::join_all;

use super::{Subject, Work, code};
use crate::runtime::{ContainerRef, ContainerState};

/// Ample for anything that is asked to stop and does.
const AMPLE: Duration = Duration::from_secs(20);

/// Lets time pass while something is awaited, which a virtual clock needs.
async fn meanwhile<T>(subject: &Subject, operation: impl Future<Output = T>) -> T {
    let mut operation = std::pin::pin!(operation);
    loop {
        tokio::select! {
            biased;
            done = &mut operation => return done,
            () = subject.fixture.pass() => {}
        }
    }
}

/// What does not exist has ended.
pub async fn clause_2_what_is_not_there_can_be_ended(subject: Subject) {
    let runtime = &subject.runtime;
    let unknown = ContainerRef { pod_uid: "a".into(), name: "main".into(), attempt: 0 };
    for _ in 0..2 {
        runtime.stop_container(&unknown, AMPLE).await.unwrap();
        runtime.remove_container(&unknown).await.unwrap();
        runtime.remove_sandbox("b").await.unwrap();
        runtime.remove_sandbox("a").await.unwrap();
    }
    subject.make_sandbox("a").await;
    runtime.stop_container(&unknown, AMPLE).await.unwrap();
    runtime.remove_container(&unknown).await.unwrap();
}

/// The second time changes nothing.
pub async fn clause_2_endings_can_be_repeated(subject: Subject) {
    let runtime = &subject.runtime;
    let name = subject.running("a", Work::Run).await;
    runtime.stop_container(&name, AMPLE).await.unwrap();
    let end = subject.state(&name).await;
    runtime.stop_container(&name, Duration::ZERO).await.unwrap();
    assert_eq!(subject.state(&name).await, end);
    for _ in 0..2 {
        runtime.remove_container(&name).await.unwrap();
    }
    for _ in 0..2 {
        runtime.remove_sandbox("a").await.unwrap();
    }
    assert_eq!(runtime.list().await.unwrap(), []);
}

/// Who ends when asked is not killed.
pub async fn stop_asks_first(subject: Subject) {
    let name = subject.running("a", Work::Run).await;
    let start = subject.fixture.clock().elapsed();
    subject.runtime.stop_container(&name, AMPLE).await.unwrap();
    assert_eq!(code(&subject.state(&name).await), 143);
    assert!(subject.fixture.clock().elapsed() - start < AMPLE / 2);
}

/// Who does not is, not earlier than promised.
pub async fn stop_kills_when_the_grace_is_over(subject: Subject) {
    let name = subject.running("a", Work::Ignore).await;
    let grace = Duration::from_millis(700);
    let clock = subject.fixture.clock();
    let start = clock.elapsed();
    meanwhile(&subject, subject.runtime.stop_container(&name, grace)).await.unwrap();
    assert!(clock.elapsed() - start >= grace);
    let end = subject.state(&name).await;
    assert!(matches!(end, ContainerState::Exited { code: 137, signal: 9, oom_killed: false, .. }), "{end:?}");
}

/// Without grace nobody is asked.
pub async fn stop_without_grace_kills_at_once(subject: Subject) {
    for (uid, work) in [("a", Work::Run), ("b", Work::Ignore)] {
        let name = subject.running(uid, work).await;
        subject.runtime.stop_container(&name, Duration::ZERO).await.unwrap();
        let end = subject.state(&name).await;
        assert!(matches!(end, ContainerState::Exited { code: 137, signal: 9, .. }), "{end:?}");
    }
}

/// One that was never started ends, too, and cannot be started any more.
pub async fn a_created_container_can_be_stopped(subject: Subject) {
    subject.make_sandbox("a").await;
    let config = subject.container("a", "main", Work::Run);
    subject.runtime.create_container(&config).await.unwrap();
    subject.runtime.stop_container(&config.container, AMPLE).await.unwrap();
    let end = subject.state(&config.container).await;
    assert!(matches!(end, ContainerState::Exited { started_at: None, .. }), "{end:?}");
    assert!(subject.runtime.start_container(&config.container).await.is_err());
}

/// All who stop a container see it stopped.
pub async fn several_may_stop_one_container(subject: Subject) {
    let name = subject.running("a", Work::Run).await;
    let stops = [AMPLE, AMPLE, Duration::ZERO].map(|grace| subject.runtime.stop_container(&name, grace));
    for done in join_all(stops).await {
        done.unwrap();
    }
    assert!(matches!(code(&subject.state(&name).await), 137 | 143));
}

/// Removing kills.
pub async fn a_running_container_can_be_removed(subject: Subject) {
    let name = subject.running("a", Work::Ignore).await;
    let other = subject.start(&subject.container("a", "other", Work::Run)).await;
    subject.runtime.remove_container(&name).await.unwrap();
    assert_eq!(subject.find(&name).await, None);
    assert!(matches!(subject.state(&other).await, ContainerState::Running { .. }), "only the one is removed");
}

/// A sandbox goes with all that is in it, and with nothing else.
pub async fn a_sandbox_takes_its_containers_along(subject: Subject) {
    let kept = subject.running("kept", Work::Run).await;
    subject.running("a", Work::Ignore).await;
    subject.start(&subject.container("a", "other", Work::Run)).await;
    subject.runtime.create_container(&subject.container("a", "waiting", Work::Run)).await.unwrap();
    subject.runtime.remove_sandbox("a").await.unwrap();
    let left = subject.runtime.list().await.unwrap();
    assert_eq!(left.iter().map(|sandbox| sandbox.pod.uid.as_str()).collect::<Vec<_>>(), ["kept"]);
    assert!(matches!(subject.state(&kept).await, ContainerState::Running { .. }));
}
