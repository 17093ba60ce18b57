//! The gc log, read from the newest checkpoint on: what is forgotten, condemned, swept, held.
//!
//! Spec: chapter 11. [`Log`] is a value: [`Log::load`] reads, [`Log::read_on`] takes in what came after,
//! [`Log::append`] adds an entry in the slot behind the head that was read, or tells that somebody else has.

mod author;
mod broken;
mod read;
mod stored;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::crypto::hash;
use crate::format::checkpoint::{Checkpoint, Fact, Observed, State};
use crate::format::id::{KeyId, PackId, SessionId};
use crate::format::index::IndexPack;
use crate::format::log::{Action, Entry, Scope};
use crate::format::object;
use crate::repo::session::Session;
use crate::repo::{Error, Repository, Result, chain};
use crate::store::Created;
use crate::world::Time;
pub(super) use broken::{Salvaged, verify};
pub(super) use read::Latest;
pub(super) use stored::{entry_digest, newest_checkpoint, part, read_entry};

/// Slots that are asked for at the same time.
const AHEAD: usize = 4;

/// The log as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The highest slot read; 0 if there is none.
    pub head: u64,
    /// The newest checkpoint that was listed: the one below, if it holds.
    newest: Option<u64>,
    /// The checkpoint that the reading began with, and its slot.
    pub base: Option<(u64, Checkpoint)>,
    /// Condemns that count, up to the head: the epoch of new sessions.
    pub epoch: u32,
    /// Sweeps that count: the epochs below have ended.
    pub ended: u32,
    pub plan: Option<Plan>,
    /// The checkpoint's, with all that came after. Shared by all that was read of one log, as long as it is the same.
    pub state: Arc<State>,
    /// Packs of all sweeps.
    pub swept: HashSet<PackId>,
    /// Packs that were found damaged.
    pub damaged: HashSet<PackId>,
    /// Packs that were verified since the checkpoint, with the digest of what the index said of them.
    pub verified: HashMap<PackId, [u8; 32]>,
    /// The slot of the last sweep that counts; 0 if there is none.
    pub last_sweep: u64,
    /// A sweep behind the checkpoint that must have had one of its own: somebody has condemned after it.
    unpublished: Option<u64>,
    /// The hash of each entry from the checkpoint's on.
    digests: BTreeMap<u64, [u8; 32]>,
    /// A slot with something that is no entry, and its hash: the next entry names it all the same.
    unreadable: Option<(u64, [u8; 32])>,
    /// The slot of the condemn that opened each epoch, from the last that has ended on; not to be believed where entries are
    /// lost.
    opened: BTreeMap<u32, u64>,
    /// It is what is left of one that does not hold.
    salvaged: bool,
    /// It is for who reads what is named by its id.
    goes_on: bool,
    /// The slot of the last renew that was read; 0 if there is none.
    renewed: u64,
    /// The slot of the last entry after which more may be needed, or less is sure, than before.
    decisive: u64,
}

/// A condemn that has no sweep yet.
#[derive(Clone, Debug)]
pub struct Plan {
    pub slot: u64,
    pub packs: HashSet<PackId>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It stands in this slot, and the log has taken it in.
    Mine(u64),
    /// Somebody else's stands there: the log has taken that in, and what came after.
    Taken,
}

impl Log {
    /// Whether what was decided by the log up to this slot is right by what has come since: that only forgets, observes,
    /// holds, lifts or verifies.
    pub(super) fn stands_since(&self, slot: u64) -> bool {
        self.decisive <= slot
    }

    /// BLAKE3 of the entry at the head; zeros for an empty log.
    pub fn digest(&self) -> [u8; 32] {
        let unreadable = self.unreadable.filter(|(slot, _)| *slot == self.head).map(|(_, digest)| digest);
        self.digests.get(&self.head).copied().or(unreadable).unwrap_or_default()
    }

    /// BLAKE3 of an entry; none of those before the checkpoint. Slot 0 is before the first: zeros.
    pub(super) fn digest_at(&self, slot: u64) -> Option<[u8; 32]> {
        if slot == 0 { Some([0; 32]) } else { self.digests.get(&slot).copied() }
    }

