//! Scratch.
#[path = "../../benches/scheduler/decision.rs"]
pub mod decision;
#[path = "../../benches/scheduler/workloads.rs"]
pub mod workloads;
fn main() {
    let only = std::env::args().nth(1);
    let nodes: usize = std::env::args().nth(2).and_then(|t| t.parse().ok()).unwrap_or(5000);
    for w in workloads::WORKLOADS.iter().filter(|w| only.as_deref().is_none_or(|o| o == "all" || w.name == o)) {
        let m = decision::run(w, nodes);
        let us = |p: usize| m.times[(m.times.len() - 1) * p / 100].as_secs_f64() * 1e6;
        println!(
            "{:<28} {nodes:>7} {:>10.0}/s p50 {:>8.1} p99 {:>8.1} max {:>8.1}",
            w.name,
            m.times.len() as f64 / m.seconds,
            us(50),
            us(99),
            us(100)
        );
    }
}
