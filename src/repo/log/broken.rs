//! The log where it does not hold together: saying so, and taking what is left of it.

use std::pin::pin;

use futures::StreamExt;

use crate::crypto::hash;
use crate::format::keys::Certificate;
use crate::format::log::Action;
use crate::format::object;
use crate::repo::log::Log;
use crate::repo::log::author::{Revocations, by_revoked};
use crate::repo::log::stored::{checkpoint, each_entry, newest_checkpoint};
use crate::repo::shortened::highest_epoch;
use crate::repo::{Error, Repository, Result, chain};

/// What is left of a log, and what is not.
pub struct Salvaged {
    pub log: Log,
    /// Checkpoints and entries that were passed over, and why. What they said is lost.
    pub lost: Vec<String>,
    /// The newest checkpoint that the store lists, whether it holds or not.
    pub newest: Option<u64>,
}

impl Log {
    /// Takes the newest checkpoint that holds, and each entry behind it that holds, whatever is missing in between.
    pub async fn salvage(repo: &Repository) -> Result<Salvaged> {
        let checkpoints = slots(repo, object::CHECKPOINTS).await?;
        let newest = checkpoints.last().copied();
        let (mut log, mut lost) = (Log::default(), Vec::new());
        let last = slots(repo, object::GC_LOG).await?.last().copied().unwrap_or(0);
        let revoked = Revocations::load(repo, newest.unwrap_or(0)).await?;
        for slot in checkpoints.into_iter().rev() {
            let base = Log::from_checkpoint_alone(repo, slot).await;
            let is_by_revoked = |log: &Log| {
                log.base.as_ref().is_some_and(|(_, found)| revoked.are_of(&found.certificate, slot))
            };
            match base {
                Ok(base) if is_by_revoked(&base) => lost.push(by_revoked(slot)),
                Ok(base) => {
                    log = base;
                    break;
                }
                Err(error) => lost.push(damage(error)?),
            }
        }
        let base_slot = log.head;
        let mut entries = pin!(each_entry(repo, base_slot..=last));
        while let Some((slot, read)) = entries.next().await {
            match read {
                // What the checkpoint stands for: only when its epoch was opened is not in it.
                Ok(Some((entry, digest))) if slot == base_slot => {
                    if let Action::Sweep { condemned, .. } = entry.action
                        && digest == log.digest()
                    {
                        log.opened.insert(log.epoch, condemned);
                    }
                }
                _ if slot == base_slot => {}
                Ok(Some((entry, digest))) => log.take(slot, entry, digest),
                Ok(None) => {
                    log.pass_over(slot);
                    lost.push(format!("entry {slot} of the log is missing"));
                }
                Err(error) => {
                    lost.push(damage(error)?);
                    log.pass_over(slot);
                    let stored = match repo.store.get(&object::log_key(slot)).await {
                        Err(error) if !error.is_damage() => return Err(error.into()),
                        stored => stored.unwrap_or_default(),
                    };
                    log.unreadable = Some((slot, hash::plain(&stored)));
                }
            }
        }
        log.unpublished = None;
        log.salvaged = true;
        log.newest = newest;
        let begun = highest_epoch(repo, &log).await?;
        if begun > log.epoch {
            lost.push(format!(
                "entries behind entry {last} of the log, which ends in epoch {}: a session of epoch {begun} has read one",
                log.epoch
            ));
            log.epoch = begun;
        }
        Ok(Salvaged { log, lost, newest })
    }

    /// It may have been a condemn, which has opened an epoch. One too many does no harm: all are brought to an end.
    fn pass_over(&mut self, slot: u64) {
        self.head = slot;
        self.epoch += 1;
    }
}

/// The same as text; an error that is no damage ends the work.
pub fn damage(error: Error) -> Result<String> {
    match error.is_damage() {
        true => Ok(chain(&error)),
        false => Err(error),
    }
}

/// The slots of a folder, ascending.
pub async fn slots(repo: &Repository, folder: &str) -> Result<Vec<u64>> {
    let listed = repo.store.list(folder).await?;
    let mut slots: Vec<u64> =
        listed.iter().filter_map(|found| object::parse_slot(folder, &found.key)).collect();
    slots.sort_unstable();
    Ok(slots)
}

/// Holds the whole log together, from the first entry on, also what lies behind checkpoints, and the newest checkpoint's
/// author against it. Gives what is wrong with it that its owner has not answered by beginning it anew.
pub async fn verify(repo: &Repository) -> Result<Option<String>> {
    let (entries, newest) = tokio::try_join!(slots(repo, object::GC_LOG), newest_author(repo))?;
    let last = entries.last().copied().unwrap_or(0);
    let mut revoked = Revocations::default();
    let mut previous = [0; 32];
    let mut wrong = None;
    let mut entries = pin!(each_entry(repo, 1..=last));
    while let Some((slot, read)) = entries.next().await {
        let found = match read {
            Ok(Some((entry, digest))) => {
                let follows = entry.previous == previous;
                previous = digest;
                revoked.take(slot, &entry.action);
                if matches!(entry.action, Action::Renew { .. }) {
                    wrong = None;
                    continue;
                }
                match follows {
                    true => continue,
                    false => format!("entry {slot} of the log does not continue the one before"),
                }
            }
            Ok(None) => format!("entry {slot} of the log is missing below {last}"),
            Err(error) => damage(error)?,
        };
        wrong.get_or_insert(found);
    }
    let newest = newest.filter(|(slot, by)| revoked.are_of(by, *slot));
    Ok(wrong.or(newest.map(|(slot, _)| by_revoked(slot))))
}

/// The slot of the newest checkpoint and who has signed it; none if it can't be read, which others tell.
async fn newest_author(repo: &Repository) -> Result<Option<(u64, Certificate)>> {
    let Some(slot) = newest_checkpoint(repo).await? else { return Ok(None) };
    match checkpoint(repo, slot).await {
        Ok(found) => Ok(Some((slot, found.certificate))),
        Err(error) => damage(error).map(|_| None),
    }
}
