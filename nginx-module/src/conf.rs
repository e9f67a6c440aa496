//! What the directives say, level by level.

use std::ffi::c_char;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_WARN, ngx_array_push, ngx_conf_t, ngx_core_conf_t, ngx_core_module, ngx_cycle_t,
    ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value,
    ngx_http_complex_value_t, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t, ngx_http_core_module,
    ngx_http_handler_pt, ngx_http_module, ngx_http_phases_NGX_HTTP_LOG_PHASE as LOG_PHASE,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE as PREACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE as PRECONTENT_PHASE, ngx_http_request_t, ngx_http_variable_t,
    ngx_int_t, ngx_pcalloc, ngx_str_t,
};
use weir_gateway::{FallbackMode, Headers, Rules, Source};
use weir_metering::{SpoolError, SpoolOptions, SpoolWriter};
use weir_policy::Tables;
use weir_redis_link::{Link, LinkOptions};

use crate::glue::{CONF_ERROR, CONF_OK, ERROR, OK, fixed};
use crate::zone::Shared;
use crate::{filter, index, log, phases, process};

/// The longest a request waits for a lease, where `weir_redis_timeout` does not stand.
const REDIS_TIMEOUT: Duration = Duration::from_millis(20);

/// Settings of the whole gateway.
#[derive(Default)]
pub struct MainConf {
    /// `weir on`, or something else that needs a gateway, stands somewhere.
    pub used: bool,
    pub zone_size: Option<usize>,
    /// Set when nginx has created the zone.
    pub shared: Option<Shared>,
    /// That to begin with, and where the next one comes from.
    pub policy: Option<(Arc<Tables>, Source)>,
    pub redis: Option<LinkOptions>,
    pub redis_timeout: Option<Duration>,
    pub gateways_min: Option<u32>,
    pub gateway: Option<String>,
    pub spool: Option<SpoolOptions>,
    /// `$request_id`, where the configuration uses it: else nginx would make random bytes for a name
    /// that stands nowhere.
    pub request_id: Option<Value>,
    /// The cycle that this configuration belongs to.
    cycle: Option<NonNull<ngx_cycle_t>>,
}

impl MainConf {
    /// Whether there is anything to do in this configuration.
    pub fn is_on(&self) -> bool {
        self.used && self.shared.is_some()
    }

    /// Makes the spool's directory ready for the workers' user. Called in the master, before it has
    /// started any of them.
    ///
    /// # Safety
    /// The cycle's core module has been configured.
    pub unsafe fn prepare_spool(&self) -> Result<(), String> {
        let Some(spool) = &self.spool else {
            return Ok(());
        };
        // SAFETY: what the caller promises.
        let owner = self.cycle.and_then(|cycle| unsafe { workers_of(cycle.as_ptr()) });
        SpoolWriter::prepare(spool, owner).map_err(|error| error.to_string())
    }

    pub fn redis_timeout(&self) -> Duration {
        self.redis_timeout.unwrap_or(REDIS_TIMEOUT)
    }
}

/// Settings of a place: http, server, location. `None` where the directive does not stand.
#[derive(Default)]
pub struct PlaceConf {
    pub on: Option<bool>,
    /// Empty: `off`.
    pub key: Option<Rc<[Value]>>,
    /// `Some(None)`: `off`.
    pub client: Option<Option<Value>>,
    pub tier: Option<Option<Value>>,
    pub webhook: Option<Option<Value>>,
    pub endpoint: Option<Option<Value>>,
    pub cost: Option<Option<Value>>,
    pub phase: Option<Phase>,
    pub status: Option<u16>,
    pub log_level: Option<u32>,
    pub dry_run: Option<bool>,
    pub headers: Option<Headers>,
    pub fallback: Option<FallbackMode>,
    pub retry_jitter_s: Option<u32>,
    pub portal: Option<Option<Value>>,
    /// `weir_usage` stands at this very place.
    pub tells_usage: bool,
}

