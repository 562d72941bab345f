//! Runs kubectl with a server, a kubeconfig and a home of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use longshore_apiserver::http::{HttpService, Limits};
use longshore_apiserver::pki::kubeconfig;
use tempfile::TempDir;

use crate::common::Running;

/// kubectl and the server that it talks to.
pub(crate) struct Kubectl {
    pub(crate) server: Running,
    home: TempDir,
}

/// What kubectl said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Kubectl {
    /// `None`, and a line that says so, where there is no kubectl.
    pub(crate) async fn start() -> Option<Self> {
        Self::with(|service| service).await
    }

    pub(crate) async fn with(change: impl FnOnce(HttpService) -> HttpService) -> Option<Self> {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            println!("SKIPPED: kubectl is not on PATH");
            return None;
        }
        let server = Running::with(Limits::default(), change).await;
        let home = tempfile::tempdir().unwrap();
        let config = kubeconfig("test", &format!("https://{}", server.address), &server.authority, &server.admin);
        std::fs::write(home.path().join("config"), config).unwrap();
        Some(Self { server, home })
    }

    /// Where kubectl runs: files can be named from here.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(words(line))
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            .env("KUBE_EDITOR", self.home.path().join("editor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    async fn say(&self, line: &str, input: &str) -> Said {
        let (mut command, input) = (self.command(line), input.to_owned());
        let run = move || {
            let mut child = command.spawn().unwrap();
            // kubectl that fails early does not read.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command that must succeed; returns what it printed.
    pub(crate) async fn ok(&self, line: &str) -> String {
        let said = self.say(line, "").await;
        assert_eq!(said.code, 0, "kubectl {line}: {said:#?}");
        said.out
    }

    /// Runs a command that must succeed and print this.
    pub(crate) async fn says(&self, line: &str, expected: &str) {
        let out = self.ok(line).await;
        assert!(out.contains(expected), "kubectl {line} does not say {expected:?} but:\n{out}");
    }

    /// Runs a command that must succeed and warn of this.
    pub(crate) async fn warns(&self, line: &str, expected: &str) {
        let said = self.say(line, "").await;
        assert!(said.code == 0 && said.err.contains(expected), "kubectl {line}: {said:#?}");
    }

    /// Runs a command that must fail with this.
    pub(crate) async fn fails(&self, line: &str, expected: &str) {
        let said = self.say(line, "").await;
        assert!(
            said.code != 0 && said.err.contains(expected),
            "kubectl {line} does not fail with {expected:?}: {said:#?}"
        );
    }

    /// Runs `kubectl diff`, which must find a difference with this in it.
    pub(crate) async fn differs(&self, line: &str, expected: &str) {
        let said = self.say(line, "").await;
        assert!(said.code == 1 && said.out.contains(expected), "kubectl {line}: {said:#?}");
    }

    /// Gives objects to `kubectl create -f -`.
    pub(crate) async fn create(&self, yaml: &str) {
        let said = self.say("create -f -", yaml).await;
        assert_eq!(said.code, 0, "{said:#?}");
    }

    /// Starts a command that does not end by itself.
    pub(crate) fn begin(&self, line: &str) -> Begun {
        let mut child = self.command(line).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Begun { child, lines: Some(lines) }
    }
}

/// A running kubectl, ended when dropped.
pub(crate) struct Begun {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Begun {
    /// The next line that it prints; empty at the end.
    pub(crate) async fn line(&mut self) -> String {
        let mut lines = self.lines.take().unwrap();
        let read = move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            (lines, line)
        };
        let (lines, line) = tokio::task::spawn_blocking(read).await.unwrap();
        self.lines = Some(lines);
        line
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line's words; single quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for character in line.chars() {
        match character {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            other => word.push(other),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}
