//! Whatever happens: no node has more than it takes, and no pod has two places.

use std::collections::BTreeMap;

use longshore_core::scheduling::cluster::ResourceId;
use proptest::prelude::*;

use super::going_on::simulations;
use super::*;

/// Checks after each happening.
#[derive(Default)]
struct Checker {
    /// Where each pod is that was told to have a place.
    places: BTreeMap<String, usize>,
}

impl Observer for Checker {
    fn hear(&mut self, _: Duration, what: &Happening<'_>, cluster: &Cluster) {
        let name = |pod: &Pod| pod.metadata.name.clone().unwrap();
        match what {
            Happening::Placed(placed) => {
                let before = self.places.insert(name(placed.pod), placed.node.index());
                assert_eq!(before, None, "{} has two places", name(placed.pod));
            }
            Happening::Left { pod, node, .. } => {
                assert_eq!(self.places.remove(&name(pod)), Some(node.index()), "{} was elsewhere", name(pod));
            }
            Happening::NodeDown(node) => assert!(!self.places.values().any(|place| *place == node.index())),
            Happening::Attempt(attempt) => {
                assert_eq!(cluster.pod_count(), self.places.len(), "after {attempt:?}");
                room(cluster);
            }
            _ => {}
        }
    }
}

fn room(cluster: &Cluster) {
    for resource in [ResourceId::CPU, ResourceId::MEMORY] {
        for node in cluster.nodes().iter() {
            let has = cluster.allocatable(resource)[node.index()];
            let taken = cluster.requested(resource).get(node.index()).copied().unwrap_or(0);
            assert!(taken <= has, "{taken} of {has} on {node:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Job(u32, u32, u8, i32, bool, bool),
    Cancel(u8),
    Lost(u8),
    Drain(u8),
    Up(u8),
}

fn step() -> impl Strategy<Value = (u16, Step)> {
    let job = (1_u32..6, 1_u32..4, 0_u8..30, 0_i32..3, any::<bool>(), any::<bool>()).prop_map(
        |(count, cores, lasts, priority, gang, serves)| Step::Job(count, cores, lasts, priority, gang, serves),
    );
    let one = prop_oneof![
        6 => job,
        1 => (0_u8..40).prop_map(Step::Cancel),
        1 => (0_u8..4).prop_map(Step::Lost),
        1 => (0_u8..4).prop_map(Step::Drain),
        1 => (0_u8..4).prop_map(Step::Up),
    ];
    (0_u16..3000, one)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_is_given_twice(which in 0_usize..5, steps in prop::collection::vec(step(), 1..60)) {
        let mut events: Events = (0..4).map(|number| at(0.0, node(&format!("n{number}"), 4))).collect();
        let mut millis = 0_u32;
        for (number, (later, step)) in steps.into_iter().enumerate() {
            millis += u32::from(later);
            let what = match step {
                Step::Job(count, cores, lasts, priority, is_gang, serves) => {
                    let tasks = vec![important(task(count, cores, f64::from(lasts)), priority)];
                    let class = if serves { Class::Service } else { Class::Batch };
                    What::Job(Job { class, gang: is_gang, ..job(&format!("j{number}"), tasks) })
                }
                Step::Cancel(number) => What::Cancel(format!("j{number}").into()),
                Step::Lost(number) => What::NodeLost(format!("n{number}").into()),
                Step::Drain(number) => What::Drain(format!("n{number}").into()),
                // Of the same size as before, so that none is too small for its pods.
                Step::Up(number) => node(&format!("n{number}"), 4),
            };
            events.push(at(f64::from(millis) / 1000.0, what));
        }
        let mut checker = Checker::default();
        let ended = simulations()[which].run(profile(), events, None, &mut checker).unwrap();
        prop_assert_eq!(ended.running, checker.places.len());
    }
}
