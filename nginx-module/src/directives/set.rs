//! What each directive sets.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nginx_sys::{
    NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_http_request_t, ngx_int_t, ngx_parse_offset,
    ngx_parse_size, ngx_parse_time, ngx_str_t,
};
use weir_gateway::{FallbackMode, Headers, PolicyFile, Source, clock};
use weir_metering::{Full, SpoolOptions};
use weir_policy::Tables;
use weir_redis_link::LinkOptions;

use super::{Args, Wrong};
use crate::conf::{self, MainConf, Phase, PlaceConf, Value};
use crate::{pages, zone};

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Wrong> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Wrong::Duplicate),
    }
}

/// Sets what `parse` makes of the only argument.
fn word<T>(
    place: &mut Option<T>,
    args: &Args<'_>,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<(), Wrong> {
    let value = args.first();
    once(place, parse(value.as_bytes()).ok_or(Wrong::Value(value))?)
}

fn flag(word: &[u8]) -> Option<bool> {
    match word {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => None,
    }
}

fn number(word: &[u8], least: u32, most: u32) -> Option<u32> {
    let digits = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let number: u32 = std::str::from_utf8(word).ok().filter(|_| digits)?.parse().ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn bytes(mut text: ngx_str_t) -> Option<u64> {
    // SAFETY: nginx only reads the string.
    u64::try_from(unsafe { ngx_parse_offset(&raw mut text) }).ok()
}

fn milliseconds(mut text: ngx_str_t) -> Option<u64> {
    // SAFETY: nginx only reads the string.
    u64::try_from(unsafe { ngx_parse_time(&raw mut text, 0) }).ok()
}

pub fn zone(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    let value = args.first();
    let mut text = value;
    // SAFETY: nginx only reads the string.
    let size = usize::try_from(unsafe { ngx_parse_size(&raw mut text) }).ok();
    let size = size.filter(|size| *size >= zone::min_size()).ok_or(Wrong::Value(value))?;
    once(&mut main.zone_size, size)?;
    // SAFETY: `main` lives as long as the configuration being read.
    match unsafe { zone::request(args.cf, main, size) } {
        true => Ok(()),
        false => Err(Wrong::Told),
    }
}

pub fn policy(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    if main.policy.is_some() {
        return Err(Wrong::Duplicate);
    }
    if args.first().as_bytes() == b"redis" {
        let keep = args.values.get(1).map(|value| keep(args, *value)).transpose()?;
        main.policy = Some((Arc::new(Tables::none()), Source::Published { keep }));
        return Ok(());
    }
    if let Some(more) = args.values.get(1) {
        return Err(Wrong::Parameter(*more));
    }
    let path = args.path(args.first(), true)?;
    let (book, file) = PolicyFile::open(&path).map_err(|error| Wrong::Said(error.to_string()))?;
    main.policy = Some((book, Source::File(file)));
    Ok(())
}

fn keep(args: &Args<'_>, text: ngx_str_t) -> Result<PathBuf, Wrong> {
    match text.to_str().ok().and_then(|text| text.split_once('=')) {
        Some(("keep", _)) => {
            let dir = args.path(after_equals(text), false)?;
            let no_folder = || format!("\"weir_policy\": keep={} is no directory", dir.display());
            dir.is_dir().then_some(()).ok_or_else(|| Wrong::Said(no_folder()))?;
            Ok(dir)
        }
        _ => Err(Wrong::Parameter(text)),
    }
}

pub fn redis(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    let mut link = LinkOptions {
        // These come from directives that may stand further down.
        urls: Vec::new(),
        timeout: Duration::ZERO,
        gateway: String::new(),
        ..LinkOptions::new("", clock::boot_ms)
    };
    for value in args.values {
        redis_parameter(&mut link, args, *value)?;
    }
    once(&mut main.redis, link)
}

fn redis_parameter(link: &mut LinkOptions, args: &Args<'_>, text: ngx_str_t) -> Result<(), Wrong> {
    let all = text.to_str().map_err(|_| Wrong::Parameter(text))?;
    let file = || args.path(after_equals(text), true);
    match all.split_once('=') {
        Some(("prefix", name)) => link.prefix = name.into(),
        Some(("user", name)) => link.user = Some(name.into()),
        Some(("password_file", _)) => link.password_file = Some(file()?),
        Some(("sentinel_user", name)) => link.sentinel_user = Some(name.into()),
        Some(("sentinel_password_file", _)) => link.sentinel_password_file = Some(file()?),
        Some(("ca", _)) => link.ca = Some(file()?),
        Some(("cert", _)) => link.cert = Some(file()?),
        Some(("key", _)) => link.key = Some(file()?),
        Some(("allow_link_local", said @ ("on" | "off"))) => link.allow_link_local = said == "on",
        _ if all.contains("://") => link.urls.push(all.into()),
        // Its value may be a password.
        Some((name, _)) => return Err(Wrong::Parameter(text.split_at(name.len()).map_or(text, |t| t.0))),
        None => return Err(Wrong::Parameter(text)),
    }
    Ok(())
}

/// What follows the first equals sign; empty without one.
fn after_equals(text: ngx_str_t) -> ngx_str_t {
    let at = text.as_bytes().iter().position(|byte| *byte == b'=');
    at.and_then(|at| text.split_at(at + 1)).map(|(_, value)| value).unwrap_or_default()
}

pub fn redis_timeout(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    let value = args.first();
    let time = milliseconds(value).filter(|ms| (1..=1_000).contains(ms));
    once(&mut main.redis_timeout, Duration::from_millis(time.ok_or(Wrong::Value(value))?))
}

pub fn gateways_min(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut main.gateways_min, args, |word| number(word, 1, 10_000))
}

