//! `weir explain`: why a caller is served or refused: which limits apply, from which line of the
//! policy, what is left of them, and what would happen now.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use weir_limiter::Unit;
use weir_policy::{Action, Applied, Book, Caller, MAX_KEY_BYTES, Over, Places};
use weir_redis_link::{Brake, Desk, Used};

use crate::clock;
use crate::columns::{aligned, shown};
use crate::config::{Config, Redis};
use crate::installation::{self, CommandError};
use crate::published::{self, Checked};
use crate::server;
use crate::step::say;

/// Explain what a caller may send, by its API key from standard input or by its id.
#[derive(clap::Args)]
pub struct ExplainArgs {
    /// The client's id, instead of a key from standard input
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// The endpoint, by its name in the policy
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    pub endpoint: Option<String>,
    /// A path, which the policy's routes name
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Units that the request costs, where the policy limits units
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cost: u64,
    /// The policy; if not given the configuration's file, else the one that is published
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// By the published policy, whatever file the configuration names
    #[arg(long, conflicts_with = "policy")]
    pub published: bool,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// The whole answer.
#[derive(Debug, Serialize)]
struct Explained {
    client: String,
    name: String,
    tier: String,
    /// Why this is not who the caller claims to be.
    note: Option<String>,
    /// Where the client stands, or else its tier.
    from: Option<String>,
    method: String,
    endpoint: String,
    policy: String,
    limits: Vec<Explanation>,
    /// Why nothing is known of what is left.
    unseen: Option<String>,
    would_pass: bool,
    now: String,
}

/// One limit.
#[derive(Debug, Serialize)]
struct Explanation {
    id: String,
    limit: String,
    from: Option<String>,
    used: Option<u64>,
    left: Option<u64>,
    /// Until there is room for this request; 0 when there is.
    wait_ms: Option<u64>,
    /// What the policy says of a request that finds no room.
    over: Option<String>,
    /// Whether such a one passes now, as OVER.
    passes_over: bool,
}

pub fn run(config: &Path, args: &ExplainArgs) -> ExitCode {
    installation::run("explain", async {
        let explained = explain(config, args).await?;
        match args.json {
            true => say(&serde_json::to_string(&explained).unwrap_or_default()),
            false => print!("{}", explained.as_text()),
        }
        Ok(true)
    })
}

async fn explain(path: &Path, args: &ExplainArgs) -> Result<Explained, CommandError> {
    let config = match (Config::read(path), &args.policy) {
        // With a policy of its own the command needs no configuration.
        (Err(_), Some(_)) if !path.exists() => Config::default(),
        (read, _) => read?,
    };
    let (bytes, source) = text(&config, path, args).await?;
    let policy = Checked::new(&bytes, Path::new(&source))?.policy;
    let key = if args.client.is_some() { Vec::new() } else { read_key()? };
    let book = Book::compile(policy);
    let now_s = clock::now_us() / 1_000_000;
    let caller = match &args.client {
        Some(id) => book.by_client(id, None),
        None => book.by_key(&key, now_s),
    };
    let routed = book.endpoint(&args.method, &args.path);
    let endpoint = args.endpoint.clone().unwrap_or_else(|| routed.unwrap_or(&args.path).to_owned());
    let mut applied = Vec::new();
    book.limits(&caller, &args.method, &endpoint, now_s, &mut applied);
    let used = match &config.redis {
        Some(redis) => server::used(redis, &applied).await,
        None => Err("weir.toml names no [redis]: a gateway alone knows it, ask its weir_usage".to_owned()),
    };
    let places = Places::of(&String::from_utf8_lossy(&bytes));
    let brake = match (&config.redis, &used) {
        // Who could not be asked just now need not be asked again.
        (Some(redis), Ok(_)) => brake(redis).await,
        _ => None,
    };
    let case = Case { args, book: &book, caller, endpoint, source, places, brake };
    Ok(case.explained(&applied, used))
}

/// Where it can't be read, limits are enforced: the gateways take it so too.
async fn brake(redis: &Redis) -> Option<Brake> {
    Desk::open(redis.options()).await.ok()?.brake().await.ok()?
}

/// The text of the policy to go by, and how to call it.
async fn text(config: &Config, path: &Path, args: &ExplainArgs) -> Result<(Vec<u8>, String), CommandError> {
    let named = args.policy.as_ref().or(config.policy.file.as_ref());
    if let Some(file) = named.filter(|_| !args.published) {
        let read = fs::read(file);
        let bytes = read.map_err(|source| CommandError::ReadPolicy { path: file.clone(), source })?;
        return Ok((bytes, file.display().to_string()));
    }
    if config.redis.is_none() && !args.published {
        let text = "no policy; set [policy] file in weir.toml, or [redis] where it is published, or give \
                    --policy FILE";
        return Err(CommandError::Usage(text.to_owned()));
    }
    let desk = published::open(config, path).await?;
    let head = desk.head().await?.ok_or_else(|| {
        CommandError::Refused("nothing is published; `weir apply` does, or give --policy FILE".to_owned())
    })?;
    Ok((desk.text(&head).await?, format!("release {}", head.number)))
}

/// The key, without the line end that `echo` adds. It goes nowhere but into its hash.
fn read_key() -> Result<Vec<u8>, CommandError> {
    let mut key = Vec::new();
    let reading = io::stdin().lock().take(MAX_KEY_BYTES as u64 + 3).read_to_end(&mut key);
    let what = "cannot read the key from standard input".to_owned();
    reading.map_err(|source| CommandError::Io { what, source })?;
    for end in [b'\n', b'\r'] {
        key.pop_if(|last| *last == end);
    }
    Ok(key)
}

/// What is to be explained.
struct Case<'a> {
    args: &'a ExplainArgs,
    book: &'a Book,
    caller: Caller<'a>,
    endpoint: String,
    /// What the policy is called: a file, or a release.
    source: String,
    places: Places,
    /// Why nothing is enforced now.
    brake: Option<Brake>,
}

