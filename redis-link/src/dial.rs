//! A connection to the server, from the address to the first TIME.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, RedisResult, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::exchange::{Refusal, send, time_ms};
use crate::guard::{Ending, Guarded};
use crate::options::{Address, Credentials, Plan};
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

/// Connects, says who we are, and asks who the server is. `attempt` picks among a name's addresses.
pub async fn dial(plan: &Plan, attempt: usize) -> Result<Dialled, Arc<str>> {
    let ending = Arc::new(Ending::default());
    let credentials = plan.credentials().map_err(|e| e.to_string())?;
    let password = credentials.as_ref().map(|c| c.password.clone());
    let stream = Guarded::new(connect(plan, attempt).await?, ending.clone(), password);
    let (connection, driver) = multiplexed(stream).await.map_err(|e| tame(&e.to_string(), None))?;
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    let mut line = Line { connection, ending, life: 0 };
    let (life, reading) = greet(&line, plan, credentials.as_ref()).await?;
    line.life = life;
    Ok(Dialled { line: Arc::new(line), reading, driver: drivers })
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

async fn connect(plan: &Plan, attempt: usize) -> Result<Box<dyn Stream>, Arc<str>> {
    match &plan.address {
        Address::Unix(path) => Ok(Box::new(unix(path).await?)),
        Address::Tcp { host, port } => Ok(Box::new(tcp(host, *port, attempt).await?)),
        Address::Tls { host, port } => {
            let config = client_config(&plan.options).map_err(|e| e.to_string())?;
            let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
            let stream = tcp(host, *port, attempt).await?;
            let secured = TlsConnector::from(config).connect(name, stream).await;
            Ok(Box::new(secured.map_err(|e| format!("no TLS with {host}:{port}: {e}"))?))
        }
    }
}

async fn unix(path: &Path) -> Result<UnixStream, Arc<str>> {
    let fail = |e: io::Error| format!("can't connect to {}: {e}", path.display()).into();
    UnixStream::connect(path).await.map_err(fail)
}

async fn tcp(host: &str, port: u16, attempt: usize) -> Result<TcpStream, Arc<str>> {
    let fail = |e: io::Error| -> Arc<str> { format!("can't connect to {host}:{port}: {e}").into() };
    let mut addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(fail)?.collect();
    if addresses.is_empty() {
        return Err(fail(io::Error::other("the name has no address")));
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
    credentials: Option<&Credentials>,
) -> Result<(u64, Reading), Arc<str>> {
    let (commands, steps) = greeting(plan, credentials);
    let sent_ms = (plan.options.clock)();
    let replies = send(line, &commands).await.map_err(|failure| failure.why().clone())?;
    let received_ms = (plan.options.clock)();
    let password = credentials.map(|c| c.password.as_str());
    let (accepted, facts) = replies.split_at(steps);
    accepted.iter().try_for_each(|reply| check_step(reply, password))?;
    let [info, time] = facts else {
        return Err("Redis gave fewer replies than commands".into());
    };
    let life = life_of(info, password)?;
    let time_ms = time_ms(Some(time.clone())).map_err(|failure| failure.why().clone())?;
    Ok((life, Reading { sent_ms, received_ms, time_ms }))
}

/// The commands, and how many of them only have to be accepted.
fn greeting(plan: &Plan, credentials: Option<&Credentials>) -> (Pipeline, usize) {
    let mut pipe = redis::pipe();
    if let Some(Credentials { user, password }) = credentials {
        pipe.cmd("AUTH").arg(user.as_slice()).arg(password);
    }
    if plan.database != 0 {
        pipe.cmd("SELECT").arg(plan.database);
    }
    let steps = pipe.len();
    pipe.cmd("INFO").arg("server").cmd("TIME");
    (pipe, steps)
}

fn check_step(reply: &Value, password: Option<&str>) -> Result<(), Arc<str>> {
    match reply {
        Value::Okay => Ok(()),
        Value::ServerError(error) => Err(Refusal::new(error, password).why),
        _ => Err("AUTH or SELECT gave something else than OK: is this Redis?".into()),
    }
}

/// The server's life, from INFO; refuses servers that are no single Redis.
fn life_of(info: &Value, password: Option<&str>) -> Result<u64, Arc<str>> {
    let text = match info {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
        Value::ServerError(error) => return Err(Refusal::new(error, password).why),
        _ => return Err("INFO gave something else than a text: is this Redis?".into()),
    };
    let value_of =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    match value_of("redis_mode") {
        Some("cluster") => Err("this is a node of a Redis Cluster, which is not supported yet".into()),
        Some("sentinel") => Err("this is a Sentinel; give the address of the Redis it watches".into()),
        _ => match value_of("run_id") {
            Some(run_id) if !run_id.is_empty() => Ok(hash(run_id)),
            _ => Err("INFO shows no run_id, by which a server that lost its data is known".into()),
        },
    }
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits: the same in every build, as it lies in shared memory.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}
