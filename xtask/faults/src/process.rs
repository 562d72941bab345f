//! One process of the run: started, killed, paused, and started again.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program with its arguments, which runs or does not. Killed when dropped, and when the thread that started it ends however it
/// does.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet; what it prints goes to `NAME.log` in the directory.
    pub fn new(name: &str, program: &Path, logs: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            log: logs.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// In words.
    pub fn start(&mut self) -> Result<(), String> {
        if self.runs() {
            return Ok(());
        }
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        let also: File = log.try_clone().map_err(failed)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log).stderr(also);
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Whether it runs, or is paused.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it has ended without having been asked to.
    pub fn has_failed(&mut self) -> bool {
        self.child.is_some() && !self.runs()
    }

    /// Kills it without warning; a paused one too.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it in the midst of whatever it does.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended, and is not reaped yet: then the signal does nothing.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
