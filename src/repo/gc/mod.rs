//! Pruning: the space of what nothing needs any more comes back.
//!
//! Spec: chapter 11. Condemn → resolve → sweep → publish → delete, without a lock: any number of writers and of other
//! prunes may be at work, and each prune takes up what another has left.

mod copies;
mod delete;
mod mark;
mod plan;
mod publish;
mod renew;
mod repack;
mod resolve;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::format::id::{PackId, SessionId};
use crate::format::limits;
use crate::format::log::Action;
use crate::repo::bits::Bits;
use crate::repo::gc::copies::{Copies, by_maintainers};
use crate::repo::gc::mark::mark;
use crate::repo::gc::plan::{Seen, Stays, plan, sweepable};
use crate::repo::index::{Index, ListedPack, listed_packs};
use crate::repo::snapshots::resolved_after;
use crate::repo::{Appended, Error, Log, Reader, Repository, Result, Snapshots};
pub(super) use copies::is_for_all;
pub use plan::{Limits, PrunePlan};
pub use renew::{Renewed, renew};

/// How often a decision is made anew because the log has moved meanwhile.
const ATTEMPTS: usize = 32;
/// Epochs are closed, and the index is compacted, when so many sessions or deltas lie in the open one, even if there is
/// nothing to delete.
const COMPACT_SESSIONS: usize = 256;

/// A session that has shown no sign of life for so long is taken for dead, unless somebody says otherwise.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// How a prune goes about.
#[derive(Clone, Copy, Debug)]
pub struct PruneSettings {
    pub limits: Limits,
    /// A session that has shown no sign of life for so long is fenced.
    pub silence: Duration,
    /// How long to wait for sessions that are at work. After that the prune ends, and the next one goes on with it.
    pub patience: Duration,
    /// How long packs that were swept stay for readers that have loaded their index before, from their sweep on.
    pub grace: Duration,
}

impl Default for PruneSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            silence: SILENCE,
            patience: Duration::from_secs(60 * 60),
            grace: Duration::ZERO,
        }
    }
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What was to be done; none if another's plan was taken up.
    pub plan: Option<PrunePlan>,
    /// Packs that nothing needs any more, and their bytes.
    pub swept_packs: u64,
    pub swept_bytes: u64,
    /// Sessions that had gone silent and were fenced.
    pub fenced: u64,
    /// Packs of this sweep and of those before that stay until the grace is over: a later prune deletes them.
    pub waiting: u64,
    /// What the store would not delete yet: the next prune tries again.
    pub retained: u64,
    /// Why it ended before its end.
    pub left: Option<Left>,
}

/// What is told while a prune goes on.
pub enum PruneStep<'a> {
    /// What is about to be done. Not told if another's plan is taken up.
    Planned(&'a PrunePlan),
    /// So many bytes more of packs were read to be copied.
    Copied(u64),
}

/// What a prune has left for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// So many sessions are still at work.
    Sessions(u64),
}

/// All that a decision is made from.
struct Look {
    log: Log,
    snapshots: Snapshots,
    reader: Arc<Reader>,
    live: Arc<Bits>,
    listed: HashMap<PackId, ListedPack>,
    running: HashSet<SessionId>,
    running_since: Option<i64>,
    committed: HashSet<SessionId>,
    /// Sessions of the epochs that no checkpoint stands for yet.
    open_sessions: usize,
    copies: Arc<Copies>,
}

impl Look {
    /// Log, commits, index, marks, in this order. Refuses to go on where something is missing.
    async fn take(repo: &Repository, silence: Duration) -> Result<Self> {
        let (listed, mut log) = tokio::try_join!(listed_packs(repo), Log::load(repo))?;
        let ids = resolved_after(repo, &mut log).await?;
        let resolved: HashSet<SessionId> = ids.iter().copied().collect();
        let (mut snapshots, (mut index, by)) =
            tokio::try_join!(Snapshots::load_ids(repo, &log, &ids), Index::load_by_log(repo, log.clone()))?;
        // After the index: a session whose deltas are in it is seen.
        let (running, running_since) = resolve::running(repo, &log, &resolved, silence).await?;
        if by.head != log.head {
            return Err(Error::Moving);
        }
        let problems = std::mem::take(&mut snapshots.problems).into_iter();
        if let Some(problem) = problems.chain(std::mem::take(&mut index.problems)).next() {
            return Err(unsound(problem));
        }
        refuse_gaps(&snapshots)?;
        let open_sessions = resolved.len().saturating_sub(log.state.rows.len());
        let committed = snapshots.committed();
        let reader = Arc::new(Reader::new(repo, Arc::new(index)));
        let roots = snapshots.all.iter().flat_map(|snapshot| &snapshot.commit.roots).map(|root| root.node);
        let live = match mark(&reader, roots).await {
            Ok(live) => Arc::new(live),
            Err(error) => return Err(unsound(error)),
        };
        let index = reader.index();
        // What is copied and what goes has to be known: of the rest each place stays.
        let focus = match &log.plan {
            Some(open) => index.numbers_of(&open.packs),
            None => by_maintainers(index),
        };
        let copies = Arc::new(Copies::load(repo, index, (&live, &focus), &listed).await?);
        Ok(Self {
            log,
            snapshots,
            reader,
            live,
            listed,
            running,
            running_since,
            committed,
            open_sessions,
            copies,
        })
    }

