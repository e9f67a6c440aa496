//! Transactions as commands, replies as values. Strict: a reply is what was asked for or nothing.

use std::sync::Arc;

use redis::{Pipeline, ServerError, Value};
use weir_limiter::{Answer, Counter, Part, Transaction};

use crate::dial::Line;
use crate::place::Host;
use crate::secret::tame;

/// Why an exchange gave nothing. It is never tried again.
#[derive(Debug)]
pub enum Failure {
    /// The connection can't be trusted any more.
    Broken(Arc<str>),
    /// The server takes no transaction now, or none from us.
    Refused(Refusal),
    /// The server ran it, but something else lies in one of its keys; or its keys are of a kind that
    /// no server runs.
    Spoilt(Arc<str>),
    /// Another server of the Cluster keeps these keys, or will do so in a moment. Nothing was run.
    Elsewhere { why: Arc<str>, to: Option<(u16, Host)> },
}

/// A server's error about a whole transaction.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub why: Arc<str>,
    /// This connection will not get better: the password has changed, or another server is in charge.
    pub wants_new_connection: bool,
}

impl Refusal {
    /// `password` is what must not be seen in the text.
    pub fn new(error: &ServerError, password: Option<&str>) -> Refusal {
        let (remedy, wants_new_connection) = remedy(error.code());
        let text = describe(error, password);
        let why = if remedy.is_empty() { text } else { format!("{text} ({remedy})") };
        Refusal { why: why.into(), wants_new_connection }
    }
}

impl Failure {
    pub fn broken(why: &str) -> Failure {
        Failure::Broken(why.into())
    }

    /// The text for logs and events.
    pub fn why(&self) -> &Arc<str> {
        match self {
            Failure::Broken(why) | Failure::Spoilt(why) | Failure::Elsewhere { why, .. } => why,
            Failure::Refused(refusal) => &refusal.why,
        }
    }
}

/// What an operator can do about an error, and whether only a new connection can help.
fn remedy(code: &str) -> (&'static str, bool) {
    match code {
        "NOAUTH" | "WRONGPASS" => ("look at user= and password_file=", true),
        "NOPERM" => (
            "the user needs multi, exec, time, info, hincrby, hget, hgetall, hdel, pexpire, get, pttl, zadd, \
             zremrangebyscore and zcard on the keys below the prefix, in a Cluster cluster|slots, at \
             Sentinels sentinel|get-master-addr-by-name",
            true,
        ),
        "READONLY" | "MASTERDOWN" => ("give the address of the server that takes writes", true),
        "MOVED" | "ASK" | "TRYAGAIN" => ("write redis+cluster:// instead of redis://", true),
        "CLUSTERDOWN" => ("some of the slots are served by nobody: look at CLUSTER INFO", false),
        "OOM" => ("raise maxmemory of Redis", false),
        "MISCONF" => ("Redis can't save its data: look at its log and disk", false),
        "NOREPLICAS" => ("too few replicas are connected to Redis", false),
        _ => ("", false),
    }
}

/// What an error about a whole transaction comes to.
fn refused(error: &ServerError) -> Failure {
    let why = || describe(error, None).into();
    match error.code() {
        "MOVED" => Failure::Elsewhere { why: why(), to: error.details().and_then(moved_to) },
        "ASK" | "TRYAGAIN" => Failure::Elsewhere { why: why(), to: None },
        "CROSSSLOT" => Failure::Spoilt(why()),
        _ => Failure::Refused(Refusal::new(error, None)),
    }
}

/// `3999 10.0.0.1:6381`; a Cluster that does not know its own names leaves the host empty.
fn moved_to(details: &str) -> Option<(u16, Host)> {
    let (slot, host) = details.split_once(' ')?;
    let (name, port) = host.trim().rsplit_once(':')?;
    let host = Host { name: name.trim_matches(['[', ']']).to_owned(), port: port.parse().ok()? };
    (!host.name.is_empty()).then_some((slot.parse().ok()?, host))
}

fn describe(error: &ServerError, password: Option<&str>) -> String {
    tame(&format!("{} {}", error.code(), error.details().unwrap_or_default()), password)
}

/// Sends plain commands and returns one reply for each, server errors included.
pub async fn send(line: &Line, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
    let count = commands.len();
    let sent = line.connection().send_packed_commands(commands, 0, count).await;
    let replies = sent.map_err(|error| match line.ending.why() {
        Some(why) => Failure::Broken(why),
        None => Failure::broken(&tame(&error.to_string(), None)),
    })?;
    match replies.len() == count {
        true => Ok(replies),
        false => Err(Failure::broken("Redis gave fewer replies than commands")),
    }
}

/// Begins a transaction: MULTI and EXEC are sent as commands like the others, so that every single
/// reply is checked and answers can't slip by one. Its first reply is the TIME it ran at.
pub fn begin() -> Pipeline {
    let mut pipe = redis::pipe();
    pipe.cmd("MULTI");
    pipe.cmd("TIME");
    pipe
}