/// Before or after authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Preaccess,
    Precontent,
}

impl PlaceConf {
    pub fn is_on(&self) -> bool {
        self.on == Some(true)
    }

    /// A client or tier that is authenticated elsewhere is known only after the access phase; and whoever
    /// may not send webhooks is turned away there before they count.
    pub fn phase(&self) -> Phase {
        let mut told = [self.client, self.tier, self.webhook].into_iter().flatten();
        let default = if told.any(|value| value.is_some()) { Phase::Precontent } else { Phase::Preaccess };
        self.phase.unwrap_or(default)
    }

    pub fn log_level(&self) -> u32 {
        self.log_level.unwrap_or(NGX_LOG_WARN)
    }

    pub fn rules(&self) -> Rules {
        let default = Rules::default();
        Rules {
            fallback: self.fallback.unwrap_or(default.fallback),
            dry_run: self.dry_run.unwrap_or(default.dry_run),
            status: self.status.unwrap_or(default.status),
            headers: self.headers.unwrap_or(default.headers),
            retry_jitter_s: self.retry_jitter_s.unwrap_or(default.retry_jitter_s),
        }
    }

    fn inherit(&mut self, above: &PlaceConf) {
        inherit(&mut self.on, &above.on);
        inherit(&mut self.key, &above.key);
        inherit(&mut self.client, &above.client);
        inherit(&mut self.tier, &above.tier);
        inherit(&mut self.webhook, &above.webhook);
        inherit(&mut self.endpoint, &above.endpoint);
        inherit(&mut self.cost, &above.cost);
        inherit(&mut self.phase, &above.phase);
        inherit(&mut self.status, &above.status);
        inherit(&mut self.log_level, &above.log_level);
        inherit(&mut self.dry_run, &above.dry_run);
        inherit(&mut self.headers, &above.headers);
        inherit(&mut self.fallback, &above.fallback);
        inherit(&mut self.retry_jitter_s, &above.retry_jitter_s);
        inherit(&mut self.portal, &above.portal);
    }
}

fn inherit<T: Clone>(own: &mut Option<T>, above: &Option<T>) {
    if own.is_none() {
        own.clone_from(above);
    }
}

/// A text with variables in it.
#[derive(Clone, Copy)]
pub struct Value(NonNull<ngx_http_complex_value_t>);

impl Value {
    /// Compiles `text` for the configuration `cf`. `None` when nginx has said what is wrong with it.
    ///
    /// # Safety
    /// `cf` is the configuration being read, `text` lives as long as its pool.
    pub unsafe fn compile(cf: *mut ngx_conf_t, mut text: ngx_str_t) -> Option<Value> {
        // SAFETY: the compiled value lies in the configuration's pool, zeroed as nginx wants it.
        unsafe {
            let memory = ngx_pcalloc((*cf).pool, size_of::<ngx_http_complex_value_t>());
            let value = NonNull::new(memory.cast::<ngx_http_complex_value_t>())?;
            let mut compile: ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = cf;
            compile.value = &raw mut text;
            compile.complex_value = value.as_ptr();
            (ngx_http_compile_complex_value(&raw mut compile) == OK).then_some(Value(value))
        }
    }

    /// What the text says for this request; empty when that can't be said.
    ///
    /// # Safety
    /// `r` is valid; the answer lives as long as it.
    pub unsafe fn of<'a>(self, r: *mut ngx_http_request_t) -> &'a [u8] {
        let mut text = ngx_str_t::empty();
        // SAFETY: the compiled value lives as long as the configuration that `r` was read under.
        unsafe {
            if ngx_http_complex_value(r, self.0.as_ptr(), &raw mut text) != OK || text.len == 0 {
                return &[];
            }
            std::slice::from_raw_parts(text.data, text.len)
        }
    }
}

