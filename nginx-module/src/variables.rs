//! `$weir_status`, `$weir_client` and their kin.

use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_conf_t, ngx_http_add_variable, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_pnalloc, ngx_uint_t,
};
use weir_gateway::Walk;

use crate::conf;
use crate::glue::{ERROR, OK, fixed, guard};
use crate::mark;
use crate::process;

/// A variable and how a request's walk says it.
struct Variable {
    name: &'static str,
    value: fn(&Walk) -> Option<String>,
}

static VARIABLES: [Variable; 7] = [
    Variable { name: "weir_status", value: |walk| Some(walk.decision().word().into()) },
    Variable { name: "weir_client", value: |walk| Some(walk.client().into()) },
    Variable { name: "weir_tier", value: |walk| Some(walk.tier().into()) },
    Variable { name: "weir_endpoint", value: |walk| Some(walk.endpoint().into()) },
    Variable { name: "weir_limit", value: |walk| Some(walk.nearest()?.name.into()) },
    Variable { name: "weir_remaining", value: |walk| Some(walk.nearest()?.remaining.to_string()) },
    Variable { name: "weir_retry_after", value: |walk| Some(walk.refusal()?.retry_after_s?.to_string()) },
];

/// Stands behind all that a walk says.
const PORTAL: &str = "weir_portal";

/// Makes the variables known, in every configuration that loads the module.
///
/// # Safety
/// `cf` is the configuration being read.
pub unsafe fn add(cf: *mut ngx_conf_t) -> ngx_int_t {
    let names = VARIABLES.iter().map(|variable| variable.name).chain([PORTAL]);
    for (i, name) in names.enumerate() {
        let mut name = fixed(name);
        // They change while a request walks, so they must not be cached.
        let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
        // SAFETY: nginx copies the name and returns its entry or null.
        unsafe {
            let Some(entry) = ngx_http_add_variable(cf, &raw mut name, flags).as_mut() else {
                return ERROR;
            };
            entry.get_handler = Some(get);
            entry.data = i;
        }
    }
    OK
}

unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: nginx passes a live request and a place for the value.
    guard(ERROR, || unsafe { say(r, &mut *value, data) })
}

/// What `weir_portal` says for this request: where its client reads about its limits.
unsafe fn portal(r: *mut ngx_http_request_t) -> Option<String> {
    // SAFETY: what the caller promises.
    let portal = unsafe { conf::place_of(r)?.portal.flatten()?.of(r) };
    (!portal.is_empty()).then(|| String::from_utf8_lossy(portal).into_owned())
}

unsafe fn say(r: *mut ngx_http_request_t, value: &mut ngx_http_variable_value_t, data: usize) -> ngx_int_t {
    let text = match VARIABLES.get(data) {
        // SAFETY: the main request lives at least as long as its subrequests.
        Some(variable) => unsafe { mark::token((*r).main) }.and_then(|token| {
            process::with(|process| (variable.value)(process.gateway.walk(token)?)).flatten()
        }),
        // SAFETY: what the caller promises.
        None => unsafe { portal(r) },
    };
    let Some(text) = text else {
        value.set_not_found(1);
        return OK;
    };
    // SAFETY: the value points into memory of the request.
    unsafe {
        let memory = ngx_pnalloc((*r).pool, text.len()).cast::<u8>();
        if memory.is_null() {
            return ERROR;
        }
        memory.copy_from_nonoverlapping(text.as_ptr(), text.len());
        value.data = memory;
    }
    value.set_len(text.len() as u32);
    value.set_valid(1);
    value.set_no_cacheable(1);
    value.set_not_found(0);
    OK
}
