//! The header filter: the fields that tell a client of its quota, on every kind of answer.

use std::ptr;

use nginx_sys::{
    ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_http_top_header_filter, ngx_int_t,
    ngx_list_part_t, ngx_list_push, ngx_pnalloc, ngx_str_t, ngx_table_elt_t,
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
        let Some(mark) = mark::find(r) else { return };
        let (token, again) = (mark.token(), std::mem::replace(&mut mark.told, true));
        process::with(|process| {
            process.gateway.fields(token, |name, value| {
                if again {
                    withdraw(r, name);
                }
                push(r, name, value);
            });
        });
    }
}

/// Takes back a field of ours. A filter after ours may say no to an answer (a range that it does not
/// have), and nginx then sends another one past all filters, with the fields of the first.
unsafe fn withdraw(r: *mut ngx_http_request_t, name: &'static str) {
    // SAFETY: the caller passes a live request; a list has `nelts` elements in each part.
    unsafe {
        let mut part: *mut ngx_list_part_t = &raw mut (*r).headers_out.headers.part;
        while let Some(fields) = part.as_ref() {
            let elements = fields.elts.cast::<ngx_table_elt_t>();
            for i in 0..if elements.is_null() { 0 } else { fields.nelts } {
                let field = &mut *elements.add(i);
                // By its place in memory: another's field of the same name stays.
                if ptr::eq(field.key.data, name.as_ptr()) {
                    field.hash = 0;
                }
            }
            part = fields.next;
        }
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
