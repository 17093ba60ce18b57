//! The collector, steps 1 to 5 of the chapter's *Collector*, and *Publishing*.

mod owner;

use crate::config::{Config, Fault, Proposal};
use crate::listing::Listing;
use crate::log::{Entry, Log, Meaning};
use crate::sets::{Set, has, members, one, only, subsets};
use crate::store::{Checkpoint, Store};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum CollectorAt {
    #[default]
    Off,
    /// Step 1: reads the log; marks, takes over a plan, or publishes what nobody has.
    Begin,
    /// Step 1: creates the condemn.
    Condemn,
    /// Step 2.
    ListSessions,
    Fence,
    /// Step 3.
    ReadLog,
    ListCommits,
    LoadIndex,
    /// Step 4.
    Sweep,
    /// Step 5: publishing.
    ListEndedCommits,
    LoadGeneration,
    LookForNewer,
    CreateCheckpoint,
    /// Step 5: deleting.
    DeletePacks,
    Clean,
    /// Beginning anew, step 2.
    Renew,
    /// Ended: the mark could not read a snapshot that stays.
    Stuck,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Collector {
    pub at: CollectorAt,
    /// It is the owner, who begins anew.
    is_owner: bool,
    /// The head that was read last.
    head: u8,
    /// The slot of the plan's condemn.
    plan: u8,
    /// The number of the plan's sweep, once it stands.
    sweep: u8,
    /// D, then D′.
    doomed: Set,
    sessions: Set,
    checkpoint: u8,
    listing: Listing,
    commits: Set,
    packs: Set,
    rows: Set,
    /// Commits to be deleted, by their keys.
    gone: Set,
    /// The index of the first mark, where the second one uses it (a fault).
    stale: Option<(Set, Set)>,
}

impl Collector {
    pub fn new(is_on: bool) -> Self {
        Collector { at: if is_on { CollectorAt::Begin } else { CollectorAt::Off }, ..Collector::default() }
    }

    pub fn choices(&self, config: &Config, store: &Store, out: &mut Vec<u8>) {
        let listable =
            |all| Log::since(all, &store.epochs, store.first_listed(config, self.checkpoint, self.head));
        match self.at {
            CollectorAt::Off | CollectorAt::Stuck => {}
            CollectorAt::Begin if store.is_closed() => out.extend(owner::may_begin(config, store)),
            CollectorAt::Begin => self.proposals(config, store, out),
            // A slot that is taken: start again, or condemn the same behind it.
            CollectorAt::Condemn if !self.is_owner && store.log.head != self.head => out.extend([0, 1]),
            CollectorAt::ListCommits => self.listing.results(config, listable(store.commits), out),
            CollectorAt::LoadIndex => self.listing.results(config, listable(store.deltas), out),
            CollectorAt::ListEndedCommits => self.listing.results(config, store.commits, out),
            CollectorAt::LoadGeneration => self.listing.results(config, store.deltas, out),
            _ => out.push(0),
        }
    }

    /// What step 1 may do: 0 takes over or publishes, everything else is a D.
    fn proposals(&self, config: &Config, store: &Store, out: &mut Vec<u8>) {
        let meaning = store.meaning(config, store.newest(), store.log.head);
        let takes_over = meaning.open != 0 && !config.has(Fault::TwoOpenPlans);
        if takes_over && config.has(Fault::PlanNotTakenOver) {
            return;
        }
        if takes_over || store.newest() < meaning.ended {
            out.push(0);
        }
        let is_waiting = store.newest() < meaning.ended && !config.has(Fault::CondemnBeforeCheckpoint);
        if takes_over || is_waiting || meaning.epoch >= config.plans || meaning.second != 0 {
            return;
        }
        let fresh = store.fresh(config);
        let live = store.live(fresh.counted);
        let copies = fresh.indexed & !fresh.meaning.damaged;
        let lets_go =
            |doomed: Set| store.chunks(doomed & fresh.indexed) & live & !store.chunks(copies & !doomed) == 0;
        let greedy = |packs: &mut dyn Iterator<Item = u8>| {
            packs.fold(0, |all, pack| if lets_go(all | one(pack)) { all | one(pack) } else { all })
        };
        let kept = if config.has(Fault::UnindexedPacksKept) { !fresh.indexed } else { 0 };
        let up = greedy(&mut members(store.packs & !kept));
        let first = out.len();
        match config.proposal {
            _ if live & !store.chunks(fresh.indexed) != 0 => {}
            Proposal::Any => out.extend(subsets(store.packs)),
            Proposal::Greedy => out.push(up),
            Proposal::GreedyBothWays => {
                let mut packs: Vec<u8> = members(store.packs).collect();
                packs.reverse();
                out.push(up);
                let down = greedy(&mut packs.into_iter());
                if down != up {
                    out.push(down);
                }
            }
        }
        if out[first..].first() == Some(&0) {
            out.remove(first);
        }
    }

    pub fn step(&mut self, config: &Config, store: &mut Store, choice: u8) {
        match self.at {
            CollectorAt::Off | CollectorAt::Stuck => {}
            CollectorAt::Begin if store.is_closed() => self.begin_anew(store),
            CollectorAt::Begin => self.begin(config, store, choice),
            CollectorAt::Renew => self.renew(config, store),
            CollectorAt::Condemn if self.is_owner => self.condemn_nothing(store),
            CollectorAt::Condemn => self.condemn(config, store, choice == 1),
            CollectorAt::ListSessions => {
                self.sessions = self.unresolved(config, store, self.plan);
                self.at = if self.sessions == 0 { self.mark(config) } else { CollectorAt::Fence };
            }
            CollectorAt::Fence => {
                let session = self.sessions.trailing_zeros() as u8;
                if !store.is_resolved(session) {
                    store.fences |= one(session);
                }
                self.sessions &= !one(session);
                if self.sessions == 0 {
                    self.at = self.mark(config);
                }
            }
            CollectorAt::ReadLog if self.is_owner => self.read_what_is_left(config, store),
            CollectorAt::ReadLog => self.read_log(config, store),
            CollectorAt::ListCommits | CollectorAt::LoadIndex => self.open(config, store, choice),
            CollectorAt::Sweep if self.is_owner => self.sweep_nothing(config, store),
            CollectorAt::Sweep => self.sweep(config, store),
            CollectorAt::ListEndedCommits | CollectorAt::LoadGeneration => {
                self.load_generation(config, store, choice);
            }
            CollectorAt::LookForNewer => {
                self.at = if store.newest() == self.checkpoint {
                    CollectorAt::CreateCheckpoint
                } else {
                    CollectorAt::ListEndedCommits
                };
                if self.at == CollectorAt::ListEndedCommits {
                    self.publish(config, store);
                }
            }
            CollectorAt::CreateCheckpoint => self.create_checkpoint(config, store),
            CollectorAt::DeletePacks => self.delete_packs(config, store),
            CollectorAt::Clean => self.clean(config, store),
        }
    }

    /// What step 1 decided.
    fn begin(&mut self, config: &Config, store: &Store, choice: u8) {
        let meaning = store.meaning(config, store.newest(), store.log.head);
        if choice != 0 {
            let fresh = store.fresh(config);
            self.at = CollectorAt::Condemn;
            (self.head, self.doomed) = (store.log.head, choice);
            if config.has(Fault::IndexNotReloaded) {
                self.stale = Some((fresh.indexed, fresh.indexed));
            }
            if config.has(Fault::SessionsListedBeforeCondemn) {
                self.sessions = only(Set::MAX, |session| {
                    session < store.sessions
                        && store.epoch_of(session) == meaning.epoch
                        && !store.is_resolved(session)
                });
            }
        } else if meaning.open != 0 && !config.has(Fault::TwoOpenPlans) {
            self.resume(config, store, meaning.open);
        } else {
            self.sweep = meaning.ended;
            self.publish(config, store);
        }
    }

    fn resume(&mut self, config: &Config, store: &Store, plan: u8) {
        let needs_doomed = [Fault::NoSecondMark, Fault::DeletionBeforeSweep];
        *self = Collector { at: CollectorAt::ListSessions, plan, stale: self.stale, ..Collector::default() };
        if needs_doomed.iter().any(|fault| config.has(*fault)) {
            self.doomed = store.log.condemned_by(plan);
        }
    }

    fn condemn(&mut self, config: &Config, store: &mut Store, is_late: bool) {
        let meaning = store.truth(config, store.log.head);
        let is_published = store.newest() >= meaning.ended || config.has(Fault::CondemnBeforeCheckpoint);
        let may_be_late = is_late
            && !store.is_closed()
            && is_published
            && meaning.open == 0
            && meaning.epoch < config.plans;
        if (store.log.head != self.head && !may_be_late) || store.log.is_full() {
            *self = Collector::new(true);
            return;
        }
        store.log.push(Entry::Condemn(self.doomed));
        let sessions = self.sessions;
        self.resume(config, store, store.log.head);
        if config.has(Fault::SessionsListedBeforeCondemn) {
            self.sessions = sessions;
            self.at = if sessions == 0 { self.mark(config) } else { CollectorAt::Fence };
        }
    }

    /// Sessions of the epoch that the condemn in slot `plan` closed, without commit or fence.
    fn unresolved(&self, config: &Config, store: &Store, plan: u8) -> Set {
        if self.is_owner {
            return self.unresolved_below(config, store);
        }
        let closed = store.truth(config, plan).epoch.saturating_sub(1);
        only(Set::MAX, |session| {
            session < store.sessions && store.epoch_of(session) == closed && !store.is_resolved(session)
        })
    }

    /// Where the second mark begins.
    fn mark(&self, config: &Config) -> CollectorAt {
        if config.has(Fault::NoSecondMark) { CollectorAt::Sweep } else { CollectorAt::ReadLog }
    }

    fn read_log(&mut self, config: &Config, store: &Store) {
        if store.is_closed() {
            *self = Collector::new(true);
            return;
        }
        self.head = store.log.head;
        self.checkpoint = store.newest();
        let truth = store.truth(config, self.head);
        if config.has(Fault::SweepOfPlanNotWaitedFor) && truth.open != 0 {
            self.plan = truth.open;
        }
        if truth.open != self.plan && truth.second != self.plan {
            match self.sweep_of(config, store) {
                Some(sweep) => {
                    self.sweep = sweep;
                    self.publish(config, store);
                }
                None => *self = Collector::new(true),
            }
        } else if config.has(Fault::IndexBeforeCommits) {
            self.at = CollectorAt::LoadIndex;
        } else {
            self.at = CollectorAt::ListCommits;
        }
    }

    /// The number of this plan's sweep; none if its condemn is lost.
    fn sweep_of(&self, config: &Config, store: &Store) -> Option<u8> {
        let is_ours = |slot: &u8| match store.log.entry(*slot) {
            Entry::Sweep { of, .. } | Entry::SweepAnew { of, .. } => of == self.plan,
            _ => false,
        };
        if store.log.is_lost(self.plan) {
            return None;
        }
        let slot = (1..=store.log.head).find(is_ours).expect("a plan that is not open has a sweep");
        Some(store.truth(config, slot).ended)
    }

    /// Step 3: commits, then the index, then the mark.
    fn open(&mut self, config: &Config, store: &Store, choice: u8) {
        let first = store.first_listed(config, self.checkpoint, self.head);
        let is_index_first = config.has(Fault::IndexBeforeCommits);
        if self.at == CollectorAt::ListCommits {
            let now = Log::since(store.commits, &store.epochs, first);
            let Some(commits) = self.listing.step(config, now, choice) else { return };
            self.commits = commits;
            if is_index_first {
                self.second_mark(config, store);
            } else {
                self.at = CollectorAt::LoadIndex;
            }
            return;
        }
        let now = Log::since(store.deltas, &store.epochs, first);
        let Some(deltas) = self.listing.step(config, now, choice) else { return };
        if store.newest() != self.checkpoint {
            (self.commits, self.at) = (0, CollectorAt::ReadLog);
            return;
        }
        let meaning = store.meaning(config, self.checkpoint, self.head);
        let counts = |session: u8| {
            has(self.commits, session)
                || store.epoch_of(session) >= meaning.ended
                || config.has(Fault::LateDeltaIsCopy)
        };
        let indexed = store.indexed(self.checkpoint, deltas);
        let trusted = store.indexed(self.checkpoint, only(deltas, counts));
        (self.packs, self.rows) = self.stale.unwrap_or((indexed, trusted));
        if is_index_first {
            self.at = CollectorAt::ListCommits;
        } else {
            self.second_mark(config, store);
        }
    }

    /// Step 3: which packs of D may go. `packs` has what is indexed, `rows` what of it may be taken for a copy.
    fn second_mark(&mut self, config: &Config, store: &Store) {
        let meaning = store.meaning(config, self.checkpoint, self.head);
        let counted = store.counted(config, self.checkpoint, self.commits, &meaning);
        let live = store.live(counted);
        let doomed = store.log.condemned_by(self.plan);
        let mut copies = self.rows;
        if !config.has(Fault::SweptCopy) {
            copies &= !meaning.swept;
        }
        if !config.has(Fault::CopyInsidePlan) {
            copies &= !doomed;
        }
        if !config.has(Fault::DamagedCopy) {
            copies &= !meaning.damaged;
        }
        let covered = store.chunks(copies);
        let known = store.chunks(self.packs & !meaning.swept);
        let unread = only(counted, |snapshot| store.needs[usize::from(snapshot)] & !known != 0);
        if unread != 0 && self.stale.is_none() {
            *self = Collector::new(true);
            if unread & !store.truth(config, store.log.head).forgotten != 0 {
                self.at = CollectorAt::Stuck;
            }
            return;
        }
        let known = self.packs;
        let may_go = |pack: u8| !has(known, pack) || store.contents[usize::from(pack)] & live & !covered == 0;
        self.doomed = only(doomed, may_go);
        (self.commits, self.packs, self.rows, self.checkpoint) = (0, 0, 0, 0);
        let is_early = config.has(Fault::DeletionBeforeSweep);
        self.at = if is_early { CollectorAt::DeletePacks } else { CollectorAt::Sweep };
    }

    fn sweep(&mut self, config: &Config, store: &mut Store) {
        let meaning = store.truth(config, store.log.head);
        let is_open = meaning.open == self.plan || meaning.second == self.plan;
        let needs_head = [Fault::SweepBehindUnreadRecall, Fault::NoSecondMark];
        // What only lets go of more has no need to be looked at.
        let needs_no_look = |slot| matches!(store.log.entry(slot), Entry::Forget(_) | Entry::Observe);
        let is_read = (self.head + 1..=store.log.head).all(needs_no_look)
            || needs_head.iter().any(|fault| config.has(*fault));
        if store.log.is_full() {
            *self = Collector::default();
        } else if is_open && is_read {
            store.log.push(Entry::Sweep { of: self.plan, packs: self.doomed });
            self.sweep = meaning.ended + 1;
            self.publish(config, store);
        } else {
            (self.at, self.doomed) = (CollectorAt::ReadLog, 0);
        }
    }

    /// Begins to publish what stands for the log up to sweep number `sweep`, or to delete if that is done.
    fn publish(&mut self, config: &Config, store: &Store) {
        if store.is_closed() || self.is_owner {
            *self = Collector::new(true);
            return;
        }
        let newest = store.newest();
        let is_there = newest >= self.sweep;
        let at = if is_there { CollectorAt::DeletePacks } else { CollectorAt::ListEndedCommits };
        let is_old = config.has(Fault::OlderCheckpoint);
        let checkpoint = match is_there {
            true => 0,
            false => newest.saturating_sub(u8::from(is_old)),
        };
        *self = Collector { at, sweep: self.sweep, checkpoint, ..Collector::default() };
        self.gone = self.gone_commits(config, store);
    }

    /// The commits that a checkpoint of this sweep lets go.
    fn gone_commits(&self, config: &Config, store: &Store) -> Set {
        let gone = store.log.at_sweep(self.sweep, config.has(Fault::TwoOpenPlans)).gone;
        let early = config.has(Fault::GoneCommitDeletedEarly);
        only(gone, |session| early || store.epoch_of(session) < self.sweep)
    }

    fn at_sweep(&self, config: &Config, store: &Store) -> Meaning {
        let slot = store.log.at_sweep(self.sweep, config.has(Fault::TwoOpenPlans)).head;
        store.meaning(config, self.checkpoint, slot)
    }

    /// Commits, then deltas, of the epochs that have ended since the checkpoint that is built on.
    fn load_generation(&mut self, config: &Config, store: &Store, choice: u8) {
        let ended = |session: u8| (self.checkpoint..self.sweep).contains(&store.epoch_of(session));
        let meaning = self.at_sweep(config, store);
        if self.at == CollectorAt::ListEndedCommits {
            let rows = store.checkpoint(self.checkpoint).rows;
            let Some(commits) = self.listing.step(config, store.commits, choice) else { return };
            self.rows = (rows | only(commits, ended)) & !meaning.gone;
            self.commits = store.checkpoint(self.checkpoint).chain | only(commits, ended);
            self.at = CollectorAt::LoadGeneration;
            return;
        }
        let Some(deltas) = self.listing.step(config, store.deltas, choice) else { return };
        self.packs = store.indexed(self.checkpoint, only(deltas, ended)) & !meaning.swept;
        self.at = if config.has(Fault::DeltasDeletedFirst) {
            CollectorAt::Clean
        } else if config.has(Fault::OlderCheckpoint) {
            CollectorAt::CreateCheckpoint
        } else {
            CollectorAt::LookForNewer
        };
    }

    fn create_checkpoint(&mut self, config: &Config, store: &mut Store) {
        if store.newest() < self.sweep {
            let open = |session: u8| store.epoch_of(session) >= self.sweep;
            let mut gone = only(self.at_sweep(config, store).gone, open);
            if config.has(Fault::ForgetsOfOpenEpochsLost) {
                gone = 0;
            }
            store.checkpoints[usize::from(self.sweep)] =
                Checkpoint { is_there: true, packs: self.packs, rows: self.rows, gone, chain: self.commits };
        }
        (self.packs, self.rows, self.commits, self.checkpoint) = (0, 0, 0, 0);
        (self.at, self.is_owner) = (CollectorAt::DeletePacks, false);
    }

    fn delete_packs(&mut self, config: &Config, store: &mut Store) {
        if self.sweep == 0 {
            store.packs &= !self.doomed;
            self.at = CollectorAt::Sweep;
            return;
        }
        store.packs &= !store.log.at_sweep(self.sweep, config.has(Fault::TwoOpenPlans)).swept;
        self.at = CollectorAt::Clean;
        if config.has(Fault::DeltasDeletedFirst) {
            *self = Collector::new(true);
        }
    }

    /// Deletes what a checkpoint stands for, and older checkpoints (the chapter keeps one more).
    fn clean(&mut self, config: &Config, store: &mut Store) {
        let ended = only(Set::MAX, |session| store.epoch_of(session) < self.sweep);
        store.deltas &= !ended;
        store.commits &= !self.gone;
        store.fences &= !self.gone;
        if config.has(Fault::FenceRemoved) {
            store.fences &= !ended;
        }
        for older in 1..store.newest().min(self.sweep) {
            store.checkpoints[usize::from(older)] = Checkpoint::default();
        }
        if config.has(Fault::DeltasDeletedFirst) {
            self.at = CollectorAt::CreateCheckpoint;
        } else {
            *self = Collector::new(true);
        }
    }
}
