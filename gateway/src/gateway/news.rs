//! What is published comes into force here, and limits are switched off and on.

use super::*;
use crate::policy_file::Look;
use crate::published::Arrival;
use crate::reader::Job;
use weir_redis_link::{Brake, Release};

/// Two readings of the time that a brake ends differ by less.
const SAME_MS: u64 = 2_000;

impl Gateway {
    pub(super) fn take_news(&mut self) {
        for arrival in self.inbox.take() {
            match arrival {
                Arrival::Same => self.is_looking = false,
                Arrival::Seen { path, look } => {
                    self.is_looking = false;
                    self.take_look(&path, look);
                }
                Arrival::Policy { release, book, troubles } => self.put_in_force(&release, book, troubles),
                Arrival::InForce { release } if release.version == self.book.version() => {
                    self.say(Level::Notice, format!("the policy in force is {release}"));
                }
                Arrival::InForce { .. } => {}
                Arrival::Unusable { why } => {
                    self.is_looking = false;
                    self.counters.add(Count::PolicyProblems, 1);
                    let version = Version(self.book.version());
                    self.say(Level::Error, format!("{why}\npolicy {version} stays in force"));
                }
                Arrival::Off { brake, until_ms } => self.switch_off(brake, until_ms),
                Arrival::On => self.switch_on(),
                Arrival::Unkept { why } => self.say(Level::Warn, why),
                Arrival::Trouble { why } => {
                    self.say(Level::Warn, format!("what is published can't be read: {why}"));
                }
            }
        }
    }

    fn put_in_force(&mut self, release: &Release, book: Arc<Tables>, troubles: Vec<String>) {
        self.swap(book);
        self.say(Level::Notice, format!("the policy in force is {release}"));
        troubles.into_iter().for_each(|why| self.say(Level::Warn, why));
    }

    /// Requests under way keep what they found in the old one. Profiles tell by themselves that they
    /// are out of date.
    fn swap(&mut self, book: Arc<Tables>) {
        let old = std::mem::replace(&mut self.book, book);
        self.reader.give(Job::Free(old));
    }

    /// Asks for a look at the policy file, unless one is under way.
    pub(super) fn look_at_policy(&mut self, now_ms: u64) {
        if now_ms < self.look_ms {
            return;
        }
        self.look_ms = now_ms + LOOK_MS;
        if self.is_file && !self.is_looking {
            self.is_looking = true;
            self.reader.give(Job::Look);
        }
    }

    fn take_look(&mut self, path: &str, look: Look) {
        let version = Version(self.book.version());
        match look {
            Look::Same => {}
            Look::Changing => self.look_ms = self.look_ms.saturating_sub(LOOK_MS - LOOK_AGAIN_MS),
            Look::Unchanged => {
                self.say(Level::Notice, format!("{path} is policy {version}, which is in force"));
            }
            Look::New { tables, troubles } => {
                let new = Version(tables.version());
                self.swap(tables);
                troubles.into_iter().for_each(|why| self.say(Level::Warn, why));
                self.say(Level::Notice, format!("policy {new} of {path} is in force"));
            }
            Look::Broken(error) => {
                self.counters.add(Count::PolicyProblems, 1);
                self.say(Level::Error, format!("{error}\npolicy {version} stays in force"));
            }
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
