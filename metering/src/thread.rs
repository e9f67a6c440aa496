//! A thread that takes no signal away from nginx.

use std::thread::{Builder, JoinHandle};

/// Starts the thread with all signals blocked that another thread can take: nginx's handlers are
/// written for its main thread.
///
/// # Errors
/// The system has no thread to give.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    // SAFETY: both sets are valid, initialised structures; the mask is this thread's own and is put
    // back below.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        // Faults belong to the thread that makes them; blocked, they would end the process.
        for fault in [libc::SIGBUS, libc::SIGSEGV, libc::SIGFPE, libc::SIGILL] {
            libc::sigdelset(&mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    let spawned = Builder::new().name(name.to_owned()).spawn(run);
    // SAFETY: `before` was filled in by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    spawned
}
