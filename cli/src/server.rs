//! The Redis that the gateways share, as people look at it.

use weir_policy::Applied;
use weir_redis_link::{Look, Used};

use crate::config::Redis;

/// Connects to the installation's Redis; the error says what is wrong, without the address.
pub async fn look(redis: &Redis) -> Result<Look, String> {
    Look::open(redis.options()).await.map_err(|error| format!("Redis cannot be asked: {error}"))
}

/// What the counters of these limits hold, and those beside them for what is over a limit.
pub async fn used(redis: &Redis, applied: &[Applied]) -> Result<Vec<(Used, Option<Used>)>, String> {
    let each = applied.iter().flat_map(|limit| {
        let counters = std::iter::once(&limit.counter).chain(&limit.counter_over);
        counters.map(|counter| (&**counter, limit.counted_ms))
    });
    let counters: Vec<_> = each.collect();
    let used = look(redis).await?.used(&counters).await;
    let mut used = used.map_err(|error| format!("Redis cannot be asked: {error}"))?.into_iter();
    let mut both = Vec::new();
    for limit in applied {
        let Some(own) = used.next() else { break };
        both.push((own, limit.counter_over.as_ref().and_then(|_| used.next())));
    }
    Ok(both)
}
