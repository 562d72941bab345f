//! For tests of policies: the engine against the slow, obvious reference.

use std::sync::Arc;

use longshore_core::api::pod::Pod;

use super::Engine;

/// Places these pods again and again under other names, takes every third out, and holds what is said about each of them against
/// [`Engine::explain_by_reference`] all the while.
///
/// # Panics
/// They disagree.
pub(crate) fn agrees_with_reference(engine: &mut Engine, pods: &[Arc<Pod>]) {
    let name = |round: usize| format!("round-{round}");
    for round in 0..24 {
        let mut pod = pods[round * 7 % pods.len()].clone();
        Arc::make_mut(&mut pod).metadata.name = Some(name(round));
        // There may be no room any more, which is to be told as well.
        drop(engine.place(&pod));
        if round % 3 == 2 {
            engine.unplace("default", &name(round / 2));
        }
        for asked in pods {
            let expected = engine.explain_by_reference(asked).unwrap();
            let found = engine.explain(asked).unwrap();
            assert_eq!((found.feasible, found.best), (expected.feasible, expected.best), "round {round}");
        }
    }
}
