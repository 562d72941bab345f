//! Cases about reading: clause 2, and the new store of clause 1.

use std::collections::BTreeMap;

use super::*;

/// A new store holds nothing, has forgotten nothing, and is at revision 1.
pub async fn clause_1_a_new_store_is_empty_at_revision_1(subject: Subject) {
    let store = &*subject.store;
    let status = store.status().await.unwrap();
    assert_eq!((status.revision, status.compacted), (1, 0));
    let page = store.list("", no_options()).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.revision), (0, false, 1));
    let got = store.get("/a").await.unwrap();
    assert_eq!((got.value, got.revision), (None, 1));
    assert_eq!(listed(store, "", at(1)).await, pairs(&[]));
}

/// What was acknowledged can be got, with its revisions.
pub async fn clause_2_a_get_sees_every_acknowledged_commit(subject: Subject) {
    let store = &*subject.store;
    for round in 0..20 {
        let value = format!("value {round}");
        let revision = put(store, "/a", &value).await;
        let got = store.get("/a").await.unwrap();
        let expected = KeyValue { key: "/a".to_owned(), value: value.into(), revision, created: 2 };
        assert_eq!(got.value, Some(expected));
        assert_eq!(got.revision, revision);
    }
    delete(store, "/a").await;
    assert_eq!(get(store, "/a").await, None);
}

/// Lists are ordered by the bytes of the key.
pub async fn clause_2_a_list_is_in_key_order_and_sees_every_acknowledged_commit(subject: Subject) {
    let store = &*subject.store;
    let keys = ["/p/b", "/p/a", "/p/Z", "/p/a/b", "/p/a-b", "/p/é", "/p/a.b", "/p/10", "/p/9"];
    for (index, key) in keys.iter().enumerate() {
        let revision = put(store, key, &index.to_string()).await;
        let page = store.list("/p/", no_options()).await.unwrap();
        assert_eq!((page.entries.len(), page.revision, page.more), (index + 1, revision, false));
        assert!(page.remaining.is_none_or(|remaining| remaining == 0));
    }
    let mut expected: Vec<&str> = keys.to_vec();
    expected.sort_unstable();
    let got: Vec<String> = listed(store, "/p/", no_options()).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(got, expected);
}

/// `/a` covers `/a0`; `/a/` does not; no prefix swallows its neighbours.
pub async fn clause_2_a_prefix_is_bytes_and_ends_where_it_ends(subject: Subject) {
    let store = &*subject.store;
    for key in ["/a", "/a/", "/a/x", "/a0", "/a0/x", "/b", "/\u{7f}", "/a/\u{10ffff}", "/a\u{10ffff}"] {
        put(store, key, "").await;
    }
    let keys = async |prefix: &str| -> Vec<String> {
        listed(store, prefix, no_options()).await.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("/a/").await, ["/a/", "/a/x", "/a/\u{10ffff}"]);
    assert_eq!(keys("/a").await, ["/a", "/a/", "/a/x", "/a/\u{10ffff}", "/a0", "/a0/x", "/a\u{10ffff}"]);
    assert_eq!(keys("/a0").await, ["/a0", "/a0/x"]);
    assert_eq!(keys("/a/\u{10ffff}").await, ["/a/\u{10ffff}"]);
    assert_eq!(keys("/c").await, [""; 0]);
    assert_eq!(keys("").await.len(), 9);
    assert_eq!(keys("/b").await, ["/b"]);
}

/// Walking by pages of any size visits every key once, and says whether more remain.
pub async fn clause_2_pages_cover_every_key_once(subject: Subject) {
    let store = &*subject.store;
    let keys: Vec<String> = (0..25).map(|index| format!("/p/{index:03}")).collect();
    for chunk in keys.chunks(10) {
        done(store, chunk.iter().fold(Transaction::new(), |all, key| all.put(key.clone(), "v"))).await;
    }
    put(store, "/q/after", "").await;
    for limit in [1, 2, 7, 24, 25, 26, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let options = ListOptions { revision: None, limit, after: after.clone() };
            let page = store.list("/p/", options).await.unwrap();
            assert!(page.entries.len() <= limit, "a page of {limit} holds {}", page.entries.len());
            seen.extend(page.entries.iter().map(|entry| entry.key.clone()));
            let remaining = keys.len() - seen.len();
            assert_eq!(page.more, remaining > 0, "limit {limit}, seen {}", seen.len());
            assert!(page.remaining.is_none_or(|told| told == remaining as u64));
            if !page.more {
                break;
            }
            assert_eq!(page.entries.len(), limit, "a page with more to come is full");
            after = page.entries.last().map(|entry| entry.key.clone());
        }
        assert_eq!(seen, keys, "limit {limit}");
    }
}