/// Runs what [`begin`] began and returns the replies within EXEC's; any error in them is a failure.
pub async fn run(line: &Line, mut commands: Pipeline) -> Result<Vec<Value>, Failure> {
    commands.cmd("EXEC");
    opened(send(line, &commands).await?)
}

/// The replies within EXEC's.
fn opened(mut replies: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let Some(exec) = replies.pop() else {
        return Err(Failure::broken("Redis gave no reply"));
    };
    for (index, reply) in replies.iter().enumerate() {
        match reply {
            Value::Okay if index == 0 => {}
            Value::SimpleString(text) if index > 0 && text == "QUEUED" => {}
            Value::ServerError(error) => return Err(refused(error)),
            _ => {
                return Err(Failure::broken("Redis did not queue a command of a transaction"));
            }
        }
    }
    match exec {
        Value::Array(items) if items.len() + 1 == replies.len() => checked(items),
        Value::ServerError(error) => Err(refused(&error)),
        _ => Err(Failure::broken("EXEC gave something else than its commands' replies")),
    }
}

fn checked(items: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let error = items.iter().find_map(|item| match item {
        Value::ServerError(error) => Some(describe(error, None)),
        _ => None,
    });
    match error {
        Some(text) => Err(Failure::Spoilt(text.into())),
        None => Ok(items),
    }
}

/// A counter's key in Redis. The number is that of what its fields mean: gateways of another version
/// neither misread nor spoil them.
pub fn key(prefix: &str, counter: &Counter) -> String {
    format!("{prefix}:2:{}", counter.name)
}

/// The commands of a transaction: TIME, then per part HINCRBY for every addition, HGETALL, HDEL,
/// PEXPIRE.
pub fn commands(prefix: &str, transaction: &Transaction) -> Pipeline {
    let mut pipe = begin();
    for part in &transaction.parts {
        let key = key(prefix, &part.counter);
        for (field, units) in &part.add {
            pipe.cmd("HINCRBY").arg(&key).arg(*field).arg(*units);
        }
        pipe.cmd("HGETALL").arg(&key);
        if !part.drop.is_empty() {
            pipe.cmd("HDEL").arg(&key).arg(&part.drop);
        }
        pipe.cmd("PEXPIRE").arg(&key).arg(part.expire_ms);
    }
    pipe
}

/// Reads the replies to [`commands`].
pub fn answer(transaction: &Transaction, life: u64, items: Vec<Value>) -> Result<Answer, Failure> {
    let mut items = items.into_iter();
    let time_ms = time_ms(items.next())?;
    let mut fields = Vec::with_capacity(transaction.parts.len());
    for part in &transaction.parts {
        fields.push(part_fields(part, &mut items)?);
    }
    match items.next() {
        None => Ok(Answer { time_ms, life, fields }),
        Some(_) => Err(Failure::broken("Redis gave more replies than commands")),
    }
}

fn part_fields(part: &Part, items: &mut impl Iterator<Item = Value>) -> Result<Vec<(u64, i64)>, Failure> {
    for _ in &part.add {
        integer(items.next())?;
    }
    let all = hash(items.next())?;
    if !part.drop.is_empty() {
        integer(items.next())?;
    }
    integer(items.next())?;
    Ok(all)
}

/// Any integer; what HINCRBY, HDEL and PEXPIRE count is in HGETALL's reply already.
pub fn integer(item: Option<Value>) -> Result<i64, Failure> {
    match item {
        Some(Value::Int(number)) => Ok(number),
        _ => Err(Failure::broken("Redis gave something else where a number belongs")),
    }
}

/// `TIME`: seconds and microseconds, as milliseconds rounded down.
pub fn time_ms(item: Option<Value>) -> Result<u64, Failure> {
    let parts = match &item {
        Some(Value::Array(parts)) => parts.as_slice(),
        _ => &[],
    };
    let time = match parts {
        [seconds, micros] => decimal::<u64>(seconds).zip(decimal::<u64>(micros)),
        _ => None,
    };
    time.filter(|(_, micros)| *micros < 1_000_000)
        .and_then(|(seconds, micros)| seconds.checked_mul(1000)?.checked_add(micros / 1000))
        .ok_or_else(|| Failure::broken("TIME gave something else than a time"))
}

pub fn hash(item: Option<Value>) -> Result<Vec<(u64, i64)>, Failure> {
    let Some(Value::Array(flat)) = item else {
        return Err(Failure::broken("HGETALL gave something else than fields"));
    };
    let pairs = flat.chunks_exact(2);
    if !pairs.remainder().is_empty() || flat.iter().any(|v| !matches!(v, Value::BulkString(_))) {
        return Err(Failure::broken("HGETALL gave something else than fields and values"));
    }
    // A field of someone else's making spoils its key, not the connection.
    pairs
        .map(|pair| decimal(&pair[0]).zip(decimal(&pair[1])))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Failure::Spoilt("a field of a counter is not a number: delete its key".into()))
}

fn decimal<T: std::str::FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}
