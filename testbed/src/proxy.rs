//! A TCP forwarder that can be cut, so that a server is away for a while without losing what it
//! holds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a waiting thread looks whether the proxy was cut.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Forwards a loopback port of its own to another one.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Connections are closed and new ones refused while this is set.
    cut: AtomicBool,
    ended: AtomicBool,
    accepted: AtomicUsize,
}

impl Proxy {
    pub fn to(target: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free()))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let acceptor = thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&listener, target, &state)
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

    pub fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
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

fn accept(listener: &TcpListener, target: u16, state: &Arc<State>) {
    while !state.ended.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((client, _)) => {
                state.accepted.fetch_add(1, Ordering::SeqCst);
                if !state.cut.load(Ordering::SeqCst) {
                    let _ = join(client, target, state);
                }
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Starts one thread per direction.
fn join(client: TcpStream, target: u16, state: &Arc<State>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
    }
    let back = (server.try_clone()?, client.try_clone()?);
    for (from, to) in [(client, server), back] {
        let state = Arc::clone(state);
        thread::spawn(move || copy(from, to, &state));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut bytes = [0; 16 * 1024];
    while !state.cut.load(Ordering::SeqCst) {
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => {
                if to.write_all(&bytes[..n]).is_err() {
                    break;
                }
            }
            Err(e) if is_timeout(&e) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
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

    fn ping(stream: &mut TcpStream) -> std::io::Result<String> {
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[test]
    fn it_forwards_until_it_is_cut_and_again_when_mended() {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.port()).unwrap();
        let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let mut stream = open();
        assert_eq!(ping(&mut stream).unwrap(), "+PONG\r\n");
        proxy.cut();
        assert!(wait::until(Duration::from_secs(5), || ping(&mut stream).is_err()));
        assert!(ping(&mut open()).is_err());
        proxy.mend();
        assert_eq!(ping(&mut open()).unwrap(), "+PONG\r\n");
        assert_eq!(proxy.accepted(), 3);
    }
}
