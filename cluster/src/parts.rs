//! The long-running parts of a process: started in order, watched, and stopped in the opposite order.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a part said when it ended.
type Ended = Result<(), String>;

#[derive(Debug)]
struct Part {
    name: &'static str,
    cancel: CancellationToken,
    task: JoinSet<Ended>,
}

/// Parts that run. Dropping it aborts them; [`Parts::stop`] lets them end well.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    running: Vec<Part>,
}

impl Parts {
    /// Starts a part, which runs until its token is cancelled.
    pub(crate) fn start<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(part(cancel.clone()));
        self.running.push(Part { name, cancel, task });
    }

    /// Waits until some part ends although nobody asked it to, and says which and why. Never returns while all run.
    pub(crate) async fn broken(&mut self) -> (&'static str, String) {
        std::future::poll_fn(|context| {
            for part in &mut self.running {
                if let std::task::Poll::Ready(Some(ended)) = part.task.poll_join_next(context) {
                    let reason = match ended {
                        Ok(Ok(())) => "it ended although nobody asked it to".to_owned(),
                        Ok(Err(reason)) => reason,
                        Err(error) => error.to_string(),
                    };
                    return std::task::Poll::Ready((part.name, reason));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Stops all parts, the last started first, each when the one before has ended.
    pub(crate) async fn stop(self) {
        for mut part in self.running.into_iter().rev() {
            part.cancel.cancel();
            while let Some(ended) = part.task.join_next().await {
                match ended {
                    Ok(Ok(())) => tracing::debug!(part = part.name, "stopped"),
                    Ok(Err(reason)) => tracing::warn!(part = part.name, reason, "ended badly"),
                    Err(error) => tracing::error!(part = part.name, %error, "broke"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn parts_stop_last_started_first() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut parts = Parts::default();
        for name in ["a", "b", "c"] {
            let order = order.clone();
            parts.start(name, |cancel| async move {
                cancel.cancelled().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        parts.stop().await;
        assert_eq!(*order.lock().unwrap(), ["c", "b", "a"]);
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_is_told() {
        let mut parts = Parts::default();
        parts.start("good", |cancel| async move {
            cancel.cancelled().await;
            Ok(())
        });
        parts.start("bad", |_| async { Err("no disk".to_owned()) });
        assert_eq!(parts.broken().await, ("bad", "no disk".to_owned()));
        parts.stop().await;
    }
}
