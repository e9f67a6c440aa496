//! What one worker process owns, from init_process to exit_process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER,
    ngx_add_timer, ngx_connection_t, ngx_cycle_t, ngx_del_timer, ngx_event_actions, ngx_event_t,
    ngx_free_connection, ngx_get_connection, ngx_handle_read_event, ngx_http_request_t, ngx_int_t,
    ngx_msec_t, ngx_process,
};
use weir_gateway::{Gateway, GatewayOptions, Level, Now};

use crate::conf::{self, MainConf};
use crate::glue::{OK, guard, log_cycle, log_panics};
use crate::zone::Shared;
use crate::{owner, wait};

/// What a worker owns.
pub struct Process {
    pub gateway: Gateway,
    /// Requests that wait for a lease or are held back, by token.
    pub waiting: HashMap<u64, *mut ngx_http_request_t>,
    wake: Wake,
    tick: Box<Tick>,
}

/// What other threads ring, and where nginx hears it. They keep the descriptor alive.
struct Wake {
    connection: *mut ngx_connection_t,
    bell: Arc<OwnedFd>,
}

/// The timer for what is due. Cancelable: it does not keep a worker that has to go.
struct Tick {
    event: ngx_event_t,
    /// nginx's debug log looks for a connection behind every event.
    nobody: ngx_connection_t,
}

thread_local! {
    /// nginx's workers have one thread; that of the link never comes here.
    static PROCESS: RefCell<Option<Process>> = const { RefCell::new(None) };
}

/// Does something with what this process owns. `None` where weir does not run: in a process that
/// serves no requests, or where it is not configured.
pub fn with<R>(body: impl FnOnce(&mut Process) -> R) -> Option<R> {
    PROCESS.with(|process| Some(body(process.try_borrow_mut().ok()?.as_mut()?)))
}

/// Starts weir in a process that serves requests. What can't be started is said and left: nginx
/// serves on without it.
///
/// # Safety
/// `cycle` is the cycle in force.
pub unsafe fn begin(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        if ngx_process == NGX_PROCESS_WORKER as usize || ngx_process == NGX_PROCESS_SINGLE as usize {
            start(cycle, 1);
        }
    }
    OK
}

/// Without a master process a reload keeps the process and calls nothing else. nginx itself does not
/// support that (it no longer accepts connections), but what it still serves must not use a zone that
/// has gone: weir starts anew.
///
/// # Safety
/// `cycle` is about to be in force.
pub unsafe fn renew(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    if let Some(life) = with(|process| process.gateway.next_life()) {
        end();
        // SAFETY: what the caller promises.
        unsafe { start(cycle, life) };
    }
    OK
}

/// Ends weir in this process. Requests that still wait are let go by nginx itself.
pub fn end() {
    let process = PROCESS.with(|process| process.try_borrow_mut().ok()?.take());
    if let Some(mut process) = process {
        process.gateway.close(Now::read());
        process.wake.close();
        process.tick.stop();
    }
}

unsafe fn start(cycle: *mut ngx_cycle_t, first_life: u32) {
    log_panics();
    keep_little();
    // SAFETY: what the caller promises.
    unsafe {
        let Some(main) = conf::main_of_cycle(cycle).filter(|main| main.is_on()) else {
            return;
        };
        let built = guard(None, || Some(build(cycle, main, first_life)));
        match built.unwrap_or_else(|| Err("a bug, see the line above".into())) {
            Ok(process) => {
                PROCESS.with(|place| *place.borrow_mut() = Some(process));
                tick();
            }
            Err(text) => {
                log_cycle(NGX_LOG_EMERG, &format!("not started, nothing is limited or metered: {text}"))
            }
        }
    }
}

unsafe fn build(cycle: *mut ngx_cycle_t, main: &MainConf, first_life: u32) -> Result<Process, String> {
    #[cfg(feature = "test-hooks")]
    crate::hooks::starting();
    let shared = main.shared.ok_or("no zone")?;
    let options = options(main, shared, first_life)?;
    // SAFETY: what the caller promises.
    let wake = unsafe { Wake::open(cycle) }?;
    let bell = ring(Arc::clone(&wake.bell));
    match Gateway::start(options, shared.table, Now::read(), bell) {
        Ok(gateway) => {
            // SAFETY: what the caller promises.
            let tick = unsafe { Tick::new(cycle) };
            Ok(Process { gateway, waiting: HashMap::new(), wake, tick })
        }
        Err(error) => {
            wake.close();
            Err(error.to_string())
        }
    }
}

fn options(main: &MainConf, shared: Shared, first_life: u32) -> Result<GatewayOptions, String> {
    let (book, policy) = main.policy.clone().ok_or("no policy")?;
    Ok(GatewayOptions {
        counters: shared.counters,
        figures: shared.figures,
        link: main.redis.clone(),
        spool: main.spool.clone(),
        policy,
        book,
        gateways_min: main.gateways_min.unwrap_or(1),
        owner: owner::me(),
        alive: owner::alive,
        // A container may hide it: then this life of the worker stands for it.
        boot: weir_metering::boot_id().unwrap_or_else(random),
        random,
        trim,
        first_life,
    })
}

