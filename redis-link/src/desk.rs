//! Publishing: for commands that are run by people, not for gateways.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::timeout;

use crate::dial::{Dialled, Role, dial};
use crate::error::LinkError;
use crate::exchange::{Failure, begin, integer, run, send, time_ms};
use crate::options::{LinkOptions, Plan};
use crate::place::Place;
use crate::published::{self, Brake, CHUNK, Head, ImageSize, Keys, Release};
use crate::slots::slot_of;
use crate::{look, sentinel};

/// The texts of so many releases are kept; of older ones only who, when and why.
const TEXTS_KEPT: u64 = 20;
/// A text or an image that nothing refers to goes after so long: a gateway may be reading it.
const UNUSED_MS: u64 = 24 * 3_600 * 1_000;
/// No command waits longer for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing was read or published.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    #[error(transparent)]
    Options(#[from] LinkError),
    #[error("Redis: {0}")]
    Redis(Arc<str>),
    /// Somebody else has published in the meantime; here is what is in force.
    #[error("{0} is in force by now, and was not seen")]
    Overtaken(Release),
    #[error(
        "release {number} of the policy is in force, and lost in Redis; delete the key {head} there, then \
         publish the policy again with `weir apply`"
    )]
    Missing { number: u64, head: String },
    #[error("the text of release {0} is lost, or no longer kept, in Redis")]
    NoText(u64),
    #[error("the compiled form of release {0} is lost in Redis")]
    NoImage(u64),
}

impl From<Failure> for DeskError {
    fn from(failure: Failure) -> DeskError {
        DeskError::Redis(failure.why().clone())
    }
}

/// What is to be published.
pub struct Draft<'a> {
    pub version: u64,
    pub schema: u32,
    pub text: &'a [u8],
    /// What was compiled from the text, and its format; none leaves the compiling to the gateways.
    pub image: Option<(u32, &'a [u8])>,
    pub by: &'a str,
    pub reason: &'a str,
}

/// A connection to the server that keeps the published policy.
pub struct Desk {
    dialled: Dialled,
    keys: Keys,
}

impl Desk {
    /// Connects.
    pub async fn open(options: LinkOptions) -> Result<Desk, DeskError> {
        let plan = Plan::new(options)?;
        let keys = Keys::new(&plan.options.prefix);
        let dialled = timeout(PATIENCE, connect(&plan, &keys.head()))
            .await
            .unwrap_or_else(|_| Err("no answer within 10 s".into()))
            .map_err(DeskError::Redis)?;
        Ok(Desk { dialled, keys })
    }

    /// The release in force, if anything was ever published.
    pub async fn head(&self) -> Result<Option<Release>, DeskError> {
        let mut question = begin();
        question.cmd("GET").arg(self.keys.head());
        match published::head(self.run(question).await?.pop())?.number {
            0 => Ok(None),
            number => {
                let missing = || DeskError::Missing { number, head: self.keys.head() };
                self.release(number).await?.map(Some).ok_or_else(missing)
            }
        }
    }

    pub async fn release(&self, number: u64) -> Result<Option<Release>, DeskError> {
        let mut question = begin();
        question.cmd("HGETALL").arg(self.keys.release(number));
        Ok(published::release(number, self.run(question).await?.pop())?)
    }

    /// The newest releases, newest first, at most so many.
    pub async fn history(&self, most: u64) -> Result<Vec<Release>, DeskError> {
        let Some(head) = self.head().await? else {
            return Ok(Vec::new());
        };
        let mut releases = Vec::new();
        for number in (1..head.number).rev().take(most.saturating_sub(1) as usize) {
            releases.extend(self.release(number).await?);
        }
        releases.insert(0, head);
        Ok(releases)
    }

    /// What was published as this release.
    pub async fn text(&self, release: &Release) -> Result<Vec<u8>, DeskError> {
        let text = self.get(&self.keys.text(release.version), release.bytes).await?;
        text.ok_or(DeskError::NoText(release.number))
    }

