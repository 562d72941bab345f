//! Pulls from a registry of this test's own, which lies, breaks and stalls as told.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::transport::STALL;
use super::*;

mod tls;

#[derive(Debug, Clone)]
struct Asked {
    path: String,
    /// The request as it came: hyper writes names in lower case.
    head: String,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name).map(|of| of.1))
    }
}

#[derive(Debug, Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// What is told of the length; the body's own if `None`.
    length: Option<usize>,
    /// Whether the connection stays open in silence.
    stall: bool,
}

impl Reply {
    fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self { status, body: body.into(), ..Self::default() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Answers = Arc<Mutex<dyn FnMut(&Asked) -> Reply + Send>>;

struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn new(clock: &TestClock, answers: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        Self::start(clock, None, answers).await
    }

    async fn start(
        clock: &TestClock,
        tls: Option<TlsAcceptor>,
        answers: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answers: Answers = Arc::new(Mutex::new(answers));
        let (log, silence) = (asked.clone(), clock.silence.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, log, answers, silence) = (tls.clone(), log.clone(), answers.clone(), silence.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, log, answers, silence).await,
                        // Whoever does not trust it hangs up.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, log, answers, silence).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, _task: task }
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.path.clone()).collect()
    }

    fn count(&self, part: &str) -> usize {
        self.paths().iter().filter(|path| path.contains(part)).count()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
    silence: Arc<Notify>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        // The first byte of TLS.
        if head == [0x16] {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let mut asked = Asked { path, head, body: String::new() };
    if let Some(length) = asked.header("content-length").and_then(|length| length.parse().ok()) {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        asked.body = String::from_utf8(body).unwrap();
    }
    log.lock().unwrap().push(asked.clone());
    let reply = (answers.lock().unwrap())(&asked);
    let length = reply.length.unwrap_or(reply.body.len());
    let mut text = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    // Whoever has enough hangs up.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.write_all(&reply.body).await;
    let _ = stream.flush().await;
    if reply.stall {
        silence.notify_one();
        let _ = stream.read_u8().await;
    }
    let _ = stream.shutdown().await;
}

/// Pauses between tries take no time, and the patience with a silent registry ends when it falls silent.
#[derive(Debug, Clone, Default)]
struct TestClock {
    silence: Arc<Notify>,
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, duration: Duration) {
        if duration == STALL {
            self.silence.notified().await;
        }
    }
}

struct Local {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    puller: Arc<Puller>,
}

impl Local {
    fn new(clock: &TestClock) -> Self {
        Self::knowing(clock, BTreeMap::new())
    }

    fn knowing(clock: &TestClock, registries: BTreeMap<String, Registry>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path().to_owned()).unwrap());
        let puller = Arc::new(Puller::new(store.clone(), Arc::new(clock.clone()), registries));
        Self { directory, store, puller }
    }

    async fn pull(&self, server: &Server, login: &Credentials) -> Result<Image, String> {
        let name = format!("{}/team/web:1", server.address);
        self.puller.pull(&name, login).await.map_err(|error| error.to_string())
    }

    fn has(&self, below: &str) -> usize {
        std::fs::read_dir(self.directory.path().join(below)).unwrap().count()
    }
}

/// An image as a registry has it.
#[derive(Clone)]
struct Content {
    manifest: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    layers: Vec<String>,
}

fn sha(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(nix::unistd::getuid().as_raw().into());
    header.set_gid(nix::unistd::getgid().as_raw().into());
    builder.append_data(&mut header, name, bytes).unwrap();
    builder.into_inner().unwrap()
}

impl Content {
    fn new(files: &[&str]) -> Self {
        let (mut blobs, mut layers, mut described, mut ids) = (BTreeMap::new(), vec![], vec![], vec![]);
        for file in files {
            let layer = tar(file, &vec![b'x'; 300_000]);
            ids.push(sha(&layer));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            encoder.write_all(&layer).unwrap();
            let layer = encoder.finish().unwrap();
            described.push(json!({"digest": sha(&layer), "size": layer.len()}));
            layers.push(sha(&layer));
            blobs.insert(sha(&layer), layer);
        }
        let config = json!({"config": {"Cmd": ["web"], "User": "7"}, "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"config": {"digest": sha(&config), "size": config.len()}, "layers": described});
        blobs.insert(sha(&config), config);
        Self { manifest: manifest.to_string().into(), blobs, layers }
    }

    /// What an honest registry answers.
    fn answer(&self, asked: &Asked) -> Reply {
        let last = asked.path.rsplit('/').next().unwrap();
        if asked.path.contains("/manifests/") {
            let index = json!({"manifests": [
                {"digest": sha(b"other"), "size": 5, "platform": {"os": "plan9", "architecture": "mips"}},
                self.descriptor(),
            ]});
            let manifest = if last == "1" { index.to_string().into_bytes() } else { self.manifest.clone() };
            return Reply::ok(manifest);
        }
        let Some(blob) = self.blobs.get(last) else { return Reply::error(404, "BLOB_UNKNOWN", "blob unknown") };
        match asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()) {
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Reply { status: 206, ..Reply::ok(&blob[from..]) }.with("Content-Range", range)
            }
            None => Reply::ok(blob.clone()),
        }
    }

