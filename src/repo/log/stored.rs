//! What the store has of the log: entries, checkpoints and their parts, each held to what it must be by itself.

use std::ops::RangeInclusive;

use futures::future::join_all;
use futures::{Stream, StreamExt};

use crate::crypto::hash;
use crate::format::checkpoint::Checkpoint;
use crate::format::log::Entry;
use crate::format::{limits, object};
use crate::repo::{Error, Repository, Result};
use crate::store::Class as StoreClass;

/// Entries that are asked for at the same time; they are known to be there.
const PARALLEL_GETS: usize = 32;

/// An entry and its hash; none if the slot is free.
type Slot = Option<(Entry, [u8; 32])>;

/// The slot of the newest checkpoint.
pub async fn newest_checkpoint(repo: &Repository) -> Result<Option<u64>> {
    let listed = repo.store.list(object::CHECKPOINTS).await?;
    Ok(listed.iter().filter_map(|found| object::parse_slot(object::CHECKPOINTS, &found.key)).max())
}

/// A checkpoint, without its parts.
pub async fn checkpoint(repo: &Repository, slot: u64) -> Result<Checkpoint> {
    let key = object::checkpoint_key(slot);
    let sealed = repo.store.get_at_most(&key, limits::CHECKPOINT_LEN as u64).await?;
    let plain = repo.unseal("checkpoint", &key, &sealed)?;
    let checkpoint = Checkpoint::decode(&plain).map_err(Error::object(&key))?;
    checkpoint.verify(&repo.keys.owner, repo.config.repo, slot).map_err(Error::object(&key))?;
    repo.keys.check_domain(&checkpoint.certificate).map_err(Error::object(&key))?;
    Ok(checkpoint)
}

/// A part of a checkpoint, by its number and hash: as it was before sealing, with its padding.
pub async fn part(
    repo: &Repository,
    slot: u64,
    checkpoint: &Checkpoint,
    number: usize,
    digest: &[u8; 32],
) -> Result<Vec<u8>> {
    let key = object::generation_key(slot, checkpoint.name, number);
    let sealed = repo.store.get_at_most(&key, limits::INDEX_LEN as u64).await?;
    if hash::plain(&sealed) != *digest {
        let found = "bytes that the checkpoint does not name".to_owned();
        let source = crate::format::Error::Invalid { what: "checkpoint part", field: "hash", found };
        return Err(Error::Object { key, source });
    }
    repo.unseal("checkpoint part", &key, &sealed)
}

/// What is in a slot.
pub async fn read_entry(repo: &Repository, slot: u64) -> Result<Slot> {
    let key = object::log_key(slot);
    let sealed = match repo.store.get_at_most(&key, limits::LOG_LEN as u64).await {
        Ok(sealed) => sealed,
        Err(error) if error.class() == StoreClass::Missing => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let plain = repo.unseal("gc log entry", &key, &sealed)?;
    let entry = Entry::decode(&plain).map_err(Error::object(&key))?;
    entry.verify(&repo.keys.owner, repo.config.repo, slot).map_err(Error::object(&key))?;
    repo.keys.check_domain(&entry.certificate).map_err(Error::object(&key))?;
    Ok(Some((entry, hash::plain(&sealed))))
}

/// The entries of some slots, all asked for at the same time.
pub async fn read_entries(repo: &Repository, slots: impl Iterator<Item = u64>) -> Vec<(u64, Result<Slot>)> {
    let slots: Vec<u64> = slots.collect();
    let read = join_all(slots.iter().map(|slot| read_entry(repo, *slot))).await;
    slots.into_iter().zip(read).collect()
}

/// All entries of a stretch of the log that the store has, one after the other.
pub fn each_entry(repo: &Repository, slots: RangeInclusive<u64>) -> impl Stream<Item = (u64, Result<Slot>)> {
    let entries =
        futures::stream::iter(slots).map(move |slot| async move { (slot, read_entry(repo, slot).await) });
    entries.buffered(PARALLEL_GETS)
}

/// BLAKE3 of the entry in a slot, as stored; none if the slot is free.
pub async fn entry_digest(repo: &Repository, slot: u64) -> Result<Option<[u8; 32]>> {
    Ok(read_entry(repo, slot).await?.map(|(_, digest)| digest))
}
