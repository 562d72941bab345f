//! Processes beside a container's own.

use std::sync::Arc;

use bollard::models::{ExecConfig, ExecInspectResponse};
use futures::stream::{self, StreamExt};
use longshore_core::runtime::{ContainerRef, ContainerState, Error, ExecRequest, Output, Session};
use tokio::net::unix::OwnedWriteHalf;

use crate::engine::{Engine, failed, status};
use crate::hijack::{Refused, hijack};
use crate::session;
use crate::streams::{Said, Terminal, input};

/// What ended with its container, though the engine did not notice.
const KILLED: i32 = 137;

/// How often the engine is asked about a process whose container has ended.
const LOOKS_AFTER_END: u32 = 100;

/// A process that runs; it is killed when this is dropped before it has ended.
#[derive(Debug)]
struct Running {
    engine: Arc<Engine>,
    id: String,
    name: ContainerRef,
    /// The process, once it is known.
    leader: Option<session::Leader>,
    over: bool,
}

/// Runs a process in a container that runs; it ends with the session.
pub(crate) async fn exec(engine: &Arc<Engine>, name: &ContainerRef, request: &ExecRequest) -> Result<Session, Error> {
    let found = engine.running("exec in", name).await?;
    if request.command.is_empty() {
        return Err(Error::Invalid { reason: "no command specified".to_owned() });
    }
    let begun = begin(engine.clone(), name.clone(), found.container.id, request.clone());
    // If nobody waits for it any more, what has begun is dropped, and so ends.
    let (said, writer, running) = engine.finish(begun).await?;
    let terminal = if request.tty { Terminal::Exec(running.id.clone()) } else { Terminal::None };
    let (mut wanted, takes_input) = (Some(writer), request.stdin || request.tty);
    if !request.stdin
        && let Some(unwanted) = wanted.take()
    {
        unwanted.forget();
    }
    let input = takes_input.then(|| input(engine, wanted, !request.tty, terminal));
    let output = stream::unfold(Some((said, running)), |state| async move {
        let (mut said, mut running) = state?;
        // A broken connection is the end of it, too.
        match said.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some((said, running)))),
            Ok(None) | Err(_) => Some((running.exit().await, None)),
        }
    });
    Ok(Session { input, output: output.boxed() })
}

type Begun = (Said, OwnedWriteHalf, Running);

async fn begin(
    engine: Arc<Engine>,
    name: ContainerRef,
    container: String,
    request: ExecRequest,
) -> Result<Begun, Error> {
    let operation = format!("exec in container {name}");
    let config = ExecConfig {
        attach_stdin: Some(request.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(request.tty),
        cmd: Some(request.command.clone()),
        ..ExecConfig::default()
    };
    let gone = |status: u16| match status {
        404 => Some(Error::NotFound { what: format!("container {name}") }),
        409 => Some(Error::WrongState {
            operation: "exec in".to_owned(),
            what: format!("container {name}"),
            state: "not running".to_owned(),
        }),
        _ => None,
    };
    let created = engine.client.create_exec(&container, config).await;
    let refused = |error| gone(status(&error)).unwrap_or_else(|| engine.failed(operation.clone(), &error));
    let id = created.map_err(refused)?.id;
    let holder = session::holder().map_err(failed(operation.clone()))?;
    engine.notes.note_exec(&id, &holder).map_err(failed(operation.clone()))?;
    let mut running = Running { engine: engine.clone(), id, name: name.clone(), leader: None, over: false };
    let body = serde_json::json!({"Detach": false, "Tty": request.tty}).to_string();
    let path = engine.path(&format!("/exec/{}/start", running.id));
    let (reader, writer) = hijack(&engine.socket, &path, &body).await.map_err(|refused| match refused {
        Refused::Status(status, reason) => gone(status).unwrap_or_else(|| failed(operation.clone())(reason)),
        Refused::Io(error) => failed(operation.clone())(error),
    })?;
    let mut said = Said::new(reader, request.tty);
    let begun = || async {
        let seen = running.inspect().await?;
        let pid = seen.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let ended = seen.running == Some(false) && seen.exit_code.is_some();
        Ok(if pid.is_some() || ended { Some(pid) } else { None })
    };
    let Some(pid) = engine.until(operation, begun).await? else {
        // It could not be started; why is all that it says.
        running.forget();
        return Err(Error::Invalid { reason: said.rest().await });
    };
    running.leader = Some(session::Leader::new(pid));
    Ok((said, writer, running))
}

impl Running {
    async fn inspect(&self) -> Result<ExecInspectResponse, Error> {
        let seen = self.engine.client.inspect_exec(&self.id).await;
        seen.map_err(|error| match status(&error) {
            404 => Error::NotFound { what: format!("process {}", self.id) },
            _ => self.engine.failed("follow a process", &error),
        })
    }

    /// The exit code, once it is known; nothing more is said then.
    async fn exit(&mut self) -> Result<Output, Error> {
        let mut looks = 0;
        loop {
            match self.inspect().await {
                Ok(seen) if seen.running == Some(false) => {
                    self.forget();
                    let code = seen.exit_code.and_then(|code| i32::try_from(code).ok());
                    return Ok(Output::Exit(code.unwrap_or(KILLED)));
                }
                Ok(_) => {}
                // It went with its container.
                Err(Error::NotFound { .. }) => {
                    self.forget();
                    return Ok(Output::Exit(KILLED));
                }
                Err(error) => return Err(error),
            }
            let found = self.engine.find(&self.name).await;
            if !found.is_ok_and(|found| matches!(found.container.state, ContainerState::Running { .. })) {
                looks += 1;
                if looks > LOOKS_AFTER_END {
                    return Ok(Output::Exit(KILLED));
                }
            }
            self.engine.clock.sleep(crate::engine::LOOK).await;
        }
    }

    /// There is nothing to kill any more.
    fn forget(&mut self) {
        self.over = true;
        self.engine.notes.forget_exec(&self.id);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let (engine, id, leader) = (self.engine.clone(), self.id.clone(), self.leader);
            self.engine.spawn(async move { engine.end_exec(&id, leader).await });
        }
    }
}

impl Engine {
    /// Kills an exec'd process with its session.
    async fn end_exec(&self, id: &str, leader: Option<session::Leader>) {
        let leader = match leader {
            Some(leader) => Some(leader),
            None => {
                let look = || async {
                    let Ok(seen) = self.client.inspect_exec(id).await else { return Ok(Some(None)) };
                    let pid = seen.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
                    // One that was never started has neither.
                    Ok(if pid.is_some() || seen.running == Some(false) { Some(pid) } else { None })
                };
                let pid = self.until("end a process".to_owned(), look).await.ok().flatten();
                pid.map(session::Leader::new)
            }
        };
        if let Some(leader) = leader {
            // A panic in it has been told of.
            let _ = tokio::task::spawn_blocking(move || session::kill(leader)).await;
        }
        self.notes.forget_exec(id);
    }

    /// Ends processes whose holder was killed.
    pub(crate) async fn end_left_execs(&self) {
        for (id, holder) in self.notes.execs_held() {
            if !session::lives(&holder) {
                self.end_exec(&id, None).await;
            }
        }
    }
}
