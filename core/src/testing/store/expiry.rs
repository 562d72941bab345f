//! Cases about expiry: clause 8.

use super::*;

/// The time to live that the cases give: whole seconds, since some stores count no finer.
const TTL: Duration = Duration::from_secs(2);
const NEARLY: Duration = Duration::from_millis(1_200);

/// Waits for the delete of a key, and answers what it held.
async fn expired(watch: &mut WatchStream, key: &str) -> KeyValue {
    loop {
        for change in next_changes(watch).await.1 {
            if change.key == key && change.value.is_none() {
                assert_eq!(change.created, change.previous.as_ref().unwrap().created);
                return change.previous.unwrap();
            }
        }
    }
}

/// The key goes by an ordinary delete with a revision of its own, and not before its time.
pub async fn clause_8_a_key_is_deleted_after_its_time_and_not_before(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    put(store, "/stays", "").await;
    let put = done(store, Transaction::new().put_with_ttl("/a", "x", TTL).put("/b", "y")).await;
    subject.pass(NEARLY).await;
    assert_eq!(get(store, "/a").await.map(|stored| stored.revision), Some(put));
    subject.pass(TTL - NEARLY).await;
    assert_eq!(expired(&mut watch, "/a").await.revision, put);
    assert_eq!(listed(store, "/", no_options()).await, pairs(&[("/b", "y"), ("/stays", "")]));
    assert_eq!(revision(store).await, put + 1);
    assert_eq!(listed(store, "/a", at(put)).await, pairs(&[("/a", "x")]));
}

/// A later put without a time to live cancels it.
pub async fn clause_8_a_put_without_time_makes_the_key_permanent(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    done(store, Transaction::new().put_with_ttl("/a", "1", TTL).put_with_ttl("/b", "1", TTL)).await;
    put(store, "/a", "2").await;
    subject.pass(TTL).await;
    expired(&mut watch, "/b").await;
    assert_eq!(listed(store, "/", no_options()).await, pairs(&[("/a", "2")]));
}

/// A later put with a time to live starts it anew.
pub async fn clause_8_a_new_time_replaces_the_old(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    done(store, Transaction::new().put_with_ttl("/a", "1", TTL).put_with_ttl("/b", "1", TTL)).await;
    done(store, Transaction::new().put_with_ttl("/a", "2", TTL * 20)).await;
    done(store, Transaction::new().put_with_ttl("/c", "1", TTL * 20)).await;
    done(store, Transaction::new().put_with_ttl("/c", "2", TTL)).await;
    subject.pass(TTL).await;
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let changes = next_changes(&mut watch).await.1;
        gone.extend(changes.into_iter().filter(|change| change.value.is_none()).map(|change| change.key));
    }
    gone.sort();
    assert_eq!(gone, ["/b", "/c"]);
    assert_eq!(listed(store, "/", no_options()).await, pairs(&[("/a", "2")]));
}

/// A key that is deleted and made anew does not inherit its predecessor's time.
pub async fn clause_8_a_deleted_key_takes_its_time_with_it(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    done(store, Transaction::new().put_with_ttl("/a", "1", TTL)).await;
    done(store, Transaction::new().put_with_ttl("/b", "1", TTL)).await;
    delete(store, "/a").await;
    let anew = put(store, "/a", "2").await;
    subject.pass(TTL).await;
    expired(&mut watch, "/b").await;
    assert_eq!(get(store, "/a").await.map(|stored| stored.revision), Some(anew));
}

/// More keys than one commit may hold can run out at one moment.
pub async fn clause_8_many_keys_expire_at_once(subject: Subject) {
    let store = &*subject.store;
    let mut watch = store.watch("/", 1).await.unwrap();
    for group in 0..5 {
        let keys = (0..100).map(|index| format!("/{group}/{index}"));
        done(store, keys.fold(Transaction::new(), |all, key| all.put_with_ttl(key, "", TTL))).await;
    }
    put(store, "/stays", "").await;
    subject.pass(TTL).await;
    let mut gone = 0;
    while gone < 500 {
        gone += next_changes(&mut watch).await.1.iter().filter(|change| change.value.is_none()).count();
    }
    assert_eq!(gone, 500);
    assert_eq!(listed(store, "/", no_options()).await, pairs(&[("/stays", "")]));
}
