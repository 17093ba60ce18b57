//! What lies in the store, and what one who opens it takes from it.
//!
//! The contents of commits, packs and deltas never change; that is why they stand in tables of their own,
//! and a set says which of them are there. A pack, a delta and a commit have their session's number.

use crate::config::{Config, Fault};
use crate::log::{Entry, Log, Lost, Meaning};
use crate::sets::{Set, has, one, only, together};

/// Sessions that there can be.
pub const SESSIONS: usize = 8;
/// Checkpoints that there can be; number 0 is none.
pub const CHECKPOINTS: usize = 7;

/// A checkpoint with its generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Checkpoint {
    pub is_there: bool,
    /// Packs that the generation names.
    pub packs: Set,
    /// Commits of ended epochs that are not gone.
    pub rows: Set,
    /// Commits of epochs that have not ended, forgotten up to this sweep.
    pub gone: Set,
    /// Commits of ended epochs, gone or not: what a writer's next commit may name as the one before.
    pub chain: Set,
}

/// A pack that is not what was written. It is there all the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Damage {
    pub packs: Set,
    /// The slot that says so.
    slot: u8,
    /// The snapshots that were committed then, and what they lost: what was in no other pack that was sure to stay.
    before: Set,
    lost_before: Set,
    /// What other snapshots may lose, of writers who had not read of it: the open plan's packs are no copies for them.
    lost_after: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Store {
    pub log: Log,
    pub sessions: u8,
    pub epochs: [u8; SESSIONS],
    /// Commits and fences that are there.
    pub commits: Set,
    pub fences: Set,
    pub needs: [Set; SESSIONS],
    pub views: [u8; SESSIONS],
    /// The writer's commit before.
    pub before: [Set; SESSIONS],
    pub packs: Set,
    pub contents: [Set; SESSIONS],
    pub deltas: Set,
    pub named: [Set; SESSIONS],
    pub checkpoints: [Checkpoint; CHECKPOINTS],
    /// Ghosts, that no process sees: commits that ever were there, and those whose writers know it.
    pub committed: Set,
    pub told: Set,
    /// A ghost too: the pack that was found damaged.
    pub damage: Damage,
}

impl Store {
    /// The newest checkpoint's number, 0 for none.
    pub fn newest(&self) -> u8 {
        let there = self.checkpoints.iter().rposition(|checkpoint| checkpoint.is_there);
        there.map_or(0, |number| number as u8)
    }

    pub fn checkpoint(&self, number: u8) -> &Checkpoint {
        &self.checkpoints[usize::from(number)]
    }

    pub fn epoch_of(&self, session: u8) -> u8 {
        self.epochs[usize::from(session)]
    }

    /// The whole log up to `head`, as nobody needs to read it.
    pub fn truth(&self, config: &Config, head: u8) -> Meaning {
        Meaning::default().read_on(&self.log, head, config.has(Fault::TwoOpenPlans), Lost::Known)
    }

    /// Whether nobody but the owner can read the log: an entry is lost, and no checkpoint stands for it.
    pub fn is_closed(&self) -> bool {
        let slot = self.log.at_sweep(self.newest(), false).head;
        self.log.has_behind(slot, |entry| matches!(entry, Entry::Lost { .. }))
    }

    /// The log up to `head` for one who has read checkpoint `number` and what is behind it.
    pub fn meaning(&self, config: &Config, number: u8, head: u8) -> Meaning {
        let lax = config.has(Fault::TwoOpenPlans);
        let start = self.log.at_sweep(number, lax);
        let gone = self.checkpoint(number).gone;
        let damaged = if config.has(Fault::DamagedLost) { 0 } else { start.damaged };
        let state = Meaning { forgotten: gone, gone, damaged, ..start };
        let lost = if config.has(Fault::RenewSaysNoEpoch) { Lost::AndNoRenew } else { Lost::Nothing };
        let mut meaning = state.read_on(&self.log, head, lax, lost);
        if self.is_closed() {
            let highest = self.epochs[..usize::from(self.sessions)].iter().copied().max().unwrap_or(0);
            meaning.epoch = meaning.epoch.max(highest);
        }
        meaning
    }

    /// The first epoch whose commits and deltas are listed by one who has read checkpoint `number`.
    pub fn first_listed(&self, config: &Config, number: u8, head: u8) -> u8 {
        if config.has(Fault::EndedEpochNotListed) { self.meaning(config, number, head).ended } else { number }
    }