    fn descriptor(&self) -> Value {
        let platform = json!({"os": "linux", "architecture": architecture()});
        json!({"digest": sha(&self.manifest), "size": self.manifest.len(), "platform": platform})
    }
}

/// Nothing is half made after a pull.
fn clean(local: &Local) {
    assert_eq!(local.has("work"), 0);
}

fn basic() -> Credentials {
    Credentials::Basic { user: "me".into(), password: "pass:word".into() }
}

#[tokio::test]
async fn an_image_is_pulled_for_this_machine_and_layers_that_are_here_are_not_fetched_again() {
    let clock = TestClock::default();
    let content = Content::new(&["a", "b", "c", "d", "e"]);
    let more = Content::new(&["a", "b", "f"]);
    let (one, two) = (content.clone(), more.clone());
    let server =
        Server::new(
            &clock,
            move |asked| {
                if asked.path.contains("/other/") { two.answer(asked) } else { one.answer(asked) }
            },
        )
        .await;
    let local = Local::new(&clock);
    let image = local.pull(&server, &Credentials::Anonymous).await.unwrap();
    assert_eq!(image.tags, [format!("{}/team/web:1", server.address)]);
    assert!(image.digests[0].starts_with(&format!("{}/team/web@sha256:", server.address)), "{image:?}");
    assert_eq!(image.user, "7");
    assert_eq!(local.has("layers"), 5);
    let configuration = local.store.configuration(&image.id).unwrap().unwrap();
    let layers = local.store.layers(&configuration).unwrap();
    assert!(layers[0].join("a").is_file() && layers[4].join("e").is_file());

    let asked = server.count("/blobs/");
    let other = format!("{}/team/other:1", server.address);
    local.puller.pull(&other, &Credentials::Anonymous).await.unwrap();
    assert_eq!(server.count("/blobs/") - asked, 2, "the configuration and one layer");
    clean(&local);
}

#[tokio::test]
async fn pulls_of_one_image_at_a_time_share_their_work() {
    let clock = TestClock::default();
    let content = Content::new(&["a"]);
    let server = Server::new(&clock, move |asked| content.answer(asked)).await;
    let local = Local::new(&clock);
    let login = Credentials::Anonymous;
    let (first, second) = futures::join!(local.pull(&server, &login), local.pull(&server, &login));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(server.count("/manifests/1"), 1);
}

