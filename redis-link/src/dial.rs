//! A connection to the server, from the address to the first TIME.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisResult, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::exchange::{Refusal, send, time_ms};
use crate::guard::{Ending, Guarded};
use crate::options::{Credentials, Plan};
use crate::place::{Address, Host, is_metadata};
use crate::secret::tame;
use crate::tls::client_config;

/// Anything that bytes go through.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An open connection to one life of one server.
pub struct Line {
    connection: MultiplexedConnection,
    /// Set by whoever finds that the connection has ended or must end.
    pub ending: Arc<Ending>,
    /// A hash of the server's run id, never 0. A connection can't outlive the process at its other
    /// end, so it holds for all of the connection.
    pub life: u64,
}

impl Line {
    /// A handle to the connection; all handles share it.
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// A line to nowhere.
    #[cfg(test)]
    pub async fn idle(life: u64) -> Arc<Line> {
        let (stream, _) = UnixStream::pair().unwrap();
        let (connection, _) = multiplexed(stream).await.unwrap();
        Arc::new(Line { connection, ending: Arc::default(), life })
    }
}

/// A reading of the server's clock between two of the gateway's.
#[derive(Clone, Copy)]
pub struct Reading {
    pub sent_ms: u64,
    pub received_ms: u64,
    pub time_ms: u64,
}

/// A line and the tasks that drive it. Dropping it cuts the connection: whatever is under way fails.
pub struct Dialled {
    pub line: Arc<Line>,
    pub reading: Reading,
    driver: JoinSet<()>,
}

impl Dialled {
    /// Waits until the connection has ended or somebody wants it ended.
    pub async fn ended(&mut self) -> Arc<str> {
        tokio::select! {
            why = self.line.ending.wait() => why,
            _ = self.driver.join_next() => {
                self.line.ending.why().unwrap_or_else(|| "the connection ended".into())
            }
        }
    }
}

/// What a server must be to be of use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The only one; whether it takes writes is for the first write to tell.
    Single,
    /// One that Sentinels named.
    Master,
    /// A primary of a Cluster.
    Primary,
}

/// Connects, says who we are, and asks who the server is. `attempt` picks among a name's addresses.
pub async fn dial(plan: &Plan, address: &Address, role: Role, attempt: usize) -> Result<Dialled, Arc<str>> {
    let credentials = plan.credentials().map_err(|e| e.to_string())?;
    let (mut line, driver) = open(plan, address, credentials.as_ref(), attempt).await?;
    let (life, reading) = greet(&line, plan, role, credentials.as_ref()).await?;
    line.life = life;
    Ok(Dialled { line: Arc::new(line), reading, driver })
}

/// Connects, says who we are, asks one thing and hangs up.
pub async fn ask(
    plan: &Plan,
    host: &Host,
    credentials: Option<&Credentials>,
    question: Cmd,
) -> Result<Value, Arc<str>> {
    let (line, _driver) = open(plan, &plan.address(host), credentials, 0).await?;
    let mut commands = redis::pipe();
    log_in(&mut commands, credentials);
    let steps = commands.len();
    commands.add_command(question);
    let mut replies = send(&line, &commands).await.map_err(|failure| failure.why().clone())?;
    let password = credentials.map(|c| c.password.as_str());
    replies[..steps].iter().try_for_each(|reply| check_step(reply, password))?;
    match replies.pop() {
        Some(Value::ServerError(error)) => Err(Refusal::new(&error, password).why),
        Some(reply) => Ok(reply),
        None => Err("Redis gave no reply".into()),
    }
}

/// A connection on which nothing was said yet.
async fn open(
    plan: &Plan,
    address: &Address,
    credentials: Option<&Credentials>,
    attempt: usize,
) -> Result<(Line, JoinSet<()>), Arc<str>> {
    let ending = Arc::new(Ending::default());
    let password = credentials.map(|c| c.password.clone());
    let stream = Guarded::new(connect(plan, address, attempt).await?, ending.clone(), password);
    let (connection, driver) = multiplexed(stream).await.map_err(|e| tame(&e.to_string(), None))?;
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    Ok((Line { connection, ending, life: 0 }, drivers))
}

/// A connection that many can use at once, and the task that drives it.
///
/// The library's own handshake is left out: ours has every reply checked, in one round trip. So are
/// its time-outs, after which it would forget an answer: the breaker wants late ones too.
async fn multiplexed<S: Stream + 'static>(stream: S) -> RedisResult<(MultiplexedConnection, Driver)> {
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
    Ok((connection, Box::pin(driver)))
}

async fn connect(plan: &Plan, address: &Address, attempt: usize) -> Result<Box<dyn Stream>, Arc<str>> {
    match address {
        Address::Unix(path) => Ok(Box::new(unix(path).await?)),
        Address::Tcp(host) => Ok(Box::new(tcp(plan, host, attempt).await?)),
        Address::Tls(host) => {
            let config = client_config(&plan.options).map_err(|e| e.to_string())?;
            let name = ServerName::try_from(host.name.clone()).map_err(|e| e.to_string())?;
            let stream = tcp(plan, host, attempt).await?;
            let secured = TlsConnector::from(config).connect(name, stream).await;
            Ok(Box::new(secured.map_err(|e| format!("no TLS with {host}: {e}"))?))
        }
    }
}

