//! Terminals, input, and connections to what runs.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::processes::exec;
use super::{Subject, Work, code};
use crate::runtime::{ContainerRef, Error, ExecRequest, Input, Output, Session};

impl Subject {
    async fn begin(&self, name: &ContainerRef, script: &str, tty: bool) -> Session {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        self.runtime.exec(name, &ExecRequest { command, stdin: true, tty }).await.unwrap()
    }

    /// Waits until no process of the container has this in its command line.
    async fn until_none_runs(&self, name: &ContainerRef, what: &str) {
        // The brackets keep the one who looks from being found.
        let look = format!("cat /proc/[0-9]*/cmdline | grep -c '[{}]{}'", &what[..1], &what[1..]);
        while exec(self, name, &look).await.0 != "0\n" {
            self.fixture.pass().await;
        }
    }
}

type Said = BoxStream<'static, Result<Output, Error>>;

/// Reads until this was said, on either stream.
async fn until_said(output: &mut Said, wanted: &str) -> String {
    let mut said = String::new();
    while !said.contains(wanted) {
        match output.next().await.expect("more is said").unwrap() {
            Output::Stdout(bytes) | Output::Stderr(bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
            Output::Exit(code) => panic!("it ended with {code} and said {said:?}"),
        }
    }
    said
}

/// The exit code, whatever is said before.
async fn exit_code(mut output: Said) -> i32 {
    loop {
        if let Output::Exit(code) = output.next().await.expect("it ends with a code").unwrap() {
            return code;
        }
    }
}

/// On a terminal both streams are one, and the terminal has the size that it is given.
pub async fn exec_on_a_terminal_has_its_size(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    let script = "test -t 0 && test -t 1 && echo terminal >&2; until [ \"$(stty size)\" = '30 100' ]; do sleep 0.02; done; \
                  echo sized; read line; echo got $line; exit 3";
    let mut session = subject.begin(&name, script, true).await;
    until_said(&mut session.output, "terminal\r\n").await;
    let mut input = session.input.unwrap();
    input.send(Input::Resize { width: 100, height: 30 }).await.unwrap();
    until_said(&mut session.output, "sized\r\n").await;
    input.send(Input::Data("this\n".into())).await.unwrap();
    until_said(&mut session.output, "got this\r\n").await;
    assert_eq!(exit_code(session.output).await, 3);
}

/// What types Ctrl-C interrupts.
pub async fn a_terminal_interrupts(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    let mut session = subject.begin(&name, "trap 'exit 9' INT; echo up; while :; do sleep 0.02; done", true).await;
    until_said(&mut session.output, "up").await;
    session.input.as_mut().unwrap().send(Input::Data("\u{3}".into())).await.unwrap();
    assert_eq!(exit_code(session.output).await, 9);
}

/// After the end of its input a process may still speak.
pub async fn closed_input_leaves_the_output_open(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    let mut session = subject.begin(&name, "cat; echo all was read; exit 4", false).await;
    let mut input = session.input.take().unwrap();
    let much = "x".repeat(300_000);
    let write = async {
        input.send(Input::Data(much.clone().into())).await.unwrap();
        input.close().await.unwrap();
    };
    let (said, ()) = tokio::join!(until_said(&mut session.output, "all was read\n"), write);
    assert_eq!(said.len(), much.len() + "all was read\n".len());
    assert_eq!(exit_code(session.output).await, 4);
}

/// A program that cannot be run is an error, and one that a signal kills has its code.
pub async fn exec_tells_how_it_went(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    let request = ExecRequest { command: vec!["/no/such/program".into()], ..ExecRequest::default() };
    for tty in [false, true] {
        let error = subject.runtime.exec(&name, &ExecRequest { tty, ..request.clone() }).await.unwrap_err();
        assert!(
            error.to_string().contains("no such file or directory") || error.to_string().contains("No such file"),
            "{error}"
        );
    }
    assert_eq!(exec(&subject, &name, "kill -9 $$").await.2, 137);
    let mut session = subject.begin(&name, "echo on; cat", false).await;
    until_said(&mut session.output, "on").await;
    subject.runtime.stop_container(&name, Duration::ZERO).await.unwrap();
    assert_eq!(exit_code(session.output).await, 137, "it ends with its container");
}

/// A session that nobody listens to any more takes its process along, and all that this started.
pub async fn clause_7_a_dropped_session_leaves_nothing(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    for tty in [false, true] {
        let script = "trap '' HUP TERM; sleep 424242 & (trap '' HUP; sleep 424242) & echo begun; sleep 424242";
        let mut session = subject.begin(&name, script, tty).await;
        until_said(&mut session.output, "begun").await;
        drop(session);
        subject.until_none_runs(&name, "424242").await;
    }
    // Even one that was dropped before it had begun.
    let request = ExecRequest { command: vec!["sleep".into(), "434343".into()], ..ExecRequest::default() };
    let mut begun = subject.runtime.exec(&name, &request);
    assert!(futures::poll!(&mut begun).is_pending());
    subject.fixture.pass().await;
    drop(begun);
    subject.until_none_runs(&name, "434343").await;
}

/// Several hear what a container says from now on, and its end.
pub async fn attach_hears_a_container(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let script = "echo ready; until test -e /go; do sleep 0.02; done; echo out; echo err >&2; until test -e /end; do sleep 0.02; done; exit 6";
    let name = subject.start(&subject.script("a", "main", script)).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = subject.runtime.attach(&name, true).await.unwrap();
        assert!(session.input.is_none(), "the container has no input");
        sessions.push(session.output);
    }
    drop(sessions.pop());
    exec(&subject, &name, "touch /go").await;
    for output in &mut sessions {
        // The two streams have no order.
        let mut said = until_said(output, "\n").await;
        while !(said.contains("out\n") && said.contains("err\n")) {
            said += &until_said(output, "\n").await;
        }
    }
    exec(&subject, &name, "touch /end").await;
    for output in sessions {
        assert_eq!(exit_code(output).await, 6);
    }
    assert_eq!(code(&subject.ended(&name).await), 6);
    let log = subject.logged(&subject.find(&name).await.unwrap(), "err\n").await;
    assert!(log.contains(" stdout F out\n"), "what is heard is logged, too: {log}");
}

