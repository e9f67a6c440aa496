//! The directives, in one table: name, places, arguments, what they accept, what they set.

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;

use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF,
    NGX_LOG_EMERG, ngx_command_t, ngx_conf_full_name, ngx_conf_t, ngx_str_t, ngx_uint_t,
};

use crate::conf::{MainConf, PlaceConf};
use crate::glue::{CONF_ERROR, CONF_OK, OK, guard};
use crate::pages;

mod set;

/// One directive.
struct Directive {
    name: &'static CStr,
    /// Where it may stand and how many arguments it takes, as nginx writes it.
    kind: u32,
    /// Completes "it must be ...".
    accepts: &'static str,
    set: Set,
}

/// What a directive sets.
enum Set {
    /// The whole gateway; in `http` only.
    Gateway(fn(&mut MainConf, &Args<'_>) -> Result<(), Wrong>),
    /// A place and all within.
    Place(fn(&mut PlaceConf, &Args<'_>) -> Result<(), Wrong>),
}

/// What is wrong with a directive.
enum Wrong {
    Duplicate,
    Value(ngx_str_t),
    Parameter(ngx_str_t),
    /// In as many words, one entry for each line.
    Said(String),
    /// nginx has said it.
    Told,
}

const ONE: u32 = NGX_CONF_TAKE1;
const MORE: u32 = NGX_CONF_1MORE;
const HTTP: u32 = NGX_HTTP_MAIN_CONF;
const ANYWHERE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;

const fn gateway(
    name: &'static CStr,
    arguments: u32,
    accepts: &'static str,
    set: fn(&mut MainConf, &Args<'_>) -> Result<(), Wrong>,
) -> Directive {
    Directive { name, kind: HTTP | arguments, accepts, set: Set::Gateway(set) }
}

const fn place(
    name: &'static CStr,
    arguments: u32,
    accepts: &'static str,
    set: fn(&mut PlaceConf, &Args<'_>) -> Result<(), Wrong>,
) -> Directive {
    Directive { name, kind: ANYWHERE | arguments, accepts, set: Set::Place(set) }
}

/// A directive without arguments that makes a location's content.
const fn page(name: &'static CStr, set: fn(&mut PlaceConf, &Args<'_>) -> Result<(), Wrong>) -> Directive {
    Directive { name, kind: NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, accepts: "", set: Set::Place(set) }
}

#[rustfmt::skip] // One line for each.
static DIRECTIVES: [Directive; COUNT] = [
    gateway(c"weir_zone", ONE, "a size of at least 32k, such as 16m", set::zone),
    gateway(c"weir_policy", NGX_CONF_TAKE12, "a file, or \"redis\"", set::policy),
    gateway(c"weir_redis", MORE, "an address such as redis://host:6379/0", set::redis),
    gateway(c"weir_redis_timeout", ONE, "a time from 1ms to 1s", set::redis_timeout),
    gateway(c"weir_gateways_min", ONE, "a number from 1 to 10000", set::gateways_min),
    gateway(c"weir_gateway", ONE, "a name of 1 to 255 printable characters", set::gateway),
    gateway(c"weir_spool", MORE, "a directory", set::spool),
    place(c"weir", NGX_CONF_FLAG, "\"on\" or \"off\"", set::on),
    place(c"weir_key", MORE, "values, or \"off\"", set::key),
    place(c"weir_client", ONE, "a value, or \"off\"", |p, a| set::value(&mut p.client, a)),
    place(c"weir_webhook", ONE, "a value, or \"off\"", |p, a| set::value(&mut p.webhook, a)),
    place(c"weir_tier", ONE, "a value, or \"off\"", |p, a| set::value(&mut p.tier, a)),
    place(c"weir_endpoint", ONE, "a value, or \"off\"", |p, a| set::value(&mut p.endpoint, a)),
    place(c"weir_cost", ONE, "a value, or \"off\"", |p, a| set::value(&mut p.cost, a)),
    place(c"weir_phase", ONE, "\"preaccess\" or \"precontent\"", set::phase),
    place(c"weir_status", ONE, "a number from 400 to 599", set::status),
    place(c"weir_log_level", ONE, "\"info\", \"notice\", \"warn\" or \"error\"", set::log_level),
    place(c"weir_dry_run", NGX_CONF_FLAG, "\"on\" or \"off\"", set::dry_run),
    place(c"weir_headers", ONE, "\"standard\", \"legacy\", \"both\" or \"off\"", set::headers),
    place(c"weir_fallback", ONE, "\"local\", \"allow\" or \"deny\"", set::fallback),
    place(c"weir_retry_jitter", ONE, "a time from 0 to 1h", set::retry_jitter),
    place(c"weir_portal", ONE, "a value, or \"off\"", |p, a| set::value(&mut p.portal, a)),
    page(c"weir_usage", set::usage),
    page(c"weir_metrics", |_, args| set::serve(args, pages::metrics)),
];

const COUNT: usize = 24;

/// The table as nginx reads it: with an empty entry at its end, and behind each entry our own.
#[allow(clippy::indexing_slicing)] // Out of bounds would not compile.
pub static mut COMMANDS: [ngx_command_t; COUNT + 1] = {
    let mut commands = [const { ngx_command_t::empty() }; COUNT + 1];
    let mut i = 0;
    while i < COUNT {
        commands[i] = command(&DIRECTIVES[i]);
        i += 1;
    }
    commands
};

const fn command(directive: &'static Directive) -> ngx_command_t {
    ngx_command_t {
        name: ngx_str_t {
            len: directive.name.count_bytes(),
            data: directive.name.as_ptr().cast_mut().cast(),
        },
        type_: directive.kind as ngx_uint_t,
        set: Some(set),
        conf: match directive.set {
            Set::Gateway(_) => NGX_HTTP_MAIN_CONF_OFFSET,
            Set::Place(_) => NGX_HTTP_LOC_CONF_OFFSET,
        },
        offset: 0,
        post: (&raw const *directive).cast_mut().cast(),
    }
}

/// What stands behind a directive's name.
struct Args<'a> {
    cf: *mut ngx_conf_t,
    values: &'a [ngx_str_t],
}

impl Args<'_> {
    fn first(&self) -> ngx_str_t {
        self.values.first().copied().unwrap_or_default()
    }

    /// A path, made absolute as nginx does it: from the configuration's directory or from the prefix.
    fn path(&self, text: ngx_str_t, from_conf: bool) -> Result<PathBuf, Wrong> {
        let mut full = text;
        // SAFETY: nginx writes a string of its own pool into `full`.
        let done =
            unsafe { ngx_conf_full_name((*self.cf).cycle, &raw mut full, ngx_uint_t::from(from_conf)) };
        let path = full.to_str().map_err(|_| Wrong::Value(text))?;
        (done == OK && text.len > 0).then(|| PathBuf::from(path)).ok_or(Wrong::Value(text))
    }
}

unsafe extern "C" fn set(cf: *mut ngx_conf_t, command: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: nginx passes one of COMMANDS, its arguments, and the settings that it belongs to.
    guard(CONF_ERROR, || unsafe { dispatch(cf, &*(*command).post.cast(), conf) })
}

unsafe fn dispatch(cf: *mut ngx_conf_t, directive: &Directive, conf: *mut c_void) -> *mut c_char {
    // SAFETY: what the caller promises; the kind of settings follows from the table.
    let done = unsafe {
        let values = (*(*cf).args).as_slice::<ngx_str_t>();
        let args = Args { cf, values: values.get(1..).unwrap_or_default() };
        match directive.set {
            Set::Gateway(set) => set(&mut *conf.cast(), &args),
            Set::Place(set) => set(&mut *conf.cast(), &args),
        }
    };
    match done {
        Ok(()) => CONF_OK,
        // nginx adds the name and the line.
        Err(Wrong::Duplicate) => c"is duplicate".as_ptr().cast_mut(),
        Err(wrong) => complain(cf, directive, wrong),
    }
}

fn complain(cf: *mut ngx_conf_t, directive: &Directive, wrong: Wrong) -> *mut c_char {
    let (name, accepts) = (directive.name.to_string_lossy(), directive.accepts);
    let text = match wrong {
        Wrong::Value(value) => {
            format!("invalid value \"{value}\" in \"{name}\" directive, it must be {accepts}")
        }
        Wrong::Parameter(value) => format!("invalid parameter \"{value}\" in \"{name}\" directive"),
        Wrong::Said(text) => text,
        Wrong::Duplicate | Wrong::Told => String::new(),
    };
    for line in text.lines() {
        ngx::ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{line}");
    }
    CONF_ERROR
}
