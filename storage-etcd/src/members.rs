//! The members of the etcd cluster that this process knows, and how one of them is asked.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ClusterClient, ConnectOptions, GetOptions, Identity, KvClient, LeaseClient, MaintenanceClient,
    TlsOptions, WatchClient,
};
use futures::future::BoxFuture;
use longshore_core::clock::Clock;
use longshore_core::queue::Backoff;
use longshore_core::store::Revision;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio::sync::watch;

use crate::failure::{Failure, Kind};
use crate::text;
use crate::{OpenError, Options};

/// Waits between tries, each with up to as much again of jitter.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(25), max: Duration::from_secs(2) };

/// How often a connection is tried that nobody waits for, and how long the answer may take. etcd refuses more than one in 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));

/// How long a member may leave somebody waiting before it is asked whether it lives, and how long that answer may take before another is
/// asked: together what one that hangs costs.
const LIVES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));

/// Most bytes of one answer. etcd itself bounds its answers only by what was asked for, so the requests do that.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The members. All requests go to one of them, the current one, until it fails; then the next becomes current. (A
/// balanced channel over all members would send part of the requests to one that is down.)
pub(crate) struct Members {
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    clock: Arc<dyn Clock>,
    random: Arc<Mutex<Pcg64>>,
    request_timeout: Duration,
    patience: Duration,
    closed: Arc<AtomicBool>,
}

struct Endpoint {
    url: String,
    options: ConnectOptions,
    member: RwLock<Option<Member>>,
}

/// A connected member; clones share the connection.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) index: usize,
    pub(crate) kv: KvClient,
    pub(crate) watch: WatchClient,
    pub(crate) lease: LeaseClient,
    pub(crate) maintenance: MaintenanceClient,
    pub(crate) cluster: ClusterClient,
    life: Arc<Life>,
}

/// What is known of a connection.
#[derive(Default)]
struct Life {
    /// Whoever asks whether the member lives; the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
    /// It does not.
    hangs: watch::Sender<bool>,
}

impl fmt::Debug for Members {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Members").field("endpoints", &self.urls()).finish_non_exhaustive()
    }
}

impl Members {
    /// Names the members, without asking any.
    pub(crate) fn new(options: &Options) -> Result<Self, OpenError> {
        let endpoints: Vec<Endpoint> =
            options.endpoints.iter().map(|url| Endpoint::new(url, options)).collect::<Result<_, _>>()?;
        let mut random = Pcg64::seed_from_u64(options.seed);
        if endpoints.is_empty() {
            return Err(OpenError::Endpoint { endpoint: String::new(), reason: "none is given".to_owned() });
        }
        // So that several API servers do not all burden the first member.
        let first = random.random_range(0..endpoints.len());
        Ok(Self {
            endpoints,
            current: AtomicUsize::new(first),
            clock: Arc::clone(&options.clock),
            random: Arc::new(Mutex::new(random)),
            request_timeout: options.request_timeout,
            patience: options.patience,
            closed: Arc::new(AtomicBool::new(false)),
        })
    }

