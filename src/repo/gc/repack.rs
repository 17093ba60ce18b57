//! Repacking: records that are still used are copied, sealed as they are, from packs that hold few of them.
//!
//! Spec: chapter 11. An ordinary session of a maintainer, which can't open what it copies. The old packs go with a
//! later condemn, when the copies are indexed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::crypto::hash;
use crate::format::id::{KeyId, PackId};
use crate::format::object;
use crate::format::pack::{PackKind, Toc, short_hash};
use crate::repo::bits::Bits;
use crate::repo::carrier::Carrier;
use crate::repo::gc::plan::Stays;
use crate::repo::snapshots::end_copying;
use crate::repo::upload::Uploads;
use crate::repo::{Begun, Error, Index, Place, Repository, Result, begin};

/// Packs that are fetched at the same time: one while the other is copied.
const PARALLEL_GETS: usize = 2;

/// Copies what is used of the packs. Gives those whose used records all have a copy now.
pub async fn repack(
    repo: &Repository,
    index: &Arc<Index>,
    live: &Arc<Bits>,
    stays: Arc<Stays>,
    groups: BTreeMap<(PackKind, KeyId), Vec<PackId>>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<BTreeSet<PackId>> {
    let Begun { session, mut lanes, .. } = begin(repo, 1).await?;
    let uploads = Arc::new(Uploads::start(repo.clone(), lanes.pop().expect("one lane was asked for")));
    let mut done = BTreeSet::new();
    for ((kind, origin), packs) in groups {
        let mut filling = Carrier::new(repo, uploads.clone(), kind, origin);
        // By tasks of their own: while a pack is copied nobody asks for the next one.
        let fetching = packs.into_iter().map(|pack| {
            let store = repo.store.clone();
            tokio::spawn(async move { (pack, store.get(&object::pack_key(pack)).await) })
        });
        let mut fetching = stream::iter(fetching).buffered(PARALLEL_GETS);
        while let Some(fetched) = fetching.next().await {
            let (pack, fetched) = fetched.expect("fetching a pack does not panic");
            let bytes = match fetched.map_err(Error::from) {
                // Another prune was quicker, or it is damaged, and a check tells.
                Err(error) if error.is_damage() => continue,
                bytes => bytes?,
            };
            let len = bytes.len() as u64;
            let (index, live, stays) = (index.clone(), live.clone(), stays.clone());
            let copied = tokio::task::spawn_blocking(move || {
                let copied = copy(&mut filling, (&index, &live, &stays), pack, &bytes);
                (filling, copied)
            });
            let (back, copied) = copied.await.expect("copying records does not panic");
            filling = back;
            if copied? {
                done.insert(pack);
            }
            progress(len);
        }
        let sent = tokio::task::spawn_blocking(move || filling.send());
        sent.await.expect("sealing a pack does not panic")?;
    }
    let uploads = Arc::into_inner(uploads).expect("all fillings are gone");
    uploads.finish().await?;
    end_copying(repo, session).await?;
    Ok(done)
}

/// Copies the used records of a pack. False if the pack is damaged: then it stays as it is.
fn copy(
    filling: &mut Carrier,
    (index, live, stays): (&Index, &Bits, &Stays),
    pack: PackId,
    bytes: &[u8],
) -> Result<bool> {
    let keys = &filling.repo().keys;
    let found = hash::plain(bytes);
    let toc = Toc::open(&keys.structure, keys.repo, pack, bytes).ok();
    let is_true =
        |toc: &Toc| index.packs().with(pack).any(|info| (info.hash, info.kind) == (found, toc.kind));
    if toc.as_ref().is_some_and(|toc| toc.kind != filling.kind()) {
        // Named falsely too, and rewritten by its true name.
        return Ok(false);
    }
    let Some(toc) = toc.filter(is_true) else {
        tracing::warn!(%pack, "the pack is damaged and is not rewritten: run `kist check`");
        return Ok(false);
    };
    let mut places = Vec::new();
    for record in &toc.records {
        let Some(ordinal) = index.ordinal(&record.id).filter(|ordinal| live.contains(*ordinal)) else {
            continue;
        };
        // What stays elsewhere is not copied: a repack that was cut short has copied it before.
        let needed = stays.among(index, (ordinal, index.slots_of(&record.id)), &mut places);
        let lies_at = |at: u32| toc.records.iter().any(|other| (other.id, other.offset) == (record.id, at));
        // A pack may have it twice, and another one may be named where it is not.
        let is_it =
            |place: &Place| place.pack == pack && (place.offset == record.offset || !lies_at(place.offset));
        if !needed.iter().any(|slot| is_it(&slot.place())) {
            continue;
        }
        let sealed = record.of(bytes);
        let is_sound = short_hash(sealed) == record.short_hash;
        if !is_sound || !filling.take(record.id, sealed)? {
            tracing::warn!(%pack, id = %record.id, "a record is damaged, its pack is not rewritten: run `kist check`");
            return Ok(false);
        }
    }
    Ok(true)
}
