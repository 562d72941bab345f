//! Questions about other names, asked of others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::Name;
use longshore_core::clock::Clock;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::cache::{Cache, Key};
use super::message::{Answer, Request};
use super::options::{self, StubDomain, Upstreams};

/// How long a server may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
/// How long all servers together may take: by then a resolver asks again by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// Time between looks at the file that names the servers.
const REREAD: Duration = Duration::from_secs(5);
/// Room for a datagram: more than we say that we take.
const DATAGRAM: usize = 4096;

/// Servers that answer for the same names.
#[derive(Debug)]
struct Servers {
    /// The one that answered last, which is asked first.
    preferred: AtomicUsize,
    addresses: Mutex<(Option<Duration>, Arc<[SocketAddr]>)>,
    source: Upstreams,
}

/// Asks others and remembers what they say.
#[derive(Debug)]
pub(super) struct Forwarder {
    upstreams: Servers,
    stubs: Vec<(Name, Servers)>,
    /// Addresses that lead back to this server.
    own: Vec<SocketAddr>,
    cache: Cache,
    clock: Arc<dyn Clock>,
    /// Not to be guessed: an answer that somebody else sends must carry the right number.
    random: Mutex<StdRng>,
}

impl Forwarder {
    pub(super) fn new(
        upstreams: Upstreams,
        stubs: Vec<StubDomain>,
        own: Vec<SocketAddr>,
        clock: Arc<dyn Clock>,
        random: StdRng,
    ) -> Self {
        let mut stubs: Vec<(Name, Servers)> =
            stubs.into_iter().map(|stub| (stub.domain.0, Servers::new(Upstreams::Fixed(stub.servers)))).collect();
        // The longest that fits is found first.
        stubs.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.num_labels()));
        let random = Mutex::new(random);
        Self { upstreams: Servers::new(upstreams), stubs, own, cache: Cache::new(), clock, random }
    }

    /// How many labels the domain has whose servers are asked for a name; 0 if it is nobody's in particular.
    pub(super) fn depth(&self, name: &Name) -> u8 {
        self.stub(name).map_or(0, |(domain, _)| domain.num_labels())
    }

    fn stub(&self, name: &Name) -> Option<&(Name, Servers)> {
        self.stubs.iter().find(|(domain, _)| domain.zone_of(name))
    }

    /// What others say. If none does: that they failed.
    pub(super) async fn ask(&self, request: &Request) -> Answer {
        let key = Key::of(request);
        if let Some(answer) = self.cache.get(&key, self.clock.elapsed()) {
            return answer;
        }
        let servers = self.stub(&request.query.name).map_or(&self.upstreams, |(_, servers)| servers);
        let answer = tokio::select! {
            answer = self.ask_in_turn(servers, request) => answer,
            () = self.clock.sleep(PATIENCE) => Answer::new(ResponseCode::ServFail),
        };
        self.cache.put(key, &answer, self.clock.elapsed());
        answer
    }

    async fn ask_in_turn(&self, servers: &Servers, request: &Request) -> Answer {
        let addresses = servers.addresses(self.clock.elapsed(), &self.own);
        let first = servers.preferred.load(Ordering::Relaxed);
        let mut failed = Answer::new(ResponseCode::ServFail);
        for turn in 0..addresses.len() * ROUNDS {
            let place = (first + turn) % addresses.len();
            let server = addresses[place];
            let answer = tokio::select! {
                answer = self.ask_one(server, request) => answer,
                () = self.clock.sleep(ATTEMPT) => Err(io::ErrorKind::TimedOut.into()),
            };
            match answer {
                Ok(answer) if matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain) => {
                    servers.preferred.store(place, Ordering::Relaxed);
                    return answer;
                }
                // Perhaps another one can.
                Ok(answer) => failed = answer,
                Err(error) => tracing::debug!(%server, name = %request.query.name, %error, "no answer"),
            }
        }
        failed
    }

    async fn ask_one(&self, server: SocketAddr, request: &Request) -> io::Result<Answer> {
        let id = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        let question = request.onward(id);
        let bytes = question.to_vec().map_err(io::Error::other)?;
        let mut message = by_udp(server, &question, &bytes).await?;
        if message.metadata.truncation {
            message = by_tcp(server, &question, &bytes).await?;
        }
        Ok(Answer {
            code: message.metadata.response_code,
            authoritative: false,
            authentic: message.metadata.authentic_data,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
        })
    }
}

impl Servers {
    fn new(source: Upstreams) -> Self {
        Self { preferred: AtomicUsize::new(0), addresses: Mutex::new((None, Arc::new([]))), source }
    }

    fn addresses(&self, now: Duration, own: &[SocketAddr]) -> Arc<[SocketAddr]> {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match (known.0, &self.source) {
            (None, _) => true,
            (Some(since), Upstreams::File(_)) => now.saturating_sub(since) >= REREAD,
            (Some(_), Upstreams::Fixed(_)) => false,
        };
        if old {
            let addresses = match &self.source {
                Upstreams::Fixed(addresses) => addresses.clone(),
                // A file that is not there names nobody.
                Upstreams::File(path) => options::servers(&std::fs::read_to_string(path).unwrap_or_default()),
            };
            let addresses = addresses.into_iter().filter(|address| !own.contains(address)).collect();
            *known = (Some(now), addresses);
        }
        known.1.clone()
    }
}

/// Asks from a port of its own, which only the server asked can answer to.
async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // What does not fit is forged or late; the answer may still come.
        if let Some(message) = fitting(question, &buffer[..count]) {
            return Ok(message);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    fitting(question, &buffer).ok_or_else(|| io::Error::other("the answer does not fit the question"))
}

/// The message in a packet, if it answers the question.
fn fitting(question: &Message, packet: &[u8]) -> Option<Message> {
    // Also a packet that says to have 65535 questions takes no memory for them.
    if packet.get(..2)? != question.metadata.id.to_be_bytes() || packet.get(4..6)? != [0, 1] {
        return None;
    }
    let message = Message::from_vec(packet).ok()?;
    let fits = message.metadata.message_type == MessageType::Response && message.queries == question.queries;
    fits.then_some(message)
}
