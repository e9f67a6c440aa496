//! An HTTP service behind the gateways, with a latency, a share of errors and a capacity: beyond it
//! requests queue, and beyond the queue they are turned away, as in a real service that drowns.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use crate::{StartError, ports};

/// How the service behaves under one path.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The beginning of the path; the first that fits counts.
    pub path: String,
    /// Median of the service time; it is log-normal.
    pub median: Duration,
    /// Standard deviation of the time's logarithm: 0 for a constant time, 0.5 for a lively one.
    pub spread: f64,
    /// Share of requests that fail with 500, 0 to 1.
    pub errors: f64,
    /// Bytes of an answer's body.
    pub bytes: usize,
}

/// How the whole service behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub endpoints: Vec<Endpoint>,
    /// Requests worked on at a time.
    pub capacity: usize,
    /// Requests that may wait beyond those; the next ones get 503 at once.
    pub queue: usize,
    /// Seed of service times and errors.
    pub seed: u64,
}

impl Behaviour {
    /// Answers everything at once with a body of two bytes.
    pub fn instant() -> Behaviour {
        Behaviour { endpoints: Vec::new(), capacity: usize::MAX >> 4, queue: 0, seed: 1 }
    }

    /// Answers everything after a constant time.
    pub fn steady(time: Duration) -> Behaviour {
        let endpoint = Endpoint { path: "/".into(), median: time, spread: 0.0, errors: 0.0, bytes: 2 };
        Behaviour { endpoints: vec![endpoint], ..Behaviour::instant() }
    }
}

/// The running service. Dropping it ends it.
pub struct Backend {
    port: u16,
    state: Arc<State>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    behaviour: Behaviour,
    places: Semaphore,
    rng: Mutex<fastrand::Rng>,
    /// Requests inside, worked on or waiting.
    inside: AtomicU64,
    answered: AtomicU64,
    turned_away: AtomicU64,
}

impl Backend {
    pub fn start(behaviour: Behaviour) -> Result<Backend, StartError> {
        let port = ports::free();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(StartError::io("listening for the backend"))?;
        let state = Arc::new(State::new(behaviour));
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("backend".into())
            .spawn({
                let state = Arc::clone(&state);
                move || serve(listener, state, ended)
            })
            .map_err(StartError::io("starting the backend's thread"))?;
        Ok(Backend { port, state, end: Some(end), thread: Some(thread) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Requests that reached the service and got an answer of any kind.
    pub fn answered(&self) -> u64 {
        self.state.answered.load(Ordering::Relaxed)
    }

    /// Those of them that got 503, since the queue was full.
    pub fn turned_away(&self) -> u64 {
        self.state.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: std::net::TcpListener, state: Arc<State>, ended: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs an epoll descriptor");
    runtime.block_on(async {
        tokio::select! {
            () = accept(listener, state) => {}
            // The sender is only ever dropped.
            _ = ended => {}
        }
    });
}

async fn accept(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    loop {
        // A failed accept (the client is gone, no descriptor is free) concerns that client alone.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(&request).await) }
            });
            // An error here means that the gateway closed the connection.
            let mut http = http1::Builder::new();
            let _ = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl State {
    fn new(behaviour: Behaviour) -> State {
        State {
            places: Semaphore::new(behaviour.capacity),
            rng: Mutex::new(fastrand::Rng::with_seed(behaviour.seed)),
            inside: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            behaviour,
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let inside = self.inside.fetch_add(1, Ordering::Relaxed);
        let room = (self.behaviour.capacity + self.behaviour.queue) as u64;
        let (status, bytes) = if inside < room {
            self.work(request.uri().path()).await
        } else {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            (StatusCode::SERVICE_UNAVAILABLE, 0)
        };
        self.inside.fetch_sub(1, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        respond(status, bytes)
    }

    async fn work(&self, path: &str) -> (StatusCode, usize) {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let endpoint = self.behaviour.endpoints.iter().find(|e| path.starts_with(&e.path));
        let Some(endpoint) = endpoint else {
            return (StatusCode::OK, 2);
        };
        let (time, fails) = self.draw(endpoint);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        if fails { (StatusCode::INTERNAL_SERVER_ERROR, 0) } else { (StatusCode::OK, endpoint.bytes) }
    }

    /// The service time of one request, and whether it fails.
    fn draw(&self, endpoint: &Endpoint) -> (Duration, bool) {
        let mut rng = self.rng.lock().expect("no holder of this lock panics");
        let time = endpoint.median.mul_f64((endpoint.spread * normal(&mut rng)).exp());
        (time, rng.f64() < endpoint.errors)
    }
}

/// A standard normal number (Box and Muller, 1958).
fn normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

fn respond(status: StatusCode, bytes: usize) -> Response<Full<Bytes>> {
    static BODY: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let body = Bytes::from_static(&BODY[..bytes.min(BODY.len())]);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;
    use std::time::Instant;

    fn status(port: u16, path: &str) -> u16 {
        http::Request::get(port, path).send().unwrap().status
    }

    #[test]
    fn each_path_has_its_own_time_errors_and_size() {
        let slow = Duration::from_millis(80);
        let mut behaviour = Behaviour::steady(slow);
        let fails = Endpoint { path: "/bad".into(), errors: 1.0, ..behaviour.endpoints[0].clone() };
        let big = Endpoint { path: "/big".into(), bytes: 5_000, ..behaviour.endpoints[0].clone() };
        behaviour.endpoints.splice(0..0, [fails, big]);
        let backend = Backend::start(behaviour).unwrap();
        assert_eq!(status(backend.port(), "/bad/1"), 500);
        let begun = Instant::now();
        let answer = http::Request::get(backend.port(), "/big").send().unwrap();
        assert!(begun.elapsed() >= slow);
        assert_eq!(answer.body.len(), 5_000);
        assert_eq!(backend.answered(), 2);
    }

    #[test]
    fn beyond_capacity_and_queue_it_turns_away() {
        let mut behaviour = Behaviour::steady(Duration::from_millis(400));
        (behaviour.capacity, behaviour.queue) = (1, 1);
        let backend = Backend::start(behaviour).unwrap();
        let port = backend.port();
        let askers: Vec<_> = (0..5).map(|_| std::thread::spawn(move || status(port, "/"))).collect();
        let mut answers: Vec<u16> = askers.into_iter().map(|a| a.join().unwrap()).collect();
        answers.sort_unstable();
        assert_eq!(answers, [200, 200, 503, 503, 503]);
        assert_eq!(backend.turned_away(), 3);
    }

    #[test]
    fn service_times_are_log_normal_around_their_median() {
        let behaviour = Behaviour::steady(Duration::from_millis(10));
        let mut endpoint = behaviour.endpoints[0].clone();
        endpoint.spread = 0.5;
        let state = State::new(behaviour);
        let mut times: Vec<f64> = (0..4_001).map(|_| state.draw(&endpoint).0.as_secs_f64()).collect();
        times.sort_unstable_by(f64::total_cmp);
        assert!((times[2_000] / 0.010 - 1.0).abs() < 0.05, "median {}", times[2_000]);
        // One standard deviation above the median: 84.1 % of the times lie below e^0.5.
        assert!((times[3_365] / 0.010 / 0.5_f64.exp() - 1.0).abs() < 0.08, "{}", times[3_365]);
    }
}
