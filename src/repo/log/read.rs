//! Reading the log: the newest checkpoint, then slot by slot; what was read before is not read again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;

use crate::format::checkpoint::State;
use crate::format::log::Action;
use crate::format::object;
use crate::repo::log::author::by_revoked;
use crate::repo::log::stored::{checkpoint, entry_digest, newest_checkpoint, part, read_entries, read_entry};
use crate::repo::log::{AHEAD, Log};
use crate::repo::snapshots::hold_against_commits;
use crate::repo::{Class, Error, Repository, Result, chain};

/// Slots that are asked for in the beginning of a load, where some are likely to be there, …
const AHEAD_OF_LOAD: usize = 8;
/// … and when all before were there.
pub(super) const AHEAD_AT_MOST: usize = 32;
/// Loads that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;

/// Parts of a state that are fetched at the same time.
const PARALLEL_PARTS: usize = 2;
/// A log that has more to remember is not kept: it would stay in memory as long as the run.
const KEPT_IDS: usize = 64 * 1024;

/// The log as it was loaded last, of one opened repository and all that was cloned from it.
#[derive(Clone, Default)]
pub struct Latest(Arc<Mutex<Option<Log>>>);

impl Latest {
    fn get(&self) -> Option<Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, log: &Log) {
        let ids = log.state.rows.len() + log.state.facts.len() + log.swept.len();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (ids <= KEPT_IDS).then(|| log.clone());
    }
}

impl Log {
    /// Reads the newest checkpoint and the log behind it; what is left of them, for who goes on with that. What this
    /// process has read before is not read again: then it takes one round trip.
    pub async fn load(repo: &Repository) -> Result<Self> {
        if let Some(log) = Self::read_on_from_latest(repo).await {
            return Ok(log);
        }
        let loaded = match Self::load_whole(repo).await {
            // Where epochs are missing the commits and the index of these would not be looked for.
            Ok(mut log) if repo.goes_on => hold_against_commits(repo, &mut log).await.map(|()| log),
            loaded => loaded,
        };
        match loaded {
            Ok(mut log) => {
                log.goes_on = repo.goes_on;
                repo.latest.keep(&log);
                Ok(log)
            }
            Err(error) if repo.goes_on && error.is_damage() => {
                let error = chain(&error);
                tracing::warn!(error, "the log does not hold: going on with what is left of it");
                Ok(Self::salvage(repo).await?.log)
            }
            Err(error) => Err(error),
        }
    }

    /// What was loaded before, with what has come since. None if the store does not show just that, whatever the cause:
    /// who loads it from the beginning finds out.
    async fn read_on_from_latest(repo: &Repository) -> Option<Self> {
        let mut log = repo.latest.get()?;
        let (newest, head, digest) = (log.newest, log.head, log.digest());
        let head_again = async {
            match head {
                0 => Ok(None),
                head => entry_digest(repo, head).await,
            }
        };
        let (newest_now, head_again, read_on) =
            tokio::join!(newest_checkpoint(repo), head_again, log.read_on(repo));
        read_on.ok()?;
        let is_same = newest_now.ok()? == newest && head_again.ok()?.unwrap_or_default() == digest;
        if !is_same || log.unpublished.is_some() {
            return None;
        }
        repo.seen.hold_against(repo, &log).await.ok()?;
        repo.latest.keep(&log);
        Some(log)
    }

    /// This log, which was read on, as [`Log::load`] would have it; loaded anew if the checkpoint of a sweep is to be there
    /// that was not seen.
    pub(in crate::repo) async fn held(mut self, repo: &Repository) -> Result<Self> {
        self.catch_up(repo).await?;
        if self.unpublished.is_some() {
            return Self::load(repo).await;
        }
        repo.seen.hold_against(repo, &self).await?;
        Ok(self)
    }

    /// Of two loads at the same time the one that looked first may come to its end last, and lack what the other has seen.
    async fn catch_up(&mut self, repo: &Repository) -> Result<()> {
        let mut had = None;
        while repo.seen.is_beyond(self) && had != Some(self.head) {
            had = Some(self.head);
            self.read_on(repo).await?;
        }
        Ok(())
    }

    async fn load_whole(repo: &Repository) -> Result<Self> {
        let mut last = Error::Moving;
        for _ in 0..ATTEMPTS {
            match Self::load_once(repo).await {
                // A checkpoint may be replaced, and its parts deleted, while it is read.
                Err(error) if error.class() == Class::Missing => last = error,
                Err(error) => return Err(error),
                Ok(mut log) => {
                    log.catch_up(repo).await?;
                    match log.unpublished {
                        Some(_) if newest_checkpoint(repo).await? != log.base_slot() => {}
                        Some(slot) => {
                            let what = format!("the checkpoint of entry {slot} was there, and is missing");
                            return Err(Error::Log { what });
                        }
                        None => {
                            repo.seen.hold_against(repo, &log).await?;
                            return Ok(log);
                        }
                    }
                }
            }
        }
        Err(match last {
            Error::Store(error) => {
                Error::Log { what: format!("the newest checkpoint can't be read: {error}") }
            }
            last => last,
        })
    }

    /// Reads the log as it was at a slot that the newest checkpoint does not stand for yet.
    pub(in crate::repo) async fn load_at(repo: &Repository, slot: u64) -> Result<Self> {
        let mut log = match newest_checkpoint(repo).await? {
            None => Self::default(),
            Some(base) if base < slot => Self::from_checkpoint(repo, base).await?,
            Some(_) => return Err(Error::Moving),
        };
        log.read_to(repo, slot, AHEAD_OF_LOAD).await?;
        match log.head == slot {
            true => Ok(log),
            false => Err(Error::Log { what: format!("entry {slot} was there, and is missing") }),
        }
    }

