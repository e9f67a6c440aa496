//! The rules that can be broken on purpose, what each does, and the search for a seed that shows it.

use weir_limiter::trial::Mutant;

use crate::judge::Failure;
use crate::scene::Scene;
use crate::world::run_broken;

/// Each mutant and what it does.
pub const ALL: [(Mutant, &str); 30] = [
    (
        Mutant::TrimmedEarly,
        "fields are dropped a tenth of a window too early, as by an upper bound of the clock",
    ),
    (Mutant::StampsRoundedDown, "stamps are rounded to earlier"),
    (Mutant::StampAtStart, "a use is stamped at the beginning of its millisecond"),
    (Mutant::ShortTtl, "keys expire a window after the last transaction"),
    (Mutant::LivesIgnored, "leases and published uses of a former server life count on"),
    (Mutant::FlushIgnored, "a server that forgot without a restart is not noticed"),
    (Mutant::ShareIgnored, "in a new life a gateway leases more than its share"),
    (Mutant::OverdraftFromLease, "units used beyond a lease are subtracted from leases"),
    (Mutant::LeaseByLowerBound, "leases end by the lower bound of the clock"),
    (Mutant::LeaseAfterEnd, "leases are used after their end"),
    (Mutant::LostRepeated, "the link repeats a transaction whose answer was lost"),
    (Mutant::OwnGrantUncounted, "the window sum is compared without what is being acquired"),
    (
        Mutant::FormerLifeCredited,
        "late answers are credited although the life changed, and the rule of the share, which would hide it, is missing too",
    ),
    (Mutant::NoRecall, "leases survive a lowered limit"),
    (Mutant::OutdatedCredited, "what was acquired for a higher limit is credited after it was lowered"),
    (Mutant::MergedToEarlier, "a full ring merges to the earlier stamp"),
    (Mutant::TornMerger, "a full ring empties a slot before its units are in the next one"),
    (Mutant::ReturnedTwice, "what an ended lease has left is returned again and again"),
    (Mutant::UsedBeyondLease, "one leased unit suffices for a request of any cost"),
    (Mutant::LockStolen, "the lock of a living worker is taken over"),
    (Mutant::PartialCharge, "a refused request uses up leases of its other limits"),
    (Mutant::OneLimitForAll, "only the first limit of a request is charged"),
    (Mutant::GrantKept, "what was not granted is not handed back"),
    (Mutant::IdleUnbounded, "a gateway leases ahead of need as much as its rate asks for"),
    (Mutant::CoarseStamps, "stamps are rounded up to an eighth of the window"),
    (Mutant::RetryEarly, "clients are told half the time that it takes"),
    (Mutant::RetryLate, "clients are sent away for a window more than it takes"),
    (Mutant::LostNotTold, "a worker goes on waiting for an answer that was lost"),
    (Mutant::OverdraftForgotten, "bytes that a lost transaction was to publish are forgotten"),
    (Mutant::CrowdedOut, "a cell with bytes that nobody else knows of makes room like any other"),
];

/// The first seed from 0 on that shows a mutant, of `most`, and what it shows.
pub fn find(mutant: Mutant, most: u64) -> Option<(u64, Failure)> {
    (0..most).find_map(|seed| {
        let scene = Scene::of_seed(seed);
        let failure = run_broken(&scene, Some(mutant), false).failure?;
        // What it shows must not be due to the other rule that had to be broken with it.
        let hidden_by = (mutant == Mutant::FormerLifeCredited).then_some(Mutant::ShareIgnored);
        let shown = hidden_by.is_none_or(|other| run_broken(&scene, Some(other), false).failure.is_none());
        shown.then_some((seed, failure))
    })
}