/// 128 bits that nobody can guess. A kernel that has none (before its pool is filled, or without
/// the call) still gives bits that differ from process to process.
pub fn random() -> u128 {
    let mut bytes = [0u8; 16];
    // SAFETY: the kernel writes at most the length of the array.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize {
        return u128::from_ne_bytes(bytes);
    }
    let now = Now::read();
    (u128::from(now.unix_us) << 64) | (u128::from(now.boot_ms) << 32) | u128::from(std::process::id())
}

/// Gives memory that is free back to the system, where the system's library can.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it locks what it looks at, as malloc does.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The library raises what it keeps for later to twice the largest block that was ever freed: the text
/// of a large policy would leave each worker with tens of megabytes.
fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both only set a number.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 << 20);
    };
}

/// Rings from another thread. A counter that is full has rung already.
fn ring(bell: Arc<OwnedFd>) -> Box<dyn Fn() + Send + Sync> {
    Box::new(move || {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the descriptor is open as long as `bell` lives.
        unsafe { libc::write(bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    })
}

/// Takes in that the bell has rung.
///
/// # Safety
/// `connection` is that of [`Wake`].
pub unsafe fn drain(connection: *mut ngx_connection_t) {
    let mut count = [0u8; 8];
    // SAFETY: the descriptor is open as long as nginx delivers events for it, and does not block.
    unsafe { libc::read((*connection).fd, count.as_mut_ptr().cast(), count.len()) };
}

impl Wake {
    unsafe fn open(cycle: *mut ngx_cycle_t) -> Result<Wake, String> {
        // SAFETY: a fresh descriptor has no other owner.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(format!("no eventfd: {}", std::io::Error::last_os_error()));
            }
            let bell = Arc::new(OwnedFd::from_raw_fd(fd));
            let connection = ngx_get_connection(fd, (*cycle).log);
            let Some(hearing) = connection.as_mut() else {
                return Err("no free connection for what other threads say".into());
            };
            hearing.log = (*cycle).log;
            (*hearing.read).log = (*cycle).log;
            (*hearing.write).log = (*cycle).log;
            (*hearing.read).handler = Some(wait::woken);
            let wake = Wake { connection, bell };
            if ngx_handle_read_event((*connection).read, 0) != OK {
                wake.close();
                return Err("no event for what other threads say".into());
            }
            Ok(wake)
        }
    }

    /// The descriptor itself closes with its last owner, so nginx is told to forget it first.
    fn close(self) {
        // SAFETY: the connection is ours until here.
        unsafe {
            if let Some(forget) = ngx_event_actions.del_conn {
                forget(self.connection, 0);
            }
            ngx_free_connection(self.connection);
            (*self.connection).fd = -1;
        }
    }
}

impl Tick {
    unsafe fn new(cycle: *mut ngx_cycle_t) -> Box<Tick> {
        // SAFETY: both are plain C structures that are valid when zeroed.
        let mut tick: Box<Tick> = Box::new(unsafe { std::mem::zeroed() });
        tick.nobody.fd = -1;
        tick.event.data = (&raw mut tick.nobody).cast();
        // SAFETY: the cycle has a log.
        tick.event.log = unsafe { (*cycle).log };
        tick.event.handler = Some(due);
        tick.event.set_cancelable(1);
        tick
    }

    fn stop(&mut self) {
        if self.event.timer_set() != 0 {
            // SAFETY: the timer is set.
            unsafe { ngx_del_timer(&raw mut self.event) };
        }
    }
}

unsafe extern "C" fn due(_event: *mut ngx_event_t) {
    guard((), tick);
}

/// Does what is due and asks to be called again when the next thing is.
fn tick() {
    // Armed first for a second: should the work panic, the clock does not stop.
    arm(1_000);
    let now = Now::read();
    if let Some(next) = with(|process| process.gateway.tick(now)) {
        arm(next.saturating_sub(now.boot_ms).clamp(1, 1_000));
    }
    // Outside of `with`: a request that goes on comes back to the gateway.
    for token in with(|process| process.gateway.take_ready()).unwrap_or_default() {
        wait::resume(token);
    }
    log_lines();
}

/// Asks to be called sooner when what came from Redis has brought something nearer.
pub fn tick_sooner(now_ms: u64) {
    if let Some(next) = with(|process| process.gateway.next_tick()) {
        arm(next.saturating_sub(now_ms).clamp(1, 1_000));
    }
}

fn arm(ms: u64) {
    with(|process| {
        process.tick.stop();
        // SAFETY: the event lives in a box of this process, which stops it before it goes.
        unsafe { ngx_add_timer(&raw mut process.tick.event, ms as ngx_msec_t) };
    });
}

/// Writes to the log what the gateway has to say.
pub fn log_lines() {
    for line in with(|process| process.gateway.take_lines()).unwrap_or_default() {
        let level = match line.level {
            Level::Error => NGX_LOG_ERR,
            Level::Warn => NGX_LOG_WARN,
            Level::Notice => NGX_LOG_NOTICE,
        };
        log_cycle(level, &line.text);
    }
}
