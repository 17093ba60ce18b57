//! Deleting what the checkpoint says may go. Doing it late, or twice, does no harm.
//!
//! What the store will not delete yet (object lock, a policy) is counted and tried again by the next prune.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;

use crate::format::id::SessionId;
use crate::format::log::Action;
use crate::format::object;
use crate::repo::gc::Pruned;
use crate::repo::index::Index;
use crate::repo::log::read_entry;
use crate::repo::{Log, Repository, Result};
use crate::store::Class as StoreClass;
use crate::world::Time;

const PARALLEL_DELETES: usize = 16;
/// States of checks that are kept: the newest may be damaged.
const KEPT_CHECKS: usize = 2;
/// Checkpoints that are kept: readers may be loading the one before the newest.
const KEPT_CHECKPOINTS: usize = 2;

/// Deletes what the newest checkpoint stands for: packs that were swept, commits that are gone, deltas of ended epochs,
/// sessions that nothing needs, older generations.
pub async fn pending(repo: &Repository, log: &Log, grace: Duration, pruned: &mut Pruned) -> Result<()> {
    let Some((slot, checkpoint)) = &log.base else { return Ok(()) };
    let late = late(repo, log, *slot, grace).await?;
    // Whoever made the checkpoint may have named anything.
    let swept =
        log.state.pending.iter().filter(|key| key.starts_with("packs/") || key.starts_with("commits/"));
    let (staying, mut keys): (Vec<String>, Vec<String>) = swept.cloned().partition(|key| late.contains(key));
    pruned.waiting = staying.iter().filter(|key| key.starts_with("packs/")).count() as u64;
    pruned.retained = 0;
    let epoch = checkpoint.epoch;
    let (deltas, sessions, generations, checks) = tokio::try_join!(
        ended_deltas(repo, epoch),
        unneeded_sessions(repo, log, epoch),
        older_generations(repo, log),
        older_checks(repo)
    )?;
    keys.extend([deltas, sessions, generations, checks].into_iter().flatten());
    let deleting = keys.into_iter().map(|key| async move {
        let deleted = repo.store.delete(&key).await;
        (key, deleted)
    });
    let mut deleting = futures::stream::iter(deleting).buffer_unordered(PARALLEL_DELETES);
    while let Some((key, deleted)) = deleting.next().await {
        match deleted {
            Ok(()) => {}
            Err(error) if matches!(error.class(), StoreClass::Denied | StoreClass::Retained) => {
                tracing::debug!(key, "the store does not delete it yet");
                pruned.retained += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What went by a sweep that is younger than the grace, if all before was deleted: its packs, and what was forgotten before
/// it. A checkpoint carries on what those before it have let go of, so its own age says nothing of that.
async fn late(repo: &Repository, log: &Log, newest: u64, grace: Duration) -> Result<HashSet<String>> {
    let is_over = |since: Time| {
        repo.world.now().secs().saturating_sub(since.secs())
            >= i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)
    };
    let mut late = HashSet::new();
    if grace.is_zero() || log.state.pending.is_empty() {
        return Ok(late);
    }
    for slot in (1..=newest).rev() {
        let entry = match read_entry(repo, slot).await {
            Ok(Some((entry, _))) => entry,
            Err(error) if error.is_inconclusive() => return Err(error),
            // A history that was begun anew: what this slot has let go of nobody knows.
            _ => return Ok(log.state.pending.iter().cloned().collect()),
        };
        match entry.action {
            Action::Sweep { .. } if is_over(entry.time) => break,
            Action::Sweep { packs, .. } => late.extend(packs.into_iter().map(object::pack_key)),
            Action::Forget { sessions } => late.extend(sessions.into_iter().map(object::commit_key)),
            _ => {}
        }
    }
    Ok(late)
}

/// Deltas of epochs that the checkpoint stands for.
async fn ended_deltas(repo: &Repository, epoch: u32) -> Result<Vec<String>> {
    let has_ended = |key: &str| {
        let session = key.rsplit_once('/').map_or("", |(session, _)| session);
        object::parse_session(object::INDEX, session).is_some_and(|id| id.epoch() < epoch)
    };
    let listed = repo.store.list(object::INDEX).await?;
    Ok(listed.into_iter().map(|found| found.key).filter(|key| has_ended(key)).collect())
}

/// Sessions of ended epochs whose commit is gone, and whose lane keys open no record that is left. One that was fenced
/// stays for ever, as its fence does: its writer may come back and name its packs again.
async fn unneeded_sessions(repo: &Repository, log: &Log, epoch: u32) -> Result<Vec<String>> {
    let of = |folder, key: &str| object::parse_session(folder, key).filter(|id| id.epoch() < epoch);
    let (resolved, listed) =
        tokio::try_join!(repo.store.list(object::COMMITS), repo.store.list(object::SESSIONS))?;
    let resolved: HashSet<SessionId> =
        resolved.iter().filter_map(|found| of(object::COMMITS, &found.key)).collect();
    let gone: Vec<(SessionId, String)> = listed
        .into_iter()
        .filter_map(|found| Some((of(object::SESSIONS, &found.key)?, found.key)))
        .filter(|(id, _)| !resolved.contains(id) && !log.state.rows.contains_key(id))
        .collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let (index, by) = Index::load_with_log(repo).await?;
    // Whoever has published since then will see to it.
    if by.base_slot() != log.base_slot() || !index.problems.is_empty() {
        return Ok(Vec::new());
    }
    let needed: HashSet<SessionId> = index.packs().iter().flat_map(|pack| pack.sessions).collect();
    Ok(gone.into_iter().filter(|(id, _)| !needed.contains(id)).map(|(_, key)| key).collect())
}

/// Checkpoints before the last two, and every generation that neither of them names.
async fn older_generations(repo: &Repository, log: &Log) -> Result<Vec<String>> {
    let Some((newest, checkpoint)) = &log.base else { return Ok(Vec::new()) };
    let slot = |key: &str| object::parse_slot(object::CHECKPOINTS, key);
    let (checkpoints, generations) =
        tokio::try_join!(repo.store.list(object::CHECKPOINTS), repo.store.list(object::GENERATIONS))?;
    let mut slots: Vec<u64> = checkpoints.iter().filter_map(|found| slot(&found.key)).collect();
    slots.sort_unstable();
    if slots.last() != Some(newest) {
        return Ok(Vec::new());
    }
    let kept_from = slots[slots.len().saturating_sub(KEPT_CHECKPOINTS)];
    let mut keys: Vec<String> =
        slots.iter().filter(|slot| **slot < kept_from).map(|slot| object::checkpoint_key(*slot)).collect();
    let named = object::generation_folder(*newest, checkpoint.name);
    for found in generations {
        let folder = found.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let of =
            folder.rsplit('/').next().and_then(|name| name.split_once('-')).and_then(|(n, _)| n.parse().ok());
        // Of the newest's slot there may be those of losers; of the one before it, only the winner's is left.
        let goes = of.is_some_and(|of: u64| of < kept_from || (of == *newest && folder != named));
        if goes {
            keys.push(found.key);
        }
    }
    Ok(keys)
}

/// What checks have read is in the newest state alone.
async fn older_checks(repo: &Repository) -> Result<Vec<String>> {
    let listed = repo.store.list(object::CHECKS).await?;
    let number = |key: &str| object::parse_slot(object::CHECKS, key);
    let mut numbers: Vec<u64> = listed.iter().filter_map(|found| number(&found.key)).collect();
    numbers.sort_unstable();
    let going = numbers.len().saturating_sub(KEPT_CHECKS);
    Ok(numbers[..going].iter().map(|number| object::checks_key(*number)).collect())
}

/// Deletes the parts of a checkpoint that was not to be.
pub async fn generation(repo: &Repository, folder: &str) -> Result<()> {
    for found in repo.store.list(folder).await? {
        match repo.store.delete(&found.key).await {
            Err(error) if !matches!(error.class(), StoreClass::Denied | StoreClass::Retained) => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    Ok(())
}
