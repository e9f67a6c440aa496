//! What is published comes into force here, and limits are switched off and on.

use super::*;
use crate::published::Arrival;
use weir_redis_link::{Brake, Release};

/// Two readings of the time that a brake ends differ by less.
const SAME_MS: u64 = 2_000;

impl Gateway {
    pub(super) fn take_news(&mut self) {
        for arrival in self.inbox.take() {
            match arrival {
                Arrival::Policy { release, book, unkept } => self.put_in_force(&release, book, unkept),
                Arrival::InForce { release } if release.version == self.book.version() => {
                    self.say(Level::Notice, format!("the policy in force is {release}"));
                }
                Arrival::InForce { .. } => {}
                Arrival::Unusable { why } => {
                    self.counters.add(Count::PolicyProblems, 1);
                    let version = Version(self.book.version());
                    self.say(Level::Error, format!("{why}\npolicy {version} stays in force"));
                }
                Arrival::Off { brake, until_ms } => self.switch_off(brake, until_ms),
                Arrival::On => self.switch_on(),
                Arrival::Trouble { why } => {
                    self.say(Level::Warn, format!("it is not known what is published: {why}"));
                }
            }
        }
    }

    fn put_in_force(&mut self, release: &Release, book: Arc<Book>, unkept: Option<String>) {
        self.book = book;
        self.profiles.clear();
        self.say(Level::Notice, format!("the policy in force is {release}"));
        if let Some(why) = unkept {
            self.say(Level::Warn, why);
        }
    }

    fn switch_off(&mut self, brake: Brake, until_ms: u64) {
        let is_same = |(known, until): &(Brake, u64)| {
            (&known.by, &known.reason) == (&brake.by, &brake.reason) && until.abs_diff(until_ms) < SAME_MS
        };
        if self.off.as_ref().is_some_and(is_same) {
            return;
        }
        let Brake { by, reason, left_ms } = &brake;
        let text = format!(
            "limits are not enforced for {} s, nobody is refused: switched off by {by}: {reason}",
            left_ms / 1_000
        );
        self.off = Some((brake, until_ms));
        self.say(Level::Warn, text);
    }

    fn switch_on(&mut self) {
        if self.off.take().is_some() {
            self.say(Level::Notice, "limits are enforced again".into());
        }
    }

    /// It ends by itself, also when Redis is away.
    pub(super) fn end_brake(&mut self, now_ms: u64) {
        if !self.is_off(now_ms) {
            self.switch_on();
        }
    }

    /// Whether limits are decided and told, but not enforced.
    pub(super) fn is_off(&self, now_ms: u64) -> bool {
        self.off.as_ref().is_some_and(|(_, until_ms)| now_ms < *until_ms)
    }
}
