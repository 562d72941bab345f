//! What a simulated container does, told by annotations or by its command.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use longshore_core::runtime::{ContainerConfig, Error};

/// Prefix of the annotations that this runtime reads. `<prefix><name>` holds for every container of a pod,
/// `<prefix><container>.<name>` for one.
pub const ANNOTATION_PREFIX: &str = "simulated.longshore.dev/";

/// What a container does once it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// How long starting takes (annotation `start-delay`, such as `2s`).
    pub start_delay: Duration,
    /// How long it runs before it ends by itself (`run-for`, such as `1m30s`, or `never`); `None` for ever.
    pub run_for: Option<Duration>,
    /// Its exit code when it ends by itself (`exit-code`).
    pub exit_code: i32,
    /// Whether SIGTERM does not end it (`ignore-term`: `true`), so that it is killed after the grace period.
    pub ignore_term: bool,
    /// Memory it uses, in bytes (`memory`).
    pub memory: u64,
}

impl Behaviour {
    /// The behaviour of a container: `self` as the default, over it what the command means (`sleep`, `true`, `false`, or
    /// these and `exit` in `sh -c`), over that the sandbox's annotations, then the container's.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming an annotation whose value cannot be read.
    pub fn of(mut self, sandbox: &BTreeMap<String, String>, config: &ContainerConfig) -> Result<Self, Error> {
        let command: Vec<&str> = config.command.iter().chain(&config.args).map(String::as_str).collect();
        self.by_command(&command);
        for annotations in [sandbox, &config.annotations] {
            for scope in [String::new(), format!("{}.", config.container.name)] {
                self.by_annotations(annotations, &scope)?;
            }
        }
        Ok(self)
    }

    fn by_annotations(&mut self, annotations: &BTreeMap<String, String>, scope: &str) -> Result<(), Error> {
        let get = |name: &str| {
            let key = format!("{ANNOTATION_PREFIX}{scope}{name}");
            annotations.get(&key).map(|value| (key, value.as_str()))
        };
        if let Some((key, value)) = get("start-delay") {
            self.start_delay = duration(&key, value)?;
        }
        if let Some((key, value)) = get("run-for") {
            self.run_for = if value == "never" { None } else { Some(duration(&key, value)?) };
        }
        if let Some((key, value)) = get("exit-code") {
            let code: u8 = value.parse().map_err(|_| unreadable(&key, value, "a number from 0 to 255"))?;
            self.exit_code = code.into();
        }
        if let Some((key, value)) = get("ignore-term") {
            self.ignore_term = value.parse().map_err(|_| unreadable(&key, value, "true or false"))?;
        }
        if let Some((key, value)) = get("memory") {
            self.memory = value.parse().map_err(|_| unreadable(&key, value, "a number of bytes"))?;
        }
        Ok(())
    }

    fn by_command(&mut self, command: &[&str]) {
        match command {
            [shell, "-c", script, ..] if matches!(program(shell), "sh" | "bash" | "ash") => self.by_script(script),
            ["/bin/busybox" | "busybox", rest @ ..] if !rest.is_empty() => self.by_command(rest),
            _ => {
                self.by_statement(command);
            }
        }
    }

    /// Adds up the statements that it knows; one that it does not know runs as the default says.
    fn by_script(&mut self, script: &str) {
        let default = *self;
        let mut total = Duration::ZERO;
        for statement in script.split([';', '\n']).map(str::trim).filter(|statement| !statement.is_empty()) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            let ended = match words.as_slice() {
                ["exit", code] => {
                    self.exit_code = code.parse().unwrap_or(2) & 255;
                    true
                }
                ["exit"] => true,
                ["echo", ..] => false,
                words if self.by_statement(words) => false,
                _ => {
                    *self = default;
                    return;
                }
            };
            total += self.run_for.take().unwrap_or_default();
            if ended {
                break;
            }
        }
        self.run_for = Some(total);
    }

    fn by_statement(&mut self, words: &[&str]) -> bool {
        let (run_for, code) = match words {
            [name] if program(name) == "true" => (Some(Duration::ZERO), 0),
            [name] if program(name) == "false" => (Some(Duration::ZERO), 1),
            [name, "infinity"] if program(name) == "sleep" => (None, 0),
            [name, seconds] if program(name) == "sleep" => match seconds.parse().map(Duration::try_from_secs_f64) {
                Ok(Ok(seconds)) => (Some(seconds), 0),
                _ => return false,
            },
            _ => return false,
        };
        (self.run_for, self.exit_code) = (run_for, code);
        true
    }
}

fn program(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn duration(key: &str, value: &str) -> Result<Duration, Error> {
    let parsed: Option<SignedDuration> = value.parse().ok();
    parsed.and_then(|d| Duration::try_from(d).ok()).ok_or_else(|| unreadable(key, value, "a duration such as 1m30s"))
}

fn unreadable(key: &str, value: &str, expected: &str) -> Error {
    Error::Invalid { reason: format!("annotation {key}: {value:?} is not {expected}") }
}
