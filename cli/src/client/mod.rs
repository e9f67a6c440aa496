//! `weir client`: the clients of the policy, in its file or as it is published.

mod edit;
mod import;
mod place;
mod shown;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weir_limiter::{Limit, Window};
use weir_policy::{Client, parse_duration, parse_limit, spell_limit};

use edit::{Draft, EditError, Fields, NewGrant};
pub use place::{Place, PlaceArgs};

use crate::clock;
use crate::installation::{CommandError, run as run_command};

/// List, show and change the clients of the policy
#[derive(clap::Args, Debug)]
pub struct ClientArgs {
    #[command(subcommand)]
    command: ClientCommand,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(clap::Subcommand, Debug)]
enum ClientCommand {
    /// One line for each client
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// All that the policy says of a client
    Show {
        id: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Add a client; `weir key new --client ID --add` gives it a key
    Add {
        id: String,
        #[command(flatten)]
        fields: Fields,
        /// The hash of an API key, as `weir key hash` prints it; may be repeated
        #[arg(long = "key", value_name = "sha256:…")]
        keys: Vec<String>,
    },
    /// Change what a client is given; what is not named stays
    Set {
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Refuse everything from a client
    Block {
        id: String,
        /// No longer
        #[arg(long)]
        off: bool,
        /// Why, for the history of what is published
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// More of one of its limits for a while, such as "+500 requests/hour"
    Grant {
        id: String,
        #[arg(value_name = "LIMIT")]
        limit: String,
        /// For how long, such as 2h
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a client begin anew: each of its limits once more, until its window is over
    Reset {
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "begin anew")]
        reason: String,
    },
    /// Add many clients, from a CSV file with the columns id, name, tier, key, contacts, timezone
    Import { file: PathBuf },
}

pub fn run(config: &Path, args: &ClientArgs) -> ExitCode {
    run_command("client", client(config, args))
}

async fn client(path: &Path, args: &ClientArgs) -> Result<bool, CommandError> {
    let place = Place::open(path, &args.place).await?;
    match &args.command {
        ClientCommand::List { json: false } => print!("{}", shown::list(place.policy())),
        ClientCommand::List { json: true } => println!("{:#}", shown::json_list(place.policy())),
        ClientCommand::Show { id, json } => {
            let client = find(&place, id)?;
            match json {
                true => println!("{:#}", shown::as_json(client, place.policy())),
                false => print!("{}", shown::text(client, place.policy())),
            }
        }
        ClientCommand::Add { id, fields, keys } => {
            return place.edit(&format!("add client {id}"), |draft, _| draft.add(id, fields, keys)).await;
        }
        ClientCommand::Set { id, fields } => {
            return place.edit(&format!("set client {id}"), |draft, _| draft.set(id, fields)).await;
        }
        ClientCommand::Block { id, off, reason } => {
            let what = if *off { "unblock" } else { "block" };
            return place.edit(&why(what, id, reason), |draft, _| draft.block(id, !off)).await;
        }
        ClientCommand::Grant { id, limit, time, reason } => {
            let grant = new_grant(limit, time, reason)?;
            return place.edit(&why("grant to", id, reason), |draft, _| draft.grant(id, &grant)).await;
        }
        ClientCommand::Reset { id, reason } => {
            let grants = anew(find(&place, id)?, &place, reason);
            let all = |draft: &mut Draft| grants.iter().try_for_each(|grant| draft.grant(id, grant));
            return place.edit(&why("reset", id, reason), |draft, _| all(draft)).await;
        }
        ClientCommand::Import { file } => return import(place, file).await,
    }
    Ok(true)
}

fn why(what: &str, id: &str, reason: &str) -> String {
    let colon = if reason.is_empty() { "" } else { ": " };
    format!("{what} client {id}{colon}{reason}")
}

fn find<'a>(place: &'a Place, id: &str) -> Result<&'a Client, CommandError> {
    let none = || CommandError::Refused(EditError::NoClient(id.to_owned()).to_string());
    place.policy().client(id).ok_or_else(none)
}

