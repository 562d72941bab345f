//! What only real processes have.

use std::path::PathBuf;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use jiff::Timestamp;

use super::{Subject, Work, code};
use crate::runtime::{ContainerState, Error, ExecRequest, Input, Mount, Output, Propagation};

fn mount(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount { source, target: target.into(), read_only, recursive_read_only: false, propagation: Propagation::Private }
}

/// `<time> <stream> <F or P> <text>`, and a line that is too long comes in parts.
pub async fn logs_are_in_the_format_of_cri(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let long = "x=000; while [ ${#x} -lt 20000 ]; do x=$x$x; done; echo $x";
    let script = format!("echo out; echo err >&2; {long}; printf unfinished");
    let name = subject.start(&subject.script("a", "main", &script)).await;
    subject.ended(&name).await;
    let container = subject.find(&name).await.unwrap();
    let log = subject.logged(&container, "unfinished\n").await;
    let mut long = String::new();
    let mut parts = Vec::new();
    for line in log.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let [time, stream, tag, text] = fields.as_slice() else { panic!("{line}") };
        time.parse::<Timestamp>().unwrap();
        assert!(matches!((*stream, *tag), ("stdout" | "stderr", "F" | "P")), "{line}");
        if text.starts_with('0') {
            long.push_str(text);
            parts.push((*tag).to_owned());
        }
    }
    assert_eq!(parts.last().map(String::as_str), Some("F"), "{parts:?}");
    assert!(parts.len() > 1 && parts[..parts.len() - 1].iter().all(|tag| tag == "P"), "{parts:?}");
    assert_eq!(long, "0".repeat(24_576));
    for line in [" stdout F out\n", " stderr F err\n", " stdout F unfinished\n"] {
        assert!(log.contains(line), "{line:?} is missing");
    }
}

/// The caller decides when logs go.
pub async fn logs_stay_after_removal(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let name = subject.start(&subject.script("a", "main", "echo kept")).await;
    subject.ended(&name).await;
    let container = subject.find(&name).await.unwrap();
    subject.runtime.remove_container(&name).await.unwrap();
    subject.runtime.remove_sandbox("a").await.unwrap();
    assert!(std::fs::read_to_string(container.log_path).unwrap().contains(" stdout F kept\n"));
}

/// A process gets what its configuration says.
pub async fn commands_environment_and_directory_are_as_given(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let mut config = subject.script("a", "main", "pwd; echo \"$GREETING\"; echo \"$0 $1\"; echo \"$PATH\"");
    config.args = ["zero", "one two"].map(str::to_owned).to_vec();
    config.working_dir = "/tmp/deep".into();
    config.env = [("GREETING", "first"), ("GREETING", "hello  world"), ("EMPTY", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let (code, lines) = subject.output(&config).await;
    assert_eq!(code, 0);
    assert_eq!(lines[..3], ["/tmp/deep", "hello  world", "zero one two"]);
    assert!(lines[3].contains("/bin"), "the image's environment is kept: {lines:?}");
}

/// UTS is the pod's.
pub async fn a_pods_containers_share_its_host_name(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    for name in ["one", "two"] {
        let (_, lines) = subject.output(&subject.script("a", name, "hostname; echo $HOSTNAME")).await;
        assert_eq!(lines, ["host-of-a", "host-of-a"]);
    }
}

/// Directories and files of the node, writable or not.
pub async fn mounts_are_as_given(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let node = subject.fixture.directory().join("mounts");
    for directory in ["read", "write"] {
        std::fs::create_dir_all(node.join(directory)).unwrap();
        std::fs::write(node.join(directory).join("file"), directory).unwrap();
    }
    subject.make_sandbox("a").await;
    let script = "cat /read/file /write/file /etc/one; echo; touch /read/new && exit 1; touch /write/new && exit 9";
    let mut config = subject.script("a", "main", script);
    config.mounts = vec![
        mount(node.join("read"), "/read", true),
        mount(node.join("write"), "/write", false),
        mount(node.join("read/file"), "/etc/one", true),
    ];
    let (code, lines) = subject.output(&config).await;
    assert_eq!(code, 9, "{lines:?}");
    // The two streams have no order.
    assert!(lines.iter().any(|line| line == "readwriteread"), "{lines:?}");
    assert!(node.join("write/new").exists());
}

/// A container cannot write where it must not.
pub async fn a_read_only_root_is_not_written_to(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let mut config = subject.script("a", "main", "touch /file && exit 1; exit 5");
    config.security.read_only_root = true;
    assert_eq!(subject.output(&config).await.0, 5);
    // Without that it can, and each has its own.
    let (code, _) = subject.output(&subject.script("a", "other", "test ! -e /file && touch /file")).await;
    assert_eq!(code, 0);
}

/// What a container leaves in the file for it explains its end.
pub async fn termination_messages_are_kept(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let name = subject.start(&subject.script("a", "main", "printf why > /dev/termination-log; exit 4")).await;
    let end = subject.ended(&name).await;
    assert!(matches!(&end, ContainerState::Exited { code: 4, message, .. } if message == "why"), "{end:?}");
}

/// The caller learns what it has to change.
pub async fn a_program_that_is_not_there_says_so(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let mut config = subject.container("a", "main", Work::Run);
    config.command = vec!["/no/such/program".into()];
    subject.runtime.create_container(&config).await.unwrap();
    let error = subject.runtime.start_container(&config.container).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { reason } if reason.contains("/no/such/program")), "{error}");
    let end = subject.ended(&config.container).await;
    assert!(
        matches!(&end, ContainerState::Exited { code: 127 | 128, message, .. } if message.contains("/no/such/program")),
        "{end:?}"
    );
}

