//! A program that chooses: a line of JSON to its standard input for each question, and one from its standard output for each answer.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Choice, Chooser, ExternalError, Question};

/// The name of the protocol and its version, which both sides say first.
const PROTOCOL: &str = "longshore-policy/1";

/// Bytes that an answer has at most.
const ANSWER_MAX: u64 = 16 << 20;

/// Characters of an answer that are quoted where it is wrong.
const QUOTED: usize = 200;

/// How often is looked whether a program has ended that has nothing more to say.
const STEP: Duration = Duration::from_millis(5);

#[derive(Serialize)]
struct Hello {
    protocol: &'static str,
    seed: u64,
}

#[derive(Deserialize)]
struct Welcome {
    protocol: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    node: Option<String>,
    scores: Option<BTreeMap<String, f64>>,
    refuse: Option<String>,
}

/// A running program that chooses nodes.
///
/// When it is dropped, its standard input is closed, and it has as long to end as it has for an answer; then it is killed.
#[derive(Debug)]
pub struct Program {
    command: String,
    child: Child,
    pub(super) patience: Duration,
    /// `None` once there is nothing more to ask.
    questions: Option<Sender<Vec<u8>>>,
    answers: Receiver<io::Result<Vec<u8>>>,
}

impl Program {
    /// Starts a command, which a shell reads (`python3 my_policy.py --layers "4 4"`), and greets it with the seed. It has so long for each
    /// answer.
    ///
    /// # Errors
    /// It cannot be started, or does not greet back in this protocol.
    pub fn start(command: &str, seed: u64, patience: Duration) -> Result<Self, ExternalError> {
        let mut shell = Command::new("sh");
        // In the place of the shell, so that it is the program that is killed.
        shell.arg("-c").arg(format!("exec {command}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let cannot = |reason: String| ExternalError::Start { command: command.to_owned(), reason };
        let mut child = shell.spawn().map_err(|error| cannot(format!("no shell to read it: {error}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(cannot("it has no standard input and output".to_owned()));
        };
        let (questions, asked) = channel();
        let (answered, answers) = channel();
        // Of its own, for a program that neither reads nor writes must not keep us waiting for ever. It ends with the program's output.
        std::thread::spawn(move || converse(stdin, stdout, &asked, &answered));
        let mut program = Self { command: command.to_owned(), child, patience, questions: Some(questions), answers };
        let hello = Hello { protocol: PROTOCOL, seed };
        let said = program.ask(&hello, "the greeting")?;
        let wrong = |reason: String| program.wrong("the greeting", &said, reason);
        let welcome: Welcome = serde_json::from_slice(&said)
            .map_err(|error| wrong(format!("that is not {{\"protocol\": \"{PROTOCOL}\"}} ({error})")))?;
        if welcome.protocol != PROTOCOL {
            return Err(wrong(format!("it speaks another protocol than {PROTOCOL}")));
        }
        Ok(program)
    }

    /// The line that answers this one.
    fn ask(&mut self, what: &impl Serialize, about: &str) -> Result<Vec<u8>, ExternalError> {
        let (command, question) = (self.command.clone(), about.to_owned());
        let mut line = serde_json::to_vec(what).map_err(|error| ExternalError::Answer {
            command: command.clone(),
            question: question.clone(),
            answer: String::new(),
            reason: format!("the question cannot be written: {error}"),
        })?;
        line.push(b'\n');
        if let Some(questions) = &self.questions {
            // If nobody is there any more, the answer says so.
            drop(questions.send(line));
        }
        match self.answers.recv_timeout(self.patience) {
            Ok(Ok(said)) if said.last() == Some(&b'\n') => Ok(said),
            Ok(Ok(said)) if said.len() as u64 == ANSWER_MAX => {
                Err(self.wrong(about, &said, format!("that is no line, but more than {ANSWER_MAX} bytes")))
            }
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(ExternalError::Silent { command, patience: self.patience, question })
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                let status = self.end();
                Err(ExternalError::Ended { command, status, question })
            }
        }
    }

    fn wrong(&self, about: &str, said: &[u8], reason: String) -> ExternalError {
        let answer = String::from_utf8_lossy(said).trim_end().chars().take(QUOTED).collect();
        ExternalError::Answer { command: self.command.clone(), question: about.to_owned(), answer, reason }
    }

    fn kill(&mut self) {
        self.questions = None;
        // It may have ended by itself, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Lets it end, and says how it did.
    fn end(&mut self) -> String {
        self.questions = None;
        // What it still says does not matter; that it says nothing more is told by the other side being gone.
        while let Ok(rest) = self.answers.recv_timeout(self.patience) {
            drop(rest);
        }
        // Its output ends a moment before it does.
        let steps = self.patience.as_millis() / STEP.as_millis();
        for _ in 0..steps {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::park_timeout(STEP);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

/// Passes on questions and answers, until either side has no more.
fn converse(
    mut stdin: ChildStdin,
    stdout: ChildStdout,
    asked: &Receiver<Vec<u8>>,
    answered: &Sender<io::Result<Vec<u8>>>,
) {
    let mut stdout = BufReader::new(stdout);
    while let Ok(question) = asked.recv() {
        // A program may end before it has read all; that it did is seen where its answer should be.
        drop(stdin.write_all(&question).and_then(|()| stdin.flush()));
        let mut line = Vec::new();
        let read = (&mut stdout).take(ANSWER_MAX).read_until(b'\n', &mut line).map(|_| line);
        let is_last = !read.as_ref().is_ok_and(|line| line.last() == Some(&b'\n'));
        if answered.send(read).is_err() || is_last {
            break;
        }
    }
    drop(stdin);
    drop(io::copy(&mut stdout, &mut io::sink()));
}

impl Chooser for Program {
    fn choose(&mut self, question: &Question<'_>) -> Result<Choice, ExternalError> {
        let about = format!("about pod {:?}", question.pod.name);
        let said = self.ask(question, &about)?;
        let answer = serde_json::from_slice::<Answer>(&said).map_err(|error| error.to_string());
        let choice = answer.and_then(|answer| match (answer.node, answer.scores, answer.refuse) {
            (Some(node), None, None) => Ok(Choice::Node(node)),
            (None, Some(scores), None) => Ok(Choice::Scores(scores)),
            (None, None, Some(reason)) => Ok(Choice::Refuse(reason)),
            _ => Err("it must have one of node, scores and refuse".to_owned()),
        });
        choice.map_err(|reason| self.wrong(&about, &said, reason))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