    /// What was compiled from it, with its format; none where nothing was published but the text.
    pub async fn image(&self, release: &Release) -> Result<Option<(u32, Vec<u8>)>, DeskError> {
        let Some(ImageSize { format, bytes }) = release.image else {
            return Ok(None);
        };
        let image = self.get(&self.keys.image(release.version, format), bytes).await?;
        image.map(|image| Some((format, image))).ok_or(DeskError::NoImage(release.number))
    }

    /// What lies under a name in so many bytes, if it does.
    async fn get(&self, key: &str, len: usize) -> Result<Option<Vec<u8>>, DeskError> {
        let mut bytes = Vec::new();
        for chunk in 0..len.div_ceil(CHUNK) {
            let mut question = begin();
            question.cmd("HGET").arg(key).arg(chunk);
            match self.run(question).await?.pop() {
                Some(Value::BulkString(more)) => bytes.extend_from_slice(&more),
                _ => return Ok(None),
            }
        }
        Ok(Some(bytes).filter(|bytes| bytes.len() == len))
    }

    /// Publishes, unless something else than `seen` (none: nothing) is in force: all or nothing, and
    /// nobody else's release is ever replaced unseen.
    pub async fn publish(&self, seen: Option<&Release>, draft: &Draft<'_>) -> Result<Release, DeskError> {
        let (replaced, seen) = (seen, seen.map_or(Head::default(), Release::head));
        self.put(&self.keys.text(draft.version), draft.text).await?;
        if let Some((format, image)) = draft.image {
            self.put(&self.keys.image(draft.version, format), image).await?;
        }
        let mut watch = redis::pipe();
        watch.cmd("WATCH").arg(self.keys.head()).cmd("GET").arg(self.keys.head()).cmd("TIME");
        let mut replies = self.send(watch).await?;
        let at_ms = time_ms(replies.pop())?;
        if published::head(replies.pop())? != seen {
            return Err(self.overtaken().await);
        }
        let release = Release {
            number: seen.number + 1,
            version: draft.version,
            schema: draft.schema,
            bytes: draft.text.len(),
            by: published::one_line(draft.by),
            reason: published::one_line(draft.reason),
            at_ms,
            image: draft.image.map(|(format, bytes)| ImageSize { format, bytes: bytes.len() }),
        };
        let mut no_longer: Vec<String> = Vec::new();
        no_longer
            .extend(self.no_longer_kept(release.number, draft.version).await?.map(|v| self.keys.text(v)));
        let image = replaced.and_then(|old| Some(self.keys.image(old.version, old.image?.format)));
        no_longer.extend(image.filter(|key| self.image_of(&release).as_ref() != Some(key)));
        match self.commit(&release, &no_longer).await? {
            true => Ok(release),
            false => Err(self.overtaken().await),
        }
    }

    /// Whether it was carried out: not when `head` has changed since it was watched.
    async fn commit(&self, release: &Release, no_longer: &[String]) -> Result<bool, DeskError> {
        let mut commands = redis::pipe();
        commands.cmd("MULTI");
        commands.cmd("SET").arg(self.keys.head()).arg(release.head().text());
        let hset = commands.cmd("HSET").arg(self.keys.release(release.number));
        for (field, value) in published::fields(release) {
            hset.arg(field).arg(value);
        }
        for key in [self.keys.text(release.version)].into_iter().chain(self.image_of(release)) {
            commands.cmd("PERSIST").arg(key);
        }
        for key in no_longer {
            commands.cmd("PEXPIRE").arg(key).arg(UNUSED_MS);
        }
        commands.cmd("EXEC");
        match self.send(commands).await?.pop() {
            Some(Value::Nil) => Ok(false),
            Some(Value::Array(_)) => Ok(true),
            _ => Err(DeskError::Redis("EXEC gave something else than replies".into())),
        }
    }

    fn image_of(&self, release: &Release) -> Option<String> {
        Some(self.keys.image(release.version, release.image?.format))
    }

