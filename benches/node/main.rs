//! Measures a node with real containers, as root: `cargo bench --bench node -- [--pods 100,500] [--rounds 20] [--log-mib 1024]
//! [--services 1000,10000] [--shim PROGRAM] [--no-docker] [--json]`.
//!
//! - `bare`: what `runc run` and `runc exec` cost by themselves, and the connection of one network namespace to the bridge,
//!   before and after Longshore's own.
//! - `start`: from the creation of a pod to its phase Running as a watcher sees it, one after the other, its image present;
//!   `ratio` is how many times of `runc run` plus network that is.
//! - `exec`: a command in a container through the runtime.
//! - `crowd`: many pods created at once, until all run; then deleted at once, until nothing is left of them.
//! - `logs`: one container writes so many MiB: how fast, the most that was on the disk meanwhile and what is kept of it.
//! - `docker`: the same pods with a Docker Engine of the bench's own, beside `docker run` and `docker exec`; only where
//!   there is `dockerd`.
//! - `nftables`: rules of so many Services with ten endpoints each; then one endpoint changes.
//!
//! `--shim` has shims be another program's than the bench's own: `target/release/longshore` is linked as it is in use.
//!
//! Everything happens in a network namespace and a mount namespace of the bench's own. It is an error if afterwards a
//! process, a mount, a control group, an interface or a table is left.

#![allow(missing_docs, reason = "a program")]

mod bare;
mod docker;
mod left;
mod logs;
mod nftables;
mod place;
mod pods;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use place::{Place, Wanted};
use serde_json::{Value, json};

/// As in the program `longshore`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const BUSYBOX: &str = "/bin/busybox";

/// Between two things that are measured: right after one that moved a process to another control group, the kernel does the
/// next for a tenth of what it costs otherwise.
pub(crate) const REST: Duration = Duration::from_millis(50);