    fn take(&mut self, slot: u64, entry: Entry, digest: [u8; 32]) {
        self.head = slot;
        self.digests.insert(slot, digest);
        if self.is_revoked(entry.certificate.key, entry.certificate.serial) {
            return;
        }
        if !only_lets_go(&entry.action) {
            self.decisive = slot;
        }
        match entry.action {
            Action::Condemn { packs } => {
                if self.plan.is_none() {
                    let published = self.base_slot().unwrap_or(0);
                    self.unpublished = Some(self.last_sweep).filter(|swept| *swept > published);
                    self.epoch += 1;
                    self.opened.insert(self.epoch, slot);
                    self.plan = Some(Plan { slot, packs: packs.into_iter().collect() });
                }
            }
            Action::Sweep { condemned, packs } => {
                let counts =
                    |plan: &Plan| plan.slot == condemned && packs.iter().all(|p| plan.packs.contains(p));
                if self.plan.as_ref().is_some_and(counts) {
                    self.plan = None;
                    // A renew may have passed over some.
                    self.ended = self.epoch;
                    self.last_sweep = slot;
                    self.swept.extend(packs);
                    self.state_mut()
                        .facts
                        .values_mut()
                        .filter(|fact| fact.forgotten)
                        .for_each(|fact| fact.gone = true);
                }
            }
            Action::Observe { sessions } => self.observe(&sessions, entry.time),
            Action::Forget { sessions } => self.each(&sessions, |fact| fact.forgotten = true),
            Action::Recall { sessions } => self.each(&sessions, |fact| fact.forgotten = fact.gone),
            Action::Hold(hold) => drop(self.state_mut().holds.insert(hold.id, hold)),
            Action::Lift { holds } => {
                for id in holds {
                    if self.state_mut().holds.remove(&id).is_none() {
                        self.each(&[SessionId(id)], |fact| fact.lifted = true);
                    }
                }
            }
            Action::Verify { packs } => {
                self.verified.extend(packs.into_iter().map(|read| (read.pack, read.digest)));
            }
            Action::Damaged { packs } => self.damaged.extend(packs),
            // A condemn that is lost has opened an epoch all the same.
            Action::Renew { epoch } => {
                self.epoch = self.epoch.max(epoch);
                self.renewed = slot;
            }
            // Whoever has the owner's root can certify what he likes: that can't be revoked.
            Action::Revoke { key: KeyId::OWNER, .. } => {}
            Action::Revoke { key, serial } => {
                let known = self.state_mut().revoked.entry(key).or_default();
                *known = serial.max(*known);
            }
        }
    }

    /// Takes in that these were there at a time, by its author's clock.
    pub(super) fn observe(&mut self, sessions: &[SessionId], time: Time) {
        let not_before = self.state.last_observed.unwrap_or(Time(i64::MIN));
        // An author whose clock runs behind does not turn the order around.
        let not_after = time.max(not_before);
        self.state_mut().last_observed = Some(not_after);
        let seen = Observed { not_before, not_after };
        self.each(sessions, |fact| fact.observed = fact.observed.or(Some(seen)));
    }

    /// Changes what is known of commits. What is gone, and its epoch ended, stays so.
    fn each(&mut self, sessions: &[SessionId], change: impl Fn(&mut Fact)) {
        let ended_before = self.base_epoch();
        for id in sessions {
            if id.epoch() >= ended_before || self.state.rows.contains_key(id) {
                change(self.state_mut().facts.entry(*id).or_default());
            }
        }
    }

    fn state_mut(&mut self) -> &mut State {
        Arc::make_mut(&mut self.state)
    }

    pub fn fact(&self, id: SessionId) -> Fact {
        self.state.facts.get(&id).copied().unwrap_or_default()
    }

    /// Whether somebody has read the pack, as it is named here.
    pub(super) fn is_verified(&self, pack: &IndexPack) -> bool {
        let is_it = |digest: &[u8; 32]| *digest == pack.digest();
        !self.damaged.contains(&pack.id) && self.verified.get(&pack.id).is_some_and(is_it)
    }

    /// Whether nobody who has read this log may refer to the pack.
    pub fn is_barred(&self, pack: PackId) -> bool {
        self.is_going(pack) || self.damaged.contains(&pack)
    }

    /// Whether the pack was swept, or is condemned.
    pub fn is_going(&self, pack: PackId) -> bool {
        self.swept.contains(&pack) || self.plan.as_ref().is_some_and(|plan| plan.packs.contains(&pack))
    }

    /// Whether what was made with this certificate's key and serial counts no more, but for commits that were
    /// observed, and what belongs to them.
    pub fn is_revoked(&self, key: KeyId, serial: u32) -> bool {
        self.state.is_revoked(key, serial)
    }

    /// Whether an index delta counts, by the session of its name. One whose session is not there counts as missing, and
    /// that is told by who reads it.
    pub(super) fn counts(&self, delta: &str, sessions: &HashMap<SessionId, Session>) -> bool {
        let session = object::parse_index(delta).and_then(|(id, _)| sessions.get(&id));
        session.is_none_or(|session| {
            let certificate = &session.body.certificate;
            let is_revoked = self.is_revoked(certificate.key, certificate.serial);
            !is_revoked || self.fact(session.id).observed.is_some()
        })
    }

    /// The holds on a snapshot, the commit's own apart.
    pub fn holds(&self, id: SessionId, source: [u8; 16]) -> impl Iterator<Item = &str> {
        let holds = self.state.holds.values();
        let applies = move |scope: Scope| match scope {
            Scope::All => true,
            Scope::Source(held) => held == source,
            Scope::Snapshot(held) => held == id,
        };
        holds.filter(move |hold| applies(hold.scope)).map(|hold| hold.note.as_str())
    }

