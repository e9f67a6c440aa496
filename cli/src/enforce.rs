//! `weir enforce`: the emergency brake. For a while no gateway refuses anybody.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use weir_policy::parse_duration;
use weir_redis_link::Brake;

use crate::clock;
use crate::config::Config;
use crate::installation::{CommandError, run as run_command};
use crate::published::{open, time};

/// For longer there is dry_run in the policy, which is published and has a history.
const LONGEST_S: u64 = 7 * 86_400;

/// Switch the enforcement of all limits off for a while, or on again; or show which it is
///
/// While it is off, limits are decided, told in header fields and recorded as in a dry run, at every
/// gateway of this Redis. It ends by itself.
#[derive(clap::Args, Debug)]
pub struct EnforceArgs {
    #[command(subcommand)]
    order: Option<Order>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Order {
    /// Refuse nobody for a while
    Off {
        /// For how long, such as 30m or 1h; at most 7d
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who [default: this user at this machine]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Enforce limits again, now
    On,
}

pub fn run(config: &Path, args: &EnforceArgs) -> ExitCode {
    run_command("enforce", enforce(config, args))
}

async fn enforce(path: &Path, args: &EnforceArgs) -> Result<bool, CommandError> {
    let order = args.order.as_ref().map(brake).transpose()?;
    let desk = open(&Config::read(path)?, path).await?;
    if let Some(order) = order {
        desk.set_brake(order.as_ref()).await?;
    }
    let brake = desk.brake().await?;
    let text = match (&brake, args.json) {
        (Some(Brake { by, reason, left_ms }), true) => {
            json!({ "enforced": false, "by": by, "reason": reason, "until": until(*left_ms) }).to_string()
        }
        (None, true) => json!({ "enforced": true }).to_string(),
        (Some(Brake { by, reason, left_ms }), false) => {
            format!("limits are not enforced until {}, switched off by {by}: {reason}", until(*left_ms))
        }
        (None, false) => "limits are enforced".to_owned(),
    };
    println!("{text}");
    Ok(true)
}

/// What has to be set; none to enforce.
fn brake(order: &Order) -> Result<Option<Brake>, CommandError> {
    let Order::Off { time, reason, by } = order else {
        return Ok(None);
    };
    let seconds = parse_duration(time).map_err(|fault| CommandError::Usage(format!("--for: {fault}")))?;
    if seconds > LONGEST_S {
        let text = "--for: at most 7d; for longer set dry_run in the policy and `weir apply` it";
        return Err(CommandError::Usage(text.to_owned()));
    }
    if reason.trim().is_empty() {
        return Err(CommandError::Usage("--reason is empty; say why, for those who wonder".to_owned()));
    }
    let by = by.clone().unwrap_or_else(clock::who);
    Ok(Some(Brake { by, reason: reason.clone(), left_ms: seconds * 1_000 }))
}

fn until(left_ms: u64) -> String {
    time(clock::now_ms().saturating_add(left_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(time: &str, reason: &str) -> Result<Option<Brake>, CommandError> {
        brake(&Order::Off { time: time.into(), reason: reason.into(), by: Some("bob".into()) })
    }

    #[test]
    fn it_is_for_a_while_and_for_a_reason() {
        let wanted = Brake { by: "bob".into(), reason: "why".into(), left_ms: 3_600_000 };
        assert_eq!(off("1h", "why").unwrap(), Some(wanted));
        assert_eq!(brake(&Order::On).unwrap(), None);
        for (time, reason) in [("", "x"), ("0s", "x"), ("8d", "x"), ("1h", " "), ("soon", "x")] {
            assert!(matches!(off(time, reason), Err(CommandError::Usage(_))), "{time} {reason}");
        }
    }
}
