//! Being made, found, told of and gone.

use std::time::Duration;

use futures::poll;

use super::{IMAGE, Subject, Work, code, heard};
use crate::runtime::{ContainerState, Error, Event, ImageId};

/// What `list` answers is what was asked for.
pub async fn clause_1_list_shows_what_was_made(subject: Subject) {
    let runtime = &subject.runtime;
    assert_eq!(runtime.list().await.unwrap(), []);
    let wanted = subject.sandbox("a");
    let sandbox = runtime.create_sandbox(&wanted).await.unwrap();
    assert!(sandbox.ready);
    assert_eq!(sandbox.pod, wanted.pod);
    assert_eq!((&sandbox.labels, &sandbox.annotations), (&wanted.labels, &wanted.annotations));
    assert_eq!(runtime.list().await.unwrap(), [sandbox]);

    let wanted = subject.container("a", "main", Work::Run);
    let container = runtime.create_container(&wanted).await.unwrap();
    assert_eq!(container.container, wanted.container);
    assert_eq!(container.state, ContainerState::Created);
    assert_eq!((&container.image, container.image_name.as_str()), (&wanted.image, IMAGE));
    assert_eq!((&container.labels, &container.annotations), (&wanted.labels, &wanted.annotations));
    assert_eq!(container.log_path, subject.logs("a").join("main/0.log"));
    assert!(!container.id.is_empty());
    subject.make_sandbox("b").await;
    let mut listed = runtime.list().await.unwrap();
    listed.sort_by(|a, b| a.pod.cmp(&b.pod));
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].containers, [container]);
    assert_eq!(listed[1].containers, []);
    // Each can be asked for alone.
    for sandbox in listed {
        assert_eq!(runtime.sandbox(&sandbox.pod.uid).await.unwrap(), Some(sandbox));
    }
    assert_eq!(runtime.sandbox("c").await.unwrap(), None);
}

/// Sandboxes and containers outlive whoever made them.
pub async fn clause_1_everything_is_found_when_opened_again(mut subject: Subject) {
    let running = subject.running("a", Work::Run).await;
    let ended = subject.start(&subject.container("a", "short", Work::End { after: Duration::ZERO, code: 7 })).await;
    subject.ended(&ended).await;
    let created = subject.container("a", "waiting", Work::Run);
    subject.runtime.create_container(&created).await.unwrap();
    let before = subject.runtime.list().await.unwrap();

    subject.runtime = subject.fixture.open().await;
    assert_eq!(subject.runtime.list().await.unwrap(), before);
    subject.runtime.start_container(&created.container).await.unwrap();
    assert!(matches!(subject.state(&created.container).await, ContainerState::Running { .. }));
    subject.runtime.stop_container(&running, Duration::from_secs(20)).await.unwrap();
    assert_eq!(code(&subject.state(&running).await), 143);
    subject.runtime.remove_sandbox("a").await.unwrap();
    assert_eq!(subject.fixture.open().await.list().await.unwrap(), []);
}

/// A caller that crashed in between learns that it was done.
pub async fn clause_3_what_exists_is_not_made_again(subject: Subject) {
    let runtime = &subject.runtime;
    let sandbox = subject.make_sandbox("a").await;
    let error = runtime.create_sandbox(&subject.sandbox("a")).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(runtime.list().await.unwrap(), [sandbox]);
    let config = subject.container("a", "main", Work::Run);
    let name = subject.start(&config).await;
    let before = subject.state(&name).await;
    let error = runtime.create_container(&config).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(subject.state(&name).await, before);
}

