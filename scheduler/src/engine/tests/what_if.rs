//! What would be, and that it does not come to be by asking.

use super::*;

#[test]
fn asking_what_if_places_nothing_and_changes_no_later_decision() {
    let names = ["a", "b", "c"];
    let mut asked = engine_of(Profile::default_scheduler(), TieBreak::Uniform { seed: 7 }, &names);
    let mut other = engine_of(Profile::default_scheduler(), TieBreak::Uniform { seed: 7 }, &names);
    for index in 0..12 {
        let pods: Vec<_> = (0..4).map(|index| asking(&format!("if{index}"), "900m")).collect();
        let generation = asked.cluster().generation();
        asked.what_if(None, &pods);
        assert_eq!((asked.cluster().generation(), asked.cluster().pod_count()), (generation, index));
        let pod = asking(&format!("p{index}"), "500m");
        assert_eq!(asked.place(&pod).unwrap(), other.place(&pod).unwrap());
    }
}

#[test]
fn placements_come_with_reasons_and_sums() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a", "b"]);
    engine.place(&asking("there", "1")).unwrap();
    let pods: Vec<_> = (0..4).map(|index| asking(&format!("p{index}"), "2")).collect();
    let found = engine.what_if(None, &pods);
    let places: Vec<_> = found.placements.iter().map(|found| found.as_ref().ok().map(|found| &*found.node)).collect();
    assert_eq!(places, [Some("b"), Some("a"), Some("b"), None]);
    let why = found.placements[3].as_ref().unwrap_err().to_string();
    assert_eq!(why, "0/2 nodes are available: 2 Insufficient cpu.");
    assert_eq!((found.placed, found.refused, found.nodes_before, found.nodes_after), (3, 1, 1, 2));
    assert_eq!(found.cpu, Utilisation { allocatable: 8000, before: 1000, after: 7000 });
    assert!((found.cpu.part_before() - 0.125).abs() < 1e-9 && (found.cpu.part_after() - 0.875).abs() < 1e-9);
}

#[test]
fn another_profile_tells_how_placed_pods_would_be_packed_anew() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a", "b"]);
    let pods: Vec<_> = (0..2).map(|index| asking(&format!("p{index}"), "1")).collect();
    for pod in &pods {
        engine.place(pod).unwrap();
    }
    let packing = Profile::empty("packing").with(NodeResourcesFit::new(Strategy::most_allocated()));
    let found = engine.what_if(Some(packing), &pods);
    assert_eq!((found.placed, found.nodes_before, found.nodes_after), (2, 2, 1));
    assert_eq!(found.cpu.before, found.cpu.after);
}
