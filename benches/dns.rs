//! Measures the cluster's DNS: `cargo bench --features network --bench dns [-- --json] [-- --seconds 2]`.
//!
//! Twice: the answering alone, from the bytes of a question to the bytes of its answer on one thread; and the server over UDP
//! on loopback, where whoever asks shares the machine with it. Beside it stands what CoreDNS' authors have published. Every
//! answer is checked to be one.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore::core::clock::{Clock, SystemClock};
use longshore::core::network::Protocol;
use longshore::network::dns::hickory_proto::op::{Message, MessageType, OpCode, Query};
use longshore::network::dns::hickory_proto::rr::{Name, RecordType};
use longshore::network::dns::{Endpoint, Options, Port, Server, Service, ServiceKind, Upstreams, Zone};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Services with an address: as many as the largest clusters that upstream tests.
const SERVICES: usize = 10_000;
/// Headless Services, and the endpoints of each.
const HEADLESS: usize = 100;
const PEERS: u8 = 10;
/// Who asks over UDP, and how many questions each has open.
const ASKERS: usize = 2;
const OPEN: usize = 50;

/// CoreDNS, one instance with default settings, names of the cluster: recorded, not measured here.
/// <https://github.com/coredns/deployment/blob/master/kubernetes/Scaling_CoreDNS.md>
const COREDNS: f64 = 33_669.0;
const COREDNS_WHERE: &str = "recorded: GCE n1-standard-2 (2 vCPU), asked by dnsperf from another machine";

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

struct Bench {
    clock: SystemClock,
    seconds: f64,
    figures: Vec<(String, f64)>,
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (mut json, mut seconds) = (false, 2.0);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--seconds" => seconds = arguments.next().ok_or("--seconds wants a number")?.parse()?,
            // Cargo says so itself.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}: there are --json and --seconds N").into()),
        }
    }
    let mut bench = Bench { clock: SystemClock::new(), seconds, figures: Vec::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench.run())?;
    bench.print(json);
    Ok(())
}

/// What is asked for, and the packets that ask for it.
type Questions = (&'static str, Vec<Vec<u8>>);

/// Questions by what they show, each of many names.
fn questions() -> Outcome<Vec<Questions>> {
    let each = |count: usize, kind: RecordType, name: &dyn Fn(usize) -> String| -> Outcome<Vec<Vec<u8>>> {
        (0..count).map(|number| question(&format!("{}.cluster.local.", name(number * 7919 % count)), kind)).collect()
    };
    let service = |number: usize| format!("service-{number}.ns-{}.svc", number % 100);
    let headless = |number: usize| format!("headless-{number}.default.svc");
    Ok(vec![
        ("A of a Service", each(1000, RecordType::A, &service)?),
        ("SRV of a Service", each(1000, RecordType::SRV, &|number| format!("_http._tcp.{}", service(number)))?),
        ("A of a headless Service of 10", each(HEADLESS, RecordType::A, &headless)?),
        ("A of a peer", each(HEADLESS, RecordType::A, &|number| format!("peer-3.{}", headless(number)))?),
        ("A of a name that is not there", each(1000, RecordType::A, &|number| format!("no-{number}.default.svc"))?),
    ])
}

fn question(name: &str, kind: RecordType) -> Outcome<Vec<u8>> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name)?, kind));
    Ok(message.to_vec()?)
}

fn fill(zone: &mut Zone) {
    let port = Port { name: "http".to_owned(), protocol: Protocol::Tcp, number: 80 };
    zone.set_namespace("default", true);
    for number in 0..SERVICES {
        let address = std::net::Ipv4Addr::from_bits(0x0a60_0000 + u32::try_from(number).unwrap_or_default()).into();
        let kind = ServiceKind::Cluster { addresses: vec![address], ports: vec![port.clone()] };
        let service = Service { kind, endpoints: Vec::new() };
        zone.set_service(&format!("ns-{}", number % 100), &format!("service-{number}"), Some(service));
    }
    for number in 0..HEADLESS {
        let endpoint = |peer: u8| Endpoint {
            address: std::net::Ipv4Addr::new(10, 1, u8::try_from(number).unwrap_or_default(), peer).into(),
            hostname: Some(format!("peer-{peer}")),
            ports: vec![port.clone()],
        };
        let service = Service { kind: ServiceKind::Headless, endpoints: (0..PEERS).map(endpoint).collect() };
        zone.set_service("default", &format!("headless-{number}"), Some(service));
    }
    zone.set_ready();
}

