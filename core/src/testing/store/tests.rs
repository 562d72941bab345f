//! The suite, run on the store in memory; and a check that the suite's macro lists all of it.

use super::*;
use crate::clock::VirtualClock;
use crate::store::{HistoryLimits, MemoryStore};

mod memory {
    use super::*;

    crate::store_conformance!(|| async {
        let clock = VirtualClock::new();
        let store = MemoryStore::with_clock(Arc::new(clock.clone()), HistoryLimits::default());
        Subject::new(Arc::new(store)).with_clock(clock)
    });
}

mod memory_with_little_history {
    use super::*;

    crate::store_conformance! { @cases || async {
            let limits = HistoryLimits { changes_max: 50, bytes_max: 1 << 20 };
            Arc::new(MemoryStore::with_clock(Arc::new(VirtualClock::new()), limits))
        };
        watches { clause_5_a_slow_watch_skips_nothing }
        invariants { no_acknowledged_commit_is_lost no_increment_is_lost }
        model { random_histories_agree_with_the_model }
    }
}

#[test]
fn every_case_is_listed_in_the_macro() {
    let listed = include_str!("mod.rs");
    let listed = listed.split("macro_rules! store_conformance").nth(1).expect("the macro is in mod.rs");
    let sources = [
        include_str!("commits.rs"),
        include_str!("compaction.rs"),
        include_str!("expiry.rs"),
        include_str!("invariants.rs"),
        include_str!("model.rs"),
        include_str!("reads.rs"),
        include_str!("watches.rs"),
    ];
    let mut cases = 0;
    for line in sources.iter().flat_map(|source| source.lines()) {
        let Some(name) = line.strip_prefix("pub async fn ").and_then(|rest| rest.split('(').next()) else { continue };
        assert!(listed.lines().any(|line| line.trim() == name), "{name} reaches no implementation");
        cases += 1;
    }
    assert!(cases >= 45, "{cases} cases");
}
