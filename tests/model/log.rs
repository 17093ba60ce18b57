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
    /// Entries that have no effect.
    pub idle: u8,
}

impl Meaning {
    /// Reads one more entry; `lax` lets a condemn count while a plan is open.
    fn read(&mut self, log: &Log, lax: bool) {
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
        }
    }

    /// Reads on to `head`.
    pub fn read_on(mut self, log: &Log, head: u8, lax: bool) -> Self {
        while self.head < head {
            self.read(log, lax);
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
            meaning.read(self, lax);
        }
        meaning
    }

    /// The sessions of `set` that are of an epoch from `first` on.
    pub fn since(set: Set, epochs: &[u8], first: u8) -> Set {
        only(set, |session| epochs[usize::from(session)] >= first)
    }
}