    /// The same members over connections of their own, for a reader who may take its time: what it does not read waits in a
    /// connection's window, of which there is one for all requests.
    pub(crate) fn apart(&self) -> Self {
        let again = |endpoint: &Endpoint| Endpoint {
            url: endpoint.url.clone(),
            options: endpoint.options.clone(),
            member: RwLock::new(None),
        };
        Self {
            endpoints: self.endpoints.iter().map(again).collect(),
            current: AtomicUsize::new(self.current.load(Ordering::Relaxed)),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            request_timeout: self.request_timeout,
            patience: self.patience,
            closed: Arc::clone(&self.closed),
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn urls(&self) -> Vec<&str> {
        self.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect()
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Asks the current member once.
    pub(crate) async fn once<T, F>(&self, call: impl FnOnce(Member) -> F + Send) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.ask(self.current.load(Ordering::Relaxed), call).await
    }

    /// Asks one member once.
    pub(crate) async fn ask<T, F>(&self, index: usize, call: impl FnOnce(Member) -> F + Send) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let asked = async {
            let member = Box::pin(self.connected(index)).await?;
            let answer = self.within(self.request_timeout, Box::pin(call(member.clone())));
            tokio::select! {
                biased;
                answer = answer => match answer {
                    Some(answer) => Ok(answer?),
                    None => Err(Failure::unknown(format!("no answer in {:?}", self.request_timeout))),
                },
                hangs = self.hangs(&member) => Err(hangs),
            }
        };
        match asked.await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                if failure.is_passing() {
                    self.turn_from(index);
                }
                let reason = format!("{}: {}", self.endpoints[index].url, failure.reason);
                Err(Failure { reason, ..failure })
            }
        }
    }

    /// Ends when a member from which somebody waits for an answer is found to hang, and its connection is given up. One that is only slow
    /// still answers for itself, which is what it is asked to do; and one that does not, or has no leader, is given up only if another is
    /// better, for on a machine that has too much to do all are slow.
    pub(crate) fn hangs<'a>(&'a self, member: &'a Member) -> BoxFuture<'a, Failure> {
        // In a box, for it is beside whatever is asked: without optimization the stack would hold it many times over.
        Box::pin(async move {
            let mut told = member.life.hangs.subscribe();
            tokio::select! {
                biased;
                _ = told.wait_for(|hangs| *hangs) => {}
                () = self.find_hanging(member) => {}
            }
            Failure::unknown("the member hangs")
        })
    }

    async fn find_hanging(&self, member: &Member) {
        loop {
            self.clock.sleep(LIVES.0).await;
            let _asking = member.life.asking.lock().await;
            let mut own = Box::pin(lives(member.clone()));
            let other = Box::pin(self.other_lives(member.index));
            let given_up = match self.within(LIVES.1, &mut own).await {
                Some(Err(error)) if error.has_no_leader() => self.within(LIVES.1, other).await.is_some(),
                // Another error is an answer, too: a connection that is broken has told so to whoever waits.
                Some(_) => false,
                None => tokio::select! {
                    biased;
                    _ = own => false,
                    () = other => true,
                },
            };
            if given_up {
                tracing::warn!(member = self.endpoints[member.index].url, "etcd hangs, going on with another member");
                self.lost(member.index);
                member.life.hangs.send_replace(true);
                return;
            }
        }
    }

    /// Waits until one of the other members says that it lives.
    async fn other_lives(&self, index: usize) {
        loop {
            for distance in 1..self.endpoints.len() {
                let lives = Box::pin(async {
                    let member = self.connected((index + distance) % self.endpoints.len()).await.ok()?;
                    lives(member).await.ok()
                });
                if self.within(LIVES.1, lives).await.flatten().is_some() {
                    return;
                }
            }
            self.clock.sleep(LIVES.0).await;
        }
    }

    /// Asks until there is an answer, for as long as patience lasts: for requests that do no harm when they happen twice.
    pub(crate) async fn read<T, F>(&self, call: impl Fn(Member) -> F + Send + Sync) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let mut tries = self.tries();
        loop {
            match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    /// Begins to count tries of one request.
    pub(crate) fn tries(&self) -> Tries<'_> {
        Tries { members: self, since: self.clock.elapsed(), failures: 0 }
    }

    /// The store's revision, as of now: no read that begins later sees less.
    pub(crate) async fn revision(&self) -> Result<Revision, Failure> {
        self.read(revision).await
    }

    /// Drops the connection to a member, and turns to another.
    pub(crate) fn lost(&self, index: usize) {
        *self.endpoints[index].member.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.turn_from(index);
    }

    /// Makes the next member current, unless somebody did so already.
    fn turn_from(&self, index: usize) {
        let next = (index + 1) % self.endpoints.len();
        // Somebody else may have turned, which is as good.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn connected(&self, index: usize) -> Result<Member, Failure> {
        let endpoint = &self.endpoints[index];
        if let Some(member) = &*endpoint.member.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(member.clone());
        }
        let connect = Client::connect([&endpoint.url], Some(endpoint.options.clone()));
        let client = match self.within(self.request_timeout, connect).await {
            // Authentication is all that was asked for: whatever became of it, the request was not made.
            None => return Err(Failure::nothing("cannot authenticate in time")),
            Some(Err(error)) => {
                let failure = Failure::from(error);
                let kind = if failure.is_passing() { Kind::Nothing } else { failure.kind };
                return Err(Failure { kind, ..failure });
            }
            Some(Ok(client)) => client,
        };
        let member = Member {
            index,
            kv: client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            watch: client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
            cluster: client.cluster_client(),
            life: Arc::default(),
        };
        *endpoint.member.write().unwrap_or_else(PoisonError::into_inner) = Some(member.clone());
        Ok(member)
    }

    /// What the future answers, if it does so in time.
    pub(crate) async fn within<T>(&self, time: Duration, future: impl Future<Output = T> + Send) -> Option<T> {
        tokio::select! {
            biased;
            answer = future => Some(answer),
            () = self.clock.sleep(time) => None,
        }
    }

    /// Waits after so many failures in a row.
    pub(crate) async fn back_off(&self, failures: u32) {
        let jitter: f64 = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        self.clock.sleep(BACKOFF.after(failures).mul_f64(1.0 + jitter)).await;
    }
}

