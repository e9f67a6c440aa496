//! Faults on demand, for tests only: the feature is off in what users build.
//!
//! A request asks for one by its `X-Weir-Test` field: `panic`, or `hold-lock`, which stops the worker
//! (SIGSTOP) while it holds the lock of the request's client, until somebody continues or kills it.
//! A worker asks by the variable `WEIR_TEST_INIT`, which nginx passes with `env WEIR_TEST_INIT=panic;`.

use nginx_sys::ngx_http_request_t;
use ngx::http::Request;
use weir_gateway::Token;

use crate::process;

/// When a worker starts.
#[allow(clippy::panic, clippy::disallowed_methods)]
pub fn starting() {
    if std::env::var("WEIR_TEST_INIT").is_ok_and(|asked| asked == "panic") {
        panic!("asked for by WEIR_TEST_INIT");
    }
}

/// Before a request is admitted.
///
/// # Safety
/// `r` is a live request.
#[allow(clippy::panic)]
pub unsafe fn admitting(r: *mut ngx_http_request_t) {
    // SAFETY: what the caller promises.
    if unsafe { asks_for(r, b"panic") } {
        panic!("asked for by X-Weir-Test");
    }
}

/// When it was.
///
/// # Safety
/// `r` is a live request.
pub unsafe fn admitted(r: *mut ngx_http_request_t, token: Token) {
    // SAFETY: what the caller promises; stopping oneself touches no memory.
    unsafe {
        if asks_for(r, b"hold-lock") {
            let stop = || {
                libc::raise(libc::SIGSTOP);
            };
            process::with(|process| process.gateway.hold_lock(token, stop));
        }
    }
}

unsafe fn asks_for(r: *mut ngx_http_request_t, what: &[u8]) -> bool {
    // SAFETY: what the caller promises.
    let request = unsafe { Request::from_ngx_http_request(r) };
    let mut fields = request.headers_in_iterator();
    fields
        .any(|(name, value)| name.as_bytes().eq_ignore_ascii_case(b"x-weir-test") && value.as_bytes() == what)
}
