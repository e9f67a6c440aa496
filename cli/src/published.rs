//! What the commands about the published policy share: the way there, who, when, and how it is told.

use std::path::Path;

use serde_json::{Value, json};
use weir_policy::{Book, IMAGE_FORMAT, Policy, SCHEMA, Tables, difference, parse_bytes, version_of};
use weir_redis_link::{Desk, DeskError, Draft, Release};

use crate::clock;
use crate::config::{Config, ConfigError};
use crate::installation::CommandError;
use crate::step::counted;

/// Changes that are listed one by one.
const LISTED: usize = 200;

/// Who publishes, and why.
#[derive(clap::Args, Debug)]
pub struct Signature {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Who, for the history [default: this user at this machine]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

impl Signature {
    pub fn by(&self) -> String {
        self.by.clone().unwrap_or_else(clock::who)
    }
}

/// Connects to where policies are published.
pub async fn open(config: &Config, path: &Path) -> Result<Desk, CommandError> {
    let redis = config.redis.as_ref().ok_or_else(|| ConfigError::Absent {
        path: path.to_owned(),
        section: "[redis] url",
        remedy: "set it to the Redis that the gateways use, such as redis://host:6379",
    })?;
    Ok(Desk::open(redis.options()).await?)
}

/// What is published, if anything is and the installation has a Redis.
pub async fn book(config: &Config) -> Result<Option<Book>, CommandError> {
    let Some(redis) = &config.redis else { return Ok(None) };
    let desk = Desk::open(redis.options()).await?;
    let Some(head) = desk.head().await? else { return Ok(None) };
    let text = desk.text(&head).await?;
    Ok(Some(Book::compile(Checked::new(&text, Path::new("the published policy"))?.policy)))
}

/// A text that was found right.
pub struct Checked {
    pub text: String,
    pub policy: Policy,
}

impl Checked {
    /// `path` stands in the message: nothing that does not parse is ever published.
    pub fn new(bytes: &[u8], path: &Path) -> Result<Checked, CommandError> {
        let policy = parse_bytes(bytes)
            .map_err(|problems| CommandError::Policy { path: path.to_owned(), problems })?;
        // What was parsed is UTF-8.
        Ok(Checked { text: String::from_utf8_lossy(bytes).into_owned(), policy })
    }

    pub async fn publish(
        &self,
        desk: &Desk,
        seen: Option<&Release>,
        sign: &Signature,
    ) -> Result<Release, DeskError> {
        let image = Tables::image(&self.policy);
        let draft = Draft {
            image: Some((IMAGE_FORMAT, &image)),
            version: self.policy.version,
            schema: SCHEMA,
            text: self.text.as_bytes(),
            by: &sign.by(),
            reason: &sign.reason,
        };
        desk.publish(seen, &draft).await
    }
}

/// What is wrong with a release as it lies in Redis: it may have lost parts, or hold something else.
pub struct Flaws {
    pub text: Option<String>,
    pub image: Option<String>,
}

impl Flaws {
    pub async fn of(desk: &Desk, release: &Release) -> Result<Flaws, CommandError> {
        let text = match desk.text(release).await {
            Ok(text) if version_of(&text) != release.version => {
                Some(format!("its text in Redis is another one, of version {:016x}", version_of(&text)))
            }
            Ok(text) => {
                let name = format!("release {}", release.number);
                Checked::new(&text, name.as_ref()).err().map(|error| error.to_string())
            }
            Err(error @ DeskError::NoText(_)) => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let image = match desk.image(release).await {
            Ok(Some((IMAGE_FORMAT, image))) => match Tables::open(Box::new(image)) {
                Ok(tables) if tables.version() == release.version => None,
                Ok(_) => Some("its compiled form in Redis is that of another policy".to_owned()),
                Err(error) => Some(format!("its compiled form in Redis is of no use: {error}")),
            },
            // Of another weir, which knows what is right.
            Ok(_) => None,
            Err(error @ DeskError::NoImage(_)) => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        Ok(Flaws { text, image })
    }

    pub fn first(self) -> Option<String> {
        self.text.or(self.image)
    }
}

/// Prints what a new policy changes of the one in force.
pub async fn show_changes(desk: &Desk, head: Option<&Release>, new: &Checked) -> Result<(), CommandError> {
    let Some(head) = head else {
        let Policy { tiers, clients, .. } = &new.policy;
        let [tiers, clients] = [(tiers.len(), "tier"), (clients.len(), "client")]
            .map(|(count, word)| counted(count as u64, word));
        println!("nothing was published before; {tiers}, {clients}");
        return Ok(());
    };
    let old = match desk.text(head).await {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error @ DeskError::NoText(_)) => {
            println!("what changes is not known: {error}; {} is replaced", told(head));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let lines = difference(&old, &new.text, &new.policy);
    println!("changes to {}:", told(head));
    lines.iter().take(LISTED).for_each(|line| println!("  {line}"));
    match lines.len() {
        0 => println!("  only comments, order or spelling"),
        more if more > LISTED => println!("  and {} more changes", more - LISTED),
        _ => {}
    }
    Ok(())
}

/// Release, version, who, when and why, in one line.
pub fn told(release: &Release) -> String {
    let Release { number, version, by, reason, at_ms, .. } = release;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("release {number} (version {version:016x}), published {} by {by}{why}", time(*at_ms))
}

pub fn time(at_ms: u64) -> String {
    let second = i64::try_from(at_ms / 1_000).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    second.map_or_else(|| "at no time".to_owned(), |time| time.to_string())
}

pub fn as_json(release: &Release) -> Value {
    json!({
        "release": release.number,
        "version": format!("{:016x}", release.version),
        "published": time(release.at_ms),
        "by": release.by,
        "reason": release.reason,
        "bytes": release.bytes,
    })
}