/// Asks a member for the store's revision by a read that all members must agree on.
pub(crate) async fn revision(mut member: Member) -> Result<Revision, etcd_client::Error> {
    let found = member.kv.get(text::ALL, Some(GetOptions::new().with_count_only())).await?;
    Ok(found.header().map_or(0, |header| text::revision(header.revision())))
}

/// Asks a member for something that it knows by itself.
async fn lives(mut member: Member) -> Result<(), Failure> {
    let options = GetOptions::new().with_count_only().with_serializable();
    member.kv.get(text::ALL, Some(options)).await.map(drop).map_err(Failure::from)
}

/// Tries of one request.
pub(crate) struct Tries<'a> {
    members: &'a Members,
    since: Duration,
    failures: u32,
}

impl Tries<'_> {
    /// Waits before the next try, or gives the failure back when it is none that passes or patience is at its end.
    pub(crate) async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        let spent = self.members.clock.elapsed().saturating_sub(self.since);
        if !failure.is_passing() || self.members.is_closed() || spent >= self.members.patience {
            return Err(failure);
        }
        tracing::debug!(%failure, "asking etcd again");
        self.failures += 1;
        self.members.back_off(self.failures).await;
        Ok(())
    }
}

impl Endpoint {
    fn new(url: &str, options: &Options) -> Result<Self, OpenError> {
        // What stands before an @ may be a password.
        let shown = url.rsplit('@').next().unwrap_or_default();
        let wrong = |reason: &str| OpenError::Endpoint { endpoint: shown.to_owned(), reason: reason.to_owned() };
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let host = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(host), _) => {
                let tls = options.tls.as_ref().ok_or_else(|| wrong("it needs the certificate of an authority"))?;
                let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
                if let Some((certificate, key)) = &tls.identity {
                    config = config.identity(Identity::from_pem(certificate, key));
                }
                connect = connect.with_tls(config);
                host
            }
            (None, Some(host)) => host,
            (None, None) => return Err(wrong("it begins neither with https:// nor with http://")),
        };
        if host.trim_matches('/').is_empty() {
            return Err(wrong("it names no host"));
        }
        if shown != url {
            return Err(wrong("a user and password do not belong there"));
        }
        if let Some(credentials) = &options.credentials {
            connect = connect.with_user(&credentials.user, &credentials.password);
        }
        Ok(Self { url: url.trim_end_matches('/').to_owned(), options: connect, member: RwLock::new(None) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoints: &[&str]) -> String {
        Members::new(&Options::new(endpoints.iter().copied())).unwrap_err().to_string()
    }

    #[test]
    fn endpoints_that_cannot_be_any_are_refused() {
        assert!(refused(&[]).contains("none is given"));
        assert!(refused(&["10.0.0.1:2379"]).contains("neither with https:// nor"));
        assert!(refused(&["http://"]).contains("names no host"));
        assert!(refused(&["https://10.0.0.1:2379"]).contains("authority"));
        let told = refused(&["http://root:secret@10.0.0.1:2379"]);
        assert!(told.contains("password") && !told.contains("secret"), "{told}");
    }
}