#[tokio::test]
async fn a_registry_that_lies_is_found_out() {
    let content = Content::new(&["a"]);
    let (layer, config) =
        (content.layers[0].clone(), content.blobs.keys().find(|k| **k != content.layers[0]).unwrap().clone());
    for (part, reply, expected) in [
        (layer.clone(), Reply::ok(vec![b'y'; content.blobs[&layer].len()]), "the content is not what was asked for"),
        (layer.clone(), Reply::ok(vec![b'y'; content.blobs[&layer].len() + 1]), "sends more than the"),
        // It says nothing of its length beforehand.
        (config.clone(), Reply::ok(vec![b'y'; content.blobs[&config].len()]), "the content is not what was asked for"),
        (config.clone(), Reply::ok(vec![b'y'; 9000]), "sends more than the"),
        (sha(&content.manifest), Reply::ok(b"{}".to_vec()), "the content is not what was asked for"),
        ("/manifests/1".into(), Reply::ok("{}"), "is in no format known here"),
        ("/manifests/1".into(), Reply::ok("{}").with("Docker-Content-Digest", sha(b"")), "not what was asked for"),
    ] {
        let clock = TestClock::default();
        let (content, lie) = (content.clone(), part.clone());
        let server =
            Server::new(
                &clock,
                move |asked| {
                    if asked.path.ends_with(&lie) { reply.clone() } else { content.answer(asked) }
                },
            )
            .await;
        let local = Local::new(&clock);
        let error = local.pull(&server, &Credentials::Anonymous).await.unwrap_err();
        assert!(error.contains(expected), "{part}: {error}");
        assert_eq!((local.has("images"), local.has("layers")), (0, 0), "{error}");
        clean(&local);
    }
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_broke() {
    let clock = TestClock::default();
    let content = Content::new(&["a"]);
    let layer = content.layers[0].clone();
    let server = Server::new(&clock, {
        let mut breaks = 2;
        move |asked| {
            let reply = content.answer(asked);
            if breaks == 0 || !asked.path.ends_with(&layer) {
                return reply;
            }
            breaks -= 1;
            Reply { length: Some(reply.body.len()), body: reply.body[..100_000].to_vec(), ..reply }
        }
    })
    .await;
    let local = Local::new(&clock);
    local.pull(&server, &Credentials::Anonymous).await.unwrap();
    let asked = server.asked.lock().unwrap().clone();
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[tokio::test]
async fn a_download_begins_anew_where_the_registry_knows_no_ranges() {
    let clock = TestClock::default();
    let content = Content::new(&["a"]);
    let layer = content.layers[0].clone();
    let server = Server::new(&clock, {
        let mut breaks = 1;
        move |asked| {
            let reply = content.answer(&Asked { head: String::new(), ..asked.clone() });
            if breaks == 0 || !asked.path.ends_with(&layer) {
                return reply;
            }
            breaks -= 1;
            Reply { length: Some(reply.body.len()), body: reply.body[..100_000].to_vec(), ..reply }
        }
    })
    .await;
    let local = Local::new(&clock);
    local.pull(&server, &Credentials::Anonymous).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_falls_silent_or_fails_is_given_up_after_some_tries() {
    for (broken, expected) in [
        (
            Reply { stall: true, length: Some(301_000), ..Reply::ok("x") },
            "sent nothing, or next to nothing, for 30 seconds",
        ),
        (Reply { length: Some(301_000), ..Reply::ok("x") }, "the connection to"),
        (Reply::error(503, "UNAVAILABLE", "not now"), "fails: not now"),
        (Reply::ok(""), "too early"),
    ] {
        let clock = TestClock::default();
        let content = Content::new(&["a"]);
        let layer = content.layers[0].clone();
        let server =
            Server::new(
                &clock,
                move |asked| {
                    if asked.path.ends_with(&layer) { broken.clone() } else { content.answer(asked) }
                },
            )
            .await;
        let local = Local::new(&clock);
        let error = local.pull(&server, &Credentials::Anonymous).await.unwrap_err();
        assert!(error.contains("gave up after 6 tries") && error.contains(expected), "{error}");
        assert_eq!(server.count("/blobs/"), 7);
        assert_eq!((local.has("images"), local.has("layers")), (0, 0), "{error}");
        clean(&local);
    }
}

#[tokio::test]
async fn a_token_is_fetched_with_the_login_and_the_login_goes_nowhere_else() {
    let clock = TestClock::default();
    let content = Content::new(&["a"]);
    let store = content.clone();
    let elsewhere = Server::new(&clock, move |asked| store.answer(asked)).await;
    let tokens = Server::new(&clock, |asked| {
        let known = asked.header("authorization") == Some("Basic bWU6cGFzczp3b3Jk");
        if known { Reply::ok(r#"{"token": "t0ken"}"#) } else { Reply::error(401, "UNAUTHORIZED", "who are you?") }
    })
    .await;
    let (realm, away) = (format!("http://{}/token", tokens.address), elsewhere.address);
    let server = Server::new(&clock, move |asked| {
        if asked.header("authorization") != Some("Bearer t0ken") {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:team/web:pull\"");
            return Reply::error(401, "UNAUTHORIZED", "authentication required").with("WWW-Authenticate", challenge);
        }
        if asked.path.contains("/blobs/") {
            return Reply { status: 307, ..Reply::ok("") }.with("Location", format!("http://{away}{}", asked.path));
        }
        content.answer(asked)
    })
    .await;
    let local = Local::new(&clock);
    local.pull(&server, &basic()).await.unwrap();
    assert_eq!(tokens.paths(), ["/token?scope=repository%3Ateam%2Fweb%3Apull&service=reg"]);
    let asked = elsewhere.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");

    let wrong = Credentials::Basic { user: "me".into(), password: "s3cret".into() };
    let error = local.pull(&server, &wrong).await.unwrap_err();
    assert!(error.contains("refuses access: who are you?: the login is wrong"), "{error}");
    assert!(!error.contains("s3cret") && !format!("{wrong:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_token_that_runs_out_in_the_middle_is_renewed() {
    let clock = TestClock::default();
    let content = Content::new(&["a", "b", "c", "d"]);
    let tokens = Server::new(&clock, {
        let mut given = 0;
        move |_| {
            given += 1;
            Reply::ok(json!({"access_token": format!("t{given}")}).to_string())
        }
    })
    .await;
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::new(&clock, {
        let mut blobs = 0;
        move |asked| {
            blobs += usize::from(asked.path.contains("/blobs/"));
            let expired = if blobs < 3 { "Bearer t0" } else { "Bearer t1" };
            if asked.header("authorization").is_none_or(|sent| sent == expired) {
                let challenge = format!("Bearer realm=\"{realm}\",error=\"invalid_token\"");
                return Reply::error(401, "UNAUTHORIZED", "expired").with("WWW-Authenticate", challenge);
            }
            content.answer(asked)
        }
    })
    .await;
    let local = Local::new(&clock);
    local.pull(&server, &basic()).await.unwrap();
    assert!(tokens.paths().len() > 1, "{:?}", tokens.paths());
    assert_eq!(local.has("layers"), 4);
}

#[tokio::test]
async fn an_identity_token_is_sent_to_the_token_service_alone() {
    let clock = TestClock::default();
    let content = Content::new(&["a"]);
    let tokens = Server::new(&clock, |asked| {
        if asked.path == "/moved" {
            return Reply { status: 307, ..Reply::ok("") }.with("Location", "/token");
        }
        Reply::ok(r#"{"access_token": "t0ken"}"#)
    })
    .await;
    for (path, works) in [("token", true), ("moved", false)] {
        let (content, realm) = (content.clone(), format!("http://{}/{path}", tokens.address));
        let server = Server::new(&clock, move |asked| {
            if asked.header("authorization") != Some("Bearer t0ken") {
                let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\"");
                return Reply::error(401, "UNAUTHORIZED", "who are you?").with("WWW-Authenticate", challenge);
            }
            content.answer(asked)
        })
        .await;
        let pulled = Local::new(&clock).pull(&server, &Credentials::IdentityToken("s3cret".into())).await;
        assert_eq!(pulled.is_ok(), works, "{pulled:?}");
        assert!(server.asked.lock().unwrap().iter().all(|asked| !format!("{asked:?}").contains("s3cret")));
    }
    let asked = tokens.asked.lock().unwrap().clone();
    let [good, _moved] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(good.head.starts_with("POST /token HTTP/1.1"), "{good:?}");
    assert_eq!(
        good.body,
        "scope=repository%3Ateam%2Fweb%3Apull&service=reg&grant_type=refresh_token&client_id=longshore&refresh_token=s3cret"
    );
}

#[tokio::test]
async fn how_far_a_pull_is_can_be_seen() {
    let clock = TestClock::default();
    let content = Content::new(&["a", "b"]);
    let layer = content.layers[0].clone();
    let total = content.layers.iter().map(|layer| content.blobs[layer].len() as u64).sum::<u64>();
    let server = Server::new(&clock, {
        let mut breaks = 1;
        move |asked| {
            // It breaks once, and begins anew.
            let reply = content.answer(&Asked { head: String::new(), ..asked.clone() });
            if breaks == 0 || !asked.path.ends_with(&layer) {
                return reply;
            }
            breaks -= 1;
            Reply { length: Some(reply.body.len()), body: reply.body[..100_000].to_vec(), ..reply }
        }
    })
    .await;
    let local = Local::new(&clock);
    let name = format!("{}/team/web:1", server.address);
    for starts_at in [0, total] {
        let seen = Mutex::new(Vec::new());
        let report = |progress: PullProgress| seen.lock().unwrap().push(progress);
        local.puller.pull_reporting(&name, &Credentials::Anonymous, &report).await.unwrap();
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen[0], PullProgress { received: 0, total });
        assert_eq!(seen[seen.len() - 1], PullProgress { received: total, total });
        assert!(seen.iter().all(|progress| progress.received <= total), "{seen:?}");
        let back = seen.windows(2).any(|pair| pair[1].received < pair[0].received);
        assert_eq!(back, starts_at == 0, "only what is not here yet can break");
    }
}

#[tokio::test]
async fn a_store_that_a_registry_points_to_cannot_ask_for_the_login() {
    let clock = TestClock::default();
    let content = Content::new(&["a"]);
    let thief = Server::new(&clock, |_| {
        Reply::error(401, "UNAUTHORIZED", "give").with("WWW-Authenticate", "Basic realm=\"x\"")
    })
    .await;
    let away = thief.address;
    let server = Server::new(&clock, move |asked| {
        if asked.path.contains("/blobs/") {
            return Reply { status: 302, ..Reply::ok("") }.with("Location", format!("http://{away}{}", asked.path));
        }
        content.answer(asked)
    })
    .await;
    let local = Local::new(&clock);
    let error = local.pull(&server, &basic()).await.unwrap_err();
    assert!(error.contains("the store that") && error.contains("refuses: give"), "{error}");
    assert!(thief.asked.lock().unwrap().iter().all(|asked| asked.header("authorization").is_none()));
}

#[tokio::test]
async fn what_a_registry_has_against_a_pull_is_told() {
    let clock = TestClock::default();
    for (reply, expected) in [
        (Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"), "says: manifest unknown"),
        (Reply::error(401, "UNAUTHORIZED", "authentication required"), "a login is needed (imagePullSecrets)"),
        (
            Reply { status: 302, ..Reply::ok("") }.with("Location", "/v2/team/web/manifests/1"),
            "redirects more than 5 times",
        ),
        (Reply { status: 302, ..Reply::ok("") }.with("Location", "ftp://x/"), "neither http nor https"),
    ] {
        let server = Server::new(&clock, move |_| reply.clone()).await;
        let error = Local::new(&clock).pull(&server, &Credentials::Anonymous).await.unwrap_err();
        assert!(error.contains(expected) && error.contains("team/web:1"), "{error}");
    }
    let gone = Server::new(&clock, |_| Reply::ok("")).await;
    let address = gone.address;
    drop(gone);
    let local = Local::new(&clock);
    let error = local.puller.pull(&format!("{address}/web"), &Credentials::Anonymous).await.unwrap_err().to_string();
    assert!(error.contains("cannot connect to 127.0.0.1"), "{error}");
    let error = local.puller.pull("nowhere.invalid/web", &Credentials::Anonymous).await.unwrap_err().to_string();
    assert!(error.contains("there is no such host as nowhere.invalid"), "{error}");
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_when_nobody_else_has_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let left = |below: &Path| {
        std::fs::create_dir_all(directory.path().join(below)).unwrap();
        directory.path().join(below)
    };
    let first = Store::open(directory.path().to_owned()).unwrap();
    let (work, layer) = (left(Path::new("work/x/layer")), left(&Path::new("layers").join("0".repeat(64))));
    let second = Store::open(directory.path().to_owned()).unwrap();
    assert!(work.exists() && layer.exists(), "they may be the first one's");
    drop((first, second));
    let record = directory.path().join("images/half.new");
    std::fs::write(&record, "{").unwrap();
    Store::open(directory.path().to_owned()).unwrap();
    assert!(!work.exists() && !layer.exists() && !record.exists());
}

/// A file system of its own, that is gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), directory.path(), Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_gets_its_room_back() {
    if !nix::unistd::geteuid().is_root() {
        return longshore_core::testing::skip("mounting a small disk needs root");
    }
    let clock = TestClock::default();
    let content = Content::new(&["a", "b", "c", "d", "e", "f", "g"]);
    let server = Server::new(&clock, move |asked| content.answer(asked)).await;
    let disk = SmallDisk::new("1m");
    let store = Arc::new(Store::open(disk.0.path().to_owned()).unwrap());
    let puller = Arc::new(Puller::new(store, Arc::new(clock), BTreeMap::new()));
    let name = format!("{}/team/web:1", server.address);
    let error = puller.pull(&name, &Credentials::Anonymous).await.unwrap_err().to_string();
    assert!(error.contains("is full: free some space, or remove images"), "{error}");
    for left in ["images", "layers", "work"] {
        assert_eq!(std::fs::read_dir(disk.0.path().join(left)).unwrap().count(), 0, "{left}");
    }
}

#[tokio::test]
async fn a_layer_that_is_too_large_is_not_even_asked_for() {
    let clock = TestClock::default();
    let mut content = Content::new(&["a"]);
    let mut manifest: Value = serde_json::from_slice(&content.manifest).unwrap();
    manifest["layers"][0]["size"] = json!(u64::MAX);
    content.manifest = manifest.to_string().into();
    let layer = content.layers[0].clone();
    let server = Server::new(&clock, move |asked| content.answer(asked)).await;
    let error = Local::new(&clock).pull(&server, &Credentials::Anonymous).await.unwrap_err();
    assert!(error.contains("more than the 34359738368 bytes it may"), "{error}");
    assert_eq!(server.count(&layer), 0);
}
