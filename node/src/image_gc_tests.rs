//! Which images go when, first as a table, then with an agent in virtual time.

use std::time::Duration;

use longshore_core::runtime::Runtime;
use serde_json::json;

use super::*;
use crate::testing::{World, pod, state};

fn image(name: &str, pinned: bool) -> Image {
    Image { id: ImageId(name.into()), tags: vec![], digests: vec![], size: 1, user: String::new(), pinned }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[test]
fn the_least_recently_used_goes_first_and_what_is_used_young_or_pinned_stays() {
    let mut known = Known::default();
    let used = |names: &[&str]| names.iter().map(|name| ImageId((*name).into())).collect();
    let mut images = vec![image("early", false), image("idle", false), image("busy", false), image("loaded", true)];
    known.look(&images, &used(&["early", "busy"]), minutes(0));
    images.extend([image("later", false), image("pulled", false)]);
    known.look(&images, &used(&["later", "busy"]), minutes(5));
    known.look(&images, &used(&["later", "busy"]), minutes(10));
    images.push(image("new", false));
    known.look(&images, &used(&["busy"]), minutes(15));
    let order =
        |now, age| known.candidates(&images, now, age).iter().map(|image| image.id.0.clone()).collect::<Vec<_>>();
    assert_eq!(order(minutes(15), minutes(2)), ["idle", "early", "pulled", "later"]);
    assert_eq!(order(minutes(15), minutes(11)), ["idle", "early"], "what came after the first look is too young");
    assert_eq!(order(minutes(16), minutes(1)), ["idle", "early", "pulled", "later", "busy", "new"]);
    // What is gone is forgotten, and new when it comes back.
    let without: Vec<Image> = images.iter().filter(|image| image.id.0 != "idle").cloned().collect();
    known.look(&without, &used(&["busy"]), minutes(20));
    known.look(&images, &used(&["busy"]), minutes(25));
    let names: Vec<_> =
        known.candidates(&images, minutes(26), minutes(2)).iter().map(|image| image.id.0.clone()).collect();
    assert!(!names.contains(&"idle".to_owned()), "{names:?}");
}

#[test]
fn sizes_and_shares_are_told_as_upstream_tells_them() {
    for (bytes, text) in
        [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (96_529_413_325, "89.9 GiB"), (u64::MAX, "15.9 EiB")]
    {
        assert_eq!(size(bytes), text);
    }
    for (capacity, available, percent) in [(100, 15, 85), (100, 100, 0), (0, 0, 100), (1000, 155, 85), (10, 20, 0)] {
        assert_eq!(used_percent(ImageDisk { capacity, available }), percent);
    }
}

async fn present(world: &World) -> Vec<String> {
    let images = world.runtime.images().list().await.unwrap();
    let mut names: Vec<String> = images.into_iter().flat_map(|image| image.tags).collect();
    names.sort();
    names
}

fn has(name: &str) -> serde_json::Value {
    json!({"containers": [{"name": "main", "image": name, "imagePullPolicy": "IfNotPresent"}]})
}

#[tokio::test]
async fn images_go_when_their_disk_fills_and_come_back_when_they_are_needed() {
    let world = World::new();
    // Eight images are 80 %, nine are 90 %.
    world.runtime.set_image_disk(100, 10);
    (1..=8).for_each(|index| world.runtime.add_image(&format!("x.io/i:{index}")).unwrap());
    world
        .with(async {
            world.create(pod("a", has("x.io/i:1"))).await;
            world.until("running", || world.pod("a").filter(|pod| state(pod, "main") == "Running")).await;
            world.pass(minutes(11)).await;
            assert_eq!(present(&world).await.len(), 8, "80 % is no reason");
            world.create(pod("b", has("x.io/i:9"))).await;
            world.until("running", || world.pod("b").filter(|pod| state(pod, "main") == "Running")).await;
            world.pass(minutes(6)).await;
            let left = present(&world).await;
            assert_eq!(left.len(), 8, "it went down to 80 %: {left:?}");
            assert!(left.contains(&"x.io/i:1".to_owned()) && left.contains(&"x.io/i:9".to_owned()), "{left:?}");
            let gone = (2..=8).map(|index| format!("x.io/i:{index}")).find(|name| !left.contains(name)).unwrap();
            world.create(pod("c", has(&gone))).await;
            world.until("running", || world.pod("c").filter(|pod| state(pod, "main") == "Running")).await;
            assert!(!world.reasons().contains(&"FreeDiskSpaceFailed".to_owned()));
        })
        .await;
}

#[tokio::test]
async fn a_disk_that_stays_full_is_told_of() {
    let world = World::new();
    world.runtime.set_image_disk(100, 90);
    world
        .with(async {
            world.create(pod("a", has("x.io/big:1"))).await;
            world.until("running", || world.pod("a").filter(|pod| state(pod, "main") == "Running")).await;
            world.pass(minutes(5)).await;
            assert!(world.reasons().contains(&"FreeDiskSpaceFailed".to_owned()));
            assert!(!world.reasons().contains(&"ImageGCFailed".to_owned()));
            world.pass(minutes(6)).await;
            assert!(world.reasons().contains(&"ImageGCFailed".to_owned()));
            assert_eq!(present(&world).await, ["x.io/big:1"]);
        })
        .await;
}

#[tokio::test]
async fn a_threshold_of_all_of_the_disk_turns_it_off() {
    let mut world = World::new();
    world.options.image_gc.high_percent = 100;
    world.runtime.set_image_disk(100, 100);
    world.runtime.add_image("x.io/i:1").unwrap();
    world.with(world.pass(minutes(20))).await;
    assert_eq!(present(&world).await, ["x.io/i:1"]);
}
