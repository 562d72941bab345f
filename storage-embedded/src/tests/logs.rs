//! What is in logs and in the file, and when it goes from one to the other.

use super::*;

/// The files of a store that was killed while the log had commits that the file had not.
async fn killed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    fill(&store, 0, 10).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in [FILE, "log-0"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_log_may_end_anywhere_but_not_miss_anything() {
    let whole = killed().await;
    let raw = std::fs::read(whole.path().join("log-0")).unwrap();
    // Ten frames of a header, and a value of 4,000 bytes with its key.
    let frame = 4096;
    let opened = async |raw: &[u8]| {
        std::fs::write(whole.path().join("log-0"), raw).unwrap();
        // The file as it was, without what an earlier opening brought there.
        let copy = tempfile::tempdir().unwrap();
        for name in [FILE, "log-0"] {
            std::fs::copy(whole.path().join(name), copy.path().join(name)).unwrap();
        }
        let store = open(copy.path()).map_err(|error| error.to_string())?;
        Ok::<_, String>(store.status().await.unwrap().keys.unwrap())
    };
    assert_eq!(opened(&raw).await, Ok(10));
    for (end, keys) in [(512 + 3 * frame, 3), (512 + 3 * frame + 100, 3), (512 + 4 * frame - 1000, 3), (512, 0)] {
        assert_eq!(opened(&raw[..end]).await, Ok(keys), "cut at {end}");
        let mut zeros = raw.clone();
        zeros[end..].fill(0);
        assert_eq!(opened(&zeros).await, Ok(keys), "zeros from {end}");
    }
    for damaged in [512, 512 + 40, 512 + 2 * frame + 17, 512 + 5 * frame + 3000, 10] {
        let mut flipped = raw.clone();
        flipped[damaged] ^= 1;
        let refused = opened(&flipped).await.unwrap_err();
        assert!(refused.contains("is damaged"), "a bit at {damaged}: {refused}");
    }
    // The last frame of all cannot be told from one that was never finished.
    let mut flipped = raw.clone();
    flipped[512 + 9 * frame + 100] ^= 1;
    assert_eq!(opened(&flipped).await, Ok(9));
}

#[tokio::test]
async fn a_log_that_is_missing_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { log_bytes: 8 << 10, ..Options::default() };
    let store = EmbeddedStore::open(directory.path(), options).unwrap();
    fill(&store, 0, 200).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join(FILE), copy.path().join(FILE)).unwrap();
    let refused = open(copy.path()).unwrap_err().to_string();
    assert!(refused.contains("is missing"), "{refused}");
}

#[tokio::test]
async fn a_closed_store_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    fill(&store, 0, 20).await.unwrap();
    store.close().await;
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE]);
    assert_eq!(open(directory.path()).unwrap().status().await.unwrap().keys, Some(20));
}

/// 500 nodes' leases, renewed 200,000 times in all: 144 MB of them.
#[tokio::test]
async fn heartbeats_leave_the_files_small() {
    const LOG: u64 = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let options = Options { log_bytes: LOG, logs_max: 3, ..Options::default() };
    // The log that is written, which waits for the file at twice its bytes; four before it and one to reuse; all filled
    // ahead by as much; and the file.
    let ceiling = 3 * LOG + 5 * 2 * LOG + 2 * LOG;
    let store = EmbeddedStore::open(directory.path(), options).unwrap();
    let mut highest = 0;
    for round in 0..400_u32 {
        for nodes in (0..500).collect::<Vec<_>>().chunks(125) {
            let put = |all: Transaction, node: &i32| all.put(format!("/leases/{node}"), vec![round as u8; 600]);
            store.commit(nodes.iter().fold(Transaction::new(), put)).await.unwrap();
        }
        let bytes = store.status().await.unwrap().bytes.unwrap();
        highest = highest.max(bytes);
        assert!(bytes < ceiling, "{bytes} bytes after {round} rounds");
    }
    store.close().await;
    let bytes = std::fs::metadata(directory.path().join(FILE)).unwrap().len();
    assert!(bytes < 3 << 20, "{bytes} bytes for 300,000 bytes of leases, {highest} while they were renewed");
}

