//! Panics of a world's processes. The tasks that they end may have nobody who minds.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static HOOK: Once = Once::new();

/// The panics of this thread since the last call. From the first call on they are no longer printed where they happen.
pub(crate) fn take() -> Vec<String> {
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let text = panic.to_string();
            PANICS.with_borrow_mut(|panics| panics.push(text));
        }));
    });
    PANICS.take()
}
