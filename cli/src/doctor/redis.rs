//! The Redis that the gateways share.

use weir_redis_link::Facts;

use super::Report;
use crate::config::Config;
use crate::server;

/// Clocks that differ by more than this, and by more than the answer took, are worth knowing.
const CLOCK_MS: u64 = 2_000;
/// Percent of maxmemory.
const NEARLY_FULL: u64 = 90;

/// Returns whether it answers.
pub async fn examine(config: &Config, report: &mut Report) -> bool {
    let Some(redis) = &config.redis else {
        report.note(
            "redis",
            "weir.toml names no [redis]",
            "with several gateways, set it to what their weir_redis says",
        );
        return false;
    };
    let look = match server::look(redis).await {
        Ok(look) => look,
        Err(why) => {
            report.wrong("redis", why, "start it, or correct [redis] in weir.toml");
            return false;
        }
    };
    if let slots @ 1.. = look.nobodys() {
        let found = format!("no server of the Cluster keeps {slots} of its slots");
        report.wrong(
            "redis",
            found,
            "look at `redis-cli --cluster check`; weir_fallback decides for their keys",
        );
    }
    let mut answers = true;
    for (server, facts) in look.facts().await {
        match facts {
            Ok(facts) => judge(&server, &facts, report),
            Err(error) => {
                answers = false;
                let found = format!("Redis cannot be asked: {error}");
                report.wrong("redis", found, "start it, or correct [redis] in weir.toml");
            }
        }
    }
    answers
}

/// `server` is empty where there is one.
fn judge(server: &str, facts: &Facts, report: &mut Report) {
    let version = facts.get("redis_version").unwrap_or("?");
    let name = if server.is_empty() { String::new() } else { format!("{server}: ") };
    let seen = match facts.keeps_gateways {
        true => format!("; {} gateways seen in the last minute", facts.gateways.len()),
        false => String::new(),
    };
    report.ok("redis", format!("{name}version {version} answers{seen}"));
    memory(&name, facts, report);
    let mut wrong = |found: &str, remedy: &str| report.wrong("redis", format!("{name}{found}"), remedy);
    if facts.get("role").is_some_and(|role| role != "master") {
        wrong("this server is a replica", "give the address of the one that takes writes");
    }
    if facts.get("rdb_last_bgsave_status").is_some_and(|status| status != "ok") {
        wrong("Redis could not save its data, and may refuse writes for that", "look at its log and disk");
    }
    clock(&name, facts, report);
}

/// Counters are small and expire by themselves, so weir needs little memory, but it needs them: one
/// that was evicted is a window that begins anew.
fn memory(name: &str, facts: &Facts, report: &mut Report) {
    let (most, used) = (facts.number("maxmemory").unwrap_or(0), facts.number("used_memory").unwrap_or(0));
    let policy = facts.get("maxmemory_policy").unwrap_or("noeviction");
    if most == 0 {
        let remedy = "set maxmemory with a margin, so that the system does not end Redis";
        return report.note("redis", format!("{name}maxmemory is not set"), remedy);
    }
    if policy == "noeviction" {
        report.ok("redis", format!("{name}maxmemory-policy is {policy}"));
    } else {
        let found = format!(
            "{name}maxmemory-policy is {policy}: counters in use may be evicted, and let more through"
        );
        report.wrong(
            "redis",
            found,
            "CONFIG SET maxmemory-policy noeviction, or give weir a Redis of its own",
        );
    }
    let percent = used.saturating_mul(100) / most;
    if percent >= NEARLY_FULL {
        report.wrong("redis", format!("{name}{percent} % of maxmemory is used"), "raise maxmemory");
    }
    if let Some(evicted @ 1..) = facts.number("evicted_keys") {
        let found = format!("{name}{evicted} keys were evicted since it started");
        report.note("redis", found, "raise maxmemory, and look at maxmemory-policy");
    }
}

/// No window depends on it: gateways measure time by the server's clock. Calendar quotas and records
/// go by their own.
fn clock(name: &str, facts: &Facts, report: &mut Report) {
    let middle_ms = facts.sent_ms.midpoint(facts.received_ms);
    let off_ms = middle_ms.abs_diff(facts.time_ms);
    let took_ms = facts.received_ms.saturating_sub(facts.sent_ms);
    if off_ms > CLOCK_MS + took_ms {
        let found = format!("{name}the clocks of Redis and of this machine differ by {} s", off_ms / 1_000);
        report.note("clock", found, "run NTP on both; windows do not depend on it, quotas of days do");
    }
}
