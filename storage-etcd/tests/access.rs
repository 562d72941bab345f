//! The store over TLS, to an etcd that asks who is there.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::sync::{Arc, Mutex};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use longshore_core::store::{MemoryStore, Store, Transaction};
use longshore_core::testing::store::Subject;
use longshore_storage_etcd::{Credentials, EtcdStore, OpenError, Options, Tls};
use support::{Cluster, is_installed, open, tls};

/// A member with TLS and authentication, and how to reach it.
async fn guarded() -> (Cluster, Options) {
    let written: Mutex<Option<Tls>> = Mutex::new(None);
    let cluster = Cluster::start_with(1, "https", |directory| {
        *written.lock().unwrap() = Some(tls::write(directory));
        let file = |name: &str| directory.join(name).display().to_string();
        let pairs = [
            ("--cert-file", file("server.pem")),
            ("--key-file", file("server.key")),
            ("--trusted-ca-file", file("ca.pem")),
        ];
        let mut arguments = vec!["--client-cert-auth".to_owned()];
        arguments.extend(pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        arguments
    })
    .await;
    let tls = written.into_inner().unwrap().unwrap();
    let (certificate, key) = tls.identity.clone().unwrap();
    let config =
        TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca)).identity(Identity::from_pem(certificate, key));
    let mut etcd = Client::connect(cluster.urls(), Some(ConnectOptions::new().with_tls(config))).await.unwrap();
    etcd.user_add("root", "secret", None).await.unwrap();
    etcd.role_add("root").await.unwrap();
    etcd.user_grant_role("root", "root").await.unwrap();
    etcd.auth_enable().await.unwrap();
    let mut options = Options::new(cluster.urls().iter().cloned());
    options.tls = Some(tls);
    options.credentials = Some(Credentials { user: "root".to_owned(), password: "secret".to_owned() });
    (cluster, options)
}

async fn subject() -> Subject {
    if !is_installed() {
        return Subject::new(Arc::new(MemoryStore::new()));
    }
    let (cluster, options) = guarded().await;
    Subject::new(Arc::new(open(options).await)).keeping(cluster)
}

longshore_core::store_conformance! { @cases crate::subject;
    reads { clause_1_a_new_store_is_empty_at_revision_1 clause_2_pages_at_one_revision_ignore_what_happens_meanwhile }
    commits { clause_3_limits_are_exact_and_beyond_them_nothing_happens }
    watches { clause_5_a_watch_from_now_misses_nothing_committed_after_it_was_made }
    compaction { clause_5_lists_and_watches_before_the_compacted_revision_are_refused }
    expiry { clause_8_a_key_is_deleted_after_its_time_and_not_before }
    invariants { no_increment_is_lost watches_rebuild_what_lists_show }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_is_told_so() {
    if !is_installed() {
        return;
    }
    let (_cluster, options) = guarded().await;
    let refused = async |change: &dyn Fn(&mut Options)| -> String {
        let mut options = options.clone();
        options.patience = std::time::Duration::ZERO;
        change(&mut options);
        match EtcdStore::open(options).await {
            Err(error @ OpenError::Unavailable { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let wrong = |options: &mut Options| options.credentials.as_mut().unwrap().password = "guess".to_owned();
    let told = refused(&wrong).await;
    assert!(told.contains("authentication failed, invalid user ID or password"), "{told}");
    let nobody = |options: &mut Options| options.credentials = None;
    let told = refused(&nobody).await;
    // Without a name it is who its certificate says, whom etcd does not know.
    assert!(told.contains("permission denied"), "{told}");
    let no_certificate = |options: &mut Options| options.tls.as_mut().unwrap().identity = None;
    refused(&no_certificate).await;
    let other_authority = |options: &mut Options| {
        let directory = tempfile::tempdir().unwrap();
        options.tls.as_mut().unwrap().ca = tls::write(directory.path()).ca;
    };
    let told = refused(&other_authority).await;
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_forgotten_its_tokens_is_asked_for_new_ones() {
    if !is_installed() {
        return;
    }
    let (cluster, options) = guarded().await;
    let store = open(options).await;
    let mut watch = store.watch("/", 1).await.unwrap();
    for round in 0..3 {
        let key = format!("/{round}");
        loop {
            // What was under way when the member died has an unknown outcome.
            if store.commit(Transaction::new().put(key.clone(), "v")).await.is_ok() {
                break;
            }
        }
        support::until_change(&mut watch, &key).await;
        cluster.kill(0);
        cluster.spawn(0);
    }
    assert_eq!(store.get("/2").await.unwrap().value.unwrap().value, "v");
}
