//! What a run of the model consists of: who takes part, with how much to do, and which rule is taken away.

use crate::sets::Set;
use crate::store::Store;

/// A rule that is taken away, or a mistake that is built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    // Writers.
    LogReadBeforeSession,
    PackNameUsedTwice,
    DedupOntoCondemned,
    DedupOntoSwept,
    CacheNotFiltered,
    RecheckBeforeSession,
    DedupOntoForeignDelta,
    GoesOnInClosedEpoch,
    CondemnedPacksNamedAgain,
    DedupOntoDamaged,
    DamagedPacksNamedAgain,
    // Collectors.
    NoSecondMark,
    FenceRemoved,
    DeletionBeforeSweep,
    IndexNotReloaded,
    CopyInsidePlan,
    SweptCopy,
    TwoOpenPlans,
    SweepBehindUnreadRecall,
    SweepOfPlanNotWaitedFor,
    SessionsListedBeforeCondemn,
    IndexBeforeCommits,
    LateDeltaIsCopy,
    DamagedCopy,
    /// Comes with `SweptCopy` and `LateDeltaIsCopy` too: where each sweep has its checkpoint before the next condemn,
    /// those two rules have nothing left to prevent.
    CondemnBeforeCheckpoint,
    UnindexedPacksKept,
    PlanNotTakenOver,
    // The owner, who begins anew.
    RenewSaysNoEpoch,
    OlderEpochsNotWaitedFor,
    RenewNotHeeded,
    // Publishing.
    OlderCheckpoint,
    DeltasDeletedFirst,
    GoneCommitDeletedEarly,
    ForgetsOfOpenEpochsLost,
    DamagedLost,
    // Readers.
    EndedEpochNotListed,
    LogReadBeforeCommits,
    GapNotAskedFor,
    SingleRetry,
}

/// What a writer does in one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// A snapshot of these chunks.
    Snapshot(Set),
    /// A repack: these chunks are copied, and a commit of kind 3 is made.
    Repack(Set),
}

/// Which packs a collector condemns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proposal {
    /// All that the first mark lets go, by ascending pack.
    Greedy,
    /// The same, or by descending pack: of two copies either may be the one to go.
    GreedyBothWays,
    /// Any packs at all, live ones too: the plan is only a proposal.
    Any,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub name: &'static str,
    pub start: Store,
    pub writers: Vec<Vec<Task>>,
    pub collectors: usize,
    pub reader: bool,
    /// How many plans there can be, how many sessions.
    pub plans: u8,
    pub sessions: u8,
    pub proposal: Proposal,
    /// Sessions whose snapshots the maintainer may forget; how often it forgets, how often it recalls.
    pub forgettable: Set,
    pub forgets: usize,
    pub recalls: usize,
    /// Lists take time: they may or may not see what comes or goes meanwhile.
    pub paged: bool,
    /// A writer may lose the answer to its commit, and ask again.
    pub doubt: bool,
    /// How many requests of earlier arrive a second time, late.
    pub echoes: u8,
    /// Whether a pack may be found damaged: any of them, at any time, once.
    pub damage: bool,
    /// Whether an entry of the log may be lost, once: an observe, or the condemn of the open plan. Then the owner begins
    /// the history anew, so often at most.
    pub renews: usize,
    /// Each state is also looked at with the question whether one collector alone can clean up.
    pub settle: bool,
    pub fault: Option<Fault>,
}

impl Config {
    pub fn new(name: &'static str, start: Store) -> Self {
        Config {
            name,
            start,
            writers: Vec::new(),
            collectors: 1,
            reader: false,
            plans: 1,
            sessions: 4,
            proposal: Proposal::Greedy,
            forgettable: 0,
            forgets: 0,
            recalls: 0,
            paged: false,
            doubt: false,
            echoes: 0,
            damage: false,
            renews: 0,
            settle: false,
            fault: None,
        }
    }

    pub fn has(&self, fault: Fault) -> bool {
        let implies = [Fault::LateDeltaIsCopy, Fault::SweptCopy];
        let is_implied = fault == Fault::CondemnBeforeCheckpoint;
        self.fault == Some(fault) || (is_implied && self.fault.is_some_and(|own| implies.contains(&own)))
    }
}
