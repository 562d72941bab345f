//! The conformance suite of `longshore_core::testing::store`, on etcd with one member and with three.

mod support;

use std::sync::Arc;

use longshore_core::store::{MemoryStore, Store};
use longshore_core::testing::store::Subject;
use longshore_storage_etcd::Options;
use support::Cluster;

async fn subject(members: usize) -> Subject {
    if !support::is_installed() {
        // It has been told as skipped; the case needs a store all the same.
        return Subject::new(Arc::new(MemoryStore::new()));
    }
    let cluster = Cluster::start(members).await;
    let (store, urls) = (cluster.open().await, cluster.urls().to_vec());
    Subject::new(Arc::new(store))
        .with_reopen(Box::new(move || {
            let urls = urls.clone();
            Box::pin(async {
                let store: Arc<dyn Store> = Arc::new(support::open(Options::new(urls)).await);
                store
            })
        }))
        .keeping(cluster)
}

mod one_member {
    longshore_core::store_conformance!(|| crate::subject(1));
}

mod three_members {
    longshore_core::store_conformance!(|| crate::subject(3));
}
