//! Ctrl-C and SIGTERM, so that everything is ended in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_testbed::wait;

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: i32) {
    // A second signal while the parts are being ended must not cut that short; a store to an
    // atomic is all that a signal handler may safely do here.
    ASKED.store(true, Ordering::SeqCst);
}

/// From now on both signals only set a mark.
pub fn install() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: `note` has the signature of a signal handler and only stores to an atomic.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Waits for one of them.
pub fn wait() {
    while !wait::until(Duration::from_secs(3600), asked) {}
}
