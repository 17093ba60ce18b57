//! Publishing what a sweep has come to: a checkpoint, with the state of the log and the compacted index.
//!
//! Spec: chapter 11. Built on the newest checkpoint, and begun again if a newer one has come meanwhile: what that one
//! stands for may have been deleted while it was being read. The index is streamed; memory is one part.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt};

use crate::crypto::{hash, sign};
use crate::format::checkpoint::{Checkpoint, REMEMBERED, Row, State};
use crate::format::id::{KeyId, PackId, SessionId};
use crate::format::index::{Filling, IndexDelta, IndexPack};
use crate::format::object;
use crate::repo::gc::{ATTEMPTS, delete, unsound};
use crate::repo::index::{self, Listed};
use crate::repo::log::newest_checkpoint;
use crate::repo::snapshots::resolved_after;
use crate::repo::{Error, Log, Repository, Result, Snapshots};
use crate::store::{Class as StoreClass, Created};

/// Deltas that are fetched at the same time.
const PARALLEL_GETS: usize = 8;

/// Publishes the last sweep, if nobody has yet. What another has published is held against what he has not made, before
/// anything is built on it, or deleted by it.
pub async fn catch_up(repo: &Repository, log: &mut Log) -> Result<()> {
    let own = &repo.keys.certificate;
    let mut mine = None;
    for _ in 0..ATTEMPTS {
        if log.is_published() {
            return match mine.is_some() && mine == log.base_slot() {
                true => Ok(()),
                false => log.hold_author(repo).await,
            };
        }
        if log.is_revoked(own.key, own.serial) {
            // A checkpoint of this key's is an alarm to all.
            return Err(Error::Revoked);
        }
        // Only the log up to the sweep goes in; what came after is read behind the checkpoint.
        let upto = match log.ends_with_sweep() {
            true => Ok(log.clone()),
            false => Log::load_at(repo, log.last_sweep).await,
        };
        match upto {
            Ok(upto) => {
                let base = upto.base_slot();
                match publish(repo, upto).await {
                    // What is missing may be gone because another's checkpoint stands for it.
                    Err(error) if error.is_damage() && newest_checkpoint(repo).await? != base => {}
                    published => mine = published?.then_some(log.last_sweep),
                }
            }
            Err(Error::Moving) => {}
            Err(error) => return Err(error),
        }
        *log = Log::load(repo).await?;
    }
    Err(Error::Moving)
}

/// True if the checkpoint stands; false if it has to be made anew.
pub(super) async fn publish(repo: &Repository, log: Log) -> Result<bool> {
    let state = state_of(repo, &log).await?;
    let newest = log.base_slot();
    publish_state(repo, log, state, newest, None).await
}

/// The same with a state that was made already, while `newest` is the newest checkpoint. Parts of the index before that
/// can't be read are an error, or are told to `lost`.
pub(super) async fn publish_state(
    repo: &Repository,
    log: Log,
    state: State,
    newest: Option<u64>,
    lost: Option<&mut Vec<String>>,
) -> Result<bool> {
    let slot = log.head;
    let name: [u8; 16] = repo.world.bytes();
    let mut parts = Parts { repo, slot, name, state: Vec::new(), index: Vec::new() };
    for piece in state.pieces() {
        parts.put(piece, true).await?;
    }
    write_index(repo, &log, &mut parts, lost).await?;
    let is_newest = newest_checkpoint(repo).await? == newest;
    let mut checkpoint = Checkpoint {
        entry: log.digest(),
        time: repo.world.now(),
        epoch: log.epoch,
        name,
        state: parts.state,
        index: parts.index,
        certificate: repo.keys.certificate.clone(),
        signature: [0; sign::SIGNATURE_LEN],
    };
    if is_newest {
        checkpoint.sign(repo.keys.signing()?, repo.config.repo, slot);
        let key = object::checkpoint_key(slot);
        let sealed = repo.seal(&key, checkpoint.encode());
        if repo.store.create_exclusive(&key, sealed).await? == Created::Mine {
            return Ok(true);
        }
    }
    delete::generation(repo, &object::generation_folder(slot, name)).await?;
    Ok(false)
}

