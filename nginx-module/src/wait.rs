//! Requests that wait for a lease or are held back, and how they are woken: by another thread
//! through an eventfd, by the gateway's clock, or by their own deadline. Results are taken in on nginx's thread only.

use nginx_sys::{
    ngx_add_timer, ngx_event_t, ngx_handle_read_event, ngx_http_block_reading, ngx_http_core_run_phases,
    ngx_http_finalize_request, ngx_http_request_empty_handler, ngx_http_request_t,
    ngx_http_run_posted_requests, ngx_http_test_reading, ngx_int_t, ngx_msec_t,
};
use weir_gateway::{Token, clock};

use crate::conf;
use crate::glue::{AGAIN, OK, guard};
use crate::mark::{self, Mark, State};
use crate::process;

const INTERNAL_ERROR: ngx_int_t = 500;

/// For a handler that is called while its request still waits.
pub fn go_on() -> ngx_int_t {
    AGAIN
}

/// Lets a request wait for a lease or a lock, no longer than `weir_redis_timeout`.
///
/// # Safety
/// As for [`park`].
pub unsafe fn for_lease(r: *mut ngx_http_request_t, mark: &mut Mark) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        process::tick_sooner(clock::boot_ms());
        let timeout = conf::main_of_request(r).map(|main| main.redis_timeout().as_millis());
        park(r, mark, timeout.unwrap_or_default() as ngx_msec_t)
    }
}

/// Holds a request back until its limit has room, but not beyond `until_ms` of the gateway's clock.
///
/// # Safety
/// As for [`park`].
pub unsafe fn until(r: *mut ngx_http_request_t, mark: &mut Mark, until_ms: u64) -> ngx_int_t {
    let now_ms = clock::boot_ms();
    process::tick_sooner(now_ms);
    // SAFETY: what the caller promises.
    unsafe { park(r, mark, until_ms.saturating_sub(now_ms).max(1) as ngx_msec_t) }
}

/// Puts a request to sleep. The client is watched meanwhile: one that goes away ends its request.
///
/// # Safety
/// `r` is a live main request and `mark` is its mark.
unsafe fn park(r: *mut ngx_http_request_t, mark: &mut Mark, timeout: ngx_msec_t) -> ngx_int_t {
    // SAFETY: as limit_req delays a request, but for the timer, which is our own.
    unsafe {
        if ngx_handle_read_event((*(*r).connection).read, 0) != OK {
            return INTERNAL_ERROR;
        }
        let token = mark.token();
        process::with(|process| process.waiting.insert(token.to_bits(), r));
        (*r).read_event_handler = Some(ngx_http_test_reading);
        (*r).write_event_handler = Some(ngx_http_request_empty_handler);
        mark.deadline.handler = Some(overdue);
        mark.deadline.data = (*r).connection.cast();
        mark.deadline.log = (*(*r).connection).log;
        ngx_add_timer(&raw mut mark.deadline, timeout);
        mark.state = State::Waiting;
    }
    AGAIN
}

/// The deadline of one request.
unsafe extern "C" fn overdue(event: *mut ngx_event_t) {
    // SAFETY: the timer lies in a mark; it is deleted with it.
    guard((), || unsafe {
        let mark = ngx::ngx_container_of!(event, Mark, deadline);
        let token = (*mark).token();
        process::with(|process| process.gateway.expire(clock::boot_ms(), token));
        resume(token);
        process::tick_sooner(clock::boot_ms());
    });
}

/// The link has something to tell.
pub unsafe extern "C" fn woken(event: *mut ngx_event_t) {
    // SAFETY: nginx passes the event that `process` registered.
    guard((), || unsafe {
        process::drain((*event).data.cast());
        let ready = process::with(|process| process.gateway.receive(clock::boot_ms));
        // Outside of `with`: a request that goes on comes back to the gateway.
        for token in ready.unwrap_or_default() {
            resume(token);
        }
        process::tick_sooner(clock::boot_ms());
        process::log_lines();
    });
}

/// Lets a request go on that need not wait any longer, unless it has gone away meanwhile: each one
/// that goes on may end others, all those of its HTTP/2 connection at worst.
pub fn resume(token: Token) {
    let waiting = process::with(|process| process.waiting.remove(&token.to_bits()));
    let Some(r) = waiting.flatten() else { return };
    // SAFETY: a request that goes away is no longer in the map. The connection outlives the request
    // by nginx's own rule: it runs posted requests after every handler in the same way.
    unsafe {
        let Some(mark) = mark::find(r) else { return };
        mark.wake();
        let connection = (*r).connection;
        if ngx_handle_read_event((*connection).read, 0) != OK {
            ngx_http_finalize_request(r, INTERNAL_ERROR);
        } else {
            (*r).read_event_handler = Some(ngx_http_block_reading);
            (*r).write_event_handler = Some(ngx_http_core_run_phases);
            ngx_http_core_run_phases(r);
        }
        ngx_http_run_posted_requests(connection);
    }
}
