//! The thread beside a worker's event loop on which policies are read, judged and let go: with 100,000
//! clients each of these takes longer than any request may wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::setpriority_process;
use weir_policy::Tables;
use weir_redis_link::News;

use crate::Source;
use crate::policy_file::{Look, PolicyFile};
use crate::published::{Arrival, arrival, keep};
use crate::shelf::Shelf;

/// Compiling a policy of more bytes than this leaves much memory that is free again.
const LARGE: usize = 1 << 20;

/// The thread's priority: on processors that have no time left it still gets a quarter of one, so that a
/// policy of 100,000 clients, half a second's work, does not wait for long.
const NICE: i32 = 5;

/// What has arrived and was not looked at yet, and how the event loop hears of it.
pub(crate) struct Inbox {
    arrivals: Mutex<Vec<Arrival>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Inbox {
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Inbox> {
        Arc::new(Inbox { arrivals: Mutex::default(), wake })
    }

    pub fn put(&self, arrival: Arrival) {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
        self.ring();
    }

    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn ring(&self) {
        (self.wake)();
    }
}

/// Something to do.
#[allow(clippy::large_enum_variant, reason = "few jobs, each gone at once")]
pub(crate) enum Job {
    /// See whether the policy file changed. Always answered.
    Look,
    /// Judge what is published.
    News(News),
    /// Free what is no longer in force.
    Free(Arc<Tables>),
    End,
    #[cfg(test)]
    Settle(Sender<()>),
}

/// The thread, as the event loop has it.
pub(crate) struct Reader {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(source: Source, shelf: Shelf, trim: fn(), inbox: Arc<Inbox>) -> std::io::Result<Reader> {
        let (jobs, todo) = mpsc::channel();
        let thread =
            weir_metering::spawn_thread("weir-policy", move || work(source, &shelf, trim, &todo, &inbox))?;
        Ok(Reader { jobs, thread: Some(thread) })
    }

    /// Where jobs go from another thread.
    pub fn jobs(&self) -> Sender<Job> {
        self.jobs.clone()
    }

    pub fn give(&self, job: Job) {
        // An error is a thread that ended, which only closing makes it do.
        let _ = self.jobs.send(job);
    }

    /// Waits until all that was given is done.
    #[cfg(test)]
    pub fn settle(&self) {
        let (done, wait) = mpsc::channel();
        self.give(Job::Settle(done));
        wait.recv().unwrap();
    }
}

/// The thread must have ended before the module's code is unloaded.
impl Drop for Reader {
    fn drop(&mut self) {
        self.give(Job::End);
        if let Some(thread) = self.thread.take() {
            // An error is a panic, of which the hook has told.
            let _ = thread.join();
        }
    }
}

fn work(source: Source, shelf: &Shelf, trim: fn(), todo: &Receiver<Job>, inbox: &Inbox) {
    // On Linux it is the thread that this makes nicer: where all processors are busy, requests come first.
    // An error costs just that.
    let _ = setpriority_process(None, NICE);
    let mut file = match source {
        Source::File(file) => Some(file),
        Source::Published { .. } => None,
    };
    for job in todo.iter().take_while(|job| !matches!(job, Job::End)) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            work_on(job, file.as_mut(), shelf, |arrival| {
                let is_large = arrival.tables().is_some_and(|tables| tables.size() > LARGE);
                inbox.put(arrival);
                if is_large {
                    trim();
                }
            })
        }));
        if done.is_err() {
            inbox.put(Arrival::Unusable { why: "a bug, see the line above".into() });
        }
    }
}

fn work_on(job: Job, file: Option<&mut PolicyFile>, shelf: &Shelf, tell: impl Fn(Arrival)) {
    match job {
        Job::Look => file.map(|file| look(file, shelf)).into_iter().for_each(tell),
        Job::News(news) => {
            let kept = match &news {
                News::Policy { release, parcel } => Some((release.clone(), parcel.clone())),
                _ => None,
            };
            let arrival = arrival(news, shelf);
            let is_good = matches!(arrival, Some(Arrival::Policy { .. }));
            arrival.into_iter().for_each(&tell);
            // It is in force before it is on disk.
            let trouble =
                kept.filter(|_| is_good).and_then(|(release, parcel)| keep(&release, &parcel, shelf));
            trouble.into_iter().for_each(tell);
        }
        Job::Free(book) => drop(book),
        Job::End => {}
        #[cfg(test)]
        Job::Settle(done) => drop(done.send(())),
    }
}

fn look(file: &mut PolicyFile, shelf: &Shelf) -> Arrival {
    let look = file.look(shelf);
    match look {
        Look::Same => Arrival::Same,
        look => Arrival::Seen { path: file.path().display().to_string(), look },
    }
}