/// `after` need not be a key that exists, and may lie outside the prefix.
pub async fn clause_2_a_page_may_start_anywhere(subject: Subject) {
    let store = &*subject.store;
    for key in ["/p/a", "/p/c", "/q/a"] {
        put(store, key, "").await;
    }
    let keys = async |after: &str| -> Vec<String> {
        let options = ListOptions { after: Some(after.to_owned()), ..no_options() };
        listed(store, "/p/", options).await.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("/p/a").await, ["/p/c"]);
    assert_eq!(keys("/p/b").await, ["/p/c"]);
    assert_eq!(keys("/p/c").await, [""; 0]);
    assert_eq!(keys("/q").await, [""; 0]);
    assert_eq!(keys("/p/").await, ["/p/a", "/p/c"]);
    assert_eq!(keys("/o").await, ["/p/a", "/p/c"]);
    assert_eq!(keys("").await, ["/p/a", "/p/c"]);
}

/// Every past revision can be listed as it was, with the revisions of then.
pub async fn clause_2_a_list_at_a_past_revision_shows_the_past(subject: Subject) {
    let store = &*subject.store;
    let mut now: BTreeMap<String, KeyValue> = BTreeMap::new();
    let mut past = vec![(1, now.clone())];
    for step in 0..60_usize {
        let key = format!("/p/{}", step * 7 % 11);
        let revision = if step % 3 == 2 && now.contains_key(&key) {
            now.remove(&key);
            delete(store, &key).await
        } else {
            let value = format!("{step}");
            let revision = put(store, &key, &value).await;
            let created = now.get(&key).map_or(revision, |old| old.created);
            now.insert(key.clone(), KeyValue { key, value: value.into(), revision, created });
            revision
        };
        past.push((revision, now.clone()));
    }
    for (revision, expected) in past {
        let page = store.list("/p/", at(revision)).await.unwrap();
        assert_eq!(page.revision, revision);
        assert_eq!(page.entries, expected.into_values().collect::<Vec<_>>(), "at {revision}");
    }
}

/// A listing that names its first page's revision shows that revision to its end.
pub async fn clause_2_pages_at_one_revision_ignore_what_happens_meanwhile(subject: Subject) {
    let store = &*subject.store;
    for index in 0..10 {
        put(store, &format!("/p/{index}"), "old").await;
    }
    let first = store.list("/p/", ListOptions { limit: 3, ..no_options() }).await.unwrap();
    let mut entries = first.entries.clone();
    for index in 0..10 {
        match index % 3 {
            0 => delete(store, &format!("/p/{index}")).await,
            1 => put(store, &format!("/p/{index}"), "new").await,
            _ => put(store, &format!("/p/{index}x"), "new").await,
        };
    }
    loop {
        let after = entries.last().map(|entry| entry.key.clone());
        let page = store.list("/p/", ListOptions { revision: Some(first.revision), limit: 3, after }).await.unwrap();
        assert_eq!(page.revision, first.revision);
        entries.extend(page.entries);
        if !page.more {
            break;
        }
    }
    let expected: Vec<_> = (0..10).map(|index| (format!("/p/{index}"), "old".to_owned())).collect();
    assert_eq!(texts(&entries), expected);
}

/// Nobody can read what has not happened.
pub async fn clause_2_a_future_revision_is_refused(subject: Subject) {
    let store = &*subject.store;
    let current = put(store, "/a", "").await;
    assert_eq!(store.list("/", at(current + 1)).await, Err(Error::FutureRevision { requested: current + 1, current }));
    assert_eq!(listed(store, "/", at(current)).await, pairs(&[("/a", "")]));
}
