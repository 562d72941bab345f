//! The server over loopback, with servers of others that the tests play.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData};
use longshore_core::clock::{SystemClock, VirtualClock};
use longshore_core::network::Protocol;
use proptest::prelude::*;

use super::super::forward::ATTEMPT;
use super::super::{Endpoint, Port, Service, ServiceKind, Upstreams};
use super::*;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(name(text), kind));
    message
}

fn address(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
}

/// How somebody else answers.
type Behaviour = fn(&Message, &mut Message);

/// A server of others'. It answers both protocols on one port, or to nothing if it has no behaviour.
struct Other {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Other {
    async fn new(behaviour: Option<Behaviour>) -> Self {
        let (udp, tcp) = listen(LOOPBACK.into()).await.unwrap();
        let address = udp.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let answer = {
            let asked = asked.clone();
            move |packet: &[u8], transport: &str| {
                let question = Message::from_vec(packet).unwrap();
                asked.lock().unwrap().push(format!("{transport} {}", question.queries[0].name));
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.queries.clone_from(&question.queries);
                behaviour?(&question, &mut answer);
                if transport == "tcp" {
                    answer.metadata.truncation = false;
                }
                Some(answer.to_vec().unwrap())
            }
        };
        let mut tasks = JoinSet::new();
        let by_udp = answer.clone();
        tasks.spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((count, from)) = udp.recv_from(&mut buffer).await {
                if let Some(bytes) = by_udp(&buffer[..count], "udp") {
                    // Something forged comes first.
                    let mut forged = bytes.clone();
                    forged[0] ^= 1;
                    udp.send_to(&forged, from).await.unwrap();
                    udp.send_to(&bytes, from).await.unwrap();
                }
            }
        });
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut packet).await.unwrap();
                if let Some(bytes) = answer(&packet, "tcp") {
                    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                    stream.write_all(&bytes).await.unwrap();
                }
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

struct Served {
    address: SocketAddr,
    metrics: Metrics,
    cancel: CancellationToken,
    task: JoinSet<()>,
}

impl Served {
    async fn new(clock: Arc<dyn Clock>, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(LOOPBACK.into(), 7);
        options.upstreams = Upstreams::Fixed(vec![]);
        change(&mut options);
        let server = Server::bind(options, clock).await.unwrap();
        let (address, names, metrics) = (server.address(), server.names(), server.metrics().clone());
        let endpoint = |last| Endpoint {
            address: Ipv4Addr::new(10, 1, 0, last).into(),
            hostname: None,
            ports: vec![Port { name: "http".into(), protocol: Protocol::Tcp, number: 80 }],
        };
        let external = |name: &str| Service { kind: ServiceKind::External { name: name.into() }, endpoints: vec![] };
        {
            let mut zone = names.write();
            zone.set_service(
                "ns",
                "few",
                Some(Service { kind: ServiceKind::Headless, endpoints: (0..4).map(endpoint).collect() }),
            );
            zone.set_service(
                "ns",
                "many",
                Some(Service { kind: ServiceKind::Headless, endpoints: (0..200).map(endpoint).collect() }),
            );
            zone.set_service("ns", "out", Some(external("www.example.com")));
            zone.set_service("ns", "in", Some(external("few.ns.svc.cluster.local")));
            zone.set_service("ns", "circle", Some(external("circle.ns.svc.cluster.local.")));
            zone.set_ready();
        }
        let cancel = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(server.run(cancel.clone()));
        Self { address, metrics, cancel, task }
    }

    async fn real(change: impl FnOnce(&mut Options)) -> Self {
        Self::new(Arc::new(SystemClock::new()), change).await
    }

    async fn ask(&self, question: &Message) -> Message {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        socket.send_to(&question.to_vec().unwrap(), self.address).await.unwrap();
        let mut buffer = [0; 4096];
        let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(from, self.address);
        Message::from_vec(&buffer[..count]).unwrap()
    }