struct Options {
    /// Sizes of crowds.
    pods: Vec<usize>,
    rounds: usize,
    log_mib: usize,
    docker: bool,
    services: Vec<u16>,
    shim: PathBuf,
    json: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("shim") {
        return longshore_cluster::shim_main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let options = read_options()?;
    if !nix::unistd::geteuid().is_root() {
        return Err("real containers need root".into());
    }
    // Before there is a second thread: namespaces are a thread's own.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    bare::call("mount", &["--make-rprivate", "/"])?;
    bare::call("ip", &["link", "set", "lo", "up"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&options))
}

async fn measure(options: &Options) -> Outcome {
    for size in &options.services {
        let measured = nftables::measure(*size, options.rounds).await?;
        let figures = json!({
            "services": size,
            "endpoints": nftables::ENDPOINTS,
            "set_up_ms": round(measured.set_up.as_secs_f64() * 1e3),
        });
        print(options, "change of an endpoint", "nftables", &measured.changes, figures);
    }
    let mut bare = bare::measure(options.rounds).await?;
    let place = Place::start(Wanted::Runc(&options.shim)).await?;
    let measured = async {
        let singly = pods::singly(&place, options.rounds).await?;
        bare.extend(bare::measure(options.rounds).await?);
        print(options, "runc run", "bare", &bare.run, json!({}));
        print(options, "attach to the bridge", "bare", &bare.attach, json!({}));
        print(options, "runc exec", "bare", &bare.exec, json!({}));
        let base = median(&bare.run) + median(&bare.attach);
        print(options, "start", "longshore", &singly.starts, ratio(&singly.starts, base));
        print(options, "exec", "longshore", &singly.execs, ratio(&singly.execs, median(&bare.exec)));
        for pods in &options.pods {
            crowd(options, &place, *pods).await?;
        }
        if options.log_mib > 0 {
            logs(options, &place).await?;
        }
        Outcome::Ok(())
    };
    let measured = measured.await;
    place.stop().await?;
    measured?;
    if options.docker {
        match docker::measure(options.rounds).await? {
            Ok(docker) => {
                print(options, "docker run", "bare", &docker.run, json!({}));
                print(options, "docker exec", "bare", &docker.exec, json!({}));
                let docker::Measured { run, exec, pods } = docker;
                print(options, "start", "docker", &pods.starts, ratio(&pods.starts, median(&run)));
                print(options, "exec", "docker", &pods.execs, ratio(&pods.execs, median(&exec)));
            }
            Err(reason) => eprintln!("Docker is left out: {reason}"),
        }
    }
    Ok(())
}

async fn crowd(options: &Options, place: &Place, pods: usize) -> Outcome {
    let crowd = pods::crowd(place, pods).await?;
    let figures = json!({
        "what": "crowd",
        "runtime": "longshore",
        "pods": pods,
        "running_seconds": round(crowd.running.as_secs_f64()),
        "pods_per_second": round(pods as f64 / crowd.running.as_secs_f64()),
        "gone_seconds": round(crowd.gone.as_secs_f64()),
        "shim_rss_kib": crowd.shim.rss,
        "shim_pss_kib": crowd.shim.pss,
        "shim_private_kib": crowd.shim.private,
        "agent_kib_per_pod": round(crowd.agent_kib as f64 / pods as f64),
    });
    say(options, &figures);
    Ok(())
}

async fn logs(options: &Options, place: &Place) -> Outcome {
    let logs = logs::measure(place, options.log_mib).await?;
    let mib = |bytes: u64| round(bytes as f64 / f64::from(1 << 20));
    let figures = json!({
        "what": "logs",
        "runtime": "longshore",
        "written_mib": options.log_mib,
        "seconds": round(logs.took.as_secs_f64()),
        "mib_per_second": round(options.log_mib as f64 / logs.took.as_secs_f64()),
        "peak_mib": mib(logs.peak),
        "kept_mib": mib(logs.kept),
        "shim_rss_kib": logs.shim.rss,
        "shim_private_kib": logs.shim.private,
    });
    say(options, &figures);
    Ok(())
}

fn read_options() -> Outcome<Options> {
    let mut options = Options {
        pods: vec![100],
        rounds: 20,
        log_mib: 1024,
        docker: true,
        services: vec![1000, 10_000],
        shim: std::env::current_exe()?,
        json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--pods" => options.pods = value()?.split(',').map(str::parse::<usize>).collect::<Result<_, _>>()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--log-mib" => options.log_mib = value()?.parse()?,
            "--no-docker" => options.docker = false,
            "--services" => options.services = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--shim" => options.shim = std::fs::canonicalize(value()?)?,
            "--json" => options.json = true,
            // Cargo says so itself.
            "--bench" => {}
            other => {
                let known =
                    "--pods N,N, --rounds N, --log-mib N, --services N,N, --shim PROGRAM, --no-docker and --json";
                return Err(format!("unknown argument {other}: there are {known}").into());
            }
        }
    }
    if options.rounds == 0 || !options.pods.iter().all(|pods| (1..=1000).contains(pods)) {
        return Err("--rounds wants at least 1, --pods 1 to 1000".into());
    }
    Ok(options)
}

fn ratio(times: &[Duration], base: Duration) -> Value {
    json!({ "ratio": round(median(times).as_secs_f64() / base.as_secs_f64()) })
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn print(options: &Options, what: &str, runtime: &str, times: &[Duration], more: Value) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| round(times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3);
    let mut figures = json!({
        "what": what, "runtime": runtime, "rounds": times.len(), "p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100),
    });
    if let (Value::Object(figures), Value::Object(more)) = (&mut figures, more) {
        figures.extend(more);
    }
    say(options, &figures);
}

fn say(options: &Options, figures: &Value) {
    if options.json {
        println!("{figures}");
        return;
    }
    let fields = figures.as_object().into_iter().flatten().filter(|(name, _)| !["what", "runtime"].contains(&&***name));
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name} {value}")).collect();
    let text = |name: &str| figures[name].as_str().unwrap_or_default().to_owned();
    println!("{:<10} {:<22} {}", text("runtime"), text("what"), fields.join("   "));
}
