//! Keeps the worker alive when a page of its mapping cannot be had: the file was truncated, the disk
//! failed, or a copy-on-write file system ran out of room. The kernel then sends SIGBUS; the handler
//! puts an anonymous page where the fault was, and the fault is counted, so that the writer leaves
//! the segment.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// More mappings than one process ever has (two or three), and enough for tests side by side.
const SLOT_COUNT: usize = 128;
/// `start` of a slot that is being filled in; no mapping begins there.
const CLAIMED: usize = 1;

/// A guarded mapping. The handler reads these with plain atomic loads and takes no lock.
struct Slot {
    /// 0: free.
    start: AtomicUsize,
    end: AtomicUsize,
    faults: AtomicU32,
}

static SLOTS: [Slot; SLOT_COUNT] =
    [const { Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), faults: AtomicU32::new(0) } };
        SLOT_COUNT];

static PAGE: AtomicUsize = AtomicUsize::new(4096);
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// As long as this lives, faults in its range are mended.
pub(crate) struct Guard {
    slot: &'static Slot,
}

impl Guard {
    /// Guards `bytes` bytes from `start`, which is the start of a page. `None` if no slot is free.
    pub(crate) fn new(start: usize, bytes: usize) -> Option<Guard> {
        install();
        let slot = SLOTS.iter().find(|slot| slot.claim())?;
        slot.faults.store(0, Ordering::Relaxed);
        slot.end.store(start + bytes, Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        Some(Guard { slot })
    }

    /// Whether any page was replaced: what was stored there is not in the file.
    pub(crate) fn faulted(&self) -> bool {
        self.slot.faults.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.slot.start.store(0, Ordering::Release);
    }
}

impl Slot {
    fn claim(&self) -> bool {
        self.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start > CLAIMED && (start..self.end.load(Ordering::Relaxed)).contains(&address)
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `sysconf` has no preconditions. Both `sigaction` structures are valid, all-zero is a
        // valid value of them, and the handler calls async-signal-safe things only. The previous
        // action is stored before ours can run.
        unsafe {
            PAGE.store(libc::sysconf(libc::_SC_PAGESIZE) as usize, Ordering::Relaxed);
            let mut previous: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &mut previous);
            let _ = PREVIOUS.set(previous);
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_sigbus as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&mut ours.sa_mask);
            libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut());
        }
    });
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo, and SIGBUS from a fault has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    match SLOTS.iter().find(|slot| slot.holds(address)) {
        Some(slot) if mend(address) => {
            slot.faults.fetch_add(1, Ordering::Relaxed);
        }
        _ => pass_on(signal, info, context),
    }
}

/// Puts an anonymous page over the one that `address` is in.
fn mend(address: usize) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    let at = (address & !(page - 1)) as *mut libc::c_void;
    // SAFETY: the page lies wholly within a mapping that this crate made, from a page's start on, and
    // reaches through raw pointers only, so replacing it breaks no reference. `errno` is put back,
    // since the interrupted code may be about to read it.
    unsafe {
        let errno = *libc::__errno_location();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let mapped = libc::mmap(at, page, protection, flags, -1, 0);
        *libc::__errno_location() = errno;
        mapped != libc::MAP_FAILED
    }
}

/// Not ours: does what would have been done without us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(previous) = PREVIOUS.get() else {
        return;
    };
    let handler = previous.sa_sigaction;
    // SAFETY: `handler` is what the kernel reported as installed before us, so it is a function of
    // the form that its flags say. With the default action back in place the fault comes again as
    // soon as we return, and ends the process as it should.
    unsafe {
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            libc::sigaction(signal, previous, ptr::null_mut());
        } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
            let call: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(handler);
            call(signal, info, context);
        } else {
            let call: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
            call(signal);
        }
    }
}
