//! Processes and ports of pods, as the real kubectl and kube-rs reach them, and what kubectl changes about pods that run.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{Machine, Part, certificate, eventually, on_own_network, part, processes, run};
use kube::api::{Api, AttachParams};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROGRAMS: &[&str] = &["runc", "nft", "busybox", "kubectl", "ip"];

/// A pod of the demonstration's image; its programs are put where `PATH` finds them. It is ready once its script has made
/// the file `/up`.
fn pod(name: &str, fields: &str, script: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: longshore.local/demo:1
    command: [/bin/busybox, sh, -c]
    args: ['trap exit TERM; /bin/busybox --install -s /bin; {script}']
    readinessProbe: {{exec: {{command: [/bin/busybox, test, -e, /up]}}, periodSeconds: 1}}
    {fields}
---
"
    )
}

/// A cluster with these pods, all of which run.
fn with_pods(pods: &str, test: impl FnOnce(&Machine) + Send + 'static) {
    let pods = pods.to_owned();
    on_own_network(PROGRAMS, move || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        let file = machine.write("pods.yaml", &pods);
        machine.ask(&["create", "-f", &file]);
        machine.ask(&["wait", "-f", &file, "--for=condition=Ready", "--timeout=60s"]);
        test(&machine);
    });
}

/// What kubectl printed on both streams, and its code.
#[track_caller]
fn say(machine: &Machine, arguments: &[&str], input: &[u8]) -> (String, String, i32) {
    let mut command = machine.kubectl(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // kubectl that fails early does not read.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let (out, err) = common::texts(&output);
    (out, err, output.status.code().unwrap_or(-1))
}

/// A kubectl that goes on, killed when it is forgotten.
struct Begun {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Begun {
    fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A terminal on which kubectl runs.
struct Terminal {
    own: File,
    child: Child,
    said: String,
}

impl Terminal {
    fn new(command: &mut Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let own = File::from(pty.master);
        tcsetwinsize(&own, Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        Self { own, child, said: String::new() }
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.own, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // As the kernel tells the programs of a session that has this terminal.
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGWINCH).unwrap();
    }

    fn types(&mut self, text: &str) {
        self.own.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until something was said.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        let mut buffer = [0; 4096];
        while !self.said.contains(wanted) {
            let count = self.own.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "it ended and said {:?}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        self.said.clear();
    }

    fn code(mut self) -> i32 {
        // What is left to be said must not block it.
        while self.own.read(&mut [0; 4096]).is_ok_and(|count| count > 0) && self.child.try_wait().unwrap().is_none() {}
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

/// A pod that sends back what it is sent.
fn echoes() -> String {
    let listen = "nc -ll -p 9000 -e cat & nc -ll -p 8080 -e cat & ";
    let until = |port: &str| format!("until grep -q :{port} /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done; ");
    pod("p", "", &format!("{listen}{}{}touch /up; wait", until("2328"), until("1F90")))
}

const WAITS: &str = "touch /up; sleep 1000000 & wait";

#[test]
fn kubectl_runs_processes_and_copies_files() {
    with_pods(&pod("p", "", WAITS), |machine| {
        let said = say(machine, &["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3"], b"");
        assert_eq!((said.0.as_str(), said.2), ("out\n", 3));
        assert!(said.1.contains("err\n") && said.1.contains("command terminated with exit code 3"), "{said:?}");
        assert_eq!(say(machine, &["exec", "p", "--", "true"], b""), (String::new(), String::new(), 0));

        // The end of the input is not the end of the output.
        let much: Vec<u8> = (0..2_000_000_u32).map(|number| b'a' + u8::try_from(number % 26).unwrap()).collect();
        let script = "cat; echo; echo done";
        let (out, _, code) = say(machine, &["exec", "-i", "p", "--", "sh", "-c", script], &much);
        assert_eq!((out.len(), code), (much.len() + "\ndone\n".len(), 0));
        assert!(out.as_bytes().starts_with(&much) && out.ends_with("\ndone\n"));

        for (arguments, expected) in [
            (&["exec", "p", "--", "nope"][..], "exec: \"nope\": executable file not found in $PATH"),
            (&["exec", "p", "-c", "x", "--", "true"], "container x is not valid for pod p"),
            (&["exec", "nobody", "--", "true"], "pods \"nobody\" not found"),
        ] {
            let (_, err, code) = say(machine, arguments, b"");
            assert!(code == 1 && err.contains(expected), "{code}: {err}");
        }

        // A kubectl of former times gets to know why not.
        let mut old = machine.kubectl(&["exec", "p", "--", "true"]);
        let (_, err) = common::texts(&old.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").output().unwrap());
        assert!(err.contains("unable to upgrade connection: only WebSocket is spoken here, not SPDY/3.1"), "{err}");

        let until = |size: &str| format!("until [ \"$(stty size)\" = \"{size}\" ]; do sleep 0.05; done; echo sized");
        let script = format!("{}; {}; read l; echo got $l; exit 5", until("24 80"), until("40 123"));
        let mut terminal = Terminal::new(&mut machine.kubectl(&["exec", "-it", "p", "--", "sh", "-c", &script]));
        terminal.until("sized\r\n");
        terminal.resize(123, 40);
        terminal.until("sized\r\n");
        terminal.types("this\n");
        terminal.until("got this\r\n");
        assert_eq!(terminal.code(), 5);

        let there = machine.write("there", &"some text\n".repeat(50_000));
        assert!(say(machine, &["exec", "p", "--", "mkdir", "-p", "/tree/of"], b"").2 == 0);
        machine.ask(&["cp", &there, "p:/tree/of/file"]);
        let back = machine.data_dir().with_file_name("back");
        machine.ask(&["cp", "p:/tree", back.to_str().unwrap()]);
        assert_eq!(std::fs::read(back.join("of/file")).unwrap(), std::fs::read(&there).unwrap());
    });
}

#[test]
fn kubectl_attaches_to_containers() {
    let talks = "touch /up; while read l; do echo got $l; done; echo end; exit 7";
    let pods = [
        pod("counts", "", "touch /up; while :; do echo tick; sleep 0.1; done"),
        pod("once", "{stdin: true, stdinOnce: true}", talks),
        pod("often", "{stdin: true}", talks),
        pod("shell", "{stdin: true, tty: true}", "touch /up; exec sh"),
    ]
    .concat()
    .replace("{stdin: true, stdinOnce: true}", "stdin: true\n    stdinOnce: true")
    .replace("{stdin: true, tty: true}", "stdin: true\n    tty: true")
    .replace("{stdin: true}", "stdin: true");
    with_pods(&pods, |machine| {
        let mut listeners: Vec<Begun> =
            (0..3).map(|_| Begun::new(&mut machine.kubectl(&["attach", "counts"]))).collect();
        for listener in &mut listeners {
            assert_eq!(listener.line(), "tick\n");
        }
        drop(listeners.pop());
        assert_eq!(listeners[0].line(), "tick\n");

        let (out, err, _) = say(machine, &["attach", "-i", "once"], b"hello\n");
        assert_eq!(out, "got hello\nend\n", "{err}");
        let code = "{.status.containerStatuses[0].state.terminated.exitCode}";
        let code = eventually("it has ended", || {
            let code = machine.ask(&["get", "pod", "once", "-o", &format!("jsonpath={code}")]);
            Some(code).filter(|code| !code.is_empty())
        });
        assert_eq!(code, "7");
        assert!(machine.ask(&["logs", "once"]).contains("got hello"));

        for word in ["one", "two"] {
            let mut begun = Begun::new(&mut machine.kubectl(&["attach", "-i", "often"]));
            begun.child.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
            assert_eq!(begun.line(), format!("got {word}\n"));
        }

        let mut terminal = Terminal::new(&mut machine.kubectl(&["attach", "-it", "shell"]));
        terminal.types("echo $((40 + 2)) $TERM\n");
        terminal.until("42 xterm\r\n");
        terminal.resize(90, 33);
        terminal.types("until [ \"$(stty size)\" = \"33 90\" ]; do sleep 0.05; done; echo si''zed\n");
        terminal.until("sized\r\n");
        terminal.types("exit\n");
        assert_eq!(terminal.code(), 0);

        let run = ["run", "quick", "-i", "--rm", "--restart=Never", "--image=longshore.local/demo:1", "--quiet"];
        let command = ["--command", "--", "/bin/busybox", "sh", "-c", "while read l; do echo got $l; done; exit 4"];
        let (out, err, code) = say(machine, &[&run[..], &command].concat(), b"word\n");
        assert!(out.contains("got word") && code == 4, "{out} {err} {code}");
    });
}

#[test]
fn kubectl_debugs_pods_and_nodes() {
    let works = "touch /up; sleep 424242 & wait";
    with_pods(&[pod("p", "", works), pod("q", "stdin: true", works)].concat(), |machine| {
        let image = "--image=longshore.local/demo:1";
        let shell = ["--", "/bin/busybox", "sh", "-c"];
        let begin = |arguments: &[&str], script: &str| {
            Terminal::new(&mut machine.kubectl(&[&["debug", "-it", image], arguments, &shell, &[script]].concat()))
        };
        // It sees the processes of its target, and ends with its own code.
        let find = "/bin/busybox ps | /bin/busybox grep -q '[4]24242' && echo seen; read l; echo got $l; exit 3";
        let mut terminal = begin(&["p", "--target=c", "-c", "debugger"], find);
        terminal.types("this\n");
        terminal.until("got this\r\n");
        terminal.code();
        let path = "jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}";
        eventually("its end is told", || (machine.ask(&["get", "pod", "p", "-o", path]) == "3").then_some(()));
        assert!(machine.ask(&["logs", "p", "-c", "debugger"]).contains("seen"));
        let state = machine.ask(&[
            "get",
            "pod",
            "p",
            "-o",
            "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}",
        ]);
        assert_eq!(state, "Running 0");

        // What was added stays as it is.
        let patch = r#"{"spec":{"ephemeralContainers":[{"name":"debugger","image":"other"}]}}"#;
        let (_, err, code) =
            say(machine, &["patch", "pod", "p", "--subresource=ephemeralcontainers", "-p", patch], b"");
        assert!(code == 1 && err.contains("existing ephemeral containers \"debugger\" may not be changed"), "{err}");
        let patch = r#"{"spec":{"ephemeralContainers":[{"name":"late","image":"x","targetContainerName":"no"}]}}"#;
        let (_, err, code) =
            say(machine, &["patch", "pod", "p", "--subresource=ephemeralcontainers", "-p", patch], b"");
        assert!(code == 1 && err.contains("targetContainerName: Not found: \"no\""), "{err}");

        // A copy with another command, whose processes all its containers share.
        let mut terminal =
            begin(&["q", "--copy-to=copy", "--share-processes", "-c", "extra"], "read l; echo copied $l; read l");
        terminal.types("it\n");
        terminal.until("copied it\r\n");
        terminal.types("\n");
        terminal.code();
        let shared = machine.ask(&[
            "get",
            "pod",
            "copy",
            "-o",
            "jsonpath={.spec.shareProcessNamespace} {.spec.containers[*].name}",
        ]);
        assert_eq!(shared, "true c extra");

        // A node: its processes, its network and its files.
        let node = machine.ask(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let script = "read l; test -d /host/proc/1 && /bin/busybox ps | /bin/busybox grep -q '[4]24242' && echo found $l; read l";
        let mut terminal = begin(&[&format!("node/{node}")], script);
        terminal.types("it\n");
        terminal.until("found it\r\n");
        terminal.types("\n");
        terminal.code();
    });
}

#[test]
fn kubectl_resizes_a_running_container() {
    let resources = "resources: {requests: {memory: 32Mi}, limits: {memory: 64Mi}}";
    with_pods(&pod("p", resources, WAITS), |machine| {
        let hungry = ["exec", "p", "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"];
        assert_ne!(say(machine, &hungry, b"").2, 0);
        let patch = r#"{"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"256Mi"}}}]}}"#;
        machine.ask(&["patch", "pod", "p", "--subresource", "resize", "-p", patch]);
        let path = "jsonpath={.status.containerStatuses[0]['resources.limits.memory','restartCount']}";
        eventually("it is resized", || (machine.ask(&["get", "pod", "p", "-o", path]) == "256Mi 0").then_some(()));
        let (_, err, code) = say(machine, &hungry, b"");
        assert_eq!(code, 0, "{err}");
    });
}

#[test]
fn kubectl_forwards_ports() {
    with_pods(&echoes(), |machine| {
        let mut forward = Begun::new(&mut machine.kubectl(&["port-forward", "p", ":9000", ":8080"]));
        let mut port = || {
            let line =
                eventually("it listens on IPv4", || Some(forward.line()).filter(|line| line.contains("127.0.0.1")));
            line.split(':').nth(1).unwrap().split(' ').next().unwrap().parse::<u16>().unwrap()
        };
        let (first, second) = (port(), port());
        let much: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        for port in [first, second, second] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut writer, sent) = (stream.try_clone().unwrap(), much.clone());
            let writing = std::thread::spawn(move || {
                let written = writer.write_all(&sent);
                written.and_then(|()| writer.shutdown(std::net::Shutdown::Write))
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            writing.join().unwrap().unwrap();
            assert!(back == much, "{} of {} bytes came back", back.len(), much.len());
        }

        let mut nobody = machine.kubectl(&["port-forward", "p", ":81"]);
        let mut child = nobody.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let port: u16 = line.split(':').nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let _ = TcpStream::connect(("127.0.0.1", port)).unwrap().read(&mut [0]);
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let error = errors.find(|line| line.contains("error forwarding port 81 to pod"));
        assert!(error.is_some_and(|line| line.contains("Connection refused")));
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn a_client_that_breaks_leaves_no_process() {
    with_pods(&pod("p", "", WAITS), |machine| {
        let instance = machine.instance();
        let left = |what: &str| processes(&instance, &format!("sleep {what}"));
        let script = |number: &str| format!("trap \"\" HUP; (sleep {number}; true) & echo begun; sleep {number}; true");
        let mut plain = Begun::new(&mut machine.kubectl(&["exec", "p", "--", "sh", "-c", &script("515151")]));
        assert_eq!(plain.line(), "begun\n");
        // Its input is more than its process ever reads.
        let mut flooded = machine.kubectl(&["exec", "-i", "p", "--", "sh", "-c", &script("525252")]);
        let mut flooded = flooded.stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(flooded.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        let mut terminal =
            Terminal::new(&mut machine.kubectl(&["exec", "-it", "p", "--", "sh", "-c", &script("535353")]));
        terminal.until("begun\r\n");
        let numbers = ["515151", "525252", "535353"];
        for number in numbers {
            eventually("both run", || (left(number).len() == 2).then_some(()));
        }
        drop(plain);
        flooded.kill().unwrap();
        flooded.wait().unwrap();
        terminal.child.kill().unwrap();
        terminal.child.wait().unwrap();
        for number in numbers {
            eventually(&format!("nothing is left of {number}"), || left(number).is_empty().then_some(()));
        }

        // Nor does one whose agent is killed.
        let mut plain = Begun::new(&mut machine.kubectl(&["exec", "p", "--", "sh", "-c", &script("545454")]));
        assert_eq!(plain.line(), "begun\n");
        machine.kill();
        eventually("nothing is left of 545454", || left("545454").is_empty().then_some(()));
        machine.up(&[]);
        eventually("the agent knows its pod again", || {
            (say(machine, &["exec", "p", "--", "echo", "again"], b"").0 == "again\n").then_some(())
        });

        // One that stops says goodbye: no client hangs.
        let mut plain = Begun::new(&mut machine.kubectl(&["exec", "p", "--", "sh", "-c", &script("555555")]));
        assert_eq!(plain.line(), "begun\n");
        run(&mut machine.longshore(&["down"]));
        assert!(!plain.child.wait().unwrap().success());
    });
}

#[test]
fn kube_rs_runs_processes_and_forwards_ports() {
    with_pods(&echoes(), |machine| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let config = kube::config::Kubeconfig::read_from(machine.data_dir().join("kubeconfig")).unwrap();
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
            let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(config.try_into().unwrap());

            let options = AttachParams::default().stdin(true).stderr(false);
            let mut process = pods.exec("p", ["sh", "-c", "cat; exit 9"], &options).await.unwrap();
            let mut stdin = process.stdin().unwrap();
            stdin.write_all(b"through kube-rs").await.unwrap();
            stdin.shutdown().await.unwrap();
            drop(stdin);
            let mut out = String::new();
            process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
            assert_eq!(out, "through kube-rs");
            let status = process.take_status().unwrap().await.unwrap();
            assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
            let causes = status.details.unwrap().causes.unwrap();
            assert_eq!(causes[0].message.as_deref(), Some("9"));
            process.join().await.unwrap();

            let mut forward = pods.portforward("p", &[8080, 81]).await.unwrap();
            let refused = forward.take_error(81).unwrap().await.unwrap();
            assert!(refused.contains("error forwarding port 81"), "{refused}");
            let mut stream = forward.take_stream(8080).unwrap();
            stream.write_all(b"there and back").await.unwrap();
            let mut back = [0; 14];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"there and back");
        });
    });
}

#[test]
fn streams_reach_nodes_elsewhere() {
    on_own_network(PROGRAMS, || {
        let (machine, worker) = (Machine::new(), Machine::new());
        // What makes the image also for the node that comes later to this directory.
        worker.up(&["--demo"]);
        run(&mut worker.longshore(&["down"]));
        let api = Part::start(machine.longshore(&["apiserver"]).args(["--listen", "127.0.0.1:0"]), "serving");
        let directory = worker.data_dir();
        let kubeconfig =
            certificate(&machine, &directory, "kubeconfig.node", &["node", "worker", "--address", "127.0.0.1"]);
        let start = || {
            let mut node = part("node", &kubeconfig);
            node.args(["--name", "worker", "--address", "127.0.0.1", "--data-dir"]);
            Part::start(node.arg(&directory), "running")
        };
        let node = start();
        // There are no controllers, so nobody makes what a pod's token comes with.
        let alone = "spec:\n  nodeName: worker\n  automountServiceAccountToken: false\n";
        let file = machine.write("pods.yaml", &echoes().replace("spec:\n", alone));
        machine.ask(&["create", "-f", &file]);
        machine.ask(&["wait", "-f", &file, "--for=condition=Ready", "--timeout=60s"]);
        let much = vec![b'x'; 1_000_000];
        let (out, err, code) = say(&machine, &["exec", "-i", "p", "--", "sh", "-c", "wc -c; exit 3"], &much);
        assert_eq!((out.trim(), code), ("1000000", 3), "{err}");
        let mut forward = Begun::new(&mut machine.kubectl(&["port-forward", "p", ":8080"]));
        let port = forward.line().split(':').nth(1).unwrap().split(' ').next().unwrap().parse::<u16>().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"there and back").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "there and back");

        // Whoever on the way ends: the client, the agent or the API server.
        let instance = worker.instance();
        let begin = |number: &str| {
            let script = format!("echo begun; sleep {number}; true");
            let mut begun = Begun::new(&mut machine.kubectl(&["exec", "p", "--", "sh", "-c", &script]));
            assert_eq!(begun.line(), "begun\n");
            begun
        };
        let gone = |number: &str| {
            let left = || processes(&instance, &format!("sleep {number}"));
            eventually(&format!("nothing is left of {number}"), || left().is_empty().then_some(()));
        };
        drop(begin("616161"));
        gone("616161");
        let mut begun = begin("626262");
        node.stop();
        assert!(!begun.child.wait().unwrap().success());
        gone("626262");
        let _node = start();
        eventually("the agent knows its pod again", || {
            (say(&machine, &["exec", "p", "--", "echo", "again"], b"").0 == "again\n").then_some(())
        });
        let mut begun = begin("636363");
        drop(api);
        assert!(!begun.child.wait().unwrap().success());
        gone("636363");
    });
}
