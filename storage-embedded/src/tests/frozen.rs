//! Stores as they lay on the disk on 2026-11-30, byte by byte: whatever becomes of the code and of redb, they open.
//!
//! Format 1 is the first one, a file alone. Format 2 is what `kill -9` leaves: twelve keys in the file, and a log with what came after.

use super::*;

/// The bytes of a frozen file: pairs of hexadecimal digits, or one with how often it comes.
fn thaw(text: &str) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).unwrap();
    let mut bytes = Vec::new();
    for part in text.split_whitespace() {
        match part.split_once('*') {
            Some((digits, times)) => bytes.resize(bytes.len() + times.parse::<usize>().unwrap(), byte(digits)),
            None => bytes.extend(part.as_bytes().chunks(2).map(|pair| byte(str::from_utf8(pair).unwrap()))),
        }
    }
    bytes
}

fn thawed(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), thaw(text)).unwrap();
    }
    directory
}

#[tokio::test]
async fn the_first_format_opens() {
    let directory = thawed(&[(FILE, include_str!("frozen/format-1/store.redb.txt"))]);
    for _ in 0..2 {
        let store = open(directory.path()).unwrap();
        let found = store.get("/a").await.unwrap();
        let value = found.value.unwrap();
        assert_eq!((found.revision, value.revision, value.created, &*value.value), (9, 7, 3, &b"value"[..]));
    }
    let store = open(directory.path()).unwrap();
    assert_eq!(store.commit(Transaction::new().delete("/a")).await, Ok(Committed::Done(10)));
    drop(store);
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let read = database.begin_read().unwrap();
    let format = read.open_table(META).unwrap().get(META_FORMAT).unwrap().unwrap().value();
    assert_eq!(format, FORMAT, "an older version must not open it, for it knows nothing of the log");
}

#[tokio::test]
async fn the_second_format_opens_with_what_its_log_has() {
    let files =
        [(FILE, include_str!("frozen/format-2/store.redb.txt")), ("log-0", include_str!("frozen/format-2/log-0.txt"))];
    let directory = thawed(&files);
    let store = open(directory.path()).unwrap();
    let page = store.list("/", ListOptions::default()).await.unwrap();
    let kept = (2..12_u8).map(|n| (format!("/kept/{n:02}"), u64::from(n) + 2, vec![b'a' + n; 1500]));
    let mut expected = vec![("/kept/00".to_owned(), 14, b"new".to_vec())];
    expected.extend(kept);
    expected.push(("/late".to_owned(), 15, b"soon".to_vec()));
    let found = page.entries.into_iter().map(|entry| (entry.key, entry.revision, entry.value.to_vec()));
    assert_eq!((found.collect::<Vec<_>>(), page.revision), (expected, 15));
    // It is a store like any other.
    fill(&store, 0, 3).await.unwrap();
    store.close().await;
    drop(store);
    assert_eq!(open(directory.path()).unwrap().status().await.unwrap().keys, Some(15));
}