    /// A commit of which a reader finds its epoch right.
    pub fn is_valid(&self, config: &Config, session: u8) -> bool {
        self.truth(config, self.views[usize::from(session)]).epoch == self.epoch_of(session)
    }

    /// Whether one who opens by checkpoint `number` finds that a commit of the epoch that was open there has a view of it.
    fn may_have_view(&self, config: &Config, number: u8, session: u8) -> bool {
        let opened = self.log.opened_at(number, config.has(Fault::TwoOpenPlans));
        self.epoch_of(session) != number || self.views[usize::from(session)] >= opened
    }

    /// The commits that count: rows of checkpoint `number`, and of those `listed` what is right; less what `meaning` says is forgotten.
    pub fn counted(&self, config: &Config, number: u8, listed: Set, meaning: &Meaning) -> Set {
        let listed = Log::since(listed, &self.epochs, number);
        let right = only(listed, |session| {
            self.is_valid(config, session) && self.may_have_view(config, number, session)
        });
        (self.checkpoint(number).rows | right) & !meaning.forgotten
    }

    /// The packs that checkpoint `number` and the deltas `listed` name.
    pub fn indexed(&self, number: u8, listed: Set) -> Set {
        let listed = Log::since(listed, &self.epochs, number);
        self.checkpoint(number).packs | together(listed, &self.named)
    }

    pub fn chunks(&self, packs: Set) -> Set {
        together(packs, &self.contents)
    }

    pub fn live(&self, counted: Set) -> Set {
        together(counted, &self.needs)
    }

    /// What one who opens the repository now, all at once, sees.
    pub fn fresh(&self, config: &Config) -> Fresh {
        let number = self.newest();
        let meaning = self.meaning(config, number, self.log.head);
        let first = self.first_listed(config, number, self.log.head);
        let counted = self.counted(config, number, Log::since(self.commits, &self.epochs, first), &meaning);
        let named = self.indexed(number, Log::since(self.deltas, &self.epochs, first));
        Fresh { meaning, counted, indexed: named & !meaning.swept }
    }

    /// Whether each chunk of `needs` can be read from a pack of `index`, whichever of them is taken.
    pub fn is_readable(&self, needs: Set, index: Set) -> bool {
        let holds = |pack: u8| self.contents[usize::from(pack)] & needs != 0;
        needs & !self.chunks(index) == 0 && only(index & !self.packs, holds) == 0
    }

    /// A pack is damaged, and who has found it says so.
    pub fn found_damaged(&mut self, config: &Config, pack: u8) {
        let (number, meaning) = (self.newest(), self.fresh(config).meaning);
        // A late delta may be missing from the next generation: what it alone names was never sure to stay.
        let is_sure = |session: u8| has(self.commits, session) || self.epoch_of(session) >= meaning.ended;
        let sure =
            self.indexed(number, only(self.deltas, is_sure)) & self.packs & !meaning.swept & !one(pack);
        self.log.push(Entry::Damaged(pack));
        let held = self.contents[usize::from(pack)];
        self.damage = Damage {
            packs: one(pack),
            slot: self.log.head,
            before: self.committed,
            lost_before: held & !self.chunks(sure),
            lost_after: held & !self.chunks(sure & !meaning.condemned),
        };
    }

    /// What damage may have taken of a snapshot: nothing where the writer has read of it.
    pub fn lost(&self, session: u8) -> Set {
        let damage = &self.damage;
        if self.views[usize::from(session)] >= damage.slot {
            0
        } else if has(damage.before, session) {
            damage.lost_before
        } else {
            damage.lost_after
        }
    }

    pub fn is_resolved(&self, session: u8) -> bool {
        has(self.commits | self.fences, session)
    }

    /// A session with a snapshot, as it was committed before the model begins.
    pub fn with_snapshot(mut self, needs: Set, packed: Set) -> Self {
        let session = self.sessions;
        let at = usize::from(session);
        self.sessions += 1;
        self.commits |= one(session);
        self.committed |= one(session);
        self.told |= one(session);
        self.needs[at] = needs;
        if packed != 0 {
            self.packs |= one(session);
            self.contents[at] = packed;
            self.deltas |= one(session);
            self.named[at] = one(session);
        }
        self
    }
}

pub struct Fresh {
    pub meaning: Meaning,
    pub counted: Set,
    pub indexed: Set,
}
