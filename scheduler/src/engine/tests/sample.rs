//! Samples: always feasible, always the same, and told what they cost.

use super::*;

fn engine(sampling: Option<Sampling>, nodes: usize, seed: u64) -> Engine {
    let shade = per_node::score("Shade", |_, node| node.name()[1..].parse::<i64>().unwrap_or(0) % 97);
    let mut profile = Profile::default_scheduler().with(shade);
    if let Some(sampling) = sampling {
        profile = profile.with_sampling(sampling);
    }
    let mut engine = Engine::new(profile, TieBreak::Uniform { seed });
    for index in 0..nodes {
        // Every third has no room.
        engine.cluster_mut().put_node(node(&format!("n{index}"), if index % 3 == 0 { "50m" } else { "4" }));
    }
    engine
}

fn place(engine: &mut Engine, pods: usize) -> Vec<Placement> {
    (0..pods).map(|index| engine.place(&pod(&format!("p{index}"), json!({}))).unwrap()).collect()
}

#[test]
fn so_many_nodes_are_enough_as_upstream_says() {
    let adaptive = [(50, 50), (99, 99), (100, 100), (150, 100), (1000, 420), (5000, 500), (6000, 300), (100_000, 5000)];
    for (nodes, found) in adaptive {
        assert_eq!(Sampling::Adaptive.nodes_to_find(nodes), found, "of {nodes}");
    }
    for (percentage, nodes, found) in
        [(40, 1000, 400), (1, 1000, 100), (100, 1000, 1000), (255, 1000, 1000), (40, 10, 10)]
    {
        assert_eq!(Sampling::Percent(percentage).nodes_to_find(nodes), found, "{percentage} % of {nodes}");
    }
}

#[test]
fn sampled_decisions_are_feasible_and_say_what_they_cost() {
    let mut exact = engine(None, 900, 7);
    let mut engine = engine(Some(Sampling::Percent(20)), 900, 7);
    let mut lost = 0;
    for index in 0..200 {
        let pod = pod(&format!("p{index}"), json!({}));
        let before: BTreeMap<String, i64> =
            engine.explain(&pod).unwrap().feasible.into_iter().map(|node| (node.node, node.total)).collect();
        let placement = engine.place(&pod).unwrap();
        let sampled = placement.sampled.unwrap();
        assert_eq!(
            before.get(&placement.node),
            Some(&sampled.chosen_score),
            "feasible, and scored as exact decisions are"
        );
        assert_eq!(Some(sampled.best_score), before.values().copied().max());
        assert_eq!(placement.score, sampled.chosen_score);
        // 180 feasible ones; a third of all nodes is not.
        assert!((268..=272).contains(&sampled.looked_at), "{sampled:?}");
        lost += sampled.loss();
        assert_eq!(exact.place(&pod).unwrap().sampled, None);
    }
    assert!(lost > 0, "a part of the nodes does not always have the best one");
}

#[test]
fn the_same_seed_gives_the_same_decisions() {
    for sampling in [Sampling::Adaptive, Sampling::Percent(20)] {
        let run = |seed| place(&mut engine(Some(sampling), 600, seed), 100);
        assert_eq!(run(3), run(3));
    }
}

#[test]
fn a_sample_of_everything_costs_nothing() {
    for (sampling, nodes) in [(Sampling::Percent(100), 600), (Sampling::Adaptive, 90)] {
        let sampled = place(&mut engine(Some(sampling), nodes, 3), 100);
        assert!(sampled.iter().all(|placement| placement.sampled.unwrap().loss() == 0));
        let scores = |placements: &[Placement]| placements.iter().map(|placement| placement.score).collect::<Vec<_>>();
        assert_eq!(scores(&sampled), scores(&place(&mut engine(None, nodes, 3), 100)));
    }
}

#[test]
fn samples_go_round_so_that_no_node_is_left_out_for_ever() {
    let mut engine = engine(Some(Sampling::Percent(20)), 900, 7);
    let nodes: std::collections::BTreeSet<NodeId> =
        place(&mut engine, 12).iter().map(|placement| placement.id).collect();
    let thirds: std::collections::BTreeSet<usize> = nodes.iter().map(|node| node.index() / 300).collect();
    assert_eq!(thirds.len(), 3, "{nodes:?}");
    // Nodes that went are passed over, wherever the sample begins.
    for index in 100..900 {
        engine.cluster_mut().remove_node(&format!("n{index}"));
    }
    assert!(place(&mut engine, 30).iter().all(|placement| placement.id.index() < 100));
}