    /// The same, taken anew while the log moves.
    async fn settled(repo: &Repository, silence: Duration) -> Result<Self> {
        let mut before: Option<Log> = None;
        for _ in 0..ATTEMPTS {
            let taken = Self::take(repo, silence).await;
            let is_final = match (&taken, &before) {
                (Err(Error::Moving), _) => false,
                // What was missing may have been swept, or deleted, by another while this one looked. And of two commits
                // that come while a list is made, it may show the second only: so it looks twice.
                (Err(Error::Unsound { .. }), None) => false,
                (Err(Error::Unsound { .. }), Some(before)) => before.is_still(repo).await?,
                _ => true,
            };
            if is_final {
                return taken;
            }
            before = Some(Log::load(repo).await?);
        }
        Err(Error::Moving)
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            index: self.reader.index(),
            log: &self.log,
            live: &self.live,
            listed: &self.listed,
            running: &self.running,
            running_since: self.running_since,
            committed: &self.committed,
            copies: &self.copies,
        }
    }
}

/// What a prune would do now. None if another's is under way, and would be taken up.
pub async fn prune_plan(repo: &Repository, limits: Limits) -> Result<Option<PrunePlan>> {
    may_maintain(repo)?;
    let look = Look::settled(repo, SILENCE).await?;
    let seen = look.seen();
    Ok(look.log.plan.is_none().then(|| plan(&seen, &Stays::new(&seen), limits)))
}

/// What stands in the way of a prune: a store that gives no answer is told as that, all else is damage.
fn unsound(error: Error) -> Error {
    match error.is_inconclusive() {
        true => error,
        false => Error::Unsound { what: crate::repo::chain(&error) },
    }
}

/// A commit that was taken away is an alarm, and nothing is deleted, nor fenced where it was.
fn refuse_gaps(snapshots: &Snapshots) -> Result<()> {
    match snapshots.gaps().first() {
        None => Ok(()),
        Some(name) => {
            let what = format!("the commit that its writer made before snapshot {name} is missing");
            Err(Error::Unsound { what })
        }
    }
}

pub(super) fn may_maintain(repo: &Repository) -> Result<()> {
    let nothing = Action::Observe { sessions: Vec::new() };
    match nothing.authors().contains(&repo.keys.role) {
        true => Ok(()),
        false => Err(repo.keys.lacks("maintainer")),
    }
}