impl Case<'_> {
    fn explained(&self, applied: &[Applied], used: Result<Vec<(Used, Option<Used>)>, String>) -> Explained {
        let caller = &self.caller;
        let (used, unseen) = match used {
            Ok(used) => (used, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let limits: Vec<Explanation> =
            applied.iter().enumerate().map(|(at, limit)| self.limit(limit, used.get(at))).collect();
        let (would_pass, now) = self.verdict(&limits, applied, unseen.is_some());
        let (would_pass, now) = match &self.brake {
            Some(Brake { by, reason, .. }) if !would_pass => {
                (true, format!("passes, since {by} switched enforcement off ({reason}); else {now}"))
            }
            _ => (would_pass, now),
        };
        let line = self.places.client(caller.id).or_else(|| self.places.tier(caller.tier));
        let name = self.book.client_name(caller.id).unwrap_or(caller.id);
        Explained {
            client: caller.id.to_owned(),
            name: name.to_owned(),
            tier: caller.tier.to_owned(),
            note: caller.note.map(|note| format!("the caller {note}")).or_else(|| self.unlisted()),
            from: line.map(|line| self.at(line)),
            method: self.args.method.clone(),
            endpoint: self.endpoint.clone(),
            policy: format!("{:016x}", self.book.version()),
            limits,
            unseen: unseen.filter(|_| !applied.is_empty()),
            would_pass,
            now,
        }
    }

    /// A gateway takes any id that an authenticator names, and so does this.
    fn unlisted(&self) -> Option<String> {
        let id = self.args.client.as_deref().filter(|id| self.book.policy().client(id).is_none())?;
        Some(format!(
            "the policy has no client {id:?} (see `weir client list`); one that weir_client names so is treated \
             like this"
        ))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.source)
    }

    fn limit(&self, limit: &Applied, both: Option<&(Used, Option<Used>)>) -> Explanation {
        let used = both.map(|both| &both.0);
        let amount = limit.limit.amount;
        let units = used.map(|used| used.units(limit.counted_ms));
        // Bytes are known afterwards: a request needs room for one.
        let cost = if limit.limit.unit == Unit::Cost { self.args.cost.max(1) } else { 1 };
        let wait_ms = used.map(|used| match amount.checked_sub(cost) {
            None => limit.window_ms,
            Some(most) => match used.ms_until(limit.counted_ms, most) {
                0 => 0,
                // A calendar quota opens when its period is over.
                _ if limit.period_s.is_some() => until_end(limit, clock::now_us()),
                wait_ms => wait_ms,
            },
        });
        Explanation {
            id: limit.id.to_string(),
            limit: limit.name.to_string(),
            from: self.places.limit(&self.caller, limit).map(|line| self.at(line)),
            used: units,
            left: units.map(|units| amount.saturating_sub(units)),
            wait_ms,
            over: over(limit.over),
            passes_over: both.and_then(|both| both.1.as_ref()).is_some_and(|beyond| {
                beyond.units(limit.counted_ms).saturating_add(cost) <= limit.over.beyond(amount)
            }),
        }
    }

    fn verdict(&self, limits: &[Explanation], applied: &[Applied], unseen: bool) -> (bool, String) {
        match self.caller.action {
            Action::Reject => {
                return (false, "refused with 403: the policy turns unknown callers away".into());
            }
            Action::Observe => return (true, "passes: unknown callers are only observed".into()),
            Action::Exempt => return (true, "passes: exempt from all limits".into()),
            Action::Ignore => return (true, "passes, and is not recorded".into()),
            Action::Enforce if applied.is_empty() => return (true, "passes: no limit applies here".into()),
            Action::Enforce if unseen => {
                return (true, "not known, since it is not known what is left".into());
            }
            Action::Enforce => {}
        }
        let longest = limits.iter().max_by_key(|limit| limit.wait_ms).filter(|l| l.wait_ms > Some(0));
        match longest {
            None => (true, "passes".into()),
            Some(limit) => {
                let seconds = limit.wait_ms.unwrap_or(0).div_ceil(1_000);
                let why = format!("{} is used up; room in {seconds} s", limit.limit);
                let full = || limits.iter().filter(|limit| limit.wait_ms > Some(0));
                if full().all(|limit| limit.passes_over) {
                    return (true, format!("passes as OVER, within the ceiling: {why}"));
                }
                let over = full().find_map(|limit| limit.over.as_ref());
                let why = over.map_or(why.clone(), |over| format!("{why}; {over}"));
                match self.caller.dry_run {
                    true => (true, format!("passes, since this is a dry run; else refused: {why}")),
                    false => (false, format!("refused with 429: {why}")),
                }
            }
        }
    }
}

