//! Who, what, may it: the handlers of the phases before the content.

use nginx_sys::{
    NGX_HTTP_OPTIONS, ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_err_page_t,
    ngx_http_request_t, ngx_int_t, ngx_log_t,
};
use weir_gateway::accept::prefers_plain;
use weir_gateway::settings::parse_cost;
use weir_gateway::{Links, Now, RequestFacts, Token, Verdict};

use crate::conf::{self, Phase, PlaceConf, Value};
use crate::glue::{DECLINED, guard, log_to};
use crate::mark::{self, Mark, State};
use crate::{process, respond, wait};

pub unsafe extern "C" fn preaccess(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx passes a live request.
    unsafe { enter(r, Phase::Preaccess) }
}

pub unsafe extern "C" fn precontent(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx passes a live request.
    unsafe { enter(r, Phase::Precontent) }
}

/// After a panic the request goes on, and its record says so.
unsafe fn enter(r: *mut ngx_http_request_t, phase: Phase) -> ngx_int_t {
    // SAFETY: what the caller promises.
    match guard(None, || unsafe { Some(walk(r, phase)) }) {
        Some(status) => status,
        // SAFETY: what the caller promises.
        None => guard(DECLINED, || unsafe { fail_open(r) }),
    }
}

unsafe fn walk(r: *mut ngx_http_request_t, phase: Phase) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        if r != (*r).main {
            return DECLINED;
        }
        let Some(place) = conf::place_of(r) else {
            return DECLINED;
        };
        match mark::find(r) {
            // Once for each request, internal redirects included.
            Some(mark) => match mark.state {
                State::Waiting => wait::go_on(),
                State::Ready => obey(r, place, mark),
                State::Done => DECLINED,
            },
            None if place.phase() != phase => DECLINED,
            None if place.is_on() => begin(r, place),
            None if place.tells_usage => look(r, place),
            None => DECLINED,
        }
    }
}

unsafe fn begin(r: *mut ngx_http_request_t, place: &PlaceConf) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        #[cfg(feature = "test-hooks")]
        crate::hooks::admitting(r);
        let facts = facts(r, place);
        let admitted = process::with(|process| process.gateway.admit(Now::quick(), &facts, place.rules()));
        #[cfg(feature = "test-hooks")]
        if let Some(token) = admitted {
            crate::hooks::admitted(r, token);
        }
        match admitted.and_then(|token| keep(r, token)) {
            Some(mark) => obey(r, place, mark),
            None => DECLINED,
        }
    }
}

/// Asks for what `weir_usage` tells; it may have to wait for Redis.
unsafe fn look(r: *mut ngx_http_request_t, place: &PlaceConf) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        let facts = facts(r, place);
        let token = process::with(|process| process.gateway.look(Now::quick(), &facts));
        match token.and_then(|token| keep(r, token)) {
            Some(mark) => obey(r, place, mark),
            None => DECLINED,
        }
    }
}

unsafe fn fail_open(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        if mark::find(r).is_none()
            && let Some(place) = conf::place_of(r)
        {
            let facts = facts(r, place);
            let token =
                process::with(|process| process.gateway.note_degraded(Now::quick(), &facts, place.rules()));
            token.and_then(|token| keep(r, token));
        }
    }
    DECLINED
}

/// Ties a walk to its request. Without memory for that the request goes on alone.
pub unsafe fn keep<'a>(r: *mut ngx_http_request_t, token: Token) -> Option<&'a mut Mark> {
    // SAFETY: what the caller promises.
    let mark = unsafe { mark::put(r, token) };
    if mark.is_none() {
        process::with(|process| process.gateway.release(token));
    }
    mark
}

unsafe fn obey(r: *mut ngx_http_request_t, place: &PlaceConf, mark: &mut Mark) -> ngx_int_t {
    mark.state = State::Done;
    let token = mark.token();
    let verdict = process::with(|process| Some(process.gateway.walk(token)?.verdict()));
    match verdict.flatten() {
        // SAFETY: what the caller promises.
        Some(Verdict::Wait) => unsafe { wait::for_lease(r, mark) },
        // SAFETY: what the caller promises.
        Some(Verdict::Hold { until_ms }) => unsafe { wait::until(r, mark, until_ms) },
        // SAFETY: what the caller promises.
        Some(Verdict::Refuse(refusal)) => unsafe { turn_away(r, place, token, refusal.status) },
        Some(Verdict::Pass) | None => DECLINED,
    }
}