pub fn gateway(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut main.gateway, args, |word| {
        let name = std::str::from_utf8(word).ok()?;
        let fits = (1..=255).contains(&name.len()) && !name.contains(char::is_control);
        fits.then(|| name.to_owned())
    })
}

pub fn spool(main: &mut MainConf, args: &Args<'_>) -> Result<(), Wrong> {
    let dir = args.path(args.first(), false)?;
    // The gateway's name comes from a directive that may stand further down.
    let mut spool = SpoolOptions::new(dir, "");
    for value in args.values.get(1..).unwrap_or_default() {
        spool_parameter(&mut spool, *value).ok_or(Wrong::Parameter(*value))?;
    }
    once(&mut main.spool, spool)
}

fn spool_parameter(spool: &mut SpoolOptions, text: ngx_str_t) -> Option<()> {
    let (name, _) = text.to_str().ok()?.split_once('=')?;
    let value = after_equals(text);
    match (name, value.as_bytes()) {
        ("max", _) => spool.max_bytes = bytes(value)?,
        ("seal", _) => spool.seal_after_ms = milliseconds(value)?,
        ("sync", _) => spool.sync_every_ms = milliseconds(value)?,
        ("full", b"oldest") => spool.full = Full::Oldest,
        ("full", b"newest") => spool.full = Full::Newest,
        _ => return None,
    }
    Some(())
}

pub fn on(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.on, args, flag)?;
    if place.is_on() {
        use_gateway(args);
    }
    Ok(())
}

/// Something in this configuration needs a gateway.
fn use_gateway(args: &Args<'_>) {
    // SAFETY: the directive stands within http.
    if let Some(main) = unsafe { conf::main_of(args.cf) } {
        main.used = true;
    }
}

pub fn serve(
    args: &Args<'_>,
    handler: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t,
) -> Result<(), Wrong> {
    use_gateway(args);
    // SAFETY: the directive stands within a location.
    match unsafe { pages::serve(args.cf, Some(handler)) } {
        true => Ok(()),
        false => Err(Wrong::Duplicate),
    }
}

pub fn usage(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    place.tells_usage = true;
    serve(args, pages::usage)
}

pub fn retry_jitter(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    let value = args.first();
    let ms = milliseconds(value).filter(|ms| *ms <= 3_600_000).ok_or(Wrong::Value(value))?;
    once(&mut place.retry_jitter_s, ms.div_ceil(1_000) as u32)
}

pub fn key(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    let is_off = args.values.len() == 1 && args.first().as_bytes() == b"off";
    let values = if is_off { &[] } else { args.values };
    let keys: Result<Rc<[Value]>, Wrong> = values.iter().map(|value| compile(args, *value)).collect();
    once(&mut place.key, keys?)
}

pub fn value(place: &mut Option<Option<Value>>, args: &Args<'_>) -> Result<(), Wrong> {
    let value = match args.first().as_bytes() {
        b"off" => None,
        _ => Some(compile(args, args.first())?),
    };
    once(place, value)
}

fn compile(args: &Args<'_>, text: ngx_str_t) -> Result<Value, Wrong> {
    // SAFETY: arguments live in the pool of the configuration being read.
    unsafe { Value::compile(args.cf, text) }.ok_or(Wrong::Told)
}

pub fn phase(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.phase, args, |word| match word {
        b"preaccess" => Some(Phase::Preaccess),
        b"precontent" => Some(Phase::Precontent),
        _ => None,
    })
}

pub fn status(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.status, args, |word| number(word, 400, 599).map(|status| status as u16))
}

pub fn log_level(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.log_level, args, |word| match word {
        b"info" => Some(NGX_LOG_INFO),
        b"notice" => Some(NGX_LOG_NOTICE),
        b"warn" => Some(NGX_LOG_WARN),
        b"error" => Some(NGX_LOG_ERR),
        _ => None,
    })
}

pub fn dry_run(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.dry_run, args, flag)
}

pub fn headers(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.headers, args, Headers::parse)
}

pub fn fallback(place: &mut PlaceConf, args: &Args<'_>) -> Result<(), Wrong> {
    word(&mut place.fallback, args, FallbackMode::parse)
}
