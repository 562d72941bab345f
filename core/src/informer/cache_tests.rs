use super::super::tests::Item;
use super::*;

fn object(name: &str, uid: &str, version: u64) -> DynObject {
    let mut map = Item::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("default".into());
    map.metadata.uid = Some(uid.into());
    map.metadata.resource_version = Some(version.to_string());
    Arc::new(map)
}

fn seen(cache: &Cache) -> Vec<(String, u64)> {
    cache.iter().map(|object| (uid(&**object).to_owned(), version(&**object).unwrap())).collect()
}

fn expect(cache: &Cache, want: &[(&str, u64)]) {
    let want: Vec<_> = want.iter().map(|(uid, version)| ((*uid).to_owned(), *version)).collect();
    assert_eq!(seen(cache), want);
}

#[test]
fn own_writes_are_seen_at_once_and_stragglers_do_not_undo_them() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3)], Some(5));
    assert_eq!(cache.wrote(object("a", "u1", 9), true).len(), 1);
    expect(&cache, &[("u1", 9)]);
    // The watch is behind: somebody else's older change, then our own one.
    assert!(cache.observe(object("a", "u1", 7)).is_empty());
    assert!(cache.observe(object("a", "u1", 9)).is_empty());
    expect(&cache, &[("u1", 9)]);
    assert_eq!(cache.observe(object("a", "u1", 12)).len(), 1);
    // An answer that the watch overtook is old.
    assert!(cache.wrote(object("a", "u1", 10), true).is_empty());
    expect(&cache, &[("u1", 12)]);
}

#[test]
fn late_answer_does_not_resurrect() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3)], Some(5));
    // Our update (7) was followed by somebody's delete (8); the watch told both before the answer came.
    cache.observe(object("a", "u1", 7));
    cache.observe_deleted(&*object("a", "u1", 8));
    assert!(cache.wrote(object("a", "u1", 7), true).is_empty());
    expect(&cache, &[]);
}

#[test]
fn deleted_object_stays_buried_until_the_watch_confirms() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3)], Some(5));
    assert_eq!(cache.deleted(&Deleted::Gone(object("a", "u1", 3)), true).len(), 1);
    expect(&cache, &[]);
    assert!(cache.observe(object("a", "u1", 6)).is_empty(), "a change from before the delete");
    // A listing from before the delete.
    assert!(cache.replace(vec![object("a", "u1", 6)], Some(6)).is_empty());
    // Born again under the same name, told by our write; then the watch catches up.
    assert_eq!(cache.wrote(object("a", "u2", 9), true).len(), 1);
    assert!(cache.observe_deleted(&*object("a", "u1", 8)).is_empty());
    assert!(cache.observe(object("a", "u2", 9)).is_empty());
    expect(&cache, &[("u2", 9)]);
    assert!(cache.buried.is_empty());
}

#[test]
fn listing_behind_a_write_keeps_it_and_drops_the_rest() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3), object("b", "u2", 4)], Some(5));
    cache.wrote(object("c", "u3", 9), true);
    let changes = cache.replace(vec![object("a", "u1", 3)], Some(8));
    assert_eq!(changes.len(), 1, "only b went: {changes:?}");
    expect(&cache, &[("u1", 3), ("u3", 9)]);
    // Stragglers of the old watch are older than the listing.
    assert!(cache.observe(object("b", "u2", 7)).is_empty());
    cache.replace(vec![], Some(10));
    expect(&cache, &[]);
}

#[test]
fn listing_that_the_watch_overtook_does_not_resurrect() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3)], Some(5));
    // A listing is asked for at 6; before it arrives, the watch tells that the object is gone.
    cache.observe(object("a", "u1", 6));
    cache.observe_deleted(&*object("a", "u1", 8));
    assert!(cache.replace(vec![object("a", "u1", 6)], Some(6)).is_empty());
    expect(&cache, &[]);
}

#[test]
fn same_name_of_another_uid_is_another_object() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3)], Some(5));
    let changes = cache.replace(vec![object("a", "u2", 7)], Some(8));
    assert!(matches!(&changes[..], [Change::Deleted(_), Change::Added(_)]), "{changes:?}");
}

