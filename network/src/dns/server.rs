//! The server: UDP and TCP on one port.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::Poll;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Record, RecordType};
use longshore_core::clock::Clock;
use longshore_core::network::Error;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::forward::Forwarder;
use super::message::{self, Answer, Received, Request, Transport};
use super::metrics::Metrics;
use super::options::{Options, PORT, PodNames};
use super::zone::{Found, Zone};
use crate::netlink::failed;

/// Tasks that read from the UDP socket; no more than there are processors.
const READERS_MAX: usize = 4;
/// Questions of one reader that wait for others' answers. Further ones are refused, as CoreDNS does beyond 1000.
const WAITING_MAX: usize = 512;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Wait after the socket failed.
const RETRY: Duration = Duration::from_millis(100);
/// How many aliases of the cluster may follow each other, as CoreDNS has it.
const ALIASES_MAX: usize = 8;
/// Largest datagram.
const DATAGRAM: usize = 65_535;
/// How many free ports are tried: one that is free for UDP need not be so for TCP.
const BINDS: usize = 16;

/// A server of names. It answers from its [`Zone`], and asks others about what is not in there.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    address: SocketAddr,
    pod_names: PodNames,
}

/// The names that a [`Server`] serves; clones are the same.
#[derive(Debug, Clone)]
pub struct Names(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    zone: RwLock<Zone>,
    forwarder: Forwarder,
    random: Mutex<StdRng>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// An answer that is being worked out.
type Work = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

impl Server {
    /// Listens, and answers nothing until [`Server::run`].
    ///
    /// # Errors
    /// [`Error::Failed`] if the address or the port cannot be had.
    pub async fn bind(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (udp, tcp) = listen(options.listen).await.map_err(failed(format!("serve DNS at {}", options.listen)))?;
        let address = udp.local_addr().map_err(failed("find the port of DNS"))?;
        let mut random = StdRng::seed_from_u64(options.seed);
        // Also what the machine sends to its own port, or pods to the servers' addresses, comes back.
        let own = options.addresses.iter().map(|own| SocketAddr::new(*own, PORT)).chain([address]).collect();
        let for_others = StdRng::from_rng(&mut random);
        let shared = Shared {
            zone: RwLock::new(Zone::new(options.domain.0, options.ttl, options.pod_names, options.addresses)),
            forwarder: Forwarder::new(options.upstreams, options.stub_domains, own, clock.clone(), for_others),
            random: Mutex::new(random),
            clock,
            metrics: Metrics::default(),
        };
        Ok(Self { shared: Arc::new(shared), udp: Arc::new(udp), tcp, address, pod_names: options.pod_names })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which pods have names.
    pub fn pod_names(&self) -> PodNames {
        self.pod_names
    }

    /// What it serves.
    pub fn names(&self) -> Names {
        Names(self.shared.clone())
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Serves until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let readers = std::thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
        let mut tasks = JoinSet::new();
        for _ in 0..readers {
            tasks.spawn(read_datagrams(self.shared.clone(), self.udp.clone()));
        }
        tasks.spawn(accept(self.shared, self.tcp));
        cancel.cancelled().await;
        tasks.shutdown().await;
    }
}

impl Names {
    /// Looks at the names.
    pub fn read(&self) -> RwLockReadGuard<'_, Zone> {
        self.0.zone.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the names; nobody is answered meanwhile.
    pub fn write(&self) -> RwLockWriteGuard<'_, Zone> {
        self.0.zone.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a packet that came by UDP is answered with; empty if it is not answered.
    pub async fn answer(&self, packet: &[u8]) -> Vec<u8> {
        begin(&self.0, packet, Transport::Udp, true).await
    }
}

/// Takes the port for both protocols.
async fn listen(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { BINDS } else { 1 };
    loop {
        tries -= 1;
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(SocketAddr::new(address.ip(), udp.local_addr()?.port())).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

async fn read_datagrams(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; DATAGRAM];
    let mut waiting = JoinSet::new();
    loop {
        let (count, asker) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "cannot read questions, trying again");
                shared.clock.sleep(RETRY).await;
                continue;
            }
        };
        while waiting.try_join_next().is_some() {}
        let mut work = begin(&shared, &buffer[..count], Transport::Udp, waiting.len() < WAITING_MAX);
        // What the zone or the memory knows is answered at once; only what others must be asked for becomes a task.
        match futures::poll!(&mut work) {
            Poll::Ready(answer) => send(&socket, &answer, asker).await,
            Poll::Pending => {
                let socket = socket.clone();
                waiting.spawn(async move { send(&socket, &work.await, asker).await });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], asker: SocketAddr) {
    if !answer.is_empty()
        && let Err(error) = socket.send_to(answer, asker).await
    {
        tracing::debug!(%asker, %error, "cannot answer");
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                connections.spawn(converse(shared.clone(), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection, trying again");
                shared.clock.sleep(RETRY).await;
            }
        }
    }
}

/// Answers a connection's questions one after the other.
async fn converse(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut packet = Vec::new();
    loop {
        let exchange = async {
            packet.resize(usize::from(stream.read_u16().await?), 0);
            stream.read_exact(&mut packet).await?;
            let answer = begin(&shared, &packet, Transport::Tcp, true).await;
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            if length == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await
        };
        let done = tokio::select! {
            done = exchange => done,
            () = shared.clock.sleep(IDLE) => return,
        };
        if done.is_err() {
            return;
        }
    }
}

/// Begins to work out what a packet is answered with.
fn begin(shared: &Arc<Shared>, packet: &[u8], transport: Transport, may_wait: bool) -> Work {
    let request = match message::read(packet) {
        Received::Request(request) => request,
        Received::Refused(code, answer) => {
            shared.metrics.refused(transport, code);
            return Box::pin(std::future::ready(answer));
        }
        Received::Nothing => return Box::pin(std::future::ready(Vec::new())),
    };
    let shared = shared.clone();
    Box::pin(async move {
        let mut answering = std::pin::pin!(shared.answer(&request));
        let answer = match futures::poll!(&mut answering) {
            Poll::Ready(answer) => answer,
            Poll::Pending if may_wait => answering.await,
            Poll::Pending => Answer::new(ResponseCode::Refused),
        };
        shared.metrics.answered(transport, request.query.query_type, answer.authoritative, answer.code);
        request.respond(&answer, transport)
    })
}

impl Shared {
    async fn answer(&self, request: &Request) -> Answer {
        let mut request = request.clone();
        let mut aliases: Vec<Record> = Vec::new();
        loop {
            let mut answer = match self.own(&request) {
                Some(Found::Alias { cname, target }) => {
                    aliases.push(cname);
                    // Who asks for the alias itself has it; a chain that is too long may be a circle.
                    if request.query.query_type != RecordType::CNAME && aliases.len() < ALIASES_MAX {
                        request.query.name = target;
                        continue;
                    }
                    Answer { authoritative: true, ..Answer::new(ResponseCode::NoError) }
                }
                Some(found) => self.authoritative(found),
                None => self.forwarder.ask(&request).await,
            };
            // The code is that of the last name (RFC 6604).
            answer.authoritative |= !aliases.is_empty();
            answer.answers.splice(0..0, aliases);
            return answer;
        }
    }

    /// What the zone says; `None` if others are to be asked.
    fn own(&self, request: &Request) -> Option<Found> {
        let query = &request.query;
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        // A stub domain inside of the zone is somebody else's.
        if zone.origin().zone_of(&query.name) && self.forwarder.depth(&query.name) > zone.origin().num_labels() {
            return None;
        }
        Some(zone.look_up(&query.name, query.query_type)).filter(|found| !matches!(found, Found::Elsewhere))
    }

    fn authoritative(&self, found: Found) -> Answer {
        let soa = || vec![self.zone.read().unwrap_or_else(PoisonError::into_inner).soa()];
        let mut answer = Answer { authoritative: true, ..Answer::new(ResponseCode::NoError) };
        match found {
            Found::Records { answers, additionals } => {
                answer.answers = answers;
                answer.additionals = additionals;
                if answer.answers.len() > 1 {
                    // Who takes the first of them shall not always take the same.
                    let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
                    answer.answers.shuffle(&mut *random);
                }
            }
            Found::NoName => {
                answer.code = ResponseCode::NXDomain;
                answer.authorities = soa();
            }
            Found::Unready => answer = Answer::new(ResponseCode::ServFail),
            Found::NoData | Found::Alias { .. } | Found::Elsewhere => answer.authorities = soa(),
        }
        answer
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