/// Prunes. Ends with an error at any point without harm: whoever prunes next goes on with it.
pub async fn prune(
    repo: &Repository,
    settings: PruneSettings,
    told: &(dyn Fn(PruneStep<'_>) + Sync),
) -> Result<Pruned> {
    may_maintain(repo)?;
    let mut pruned = Pruned::default();
    let mut log = Log::load(repo).await?;
    if !log.is_published() {
        // Whose sweep this was has ended before it was published, or its checkpoint was taken away, and deltas that it
        // stood for are gone: nothing is published that lacks what is needed.
        Look::settled(repo, settings.silence).await?;
    }
    publish::catch_up(repo, &mut log).await?;
    delete::pending(repo, &log, settings.grace, &mut pruned).await?;
    if log.plan.is_none() && !condemn(repo, &settings, told, &mut pruned).await? {
        return Ok(pruned);
    }
    let mut log = Log::load(repo).await?;
    let Some(slot) = log.plan.as_ref().map(|open| open.slot) else { return Ok(pruned) };
    let closed = log.ended..log.epoch;
    if pruned.plan.is_none() {
        // Another's plan: nobody here has looked yet.
        let mut snapshots = Snapshots::load(repo).await?;
        if !snapshots.gaps().is_empty() {
            snapshots = Snapshots::load(repo).await?;
            snapshots.check_given()?;
            refuse_gaps(&snapshots)?;
        }
    }
    tracing::debug!(slot, ?closed, "waiting for the sessions of the epochs");
    for epoch in closed {
        match resolve::resolve(repo, epoch, &settings, |_| false).await? {
            resolve::Resolved::All { fenced } => pruned.fenced += fenced,
            resolve::Resolved::Waiting { sessions, fenced } => {
                pruned.fenced += fenced;
                pruned.left = Some(Left::Sessions(sessions));
                return Ok(pruned);
            }
        }
    }
    (pruned.swept_packs, pruned.swept_bytes) = sweep(repo, slot).await?;
    log = Log::load(repo).await?;
    publish::catch_up(repo, &mut log).await?;
    delete::pending(repo, &log, settings.grace, &mut pruned).await?;
    Ok(pruned)
}

/// Makes a plan and condemns. False if there is nothing to be done.
async fn condemn(
    repo: &Repository,
    settings: &PruneSettings,
    told: &(dyn Fn(PruneStep<'_>) + Sync),
    pruned: &mut Pruned,
) -> Result<bool> {
    let look = Look::settled(repo, settings.silence).await?;
    let stays = Arc::new(Stays::new(&look.seen()));
    let made = plan(&look.seen(), &stays, settings.limits);
    told(PruneStep::Planned(&made));
    let copied = match made.repack.is_empty() {
        true => BTreeSet::new(),
        false => {
            let groups = made.repack.clone();
            repack::repack(repo, look.reader.index(), &look.live, stays, groups, &|bytes| {
                told(PruneStep::Copied(bytes))
            })
            .await?
        }
    };
    let worth = !made.unused.is_empty()
        || !copied.is_empty()
        || !look.snapshots.forgotten.is_empty()
        || look.open_sessions >= COMPACT_SESSIONS;
    let packs: BTreeSet<PackId> = made.unused.iter().copied().chain(copied).collect();
    pruned.plan = Some(made);
    if !worth {
        return Ok(false);
    }
    // What was condemned is looked at again before it goes, so a log that has moved needs no new plan.
    let packs: Vec<PackId> = packs.into_iter().take(limits::LOG_IDS).collect();
    let mut log = look.log;
    for _ in 0..ATTEMPTS {
        if log.plan.is_some() {
            return Ok(true);
        }
        // Each checkpoint has to be built on the one before it: nobody condemns behind a sweep that has none yet.
        if !log.is_published() {
            publish::catch_up(repo, &mut log).await?;
            continue;
        }
        if let Appended::Mine(_) = log.append(repo, Action::Condemn { packs: packs.clone() }).await? {
            return Ok(true);
        }
    }
    Err(Error::Moving)
}

/// The second mark, and the sweep of the plan whose sessions were resolved. Gives how many packs go, and their bytes.
///
/// Another may have swept that plan meanwhile and condemned anew: of that plan's sessions nobody here has waited for any.
async fn sweep(repo: &Repository, resolved: u64) -> Result<(u64, u64)> {
    for _ in 0..ATTEMPTS {
        let mut look = Look::settled(repo, SILENCE).await?;
        let Some(open) = look.log.plan.clone().filter(|open| open.slot == resolved) else {
            return Ok((0, 0));
        };
        let packs: Vec<PackId> = sweepable(&look.seen(), &open.packs).into_iter().collect();
        let bytes = packs.iter().filter_map(|pack| look.listed.get(pack)).map(|found| found.size).sum();
        let count = packs.len() as u64;
        let (seen, sweep) = (look.log.head, Action::Sweep { condemned: open.slot, packs });
        // What came meanwhile is looked at first; but where others never rest it must not be waited for what decides nothing.
        for _ in 0..ATTEMPTS {
            if let Appended::Mine(_) = look.log.append(repo, sweep.clone()).await? {
                return Ok((count, bytes));
            }
            if !look.log.stands_since(seen) {
                break;
            }
        }
    }
    Err(Error::Moving)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::checkpoint::Row;
    use crate::format::id::{KeyId, SourceId};
    use crate::format::object;
    use crate::repo::begin;
    use crate::repo::log::newest_checkpoint;
    use crate::repo::testing::repository;
    use crate::store::Verb;
    use crate::store::testing::{Log as Recorded, Recording};
    use crate::world::Time;

    /// The story: a prune had waited for the sessions of its plan; another had swept that plan and condemned anew before
    /// the first one's second mark, which then swept a plan whose sessions were still at work.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_prune_sweeps_no_plan_but_the_one_whose_sessions_it_has_waited_for() {
        let repo = repository().await;
        let mut log = Log::load(&repo).await.unwrap();
        log.append(&repo, Action::Condemn { packs: vec![] }).await.unwrap();
        let first = log.plan.as_ref().unwrap().slot;
        log.append(&repo, Action::Sweep { condemned: first, packs: vec![] }).await.unwrap();
        publish::catch_up(&repo, &mut log).await.unwrap();
        // A session of the epoch that the second plan closes is still at work.
        begin(&repo, 1).await.unwrap();
        let mut log = Log::load(&repo).await.unwrap();
        log.append(&repo, Action::Condemn { packs: vec![] }).await.unwrap();
        let second = log.plan.as_ref().unwrap().slot;
        assert_eq!(sweep(&repo, first).await.unwrap(), (0, 0));
        let log = Log::load(&repo).await.unwrap();
        assert_eq!(log.plan.map(|open| open.slot), Some(second), "the second plan is still open");
    }

    /// What a backup's start asks the store for, when so many commits have a row.
    async fn requests_to_begin(commits: u32) -> (usize, usize) {
        let mut repo = repository().await;
        let mut log = Log::load(&repo).await.unwrap();
        log.append(&repo, Action::Condemn { packs: vec![] }).await.unwrap();
        log.append(&repo, Action::Sweep { condemned: 1, packs: vec![] }).await.unwrap();
        let mut seed = [0; 12];
        Arc::make_mut(&mut log.state).rows = (0..commits)
            .map(|number| {
                seed[..4].copy_from_slice(&number.to_be_bytes());
                let row = Row {
                    digest: [7; 32],
                    key: KeyId([9; 16]),
                    serial: 0,
                    sequence: u64::from(number),
                    time: Time(i64::from(number)),
                    source: SourceId([3; 16]),
                    class: Vec::new(),
                    complete: true,
                    held: false,
                };
                (SessionId::new(0, seed), row)
            })
            .collect();
        assert!(publish::publish(&repo, log).await.unwrap());
        let recorded = Recorded::default();
        repo.store = repo.store.decorated(|inner| Recording::over(inner, &recorded));
        let begun = begin(&repo, 1).await.unwrap();
        let (before, _) = begun.load_before(&repo).await.unwrap();
        assert!(before.all.is_empty() && before.problems.is_empty());
        // The state is read in parts of 16 MiB; nothing else grows.
        let parts = (u64::from(commits) * 102).div_ceil(16 << 20) as usize;
        (recorded.count(Verb::List), recorded.count(Verb::Get) - parts)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_begins_with_as_many_requests_with_five_million_commits_as_with_one() {
        let one = requests_to_begin(1).await;
        assert!(one.0 <= 9 && one.1 <= 35, "{one:?}");
        assert_eq!(requests_to_begin(5_000_000).await, one);
    }

    /// The story: a generation was followed by one that was not built on it, and a pack that only the first one named
    /// was taken for a copy.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_condemns_behind_a_sweep_that_has_no_checkpoint() {
        let repo = repository().await;
        // Something to condemn: a pack that no index names.
        repo.store.put(&object::pack_key(PackId([7; 16])), vec![0; 1000].into()).await.unwrap();
        let mut log = Log::load(&repo).await.unwrap();
        log.append(&repo, Action::Condemn { packs: vec![] }).await.unwrap();
        let condemned = log.plan.as_ref().unwrap().slot;
        log.append(&repo, Action::Sweep { condemned, packs: vec![] }).await.unwrap();
        assert_eq!(newest_checkpoint(&repo).await.unwrap(), None);
        let mut pruned = Pruned::default();
        assert!(condemn(&repo, &PruneSettings::default(), &|_| {}, &mut pruned).await.unwrap());
        assert_eq!(newest_checkpoint(&repo).await.unwrap(), Some(log.last_sweep));
        let plan = Log::load(&repo).await.unwrap().plan.unwrap();
        assert!(plan.slot > log.last_sweep && plan.packs.contains(&PackId([7; 16])));
    }
}