fn new_grant(limit: &str, time: &str, reason: &str) -> Result<NewGrant, CommandError> {
    let wrong = |fault: weir_policy::Fault| CommandError::Usage(fault.to_string());
    let limit = parse_limit(limit.trim().trim_start_matches('+')).map_err(wrong)?;
    let seconds = parse_duration(time).map_err(wrong)?;
    let until_s = now_s().saturating_add(seconds as i64);
    Ok(NewGrant { limit: spell_limit(&limit), until_s, reason: reason.to_owned() })
}

fn now_s() -> i64 {
    clock::now_us() / 1_000_000
}

/// Each limit of a client once more, until what was used before no longer counts. What is counted
/// lies with the gateways and is not touched: nothing is forgotten, there is only room beside it.
fn anew(client: &Client, place: &Place, reason: &str) -> Vec<NewGrant> {
    let of_tier = place.policy().tier(&client.tier).map_or(&[][..], |tier| &tier.limits);
    let is_own =
        |limit: &&Limit| client.limits.iter().any(|own| (own.unit, own.window) == (limit.unit, limit.window));
    let limits = client.limits.iter().chain(of_tier.iter().filter(|limit| !is_own(limit)));
    let zone = client.timezone.as_deref().unwrap_or("UTC");
    let grant = |limit: &Limit| NewGrant {
        limit: spell_limit(limit),
        until_s: over_s(limit.window, zone, now_s()),
        reason: reason.to_owned(),
    };
    limits.filter(|limit| limit.amount > 0).map(grant).collect()
}

/// When what was used up to now is out of the window.
fn over_s(window: Window, zone: &str, now_s: i64) -> i64 {
    let day = || {
        let now = jiff::Timestamp::from_second(now_s).ok()?.in_tz(zone).ok()?;
        let next = match window {
            Window::Month => now.last_of_month().ok()?.tomorrow().ok()?,
            _ => now.tomorrow().ok()?,
        };
        Some(next.start_of_day().ok()?.timestamp().as_second())
    };
    match window {
        Window::Sliding { ms } => now_s.saturating_add((ms / 1_000) as i64),
        Window::Day | Window::Month => day().unwrap_or(now_s),
    }
}

async fn import(place: Place, file: &Path) -> Result<bool, CommandError> {
    let refused = |error: import::ImportError| CommandError::Refused(format!("{}: {error}", file.display()));
    let table = File::open(file).map_err(|error| {
        let file = file.display();
        CommandError::Refused(format!("{file}: {error}; name a CSV file that this user may read"))
    })?;
    let rows = import::read(table).map_err(refused)?;
    let reason = format!("import {} clients", rows.len());
    let add = |draft: &mut Draft| import::add(draft, &rows).map_err(|e| format!("{}: {e}", file.display()));
    place.edit(&reason, |draft, _| add(draft)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_over_when_nothing_from_before_counts() {
        // 2027-01-15T08:00:00Z: in Tokyo 17:00.
        let now = 1_800_000_000;
        assert_eq!(over_s(Window::Sliding { ms: 60_000 }, "UTC", now), now + 60);
        assert_eq!(over_s(Window::Day, "UTC", now), now + 16 * 3_600);
        assert_eq!(over_s(Window::Day, "Asia/Tokyo", now), now + 7 * 3_600);
        assert_eq!(over_s(Window::Month, "Asia/Tokyo", now), now + (16 * 24 + 7) * 3_600);
    }

    #[test]
    fn a_grant_is_written_with_or_without_its_plus() {
        for text in ["+500 requests/hour", " 500 requests/1 hour"] {
            let grant = new_grant(text, "2h", "a launch").unwrap();
            assert_eq!(grant.limit, "500 requests/hour");
            assert!((7_190..=7_200).contains(&(grant.until_s - now_s())));
        }
        for (text, time) in [("500", "2h"), ("-5 requests/hour", "2h"), ("5 requests/hour", "2")] {
            assert!(matches!(new_grant(text, time, "x"), Err(CommandError::Usage(_))), "{text} {time}");
        }
    }
}
