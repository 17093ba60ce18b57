//! The writer, steps 1 to 6 of the chapter's *Writer*; a repack is one too.

use crate::config::{Config, Fault, Task};
use crate::listing::Listing;
use crate::log::{Entry, Log};
use crate::sets::{Set, has, members, one, only};
use crate::store::Store;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum WriterAt {
    /// Has nothing more to do, or gave up.
    #[default]
    Ended,
    /// Step 1: reads checkpoint and log, learns the epoch.
    Begin,
    /// Step 2: puts the session.
    PutSession,
    /// Step 2: reads the log on; its head is the view.
    ReadLog,
    /// Step 3, first half.
    ListCommits,
    /// Step 3, second half; then step 4, which takes no request.
    LoadIndex,
    /// Step 5.
    PutPack,
    PutDelta,
    Commit,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Writer {
    pub at: WriterAt,
    run: u8,
    epoch: u8,
    session: u8,
    /// The head at `Begin`, in scenes where an entry may be lost.
    begun: u8,
    view: u8,
    checkpoint: u8,
    listing: Listing,
    commits: Set,
    /// Chunks that go into the pack, and packs that the delta names.
    upload: Set,
    names: Set,
    /// Packs of this run's fenced sessions.
    fenced: Set,
    /// Packs that an earlier run might refer to, and that run's commit.
    cache: Set,
    last: Set,
    /// The records were looked up again before the new session was there (a fault).
    is_early: bool,
}

impl Writer {
    pub fn new(tasks: &[Task]) -> Self {
        let at = if tasks.is_empty() { WriterAt::Ended } else { WriterAt::Begin };
        Writer { at, ..Writer::default() }
    }

    pub fn choices(&self, config: &Config, store: &Store, out: &mut Vec<u8>) {
        match self.at {
            WriterAt::Ended => {}
            WriterAt::Begin if store.is_closed() => {}
            WriterAt::ListCommits => {
                self.listing.results(config, self.listable(config, store, store.commits), out);
            }
            WriterAt::LoadIndex => {
                self.listing.results(config, self.listable(config, store, store.deltas), out);
            }
            WriterAt::Commit if config.doubt => out.extend([0, 1]),
            _ => out.push(0),
        }
    }

    fn listable(&self, config: &Config, store: &Store, all: Set) -> Set {
        Log::since(all, &store.epochs, store.first_listed(config, self.checkpoint, self.view))
    }

    pub fn step(&mut self, config: &Config, tasks: &[Task], store: &mut Store, choice: u8) {
        match self.at {
            WriterAt::Ended => {}
            WriterAt::Begin => {
                self.epoch = store.truth(config, store.log.head).epoch;
                self.begun = if config.renews > 0 { store.log.head } else { 0 };
                self.at = WriterAt::PutSession;
                if config.has(Fault::LogReadBeforeSession) {
                    (self.view, self.checkpoint) = (store.log.head, store.newest());
                }
            }
            WriterAt::PutSession => self.put_session(config, store),
            WriterAt::ReadLog => self.read_log(config, store),
            WriterAt::ListCommits => {
                let now = self.listable(config, store, store.commits);
                if let Some(commits) = self.listing.step(config, now, choice) {
                    self.commits = commits;
                    self.at = WriterAt::LoadIndex;
                }
            }
            WriterAt::LoadIndex => {
                let now = self.listable(config, store, store.deltas);
                if let Some(deltas) = self.listing.step(config, now, choice) {
                    self.look_up(config, tasks, store, deltas);
                }
            }
            WriterAt::PutPack => self.put_pack(config, store),
            WriterAt::PutDelta => {
                store.deltas |= one(self.session);
                store.named[usize::from(self.session)] = self.names;
                self.at = WriterAt::Commit;
            }
            WriterAt::Commit => self.commit(config, tasks, store, choice == 1),
        }
    }

    fn put_session(&mut self, config: &Config, store: &mut Store) {
        if store.sessions == config.sessions {
            *self = Writer::default();
            return;
        }
        self.session = store.sessions;
        store.epochs[usize::from(self.session)] = self.epoch;
        store.sessions += 1;
        self.at = if self.is_early {
            self.first_put()
        } else if config.has(Fault::LogReadBeforeSession) {
            WriterAt::ListCommits
        } else {
            WriterAt::ReadLog
        };
    }

    fn read_log(&mut self, config: &Config, store: &Store) {
        // What is lost can't be read on over; and what an owner who has begun anew has not seen may not count.
        let is_anew = |entry: &Entry| match entry {
            Entry::Renew(_) => !config.has(Fault::RenewNotHeeded),
            entry => matches!(entry, Entry::Lost { .. }),
        };
        if config.renews > 0 && store.log.has_behind(self.begun, is_anew) {
            (self.at, self.session, self.commits) = (WriterAt::Begin, 0, 0);
            return;
        }
        self.view = store.log.head;
        self.checkpoint = store.newest();
        let epoch = store.truth(config, self.view).epoch;
        self.at = WriterAt::ListCommits;
        if self.is_early {
            self.epoch = epoch;
        } else if epoch != self.epoch && !config.has(Fault::GoesOnInClosedEpoch) {
            self.epoch = epoch;
            self.session = 0;
            self.at = WriterAt::PutSession;
        }
    }

    /// Steps 3 and 4: what may be referred to, and so what must be uploaded.
    fn look_up(&mut self, config: &Config, tasks: &[Task], store: &Store, deltas: Set) {
        if store.newest() != self.checkpoint {
            (self.commits, self.at) = (0, WriterAt::ReadLog);
            return;
        }
        let meaning = store.meaning(config, self.checkpoint, self.view);
        let condemned = if config.has(Fault::DedupOntoCondemned) { 0 } else { meaning.condemned };
        let swept = if config.has(Fault::DedupOntoSwept) { 0 } else { meaning.swept };
        let never = condemned | swept;
        let unsound = if config.has(Fault::DedupOntoDamaged) { 0 } else { meaning.damaged };
        let trusted = |session: u8| {
            has(self.commits, session)
                || store.epoch_of(session) == self.epoch
                || config.has(Fault::DedupOntoForeignDelta)
        };
        let mut usable = store.indexed(self.checkpoint, only(deltas, trusted)) & !never & !unsound;
        if config.has(Fault::CacheNotFiltered) {
            usable |= self.cache;
        } else {
            usable |= self.cache & !never & !unsound;
        }
        match tasks[usize::from(self.run)] {
            Task::Snapshot(needs) => {
                let named_again = config.has(Fault::CondemnedPacksNamedAgain);
                let mut own = if named_again { self.fenced } else { self.fenced & !never };
                if !config.has(Fault::DamagedPacksNamedAgain) {
                    own &= !meaning.damaged;
                }
                let missing = needs & !store.chunks(usable);
                self.names = only(own, |pack| store.contents[usize::from(pack)] & missing != 0);
                self.upload = missing & !store.chunks(self.names);
            }
            Task::Repack(copies) => self.upload = copies & store.chunks(usable & store.packs),
        }
        if usize::from(self.run) + 1 < tasks.len() {
            self.cache = usable;
        }
        self.commits = 0;
        self.at = if self.is_early { WriterAt::PutSession } else { self.first_put() };
    }

    fn first_put(&self) -> WriterAt {
        match (self.upload, self.names) {
            (0, 0) => WriterAt::Commit,
            (0, _) => WriterAt::PutDelta,
            _ => WriterAt::PutPack,
        }
    }

    fn put_pack(&mut self, config: &Config, store: &mut Store) {
        let mut pack = self.session;
        if config.has(Fault::PackNameUsedTwice) {
            let same = |pack: &u8| store.contents[usize::from(*pack)] == self.upload;
            pack = members(Set::MAX).find(same).unwrap_or(pack);
        }
        store.packs |= one(pack);
        store.contents[usize::from(pack)] = self.upload;
        self.names |= one(pack);
        self.upload = 0;
        self.at = WriterAt::PutDelta;
    }

    fn commit(&mut self, config: &Config, tasks: &[Task], store: &mut Store, no_answer: bool) {
        let session = usize::from(self.session);
        if has(store.fences, self.session) {
            self.fenced(config, tasks, store);
            return;
        }
        if !has(store.commits, self.session) {
            store.commits |= one(self.session);
            store.committed |= one(self.session);
            store.views[session] = self.view;
            store.before[session] = self.last;
            if let Task::Snapshot(needs) = tasks[usize::from(self.run)] {
                store.needs[session] = needs;
            }
        }
        if no_answer {
            return;
        }
        store.told |= one(self.session);
        let (run, cache, last) = (self.run + 1, self.cache, one(self.session));
        *self = if usize::from(run) < tasks.len() {
            Writer { at: WriterAt::Begin, run, cache, last, ..Writer::default() }
        } else {
            Writer::default()
        };
    }

    /// Step 6: first a new session, then everything anew.
    fn fenced(&mut self, config: &Config, tasks: &[Task], store: &Store) {
        if matches!(tasks[usize::from(self.run)], Task::Repack(_)) {
            *self = Writer::default();
            return;
        }
        let own = if store.contents[usize::from(self.session)] != 0 { one(self.session) } else { 0 };
        let is_early = config.has(Fault::RecheckBeforeSession);
        let at = if is_early { WriterAt::ReadLog } else { WriterAt::Begin };
        let fenced = self.fenced | own;
        let Writer { run, cache, last, .. } = *self;
        *self = Writer { at, run, cache, last, fenced, is_early, ..Writer::default() };
    }
}