/// A restart is a container beside the one before.
pub async fn clause_3_attempts_are_containers_of_their_own(subject: Subject) {
    subject.make_sandbox("a").await;
    let mut config = subject.container("a", "main", Work::End { after: Duration::ZERO, code: 1 });
    let first = subject.start(&config).await;
    subject.ended(&first).await;
    config = subject.container("a", "main", Work::Run);
    config.container.attempt = 1;
    let second = subject.start(&config).await;
    assert_eq!(code(&subject.state(&first).await), 1);
    assert!(matches!(subject.state(&second).await, ContainerState::Running { .. }));
    let paths = [subject.find(&first).await.unwrap().log_path, subject.find(&second).await.unwrap().log_path];
    assert_eq!(paths, [0, 1].map(|attempt| subject.logs("a").join(format!("main/{attempt}.log"))));
    subject.runtime.remove_container(&first).await.unwrap();
    assert_eq!(subject.find(&first).await, None);
    assert!(matches!(subject.state(&second).await, ContainerState::Running { .. }));
}

/// What was removed can be made again, and is new.
pub async fn clause_3_names_are_free_after_removal(subject: Subject) {
    let name = subject.running("a", Work::End { after: Duration::ZERO, code: 3 }).await;
    subject.ended(&name).await;
    subject.runtime.remove_container(&name).await.unwrap();
    subject.runtime.create_container(&subject.container("a", "main", Work::Run)).await.unwrap();
    assert_eq!(subject.state(&name).await, ContainerState::Created);
    subject.runtime.remove_sandbox("a").await.unwrap();
    assert!(subject.make_sandbox("a").await.containers.is_empty());
}

/// Created, running, exited, gone; never back.
pub async fn clause_4_states_only_go_forward(subject: Subject) {
    let runtime = &subject.runtime;
    subject.make_sandbox("a").await;
    let config = subject.container("a", "main", Work::Run);
    let name = subject.start(&config).await;
    let error = runtime.start_container(&name).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error}");
    let ContainerState::Running { started_at, .. } = subject.state(&name).await else { panic!("it does not run") };
    runtime.stop_container(&name, Duration::from_secs(20)).await.unwrap();
    let end = subject.state(&name).await;
    let ContainerState::Exited { started_at: Some(started), finished_at, .. } = end else { panic!("{end:?}") };
    assert_eq!(started, started_at);
    assert!(finished_at >= started, "{end:?}");
    let error = runtime.start_container(&name).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error}");
    assert_eq!(subject.state(&name).await, end);
}

/// Whatever the code, it is told until the container is removed.
pub async fn clause_4_exit_codes_are_kept(subject: Subject) {
    subject.make_sandbox("a").await;
    let mut names = Vec::new();
    for expected in [0, 1, 42, 255_u8] {
        let work = Work::End { after: Duration::from_millis(10), code: expected };
        names.push((subject.start(&subject.container("a", &format!("exits-{expected}"), work)).await, expected));
    }
    for (name, expected) in &names {
        let end = subject.ended(name).await;
        assert_eq!(code(&end), i32::from(*expected));
        assert!(matches!(end, ContainerState::Exited { signal: 0, oom_killed: false, .. }), "{end:?}");
    }
    for (name, expected) in &names {
        assert_eq!(code(&subject.state(name).await), i32::from(*expected));
    }
}

