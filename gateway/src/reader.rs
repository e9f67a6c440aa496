//! The thread beside a worker's event loop on which policies are read, judged and let go: with 100,000
//! clients each of these takes longer than any request may wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::setpriority_process;
use weir_policy::Tables;
use weir_redis_link::{News, Parcel, Release};

use crate::Source;
use crate::policy_file::{Look, PolicyFile};
use crate::published::{Arrival, Hitch, arrival, judge, keep};
use crate::shelf::Shelf;

/// Compiling a policy of more bytes than this leaves much memory that is free again.
const LARGE: usize = 1 << 20;

/// The thread's priority: on processors that have no time left it still gets a quarter of one, so that a
/// policy of 100,000 clients, half a second's work, does not wait for long.
const NICE: i32 = 5;

/// How often is tried again to put a release in force and to keep it on disk: until then what is lost in
/// Redis may have been published again.
const AGAIN: Duration = Duration::from_secs(5);

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
    let file = match source {
        Source::File(file) => Some(file),
        Source::Published { .. } => None,
    };
    let mut hand = Hand { file, shelf, trim, inbox, task: None };
    loop {
        let next = match hand.task {
            Some(_) => todo.recv_timeout(AGAIN),
            None => todo.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let job = match next {
            Ok(Job::End) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
        };
        let done = catch_unwind(AssertUnwindSafe(|| match job {
            Some(job) => hand.work_on(job),
            None => hand.go_on(),
        }));
        if done.is_err() {
            inbox.put(Arrival::Unusable { why: "a bug, see the line above".into() });
        }
    }
}

/// What the thread works with.
struct Hand<'a> {
    file: Option<PolicyFile>,
    shelf: &'a Shelf,
    trim: fn(),
    inbox: &'a Inbox,
    task: Option<Task>,
}

/// The newest release, until it is in force here and on disk.
struct Task {
    release: Release,
    parcel: Parcel,
    is_in_force: bool,
    /// The last reason why not, which is told once.
    told: String,
}

impl Hand<'_> {
    fn work_on(&mut self, job: Job) {
        match job {
            Job::Look => {
                if let Some(file) = &mut self.file {
                    let arrival = look(file, self.shelf);
                    self.tell(arrival);
                }
            }
            Job::News(News::Policy { release, parcel }) => {
                self.task = Some(Task { release, parcel, is_in_force: false, told: String::new() });
                self.go_on();
            }
            Job::News(news) => {
                let newest = match &news {
                    News::InForce { release } | News::TooNew { release } => Some(release.version),
                    _ => None,
                };
                self.task.take_if(|task| newest.is_some_and(|version| version != task.release.version));
                arrival(news).into_iter().for_each(|arrival| self.tell(arrival));
            }
            Job::Free(book) => drop(book),
            Job::End => {}
            #[cfg(test)]
            Job::Settle(done) => drop(done.send(())),
        }
    }

    /// It is in force before it is on disk. What does not succeed stays to be done, unless it never will.
    fn go_on(&mut self) {
        let Some(mut task) = self.task.take() else { return };
        if !task.is_in_force {
            match judge(&task.release, &task.parcel, self.shelf) {
                Ok(arrival) => self.tell(arrival),
                Err(Hitch::Wrong(why)) => return self.tell(Arrival::Unusable { why }),
                Err(Hitch::Absent) => return self.task = Some(task),
                Err(Hitch::Damaged(why)) => return self.postpone(task, why, |why| Arrival::Unusable { why }),
            }
            task.is_in_force = true;
        }
        if let Some(why) = keep(&task.release, &task.parcel, self.shelf) {
            self.postpone(task, why, |why| Arrival::Unkept { why });
        }
    }

    fn postpone(&mut self, mut task: Task, why: String, arrival: fn(String) -> Arrival) {
        if task.told != why {
            task.told.clone_from(&why);
            self.tell(arrival(why));
        }
        self.task = Some(task);
    }

    fn tell(&self, arrival: Arrival) {
        let is_large = arrival.tables().is_some_and(|tables| tables.size() > LARGE);
        self.inbox.put(arrival);
        if is_large {
            (self.trim)();
        }
    }
}

fn look(file: &mut PolicyFile, shelf: &Shelf) -> Arrival {
    let look = file.look(shelf);
    match look {
        Look::Same => Arrival::Same,
        look => Arrival::Seen { path: file.path().display().to_string(), look },
    }
}
