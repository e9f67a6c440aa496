//! A server that speaks as a script tells it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is said to one command, by its name; within MULTI it stands for QUEUED, and for EXEC only
/// where counters are read. What is not in here is answered as Redis would.
pub type Script = HashMap<&'static str, Reply>;

#[derive(Clone)]
pub enum Reply {
    Bytes(Vec<u8>),
    /// Byte by byte, a moment between each.
    Dripping(Vec<u8>),
    /// Nothing now, and nothing ever after on this connection.
    Silence,
    /// The bytes, and the connection is closed.
    Last(Vec<u8>),
    /// The bytes, and more for as long as they are taken, a gigabyte at most.
    Endless(Vec<u8>),
}

pub struct Fake {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    script: Arc<Mutex<Script>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn start(script: Script) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script));
        let is_over = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let (script, is_over, connections) = (script.clone(), is_over.clone(), connections.clone());
            move || accept(&listener, &script, &is_over, &connections)
        });
        Fake { port, connections, script, is_over, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn set(&self, command: &'static str, reply: Reply) {
        self.script.lock().unwrap().insert(command, reply);
    }

    pub fn unset(&self, command: &'static str) {
        self.script.lock().unwrap().remove(command);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

fn accept(
    listener: &TcpListener,
    script: &Arc<Mutex<Script>>,
    is_over: &AtomicBool,
    connections: &AtomicUsize,
) {
    for stream in listener.incoming() {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        connections.fetch_add(1, Ordering::SeqCst);
        let script = script.clone();
        // Ends with its connection, which the link closes.
        std::thread::spawn(move || converse(stream.unwrap(), &script));
    }
}

fn converse(mut stream: TcpStream, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut transaction = None;
    while let Some(name) = next_command(&mut reader) {
        let reply = answer(&name, &mut transaction, &script.lock().unwrap());
        if !say(&mut stream, reply) {
            // Reads on, so that the other side is never reset in the middle of a reply.
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            return;
        }
    }
}

/// What was queued since MULTI.
#[derive(Default)]
struct Queued {
    names: Vec<String>,
    is_spoilt: bool,
}

fn answer(name: &str, transaction: &mut Option<Queued>, script: &Script) -> Reply {
    let plain = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let scripted = script.get(name).cloned();
    match (name, transaction.as_mut()) {
        ("MULTI", _) => {
            *transaction = Some(Queued::default());
            scripted.unwrap_or_else(|| plain("+OK\r\n"))
        }
        ("EXEC", Some(queued)) => {
            let counts = queued.names.iter().any(|name| name == "HGETALL");
            let usual = plain(&exec(queued));
            *transaction = None;
            scripted.filter(|_| counts).unwrap_or(usual)
        }
        (_, Some(queued)) => {
            queued.names.push(name.to_owned());
            let reply = scripted.unwrap_or_else(|| plain("+QUEUED\r\n"));
            queued.is_spoilt |= matches!(&reply, Reply::Bytes(bytes) if bytes[0] == b'-');
            reply
        }
        _ => scripted.unwrap_or_else(|| plain(&usual(name))),
    }
}

fn exec(queued: &Queued) -> String {
    if queued.is_spoilt {
        return "-EXECABORT Transaction discarded because of previous errors.\r\n".to_owned();
    }
    let items: String = queued.names.iter().map(|name| usual(name)).collect();
    format!("*{}\r\n{items}", queued.names.len())
}

/// Whether the conversation goes on.
fn say(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Bytes(bytes) => stream.write_all(&bytes).is_ok(),
        Reply::Dripping(bytes) => bytes.chunks(1).all(|byte| {
            std::thread::sleep(Duration::from_micros(200));
            stream.write_all(byte).is_ok()
        }),
        Reply::Silence => false,
        Reply::Last(bytes) => {
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            false
        }
        Reply::Endless(bytes) => {
            let more = [b'x'; 65536];
            stream.write_all(&bytes).is_ok() && (0..16384).all(|_| stream.write_all(&more).is_ok())
        }
    }
}

/// Enough of Redis to be taken for one with no counters in it.
fn usual(name: &str) -> String {
    let info = "# Server\r\nredis_mode:standalone\r\nrun_id:0123456789abcdef\r\n";
    match name {
        "INFO" => format!("${}\r\n{info}\r\n", info.len()),
        "TIME" => "*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n".to_owned(),
        "HGETALL" => "*0\r\n".to_owned(),
        "AUTH" | "SELECT" => "+OK\r\n".to_owned(),
        _ => ":1\r\n".to_owned(),
    }
}

/// Reads one command and gives its name.
fn next_command(reader: &mut impl BufRead) -> Option<String> {
    let mut words = Vec::new();
    for _ in 0..number(reader, '*')? {
        let mut word = vec![0; number(reader, '$')? + 2];
        reader.read_exact(&mut word).ok()?;
        words.push(word);
    }
    let name = String::from_utf8(words.first()?.clone()).ok()?;
    Some(name.trim_end().to_owned())
}

fn number(reader: &mut impl BufRead, kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}
