//! Minutes into hours, hours into days, days into months.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use super::{RACES, REQUESTS_AT_ONCE, RollupError, Run, Try, note_of};
use crate::calendar::Partition;
use crate::generation::{self, Generation, Note};
use crate::merge::Merge;
use crate::store::{Created, Store, StoreError};

impl Run<'_> {
    /// Brings all partitions above the given hours up to date, grain by grain.
    pub(super) async fn derive_all(&mut self, hours: BTreeSet<Partition>) -> Result<(), RollupError> {
        let mut finer = hours;
        while let Some(parents) = by_parent(&finer) {
            for (&parent, children) in &parents {
                let derived = self.derive_until_done(parent, children).await;
                self.settle(parent, derived)?;
            }
            finer = parents.into_keys().collect();
        }
        Ok(())
    }

    /// Whether a partition's next generation has only what is new: retention has removed the rows of
    /// this one, or those of the coarser one, so that it can't be replaced as a whole any more.
    pub(super) async fn is_apart(&self, partition: Partition, note: &Note) -> Result<bool, RollupError> {
        let Some(parent) = partition.parent() else { return Ok(false) };
        if note.moved > 0 {
            return Ok(true);
        }
        let newest = generation::newest(self.store, parent).await?;
        Ok(note_of(self.store, newest.as_ref()).await?.moved > 0)
    }

    /// Sees to it that the coarser grain has the rows of a generation, before the next one leaves them
    /// out.
    pub(super) async fn absorb(&mut self, partition: Partition, number: u64) -> Result<(), RollupError> {
        let Some(parent) = partition.parent() else { return Ok(()) };
        Box::pin(self.derive_until_done(parent, &[partition])).await?;
        let newest = generation::newest(self.store, parent).await?;
        let note = note_of(self.store, newest.as_ref()).await?;
        match note.from.get(&partition.key()) {
            Some(&known) if known >= number => Ok(()),
            _ => Err(RollupError::Apart { partition: partition.folder(), parent: parent.folder() }),
        }
    }

    async fn derive_until_done(
        &mut self,
        parent: Partition,
        children: &[Partition],
    ) -> Result<(), RollupError> {
        for _ in 0..RACES {
            let newest = generation::newest(self.store, parent).await?;
            let derived = self.derive_once(parent, newest.as_ref(), children).await;
            if Try::of(derived)? == Try::Done {
                return Ok(());
            }
        }
        Err(RollupError::Races { partition: parent.folder() })
    }

    async fn derive_once(
        &mut self,
        parent: Partition,
        newest: Option<&Generation>,
        children: &[Partition],
    ) -> Result<Created, RollupError> {
        let mut note = note_of(self.store, newest).await?;
        let stale = stale(self.store, &note, children).await?;
        if stale.is_empty() {
            return Ok(Created::New);
        }
        let apart = newest.is_some() && self.is_apart(parent, &note).await?;
        if let Some(generation) = newest.filter(|_| apart) {
            self.absorb(parent, generation.number).await?;
            note.moved = note.streams.count();
        }
        let mut merge = Merge::new(parent.grain);
        let mut replaced = Vec::new();
        for (child, generation) in &stale {
            let (file, child_note) = generation.file(self.store).await?;
            merge.file(file, &generation.object.path, Vec::new());
            let known = note.from.get(&child.key()).copied().unwrap_or(0);
            let fits = match child_note.moved {
                0 => known == 0 || !apart,
                _ => known + 1 == generation.number,
            };
            if !fits {
                return Err(RollupError::Apart { partition: child.folder(), parent: parent.folder() });
            }
            if child_note.moved == 0 {
                replaced.push(child.start_us);
            }
            note.from.insert(child.key(), generation.number);
            note.streams.union(&child_note.streams);
        }
        if let Some(generation) = newest.filter(|_| !apart) {
            let (file, _) = generation.file(self.store).await?;
            merge.file(file, &generation.object.path, replaced);
        }
        self.create(parent, newest, merge.finish(&note)?, &note).await
    }
}

/// The partitions of the next coarser grain with what they are made from; `None` above months.
fn by_parent(children: &BTreeSet<Partition>) -> Option<BTreeMap<Partition, Vec<Partition>>> {
    let mut parents: BTreeMap<Partition, Vec<Partition>> = BTreeMap::new();
    for &child in children {
        parents.entry(child.parent()?).or_default().push(child);
    }
    (!parents.is_empty()).then_some(parents)
}

/// The children with a newer generation than the note was made from. Never an older one: a listing
/// that lags behind must not take rows back.
async fn stale(
    store: &Store,
    note: &Note,
    children: &[Partition],
) -> Result<Vec<(Partition, Generation)>, StoreError> {
    let newest = children.iter().map(|&child| async move {
        let newest = generation::newest(store, child).await?;
        Ok::<_, StoreError>(newest.map(|generation| (child, generation)))
    });
    let newest: Vec<Option<(Partition, Generation)>> =
        futures::stream::iter(newest).buffered(REQUESTS_AT_ONCE).try_collect().await?;
    let known = |child: &Partition| note.from.get(&child.key()).copied().unwrap_or(0);
    Ok(newest.into_iter().flatten().filter(|(child, g)| g.number > known(child)).collect())
}
