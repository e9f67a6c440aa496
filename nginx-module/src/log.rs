//! The log phase: every request that ends at a place where weir is on gets one record.

use nginx_sys::{ngx_http_request_t, ngx_http_upstream_state_t, ngx_int_t, ngx_msec_t};
use weir_gateway::{Now, Outcome, Token};

use crate::glue::{OK, guard};
use crate::{conf, mark, phases, process};

/// What HTTP/0.9 logs, which has no status line.
const NO_STATUS: usize = 9;

pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx passes a request that is about to be freed.
    guard(OK, || unsafe { book(r) })
}

unsafe fn book(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        if r != (*r).main {
            return OK;
        }
        let now = Now::quick();
        if let Some(token) = mark::token(r).or_else(|| note(r, now)) {
            let outcome = outcome(r, now);
            process::with(|process| process.gateway.finish(now, token, &outcome));
        }
    }
    OK
}

/// A request that never came to be identified: one that `return` answered, one that authentication
/// turned away, one that nginx could not read.
unsafe fn note(r: *mut ngx_http_request_t, now: Now) -> Option<Token> {
    // SAFETY: what the caller promises.
    unsafe {
        let place = conf::place_of(r).filter(|place| place.is_on())?;
        let facts = phases::facts(r, place);
        let token = process::with(|process| process.gateway.note(now, &facts, place.rules()))?;
        phases::keep(r, token).map(|mark| mark.token())
    }
}

unsafe fn outcome(r: *mut ngx_http_request_t, now: Now) -> Outcome {
    // SAFETY: what the caller promises.
    unsafe {
        Outcome {
            status: u16::try_from(status(r)).unwrap_or_default(),
            latency_us: now.unix_us.saturating_sub(started_us(r)),
            upstream_us: upstream_us(r),
            bytes_in: u64::try_from((*r).request_length).unwrap_or_default(),
            bytes_out: u64::try_from((*(*r).connection).sent).unwrap_or_default(),
        }
    }
}

/// As `$status` has it.
unsafe fn status(r: *mut ngx_http_request_t) -> usize {
    // SAFETY: r is live.
    unsafe {
        match ((*r).err_status, (*r).headers_out.status) {
            (0, 0) if (*r).http_version == NO_STATUS => NO_STATUS,
            (0, status) => status,
            (error, _) => error,
        }
    }
}

/// nginx notes the start of a request in whole milliseconds.
unsafe fn started_us(r: *mut ngx_http_request_t) -> u64 {
    // SAFETY: r is live.
    let (seconds, ms) = unsafe { ((*r).start_sec, (*r).start_msec) };
    u64::try_from(seconds).unwrap_or_default() * 1_000_000 + ms as u64 * 1_000
}

/// The times of all upstream servers that were asked, those of earlier internal redirects included.
/// A server that did not answer has no time.
unsafe fn upstream_us(r: *mut ngx_http_request_t) -> Option<u64> {
    // SAFETY: upstream_states is null or an array of states.
    let states = unsafe { (*r).upstream_states.as_ref()?.as_slice::<ngx_http_upstream_state_t>() };
    let asked = states.iter().filter(|state| !state.peer.is_null());
    let times = asked.map(|state| state.response_time).map(|ms| if ms == UNSET { 0 } else { ms });
    times.map(|ms| ms as u64 * 1_000).reduce(u64::saturating_add)
}

const UNSET: ngx_msec_t = ngx_msec_t::MAX;
