use std::fs;
use std::io::Write;
use std::time::Duration;

use http_body_util::BodyExt;
use longshore_core::api::Pod;
use longshore_core::runtime::ContainerRef;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::testing::{World, condition, pod, state};

struct Logs {
    world: World,
    _directory: tempfile::TempDir,
}

impl Logs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::new();
        world.options.log_dir = directory.path().to_owned();
        Self { world, _directory: directory }
    }

    async fn started(&self) -> Pod {
        self.world.create(pod("a", json!({}))).await;
        self.world.until("ready", || self.world.pod("a").filter(|pod| condition(pod, "Ready") == "True")).await
    }

    fn write(&self, pod: &Pod, attempt: u32, lines: &[&str]) {
        let uid = pod.metadata.uid.as_deref().unwrap();
        let directory = self.world.options.pod_log_dir("ns", "a", uid).join("main");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("{attempt}.log"));
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }
}

async fn ask(service: &NodeService, query: &str) -> (u16, Response<Body>) {
    let request = Request::get(format!("/containerLogs/ns/a/main{query}")).body(Body::empty()).unwrap();
    let answer = service.clone().oneshot(request).await.unwrap();
    (answer.status().as_u16(), answer)
}

async fn text(service: &NodeService, query: &str) -> String {
    let (status, answer) = ask(service, query).await;
    let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    if status == 200 { body } else { format!("{status} {body}") }
}

const LINES: [&str; 4] = [
    "2025-01-01T00:00:01.5Z stdout F one",
    "2025-01-01T00:00:02Z stderr P tw",
    "2025-01-01T00:00:02.1Z stderr F o",
    "2025-01-01T00:00:03Z stdout F three",
];

#[tokio::test]
async fn logs_are_read_as_kubectl_asks_for_them() {
    let logs = Logs::new();
    let agent = logs.world.agent();
    let service = agent.service();
    logs.world
        .with_agent(agent, async {
            let pod = logs.started().await;
            assert_eq!(text(&service, "").await, "", "nothing was written yet");
            logs.write(&pod, 0, &LINES);
            for (query, expected) in [
                ("", "one\ntwo\nthree\n"),
                ("?tailLines=1", "three\n"),
                ("?tailLines=0", ""),
                ("?limitBytes=5", "one\nt"),
                ("?sinceTime=2025-01-01T00:00:03Z", "three\n"),
                ("?timestamps=true&tailLines=1", "2025-01-01T00:00:03Z three\n"),
                (
                    "?timestamps=true&sinceTime=2025-01-01T00:00:02Z",
                    "2025-01-01T00:00:02Z two\n2025-01-01T00:00:03Z three\n",
                ),
                ("?previous=true", "400 previous terminated container \"main\" in pod \"a\" not found"),
                ("?tailLines=-1", "422 tailLines: must be 0 or more"),
            ] {
                assert_eq!(text(&service, query).await, expected, "{query}");
            }
            let request = Request::get("/containerLogs/ns/a/other").body(Body::empty()).unwrap();
            assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 400);
            let request = Request::get("/containerLogs/ns/no/main").body(Body::empty()).unwrap();
            assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 404);
            let request = Request::get("/healthz").body(Body::empty()).unwrap();
            assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 200);
            let request = Request::get("/pods").body(Body::empty()).unwrap();
            let body = service.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(list["items"][0]["metadata"]["name"], "a");
        })
        .await;
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let logs = Logs::new();
    let agent = logs.world.agent();
    let service = agent.service();
    logs.world
        .with_agent(agent, async {
            let pod = logs.started().await;
            logs.write(&pod, 0, &LINES[..1]);
            let (_, answer) = ask(&service, "?follow=true").await;
            let mut body = answer.into_body();
            let mut next = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
            assert_eq!(next().await.unwrap(), "one\n");
            logs.write(&pod, 0, &LINES[1..]);
            // The follower sleeps between its looks.
            let clock = logs.world.clock.clone();
            let waited = async {
                loop {
                    tokio::task::yield_now().await;
                    clock.advance(Duration::from_millis(50));
                }
            };
            let more = tokio::select! { more = next() => more, () = waited => None };
            assert_eq!(more.unwrap(), "two\nthree\n");
            let uid = pod.metadata.uid.clone().unwrap();
            logs.world.runtime.end_container(&ContainerRef { pod_uid: uid, name: "main".into(), attempt: 0 }, 1);
            logs.write(&pod, 0, &["2025-01-01T00:00:04Z stdout F last"]);
            let waited = async {
                loop {
                    tokio::task::yield_now().await;
                    clock.advance(Duration::from_millis(50));
                }
            };
            let rest = async { (next().await, next().await) };
            let rest = tokio::select! { rest = rest => Some(rest), () = waited => None };
            assert_eq!(rest, Some((Some("last\n".into()), None)));
        })
        .await;
}

#[tokio::test]
async fn the_attempt_before_is_kept() {
    let logs = Logs::new();
    let agent = logs.world.agent();
    let service = agent.service();
    logs.world
        .with_agent(agent, async {
            let pod = logs.started().await;
            logs.write(&pod, 0, &LINES[..1]);
            logs.write(&pod, 1, &LINES[3..]);
            let uid = pod.metadata.uid.clone().unwrap();
            let container = ContainerRef { pod_uid: uid, name: "main".into(), attempt: 0 };
            logs.world.runtime.end_container(&container, 1);
            let again =
                |pod: &Pod| crate::testing::status(pod, "main").restart_count == 1 && state(pod, "main") == "Running";
            logs.world.until("again", || logs.world.pod("a").filter(again)).await;
            assert_eq!(text(&service, "").await, "three\n");
            assert_eq!(text(&service, "?previous=true").await, "one\n");
            // While it is held back, its last attempt is meant either way.
            logs.world.runtime.end_container(&ContainerRef { attempt: 1, ..container }, 1);
            logs.world
                .until("held back", || logs.world.pod("a").filter(|pod| state(pod, "main") == "CrashLoopBackOff"))
                .await;
            assert_eq!(text(&service, "").await, "three\n");
            assert_eq!(text(&service, "?previous=true").await, "three\n");
        })
        .await;
}
