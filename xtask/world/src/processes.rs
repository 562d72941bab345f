//! The processes of a world, and whose turn it is.
//!
//! Each process is a runtime of tokio's of its own, all of them on the calling thread. So a process can be killed, which drops its
//! futures wherever they are; be paused, which leaves them unpolled while time goes on; and be woken by others only as real ones are, by
//! what they send. Who goes on next, and for how many polls, is drawn from the seed. Time moves only when nobody can go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::task::AtomicWaker;
use longshore_core::clock::{Clock, VirtualClock};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio::runtime::{Builder, Runtime, RuntimeMetrics};

/// Most polls of a turn, where a turn does not last until the process has nothing to do.
const SHORT_TURN: u32 = 24;

/// Most polls of a turn.
const LONG_TURN: u32 = 1_000;

/// Most turns at one moment: whoever needs more never comes to rest.
const TURNS_MAX: u32 = 100_000;

/// A place for a process: what was there once can be started there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub usize);

/// A task that does nothing. When it is polled twice on end, the runtime had nothing else to do.
#[derive(Debug, Default)]
struct Pulse {
    waker: AtomicWaker,
    polled: AtomicBool,
}

/// A process that runs.
#[derive(Debug)]
struct Process {
    runtime: Runtime,
    metrics: RuntimeMetrics,
    pulse: Arc<Pulse>,
    /// Its last turn ended before it had nothing to do.
    unfinished: bool,
    paused: bool,
}

impl Process {
    fn start(seed: u64, main: impl Future<Output = ()> + Send + 'static) -> Result<Self, String> {
        let mut builder = Builder::new_current_thread();
        // One poll at a time, so that a turn can end after any; those that others woke first, so that all get their turn.
        builder.event_interval(1).global_queue_interval(1);
        // What `select!` looks at first.
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        #[cfg(not(tokio_unstable))]
        let _ = seed;
        let runtime = builder.build().map_err(|error| format!("no runtime for a process: {error}"))?;
        let pulse = Arc::new(Pulse::default());
        let beat = Arc::clone(&pulse);
        drop(runtime.spawn(std::future::poll_fn(move |context| -> Poll<()> {
            beat.waker.register(context.waker());
            beat.polled.store(true, Ordering::Relaxed);
            Poll::Pending
        })));
        drop(runtime.spawn(main));
        let metrics = runtime.metrics();
        Ok(Self { runtime, metrics, pulse, unfinished: true, paused: false })
    }

    /// Whether it could go on: some task was woken, by itself or by another process.
    fn is_ready(&self) -> bool {
        !self.paused && (self.unfinished || self.metrics.global_queue_depth() > 0)
    }

    /// Goes on for so many polls, or until there is nothing to do.
    fn turn(&mut self, polls: u32) {
        let (pulse, metrics) = (&self.pulse, &self.metrics);
        pulse.waker.wake();
        let (mut left, mut beats) = (polls, 0);
        let unfinished = self.runtime.block_on(std::future::poll_fn(|context| {
            if pulse.polled.swap(false, Ordering::Relaxed) {
                beats += 1;
                if beats == 2 && metrics.global_queue_depth() == 0 {
                    return Poll::Ready(false);
                }
                pulse.waker.wake();
            } else {
                beats = 0;
            }
            if left == 0 {
                return Poll::Ready(true);
            }
            left -= 1;
            // Polled again after the next task.
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        self.unfinished = unfinished;
    }
}

/// All processes and the one clock.
#[derive(Debug)]
pub struct Processes {
    clock: VirtualClock,
    rng: Pcg64,
    places: Vec<Option<Process>>,
    ready: Vec<usize>,
}

impl Processes {
    /// None yet.
    pub fn new(clock: VirtualClock, seed: u64) -> Self {
        Self { clock, rng: Pcg64::seed_from_u64(seed), places: Vec::new(), ready: Vec::new() }
    }

    /// A place, where nothing runs yet.
    pub fn place(&mut self) -> Place {
        self.places.push(None);
        Place(self.places.len() - 1)
    }

    /// Starts a process in a place, in which the one before was killed.
    ///
    /// # Errors
    /// If the machine has no means for it.
    pub fn start(&mut self, place: Place, main: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
        let process = Process::start(self.rng.random(), main)?;
        self.places[place.0] = Some(process);
        Ok(())
    }

    /// Ends a process where it is, as `kill -9` does.
    pub fn kill(&mut self, place: Place) {
        self.places[place.0] = None;
    }

    /// Lets a process stand still, as `SIGSTOP` does, or go on.
    pub fn pause(&mut self, place: Place, paused: bool) {
        if let Some(process) = &mut self.places[place.0] {
            process.paused = paused;
        }
    }

    /// Whether a process runs in the place.
    pub fn runs(&self, place: Place) -> bool {
        self.places[place.0].is_some()
    }

    /// Lets everything happen until a moment of the virtual clock.
    ///
    /// # Errors
    /// If the processes never have nothing to do.
    pub fn run_until(&mut self, moment: Duration) -> Result<(), String> {
        let clock = self.clock.clone();
        let mut wait = std::pin::pin!(clock.sleep(moment.saturating_sub(clock.elapsed())).fuse());
        loop {
            // Not of any process: nobody has to be woken.
            let done = wait.as_mut().now_or_never().is_some();
            self.settle()?;
            if done {
                return Ok(());
            }
            clock.advance_to_next();
        }
    }

    /// Gives turns until nobody can go on.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            self.ready.clear();
            let ready = self.places.iter().enumerate();
            let ready = ready.filter(|(_, process)| process.as_ref().is_some_and(Process::is_ready));
            self.ready.extend(ready.map(|(index, _)| index));
            let chosen = match self.ready.as_slice() {
                [] => return Ok(()),
                [one] => *one,
                several => several[self.rng.random_range(0..several.len())],
            };
            let polls = if self.rng.random() { LONG_TURN } else { self.rng.random_range(1..=SHORT_TURN) };
            if let Some(process) = &mut self.places[chosen] {
                process.turn(polls);
            }
        }
        let busy: Vec<usize> = self.ready.clone();
        Err(format!("at {:?} the processes {busy:?} do not come to rest", self.clock.elapsed()))
    }
}