    /// Puts a text or an image under its own name, also where something else lies there by now. Until a
    /// release refers to it, it goes by itself.
    async fn put(&self, key: &str, bytes: &[u8]) -> Result<(), DeskError> {
        let mut look = begin();
        look.cmd("PTTL").arg(key);
        // -1: it is there for good. One that is about to go may not be complete.
        let stays = integer(self.run(look).await?.pop())? == -1;
        if stays && self.get(key, bytes.len()).await.is_ok_and(|there| there.as_deref() == Some(bytes)) {
            return Ok(());
        }
        for (at, chunk) in bytes.chunks(CHUNK).enumerate() {
            let mut put = begin();
            if at == 0 {
                put.cmd("DEL").arg(key);
            }
            put.cmd("HSET").arg(key).arg(at).arg(chunk);
            put.cmd("PEXPIRE").arg(key).arg(UNUSED_MS);
            self.run(put).await?;
        }
        Ok(())
    }

    /// The version whose text is not among the last any more once release `number` is there.
    async fn no_longer_kept(&self, number: u64, version: u64) -> Result<Option<u64>, DeskError> {
        let Some(old) = number.checked_sub(TEXTS_KEPT).filter(|old| *old > 0) else {
            return Ok(None);
        };
        let Some(oldest) = self.release(old).await? else {
            return Ok(None);
        };
        let mut kept = vec![version];
        for later in old + 1..number {
            kept.extend(self.release(later).await?.map(|release| release.version));
        }
        Ok(Some(oldest.version).filter(|version| !kept.contains(version)))
    }

    async fn overtaken(&self) -> DeskError {
        match self.head().await {
            Ok(Some(head)) => DeskError::Overtaken(head),
            Ok(None) => DeskError::Redis("what was published has been deleted".into()),
            Err(error) => error,
        }
    }

    /// Whether limits are switched off, why, and for how long.
    pub async fn brake(&self) -> Result<Option<Brake>, DeskError> {
        let mut question = begin();
        question.cmd("GET").arg(self.keys.brake());
        question.cmd("PTTL").arg(self.keys.brake());
        let mut items = self.run(question).await?;
        let left = items.pop();
        Ok(published::brake(items.pop(), left)?)
    }

    /// Switches limits off for a while, or on again.
    pub async fn set_brake(&self, brake: Option<&Brake>) -> Result<(), DeskError> {
        let mut order = begin();
        match brake {
            Some(brake) => {
                order.cmd("SET").arg(self.keys.brake()).arg(brake.text()).arg("PX").arg(brake.left_ms)
            }
            None => order.cmd("DEL").arg(self.keys.brake()),
        };
        self.run(order).await.map(drop)
    }

    /// The replies to what follows TIME in a transaction that [`begin`] began.
    async fn run(&self, commands: Pipeline) -> Result<Vec<Value>, DeskError> {
        let answered = timeout(PATIENCE, run(&self.dialled.line, commands));
        let mut items = answered.await.map_err(|_| too_late())??;
        items.remove(0);
        Ok(items)
    }

    /// The replies to commands as they are; an error among them is one.
    async fn send(&self, commands: Pipeline) -> Result<Vec<Value>, DeskError> {
        let answered = timeout(PATIENCE, send(&self.dialled.line, &commands));
        let replies = answered.await.map_err(|_| too_late())??;
        let error = replies.iter().find_map(|reply| match reply {
            Value::ServerError(error) => Some(crate::exchange::Refusal::new(error, None).why),
            _ => None,
        });
        match error {
            Some(why) => Err(DeskError::Redis(why)),
            None => Ok(replies),
        }
    }
}

fn too_late() -> DeskError {
    DeskError::Redis("no answer within 10 s".into())
}

async fn connect(plan: &Plan, key: &str) -> Result<Dialled, Arc<str>> {
    match plan.place.clone() {
        Place::One(address) => dial(plan, &address, Role::Single, 0).await,
        Place::Sentinel { mut sentinels, master } => {
            let host = sentinel::master(plan, &mut sentinels, &master).await?;
            dial(plan, &plan.address(&host), Role::Master, 0).await
        }
        Place::Cluster { seeds } => {
            let ranges = look::ranges(plan, &seeds).await?;
            let host = look::keeper(&ranges, key)
                .ok_or_else(|| format!("no server of the Cluster keeps slot {}", slot_of(key)))?;
            dial(plan, &plan.address(host), Role::Primary, 0).await
        }
    }
}
