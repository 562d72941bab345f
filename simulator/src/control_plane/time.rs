//! Virtual time for a whole runtime: it moves when nobody can go on.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use longshore_core::clock::VirtualClock;
use tokio::runtime::Builder;

/// Whoever waits for the main future; it was woken and not polled since, if the flag says so.
struct Main {
    woken: Arc<AtomicBool>,
    waker: Waker,
}

impl Wake for Main {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

/// Runs `main`, and what it spawns, on the calling thread. The clock goes on to where the next sleeper wakes whenever all of them wait. There
/// is neither input nor output and no other time, so who goes on when follows from the futures alone.
///
/// Somebody must always sleep: where all wait for each other, this never ends.
pub(super) fn run<T>(clock: VirtualClock, main: impl Future<Output = T>) -> io::Result<T> {
    let woken = Arc::new(AtomicBool::new(false));
    let is_woken = woken.clone();
    let on = move || {
        if !is_woken.load(Ordering::Relaxed) {
            clock.advance_to_next();
        }
    };
    let runtime = Builder::new_current_thread().on_thread_park(on).build()?;
    let mut main = pin!(main);
    Ok(runtime.block_on(std::future::poll_fn(|context| {
        woken.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::new(Main { woken: woken.clone(), waker: context.waker().clone() }));
        main.as_mut().poll(&mut Context::from_waker(&waker))
    })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longshore_core::clock::Clock;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn time_moves_only_when_nobody_can_go_on() {
        let clock = VirtualClock::new();
        let told = run(clock.clone(), async {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let mut tasks = JoinSet::new();
            for number in 0..3_u64 {
                let (sender, clock) = (sender.clone(), clock.clone());
                tasks.spawn(async move {
                    for round in 1..=3 {
                        clock.sleep(Duration::from_secs(10 * number + round)).await;
                        // Others get their turns, and no time passes.
                        for _ in 0..100 {
                            tokio::task::yield_now().await;
                        }
                        sender.send((clock.elapsed().as_secs(), number)).unwrap();
                    }
                });
            }
            drop(sender);
            let mut told = Vec::new();
            while let Some((at, number)) = receiver.recv().await {
                assert_eq!(clock.elapsed().as_secs(), at, "the main future hears at once");
                told.push((at, number));
            }
            told
        });
        let told = told.unwrap();
        assert_eq!(told, [(1, 0), (3, 0), (6, 0), (11, 1), (21, 2), (23, 1), (36, 1), (43, 2), (66, 2)]);
    }
}
