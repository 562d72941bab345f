//! The conformance suite of `longshore_core::testing::store`, on the embedded store.

use std::sync::Arc;

use longshore_core::clock::VirtualClock;
use longshore_core::store::Store;
use longshore_core::testing::store::Subject;
use longshore_storage_embedded::{EmbeddedStore, Options};

fn subject(options: Options) -> Subject {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let clock = VirtualClock::new();
    let options = Options { clock: Arc::new(clock.clone()), ..options };
    let (path, again) = (directory.path().to_owned(), options.clone());
    Subject::new(Arc::new(EmbeddedStore::open(&path, options).expect("the store opens")))
        .with_clock(clock)
        .with_reopen(Box::new(move || {
            let store: Arc<dyn Store> =
                Arc::new(EmbeddedStore::open(&path, again.clone()).expect("the store opens again"));
            Box::pin(std::future::ready(store))
        }))
        .keeping(directory)
}

mod as_it_comes {
    use super::*;

    longshore_core::store_conformance!(|| async { subject(Options::default()) });
}

/// The file is written with every few commits.
mod with_a_short_log {
    use super::*;

    longshore_core::store_conformance!(|| async {
        subject(Options { log_bytes: 1024, logs_max: 1, ..Options::default() })
    });
}