/// The settings of the gateway in a configuration being read.
///
/// # Safety
/// `cf` is valid and within `http`.
pub unsafe fn main_of<'a>(cf: *mut ngx_conf_t) -> Option<&'a mut MainConf> {
    // SAFETY: within http, ctx is that of http; create_main_conf has filled our slot.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>().as_ref()?;
        (*context.main_conf.add(index())).cast::<MainConf>().as_mut()
    }
}

/// The settings of the gateway in a cycle; `None` without an `http` block.
///
/// # Safety
/// `cycle` is valid.
pub unsafe fn main_of_cycle<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a mut MainConf> {
    // SAFETY: conf_ctx has a slot for each module; that of http is null without an http block.
    unsafe {
        let slot = *(*cycle).conf_ctx.add(ngx_http_module.index);
        let context = slot.cast::<ngx_http_conf_ctx_t>().as_ref()?;
        (*context.main_conf.add(index())).cast::<MainConf>().as_mut()
    }
}

/// User and group of the workers, where they are others than the master's.
unsafe fn workers_of(cycle: *mut ngx_cycle_t) -> Option<(u32, u32)> {
    // SAFETY: the core module has its settings in every cycle.
    unsafe {
        let slot = *(*cycle).conf_ctx.add(ngx_core_module.index);
        let core = slot.cast::<ngx_core_conf_t>().as_ref()?;
        // nginx changes users only when it is root.
        (libc::geteuid() == 0).then_some((core.user, core.group))
    }
}

/// The settings of the place that a request is at.
///
/// # Safety
/// `r` is valid.
pub unsafe fn place_of<'a>(r: *mut ngx_http_request_t) -> Option<&'a PlaceConf> {
    // SAFETY: loc_conf has our slot, filled by create_loc_conf.
    unsafe { (*(*r).loc_conf.add(index())).cast::<PlaceConf>().as_ref() }
}

/// The settings of the gateway that a request is at.
///
/// # Safety
/// `r` is valid.
pub unsafe fn main_of_request<'a>(r: *mut ngx_http_request_t) -> Option<&'a MainConf> {
    // SAFETY: main_conf has our slot, filled by create_main_conf.
    unsafe { (*(*r).main_conf.add(index())).cast::<MainConf>().as_ref() }
}

/// Merges one level into the next.
///
/// # Safety
/// The pointers are valid.
pub unsafe fn merge(cf: *mut ngx_conf_t, above: *mut PlaceConf, own: *mut PlaceConf) -> *mut c_char {
    // SAFETY: two levels are two objects.
    let (above, own) = unsafe { (&*above, &mut *own) };
    own.inherit(above);
    if own.key.is_none() {
        // SAFETY: `cf` is the configuration being read.
        let Some(key) = (unsafe { Value::compile(cf, fixed("$http_x_api_key")) }) else {
            return CONF_ERROR;
        };
        own.key = Some(Rc::from([key]));
    }
    CONF_OK
}

/// Checks the whole and, where weir is used, takes its places in nginx.
///
/// # Safety
/// `cf` is the configuration that was read.
pub unsafe fn finish(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: postconfiguration runs within http.
    unsafe {
        let Some(main) = main_of(cf) else {
            return ERROR;
        };
        if !main.used {
            return OK;
        }
        main.cycle = NonNull::new((*cf).cycle);
        if uses(cf, b"request_id") {
            main.request_id = Value::compile(cf, fixed("$request_id"));
        }
        if let Err(text) = complete(main, &(*(*cf).cycle).hostname) {
            ngx::ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{text}");
            return ERROR;
        }
        for line in begin_with_kept(main).lines() {
            ngx::ngx_conf_log_error!(NGX_LOG_WARN, cf, "{line}");
        }
        // Parsing has left much that is free; each worker would inherit it.
        process::trim();
        register(cf)
    }
}

