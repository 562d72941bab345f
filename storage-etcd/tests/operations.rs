//! What operators see: compaction, snapshots, a full etcd, leases.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use longshore_core::clock::{Clock, SystemClock, VirtualClock};
use longshore_core::store::{Committed, Error, ListOptions, Revision, Store, Transaction};
use longshore_storage_etcd::{EtcdStore, Options, check_snapshot};
use support::{Cluster, is_installed, open};

async fn put(store: &EtcdStore, key: &str, value: &str) -> Revision {
    match store.commit(Transaction::new().put(key, value.to_owned())).await.unwrap() {
        Committed::Done(revision) => revision,
        conflict @ Committed::Conflict { .. } => panic!("{conflict:?}"),
    }
}

/// Lets an interval pass for stores that share a clock, and waits until each of them waits for the next one.
async fn pass(clock: &VirtualClock, interval: Duration, stores: &[&EtcdStore]) {
    let machine = SystemClock::new();
    let sleeping = async || {
        while clock.sleepers() < stores.len() {
            machine.sleep(Duration::from_millis(1)).await;
        }
    };
    sleeping().await;
    clock.advance(interval);
    // Those that work hold time-outs of their requests; those that wait hold one sleep each.
    for store in stores {
        store.get("/").await.unwrap();
    }
    sleeping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_stores_one_compacts_what_is_older_than_the_interval() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let (clock, interval) = (VirtualClock::new(), Duration::from_secs(300));
    let mut options = Options::new(cluster.urls().iter().cloned());
    options.clock = Arc::new(clock.clone());
    options.compaction = Some(interval);
    let (one, other) = (open(options.clone()).await, open(options).await);
    let looking = cluster.open().await;
    let (mut turns, mut past) = (0, Vec::new());
    for round in 0..6 {
        let before = put(&looking, "/a", &round.to_string()).await;
        pass(&clock, interval, &[&one, &other]).await;
        // The turn is taken once an interval, whoever takes it.
        let machine = SystemClock::new();
        let turn = loop {
            let key = looking.get("compact_rev_key").await.unwrap().value;
            if key.as_ref().is_some_and(|key| key.revision > before) {
                break key.unwrap();
            }
            machine.sleep(Duration::from_millis(1)).await;
        };
        turns += 1;
        past.push(turn.revision);
    }
    let compacted = looking.status().await.unwrap().compacted;
    assert!(compacted >= past[turns - 3] && compacted < past[turns - 1], "{compacted} of {past:?}");
    let mut etcd = Client::connect(cluster.urls(), None).await.unwrap();
    let key = etcd.get("compact_rev_key", None).await.unwrap();
    assert_eq!(key.kvs()[0].version(), 6, "two stores take six turns in six intervals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_whole_and_the_command_that_is_told_restores_it() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let store = cluster.open().await;
    for index in 0..100 {
        put(&store, &format!("/k/{index}"), &"x".repeat(1_000)).await;
    }
    let path = cluster.path("copy.db");
    let saved = store.save_snapshot(&path).await.unwrap();
    assert_eq!(saved, check_snapshot(&path).await.unwrap());
    assert!(saved.bytes > 100_000);
    assert!(matches!(store.save_snapshot(&path).await, Err(Error::Unavailable { .. })), "no copy is overwritten");

    let commands = store.restore_commands(&path).await.unwrap();
    assert_eq!(commands.len(), 1);
    let restored = cluster.path("restored").display().to_string();
    let command = commands[0].command.replace("/var/lib/etcd/m0-restored", &restored);
    let words: Vec<&str> = command.split(' ').collect();
    let done = Command::new(words[0]).args(&words[1..]).env("ETCDCTL_API", "3").output();
    match done {
        Err(_) => println!("SKIPPED: etcdctl is not installed (package etcd-client)"),
        Ok(done) => {
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            cluster.kill(0);
            std::fs::remove_dir_all(cluster.path("m0")).unwrap();
            std::fs::rename(cluster.path("restored"), cluster.path("m0")).unwrap();
            cluster.spawn(0);
            let restored = cluster.open().await;
            let page = restored.list("/k/", ListOptions::default()).await.unwrap();
            assert_eq!((page.entries.len(), page.revision), (100, 101));
        }
    }

    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(check_snapshot(&path).await, Err(Error::Corrupt { .. })));
    std::fs::write(&path, &bytes[..60_000]).unwrap();
    assert!(matches!(check_snapshot(&path).await, Err(Error::Corrupt { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_refuses_puts_by_name_and_still_deletes() {
    if !is_installed() {
        return;
    }
    let cluster =
        Cluster::start_with(1, "http", |_| vec!["--quota-backend-bytes".to_owned(), (4 << 20).to_string()]).await;
    let store = cluster.open().await;
    let (mut written, value) = (0, "x".repeat(200_000));
    let reason = loop {
        let key = format!("/k/{written}");
        match store.commit(Transaction::new().expect(&*key, 0).put(&*key, value.clone())).await {
            Ok(Committed::Done(_)) => written += 1,
            Err(Error::NoSpace { reason }) => {
                assert_eq!(store.get(&key).await.unwrap().value, None, "what is refused has not happened");
                break reason;
            }
            // The one that crossed the quota was applied all the same.
            Err(Error::Unavailable { .. }) => {
                assert!(store.get(&key).await.unwrap().value.is_some());
                written += 1;
            }
            other => panic!("{other:?}"),
        }
        assert!(written < 100, "the quota is never reached");
    };
    assert!(reason.contains("database space exceeded"), "{reason}");
    assert!(matches!(store.commit(Transaction::new().delete("/k/0")).await, Ok(Committed::Done(_))));
    let members = store.member_statuses().await;
    let member = members[0].as_ref().unwrap();
    assert!(member.leads && member.bytes >= member.bytes_in_use && member.bytes_in_use > 0, "{member:?}");
    assert!(member.version.starts_with("3."));
    assert!(member.alarms.iter().any(|alarm| alarm.contains("NOSPACE")), "{member:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_gone_is_replaced_and_leases_are_shared() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let store = cluster.open().await;
    let hour = Duration::from_secs(3_600);
    for index in 0..50 {
        let put = Transaction::new().put_with_ttl(format!("/k/{index}"), "v", hour);
        assert!(matches!(store.commit(put).await, Ok(Committed::Done(_))));
    }
    let mut etcd = Client::connect(cluster.urls(), None).await.unwrap();
    let leases = etcd.leases().await.unwrap();
    assert_eq!(leases.leases().len(), 1, "keys that live as long share a lease");
    etcd.lease_revoke(leases.leases()[0].id()).await.unwrap();
    assert_eq!(store.list("/k/", ListOptions::default()).await.unwrap().entries.len(), 0);
    let put = Transaction::new().put_with_ttl("/k/again", "v", hour);
    assert!(matches!(store.commit(put).await, Ok(Committed::Done(_))));
    assert_eq!(store.list("/k/", ListOptions::default()).await.unwrap().entries.len(), 1);
    assert_eq!(etcd.leases().await.unwrap().leases().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_comes_in_parts_of_one_revision() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let store = cluster.open().await;
    for start in (0..6_000).step_by(100) {
        let keys = (start..start + 100).map(|index| format!("/k/{index:05}"));
        let all = keys.fold(Transaction::new(), |all, key| all.put(key, "x".repeat(2_000)));
        assert!(matches!(store.commit(all).await, Ok(Committed::Done(_))));
    }
    let change = async {
        for index in 0..100 {
            put(&store, &format!("/k/{:05}", 5_999 - index), "changed").await;
        }
    };
    let (page, ()) = futures::join!(store.list("/k/", ListOptions::default()), change);
    let page = page.unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (6_000, false, Some(0)));
    let after = page.entries.iter().filter(|entry| entry.revision > page.revision).count();
    assert_eq!(after, 0, "the whole list is of one revision");
    let options = ListOptions { limit: 1_700, after: Some("/k/00999".to_owned()), ..ListOptions::default() };
    let page = store.list("/k/", options).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (1_700, true, Some(3_300)));
    assert_eq!(page.entries[0].key, "/k/01000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_says_so_and_an_etcd_that_is_away_too() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let mut options = Options::new(cluster.urls().iter().cloned());
    options.patience = Duration::from_millis(100);
    let store = open(options.clone()).await;
    let mut watch = store.watch("/", 1).await.unwrap();
    store.close().await;
    assert_eq!(store.get("/a").await, Err(Error::Closed));
    assert_eq!(store.commit(Transaction::new().put("/a", "")).await, Err(Error::Closed));
    assert_eq!(futures::StreamExt::next(&mut watch).await, Some(Err(Error::Closed)));
    let store = open(options.clone()).await;
    cluster.kill(0);
    match store.get("/a").await {
        Err(Error::Unavailable { reason }) => assert!(reason.contains(&cluster.urls()[0]), "{reason}"),
        other => panic!("{other:?}"),
    }
    let told = EtcdStore::open(options).await.unwrap_err().to_string();
    assert!(told.contains(&cluster.urls()[0]) && told.contains("does not answer"), "{told}");
}
