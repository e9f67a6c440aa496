//! The mark on a request that weir has dealt with. It lies in the request's pool, under the address
//! of its cleanup handler: an internal redirect wipes the module's context, but not that.

use std::ffi::c_void;
use std::ptr;

use nginx_sys::{ngx_del_timer, ngx_event_t, ngx_http_request_t, ngx_pool_cleanup_add, ngx_pool_cleanup_t};
use weir_gateway::Token;

use crate::glue::guard;
use crate::{index, process};

/// Plain memory that C owns.
pub struct Mark {
    token: u64,
    pub state: State,
    /// The header filter has been here.
    pub told: bool,
    /// Ends the wait. Not cancelable: a worker that has to go still answers who waits.
    pub deadline: ngx_event_t,
}

/// Where a marked request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// What was decided has been done.
    Done,
    /// It waits for a lease, or is held back.
    Waiting,
    /// It has waited; what was decided is to be done.
    Ready,
}

impl Mark {
    pub fn token(&self) -> Token {
        Token::from_bits(self.token)
    }

    /// Ends the wait.
    pub fn wake(&mut self) {
        self.state = State::Ready;
        self.stop_timer();
    }

    fn stop_timer(&mut self) {
        if self.deadline.timer_set() != 0 {
            // SAFETY: the timer is set.
            unsafe { ngx_del_timer(&raw mut self.deadline) };
        }
    }
}

/// One address for the handler, however often the compiler instantiates it.
static FORGET: unsafe extern "C" fn(*mut c_void) = forget;

/// The mark on `r`, if it has one.
///
/// # Safety
/// `r` is a valid main request.
pub unsafe fn find<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut Mark> {
    // SAFETY: our slot of ctx is null or what `put` stored; the pool's cleanups are a list.
    unsafe {
        let slot = (*r).ctx.add(index());
        if (*slot).is_null() {
            *slot = search((*(*r).pool).cleanup);
        }
        (*slot).cast::<Mark>().as_mut()
    }
}

/// The token of a request that weir has dealt with.
///
/// # Safety
/// `r` is a valid main request.
pub unsafe fn token(r: *mut ngx_http_request_t) -> Option<Token> {
    // SAFETY: what the caller promises.
    unsafe { find(r).map(|mark| mark.token()) }
}

unsafe fn search(mut cleanup: *mut ngx_pool_cleanup_t) -> *mut c_void {
    // SAFETY: a list that ends with null.
    while let Some(record) = unsafe { cleanup.as_ref() } {
        if record.handler.is_some_and(|handler| ptr::fn_addr_eq(handler, FORGET)) {
            return record.data;
        }
        cleanup = record.next;
    }
    ptr::null_mut()
}

/// Marks `r`. `None` when there is no memory.
///
/// # Safety
/// `r` is a valid main request without a mark.
pub unsafe fn put<'a>(r: *mut ngx_http_request_t, token: Token) -> Option<&'a mut Mark> {
    // SAFETY: nginx returns memory of the size of a mark, aligned for it; zeroed it is a valid one.
    unsafe {
        let record = ngx_pool_cleanup_add((*r).pool, size_of::<Mark>()).as_mut()?;
        let mark = record.data.cast::<Mark>();
        mark.write(Mark {
            token: token.to_bits(),
            state: State::Done,
            told: false,
            deadline: std::mem::zeroed(),
        });
        record.handler = Some(FORGET);
        *(*r).ctx.add(index()) = mark.cast();
        mark.as_mut()
    }
}

unsafe extern "C" fn forget(data: *mut c_void) {
    // SAFETY: nginx passes the mark, once, when the request's memory goes.
    guard((), || unsafe { release(&mut *data.cast::<Mark>()) })
}

/// However the request ended, an abort while it waited included.
fn release(mark: &mut Mark) {
    mark.stop_timer();
    process::with(|process| {
        if mark.state == State::Waiting {
            process.waiting.remove(&mark.token);
        }
        process.gateway.release(mark.token());
    });
}
