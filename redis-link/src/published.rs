//! The published policy as it lies in Redis, for those who publish it and those who follow it.
//!
//! All keys share a hash tag, and so a server, and a tag that no client's counters have:
//! - `PREFIX:{*policy}:head`: number and version of the release in force, with a blank between. Numbers
//!   count from 1; a server that has lost its data may come to the same number again.
//! - `PREFIX:{*policy}:release:N`: who published which version when and why. Never changed.
//! - `PREFIX:{*policy}:text:VERSION`: the text in chunks, under a name that follows from it. Never
//!   changed.
//! - `PREFIX:{*policy}:image:VERSION.FORMAT`: what the publisher compiled from the text, in chunks, for
//!   gateways that know this format: it spares them the compiling. The one of the release in force alone.
//! - `PREFIX:{*policy}:brake`: while it is there, limits are not enforced. It expires by itself.

use std::fmt;

use redis::Value;

use crate::exchange::Failure;

/// Bytes of one field of a text: a gateway fetches one at a time, so that its leases, which go over
/// the same connection, do not wait for the whole.
pub const CHUNK: usize = 128 << 10;

/// One publication of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// 1 for the first; the one in force has the highest.
    pub number: u64,
    /// The version of the text.
    pub version: u64,
    /// What a gateway has to know to read it.
    pub schema: u32,
    /// The length of the text.
    pub bytes: usize,
    pub by: String,
    pub reason: String,
    /// By the server's clock, milliseconds since 1970.
    pub at_ms: u64,
    /// The compiled form that was published with it.
    pub image: Option<ImageSize>,
}

/// A compiled form, as its publisher describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    pub format: u32,
    pub bytes: usize,
}

/// `release 7 (00c0ffee00c0ffee, by bob@desk: more for acme)`: without the time, which whoever shows it
/// writes as is usual there.
impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.reason.is_empty() { "" } else { ": " };
        let Release { number, version, by, reason, .. } = self;
        write!(f, "release {number} ({version:016x}, by {by}{colon}{reason})")
    }
}

/// Why limits are not enforced for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    pub by: String,
    pub reason: String,
    /// How long it still holds.
    pub left_ms: u64,
}

impl Brake {
    /// As it is stored.
    pub fn text(&self) -> String {
        format!("{}\n{}", one_line(&self.by), one_line(&self.reason))
    }

    pub fn read(text: &str, left_ms: u64) -> Brake {
        let (by, reason) = text.split_once('\n').unwrap_or(("", text));
        Brake { by: one_line(by), reason: one_line(reason), left_ms }
    }
}

/// The names of the keys.
#[derive(Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(prefix: &str) -> Keys {
        Keys { prefix: format!("{prefix}:{{*policy}}") }
    }

    pub fn head(&self) -> String {
        format!("{}:head", self.prefix)
    }

    pub fn brake(&self) -> String {
        format!("{}:brake", self.prefix)
    }

    pub fn release(&self, number: u64) -> String {
        format!("{}:release:{number}", self.prefix)
    }

    pub fn text(&self, version: u64) -> String {
        format!("{}:text:{version:016x}", self.prefix)
    }

    pub fn image(&self, version: u64, format: u32) -> String {
        format!("{}:image:{version:016x}.{format}", self.prefix)
    }
}

/// What somebody wrote, fit for one line of a log.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(300).map(plain).collect::<String>().trim().to_owned()
}

/// Reads HGETALL of a release; none where there is no such key.
pub fn release(number: u64, reply: Option<Value>) -> Result<Option<Release>, Failure> {
    let Some(Value::Array(flat)) = reply else {
        return Err(Failure::broken("HGETALL gave something else than fields"));
    };
    if flat.is_empty() {
        return Ok(None);
    }
    let field = |name: &str| flat.chunks_exact(2).find(|pair| pair[0] == text_value(name)).map(|p| &p[1]);
    let of = |name: &str| field(name).and_then(plain).map(one_line);
    let read = || {
        Some(Release {
            number,
            version: u64::from_str_radix(&of("version")?, 16).ok()?,
            schema: of("schema")?.parse().ok()?,
            bytes: of("bytes")?.parse().ok()?,
            by: of("by")?,
            reason: of("reason")?,
            at_ms: of("at_ms")?.parse().ok()?,
            image: of("image").and_then(image_size),
        })
    };
    let unreadable = || Failure::Spoilt(format!("release {number} of the policy can't be read").into());
    read().map(Some).ok_or_else(unreadable)
}

/// `2 14286638`; anything else is as good as none.
fn image_size(text: String) -> Option<ImageSize> {
    let (format, bytes) = text.split_once(' ')?;
    Some(ImageSize { format: format.parse().ok()?, bytes: bytes.parse().ok()? })
}

