//! What Docker costs: by itself, and below pods.

use std::time::Duration;

use longshore_core::clock::{Clock, SystemClock};
use longshore_runtime_docker::testing::{EngineNetwork, OwnEngine};

use crate::bare::call;
use crate::place::{IMAGE, Place, Wanted};
use crate::{BUSYBOX, Outcome, REST, pods};

pub(crate) struct Measured {
    /// `docker run`.
    pub(crate) run: Vec<Duration>,
    /// `docker exec`.
    pub(crate) exec: Vec<Duration>,
    pub(crate) pods: pods::Singly,
}

/// Measures an engine of its own, or says why there can be none.
pub(crate) async fn measure(rounds: usize) -> Outcome<Result<Measured, String>> {
    // With the bridge that it has by default: the network is part of what it costs.
    let engine = match OwnEngine::start(EngineNetwork::CallersWithRules) {
        Ok(engine) => engine,
        Err(reason) => return Ok(Err(reason)),
    };
    let place = Place::start(Wanted::Docker(&engine.host())).await?;
    let measured = async {
        let (run, exec) = bare(&engine.host(), rounds).await?;
        Outcome::Ok(Measured { run, exec, pods: pods::singly(&place, rounds).await? })
    };
    let measured = measured.await;
    place.stop().await?;
    measured.map(Ok)
}

async fn bare(host: &str, rounds: usize) -> Outcome<(Vec<Duration>, Vec<Duration>)> {
    let clock = SystemClock::new();
    let (mut run, mut exec) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let name = format!("longshore-bench-{round}");
        let before = clock.elapsed();
        call("docker", &["-H", host, "run", "--detach", "--name", &name, IMAGE, BUSYBOX, "sleep", "1000000"])?;
        run.push(clock.elapsed() - before);
        clock.sleep(REST).await;
        let before = clock.elapsed();
        call("docker", &["-H", host, "exec", &name, BUSYBOX, "true"])?;
        exec.push(clock.elapsed() - before);
        call("docker", &["-H", host, "rm", "--force", &name])?;
        clock.sleep(REST).await;
    }
    Ok((run, exec))
}