/// Fills in what one directive has from another, and checks what can be checked before the workers
/// run.
fn complete(main: &mut MainConf, host: &ngx_str_t) -> Result<(), String> {
    if main.zone_size.is_none() {
        return Err("weir needs \"weir_zone\" in http, such as \"weir_zone 16m;\"".into());
    }
    if main.policy.is_none() {
        return Err("weir needs \"weir_policy\" in http, such as \"weir_policy policy.toml;\"".into());
    }
    if main.redis.is_none() && matches!(main.policy, Some((_, Source::Published { .. }))) {
        return Err(
            "\"weir_policy redis\" needs \"weir_redis\", such as \"weir_redis redis://host:6379;\"".into()
        );
    }
    let gateway = main.gateway.clone().unwrap_or_else(|| host.to_string());
    let timeout = main.redis_timeout();
    if let Some(redis) = &mut main.redis {
        redis.gateway.clone_from(&gateway);
        redis.timeout = timeout;
        Link::check(redis).map_err(|error| format!("\"weir_redis\": {error}"))?;
    }
    if let Some(spool) = &mut main.spool {
        spool.gateway = gateway;
        match SpoolWriter::check(spool) {
            // It is made when the workers' user is known.
            Ok(()) | Err(SpoolError::Missing { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Where the policy is published, the one that is kept on disk is the first. Returns what an operator
/// should know; an unusable one is no reason not to start, since Redis has a good one.
fn begin_with_kept(main: &mut MainConf) -> String {
    let Some((book, Source::Published { keep })) = &mut main.policy else {
        return String::new();
    };
    if keep.is_none() {
        *keep = main.spool.as_ref().map(|spool| spool.dir.clone());
    }
    let (kept, trouble) = Source::kept(keep.as_deref());
    *book = kept;
    match (trouble, keep) {
        (Some(error), _) => error.to_string(),
        (None, None) => "\"weir_policy redis\" has no directory to keep the policy in for a start without \
                         Redis: add keep=DIR, or \"weir_spool\""
            .into(),
        (None, Some(_)) => String::new(),
    }
}

/// Whether something in the configuration that was read uses a variable.
unsafe fn uses(cf: *mut ngx_conf_t, name: &[u8]) -> bool {
    // SAFETY: postconfiguration runs within http; the variables that are used stand in an array.
    unsafe {
        let variables = (*core_of(cf)).variables.as_slice::<ngx_http_variable_t>();
        variables.iter().any(|variable| variable.name.as_bytes() == name)
    }
}

/// The settings of nginx's own http module.
unsafe fn core_of(cf: *mut ngx_conf_t) -> *mut ngx_http_core_main_conf_t {
    // SAFETY: the core module has its main configuration in every http block.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let slot = ngx_http_core_module.ctx_index;
        (*(*context).main_conf.add(slot)).cast::<ngx_http_core_main_conf_t>()
    }
}

unsafe fn register(cf: *mut ngx_conf_t) -> ngx_int_t {
    let handlers: [(usize, ngx_http_handler_pt); 3] = [
        (PREACCESS_PHASE as usize, Some(phases::preaccess)),
        (PRECONTENT_PHASE as usize, Some(phases::precontent)),
        (LOG_PHASE as usize, Some(log::handler)),
    ];
    // SAFETY: the core module has its main configuration in every http block.
    unsafe {
        let core = core_of(cf);
        for (phase, handler) in handlers {
            if !push(core, phase, handler) {
                return ERROR;
            }
        }
        filter::install();
    }
    OK
}

/// Adds a handler. That of the log phase goes first, so that an access log can name the client of a
/// request that was answered before it was identified.
unsafe fn push(core: *mut ngx_http_core_main_conf_t, phase: usize, handler: ngx_http_handler_pt) -> bool {
    // SAFETY: the array holds handlers, and has one more after a successful push.
    unsafe {
        let Some(slot) = (*core).phases.get_mut(phase) else {
            return false;
        };
        let new = ngx_array_push(&raw mut slot.handlers).cast::<ngx_http_handler_pt>();
        if new.is_null() {
            return false;
        }
        new.write(handler);
        if phase == LOG_PHASE as usize {
            slot.handlers.as_slice_mut::<ngx_http_handler_pt>().rotate_right(1);
        }
        true
    }
}
