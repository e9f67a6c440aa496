//! Faults on demand, for tests only: the feature is off in what users build.

use nginx_sys::ngx_http_request_t;
use ngx::http::Request;

/// Does what the request's `X-Weir-Test` field says.
///
/// # Safety
/// `r` is a live request.
#[allow(clippy::panic)]
pub unsafe fn run(r: *mut ngx_http_request_t) {
    // SAFETY: what the caller promises.
    let request = unsafe { Request::from_ngx_http_request(r) };
    let asked = request.headers_in_iterator().any(|(name, value)| {
        name.as_bytes().eq_ignore_ascii_case(b"x-weir-test") && value.as_bytes() == b"panic"
    });
    if asked {
        panic!("asked for by X-Weir-Test");
    }
}
