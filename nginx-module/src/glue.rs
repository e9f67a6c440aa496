//! The few things that every shim needs: panics that stay in Rust, memory that C owns, the log.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Once;

use nginx_sys::{
    NGX_AGAIN, NGX_ALIGNMENT, NGX_DECLINED, NGX_DONE, NGX_ERROR, NGX_LOG_CRIT, NGX_OK, ngx_int_t, ngx_log_t,
    ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t, ngx_uint_t,
};

pub const OK: ngx_int_t = NGX_OK as ngx_int_t;
pub const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
pub const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
pub const DONE: ngx_int_t = NGX_DONE as ngx_int_t;
/// Not ours to decide: nginx asks the next handler.
pub const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;

pub const CONF_OK: *mut c_char = ptr::null_mut();
pub const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;

/// Runs `body`; if it panics, the answer is `otherwise`. A panic that reached C would end the
/// process, with every connection it holds. The state that a panic leaves behind is sound: the shared
/// table is valid at every instruction, and a walk that was not finished is released with its request.
pub fn guard<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Sends panics to the error log, one line each, instead of to a standard error that nobody reads.
pub fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = info.to_string().replace('\n', " ");
            log_cycle(NGX_LOG_CRIT, &format!("bug, please report it; the request goes on: {text}"));
        }));
    });
}

/// Writes lines to the log of the cycle in force.
pub fn log_cycle(level: u32, text: &str) {
    // SAFETY: `ngx_cycle` points to a cycle with a log from before modules are loaded until the
    // process ends.
    unsafe { log_to((*nginx_sys::ngx_cycle).log, level, text) }
}

/// Writes lines to a log, one entry each.
///
/// # Safety
/// `log` is valid.
pub unsafe fn log_to(log: *mut ngx_log_t, level: u32, text: &str) {
    for line in text.lines() {
        ngx::ngx_log_error!(level as ngx_uint_t, log, "weir: {line}");
    }
}

/// Moves `value` into memory of `pool`, to be dropped with it. Null when there is no memory.
///
/// # Safety
/// `pool` is valid.
pub unsafe fn place<T>(pool: *mut ngx_pool_t, value: T) -> *mut T {
    const { assert!(align_of::<T>() <= NGX_ALIGNMENT) };
    // SAFETY: nginx returns a record whose data are size_of::<T>() bytes, aligned to NGX_ALIGNMENT.
    unsafe {
        let record = ngx_pool_cleanup_add(pool, size_of::<T>());
        let Some(record) = record.as_mut() else {
            return ptr::null_mut();
        };
        let memory = record.data.cast::<T>();
        memory.write(value);
        record.handler = Some(drop_placed::<T>);
        memory
    }
}

unsafe extern "C" fn drop_placed<T>(data: *mut c_void) {
    // SAFETY: `place` wrote a T here, and nginx calls each cleanup once.
    guard((), || unsafe { ptr::drop_in_place(data.cast::<T>()) })
}

/// A string that lives as long as the module.
pub const fn fixed(text: &'static str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}