/// What the request carries.
///
/// # Safety
/// `r` is a valid main request; the facts live as long as it.
pub unsafe fn facts<'a>(r: *mut ngx_http_request_t, place: &PlaceConf) -> RequestFacts<'a> {
    // SAFETY: the values, the request line and the location live as long as the request.
    unsafe {
        let of = |value: Option<Option<Value>>| value.flatten().map_or(&[][..], |value| value.of(r));
        let mut keys = place.key.iter().flat_map(|keys| keys.iter()).map(|key| key.of(r));
        RequestFacts {
            key: keys.find(|key| !key.is_empty()).unwrap_or_default(),
            webhook: of(place.webhook),
            client: of(place.client),
            tier: of(place.tier),
            method: bytes((*r).method_name.data, (*r).method_name.len),
            path: bytes((*r).uri.data, (*r).uri.len),
            endpoint: of(place.endpoint),
            place: core_conf(r).map_or(&[][..], |core| bytes(core.name.data, core.name.len)),
            cost: parse_cost(of(place.cost)),
            address: (*r).connection.as_ref().map_or(&[][..], |c| bytes(c.addr_text.data, c.addr_text.len)),
            is_preflight: (*r).method == NGX_HTTP_OPTIONS as usize && is_preflight(r),
        }
    }
}

/// What browsers send before a script's request to another site (Fetch, section 4.8).
unsafe fn is_preflight(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller passes a live request.
    unsafe {
        let asks = !respond::field(r, b"access-control-request-method").is_empty();
        asks && !respond::field(r, b"origin").is_empty()
    }
}

unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: nginx's strings are `len` bytes at `data`.
    unsafe { std::slice::from_raw_parts(data, len) }
}

unsafe fn core_conf<'a>(r: *mut ngx_http_request_t) -> Option<&'a ngx_http_core_loc_conf_t> {
    // SAFETY: the core module has a location configuration in every location.
    unsafe {
        let slot = ngx_http_core_module.ctx_index;
        (*(*r).loc_conf.add(slot)).cast::<ngx_http_core_loc_conf_t>().as_ref()
    }
}

/// Says no: with the site's own page where `error_page` names one, else with ours.
unsafe fn turn_away(r: *mut ngx_http_request_t, place: &PlaceConf, token: Token, status: u16) -> ngx_int_t {
    // SAFETY: what the caller promises.
    unsafe {
        let own_id = process::with(|process| process.gateway.request_id(token)).unwrap_or_default();
        let logged_id = conf::main_of_request(r).and_then(|main| main.request_id);
        let request_id = || logged_id.map(|id| id.of(r)).filter(|id| !id.is_empty()).unwrap_or(&own_id);
        log_refusal(r, place.log_level(), token, request_id);
        if has_error_page(r, status) {
            return status as ngx_int_t;
        }
        let plain = prefers_plain(respond::accept(r));
        let links = Links {
            portal: place.portal.flatten().map_or(&[][..], |portal| portal.of(r)),
            request_id: request_id(),
        };
        match process::with(|process| process.gateway.answer(token, plain, &links)).flatten() {
            Some(answer) => respond::finish(r, &answer),
            None => status as ngx_int_t,
        }
    }
}

/// nginx would add the request line to the entry, and with it an API key that stands in the query.
/// So it is kept from it, and the address is added here.
unsafe fn log_refusal<'a>(
    r: *mut ngx_http_request_t,
    level: u32,
    token: Token,
    request_id: impl Fn() -> &'a [u8],
) {
    // SAFETY: a connection has a log and the text of its peer's address.
    unsafe {
        let connection = &*(*r).connection;
        let log: *mut ngx_log_t = connection.log;
        if (*log).log_level < level as usize {
            return;
        }
        let line = process::with(|process| process.gateway.refusal_line(token, request_id())).flatten();
        let Some(line) = line else {
            return;
        };
        let handler = (*log).handler.take();
        log_to(log, level, &format!("{line}, client: {}", connection.addr_text));
        (*log).handler = handler;
    }
}

unsafe fn has_error_page(r: *mut ngx_http_request_t, status: u16) -> bool {
    // SAFETY: error_pages is null or an array of pages.
    unsafe {
        let pages = core_conf(r).and_then(|core| core.error_pages.as_ref());
        pages.is_some_and(|pages| {
            let pages = pages.as_slice::<ngx_http_err_page_t>();
            pages.iter().any(|page| page.status == status as ngx_int_t)
        })
    }
}
