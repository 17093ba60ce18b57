//! Loading an index: the newest checkpoint's, and the deltas of the epochs after it.

use std::collections::{HashMap, HashSet};

use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};

use crate::format::id::{PackId, SessionId};
use crate::format::index::IndexDelta;
use crate::format::keys::Trust;
use crate::format::object;
use crate::repo::bits::Bits;
use crate::repo::index::{Index, IndexBuilder, deltas};
use crate::repo::snapshots::resolved_after;
use crate::repo::{Error, Log, Repository, Result, Snapshots};

/// Loads that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;

impl Index {
    /// Loads the index: the newest checkpoint's, and the deltas of the epochs after it. What can't be read becomes a
    /// problem, not an error: its records only count as missing.
    pub async fn load(repo: &Repository) -> Result<Self> {
        Ok(Self::load_with_log(repo).await?.0)
    }

    /// Loads the index, and the log that it was loaded by.
    pub(in crate::repo) async fn load_with_log(repo: &Repository) -> Result<(Self, Log)> {
        Self::load_by_log(repo, Log::load(repo).await?).await
    }

    /// Loads the index by a log that was read, or by a newer one if that has become old meanwhile.
    pub(in crate::repo) async fn load_by_log(repo: &Repository, log: Log) -> Result<(Self, Log)> {
        let (index, log, ()) = Self::load_and_look(repo, log, |_, _| async { Ok(()) }.boxed()).await?;
        Ok((index, log))
    }

    /// The same, with a look at something that has to come after the deltas.
    async fn load_and_look<T>(
        repo: &Repository,
        mut log: Log,
        look: impl for<'a> Fn(&'a Repository, &'a Self) -> BoxFuture<'a, Result<T>>,
    ) -> Result<(Self, Log, T)> {
        let mut last = Error::Moving;
        for _ in 0..ATTEMPTS {
            // What a newer checkpoint stands for may have been deleted while this one's was being read.
            match Self::load_once(repo, &log).await {
                Ok(index) => {
                    let (is_newest, seen) = tokio::join!(log.is_of_newest(repo), look(repo, &index));
                    if is_newest? {
                        let index = Self { loaded_by: (log.head, log.base_slot()), ..index };
                        return Ok((index, log, seen?));
                    }
                }
                Err(error) if log.is_of_newest(repo).await? => return Err(error),
                Err(error) => last = error,
            }
            log = Log::load(repo).await?;
        }
        Err(last)
    }

    async fn load_once(repo: &Repository, log: &Log) -> Result<Self> {
        let mut builder = IndexBuilder::new(repo.scratch.clone(), repo.keys.trust() == Trust::Shared);
        let take = |delta, session| builder.take_in(repo, log, delta, session);
        let (sessions, problems) = deltas::each(repo, log, take).await?;
        (builder.sessions, builder.problems) = (sessions, problems);
        let finishing = tokio::task::spawn_blocking(move || builder.finish());
        let mut index = finishing.await.expect("sorting an index does not panic")?;
        let damaged = log.damaged.iter().flat_map(|pack| index.segment.packs_with(*pack));
        index.damaged = damaged.collect();
        index.damaged.sort_unstable();
        Ok(index)
    }

    /// Loads the index for a session that will refer to what is there, and bars what it may not refer to
    /// (spec chapter 11). Packs that the store does not list, or in another length, are barred too: their records
    /// are uploaded again. What has changed inside of a pack no listing shows, and sessions of ended epochs are not read:
    /// that is for a check.
    pub async fn load_to_add(repo: &Repository, session: SessionId) -> Result<Self> {
        let mut log = Log::load(repo).await?;
        let before = resolved_after(repo, &mut log).await?;
        Self::load_to_add_of(repo, session, log, &before).await
    }

    /// The same, with the commits that were listed before the log was read. Commits first, then the index: a committed
    /// session's deltas are all there.
    pub(in crate::repo) async fn load_to_add_of(
        repo: &Repository,
        session: SessionId,
        log: Log,
        before: &[SessionId],
    ) -> Result<Self> {
        // Listed after the deltas: a pack was there before the delta that names it.
        let (mut index, log, there) =
            Self::load_and_look(repo, log, |repo, index| index.listed(repo).boxed()).await?;
        let others: Vec<_> = before.iter().copied().filter(|id| id.epoch() != session.epoch()).collect();
        let committed = committed_of(repo, &log, &others).await?;
        for number in 0..index.segment.packs() {
            let pack = index.segment.pack(number);
            let is_there = there.contains(number);
            // Another epoch's delta whose session has not committed may come too late for what replaces it.
            let is_sure = pack.session.is_none_or(|s| s.epoch() == session.epoch() || committed.contains(&s));
            // Whoever holds what a revoked key's slot held may go on to write deltas in its old sessions.
            let is_distrusted = !pack.own && !pack.verified && log.state.revoked.contains_key(&pack.origin);
            if !is_there || !is_sure || is_distrusted || log.is_barred(pack.id) {
                index.usable.remove(number);
            }
        }
        let lost = index.packs().by_id().filter(|(_, numbers)| !numbers.clone().any(|n| there.contains(n)));
        let lost = lost.count();
        if lost > 0 {
            tracing::warn!(
                packs = lost,
                "packs are missing or cut: run `kist check`; what can be is uploaded again"
            );
        }
        Ok(index)
    }

    /// Which packs the store lists in the length that the index has.
    async fn listed(&self, repo: &Repository) -> Result<Bits> {
        let mut there = Bits::new(self.segment.packs());
        let mut listed = repo.store.list_stream(object::PACKS);
        while let Some(found) = listed.try_next().await? {
            let Some(id) = found.key.rsplit('/').next().and_then(PackId::parse) else { continue };
            for number in self.segment.packs_with(id) {
                if u64::from(self.segment.pack(number).len) == found.size {
                    there.insert(number);
                }
            }
        }
        Ok(there)
    }
}

impl IndexBuilder {
    fn take_in(
        &mut self,
        repo: &Repository,
        log: &Log,
        delta: IndexDelta,
        session: Option<SessionId>,
    ) -> Result<()> {
        for mut pack in delta.packs {
            if log.swept.contains(&pack.id) {
                continue;
            }
            pack.verified = (pack.verified && session.is_none()) || log.is_verified(&pack);
            let own = pack.origin == repo.keys.certificate.key;
            self.add(&pack, session, own)?;
        }
        Ok(())
    }
}

/// Those of the given sessions that have committed a snapshot, or have copied records and are done.
async fn committed_of(repo: &Repository, log: &Log, ids: &[SessionId]) -> Result<HashSet<SessionId>> {
    let open = log.open_epochs();
    let ids: Vec<_> = ids.iter().copied().filter(|id| open.contains(&id.epoch())).collect();
    Ok(Snapshots::load_ids(repo, log, &ids).await?.committed())
}

/// A pack as the store lists it.
#[derive(Clone, Copy, Debug)]
pub struct ListedPack {
    pub size: u64,
    pub modified_unix_secs: i64,
}

/// Every pack that the store lists.
pub async fn listed_packs(repo: &Repository) -> Result<HashMap<PackId, ListedPack>> {
    let mut listed = repo.store.list_stream(object::PACKS);
    let mut packs = HashMap::new();
    while let Some(found) = listed.try_next().await? {
        let name = found.key.rsplit('/').next().and_then(PackId::parse);
        let there = ListedPack { size: found.size, modified_unix_secs: found.modified_unix_secs };
        packs.extend(name.map(|id| (id, there)));
    }
    Ok(packs)
}