    async fn load_once(repo: &Repository) -> Result<Self> {
        let mut log = match newest_checkpoint(repo).await? {
            None => Self::default(),
            Some(slot) => Self::from_checkpoint(repo, slot).await?,
        };
        log.read_to(repo, u64::MAX, AHEAD_OF_LOAD).await?;
        Ok(log)
    }

    async fn from_checkpoint(repo: &Repository, slot: u64) -> Result<Self> {
        let key = object::checkpoint_key(slot);
        let (log, entry) = tokio::join!(Self::from_checkpoint_alone(repo, slot), read_entry(repo, slot));
        let mut log = log?;
        let (entry, digest) = match entry? {
            Some(read) => read,
            None => {
                return Err(Error::Log { what: format!("entry {slot}, which {key} stands for, is missing") });
            }
        };
        let Action::Sweep { condemned, .. } = entry.action else {
            return Err(Error::Log { what: format!("{key} does not stand for a sweep") });
        };
        if digest != log.digest() {
            return Err(Error::Log { what: format!("entry {slot} is not the one that {key} stands for") });
        }
        log.opened = BTreeMap::from([(log.epoch, condemned)]);
        // What was read before is not by its author.
        let by = log.base.as_ref().map(|(_, checkpoint)| &checkpoint.certificate);
        let known = repo.latest.get().filter(|known| known.head < slot);
        if by.zip(known).is_some_and(|(by, known)| known.is_revoked(by.key, by.serial)) {
            return Err(Error::Log { what: by_revoked(slot) });
        }
        Ok(log)
    }

    /// By what the checkpoint says, without a look at the entry that it stands for.
    pub(super) async fn from_checkpoint_alone(repo: &Repository, slot: u64) -> Result<Self> {
        let key = object::checkpoint_key(slot);
        let checkpoint = checkpoint(repo, slot).await?;
        let mut state = Vec::new();
        let numbered: Vec<_> = checkpoint.state.iter().enumerate().collect();
        for pieces in numbered.chunks(PARALLEL_PARTS) {
            let pieces = pieces.iter().map(|(number, digest)| part(repo, slot, &checkpoint, *number, digest));
            for piece in join_all(pieces).await {
                state.extend_from_slice(State::piece(&piece?).map_err(Error::object(&key))?);
            }
        }
        let state = State::decode(&state).map_err(Error::object(&key))?;
        let author = &checkpoint.certificate;
        if state.is_revoked(author.key, author.serial) {
            return Err(Error::Log { what: by_revoked(slot) });
        }
        Ok(Self {
            head: slot,
            newest: Some(slot),
            epoch: checkpoint.epoch,
            ended: checkpoint.epoch,
            plan: None,
            last_sweep: slot,
            decisive: slot,
            swept: state.swept.iter().copied().collect(),
            damaged: state.damaged.iter().copied().collect(),
            state: Arc::new(state),
            verified: HashMap::new(),
            unpublished: None,
            digests: BTreeMap::from([(slot, checkpoint.entry)]),
            unreadable: None,
            opened: BTreeMap::new(),
            salvaged: false,
            goes_on: false,
            renewed: 0,
            base: Some((slot, checkpoint)),
        })
    }

    /// Takes in what was added since.
    pub async fn read_on(&mut self, repo: &Repository) -> Result<()> {
        // One has often come, and then so many have to be free behind it.
        self.read_to(repo, u64::MAX, AHEAD + 1).await
    }

    pub(super) async fn read_to(&mut self, repo: &Repository, last: u64, ahead: usize) -> Result<()> {
        while let Some(free) = self.read_until_free(repo, last, ahead).await? {
            // It may have come while the ones behind it were asked for.
            if read_entry(repo, free).await?.is_none() {
                let what = format!("entry {free} of the log is missing, and there are some behind it");
                return Err(Error::Log { what });
            }
        }
        Ok(())
    }

    /// Reads until a slot is free. Gives that if one of the next is not.
    async fn read_until_free(
        &mut self,
        repo: &Repository,
        last: u64,
        mut ahead: usize,
    ) -> Result<Option<u64>> {
        while self.head < last {
            // Each is waited for: a request that is given up costs its connection.
            let mut asked = read_entries(repo, (self.head + 1..=last).take(ahead)).await.into_iter();
            let free = loop {
                let Some((slot, read)) = asked.next() else { break None };
                let Some((entry, digest)) = read? else { break Some(slot) };
                if entry.previous != self.digest() {
                    let what = format!(
                        "entry {slot} does not continue the one before: the log was forked or changed"
                    );
                    return Err(Error::Log { what });
                }
                self.take(slot, entry, digest);
            };
            if let Some(free) = free {
                let mut behind: Vec<_> = asked.collect();
                let next = behind.last().map_or(free, |(slot, _)| *slot) + 1;
                let more = (AHEAD - 1).saturating_sub(behind.len());
                behind.extend(read_entries(repo, (next..=last).take(more)).await);
                // A store that fails says nothing of what is there.
                let is_there = |read: &Result<Option<_>>| match read {
                    Ok(read) => read.is_some(),
                    Err(error) => error.class() == Class::Corrupt,
                };
                return Ok(behind.iter().any(|(_, read)| is_there(read)).then_some(free));
            }
            ahead = (ahead * 2).min(AHEAD_AT_MOST);
        }
        Ok(None)
    }
}
