//! Measures the cluster of tests: `cargo bench --features testing --bench cluster [-- --json] [-- --rounds 200]`.
//!
//! How long `testing::Cluster::start` takes, and how long it takes from there to a pod that runs.

use std::time::Duration;

use longshore::core::api::Pod;
use longshore::core::client::params::PostParams;
use longshore::core::clock::{Clock, SystemClock};
use longshore::testing::Cluster;
use serde_json::{from_value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (mut json, mut rounds) = (false, 200);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--rounds" => rounds = arguments.next().ok_or("--rounds wants a number")?.parse()?,
            // Cargo says so itself.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}: there are --json and --rounds N").into()),
        }
    }
    if rounds == 0 {
        return Err("--rounds wants at least 1".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut starts, mut pods) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (start, pod) = runtime.block_on(round())?;
        starts.push(start);
        pods.push(pod);
    }
    for (what, times) in [("start", starts), ("start to running pod", pods)] {
        print(what, times, json);
    }
    Ok(())
}

/// One cluster: the time of its start, and until its first pod runs.
async fn round() -> Outcome<(Duration, Duration)> {
    let clock = SystemClock::new();
    let begin = clock.elapsed();
    let cluster = Cluster::start().await;
    let start = clock.elapsed() - begin;
    let pod: Pod = from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]},
    }))?;
    cluster.api::<Pod>("default").create(pod, &PostParams::default()).await?;
    cluster.until("default", "web", |pod: &Pod| pod.status.phase.as_str() == "Running").await;
    let pod = clock.elapsed() - begin;
    cluster.stop().await;
    Ok((start, pod))
}

fn print(what: &str, mut times: Vec<Duration>, json: bool) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    if json {
        println!(
            "{}",
            json!({"what": what, "rounds": times.len(), "p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100)})
        );
    } else {
        println!("{what:<24} p50 {:8.3} ms   p99 {:8.3} ms   max {:8.3} ms", at(50), at(99), at(100));
    }
}
