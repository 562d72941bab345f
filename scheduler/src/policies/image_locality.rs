//! ImageLocality: nodes that already have the images start pods sooner.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Image;
use longshore_core::scheduling::{ClusterEvent, Cycle, MAX_NODE_SCORE, NodeSet, Policy, Reach, Score, Scores, State};
use smallvec::SmallVec;

const MIB: i64 = 1024 * 1024;
/// Less than this of images on a node is worth nothing.
const LEAST: i64 = 23 * MIB;
/// More than this for each container is worth no more.
const MOST_PER_CONTAINER: i64 = 1000 * MIB;

/// Prefers nodes that have much of the pod's images. An image that few nodes have counts for less, or pods would pile up
/// on those.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageLocality;

impl Policy for ImageLocality {
    fn name(&self) -> &str {
        "ImageLocality"
    }

    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        false
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

impl Score for ImageLocality {
    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let (cluster, images) = (cycle.cluster(), cycle.shape().images());
        let present: SmallVec<[&Image; 2]> = images.iter().filter_map(|name| cluster.image(name)).collect();
        if present.is_empty() {
            return;
        }
        for image in present {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as upstream")]
            let worth = {
                let spread = image.nodes().len() as f64 / cluster.node_count() as f64;
                (image.size() as f64 * spread) as i64
            };
            for node in image.nodes().intersection(nodes).iter() {
                scores.add(node, worth);
            }
        }
        let containers = i64::try_from(images.len()).unwrap_or(i64::MAX);
        let most = MOST_PER_CONTAINER.saturating_mul(containers.max(1));
        for node in nodes.iter() {
            let sum = scores.get(node).clamp(LEAST, most);
            scores.set(node, MAX_NODE_SCORE * (sum - LEAST) / (most - LEAST));
        }
    }

    /// How many nodes have an image, and how many nodes there are, changes the scores of all.
    fn reach(&self) -> Reach {
        Reach::Nodes
    }
}