pub(super) async fn exec(
    subject: &Subject,
    name: &crate::runtime::ContainerRef,
    script: &str,
) -> (String, String, i32) {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let session = subject.runtime.exec(name, &ExecRequest { command, ..ExecRequest::default() }).await.unwrap();
    collect(session.output).await
}

async fn collect(mut output: futures::stream::BoxStream<'static, Result<Output, Error>>) -> (String, String, i32) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            Output::Stdout(bytes) => out.extend_from_slice(&bytes),
            Output::Stderr(bytes) => err.extend_from_slice(&bytes),
            Output::Exit(code) => {
                assert!(output.next().await.is_none(), "nothing follows the end");
                return (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code);
            }
        }
    }
    panic!("a session ends with an exit code");
}

/// Both streams and the code arrive.
pub async fn exec_streams_and_ends_with_a_code(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    let said = exec(&subject, &name, "echo out; echo err >&2; hostname; exit 5").await;
    assert_eq!(said, ("out\nhost-of-a\n".into(), "err\n".into(), 5));
    assert_eq!(exec(&subject, &name, "true").await, (String::new(), String::new(), 0));
    assert!(matches!(subject.state(&name).await, ContainerState::Running { .. }));
}

/// Standard input goes in, and ends.
pub async fn exec_reads_what_it_is_sent(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let name = subject.running("a", Work::Run).await;
    let request = ExecRequest { command: vec!["cat".into()], stdin: true, tty: false };
    let session = subject.runtime.exec(&name, &request).await.unwrap();
    let mut input = session.input.unwrap();
    input.send(Input::Data("one ".into())).await.unwrap();
    input.send(Input::Data("two".into())).await.unwrap();
    input.close().await.unwrap();
    drop(input);
    assert_eq!(collect(session.output).await, ("one two".into(), String::new(), 0));
}

/// Nothing can be run in what does not run.
pub async fn exec_needs_a_running_container(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let config = subject.container("a", "main", Work::End { after: Duration::ZERO, code: 0 });
    subject.runtime.create_container(&config).await.unwrap();
    let request = ExecRequest { command: vec!["true".into()], ..ExecRequest::default() };
    for _ in 0..2 {
        let error = subject.runtime.exec(&config.container, &request).await.unwrap_err();
        assert!(matches!(error, Error::WrongState { .. }), "{error}");
        let _ = subject.runtime.start_container(&config.container).await;
        assert_eq!(code(&subject.ended(&config.container).await), 0);
    }
}

/// Memory is in use, and time spent grows.
pub async fn usage_is_measured(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let name = subject.start(&subject.script("a", "main", "while :; do :; done")).await;
    let first = subject.runtime.usage(&name).await.unwrap();
    assert!(first.memory_working_set > 0, "{first:?}");
    while subject.runtime.usage(&name).await.unwrap().cpu_time <= first.cpu_time {
        subject.fixture.pass().await;
    }
    subject.runtime.stop_container(&name, Duration::ZERO).await.unwrap();
    let error = subject.runtime.usage(&name).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error}");
}