impl Bench {
    async fn run(&mut self) -> Outcome {
        let options = Options { upstreams: Upstreams::Fixed(vec![]), ..Options::new("127.0.0.1:0".parse()?, 7) };
        let server = Server::bind(options, Arc::new(self.clock.clone())).await?;
        let (names, address) = (server.names(), server.address());
        fill(&mut names.write());
        for (what, packets) in questions()? {
            let start = self.clock.elapsed();
            let mut count = 0_u32;
            while self.left(start) {
                for packet in &packets {
                    let answer = names.answer(packet).await;
                    assert!(answer.len() > packet.len(), "more than the question comes back");
                    count += 1;
                }
            }
            self.add(&format!("alone, {what}"), count, start);
        }
        let cancel = CancellationToken::new();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(server.run(cancel.clone()));
        for (what, packets) in questions()? {
            let start = self.clock.elapsed();
            let ended = Arc::new(AtomicBool::new(false));
            let mut askers = tokio::task::JoinSet::new();
            for _ in 0..ASKERS {
                let (packets, ended) = (packets.clone(), ended.clone());
                askers.spawn_blocking(move || ask(address, &packets, &ended).map_err(|error| error.to_string()));
            }
            self.clock.sleep(Duration::from_secs_f64(self.seconds)).await;
            ended.store(true, Ordering::Relaxed);
            let counts: Result<Vec<u32>, String> = askers.join_all().await.into_iter().collect();
            self.add(&format!("UDP, {what}"), counts?.into_iter().sum(), start);
        }
        cancel.cancel();
        serving.join_all().await;
        Ok(())
    }

    fn left(&self, start: Duration) -> bool {
        (self.clock.elapsed() - start).as_secs_f64() < self.seconds
    }

    fn add(&mut self, what: &str, count: u32, start: Duration) {
        let rate = f64::from(count) / (self.clock.elapsed() - start).as_secs_f64();
        eprintln!("{what:<44} {rate:>10.0} answers/s");
        self.figures.push((what.to_owned(), rate));
    }

    fn print(&self, json: bool) {
        eprintln!("{:<44} {COREDNS:>10.0} answers/s ({COREDNS_WHERE})", "CoreDNS");
        if !json {
            return;
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let mut figures: Vec<_> = self
            .figures
            .iter()
            .map(|(what, value)| json!({"what": what, "value": value, "unit": "answers/s"}))
            .collect();
        figures.push(json!({"what": "CoreDNS", "value": COREDNS, "unit": "answers/s", "where": COREDNS_WHERE}));
        let document = json!({
            "bench": "dns",
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "cpus": std::thread::available_parallelism().map_or(0, usize::from),
            "services": SERVICES,
            "figures": figures,
        });
        println!("{document:#}");
    }
}

/// Keeps some questions open until told to end, and counts answers.
fn ask(server: SocketAddr, packets: &[Vec<u8>], ended: &AtomicBool) -> Outcome<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut questions = packets.iter().cycle();
    let mut send = || questions.next().map_or(Ok(0), |packet| socket.send(packet));
    for _ in 0..OPEN {
        send()?;
    }
    let (mut count, mut buffer) = (0, [0; 2048]);
    while !ended.load(Ordering::Relaxed) {
        let size = socket.recv(&mut buffer)?;
        assert!(size > 12 && buffer[2] & 0x80 != 0, "it is an answer");
        count += 1;
        send()?;
    }
    Ok(count)
}
