//! What Redis says that it was asked.

use weir_testbed::redis::Redis;

use crate::error::{BenchError, Result};
use crate::variant::Kind;

/// Transactions since the server began: EXECs.
pub fn transactions(redis: &Redis) -> Result<u64> {
    let text = redis.command(&["INFO", "commandstats"])?;
    calls(&text, "exec").ok_or_else(|| BenchError::wrong("Redis", format!("INFO said {text}")))
}

/// Reads `cmdstat_exec:calls=7,usec=…`; a command that was never called is not listed.
fn calls(text: &str, command: &str) -> Option<u64> {
    let start = format!("cmdstat_{command}:calls=");
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(Some(0), |rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

/// Whether a variant asks Redis in transactions.
pub fn is_shared(kind: Kind) -> bool {
    matches!(kind, Kind::WeirRedisSpool | Kind::WeirTwoLimits | Kind::WeirRedisSpoolRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_was_never_called_counts_as_none() {
        let text = "# Commandstats\r\ncmdstat_exec:calls=12,usec=3,usec_per_call=0.25\r\n";
        assert_eq!(calls(text, "exec"), Some(12));
        assert_eq!(calls(text, "multi"), Some(0));
    }
}