/// Every operation, dropped at its first wait, then done for good.
pub async fn clause_5_what_was_dropped_can_be_done_again(subject: Subject) {
    /// Begins something and stops waiting for it.
    macro_rules! begun {
        ($operation:expr) => {{
            let mut operation = Box::pin($operation);
            let _ = poll!(&mut operation);
        }};
    }
    let done = |result: Result<(), Error>| match result {
        Ok(()) | Err(Error::AlreadyExists { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    let runtime = &subject.runtime;
    let sandbox = subject.sandbox("a");
    begun!(runtime.create_sandbox(&sandbox));
    done(runtime.create_sandbox(&sandbox).await.map(|_| ()));
    assert!(runtime.list().await.unwrap()[0].ready);
    let config = subject.container("a", "main", Work::Run);
    begun!(runtime.create_container(&config));
    done(runtime.create_container(&config).await.map(|_| ()));
    begun!(runtime.start_container(&config.container));
    match runtime.start_container(&config.container).await {
        // It runs already.
        Ok(()) | Err(Error::WrongState { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    while !matches!(subject.state(&config.container).await, ContainerState::Running { .. }) {
        subject.fixture.pass().await;
    }
    subject.ready(&config).await;
    begun!(runtime.stop_container(&config.container, Duration::from_secs(20)));
    runtime.stop_container(&config.container, Duration::from_secs(20)).await.unwrap();
    assert_eq!(code(&subject.state(&config.container).await), 143);
    begun!(runtime.remove_container(&config.container));
    runtime.remove_container(&config.container).await.unwrap();
    assert_eq!(subject.find(&config.container).await, None);
    begun!(runtime.remove_sandbox("a"));
    runtime.remove_sandbox("a").await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
}

/// Whoever listens is told soon, whatever it is that changed.
pub async fn clause_6_events_tell_of_every_change(subject: Subject) {
    let runtime = &subject.runtime;
    let mut events = runtime.events().await.unwrap();
    let about_sandbox = Event::Sandbox { pod_uid: "a".into() };
    subject.make_sandbox("a").await;
    heard(&subject, &mut events, &about_sandbox).await;
    let config = subject.container("a", "main", Work::End { after: Duration::from_millis(300), code: 0 });
    let about_container = Event::Container(config.container.clone());
    subject.start(&config).await;
    heard(&subject, &mut events, &about_container).await;
    // Nobody asks for its end: only the event tells of it.
    loop {
        if let ContainerState::Exited { .. } = subject.state(&config.container).await {
            break;
        }
        heard(&subject, &mut events, &about_container).await;
    }
    runtime.remove_sandbox("a").await.unwrap();
    heard(&subject, &mut events, &about_sandbox).await;
}

/// Listeners do not take events from each other, and one that went away disturbs nobody.
pub async fn clause_6_every_listener_hears(subject: Subject) {
    let runtime = &subject.runtime;
    let (mut one, mut two) = (runtime.events().await.unwrap(), runtime.events().await.unwrap());
    drop(runtime.events().await.unwrap());
    let name = subject.running("a", Work::Run).await;
    for events in [&mut one, &mut two] {
        heard(&subject, events, &Event::Container(name.clone())).await;
    }
}

/// A container needs a sandbox and an image, a start a container.
pub async fn what_is_needed_must_be_there(subject: Subject) {
    let runtime = &subject.runtime;
    let mut config = subject.container("a", "main", Work::Run);
    let error = runtime.create_container(&config).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    subject.make_sandbox("a").await;
    for error in [
        runtime.start_container(&config.container).await.unwrap_err(),
        runtime.usage(&config.container).await.map(|_| ()).unwrap_err(),
        runtime.exec(&config.container, &Default::default()).await.map(|_| ()).unwrap_err(),
        runtime.attach(&config.container, true).await.map(|_| ()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
    config.image = ImageId(format!("sha256:{}", "0".repeat(64)));
    let error = runtime.create_container(&config).await.unwrap_err();
    assert!(matches!(error, Error::Image { .. }), "{error}");
    assert_eq!(runtime.list().await.unwrap()[0].containers, []);
}

/// An image cannot be taken from under a container.
pub async fn images_in_use_stay(subject: Subject) {
    let images = subject.runtime.images();
    assert_eq!(images.resolve(IMAGE).await.unwrap().map(|image| image.id), Some(subject.image.id.clone()));
    assert!(images.list().await.unwrap().iter().any(|image| image.id == subject.image.id));
    assert_eq!(images.resolve("localhost/unknown:1").await.unwrap(), None);
    subject.running("a", Work::Run).await;
    let error = images.remove(IMAGE).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error}");
    subject.runtime.remove_sandbox("a").await.unwrap();
    images.remove(IMAGE).await.unwrap();
    assert_eq!(images.resolve(IMAGE).await.unwrap(), None);
}
