//! Parts into minutes.

use futures::StreamExt;

use super::{RACES, REQUESTS_AT_ONCE, RollupError, Run, Try, is_listed, note_of};
use crate::bundle::add_part;
use crate::calendar::Partition;
use crate::generation::{self, Generation, Note};
use crate::merge::Merge;
use crate::part::{self, PartError};
use crate::store::{Created, Object};
use crate::view::Grain;

impl Run<'_> {
    /// Makes a new generation of an hour's minutes with the parts that the newest does not list.
    pub(super) async fn fold_hour(&mut self, hour: Partition, parts: &[Object]) -> Result<(), RollupError> {
        let folded = self.fold_until_done(hour, parts).await;
        self.settle(hour, folded)
    }

    async fn fold_until_done(&mut self, hour: Partition, parts: &[Object]) -> Result<(), RollupError> {
        for _ in 0..RACES {
            let newest = generation::newest(self.store, hour).await?;
            let folded = self.fold_once(hour, newest.as_ref(), parts).await;
            if Try::of(folded)? == Try::Done {
                return Ok(());
            }
        }
        Err(RollupError::Races { partition: hour.folder() })
    }

    async fn fold_once(
        &mut self,
        hour: Partition,
        newest: Option<&Generation>,
        parts: &[Object],
    ) -> Result<Created, RollupError> {
        let mut note = note_of(self.store, newest).await?;
        let unlisted: Vec<&Object> = parts.iter().filter(|p| !is_listed(&note, p)).collect();
        if unlisted.is_empty() {
            return Ok(Created::New);
        }
        let mut merge = Merge::new(Grain::Minute);
        match newest {
            Some(generation) if self.is_apart(hour, &note).await? => {
                self.absorb(hour, generation.number).await?;
                note.moved = note.streams.count();
            }
            Some(generation) => {
                let (file, _) = generation.file(self.store).await?;
                merge.file(file, &generation.object.path, Vec::new());
            }
            None => {}
        }
        let folded = self.add_parts(hour, &unlisted, &mut merge, &mut note).await?;
        if folded == 0 {
            return Ok(Created::New);
        }
        let created = self.create(hour, newest, merge.finish(&note)?, &note).await?;
        self.done.parts += if created == Created::New { folded } else { 0 };
        Ok(created)
    }

    /// Reads parts; one that can't be read is told and left in the queue. Returns how many were read.
    async fn add_parts(
        &mut self,
        hour: Partition,
        parts: &[&Object],
        merge: &mut Merge,
        note: &mut Note,
    ) -> Result<u64, RollupError> {
        let store = self.store;
        let reads = parts.iter().map(|object| part::read_queued(store, &object.path));
        let mut reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
        let mut read = 0;
        while let Some(part) = reads.next().await {
            match part {
                Ok((table, part)) => {
                    merge.table(table)?;
                    add_part(note, &part);
                    read += 1;
                }
                Err(e @ PartError::File(_)) if !e.is_of_store() => {
                    self.done.failed.push(e.to_string());
                    self.broken.insert(hour);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(read)
    }
}