/// The fields that [`release`] reads, for HSET.
pub fn fields(release: &Release) -> Vec<(&'static str, String)> {
    let image = release.image.map(|image| ("image", format!("{} {}", image.format, image.bytes)));
    let always = [
        ("version", format!("{:016x}", release.version)),
        ("schema", release.schema.to_string()),
        ("bytes", release.bytes.to_string()),
        ("by", one_line(&release.by)),
        ("reason", one_line(&release.reason)),
        ("at_ms", release.at_ms.to_string()),
    ];
    always.into_iter().chain(image).collect()
}

fn text_value(text: &str) -> Value {
    Value::BulkString(text.into())
}

/// A bulk string that is text.
pub fn plain(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Which release is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// 0: nothing was published.
    pub number: u64,
    pub version: u64,
}

impl Head {
    /// As it is stored.
    pub fn text(self) -> String {
        format!("{} {:016x}", self.number, self.version)
    }

    fn read(text: &str) -> Option<Head> {
        let (number, version) = text.split_once(' ')?;
        Some(Head { number: number.parse().ok()?, version: u64::from_str_radix(version, 16).ok()? })
    }
}

impl Release {
    pub fn head(&self) -> Head {
        Head { number: self.number, version: self.version }
    }
}

/// What `head` holds.
pub fn head(reply: Option<Value>) -> Result<Head, Failure> {
    match reply {
        Some(Value::Nil) => Ok(Head::default()),
        Some(value) => plain(&value)
            .and_then(Head::read)
            .ok_or_else(|| Failure::Spoilt("it can't be read which policy is in force".into())),
        None => Err(Failure::broken("Redis gave fewer replies than commands")),
    }
}

/// What GET and PTTL say of the brake.
pub fn brake(text: Option<Value>, left: Option<Value>) -> Result<Option<Brake>, Failure> {
    match (text, left) {
        (Some(Value::Nil), _) => Ok(None),
        (Some(text), Some(Value::Int(left_ms))) => {
            // One without an end is none of ours: nothing is switched off for ever.
            let left_ms = u64::try_from(left_ms).unwrap_or(0);
            Ok(plain(&text).filter(|_| left_ms > 0).map(|text| Brake::read(text, left_ms)))
        }
        _ => Err(Failure::broken("GET or PTTL gave something else than a text and a time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Release {
        Release {
            number: 7,
            version: 0xc0ffee,
            schema: 1,
            bytes: 12,
            by: "bob@desk".into(),
            reason: "more for acme".into(),
            at_ms: 1_800_000_000_000,
            image: Some(ImageSize { format: 2, bytes: 34 }),
        }
    }

    #[test]
    fn a_release_reads_back() {
        let flat =
            fields(&sample()).into_iter().flat_map(|(name, value)| [text_value(name), text_value(&value)]);
        let flat: Vec<_> = flat.collect();
        assert_eq!(release(7, Some(Value::Array(flat.clone()))).unwrap(), Some(sample()));
        assert_eq!(release(7, Some(Value::Array(vec![]))).unwrap(), None);
        let without = release(7, Some(Value::Array(flat[..flat.len() - 2].to_vec()))).unwrap();
        assert_eq!(without, Some(Release { image: None, ..sample() }), "as an older weir publishes it");
        for cut in (2..flat.len() - 2).step_by(2) {
            assert!(release(7, Some(Value::Array(flat[..cut].to_vec()))).is_err(), "{cut}");
        }
        assert!(release(7, Some(Value::Okay)).is_err() && release(7, None).is_err());
    }

    #[test]
    fn keys_share_a_tag_that_no_client_has() {
        let keys = Keys::new("weir");
        let all = [keys.head(), keys.brake(), keys.release(3), keys.text(0xab), keys.image(0xab, 2)];
        let slot = crate::slots::slot_of(&all[0]);
        assert!(all.iter().all(|key| key.contains("{*policy}") && crate::slots::slot_of(key) == slot));
        assert_eq!(keys.text(0xab), "weir:{*policy}:text:00000000000000ab");
    }

    #[test]
    fn a_brake_without_an_end_is_none() {
        let text = || Some(text_value("bob\nthe limits of acme are wrong"));
        let read = brake(text(), Some(Value::Int(1_500))).unwrap().unwrap();
        assert_eq!((read.by.as_str(), read.left_ms), ("bob", 1_500));
        assert_eq!(Brake::read(&read.text(), 1_500), read);
        assert_eq!(brake(text(), Some(Value::Int(-1))).unwrap(), None);
        assert_eq!(brake(Some(Value::Nil), Some(Value::Int(-2))).unwrap(), None);
        assert!(brake(text(), None).is_err());
    }

    #[test]
    fn nothing_published_is_number_0() {
        assert_eq!(head(Some(Value::Nil)).unwrap().number, 0);
        assert_eq!(head(Some(text_value(&sample().head().text()))).unwrap(), sample().head());
        assert!(head(Some(text_value("12"))).is_err() && head(Some(Value::Int(1))).is_err());
    }
}
