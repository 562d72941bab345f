//! Servers that come, go and fall silent, on ports of this machine.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use http_body_util::BodyExt;
use longshore_core::clock::VirtualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::Service;

use super::*;

/// What a server does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Answers 200 with its name.
    Answers,
    /// Reads the request and closes the connection.
    HangsUp,
    /// Reads the request and says nothing, to nobody.
    IsSilent,
    /// Says nothing to what it is asked but whether it lives.
    IsSlow,
    /// Begins an answer that never ends.
    Streams,
    /// Answers 503.
    IsUnavailable,
    /// Answers 429 the first time.
    TurnsAway,
}

/// A server, until it is dropped.
struct Fake {
    url: Uri,
    seen: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn fake(name: &'static str, manner: Manner) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            connections.spawn(async move {
                let mut read = Vec::new();
                while !read.windows(4).any(|end| end == b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut read).await, Ok(length) if length > 0) {
                        return;
                    }
                }
                let probe = read.starts_with(b"GET /livez");
                let before = if probe { 0 } else { count.fetch_add(1, Ordering::SeqCst) };
                let answer = |head: &str| {
                    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{name}", name.len())
                };
                let text = match manner {
                    Manner::HangsUp => return,
                    Manner::IsSlow if probe => answer("200 OK"),
                    Manner::IsSilent | Manner::IsSlow => return futures::future::pending().await,
                    Manner::Streams => format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{name}"),
                    Manner::IsUnavailable => answer("503 Service Unavailable"),
                    Manner::TurnsAway if before == 0 => answer("429 Too Many Requests\r\nretry-after: 1"),
                    Manner::Answers | Manner::TurnsAway => answer("200 OK"),
                };
                let _ = stream.write_all(text.as_bytes()).await;
                if manner == Manner::Streams {
                    futures::future::pending().await
                }
            });
        }
    });
    Fake { url, seen, _tasks: tasks }
}

fn over(clock: &VirtualClock, urls: &[&Uri]) -> Failover {
    let further: Vec<Uri> = urls[1..].iter().map(|url| (*url).clone()).collect();
    Failover::new(kube::Config::new(urls[0].clone()), &further, Arc::new(clock.clone())).unwrap()
}

async fn send(servers: &Failover, method: Method) -> Result<Response<Cut>, kube::Error> {
    let request = Request::builder().method(method).uri("/api").body(Body::from(b"body".to_vec())).unwrap();
    servers.clone().call(request).await
}

async fn name(answer: Result<Response<Cut>, kube::Error>) -> String {
    String::from_utf8(answer.unwrap().into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A port at which nobody listens.
async fn nobody() -> Uri {
    fake("", Manner::HangsUp).await.url
}

#[tokio::test]
async fn what_was_never_sent_goes_to_the_next_server_and_all_that_follows_too() {
    let clock = VirtualClock::new();
    let (a, b) = (nobody().await, fake("b", Manner::Answers).await);
    let servers = over(&clock, &[&a, &b.url]);
    assert_eq!(name(send(&servers, Method::POST).await).await, "b");
    assert_eq!(name(send(&servers, Method::GET).await).await, "b");
    assert_eq!(b.seen.load(Ordering::SeqCst), 2);
    // Where nobody answers that is said, and not tried for ever.
    let servers = over(&clock, &[&a, &nobody().await]);
    assert!(is_unsent(&send(&servers, Method::GET).await.unwrap_err()));
}

#[tokio::test]
async fn a_write_that_was_sent_and_not_answered_is_not_sent_again() {
    let clock = VirtualClock::new();
    let (a, b) = (fake("a", Manner::HangsUp).await, fake("b", Manner::Answers).await);
    let servers = over(&clock, &[&a.url, &b.url]);
    assert!(send(&servers, Method::POST).await.is_err());
    assert_eq!((a.seen.load(Ordering::SeqCst), b.seen.load(Ordering::SeqCst)), (1, 0));
    // Its caller reads to find out, elsewhere.
    assert_eq!(name(send(&servers, Method::GET).await).await, "b");
    // What only reads is.
    let servers = over(&clock, &[&a.url, &b.url]);
    assert_eq!(name(send(&servers, Method::GET).await).await, "b");
}

#[tokio::test]
async fn a_server_that_is_unavailable_is_left_by_reads_only() {
    let clock = VirtualClock::new();
    let (a, b) = (fake("a", Manner::IsUnavailable).await, fake("b", Manner::Answers).await);
    let servers = over(&clock, &[&a.url, &b.url]);
    assert_eq!(send(&servers, Method::PUT).await.unwrap().status(), 503);
    assert_eq!(name(send(&servers, Method::GET).await).await, "b");
    let servers = over(&clock, &[&a.url]);
    assert_eq!(send(&servers, Method::GET).await.unwrap().status(), 503);
}

#[tokio::test]
async fn what_is_turned_away_for_now_comes_again_later() {
    let clock = VirtualClock::new();
    let a = fake("a", Manner::TurnsAway).await;
    let servers = over(&clock, &[&a.url]);
    let answer = while_time_passes(&clock, send(&servers, Method::POST)).await;
    assert_eq!(name(answer).await, "a");
}

/// Runs something while the clock moves on whenever nothing else does.
async fn while_time_passes<T>(clock: &VirtualClock, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(20)) => { clock.advance(Duration::from_secs(1)); }
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_asked_whether_it_lives() {
    let clock = VirtualClock::new();
    let (a, b) = (fake("a", Manner::IsSilent).await, fake("b", Manner::Answers).await);
    let servers = over(&clock, &[&a.url, &b.url]);
    assert_eq!(name(while_time_passes(&clock, send(&servers, Method::GET)).await).await, "b");
    assert!(clock.elapsed() >= SILENCE * 2);
    // One that is only slow is waited for.
    let slow = fake("slow", Manner::IsSlow).await;
    let servers = over(&clock, &[&slow.url, &b.url]);
    let mut waiting = Box::pin(send(&servers, Method::GET));
    let start = clock.elapsed();
    while clock.elapsed() - start < Duration::from_secs(60) {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(slow.seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn streams_of_a_server_that_is_left_end() {
    let clock = VirtualClock::new();
    let (a, b) = (fake("a", Manner::Streams).await, fake("b", Manner::Answers).await);
    let servers = over(&clock, &[&a.url, &b.url]);
    let mut stream = send(&servers, Method::GET).await.unwrap().into_body();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    let first = servers.shared.used();
    servers.shared.leave(&first, &"a test");
    assert!(stream.frame().await.unwrap().unwrap_err().to_string().contains("left"));
    // Who finds the server gone later than another does not leave the next one too.
    servers.shared.leave(&first, &"a test");
    assert_eq!(servers.shared.used().url, b.url);
}

#[tokio::test]
async fn servers_that_are_learned_of_are_used_and_known_ones_not_taken_twice() {
    let clock = VirtualClock::new();
    let (a, b) = (nobody().await, fake("b", Manner::Answers).await);
    let servers = over(&clock, &[&a]);
    servers.add(&b.url).unwrap();
    servers.add(&b.url).unwrap();
    assert_eq!(servers.urls(), [a, b.url.clone()]);
    assert_eq!(name(send(&servers, Method::GET).await).await, "b");
}