    /// The epochs whose sessions, commits and deltas lie in folders of their own: those after the checkpoint.
    pub fn open_epochs(&self) -> std::ops::RangeInclusive<u32> {
        self.base_epoch()..=self.epoch
    }

    /// Whether the newest checkpoint, as it was when the log was read, stands for the last sweep.
    pub(super) fn is_published(&self) -> bool {
        self.last_sweep == 0 || self.newest.is_some_and(|slot| slot >= self.last_sweep)
    }

    /// Whether it holds together, and ends with the last sweep.
    pub(super) fn ends_with_sweep(&self) -> bool {
        !self.salvaged && self.head == self.last_sweep
    }

    /// Whether nothing has come since.
    pub(super) async fn is_still(&self, repo: &Repository) -> Result<bool> {
        let now = Self::load(repo).await?;
        Ok((now.head, now.newest) == (self.head, self.newest))
    }

    /// Whether no newer checkpoint has come since.
    pub(super) async fn is_of_newest(&self, repo: &Repository) -> Result<bool> {
        Ok(newest_checkpoint(repo).await? == self.newest)
    }

    /// Whether the owner has begun the history anew behind a slot: what was read up to there counts no more.
    pub(super) fn is_renewed_behind(&self, slot: u64) -> bool {
        self.renewed > slot
    }

    /// The slot of the checkpoint that the reading began with.
    pub(super) fn base_slot(&self) -> Option<u64> {
        self.base.as_ref().map(|(slot, _)| *slot)
    }

    /// The epochs below are those that the checkpoint stands for.
    fn base_epoch(&self) -> u32 {
        self.base.as_ref().map_or(0, |(_, checkpoint)| checkpoint.epoch)
    }

    /// Whether a commit of the epoch may have this view, and the log is the one that it has seen. What is left of a log
    /// refuses none for that: what the commit has seen may be what is lost.
    pub fn check_view(&self, epoch: u32, view: u64, head: [u8; 32]) -> Result<()> {
        match self.judge_view(epoch, view, head) {
            Err(_) if self.salvaged => Ok(()),
            Err(error) if self.goes_on => {
                tracing::warn!(
                    error = chain(&error),
                    "the log does not hold: going on with what is left of it"
                );
                Ok(())
            }
            judged => judged,
        }
    }

    fn judge_view(&self, epoch: u32, view: u64, head: [u8; 32]) -> Result<()> {
        if view > self.head {
            let what = format!(
                "a commit has seen entry {view}, and the log ends with {}: it was shortened",
                self.head
            );
            return Err(Error::Log { what });
        }
        if self.digest_at(view).is_some_and(|known| known != head) {
            return Err(Error::Log {
                what: format!("a commit has seen another entry {view}: the log was forked"),
            });
        }
        let from = self.opened.get(&epoch).copied().unwrap_or(0);
        let to = self.opened.get(&(epoch + 1)).copied().unwrap_or(u64::MAX);
        match (from..to).contains(&view) {
            true => Ok(()),
            false => Err(Error::Log { what: format!("a commit of epoch {epoch} can't have view {view}") }),
        }
    }

    /// Creates an entry in the slot behind the head. Whoever gets [`Appended::Taken`] decides anew.
    pub async fn append(&mut self, repo: &Repository, action: Action) -> Result<Appended> {
        let slot = self.head + 1;
        let keys = &repo.keys;
        if !action.authors().contains(&keys.role) {
            return Err(keys.lacks(needed(&action)));
        }
        let said = (self.digest(), repo.world.now(), action);
        let author = (keys.certificate.clone(), keys.signing_as_author()?);
        let entry = Entry::sign(said, author, repo.config.repo, slot);
        let key = object::log_key(slot);
        let sealed = repo.seal(&key, entry.encode());
        match repo.store.create_exclusive(&key, sealed.clone()).await? {
            Created::Mine => {
                self.take(slot, entry, hash::plain(&sealed));
                Ok(Appended::Mine(slot))
            }
            Created::Other(_) => {
                self.read_on(repo).await?;
                Ok(Appended::Taken)
            }
        }
    }
}

/// Whether nothing is needed by it that was not before, and nothing less sure.
fn only_lets_go(action: &Action) -> bool {
    use Action::{Forget, Hold, Lift, Observe, Verify};
    matches!(action, Observe { .. } | Forget { .. } | Hold(_) | Lift { .. } | Verify { .. })
}

fn needed(action: &Action) -> &'static str {
    match action {
        Action::Verify { .. } => "reader",
        Action::Revoke { .. } | Action::Renew { .. } => "owner",
        _ => "maintainer",
    }
}

#[cfg(test)]
mod tests;
