//! The gc log: its entries, and what they mean up to a slot.

use crate::sets::{Set, has, one, only};

/// Slots that a log can have here.
pub const SLOTS: usize = 14;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Entry {
    #[default]
    Empty,
    Condemn(Set),
    Sweep {
        of: u8,
        packs: Set,
    },
    Forget(u8),
    Recall(u8),
    Damaged(u8),
    /// Says nothing that counts here.
    Observe,
    /// Can't be read any more; whether it was a condemn only those know who have read it in time.
    Lost {
        was_condemn: bool,
    },
    /// The epoch is this one, or a higher one.
    Renew(u8),
    /// The owner's sweep of nothing, which ends all epochs below this one.
    SweepAnew {
        of: u8,
        epoch: u8,
    },
}

/// What an entry that is lost means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// What it said, to those who have read it in time, and to the ghosts.
    Known,
    /// Nothing, to the owner; a renew says how many epochs there are all the same.
    Nothing,
    /// The same, and the renew says nothing (a fault).
    AndNoRenew,
}

/// What the log up to `head` says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meaning {
    pub head: u8,
    /// Condemns that count: the epoch.
    pub epoch: u8,
    /// Sweeps that count: epochs below this number have ended.
    pub ended: u8,
    /// The slot of the open plan's condemn; 0 if no plan is open.
    pub open: u8,
    /// The slot of a second one: only where the rule against it is taken away.
    pub second: u8,
    /// Packs of the open plan.
    pub condemned: Set,
    /// Packs of all sweeps.
    pub swept: Set,
    pub forgotten: Set,
    /// Forgotten, with a sweep behind it.
    pub gone: Set,
    pub damaged: Set,
    /// Entries that have no effect.
    pub idle: u8,
}

impl Meaning {
    /// Reads one more entry; `lax` lets a condemn count while a plan is open.
    fn read(&mut self, log: &Log, lax: bool, lost: Lost) {
        self.head += 1;
        match log.entry(self.head) {
            Entry::Empty => unreachable!("slots are read up to the head"),
            Entry::Condemn(packs) if self.open == 0 => {
                self.open = self.head;
                self.condemned = packs;
                self.epoch += 1;
            }
            Entry::Condemn(packs) if lax && self.second == 0 => {
                self.second = self.head;
                self.condemned |= packs;
                self.epoch += 1;
            }
            // Nobody can publish it, and the owner can't tell what it is of.
            Entry::Sweep { of, .. } if log.is_lost(of) => {
                self.open = if of == self.open { 0 } else { self.open }
            }
            Entry::Sweep { of, packs } if of != 0 && (of == self.open || of == self.second) => {
                let other = if of == self.open { self.second } else { self.open };
                (self.open, self.second) = (other, 0);
                self.condemned = log.condemned_by(other);
                self.ended += 1;
                self.swept |= packs;
                self.gone |= self.forgotten;
            }
            Entry::Condemn(_) | Entry::Sweep { .. } => self.idle += 1,
            Entry::Forget(session) => self.forgotten |= one(session),
            Entry::Recall(session) if has(self.gone, session) => {}
            Entry::Recall(session) => self.forgotten &= !one(session),
            Entry::Damaged(pack) => self.damaged |= one(pack),
            Entry::Observe => {}
            Entry::Lost { was_condemn } if was_condemn && lost == Lost::Known => {
                (self.open, self.epoch) = (self.head, self.epoch + 1);
            }
            Entry::Lost { .. } => {}
            Entry::Renew(_) if lost == Lost::AndNoRenew => {}
            Entry::Renew(epoch) => self.epoch = self.epoch.max(epoch),
            Entry::SweepAnew { epoch, .. } => {
                (self.open, self.condemned) = (0, 0);
                (self.epoch, self.ended) = (epoch, epoch);
                self.gone |= self.forgotten;
            }
        }
    }

    /// Reads on to `head`.
    pub fn read_on(mut self, log: &Log, head: u8, lax: bool, lost: Lost) -> Self {
        while self.head < head {
            self.read(log, lax, lost);
        }
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Log {
    pub head: u8,
    entries: [Entry; SLOTS],
}

impl Log {
    pub fn entry(&self, slot: u8) -> Entry {
        self.entries[usize::from(slot) - 1]
    }

    pub fn is_full(&self) -> bool {
        usize::from(self.head) == SLOTS
    }

    pub fn push(&mut self, entry: Entry) {
        self.entries[usize::from(self.head)] = entry;
        self.head += 1;
    }

    pub fn lose(&mut self, slot: u8) {
        let was_condemn = matches!(self.entry(slot), Entry::Condemn(_));
        self.entries[usize::from(slot) - 1] = Entry::Lost { was_condemn };
    }

    pub fn is_lost(&self, slot: u8) -> bool {
        matches!(self.entry(slot), Entry::Lost { .. })
    }

    /// Whether an entry behind `slot` is as `is` wants.
    pub fn has_behind(&self, slot: u8, is: impl Fn(&Entry) -> bool) -> bool {
        self.entries[usize::from(slot)..usize::from(self.head)].iter().any(is)
    }

    pub fn condemned_by(&self, slot: u8) -> Set {
        match slot.checked_sub(1).map(|at| self.entries[usize::from(at)]) {
            Some(Entry::Condemn(packs)) => packs,
            _ => 0,
        }
    }

    /// How many entries are as `is` wants.
    pub fn count(&self, is: impl Fn(&Entry) -> bool) -> usize {
        self.entries[..usize::from(self.head)].iter().filter(|entry| is(entry)).count()
    }

    /// The log up to its `number`th sweep that counts; the empty log for 0.
    pub fn at_sweep(&self, number: u8, lax: bool) -> Meaning {
        let mut meaning = Meaning::default();
        while meaning.ended < number && meaning.head < self.head {
            meaning.read(self, lax, Lost::Known);
        }
        meaning
    }

    /// The slot of the condemn that opened the epoch that was open at the `number`th sweep; 0 if there was none.
    pub fn opened_at(&self, number: u8, lax: bool) -> u8 {
        match self.at_sweep(number, lax).head.checked_sub(1).map(|at| self.entries[usize::from(at)]) {
            Some(Entry::Sweep { of, .. } | Entry::SweepAnew { of, .. }) => of,
            _ => 0,
        }
    }

    /// The sessions of `set` that are of an epoch from `first` on.
    pub fn since(set: Set, epochs: &[u8], first: u8) -> Set {
        only(set, |session| epochs[usize::from(session)] >= first)
    }
}