fn over(over: Over) -> Option<String> {
    match over {
        Over::Reject => None,
        Over::Delay { ms, burst } => {
            Some(format!("up to {burst} are held back for {} s at most instead", ms as f64 / 1_000.0))
        }
        Over::Degrade { percent } => Some(format!("up to {percent} % of it pass as OVER")),
    }
}

fn until_end(limit: &Applied, now_us: i64) -> u64 {
    let end_s = limit.period_s.as_ref().map_or(0, |period| period.end);
    u64::try_from(end_s.saturating_mul(1_000) - now_us / 1_000).unwrap_or(0)
}

impl Explained {
    fn as_text(&self) -> String {
        let from = self.from.as_deref().map(|from| format!(" ({from})")).unwrap_or_default();
        let mut text = format!(
            "caller    {} [{}], tier {}{from}\n",
            shown(&self.name),
            shown(&self.client),
            shown(&self.tier)
        );
        if let Some(note) = &self.note {
            text += &format!("          {note}\n");
        }
        text += &format!("request   {} {}\n", shown(&self.method), shown(&self.endpoint));
        text += &format!("policy    version {}\n", self.policy);
        if !self.limits.is_empty() {
            text +=
                &format!("\n{}\n", aligned(&["LIMIT", "FROM", ">USED", ">LEFT", ">ROOM IN"], &self.rows()));
        }
        if let Some(why) = &self.unseen {
            text += &format!("left      not known: {why}\n");
        }
        text + &format!("now       {}\n", self.now)
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let wait =
            |ms: Option<u64>| ms.map_or_else(|| "?".to_owned(), |ms| format!("{} s", ms.div_ceil(1_000)));
        let row = |limit: &Explanation| {
            let from = limit.from.clone().unwrap_or_default();
            vec![shown(&limit.limit), from, number(limit.used), number(limit.left), wait(limit.wait_ms)]
        };
        self.limits.iter().map(row).collect()
    }
}
