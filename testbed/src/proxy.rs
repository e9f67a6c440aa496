//! A TCP forwarder that stands for the network between a client and a server: it can be cut, stall,
//! lose what the server says, delay, lead to another server, and answer HTTP in its place.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a waiting thread looks whether the weather has changed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Forwards a loopback port of its own to another one.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Where connections lead to.
    target: AtomicU16,
    /// Connections are closed and new ones refused while this is set.
    cut: AtomicBool,
    /// Nothing passes while this is set.
    stalled: AtomicBool,
    /// What the server says is thrown away while this is set.
    deaf: AtomicBool,
    delay_us: AtomicU64,
    /// What is said to HTTP requests in the server's place.
    answer: Mutex<Answer>,
    ended: AtomicBool,
    accepted: AtomicUsize,
}

#[derive(Default)]
struct Answer {
    /// Requests that pass before.
    after: usize,
    /// Requests that get it.
    left: usize,
    given: usize,
    text: String,
}

impl Proxy {
    pub fn to(target: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free()))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State { target: AtomicU16::new(target), ..State::default() });
        let acceptor = thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&listener, &state)
        });
        Ok(Proxy { port, state, acceptor: Some(acceptor) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection, and every new one at once.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// Lets nothing pass in either direction. Connections stay, and what was sent arrives after
    /// [`mend`](Proxy::mend): so TCP shows a network that loses every packet for a while.
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::SeqCst);
    }

    /// Lets requests pass and throws the answers away. A connection that lost something is closed
    /// when the network is mended, since what would follow makes no sense.
    pub fn lose_answers(&self) {
        self.state.deaf.store(true, Ordering::SeqCst);
    }

    /// Holds every piece back by up to `most`, a random time each; pieces keep their order.
    pub fn delay(&self, most: Duration) {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        self.state.delay_us.store(most, Ordering::SeqCst);
    }

    /// After some more HTTP requests, says this to so many in the server's place and closes their
    /// connections; the server never hears of them. `status` is as in `503 Slow Down`.
    pub fn answer(&self, after: usize, times: usize, status: &str, body: &str) {
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        *self.state.answer.lock().expect("no thread panics with it") =
            Answer { after, left: times, given: 0, text };
    }

    /// How many requests were told so.
    pub fn answered(&self) -> usize {
        self.state.answer.lock().expect("no thread panics with it").given
    }

    /// Ends whatever was done to the network.
    pub fn mend(&self) {
        self.delay(Duration::ZERO);
        self.state.answer.lock().expect("no thread panics with it").left = 0;
        for trouble in [&self.state.cut, &self.state.stalled, &self.state.deaf] {
            trouble.store(false, Ordering::SeqCst);
        }
    }

    /// Leads to another server from now on; connections to the old one are closed.
    pub fn lead_to(&self, target: u16) {
        self.state.target.store(target, Ordering::SeqCst);
    }

    /// Connections accepted so far, while cut too.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.cut.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while !state.ended.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((client, _)) => {
                state.accepted.fetch_add(1, Ordering::SeqCst);
                if !state.cut.load(Ordering::SeqCst) {
                    let _ = join(client, state);
                }
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Starts one thread per direction.
fn join(client: TcpStream, state: &Arc<State>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let target = state.target.load(Ordering::SeqCst);
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
    }
    let back = (server.try_clone()?, client.try_clone()?);
    for ((from, to), are_answers) in [((client, server), false), (back, true)] {
        let state = Arc::clone(state);
        let way = Way { target, are_answers, has_hole: false, is_answered: false };
        thread::spawn(move || way.copy(from, to, &state));
    }
    Ok(())
}

/// One direction of one connection.
struct Way {
    target: u16,
    are_answers: bool,
    /// Something was thrown away.
    has_hole: bool,
    /// The rest of what the client says is nobody's.
    is_answered: bool,
}

