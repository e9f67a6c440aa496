//! The header filter: the fields that tell a client of its quota, on every kind of answer.

use std::ptr;

use nginx_sys::{
    ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t,
    ngx_list_push, ngx_pnalloc, ngx_str_t, ngx_table_elt_t,
};

use crate::glue::{ERROR, OK, fixed, guard};
use crate::{mark, process};

/// The filter after ours. Written while a configuration is read, which only one thread does.
static mut NEXT: ngx_http_output_header_filter_pt = None;

/// Puts our filter before the others.
///
/// # Safety
/// A configuration is being read.
pub unsafe fn install() {
    // SAFETY: nothing else runs. nginx resets the chain for each configuration it reads.
    unsafe {
        NEXT = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(header_filter);
    }
}

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx passes a live request whose header has not been sent.
    guard((), || unsafe { tell(r) });
    // SAFETY: the chain always ends in nginx's own filters.
    unsafe { NEXT.map_or(OK, |next| next(r)) }
}

/// An answer without our fields is better than none, so nothing here fails the request.
unsafe fn tell(r: *mut ngx_http_request_t) {
    // SAFETY: what the caller promises.
    unsafe {
        if r != (*r).main {
            return;
        }
        let Some(token) = mark::token(r) else { return };
        process::with(|process| {
            process.gateway.fields(token, |name, value| {
                push(r, name, value);
            });
        });
    }
}

/// Adds a header field to the answer, whose value is made of `pieces`.
///
/// # Safety
/// `r` is live and its header has not been sent.
pub unsafe fn push(r: *mut ngx_http_request_t, name: &'static str, pieces: &[&str]) -> ngx_int_t {
    // SAFETY: the element is zeroed before it is filled (`next` exists from nginx 1.23 on), or dropped
    // from the answer by its hash of 0.
    unsafe {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let memory = ngx_pnalloc((*r).pool, len).cast::<u8>();
        let field = ngx_list_push(&raw mut (*r).headers_out.headers).cast::<ngx_table_elt_t>();
        if field.is_null() {
            return ERROR;
        }
        ptr::write_bytes(field, 0, 1);
        if memory.is_null() {
            return ERROR;
        }
        let mut end = memory;
        for piece in pieces {
            end.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
            end = end.add(piece.len());
        }
        (*field).hash = 1;
        (*field).key = fixed(name);
        (*field).value = ngx_str_t { len, data: memory };
    }
    OK
}
