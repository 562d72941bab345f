//! A policy of one's own, nodes with few GPUs first, tried on a trace: `cargo run --example own_policy --features simulator`.

use std::path::Path;

use longshore::core::scheduling::{Cycle, NodeSet, Policy, Reach, Score, Scores, State};
use longshore::simulator::{Packing, Placement, openb, what_fits};

#[derive(Debug)]
struct SmallNodesFirst;

impl Policy for SmallNodesFirst {
    fn name(&self) -> &str {
        "SmallNodesFirst"
    }
    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

impl Score for SmallNodesFirst {
    fn score(&self, cycle: Cycle<'_>, _: &State, nodes: &NodeSet, scores: &mut Scores) {
        let gpus = |node| cycle.node(node).allocatable("longshore.dev/gpu");
        nodes.iter().for_each(|node| scores.add(node, 100 - gpus(node).min(100)));
    }
    fn reach(&self) -> Reach {
        Reach::Node // The score depends on the node alone, so it is remembered until the node changes.
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulator/testdata/openb");
    let machines = &openb::machines(&trace.join("nodes.csv"))?;
    let requests = &openb::requests(&trace.join("default.csv"))?;
    let packing = Packing { machines, requests, placement: Placement::Random, tune: Some(1.3), seed: 42 };
    let ours = packing.run_with(|_, _, _| what_fits("small-nodes-first").with(SmallNodesFirst), |_, _| ())?;
    let (random, ours) = (packing.run(|_, _| ())?.gpu_allocation_percent, ours.gpu_allocation_percent);
    println!("of all GPUs are in use: {random:.2} % by chance, {ours:.2} % with small nodes first");
    Ok(())
}
