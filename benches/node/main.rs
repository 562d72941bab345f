//! Measures a node with real containers: `cargo bench --bench node -- [--pods 100] [--rounds 20] [--services 1000,10000] [--json]`, as
//! root.
//!
//! - `bare`: what `runc run` and `runc exec` cost by themselves, and the connection of one network namespace to the bridge.
//! - `start`: from the creation of a pod to its phase Running as a watcher sees it, one after the other, its image present;
//!   `ratio` is how many times of `runc run` plus network that is.
//! - `exec`: a command in a container through the runtime.
//! - `crowd`: many pods created at once, until all run; then deleted at once, until nothing is left of them.
//! - `nftables`: rules of so many Services with ten endpoints each; then one endpoint changes.
//!
//! Everything happens in a network namespace and a mount namespace of the bench's own, and is gone afterwards.

#![allow(missing_docs, reason = "a program")]

mod bare;
mod nftables;
mod pods;

use std::process::ExitCode;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// As in the program `longshore`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const BUSYBOX: &str = "/bin/busybox";

struct Options {
    pods: usize,
    rounds: usize,
    services: Vec<u16>,
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
    for size in &options.services {
        let measured = runtime.block_on(nftables::measure(*size, options.rounds))?;
        let figures = json!({
            "services": size,
            "endpoints": nftables::ENDPOINTS,
            "set_up_ms": round(measured.set_up.as_secs_f64() * 1e3),
        });
        print(&options, "change of an endpoint", "nftables", &measured.changes, figures);
    }
    let bare = runtime.block_on(bare::measure(options.rounds))?;
    print(&options, "runc run", "bare", &bare.run, json!({}));
    print(&options, "attach to the bridge", "bare", &bare.attach, json!({}));
    print(&options, "runc exec", "bare", &bare.exec, json!({}));
    let measured = runtime.block_on(pods::measure(options.pods, options.rounds))?;
    let base = median(&bare.run) + median(&bare.attach);
    let ratio = median(&measured.starts).as_secs_f64() / base.as_secs_f64();
    print(&options, "start", "longshore", &measured.starts, json!({ "ratio": round(ratio) }));
    let ratio = median(&measured.execs).as_secs_f64() / median(&bare.exec).as_secs_f64();
    print(&options, "exec", "longshore", &measured.execs, json!({ "ratio": round(ratio) }));
    let crowd = measured.crowd;
    let figures = json!({
        "what": "crowd",
        "runtime": "longshore",
        "pods": options.pods,
        "running_seconds": round(crowd.running.as_secs_f64()),
        "pods_per_second": round(options.pods as f64 / crowd.running.as_secs_f64()),
        "gone_seconds": round(crowd.gone.as_secs_f64()),
        "shim_kib": crowd.shim_kib,
        "agent_kib_per_pod": round(crowd.agent_kib as f64 / options.pods as f64),
    });
    say(&options, &figures);
    Ok(())
}

fn read_options() -> Outcome<Options> {
    let mut options = Options { pods: 100, rounds: 20, services: vec![1000, 10_000], json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--pods" => options.pods = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--services" => options.services = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--json" => options.json = true,
            // Cargo says so itself.
            "--bench" => {}
            other => {
                return Err(format!(
                    "unknown argument {other}: there are --pods N, --rounds N, --services N,N and --json"
                )
                .into());
            }
        }
    }
    if options.rounds == 0 || !(1..=1000).contains(&options.pods) {
        return Err("--rounds wants at least 1, --pods 1 to 1000".into());
    }
    Ok(options)
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