    async fn ask_by_tcp(&self, question: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let bytes = question.to_vec().unwrap();
        // Byte by byte, and a second question on the same connection.
        for byte in [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat() {
            stream.write_u8(byte).await.unwrap();
        }
        let mut answers = Vec::new();
        for round in 0..2 {
            let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut buffer).await.unwrap();
            answers.push(Message::from_vec(&buffer).unwrap());
            if round == 0 {
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
        assert_eq!(answers[0].answers.len(), answers[1].answers.len());
        answers.remove(0)
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn the_zone_is_served_over_both_protocols() {
    let served = Served::real(|_| ()).await;
    let few = question("few.ns.svc.cluster.local.", RecordType::A);
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let answer = served.ask(&few).await;
        assert!(answer.metadata.authoritative && answer.answers.len() == 4);
        orders.insert(addresses(&answer)[0].clone());
    }
    assert_eq!(orders.len(), 4, "each is first now and then");
    // What is too long by UDP says so, and is whole by TCP.
    let many = question("many.ns.svc.cluster.local.", RecordType::A);
    assert!(served.ask(&many).await.metadata.truncation);
    assert_eq!(served.ask_by_tcp(&many).await.answers.len(), 200);
    let mut wide = many.clone();
    wide.edns = Some(Edns::new());
    wide.edns.as_mut().unwrap().set_max_payload(4096);
    let answer = served.ask(&wide).await;
    assert!(answer.metadata.truncation && answer.edns.is_some());
    assert_eq!(answer.answers.len(), 73);

    let none = served.ask(&question("none.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!((code(&none), none.authorities.len(), none.authorities[0].ttl), (ResponseCode::NXDomain, 1, 5));
    let nothing = served.ask(&question("few.ns.svc.cluster.local.", RecordType::MX)).await;
    assert_eq!((code(&nothing), nothing.authorities.len()), (ResponseCode::NoError, 1));

    let mut registry = prometheus_client::registry::Registry::default();
    served.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("coredns_dns_requests_total{proto=\"tcp\",type=\"A\"} 2\n"), "{text}");
    assert!(text.contains("coredns_dns_responses_total{rcode=\"NXDOMAIN\",plugin=\"kubernetes\"} 1\n"), "{text}");
    served.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_question_are_survived() {
    let served = Served::real(|_| ()).await;
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    for packet in [&[][..], &[1], &[0xff; 12], &[0; 12], &[0x55; 1400], &[0; 60_000]] {
        socket.send_to(packet, served.address).await.unwrap();
        // By TCP it ends the connection, or is refused in it.
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes()).await.unwrap();
        stream.write_all(packet).await.unwrap();
    }
    let answer = served.ask(&question("few.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(answer.answers.len(), 4);
    served.stop().await;
}

#[tokio::test]
async fn other_names_are_asked_of_others_and_remembered() {
    let other = Other::new(Some(|question, answer| {
        let name = question.queries[0].name.to_ascii();
        match name.to_ascii_lowercase().as_str() {
            "www.example.com." => answer.answers.push(address(&name, 60, 1)),
            "long.example.com." => {
                answer.metadata.truncation = true;
                answer.answers.extend((0..40).map(|last| address(&name, 60, last)));
            }
            _ => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                let soa = SOA::new(super::tests::name("com."), super::tests::name("com."), 1, 1, 1, 1, 60);
                answer.authorities.push(Record::from_rdata(super::tests::name("com."), 60, RData::SOA(soa)));
            }
        }
    }))
    .await;
    let clock = VirtualClock::new();
    let upstream = other.address;
    let served =
        Served::new(Arc::new(clock.clone()), |options| options.upstreams = Upstreams::Fixed(vec![upstream])).await;
    let www = question("www.example.com.", RecordType::A);
    let answer = served.ask(&www).await;
    assert_eq!((addresses(&answer), answer.metadata.authoritative), (vec!["192.0.2.1".to_owned()], false));
    clock.advance(Duration::from_secs(20));
    let again = served.ask(&question("WWW.example.com.", RecordType::A)).await;
    assert_eq!((again.answers[0].ttl, again.queries[0].name.to_ascii()), (40, "WWW.example.com.".to_owned()));
    assert_eq!(other.asked(), ["udp www.example.com."]);
    clock.advance(Duration::from_secs(10));
    served.ask(&www).await;
    assert_eq!(other.asked(), ["udp www.example.com."], "not for longer than half a minute");
    for _ in 0..2 {
        assert_eq!(code(&served.ask(&question("no.example.com.", RecordType::A)).await), ResponseCode::NXDomain);
    }
    assert_eq!(other.asked(), ["udp no.example.com."]);
    // What the other cannot say in one packet is asked for again.
    let long = question("long.example.com.", RecordType::A);
    assert!(served.ask(&long).await.metadata.truncation);
    assert_eq!(other.asked(), ["udp long.example.com.", "tcp long.example.com."]);
    assert_eq!(served.ask_by_tcp(&long).await.answers.len(), 40);

    // An alias of the cluster's leads there, or back into the cluster, or nowhere.
    let out = served.ask(&question("out.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(addresses(&out), ["www.example.com.", "192.0.2.1"]);
    assert!(out.metadata.authoritative);
    let alone = served.ask(&question("out.ns.svc.cluster.local.", RecordType::CNAME)).await;
    assert_eq!(addresses(&alone), ["www.example.com."]);
    assert_eq!(served.ask(&question("in.ns.svc.cluster.local.", RecordType::A)).await.answers.len(), 5);
    let circle = served.ask(&question("circle.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(circle.answers.len(), ALIASES_MAX);
    served.stop().await;
}

/// Asks, and lets time pass whenever the one who never answers was asked.
async fn ask_past(silent: &Other, served: &Served, clock: &VirtualClock, question: &Message) -> Message {
    let mut answer = std::pin::pin!(served.ask(question));
    let mut seen = 0;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::task::yield_now() => {}
        }
        let asked = silent.asked.lock().unwrap().len();
        if asked > seen {
            seen = asked;
            clock.advance(ATTEMPT);
        }
    }
}

#[tokio::test]
async fn a_server_that_is_silent_or_fails_is_passed_over() {
    let silent = Other::new(None).await;
    let failing = Other::new(Some(|_, answer| answer.metadata.response_code = ResponseCode::ServFail)).await;
    let good: Behaviour = |question, answer| answer.answers.push(address(&question.queries[0].name.to_ascii(), 60, 1));
    let good = Other::new(Some(good)).await;
    let clock = VirtualClock::new();
    let upstreams = vec![silent.address, failing.address, good.address];
    let served = Served::new(Arc::new(clock.clone()), |options| options.upstreams = Upstreams::Fixed(upstreams)).await;
    let answer = ask_past(&silent, &served, &clock, &question("a.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
    assert_eq!((silent.asked().len(), failing.asked().len(), good.asked().len()), (1, 1, 1));
    assert_eq!(clock.elapsed(), ATTEMPT);
    // Who answered last is asked first.
    served.ask(&question("b.example.com.", RecordType::A)).await;
    assert_eq!((silent.asked().len(), failing.asked().len(), good.asked().len()), (0, 0, 1));
    served.stop().await;

    let (mute, deaf) = (silent.address, failing.address);
    let served =
        Served::new(Arc::new(clock.clone()), |options| options.upstreams = Upstreams::Fixed(vec![mute, deaf])).await;
    let start = clock.elapsed();
    let answer = ask_past(&silent, &served, &clock, &question("c.example.com.", RecordType::A)).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert_eq!(clock.elapsed() - start, 2 * ATTEMPT, "each twice");
    served.stop().await;
}

#[tokio::test]
async fn stub_domains_have_servers_of_their_own() {
    let answer: Behaviour =
        |question, answer| answer.answers.push(address(&question.queries[0].name.to_ascii(), 60, 1));
    let (general, special, inner) =
        (Other::new(Some(answer)).await, Other::new(Some(answer)).await, Other::new(Some(answer)).await);
    let (upstream, corp, sub) = (general.address, special.address, inner.address);
    let served = Served::real(|options| {
        options.upstreams = Upstreams::Fixed(vec![upstream]);
        let stub = |domain: &str, server: SocketAddr| format!("{domain}={server}").parse().unwrap();
        options.stub_domains = vec![stub("corp.test", corp), stub("sub.corp.test", sub), stub("vm.cluster.local", sub)];
    })
    .await;
    for asked in [
        "a.corp.test.",
        "corp.test.",
        "a.sub.Corp.test.",
        "a.acorp.test.",
        "a.vm.cluster.local.",
        "few.ns.svc.cluster.local.",
    ] {
        served.ask(&question(asked, RecordType::A)).await;
    }
    assert_eq!(general.asked(), ["udp a.acorp.test."]);
    assert_eq!(special.asked(), ["udp a.corp.test.", "udp corp.test."]);
    assert_eq!(inner.asked(), ["udp a.sub.Corp.test.", "udp a.vm.cluster.local."]);
    served.stop().await;
}

#[tokio::test]
async fn the_machines_servers_are_read_without_the_server_itself() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 10.96.0.10\n").unwrap();
    let served = Served::real(|options| {
        options.addresses = vec!["10.96.0.10".parse().unwrap()];
        options.upstreams = Upstreams::File(file);
    })
    .await;
    // Nobody else is left to be asked.
    let answer = served.ask(&question("a.example.com.", RecordType::A)).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    served.stop().await;
}

#[tokio::test]
async fn before_the_cluster_is_known_the_server_fails_and_then_goes_on_with_what_it_was_told() {
    let options = Options { upstreams: Upstreams::Fixed(vec![]), ..Options::new(LOOPBACK.into(), 7) };
    let server = Server::bind(options, Arc::new(SystemClock::new())).await.unwrap();
    let names = server.names();
    let packet = question("web.ns.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    let answer = Message::from_vec(&names.answer(&packet).await).unwrap();
    assert_eq!(code(&answer), ResponseCode::ServFail);
    names.write().set_ready();
    let answer = Message::from_vec(&names.answer(&packet).await).unwrap();
    assert_eq!(code(&answer), ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let taken = UdpSocket::bind(LOOPBACK).await.unwrap();
    let options = Options::new(taken.local_addr().unwrap(), 7);
    let error = Server::bind(options, Arc::new(SystemClock::new())).await.unwrap_err().to_string();
    assert!(error.contains(&format!("serve DNS at {}", taken.local_addr().unwrap())), "{error}");
}

proptest! {
    #[test]
    fn whatever_arrives_is_answered_or_not_but_harms_nothing(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = Options { upstreams: Upstreams::Fixed(vec![]), ..Options::new(LOOPBACK.into(), 7) };
            let server = Server::bind(options, Arc::new(SystemClock::new())).await.unwrap();
            server.names().write().set_ready();
            server.names().answer(&packet).await;
        });
    }
}
