//! A policy that picks a device inside a node and reserves part of it: half a GPU.

use longshore_core::scheduling::{Candidates, Filter, NodeView, Policy, Reach, Reservation, Reserve, State};

use super::*;

const SHARE: &str = "example.com/gpu-percent";
const DEVICE: &str = "example.com/gpu-device";
const GPUS: &str = "example.com/gpus";

/// Pods ask for a share of one GPU by an annotation; nodes say by a label how many GPUs they have.
#[derive(Debug)]
pub(super) struct GpuShares;

fn share(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(SHARE)?.parse().ok()
}

/// The fullest GPU of the node that has this much left: packing keeps whole ones free.
fn pick(node: NodeView<'_>, wanted: u32) -> Option<usize> {
    let count = node.label(GPUS).and_then(|count| count.parse().ok()).unwrap_or(0);
    let mut left = vec![100_u32; count];
    for placed in node.pods() {
        let device = placed.pod().metadata.annotations.as_ref().and_then(|all| all.get(DEVICE)?.parse::<usize>().ok());
        if let (Some(device), Some(share)) = (device, share(placed.pod())) {
            left[device] -= share;
        }
    }
    (0..count).filter(|gpu| left[*gpu] >= wanted).min_by_key(|gpu| left[*gpu])
}

impl Policy for GpuShares {
    fn name(&self) -> &str {
        "GpuShares"
    }
    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
    fn as_reserve(&self) -> Option<&dyn Reserve> {
        Some(self)
    }
}

impl Filter for GpuShares {
    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        let Some(wanted) = share(cycle.pod()) else { return };
        for node in candidates.nodes().clone().iter() {
            if pick(cycle.node(node), wanted).is_none() {
                candidates.refuse(node, Refusal::unschedulable("Insufficient GPU share"));
            }
        }
    }
    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl Reserve for GpuShares {
    fn reserve(&self, cycle: Cycle<'_>, node: NodeId, reservation: &mut Reservation) -> Result<(), Refusal> {
        let Some(wanted) = share(cycle.pod()) else { return Ok(()) };
        let gpu = pick(cycle.node(node), wanted).ok_or_else(|| Refusal::unschedulable("no GPU is left"))?;
        reservation.annotations.insert(DEVICE.to_owned(), gpu.to_string());
        Ok(())
    }
}

fn wanting(name: &str, percent: u32) -> Arc<Pod> {
    let mut pod = Pod::clone(&asking(name, "100m"));
    pod.metadata.annotations = Some([(SHARE.to_owned(), percent.to_string())].into());
    Arc::new(pod)
}

#[test]
fn halves_of_gpus_are_handed_out_and_given_back() {
    let mut engine = Engine::new(Profile::default_scheduler().with(GpuShares), TieBreak::ByName);
    engine.cluster_mut().put_node(node_with("a", "4", json!({ GPUS: "2" }), json!([])));
    let device = |engine: &mut Engine, name: &str, percent| -> Result<String, String> {
        let placement = engine.place(&wanting(name, percent)).map_err(|error| error.to_string())?;
        Ok(placement.annotations[DEVICE].clone())
    };
    assert_eq!(device(&mut engine, "p1", 50).unwrap(), "0");
    assert_eq!(device(&mut engine, "p2", 60).unwrap(), "1");
    assert_eq!(device(&mut engine, "p3", 50).unwrap(), "0");
    // 40 are left, but on one GPU only.
    let none = "0/1 nodes are available: 1 Insufficient GPU share.";
    assert_eq!(device(&mut engine, "p4", 50).unwrap_err(), none);
    assert_eq!(device(&mut engine, "p5", 40).unwrap(), "1");
    assert!(engine.unplace("default", "p1"));
    assert_eq!(device(&mut engine, "p4", 50).unwrap(), "0");
}
