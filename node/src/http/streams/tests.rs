use std::sync::Mutex;
use std::time::Duration;

use axum::http::{Request, header};
use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt, stream};
use longshore_core::clock::VirtualClock;
use longshore_core::connection::Takeover;
use longshore_core::runtime::{Error, Input, Output, Session};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::http::NodeService;
use crate::testing::{World, condition, pod};
use crate::testing_real::Pretending;

/// A client's side of a WebSocket, and the server that it talks to.
struct Client {
    socket: WebSocketStream<DuplexStream>,
    stopping: CancellationToken,
    clock: VirtualClock,
    server: JoinSet<()>,
}

impl Client {
    async fn of(response: &Response<Body>, clock: VirtualClock) -> Self {
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let takeover = response.extensions().get::<Takeover>().unwrap().clone();
        let (client, server) = tokio::io::duplex(1 << 10);
        let stopping = CancellationToken::new();
        let (mut tasks, token) = (JoinSet::new(), stopping.clone());
        tasks.spawn(async move { takeover.run(Box::new(server), token).await });
        let socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        Self { socket, stopping, clock, server: tasks }
    }

    /// A client of a process.
    async fn with(protocol: &str, wanted: Wanted, session: Session) -> Self {
        let upgrade = Upgrade::asked(&asks(protocol), &[V5, V4]).unwrap();
        let clock = VirtualClock::new();
        let servers = clock.clone();
        let response = upgrade.grant(async move |socket, stopping| {
            channels::serve(socket, stopping, &servers, wanted, async { Ok(session) }).await;
        });
        Self::of(&response, clock).await
    }

