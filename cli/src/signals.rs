//! Ctrl-C and SIGTERM.

use longshore_cluster::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs `work` with a token that the first Ctrl-C, SIGTERM or SIGHUP cancels.
pub(crate) async fn until_asked<T>(work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>) -> Result<T, Error> {
    let listen = |kind: SignalKind| {
        signal(kind).map_err(|error| Error::Part { part: "signals", reason: format!("cannot listen: {error}") })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let cancel = CancellationToken::new();
    let asked = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        cancel.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = work(cancel.clone()) => done,
        () = asked => unreachable!("waits for ever"),
    }
}