/// Large values that stay, among others that change again and again, so that logs are used anew: each is found wherever it is.
#[tokio::test]
async fn values_are_read_from_the_logs_until_the_file_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { log_bytes: 16 << 10, logs_max: 3, cache_bytes: 0, ..Options::default() };
    let value = |key: usize, round: usize| vec![b'a' + ((key * 7 + round) % 26) as u8; 1000 + key * 300];
    let mut expected = BTreeMap::new();
    let store = EmbeddedStore::open(directory.path(), options.clone()).unwrap();
    for round in 0..60 {
        for key in (0..10).filter(|key| round % (1 + key * 3) == 0) {
            store.commit(Transaction::new().put(format!("/{key}"), value(key, round))).await.unwrap();
            expected.insert(format!("/{key}"), value(key, round));
        }
        let page = store.list("/", ListOptions::default()).await.unwrap();
        let found: BTreeMap<_, _> = page.entries.iter().map(|one| (one.key.clone(), one.value.to_vec())).collect();
        assert!(found == expected, "round {round}");
        for (key, value) in &expected {
            assert!(store.get(key).await.unwrap().value.unwrap().value == *value, "{key} in round {round}");
        }
    }
    let copied = store.snapshot(directory.path().join("copy")).await.unwrap();
    let mut unnamed = store.snapshot_unnamed().await.unwrap();
    std::io::copy(&mut unnamed, &mut std::fs::File::create(directory.path().join("other")).unwrap()).unwrap();
    assert_eq!(copied.keys, 10);
    let page = store.list("/", ListOptions::default()).await.unwrap();
    drop(store);
    for copy in ["copy", "other"] {
        let new = directory.path().join("new").join(copy);
        EmbeddedStore::restore(directory.path().join(copy), &new, 0).unwrap();
        assert!(open(&new).unwrap().list("/", ListOptions::default()).await.unwrap().entries == page.entries);
    }
    let again = EmbeddedStore::open(directory.path(), options).unwrap();
    assert!(again.list("/", ListOptions::default()).await.unwrap().entries == page.entries);
}

/// Callers read what their large values replace before it is their turn, and others may come first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_value_before_is_that_of_the_commit_before_however_many_replace_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let history = HistoryLimits { bytes_max: 64 << 20, ..Options::default().history };
    let options = Options { log_bytes: 1 << 20, logs_max: 1, history, ..Options::default() };
    let store = Arc::new(EmbeddedStore::open(directory.path(), options).unwrap());
    let mut watch = store.watch("/", 0).await.unwrap();
    let put = |writer: u8| {
        let store = Arc::clone(&store);
        async move {
            for round in 0..20_u8 {
                let key = format!("/{}", (writer ^ round) % 3);
                let change = match round % 7 {
                    6 => Transaction::new().delete(key),
                    _ => Transaction::new().put(key, vec![writer; 20_000 + usize::from(round)]),
                };
                store.commit(change).await.unwrap();
            }
        }
    };
    (0..16).map(put).collect::<tokio::task::JoinSet<()>>().join_all().await;
    let last = store.status().await.unwrap().revision;
    let mut now = BTreeMap::new();
    loop {
        let WatchEvent::Changes { revision, changes } = watch.next().await.unwrap().unwrap() else { continue };
        for change in changes {
            let previous = change.previous.as_ref().map(|previous| (previous.value.clone(), previous.revision));
            assert_eq!(previous.as_ref(), now.get(&change.key), "before revision {revision}");
            match change.value {
                Some(value) => now.insert(change.key, (value, revision)),
                None => now.remove(&change.key),
            };
        }
        if revision == last {
            break;
        }
    }
    let kept = store.list("/", ListOptions::default()).await.unwrap().entries;
    assert!(kept.iter().map(|kept| (&kept.key, &kept.value)).eq(now.iter().map(|(key, (value, _))| (key, value))));
}

/// What memory holds of values that are in the file nowhere yet is bounded, however many logs are kept.
#[tokio::test]
async fn many_small_values_go_to_the_file_before_the_logs_are_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for start in (0..150_000).step_by(100) {
        let put = |all: Transaction, index| all.put(format!("/{index:06}"), "x");
        store.commit((start..start + 100).fold(Transaction::new(), put)).await.unwrap();
    }
    let (memory, _) = store.published.weigh(std::iter::empty());
    assert!(memory <= 2 * crate::writer::MEMORY_MAX + 100 * 200, "{memory} bytes");
    assert_eq!(store.list("/", ListOptions::default()).await.unwrap().entries.len(), 150_000);
}

#[tokio::test]
async fn logs_without_their_file_make_no_new_store() {
    let left = killed().await;
    let refused = EmbeddedStore::restore(left.path().join(FILE), left.path().join("new"), 0).unwrap_err();
    assert!(refused.to_string().contains("was not closed"), "{refused}");
    std::fs::remove_file(left.path().join(FILE)).unwrap();
    let refused = open(left.path()).unwrap_err();
    assert!(refused.to_string().contains("is missing, but there are logs"), "{refused}");
    assert!(!left.path().join(FILE).exists(), "nothing was made in its place");
}
