//! Answers that come from weir itself.

use std::ptr;

use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_create_temp_buf, ngx_http_discard_request_body, ngx_http_finalize_request,
    ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header, ngx_int_t,
};
use ngx::http::Request;
use weir_gateway::Answer;

use crate::glue::{DONE, ERROR, OK, fixed};

/// What the client would rather read; empty when it does not say.
///
/// # Safety
/// `r` is live.
pub unsafe fn accept<'a>(r: *mut ngx_http_request_t) -> &'a [u8] {
    // SAFETY: what the caller promises.
    unsafe { field(r, b"accept") }
}

/// A field of the request; empty where it has none of that name.
///
/// # Safety
/// `r` is live.
pub unsafe fn field<'a>(r: *mut ngx_http_request_t, name: &[u8]) -> &'a [u8] {
    // SAFETY: the header fields live as long as the request.
    let request: &'a Request = unsafe { Request::from_ngx_http_request(r) };
    let mut fields = request.headers_in_iterator();
    let found = fields.find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
    found.map_or(&[], |(_, value)| value.as_bytes())
}

/// Sends the answer and ends the request, for a handler outside of the content phase.
///
/// # Safety
/// `r` is live. It may not be when this returns.
pub unsafe fn finish(r: *mut ngx_http_request_t, answer: &Answer) -> ngx_int_t {
    // SAFETY: what the caller promises; finalizing is the last that happens to `r` here.
    unsafe {
        let status = send(r, answer);
        ngx_http_finalize_request(r, status);
    }
    DONE
}

/// Sends the answer, as nginx does with its own error pages: what is left of the request's body is
/// read and thrown away, so that the connection stays in step.
///
/// # Safety
/// `r` is live and has no answer yet.
pub unsafe fn send(r: *mut ngx_http_request_t, answer: &Answer) -> ngx_int_t {
    // SAFETY: what the caller promises; the strings of the head are static.
    unsafe {
        (*r).set_expect_tested(1);
        if ngx_http_discard_request_body(r) != OK {
            (*r).set_keepalive(0);
        }
        let out = &mut (*r).headers_out;
        out.status = usize::from(answer.status);
        out.content_length_n = answer.body.len() as _;
        out.content_type = fixed(answer.content_type);
        out.content_type_len = answer.content_type.len();
        out.charset = fixed(answer.charset);
        let status = ngx_http_send_header(r);
        if status != OK || (*r).header_only() != 0 {
            return status;
        }
        send_body(r, answer.body.as_bytes())
    }
}

unsafe fn send_body(r: *mut ngx_http_request_t, body: &[u8]) -> ngx_int_t {
    // SAFETY: the buffer has room for the body; filters copy the link of the chain.
    unsafe {
        let buffer: *mut ngx_buf_t = ngx_create_temp_buf((*r).pool, body.len());
        if buffer.is_null() {
            return ERROR;
        }
        (*buffer).last.copy_from_nonoverlapping(body.as_ptr(), body.len());
        (*buffer).last = (*buffer).last.add(body.len());
        (*buffer).set_last_buf(u32::from(r == (*r).main));
        (*buffer).set_last_in_chain(1);
        let mut chain = ngx_chain_t { buf: buffer, next: ptr::null_mut() };
        ngx_http_output_filter(r, &raw mut chain)
    }
}