async fn unix(path: &Path) -> Result<UnixStream, Arc<str>> {
    let fail = |e: io::Error| format!("can't connect to {}: {e}", path.display()).into();
    UnixStream::connect(path).await.map_err(fail)
}

async fn tcp(plan: &Plan, host: &Host, attempt: usize) -> Result<TcpStream, Arc<str>> {
    let fail = |e: io::Error| -> Arc<str> { format!("can't connect to {host}: {e}").into() };
    let found = lookup_host((host.name.as_str(), host.port)).await.map_err(fail)?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(fail(io::Error::other("the name has no address")));
    }
    let is_refused = !plan.options.allow_link_local && addresses.iter().any(|a| is_metadata(a.ip()));
    if is_refused {
        let why = "the name leads to a cloud's metadata; say allow_link_local if it is meant";
        return Err(fail(io::Error::other(why)));
    }
    // One address that swallows packets must not keep us from the others for ever.
    let first = attempt % addresses.len();
    addresses.rotate_left(first);
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(fail)?;
    stream.set_nodelay(true).map_err(fail)?;
    Ok(stream)
}

/// AUTH and SELECT where needed, then INFO and TIME, in one round trip.
async fn greet(
    line: &Line,
    plan: &Plan,
    role: Role,
    credentials: Option<&Credentials>,
) -> Result<(u64, Reading), Arc<str>> {
    let (commands, steps) = greeting(plan, credentials);
    let sent_ms = (plan.options.clock)();
    let replies = send(line, &commands).await.map_err(|failure| failure.why().clone())?;
    let received_ms = (plan.options.clock)();
    let password = credentials.map(|c| c.password.as_str());
    let (accepted, facts) = replies.split_at(steps);
    accepted.iter().try_for_each(|reply| check_step(reply, password))?;
    let [server, replication, time] = facts else {
        return Err("Redis gave fewer replies than commands".into());
    };
    let life = life_of(info(server, password)?, role)?;
    if role != Role::Single {
        check_role(info(replication, password)?)?;
    }
    let time_ms = time_ms(Some(time.clone())).map_err(|failure| failure.why().clone())?;
    Ok((life, Reading { sent_ms, received_ms, time_ms }))
}

/// The commands, and how many of them only have to be accepted.
fn greeting(plan: &Plan, credentials: Option<&Credentials>) -> (Pipeline, usize) {
    let mut pipe = redis::pipe();
    log_in(&mut pipe, credentials);
    if plan.database != 0 {
        pipe.cmd("SELECT").arg(plan.database);
    }
    let steps = pipe.len();
    pipe.cmd("INFO").arg("server").cmd("INFO").arg("replication").cmd("TIME");
    (pipe, steps)
}

fn log_in(pipe: &mut Pipeline, credentials: Option<&Credentials>) {
    if let Some(Credentials { user, password }) = credentials {
        pipe.cmd("AUTH").arg(user.as_slice()).arg(password);
    }
}

fn check_step(reply: &Value, password: Option<&str>) -> Result<(), Arc<str>> {
    match reply {
        Value::Okay => Ok(()),
        Value::ServerError(error) => Err(Refusal::new(error, password).why),
        _ => Err("AUTH or SELECT gave something else than OK: is this Redis?".into()),
    }
}

fn info<'a>(reply: &'a Value, password: Option<&str>) -> Result<Cow<'a, str>, Arc<str>> {
    match reply {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes)),
        Value::ServerError(error) => Err(Refusal::new(error, password).why),
        _ => Err("INFO gave something else than a text: is this Redis?".into()),
    }
}

fn value_of<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The server's life; refuses servers that are something else than what they were taken for.
fn life_of(info: Cow<'_, str>, role: Role) -> Result<u64, Arc<str>> {
    match (value_of(&info, "redis_mode"), role) {
        (Some("cluster"), Role::Primary) => {}
        (_, Role::Primary) => return Err("this is no node of a Redis Cluster any more".into()),
        (Some("cluster"), _) => {
            return Err(
                "this is a node of a Redis Cluster: write redis+cluster:// instead of redis://".into()
            );
        }
        (Some("sentinel"), _) => {
            let remedy = "write redis+sentinel://HOST:PORT,HOST:PORT/MASTER instead of redis://";
            return Err(format!("this is a Sentinel: {remedy}").into());
        }
        _ => {}
    }
    match value_of(&info, "run_id") {
        Some(run_id) if !run_id.is_empty() => Ok(hash(run_id)),
        _ => Err("INFO shows no run_id, by which a server that lost its data is known".into()),
    }
}

fn check_role(info: Cow<'_, str>) -> Result<(), Arc<str>> {
    match value_of(&info, "role") {
        Some("master") => Ok(()),
        Some(role) => Err(format!("the server that should take writes is a {role} now").into()),
        None => Err("INFO shows no role".into()),
    }
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits: the same in every build, as it lies in shared memory.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}
