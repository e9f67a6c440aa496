//! The policy as it is published, and whether it is enforced.

use std::fmt;

use weir_redis_link::{Brake, Desk, Release};

use super::Report;
use crate::clock;
use crate::config::Config;
use crate::installation::CommandError;
use crate::published::{Flaws, time, told};

/// The policy that the gateways should have in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub version: u64,
    pub source: Source,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    File,
    Published,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::File => "the file here",
            Source::Published => "the published one",
        })
    }
}

/// `file` is the version of the file here, `answers` whether Redis does.
pub async fn examine(
    config: &Config,
    file: Option<u64>,
    answers: bool,
    report: &mut Report,
) -> Option<Wanted> {
    let here = file.map(|version| Wanted { version, source: Source::File });
    let Some(redis) = config.redis.as_ref().filter(|_| answers) else {
        return here;
    };
    let asked = async {
        let desk = Desk::open(redis.options()).await?;
        brake(desk.brake().await?, report);
        let Some(head) = desk.head().await? else {
            return Ok(None);
        };
        let flaws = Flaws::of(&desk, &head).await?;
        Ok::<_, CommandError>(Some((head, flaws)))
    };
    match asked.await {
        Ok(Some((head, flaws))) => {
            published(&head, flaws, report);
            differs(&head, file, report);
            Some(Wanted { version: head.version, source: Source::Published })
        }
        Ok(None) => {
            if config.policy.file.is_none() {
                let remedy = "set [policy] file, or publish one with `weir apply POLICY`";
                report.note("policy", "weir.toml names no policy, and none is published", remedy);
            }
            here
        }
        Err(error) => {
            report.wrong("published", error.to_string(), "see docs/publishing.md for what access it needs");
            here
        }
    }
}

fn brake(brake: Option<Brake>, report: &mut Report) {
    if let Some(Brake { by, reason, left_ms }) = brake {
        let until = time(clock::now_ms().saturating_add(left_ms));
        let found = format!("limits are not enforced until {until}, switched off by {by}: {reason}");
        report.note("brake", found, "`weir enforce on` ends it");
    }
}

fn published(head: &Release, flaws: Flaws, report: &mut Report) {
    let told = told(head);
    if let Flaws { text: None, image: None } = flaws {
        return report.ok("published", told);
    }
    if let Some(why) = flaws.text {
        let remedy = "publish it again with `weir apply`; the gateways keep the last good one meanwhile";
        report.wrong("published", format!("{told}: {why}"), remedy);
    }
    if let Some(why) = flaws.image {
        let remedy = "publish it again with `weir apply`; each gateway compiles the text meanwhile";
        report.note("published", format!("{told}: {why}"), remedy);
    }
}

fn differs(head: &Release, file: Option<u64>, report: &mut Report) {
    if file.is_some_and(|version| version != head.version) {
        let found = "the file here is not what is published";
        report.note("policy", found, "`weir apply --show` says what differs");
    }
}
