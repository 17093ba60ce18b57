//! The owner, who begins the history anew behind an entry that is lost: steps 1 to 5 of *Beginning anew*. Whoever
//! collects is the owner where nobody else could go on.

use crate::collector::{Collector, CollectorAt};
use crate::config::{Config, Fault};
use crate::log::{Entry, Meaning};
use crate::sets::{Set, only};
use crate::store::Store;

/// The choice to begin anew, as often as the scene lets.
pub fn may_begin(config: &Config, store: &Store) -> Option<u8> {
    let renews = store.log.count(|entry| matches!(entry, Entry::Renew(_)));
    (renews < config.renews && !store.log.is_full()).then_some(0)
}

/// Step 1: the newest checkpoint, and each entry behind it that holds.
fn what_is_left(config: &Config, store: &Store) -> Meaning {
    store.meaning(config, store.newest(), store.log.head)
}

impl Collector {
    /// The same slot is free that was seen to be free.
    fn is_free(&self, store: &Store) -> bool {
        store.log.head == self.head && !store.log.is_full()
    }

    pub fn begin_anew(&mut self, store: &Store) {
        let (at, head) = (CollectorAt::Renew, store.log.head);
        *self = Collector { at, head, is_owner: true, ..Collector::default() };
    }

    pub fn renew(&mut self, config: &Config, store: &mut Store) {
        if !self.is_free(store) {
            *self = Collector::new(true);
            return;
        }
        store.log.push(Entry::Renew(what_is_left(config, store).epoch));
        self.head = store.log.head;
        self.plan = what_is_left(config, store).open;
        self.at = if self.plan == 0 { CollectorAt::Condemn } else { CollectorAt::ListSessions };
    }

    pub fn condemn_nothing(&mut self, store: &mut Store) {
        if !self.is_free(store) {
            *self = Collector::new(true);
            return;
        }
        store.log.push(Entry::Condemn(0));
        (self.plan, self.at) = (store.log.head, CollectorAt::ListSessions);
    }

    /// Step 3: the sessions of all epochs below the one that is open.
    pub fn unresolved_below(&self, config: &Config, store: &Store) -> Set {
        let epoch = what_is_left(config, store).epoch;
        let is_lax = config.has(Fault::OlderEpochsNotWaitedFor);
        let first = if is_lax { epoch.saturating_sub(1) } else { store.newest() };
        only(Set::MAX, |session| {
            session < store.sessions
                && (first..epoch).contains(&store.epoch_of(session))
                && !store.is_resolved(session)
        })
    }

    /// Step 4, first half. The commits are read when it publishes: all of them are there by now.
    pub fn read_what_is_left(&mut self, config: &Config, store: &Store) {
        if what_is_left(config, store).open != self.plan {
            *self = Collector::new(true);
            return;
        }
        (self.head, self.checkpoint, self.at) = (store.log.head, store.newest(), CollectorAt::Sweep);
    }

    /// Step 4, second half; then step 5.
    pub fn sweep_nothing(&mut self, config: &Config, store: &mut Store) {
        if !self.is_free(store) {
            *self = Collector::new(true);
            return;
        }
        let epoch = what_is_left(config, store).epoch;
        store.log.push(Entry::SweepAnew { of: self.plan, epoch });
        (self.sweep, self.at) = (epoch, CollectorAt::ListEndedCommits);
        self.gone = self.gone_commits(config, store);
    }
}