/// The parts of a checkpoint on their way to the store.
struct Parts<'a> {
    repo: &'a Repository,
    slot: u64,
    name: [u8; 16],
    state: Vec<[u8; 32]>,
    index: Vec<[u8; 32]>,
}

impl Parts<'_> {
    async fn put(&mut self, plain: Vec<u8>, is_state: bool) -> Result<()> {
        let repo = self.repo;
        let number = self.state.len() + self.index.len();
        let key = object::generation_key(self.slot, self.name, number);
        let sealed = repo.seal(&key, plain);
        let digest = hash::plain(&sealed);
        repo.store.put(&key, sealed).await?;
        if is_state {
            self.state.push(digest)
        } else {
            self.index.push(digest)
        }
        Ok(())
    }
}

/// What the log has come to.
async fn state_of(repo: &Repository, log: &Log) -> Result<State> {
    let mut reading = log.clone();
    let ids = resolved_after(repo, &mut reading).await?;
    let is_new = |id: &SessionId| id.epoch() < log.ended && !log.state.rows.contains_key(id);
    let ended: Vec<SessionId> = ids.into_iter().filter(is_new).collect();
    let mut snapshots = Snapshots::load_ids(repo, &reading, &ended).await?;
    if let Some(problem) = snapshots.problems.pop() {
        return Err(unsound(problem));
    }
    state_with(repo, log, log.state.as_ref().clone(), &snapshots).await
}

/// What the log has come to, with the commits of the epochs that have ended since `state` was made.
pub(super) async fn state_with(
    repo: &Repository,
    log: &Log,
    mut state: State,
    snapshots: &Snapshots,
) -> Result<State> {
    for snapshot in snapshots.every() {
        let commit = &snapshot.commit;
        remember(&mut state, commit.certificate.key, (commit.sequence, snapshot.digest));
        let row = Row {
            digest: snapshot.digest,
            key: commit.certificate.key,
            serial: commit.certificate.serial,
            sequence: commit.sequence,
            time: commit.time,
            source: commit.source,
            class: commit.class.clone(),
            complete: commit.complete,
            held: commit.held,
        };
        state.rows.insert(snapshot.id, row);
    }
    let is_gone = |id: &SessionId| log.fact(*id).gone;
    let gone: Vec<SessionId> = state.rows.keys().copied().filter(is_gone).collect();
    let mut pending = still_there(repo, std::mem::take(&mut state.pending)).await?;
    // The packs of a session that only copied are in the index now; its end has no more to say.
    pending.extend(snapshots.repacks.iter().map(|id| object::commit_key(*id)));
    for id in gone {
        pending.insert(object::commit_key(id));
        state.rows.remove(&id);
        state.facts.remove(&id);
    }
    // Of ended epochs only rows have facts: fences and forged ids say nothing any more.
    let (rows, ended) = (&state.rows, log.ended);
    state.facts.retain(|id, _| id.epoch() >= ended || rows.contains_key(id));
    let before: HashSet<PackId> = state.swept.iter().copied().collect();
    pending.extend(log.swept.difference(&before).map(|pack| object::pack_key(*pack)));
    state.swept = log.swept.iter().copied().collect();
    state.swept.sort_unstable();
    state.damaged = log.damaged.difference(&log.swept).copied().collect();
    state.damaged.sort_unstable();
    state.pending = pending.into_iter().collect();
    state.pending.sort_unstable();
    Ok(state)
}

/// Remembers a commit of a key, by its sequence and hash, as long as there are not too many newer ones.
pub(super) fn remember(state: &mut State, key: KeyId, commit: (u64, [u8; 32])) {
    let remembered = state.remembered.entry(key).or_default();
    remembered.push(commit);
    remembered.sort_unstable();
    remembered.dedup();
    let old = remembered.len().saturating_sub(REMEMBERED);
    remembered.drain(..old);
}