/// Input stays open from one to the next, unless it is to be given once.
pub async fn attach_gives_a_container_its_input(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    for once in [false, true] {
        let uid = if once { "once" } else { "often" };
        subject.make_sandbox(uid).await;
        let mut config = subject.script(uid, "main", "echo ready; while read line; do echo got $line; done; exit 8");
        (config.stdin, config.stdin_once) = (true, once);
        let name = subject.start(&config).await;
        // One who gives no input does not end it.
        drop(subject.runtime.attach(&name, false).await.unwrap());
        let mut first = subject.runtime.attach(&name, true).await.unwrap();
        let mut input = first.input.take().unwrap();
        input.send(Input::Data("one\n".into())).await.unwrap();
        until_said(&mut first.output, "got one\n").await;
        input.close().await.unwrap();
        if !once {
            let mut second = subject.runtime.attach(&name, true).await.unwrap();
            second.input.as_mut().unwrap().send(Input::Data("two\n".into())).await.unwrap();
            until_said(&mut first.output, "got two\n").await;
            drop(second);
            subject.runtime.stop_container(&name, Duration::ZERO).await.unwrap();
        }
        assert_eq!(exit_code(first.output).await, if once { 8 } else { 137 });
    }
}

/// A container's terminal is written to and resized by those who are attached.
pub async fn attach_shares_a_terminal(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let script = "echo $TERM; echo ready; until [ \"$(stty size)\" = '41 132' ]; do sleep 0.02; done; read line; echo got $line; exit 2";
    let mut config = subject.script("a", "main", script);
    (config.stdin, config.tty) = (true, true);
    subject.runtime.create_container(&config).await.unwrap();
    subject.runtime.start_container(&config.container).await.unwrap();
    let name = config.container.clone();
    let log = subject.logged(&subject.find(&name).await.unwrap(), " ready").await;
    assert!(log.contains(" stdout F xterm"), "{log}");
    let mut session = subject.runtime.attach(&name, true).await.unwrap();
    let input = session.input.as_mut().unwrap();
    input.send(Input::Resize { width: 132, height: 41 }).await.unwrap();
    input.send(Input::Data("this\n".into())).await.unwrap();
    until_said(&mut session.output, "got this\r\n").await;
    assert_eq!(exit_code(session.output).await, 2);
}

/// One who does not listen stops neither the container nor others.
pub async fn clause_7_a_slow_listener_is_cut_off(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let script = "echo ready; read line; dd if=/dev/zero bs=65536 count=64; echo done; exit 0";
    let mut config = subject.script("a", "main", script);
    (config.stdin, config.stdin_once) = (true, true);
    let name = subject.start(&config).await;
    let slow = subject.runtime.attach(&name, false).await.unwrap();
    let mut quick = subject.runtime.attach(&name, true).await.unwrap();
    quick.input.as_mut().unwrap().send(Input::Data("go\n".into())).await.unwrap();
    assert_eq!(code(&subject.ended(&name).await), 0);
    let mut end = None;
    let mut output = slow.output;
    while let Some(said) = output.next().await {
        end = Some(said);
    }
    assert!(matches!(end, Some(Err(Error::Failed { .. }))), "{end:?}");
}

/// What listens in a pod is reached on its loopback address.
pub async fn connect_reaches_into_a_pod(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let mut config =
        subject.script("a", "main", "ip link set lo up; echo ready; while :; do nc -l -p 8080 -e cat; done");
    config.security.add_capabilities = vec!["NET_ADMIN".into()];
    subject.start(&config).await;
    let mut connection = loop {
        match subject.runtime.connect("a", 8080).await {
            Ok(connection) => break connection,
            Err(Error::Failed { .. }) => subject.fixture.pass().await,
            Err(error) => panic!("{error}"),
        }
    };
    connection.write_all(b"there and back").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut back = String::new();
    connection.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "there and back");
    let error = subject.runtime.connect("a", 9).await.err().unwrap();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(matches!(subject.runtime.connect("b", 9).await, Err(Error::NotFound { .. })));
}

/// A runtime that does not stream says so.
pub async fn streams_are_there_or_unsupported(subject: Subject) {
    let name = subject.running("a", Work::Run).await;
    let request = ExecRequest { command: vec!["true".into()], ..ExecRequest::default() };
    let exec = subject.runtime.exec(&name, &request).await.map(|_| ());
    let attach = subject.runtime.attach(&name, false).await.map(|_| ());
    if subject.runtime.info().capabilities.streams {
        assert_eq!((exec, attach), (Ok(()), Ok(())));
        return;
    }
    let connect = subject.runtime.connect("a", 80).await.map(|_| ());
    for done in [exec, attach, connect] {
        assert!(matches!(done, Err(Error::Unsupported { .. })), "{done:?}");
    }
}
