//! weir in nginx: directives, phases, variables, header filter, shared zone, wake-ups.
//!
//! Nothing is decided in here: a [`weir_gateway::Gateway`] per worker process decides, and this crate
//! says to it what nginx says, and does what it says. Every entry from nginx is a shim of three lines
//! around a function that may not panic into C: see [`glue::guard`].
//!
//! A request walks like this: [`phases`] (who, what, may it) → [`wait`] if a lease has to come first
//! → [`filter`] (header fields) → [`log`] (the record). What ties these together is the [`mark`] on
//! the request.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks
)]

use std::ffi::{c_char, c_void};
use std::ptr;

use nginx_sys::{
    NGX_HTTP_MODULE, ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_uint_t,
};

mod conf;
mod directives;
mod filter;
mod glue;
#[cfg(feature = "test-hooks")]
mod hooks;
mod log;
mod mark;
mod owner;
mod pages;
mod phases;
mod process;
mod respond;
mod variables;
mod wait;
mod zone;

use glue::{ERROR, OK, guard};

static MODULE_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(create_loc_conf),
    merge_loc_conf: Some(merge_loc_conf),
};

/// What nginx loads. It numbers the module in place, so it can't be constant.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static mut ngx_http_weir_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const MODULE_CONTEXT).cast_mut().cast(),
    commands: (&raw mut directives::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// The module's own entry, for nginx functions that ask for it.
fn module() -> *mut ngx_module_t {
    &raw mut ngx_http_weir_module
}

/// The module's place in nginx's tables of configurations and contexts.
fn index() -> usize {
    // SAFETY: nginx numbers its modules before it calls any of them, and never again.
    unsafe { (*module()).ctx_index }
}

#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
static mut ngx_modules: [*const ngx_module_t; 2] = [&raw const ngx_http_weir_module, ptr::null()];

#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
static mut ngx_module_names: [*const c_char; 2] = [c"ngx_http_weir_module".as_ptr(), ptr::null()];

/// Empty: dynamic filters go where nginx puts them by default, before the chunked filter.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
static mut ngx_module_order: [*const c_char; 1] = [ptr::null()];

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration it is reading.
    guard(ERROR, || unsafe { variables::add(cf) })
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration it has read.
    guard(ERROR, || unsafe { conf::finish(cf) })
}

unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx passes a configuration with a pool.
    guard(ptr::null_mut(), || unsafe { glue::place((*cf).pool, conf::MainConf::default()).cast() })
}

unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx passes a configuration with a pool.
    guard(ptr::null_mut(), || unsafe { glue::place((*cf).pool, conf::PlaceConf::default()).cast() })
}

unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    above: *mut c_void,
    own: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx passes what create_loc_conf returned for the two levels.
    guard(glue::CONF_ERROR, || unsafe { conf::merge(cf, above.cast(), own.cast()) })
}

unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx passes the cycle that is about to be in force.
    guard(OK, || unsafe { process::renew(cycle) })
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx passes the cycle in force.
    guard(OK, || unsafe { process::begin(cycle) })
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard((), process::end)
}