/// Those of the keys that have not been deleted yet.
async fn still_there(repo: &Repository, keys: Vec<String>) -> Result<HashSet<String>> {
    let asking = keys.into_iter().map(|key| async move {
        match repo.store.size(&key).await {
            Ok(_) => Ok(Some(key)),
            Err(error) if error.class() == StoreClass::Missing => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    });
    let asking = futures::stream::iter(asking).buffer_unordered(PARALLEL_GETS);
    asking.try_filter_map(|key| async move { Ok(key) }).try_collect().await
}

/// Writes all packs of the generation before and of the deltas of ended epochs, without those that were swept.
async fn write_index(
    repo: &Repository,
    log: &Log,
    parts: &mut Parts<'_>,
    mut lost: Option<&mut Vec<String>>,
) -> Result<()> {
    let mut written = Written::default();
    let mut filling = Filling::default();
    let mut generation = std::pin::pin!(index::parts(repo, log, 1));
    while let Some(part) = generation.next().await {
        match (part, &mut lost) {
            (Ok(delta), _) => add(log, &mut written, delta, &mut filling, parts).await?,
            (Err(error), Some(lost)) if error.is_damage() => lost.push(crate::repo::chain(&error)),
            (Err(error), _) => return Err(error),
        }
    }
    for epoch in log.open_epochs().filter(|epoch| *epoch < log.ended) {
        let mut listed = Listed::of(repo, log, epoch).await?;
        if let Some(at) = listed.problems.iter().position(Error::is_uncertain) {
            return Err(listed.problems.swap_remove(at));
        }
        let mut deltas = listed.deltas(repo, PARALLEL_GETS);
        while let Some(loaded) = deltas.next().await {
            match loaded {
                Ok((_, mut delta)) => {
                    delta.packs.iter_mut().for_each(|pack| pack.verified = false);
                    add(log, &mut written, delta, &mut filling, parts).await?;
                }
                Err(error) if error.is_uncertain() => return Err(error),
                Err(error) => {
                    tracing::warn!(error = crate::repo::chain(&error), "an index delta is left out")
                }
            }
        }
    }
    flush(&mut filling, parts).await
}

/// What was written of packs already. A pack that is named in two ways is written in both: one of them is false, and
/// only who reads the pack can tell which.
#[derive(Default)]
struct Written(HashSet<[u8; 16]>);

impl Written {
    fn is_new(&mut self, pack: &IndexPack) -> bool {
        let half = pack.naming().first_chunk().copied();
        self.0.insert(half.expect("16 of 32 bytes"))
    }
}

async fn add(
    log: &Log,
    written: &mut Written,
    delta: IndexDelta,
    filling: &mut Filling,
    parts: &mut Parts<'_>,
) -> Result<()> {
    for mut pack in delta.packs {
        if log.swept.contains(&pack.id) || !written.is_new(&pack) {
            continue;
        }
        pack.verified |= log.is_verified(&pack);
        if !filling.takes(&pack) {
            flush(filling, parts).await?;
        }
        filling.push(pack);
    }
    Ok(())
}

async fn flush(filling: &mut Filling, parts: &mut Parts<'_>) -> Result<()> {
    match filling.take() {
        Some(delta) => parts.put(delta.body(), false).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::keys::Role;
    use crate::format::log::{Action, Scope};
    use crate::repo::gc::{PruneSettings, prune, renew};
    use crate::repo::log::verify;
    use crate::repo::testing::repository;
    use crate::repo::{NewKey, Unlock, add_key, chain, hold, list_keys, open, remove_key};

    /// A repository with two maintainers; each of the three has another's memory of what was read.
    async fn three() -> [Repository; 3] {
        let owner = repository().await;
        let [mut keeper, mut thief] = [owner.clone(), owner.clone()];
        for (repo, name) in [(&mut keeper, "keeper"), (&mut thief, "thief")] {
            let key = add_key(&owner, &NewKey::of(Role::Maintainer, name)).await.unwrap();
            *repo = open(owner.store.clone(), &owner.world, &Unlock::KeyFile(key), None).await.unwrap();
        }
        [owner, keeper, thief]
    }

    async fn remove(owner: &Repository, name: &str) -> Result<()> {
        let slots = list_keys(owner).await?.slots(name)?;
        remove_key(owner, slots[0]).await
    }

    /// Condemns and sweeps nothing, and dies before the checkpoint.
    async fn sweep(repo: &Repository) -> u64 {
        let mut log = Log::load(repo).await.unwrap();
        let condemned = log.head + 1;
        log.append(repo, Action::Condemn { packs: vec![] }).await.unwrap();
        log.append(repo, Action::Sweep { condemned, packs: vec![] }).await.unwrap();
        assert_eq!(log.last_sweep, log.head);
        log.head
    }

    /// Creates the checkpoint of the last sweep, with a state that knows of no hold and of no revocation.
    async fn forge(thief: &Repository) {
        let log = Log::load(thief).await.unwrap();
        assert!(!log.is_published());
        let mut state = log.state.as_ref().clone();
        state.revoked.clear();
        state.holds.clear();
        let newest = log.base_slot();
        assert!(publish_state(thief, log, state, newest, None).await.unwrap());
    }

    fn is_told(told: Result<impl Sized>, by: &str) {
        let error = told.err().unwrap_or_else(|| panic!("{by} was told nothing"));
        let is_alarm = matches!(error, Error::Log { .. }) && chain(&error).contains("revoked before");
        assert!(is_alarm, "{by}: {}", chain(&error));
    }

    /// The story: a maintainer was removed, and went on to have its rights in the bucket. Behind another's sweep it was the
    /// first to create the checkpoint, without its revocation and without the holds, and everybody believed that.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_checkpoint_by_a_revoked_maintainer_that_says_nothing_of_that_is_built_on_by_nobody() {
        for older in 0..3 {
            let [owner, keeper, thief] = three().await;
            for _ in 0..older {
                sweep(&owner).await;
                let mut log = Log::load(&keeper).await.unwrap();
                catch_up(&keeper, &mut log).await.unwrap();
            }
            hold(&owner, Scope::All, "an auditor").await.unwrap();
            remove(&owner, "thief").await.unwrap();
            // A long-lived process that has read the log so far.
            let reader = open_again(&keeper);
            Log::load(&reader).await.unwrap();
            let swept = sweep(&keeper).await;
            forge(&thief).await;
            if older == 2 {
                // Its rights are those to delete, too: what it can be held against is taken away.
                let before = owner.store.list(object::CHECKPOINTS).await.unwrap();
                for found in before.iter().filter(|found| found.key != object::checkpoint_key(swept)) {
                    owner.store.delete(&found.key).await.unwrap();
                }
            }
            let before = owner.store.list("").await.unwrap();
            is_told(Log::load(&reader).await, "who has read the log before");
            let settings = PruneSettings::default();
            is_told(prune(&open_again(&keeper), settings, &|_| {}).await, "a prune");
            is_told(remove(&open_again(&owner), "keeper").await, "who removes another key");
            assert_eq!(owner.store.list("").await.unwrap(), before, "nothing was added or deleted");
            let wrong = verify(&owner).await.unwrap().expect("a check is told");
            assert!(wrong.contains("revoked before"), "{wrong}");

            let owner = open_again(&owner);
            assert!(renew(&owner, &settings, false).await.unwrap().refused.is_empty());
            assert_eq!(verify(&owner).await.unwrap(), None);
            let log = Log::load(&open_again(&keeper)).await.unwrap();
            let by = &thief.keys.certificate;
            assert!(log.is_revoked(by.key, by.serial) && log.state.holds.len() == 1, "all is back");
            prune(&open_again(&keeper), settings, &|_| {}).await.unwrap();
            remove(&owner, "keeper").await.unwrap();
        }
    }

    /// As another process has it: it has read nothing yet.
    fn open_again(repo: &Repository) -> Repository {
        Repository { latest: Default::default(), seen: Default::default(), ..repo.clone() }
    }

    /// The story: a job whose key was removed went on each night, and published what another had left.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_honest_maintainer_whose_key_was_removed_publishes_nothing() {
        let [owner, keeper, removed] = three().await;
        remove(&owner, "thief").await.unwrap();
        sweep(&keeper).await;
        let refused = prune(&removed, PruneSettings::default(), &|_| {}).await.unwrap_err();
        assert!(matches!(refused, Error::Revoked), "{}", chain(&refused));
        assert!(owner.store.list(object::CHECKPOINTS).await.unwrap().is_empty());
        prune(&keeper, PruneSettings::default(), &|_| {}).await.unwrap();
        Log::load(&open_again(&owner)).await.unwrap();
    }
}
