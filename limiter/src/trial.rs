//! For the simulator alone: rules that are broken on purpose, to see that its judges notice, and a
//! look at every store to shared memory, so that a worker can die or be stopped between any two.
//!
//! Without the feature `trial` all of this is nothing: [`AtomicU64`] is std's, and [`broken`] is a
//! constant `false`.

/// A rule of the algorithm that can be broken. What each does is said in the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    TrimmedEarly,
    StampsRoundedDown,
    StampAtStart,
    ShortTtl,
    LivesIgnored,
    FlushIgnored,
    ShareIgnored,
    OverdraftFromLease,
    LeaseByLowerBound,
    LeaseAfterEnd,
    LostRepeated,
    OwnGrantUncounted,
    FormerLifeCredited,
    NoRecall,
    OutdatedCredited,
    MergedToEarlier,
    TornMerger,
    ReturnedTwice,
    UsedBeyondLease,
    LockStolen,
    PartialCharge,
    OneLimitForAll,
    GrantKept,
    IdleUnbounded,
    CoarseStamps,
    RetryEarly,
    RetryLate,
    LostNotTold,
    OverdraftForgotten,
    CrowdedOut,
}

#[cfg(not(feature = "trial"))]
mod switches {
    pub(crate) use std::sync::atomic::AtomicU64;

    use super::Mutant;

    pub(crate) const fn broken(_: Mutant) -> bool {
        false
    }

    pub(crate) const fn died() -> bool {
        false
    }
}

#[cfg(feature = "trial")]
mod switches {
    use std::cell::{Cell, RefCell};
    use std::sync::atomic::{AtomicU64 as Word, Ordering};

    use super::Mutant;

    type Hook = Box<dyn FnMut()>;

    // By thread, so that tests that run side by side do not share them.
    thread_local! {
        static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
        static WATCHED: Cell<bool> = const { Cell::new(false) };
        static DIED: Cell<bool> = const { Cell::new(false) };
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Breaks one rule, or none, for what this thread does from now on.
    pub fn break_rule(mutant: Option<Mutant>) {
        BROKEN.set(mutant);
    }

    /// Whether a rule is broken.
    pub fn broken(mutant: Mutant) -> bool {
        BROKEN.get() == Some(mutant)
    }

    /// Calls `hook` before each store to shared memory by this thread; it may call [`die`].
    pub fn watch_stores(hook: Option<Hook>) {
        WATCHED.set(hook.is_some());
        HOOK.replace(hook);
        DIED.set(false);
    }

    /// Ends the operation under way as if the process had been killed: locks stay as they are. To be
    /// caught by `catch_unwind`; [`watch_stores`] brings the thread back to life.
    pub fn die() -> ! {
        WATCHED.set(false);
        DIED.set(true);
        std::panic::resume_unwind(Box::new("killed"))
    }

    /// Whether the process that this thread plays is dead.
    pub fn died() -> bool {
        DIED.get()
    }

    fn about_to_store() {
        if WATCHED.get() {
            HOOK.with_borrow_mut(|hook| hook.iter_mut().for_each(|hook| hook()));
        }
    }

    /// A word of shared memory whose stores can be watched.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct AtomicU64(Word);

    impl AtomicU64 {
        pub fn new(value: u64) -> AtomicU64 {
            AtomicU64(Word::new(value))
        }

        pub fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        pub fn store(&self, value: u64, order: Ordering) {
            about_to_store();
            self.0.store(value, order);
        }

        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            about_to_store();
            self.0.fetch_add(value, order)
        }

        /// As std's.
        ///
        /// # Errors
        /// The value that was found instead of `current`.
        pub fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            about_to_store();
            self.0.compare_exchange(current, new, success, failure)
        }
    }
}

#[cfg(feature = "trial")]
pub use switches::*;
#[cfg(not(feature = "trial"))]
pub(crate) use switches::{AtomicU64, broken, died};
