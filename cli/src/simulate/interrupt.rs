//! Ctrl-C ends it at once, but for a report that is being written: that is written first.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, Signal};

/// Held while files are written.
static WRITING: Mutex<()> = Mutex::new(());

/// From now on SIGINT, SIGTERM and SIGHUP end the process with their customary exit code. Runs have nothing that must be kept, so they are
/// not waited for.
pub(super) fn listen() -> io::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    // Threads that are started later block them as well, and this one alone waits for them.
    signals.thread_block()?;
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            let _whole = held_off();
            eprintln!("\nerror: simulate: interrupted");
            std::process::exit(128 + signal as i32);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Holds it off for as long as the guard lives.
pub(super) fn held_off() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}