impl Way {
    fn copy(mut self, mut from: TcpStream, mut to: TcpStream, state: &State) {
        let mut bytes = [0; 16 * 1024];
        while self.goes_on(state) {
            if self.is_held(state) {
                continue;
            }
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) if !self.are_answers && self.is_refused(&bytes[..n], &mut from, state) => {}
                Ok(n) if !self.pass(&bytes[..n], &mut to, state) => break,
                Ok(_) => {}
                Err(e) if is_timeout(&e) => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn goes_on(&self, state: &State) -> bool {
        let leads_here = state.target.load(Ordering::SeqCst) == self.target;
        let is_whole = !self.has_hole || state.deaf.load(Ordering::SeqCst);
        !state.cut.load(Ordering::SeqCst) && leads_here && is_whole
    }

    /// Answers a request in the server's place, if it is one that is to be answered so.
    fn is_refused(&mut self, piece: &[u8], client: &mut TcpStream, state: &State) -> bool {
        let begins = ["GET ", "PUT ", "HEAD ", "POST ", "DELETE "];
        if self.is_answered || !begins.iter().any(|method| piece.starts_with(method.as_bytes())) {
            return self.is_answered;
        }
        let mut answer = state.answer.lock().expect("no thread panics with it");
        match (answer.left, answer.after) {
            (0, _) => {}
            (_, 0) => {
                answer.left -= 1;
                answer.given += 1;
                self.is_answered = true;
                let _ = client.write_all(answer.text.as_bytes());
            }
            _ => answer.after -= 1,
        }
        self.is_answered
    }

    /// Waits a moment while the network is stalled.
    fn is_held(&self, state: &State) -> bool {
        let stalled = state.stalled.load(Ordering::SeqCst);
        if stalled {
            thread::sleep(LOOK_EVERY);
        }
        stalled
    }

    /// Passes one piece on, in whatever weather; false when the connection has ended.
    fn pass(&mut self, piece: &[u8], to: &mut TcpStream, state: &State) -> bool {
        let most = state.delay_us.load(Ordering::SeqCst);
        thread::sleep(Duration::from_micros(fastrand::u64(0..=most)));
        // What was read before the network stalled is stalled, too.
        while self.goes_on(state) && self.is_held(state) {}
        if self.are_answers && state.deaf.load(Ordering::SeqCst) {
            self.has_hole = true;
            return true;
        }
        self.goes_on(state) && to.write_all(piece).is_ok()
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Redis;
    use crate::wait;

    fn open(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    }

    fn say(stream: &mut TcpStream, words: &[u8], answer: usize) -> std::io::Result<String> {
        stream.write_all(words)?;
        hear(stream, answer)
    }

    fn hear(stream: &mut TcpStream, answer: usize) -> std::io::Result<String> {
        let mut bytes = vec![0; answer];
        stream.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn ping(stream: &mut TcpStream) -> std::io::Result<String> {
        say(stream, b"PING\r\n", 7)
    }

    #[test]
    fn it_forwards_until_it_is_cut_and_again_when_mended() {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.port()).unwrap();
        let mut stream = open(&proxy);
        assert_eq!(ping(&mut stream).unwrap(), "+PONG\r\n");
        proxy.cut();
        assert!(wait::until(Duration::from_secs(60), || ping(&mut stream).is_err()));
        assert!(ping(&mut open(&proxy)).is_err());
        proxy.mend();
        assert_eq!(ping(&mut open(&proxy)).unwrap(), "+PONG\r\n");
        assert_eq!(proxy.accepted(), 3);
    }

    #[test]
    fn what_a_stalled_network_holds_arrives_when_it_is_mended() {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.port()).unwrap();
        let mut stream = open(&proxy);
        ping(&mut stream).unwrap();
        proxy.stall();
        assert!(say(&mut stream, b"INCR n\r\n", 4).is_err(), "no answer in time");
        assert_eq!(redis.command(&["EXISTS", "n"]).unwrap(), "0");
        proxy.mend();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(hear(&mut stream, 4).unwrap(), ":1\r\n");
    }

    #[test]
    fn a_request_whose_answer_is_lost_was_carried_out_and_its_connection_ends() {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.port()).unwrap();
        let mut stream = open(&proxy);
        ping(&mut stream).unwrap();
        proxy.lose_answers();
        assert!(say(&mut stream, b"INCR n\r\n", 4).is_err());
        assert_eq!(redis.command(&["GET", "n"]).unwrap(), "1");
        proxy.mend();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(hear(&mut stream, 1).is_err_and(|e| !is_timeout(&e)), "it is closed");
        assert_eq!(ping(&mut open(&proxy)).unwrap(), "+PONG\r\n");
    }

    #[test]
    fn it_leads_to_another_server_and_closes_what_led_to_the_old_one() {
        let (first, second) = (Redis::start().unwrap(), Redis::start().unwrap());
        let proxy = Proxy::to(first.port()).unwrap();
        let mut stream = open(&proxy);
        ping(&mut stream).unwrap();
        proxy.lead_to(second.port());
        assert!(wait::until(Duration::from_secs(60), || ping(&mut stream).is_err()));
        assert_eq!(say(&mut open(&proxy), b"INCR n\r\n", 4).unwrap(), ":1\r\n");
        assert_eq!(second.command(&["GET", "n"]).unwrap(), "1");
        assert_eq!(first.command(&["EXISTS", "n"]).unwrap(), "0");
    }

    #[test]
    fn an_answer_in_the_servers_place_is_given_as_often_as_asked_for() {
        // A server that is no HTTP server: what reaches it, it tells so.
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.port()).unwrap();
        proxy.answer(1, 2, "503 Slow Down", "later");
        let ask = || {
            let mut stream = open(&proxy);
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            say(&mut stream, b"GET n\r\n", 5).unwrap()
        };
        let answers: Vec<String> = (0..4).map(|_| ask()).collect();
        assert_eq!(answers, ["$-1\r\n", "HTTP/", "HTTP/", "$-1\r\n"]);
        assert_eq!(proxy.answered(), 2);
    }

    #[test]
    fn a_delay_is_within_its_bound_and_keeps_the_order() {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.port()).unwrap();
        let mut stream = open(&proxy);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        proxy.delay(Duration::from_millis(30));
        let answers: Vec<String> =
            (0..10).map(|_| say(&mut stream, b"INCR n\r\n", 4).unwrap_or_default()).collect();
        assert_eq!(answers[..3], [":1\r\n", ":2\r\n", ":3\r\n"]);
    }
}
