//! The zone that all workers share. nginx keeps it over a reload as long as its size stays.

use std::ffi::c_void;
use std::ptr;

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_NOTICE, ngx_conf_t, ngx_int_t, ngx_list_part_t, ngx_pagesize,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_calloc, ngx_slab_pool_t,
};
use weir_gateway::{Counters, Figures};
use weir_limiter::Table;

use crate::conf::MainConf;
use crate::glue::{ERROR, OK, fixed, guard, log_cycle};
use crate::{module, process};

/// There is one zone, so it needs no name in the configuration.
const NAME: &str = "weir";

/// One part in so many of the zone is for the figures that `weir_metrics` tells.
const FIGURES_SHARE: usize = 16;

/// Where the table lies, in the zone itself. nginx maps a zone once, before it forks: the address is
/// the same in all processes.
struct Region {
    counters: *mut u8,
    figures: *mut u8,
    figures_len: usize,
    memory: *mut u8,
    len: usize,
}

/// What the workers share.
#[derive(Clone, Copy)]
pub struct Shared {
    pub table: Table,
    pub counters: &'static Counters,
    pub figures: Figures,
}

/// Asks nginx for the zone.
///
/// # Safety
/// `cf` is the configuration being read and `main` lives as long as it.
pub unsafe fn request(cf: *mut ngx_conf_t, main: *mut MainConf, size: usize) -> bool {
    let mut name = fixed(NAME);
    // SAFETY: nginx returns a zone of the cycle being built, or null.
    unsafe {
        let zone = ngx_shared_memory_add(cf, &raw mut name, size, module().cast());
        let Some(zone) = zone.as_mut() else {
            return false;
        };
        zone.init = Some(init);
        zone.data = main.cast();
        true
    }
}

/// The smallest zone that nginx can manage and that holds a few clients.
pub fn min_size() -> usize {
    // SAFETY: nginx sets it before it reads a configuration.
    8 * unsafe { ngx_pagesize }
}

unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, old: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx passes a mapped zone, and what `data` was before if it is the same zone again.
    guard(ERROR, || unsafe { open(&mut *zone, !old.is_null()) })
}

unsafe fn open(zone: &mut ngx_shm_zone_t, again: bool) -> ngx_int_t {
    // SAFETY: `request` set data to the configuration being read; addr is a slab pool.
    unsafe {
        let main = zone.data.cast::<MainConf>();
        let pool = zone.shm.addr.cast::<ngx_slab_pool_t>();
        let shared = if again { attach(pool) } else { create(zone, pool) };
        let ready = shared.map_err(|text| format!("\"weir_zone\": {text}")).and_then(|shared| {
            (*main).shared = Some(shared);
            (*main).prepare_spool()
        });
        match ready {
            Ok(()) => OK,
            Err(text) => {
                log_cycle(NGX_LOG_EMERG, &text);
                ERROR
            }
        }
    }
}

unsafe fn attach(pool: *mut ngx_slab_pool_t) -> Result<Shared, String> {
    // SAFETY: `create` stored the region when the zone was new, and nothing moves it.
    unsafe {
        let region = (*pool).data.cast::<Region>().as_ref().ok_or("the zone holds no table")?;
        let table = Table::attach(region.memory, region.len).map_err(|error| error.to_string())?;
        let figures = Figures::at(region.figures, region.figures_len);
        Ok(Shared { table, counters: Counters::at(region.counters), figures })
    }
}

unsafe fn create(zone: &ngx_shm_zone_t, pool: *mut ngx_slab_pool_t) -> Result<Shared, String> {
    // SAFETY: the pool is fresh, so its free pages are one run. Nobody else allocates from it.
    unsafe {
        if let Some(before) = size_before() {
            let size = zone.shm.size;
            let text = format!("zone resized from {before} to {size} bytes: all counters start anew");
            log_cycle(NGX_LOG_NOTICE, &text);
        }
        let region = ngx_slab_alloc(pool, size_of::<Region>()).cast::<Region>();
        let counters = ngx_slab_calloc(pool, size_of::<Counters>()).cast::<u8>();
        let figures_len = zone.shm.size / FIGURES_SHARE;
        let figures = ngx_slab_calloc(pool, figures_len).cast::<u8>();
        let len = (*pool).pfree * ngx_pagesize;
        let memory = ngx_slab_alloc(pool, len).cast::<u8>();
        if region.is_null() || counters.is_null() || figures.is_null() || memory.is_null() {
            return Err(format!("a zone of {} bytes is too small", zone.shm.size));
        }
        region.write(Region { counters, figures, figures_len, memory, len });
        (*pool).data = region.cast();
        let seed = process::random();
        let seed = [seed as u64, (seed >> 64) as u64];
        Table::create(memory, len, seed).map_err(|error| error.to_string())?;
        attach(pool)
    }
}

/// The size of our zone in the cycle in force, if it has one: then nginx has not kept it.
unsafe fn size_before() -> Option<usize> {
    // SAFETY: while a new cycle is built, `ngx_cycle` is the one in force, or at the first start a
    // bare one whose list is empty.
    unsafe {
        let cycle = ptr::read(&raw const nginx_sys::ngx_cycle);
        let mut part: *const ngx_list_part_t = &raw const (*cycle).shared_memory.part;
        while let Some(zones) = part.as_ref() {
            let elements = zones.elts.cast::<ngx_shm_zone_t>();
            for i in 0..if elements.is_null() { 0 } else { zones.nelts } {
                let zone = &*elements.add(i);
                if ptr::eq(zone.tag, module().cast()) {
                    return Some(zone.shm.size);
                }
            }
            part = zones.next;
        }
        None
    }
}
