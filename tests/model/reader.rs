//! The reader: *Opening*, then reading, and opening again when something is missing.

use crate::config::{Config, Fault};
use crate::listing::Listing;
use crate::log::Log;
use crate::sets::{Set, has, members, together};
use crate::store::Store;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ReaderAt {
    #[default]
    Off,
    /// Opening 1.
    ReadLog,
    /// Opening 2.
    ListCommits,
    ReadLogOn,
    /// Opening 3.
    LoadIndex,
    /// Reads whatever snapshot it likes; the number is that of a snapshot of which something was missing.
    Open,
    /// Ended: something of this snapshot is missing.
    Missing(u8),
    /// Ended: the log seemed to be shortened, or a commit to be lost.
    Alarm,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reader {
    pub at: ReaderAt,
    checkpoint: u8,
    head: u8,
    listing: Listing,
    commits: Set,
    index: Set,
    counted: Set,
    /// The snapshot of which something was missing, and the checkpoint and head of then.
    retry: Option<(u8, u8, u8)>,
}

impl Reader {
    pub fn new(is_on: bool) -> Self {
        Reader { at: if is_on { ReaderAt::ReadLog } else { ReaderAt::Off }, ..Reader::default() }
    }

    pub fn choices(&self, config: &Config, store: &Store, out: &mut Vec<u8>) {
        let listable =
            |all| Log::since(all, &store.epochs, store.first_listed(config, self.checkpoint, self.head));
        match self.at {
            ReaderAt::Off | ReaderAt::Missing(_) | ReaderAt::Alarm => {}
            ReaderAt::ListCommits => self.listing.results(config, listable(store.commits), out),
            ReaderAt::LoadIndex => self.listing.results(config, listable(store.deltas), out),
            ReaderAt::Open => match self.retry {
                Some((snapshot, ..)) => out.push(snapshot),
                None => out.extend(members(self.counted).filter(|s| !self.can_read(store, *s))),
            },
            _ => out.push(0),
        }
    }

    fn can_read(&self, store: &Store, snapshot: u8) -> bool {
        store.is_readable(store.needs[usize::from(snapshot)], self.index)
    }

    pub fn step(&mut self, config: &Config, store: &Store, choice: u8) {
        let first = store.first_listed(config, self.checkpoint, self.head);
        match self.at {
            ReaderAt::Off | ReaderAt::Missing(_) | ReaderAt::Alarm => {}
            ReaderAt::ReadLog => {
                let (checkpoint, head) = (store.newest(), store.log.head);
                let at = ReaderAt::ListCommits;
                *self = Reader { at, checkpoint, head, retry: self.retry, ..Reader::default() };
            }
            ReaderAt::ListCommits => {
                let now = Log::since(store.commits, &store.epochs, first);
                if let Some(commits) = self.listing.step(config, now, choice) {
                    self.commits = commits;
                    self.at = ReaderAt::ReadLogOn;
                    if config.has(Fault::LogReadBeforeCommits) {
                        self.look_for_alarms(config, store);
                    }
                }
            }
            ReaderAt::ReadLogOn => {
                self.head = store.log.head;
                self.look_for_alarms(config, store);
            }
            ReaderAt::LoadIndex => {
                let now = Log::since(store.deltas, &store.epochs, first);
                let Some(deltas) = self.listing.step(config, now, choice) else { return };
                if store.newest() != self.checkpoint {
                    self.at = ReaderAt::ReadLog;
                    return;
                }
                let meaning = store.meaning(config, self.checkpoint, self.head);
                self.index = store.indexed(self.checkpoint, deltas) & !meaning.swept;
                self.counted = store.counted(config, self.checkpoint, self.commits, &meaning);
                (self.commits, self.at) = (0, ReaderAt::Open);
            }
            ReaderAt::Open => self.read(config, store, choice),
        }
    }

    /// A commit's view may not be beyond the head, and the commit before it may not be missing: that one's
    /// key is asked for before the alarm is raised, because a list may have passed by it too early.
    fn look_for_alarms(&mut self, config: &Config, store: &Store) {
        let is_beyond = |session: u8| store.views[usize::from(session)] > self.head;
        let known = self.commits | store.checkpoint(self.checkpoint).chain;
        let gap = together(self.commits, &store.before) & !known;
        let is_asked = !config.has(Fault::GapNotAskedFor);
        self.at = if members(self.commits).any(is_beyond) {
            ReaderAt::Alarm
        } else if gap == 0 || (is_asked && gap & !store.commits == 0) {
            ReaderAt::LoadIndex
        } else if is_asked && store.newest() != self.checkpoint {
            ReaderAt::ReadLog
        } else {
            ReaderAt::Alarm
        };
    }

    /// Reads all of a snapshot; only what is missing makes a difference.
    fn read(&mut self, config: &Config, store: &Store, snapshot: u8) {
        let has_moved = match self.retry {
            Some((_, checkpoint, head)) => (checkpoint, head) != (self.checkpoint, self.head),
            None => true,
        };
        let may_retry = has_moved && !(config.has(Fault::SingleRetry) && self.retry.is_some());
        if !has(self.counted, snapshot) || self.can_read(store, snapshot) {
            self.retry = None;
        } else if may_retry {
            self.retry = Some((snapshot, self.checkpoint, self.head));
            self.at = ReaderAt::ReadLog;
        } else {
            *self = Reader { at: ReaderAt::Missing(snapshot), ..Reader::default() };
        }
    }
}
