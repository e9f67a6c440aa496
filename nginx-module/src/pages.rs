//! `weir_usage` and `weir_metrics`: content that a gateway tells of itself.

use nginx_sys::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_core_module, ngx_http_handler_pt, ngx_http_request_t, ngx_int_t,
};
use weir_gateway::accept::prefers_json;
use weir_gateway::{Answer, Gateway, Now};

use crate::glue::guard;
use crate::{filter, mark, process, respond};

const NOT_ALLOWED: ngx_int_t = 405;
const UNAVAILABLE: ngx_int_t = 503;
const INTERNAL_ERROR: ngx_int_t = 500;

/// Makes `handler` the content of the location being read. `false` when it has another already.
///
/// # Safety
/// `cf` is a configuration within a location.
pub unsafe fn serve(cf: *mut ngx_conf_t, handler: ngx_http_handler_pt) -> bool {
    // SAFETY: the core module has its settings in every location.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let slot = (*(*context).loc_conf.add(ngx_http_core_module.ctx_index)).cast();
        let core: &mut ngx_http_core_loc_conf_t = &mut *slot;
        let is_free = core.handler.is_none();
        core.handler = handler;
        is_free
    }
}

pub unsafe extern "C" fn usage(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx passes a live request.
    guard(INTERNAL_ERROR, || unsafe { tell_usage(r) })
}

pub unsafe extern "C" fn metrics(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx passes a live request.
    guard(INTERNAL_ERROR, || unsafe { tell(r, metrics_of) })
}

unsafe fn tell_usage(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        let Some(token) = mark::token((*r).main) else {
            return UNAVAILABLE;
        };
        tell(r, |gateway, _| {
            page("application/json", "", gateway.usage(token).unwrap_or_else(|| "{}\n".into()))
        })
    }
}

fn metrics_of(gateway: &mut Gateway, json: bool) -> Answer {
    let metrics = gateway.metrics(Now::read());
    match json {
        true => page("application/json", "", metrics.to_json()),
        false => page("application/openmetrics-text; version=1.0.0", "utf-8", metrics.to_text()),
    }
}

fn page(content_type: &'static str, charset: &'static str, body: String) -> Answer {
    Answer { status: 200, content_type, charset, body }
}

unsafe fn tell(r: *mut ngx_http_request_t, page: impl FnOnce(&mut Gateway, bool) -> Answer) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        if (*r).method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize == 0 {
            return NOT_ALLOWED;
        }
        let json = prefers_json(respond::accept(r));
        let answer = process::with(|process| page(&mut process.gateway, json));
        let Some(answer) = answer else {
            return UNAVAILABLE;
        };
        filter::push(r, "Cache-Control", &["no-store"]);
        respond::send(r, &answer)
    }
}