#[test]
fn a_write_that_leaves_the_selection_hides_the_object() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 3)], Some(5));
    assert_eq!(cache.wrote(object("a", "u1", 9), false).len(), 1);
    assert!(cache.observe(object("a", "u1", 7)).is_empty());
    expect(&cache, &[]);
    // Somebody puts it back.
    assert_eq!(cache.observe(object("a", "u1", 11)).len(), 1);
}

#[test]
fn indexes_follow() {
    let mut cache = Cache::default();
    cache.replace(vec![object("a", "u1", 1)], Some(1));
    cache.add_index("uid", Arc::new(|object| vec![uid(object).to_owned()]));
    assert_eq!(cache.by_index("uid", "u1").len(), 1);
    cache.observe(object("a", "u2", 2));
    assert!(cache.by_index("uid", "u1").is_empty());
    assert_eq!(cache.by_index("uid", "u2").len(), 1);
    assert_eq!(cache.namespace("default").count(), 1);
    assert_eq!(cache.namespace("defaul").count(), 0);
}

/// Random histories, delivered late, with lost answers and listings in between, late ones too: whatever the writer was told it did is
/// visible at once, and in the end the cache is what the server has.
#[test]
fn random_histories_converge_and_show_own_writes() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..300 {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let mut cache = Cache::default();
        let mut server: BTreeMap<&str, DynObject> = BTreeMap::new();
        let mut history: Vec<(bool, DynObject)> = Vec::new();
        let (mut revision, mut told, mut births) = (0_u64, 0_usize, 0);
        let mut late: Vec<(bool, DynObject)> = Vec::new();
        let mut listings: Vec<(Vec<DynObject>, u64)> = Vec::new();
        for _ in 0..200 {
            let name = ["a", "b", "c"][rng.random_range(0..3)];
            match rng.random_range(0..7) {
                0..3 => {
                    revision += 1;
                    let old = server.get(name).cloned();
                    let (delete, object) = match &old {
                        Some(old) if rng.random_bool(0.4) => (true, object(name, uid(&**old), revision)),
                        Some(old) => (false, object(name, uid(&**old), revision)),
                        None => {
                            births += 1;
                            (false, object(name, &format!("u{births}"), revision))
                        }
                    };
                    if delete {
                        server.remove(name)
                    } else {
                        server.insert(name, object.clone())
                    };
                    history.push((delete, object.clone()));
                    match rng.random_range(0..3) {
                        0 => {}
                        1 => late.push((delete, object)),
                        _ => {
                            if delete {
                                let last = old.unwrap();
                                cache.deleted(&Deleted::Gone(last), true);
                                assert!(cache.get(&ObjectKey::of(&*object)).is_none(), "seed {seed}");
                            } else {
                                cache.wrote(object.clone(), true);
                                let known = version(&**cache.get(&ObjectKey::of(&*object)).unwrap()).unwrap();
                                assert!(known >= revision, "seed {seed}");
                            }
                        }
                    }
                }
                3 if told < history.len() => {
                    let (delete, object) = &history[told];
                    told += 1;
                    if *delete {
                        cache.observe_deleted(&**object)
                    } else {
                        cache.observe(object.clone())
                    };
                }
                4 if !late.is_empty() => {
                    let (delete, object) = late.remove(0);
                    if delete {
                        cache.deleted(&Deleted::Gone(object), true)
                    } else {
                        cache.wrote(object, true)
                    };
                }
                5 if rng.random_bool(0.1) => {
                    // The watch broke: list anew, and go on after the listing.
                    cache.replace(server.values().cloned().collect(), Some(revision));
                    told = history.len();
                }
                // Whoever is in doubt lists anew beside the watch; the answer can take its time.
                6 if listings.is_empty() => listings.push((server.values().cloned().collect(), revision)),
                6 if rng.random_bool(0.3) => {
                    let (items, revision) = listings.remove(0);
                    cache.replace(items, Some(revision));
                }
                _ => {}
            }
        }
        for (delete, object) in &history[told..] {
            if *delete {
                cache.observe_deleted(&**object)
            } else {
                cache.observe(object.clone())
            };
        }
        for (items, revision) in listings {
            cache.replace(items, Some(revision));
        }
        let want: Vec<_> = server.values().map(|o| (uid(&**o).to_owned(), version(&**o).unwrap())).collect();
        assert_eq!(seen(&cache), want, "seed {seed}");
    }
}