    async fn send(&mut self, message: &[u8]) {
        self.socket.send(Message::Binary(message.to_vec().into())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        self.socket.next().await.unwrap().unwrap()
    }

    /// The next message's channel and text.
    async fn heard(&mut self) -> (u8, String) {
        let message = self.next().await.into_data();
        (message[0], String::from_utf8(message[1..].to_vec()).unwrap())
    }

    /// The Status at the end, and that the connection is then closed.
    async fn status(mut self) -> Value {
        let (channel, text) = self.heard().await;
        assert_eq!(channel, 3);
        self.ends_with(1000).await;
        serde_json::from_str(&text).unwrap()
    }

    async fn ends_with(mut self, code: u16) {
        let Message::Close(Some(CloseFrame { code: closed, .. })) = self.next().await else { panic!("not closed") };
        assert_eq!(u16::from(closed), code);
        // What was said to the client is answered by the library.
        assert!(self.socket.next().await.is_none());
        self.server.join_next().await.unwrap().unwrap();
    }
}

fn asks(protocol: &str) -> HeaderMap {
    let headers = [
        (header::CONNECTION, "keep-alive, Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        (header::SEC_WEBSOCKET_VERSION, "13"),
        (header::SEC_WEBSOCKET_PROTOCOL, protocol),
    ];
    headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()
}

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false, own: true };

fn says(said: Vec<Result<Output, Error>>) -> Session {
    Session { input: None, output: stream::iter(said).boxed() }
}

/// A process that says nothing and does not end; tells what it is sent, and when it is dropped.
fn listens() -> (Session, futures::channel::mpsc::Receiver<Input>, Arc<Mutex<()>>) {
    let (sender, received) = futures::channel::mpsc::channel(0);
    let lives = Arc::new(Mutex::new(()));
    let held = lives.clone();
    let output = stream::pending().inspect(move |_| drop(held.lock())).boxed();
    let input = sender.sink_map_err(|error| Error::Failed { operation: "write".into(), reason: error.to_string() });
    (Session { input: Some(Box::pin(input)), output }, received, lives)
}

#[tokio::test]
async fn what_a_process_says_arrives_and_its_code() {
    for protocol in [V5, V4, "other, v4.channel.k8s.io"] {
        let said = [Output::Stdout("out".into()), Output::Stderr("err".into()), Output::Exit(3)];
        let mut client = Client::with(protocol, ALL, says(said.map(Ok).to_vec())).await;
        assert_eq!(client.heard().await, (1, "out".into()));
        assert_eq!(client.heard().await, (2, "err".into()));
        let status = client.status().await;
        assert_eq!((&status["status"], &status["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
        assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    }
    let client = Client::with(V5, ALL, says(vec![Ok(Output::Exit(0))])).await;
    assert_eq!(client.status().await, json!({"metadata": {}, "status": "Success"}));
    // The code of a container's own process is the pod's affair.
    let client = Client::with(V5, Wanted { own: false, ..ALL }, says(vec![Ok(Output::Exit(3))])).await;
    assert_eq!(client.status().await["status"], "Success");
    let broken = Error::Invalid { reason: "it cannot be run".into() };
    let status = Client::with(V5, ALL, says(vec![Err(broken)])).await.status().await;
    assert_eq!(status["message"], "Internal error occurred: error executing command in container: it cannot be run");
}

#[tokio::test]
async fn what_is_not_wanted_does_not_arrive() {
    let said = [Output::Stdout("out".into()), Output::Stderr("err".into()), Output::Exit(0)];
    let wanted = Wanted { stdout: false, ..ALL };
    let mut client = Client::with(V5, wanted, says(said.map(Ok).to_vec())).await;
    assert_eq!(client.heard().await, (2, "err".into()));
    assert_eq!(client.status().await["status"], "Success");
}

#[tokio::test]
async fn input_and_sizes_arrive_and_only_the_input_ends() {
    let (session, mut received, lives) = listens();
    let mut client = Client::with(V5, ALL, session).await;
    for message in [&b"\0one"[..], b"\x04{\"Width\":80,\"Height\":24}", b"\x04nonsense", b"", b"\x63?", b"\0", b"\0two"]
    {
        client.send(message).await;
    }
    assert_eq!(received.next().await, Some(Input::Data("one".into())));
    assert_eq!(received.next().await, Some(Input::Resize { width: 80, height: 24 }));
    assert_eq!(received.next().await, Some(Input::Data("two".into())));
    client.send(&[255, 0]).await;
    assert_eq!(received.next().await, None);
    assert_eq!(Arc::strong_count(&lives), 2, "the process goes on");
    client.send(b"\0three").await;
    client.stopping.cancel();
    client.ends_with(1001).await;
    assert_eq!(Arc::strong_count(&lives), 1, "the server stops");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_process() {
    for polite in [true, false] {
        let (session, _received, lives) = listens();
        let mut client = Client::with(V4, ALL, session).await;
        if polite {
            client.socket.send(Message::Close(None)).await.unwrap();
        }
        drop(client.socket);
        client.server.join_next().await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&lives), 1);
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_while_its_process_does_not_read() {
    let (session, _received, lives) = listens();
    let mut client = Client::with(V5, ALL, session).await;
    // More than the process, whose input nobody takes, and the connection hold.
    let flood = async {
        loop {
            client.socket.send(Message::Binary(vec![0; 512].into())).await.unwrap();
        }
    };
    tokio::select! {
        () = flood => {}
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    drop(client.socket);
    while client.server.try_join_next().is_none() {
        client.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&lives), 1);
}

#[tokio::test]
async fn a_silent_connection_is_kept_and_written_to() {
    let (session, _received, _lives) = listens();
    let mut client = Client::with(V5, ALL, session).await;
    for _ in 0..3 {
        let clock = client.clock.clone();
        let waited = async {
            loop {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_secs(1));
            }
        };
        let message = tokio::select! { message = client.next() => message, () = waited => unreachable!() };
        assert_eq!(message, Message::Ping(Bytes::new()));
    }
}

#[test]
fn an_upgrade_is_asked_for_properly_or_refused() {
    let upgrade = Upgrade::asked(&asks("v4.channel.k8s.io,v5.channel.k8s.io"), &[V5, V4]).unwrap();
    assert_eq!(upgrade.protocol, V5);
    let response = upgrade.grant(async |_, _| {});
    // The example of RFC 6455.
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut spdy = asks("v4.channel.k8s.io");
    spdy.insert(header::UPGRADE, "SPDY/3.1".parse().unwrap());
    let mut keyless = asks(V5);
    keyless.remove(header::SEC_WEBSOCKET_KEY);
    for (headers, expected) in [
        (HeaderMap::new(), "missing upgrade headers in request"),
        (spdy, "only WebSocket is spoken here, not SPDY/3.1"),
        (keyless, "missing Sec-WebSocket-Key in request"),
        (
            asks("v1.channel.k8s.io"),
            "of the protocols [\"v5.channel.k8s.io\", \"v4.channel.k8s.io\"] the client speaks none but \
             [\"v1.channel.k8s.io\"]",
        ),
    ] {
        assert_eq!(Upgrade::asked(&headers, &[V5, V4]).unwrap_err(), (StatusCode::BAD_REQUEST, expected.to_owned()));
    }
}

async fn ask(service: &NodeService, path: &str, protocol: &str) -> Response<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    *request.headers_mut() = asks(protocol);
    service.clone().oneshot(request).await.unwrap()
}

/// Runs a test with the service of an agent that has one pod.
async fn with_pod(test: impl AsyncFnOnce(&World, NodeService)) {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new();
    world.options.root_dir = directory.path().to_owned();
    world.options.log_dir = directory.path().join("logs");
    world.runtime.add_image("web").unwrap();
    let agent = world.agent_with(Pretending::new(world.runtime.clone()));
    let service = agent.service();
    let run = async {
        world.create(pod("a", json!({}))).await;
        // Files are written on other threads.
        while world.pod("a").is_none_or(|pod| condition(&pod, "Ready") != "True") {
            tokio::task::yield_now().await;
        }
        test(&world, service).await;
    };
    world.with_agent(agent, run).await;
}

#[tokio::test]
async fn commands_run_in_containers_that_run() {
    with_pod(async |world, service| {
        let path = "/exec/ns/a/main?command=a&command=b%20c&error=1";
        let mut client = Client::of(&ask(&service, path, V5).await, world.clock.clone()).await;
        assert_eq!(client.heard().await, (2, "not well".into()));
        assert_eq!(client.status().await["status"], "Success");
        // The simulated runtime has nobody to attach to.
        let client = Client::of(&ask(&service, "/attach/ns/a/main?output=1", V5).await, world.clock.clone()).await;
        let message = client.status().await["message"].as_str().unwrap().to_owned();
        assert!(message.contains("error attaching to container: the simulated runtime does not support attach"));
        for (path, expected) in [
            ("/exec/ns/a/main?command=a", (400, "you must specify at least 1 of stdin, stdout, stderr")),
            ("/exec/ns/a/other?command=a&output=1", (500, "container not found (\"other\")")),
            ("/attach/ns/b/main?output=1", (404, "pod does not exist")),
            ("/portForward/ns/b?port=80", (404, "pod does not exist")),
            ("/portForward/ns/a?port=80,x", (400, "\"x\" is not a port between 1 and 65535")),
            ("/portForward/ns/a", (400, "query parameter \"port\" is required")),
        ] {
            let answer = ask(&service, path, V4).await;
            let code = answer.status().as_u16();
            let text = axum::body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
            assert_eq!((code, &*text), (expected.0, expected.1.as_bytes()), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn ports_are_forwarded_in_channels() {
    with_pod(async |world, service| {
        let mut client =
            Client::of(&ask(&service, "/portForward/ns/a?port=80,81", V4).await, world.clock.clone()).await;
        for (channel, port) in [(0, "P\0"), (1, "P\0"), (2, "Q\0"), (3, "Q\0")] {
            assert_eq!(client.heard().await, (channel, port.into()));
        }
        let (channel, error) = client.heard().await;
        assert!(channel == 3 && error.contains("error forwarding port 81 to pod ns/a, uid "), "{error}");
        client.send(b"\0there and back").await;
        client.send(b"\x09nowhere").await;
        assert_eq!(client.heard().await, (0, "there and back".into()));
        client.stopping.cancel();
        client.ends_with(1001).await;
    })
    .await;
}

/// Frames of SPDY as a client makes them.
struct Spdy {
    client: Client,
    begun: bool,
    decoder: spdy::Decoder,
}

impl Spdy {
    async fn open(&mut self, id: u32, kind: &str, port: &str, request: &str) {
        let headers = [("streamtype", kind), ("port", port), ("requestid", request)];
        let block = spdy::testing::block(&headers, !std::mem::replace(&mut self.begun, true));
        self.client.send(&spdy::testing::open(id, &block)).await;
    }

    async fn next(&mut self) -> spdy::Frame {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return frame;
            }
            let message = self.client.next().await;
            self.decoder.push(&message.into_data());
        }
    }

    async fn accepted(&mut self) {
        assert!(matches!(self.next().await, spdy::Frame::Headers { .. }));
    }
}

#[tokio::test]
async fn ports_are_forwarded_through_a_tunnel() {
    use spdy::Frame::{Data, Ping, Reset};
    with_pod(async |world, service| {
        let client = Client::of(&ask(&service, "/portForward/ns/a", tunnel::PROTOCOL).await, world.clock.clone()).await;
        let mut spdy = Spdy { client, begun: false, decoder: spdy::Decoder::default() };
        spdy.open(1, "error", "80", "0").await;
        spdy.accepted().await;
        spdy.open(3, "data", "80", "0").await;
        spdy.accepted().await;
        spdy.client.send(&spdy::data(3, b"there ", false)).await;
        assert_eq!(spdy.next().await, Data { id: 3, bytes: "there ".into(), fin: false });
        spdy.client.send(&spdy::data(3, b"and back", true)).await;
        assert_eq!(spdy.next().await, Data { id: 3, bytes: "and back".into(), fin: false });
        assert_eq!(spdy.next().await, Data { id: 1, bytes: Bytes::new(), fin: true });
        assert_eq!(spdy.next().await, Data { id: 3, bytes: Bytes::new(), fin: true });

        // The order does not matter, and what fails is told.
        spdy.open(5, "data", "81", "1").await;
        spdy.accepted().await;
        spdy.open(7, "error", "81", "1").await;
        spdy.accepted().await;
        let Data { id: 7, bytes, fin: true } = spdy.next().await else { panic!("no error") };
        assert!(bytes.starts_with(b"error forwarding port 81 to pod ns/a"));
        assert_eq!(spdy.next().await, Data { id: 5, bytes: Bytes::new(), fin: true });

        // What makes no sense is refused, stream by stream.
        for (id, kind, port) in [(9, "other", "80"), (11, "data", "0"), (10, "data", "80"), (3, "data", "80")] {
            spdy.open(id, kind, port, "2").await;
            assert_eq!(spdy.next().await, Reset { id });
        }
        spdy.client.send(&spdy::ping(1)).await;
        assert_eq!(spdy.next().await, Ping { id: 1 });

        // A stream that is given up takes its partner along; data for nobody is dropped.
        spdy.open(13, "error", "80", "3").await;
        spdy.accepted().await;
        spdy.client.send(&spdy::reset(13, spdy::Reset::Refused)).await;
        spdy.client.send(&spdy::data(13, b"late", false)).await;
        spdy.client.send(&spdy::ping(3)).await;
        assert_eq!(spdy.next().await, Ping { id: 3 });

        spdy.client.send(b"\x80\x02\0\x01\0\0\0\0").await;
        spdy.client.ends_with(1002).await;
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_stops_says_goodbye() {
    with_pod(async |world, service| {
        let client = Client::of(&ask(&service, "/portForward/ns/a", tunnel::PROTOCOL).await, world.clock.clone()).await;
        client.stopping.cancel();
        client.ends_with(1001).await;
    })
    .await;
}

#[tokio::test]
async fn a_takeover_is_done_once() {
    let takeover = Takeover::new(async |_, _| {});
    let (_client, server) = tokio::io::duplex(1);
    takeover.clone().run(Box::new(server), CancellationToken::new()).await;
    let (_client, server) = tokio::io::duplex(1);
    assert!(takeover.run(Box::new(server), CancellationToken::new()).now_or_never().is_some());
}
