//! How far this machine has seen the gc log: a store that shows less than that, or something else, shows an old copy.
//!
//! Spec: chapter 11, alarms. Handed in when a repository is opened, raised by each load, to be kept by who handed it in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::repo::log::entry_digest;
use crate::repo::{Error, Log, Repository, Result, View};

/// The highest slot of the gc log that was seen; shared by all that is opened from one repository.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    view: View,
    /// The history began anew, and what was seen before counts no more.
    anew: bool,
}

impl Seen {
    pub fn new(view: View) -> Self {
        Self(Arc::new(Mutex::new(Inner { view, anew: false })))
    }

    pub fn view(&self) -> View {
        self.inner().view
    }

    /// Whether what is kept of an older view is to be replaced by this one, even if that saw more.
    pub fn is_anew(&self) -> bool {
        self.inner().anew
    }

    /// Whatever was seen counts no more.
    pub(super) fn begin_anew(&self) {
        *self.inner() = Inner { view: View::default(), anew: true };
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more was seen than this log has; since it was read, perhaps.
    pub(super) fn is_beyond(&self, log: &Log) -> bool {
        self.view().slot > log.head
    }

    /// An alarm if the log lacks what was seen, or has another entry there.
    pub(super) async fn hold_against(&self, repo: &Repository, log: &Log) -> Result<()> {
        let seen = self.view();
        if seen.slot > log.head {
            let what = format!(
                "this machine has seen entry {} of the log, and it ends with {}: it was shortened, or an old copy of \
                 the store was put back",
                seen.slot, log.head
            );
            return Err(Error::Log { what });
        }
        let known = match log.digest_at(seen.slot) {
            Some(digest) => Some(digest),
            // The checkpoint stands for it; the entry itself lies there for ever.
            None => entry_digest(repo, seen.slot).await?,
        };
        if known != Some(seen.head) {
            let what = format!("this machine has seen another entry {} of the log: it was forked", seen.slot);
            return Err(Error::Log { what });
        }
        let mut inner = self.inner();
        if log.head > inner.view.slot {
            inner.view = View { slot: log.head, head: log.digest() };
        }
        Ok(())
    }
}
