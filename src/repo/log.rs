//! The gc log, read from the newest checkpoint on: what is forgotten, condemned, swept, held.
//!
//! Spec: chapter 11. [`Log`] is a value: [`Log::load`] reads, [`Log::read_on`] takes in what came after,
//! [`Log::append`] adds an entry in the slot behind the head that was read, or tells that somebody else has.

mod broken;
mod stored;

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::StreamExt;

use crate::crypto::hash;
use crate::format::checkpoint::{Checkpoint, Fact, Observed, State};
use crate::format::id::{KeyId, PackId, SessionId};
use crate::format::index::IndexPack;
use crate::format::log::{Action, Entry, Scope};
use crate::format::{limits, object};
use crate::repo::error::is_damage;
use crate::repo::session::Session;
use crate::repo::{Error, Repository, Result};
use crate::store::Created;
use crate::world::Time;
pub(super) use broken::{Salvaged, verify};
use stored::read_entry;
pub(super) use stored::{entry_digest, newest_checkpoint, part};

/// Slots that are asked for at the same time.
const AHEAD: usize = 4;
/// Loads that are begun again because a newer checkpoint has replaced what was being read.
const ATTEMPTS: usize = 8;

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
    /// The checkpoint's, with all that came after.
    pub state: State,
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
    /// The slot of the condemn that opened each epoch, from the last that has ended on; of none where entries are lost.
    opened: BTreeMap<u32, u64>,
    has_holes: bool,
    /// The slot of the last renew that was read; 0 if there is none.
    renewed: u64,
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
    /// Reads the newest checkpoint and the log behind it; what is left of them, for who goes on with that.
    pub async fn load(repo: &Repository) -> Result<Self> {
        match Self::load_whole(repo).await {
            Err(error) if repo.goes_on && is_damage(&error) => {
                let error = super::chain(&error);
                tracing::warn!(error, "the log does not hold: going on with what is left of it");
                Ok(Self::salvage(repo).await?.log)
            }
            loaded => loaded,
        }
    }

    async fn load_whole(repo: &Repository) -> Result<Self> {
        let mut last = Error::Moving;
        for _ in 0..ATTEMPTS {
            match Self::load_once(repo).await {
                // A checkpoint may be replaced, and its parts deleted, while it is read.
                Err(error) if error.class() == super::Class::Missing => last = error,
                Err(error) => return Err(error),
                Ok(log) => match log.unpublished {
                    Some(_) if newest_checkpoint(repo).await? != log.base_slot() => {}
                    Some(slot) => {
                        let what = format!("the checkpoint of entry {slot} was there, and is missing");
                        return Err(Error::Log { what });
                    }
                    None => {
                        repo.seen.hold_against(repo, &log).await?;
                        return Ok(log);
                    }
                },
            }
        }
        Err(match last {
            Error::Store(error) => {
                Error::Log { what: format!("the newest checkpoint can't be read: {error}") }
            }
            last => last,
        })
    }

    /// Reads the log as it was at a slot that the newest checkpoint does not stand for yet.
    pub(super) async fn load_at(repo: &Repository, slot: u64) -> Result<Self> {
        let mut log = match newest_checkpoint(repo).await? {
            None => Self::default(),
            Some(base) if base < slot => Self::from_checkpoint(repo, base).await?,
            Some(_) => return Err(Error::Moving),
        };
        log.read_to(repo, slot).await?;
        match log.head == slot {
            true => Ok(log),
            false => Err(Error::Log { what: format!("entry {slot} was there, and is missing") }),
        }
    }

    async fn load_once(repo: &Repository) -> Result<Self> {
        let mut log = match newest_checkpoint(repo).await? {
            None => Self::default(),
            Some(slot) => Self::from_checkpoint(repo, slot).await?,
        };
        log.read_on(repo).await?;
        Ok(log)
    }

    async fn from_checkpoint(repo: &Repository, slot: u64) -> Result<Self> {
        let key = object::checkpoint_key(slot);
        let mut log = Self::from_checkpoint_alone(repo, slot).await?;
        let (entry, digest) = match read_entry(repo, slot).await? {
            Some(read) => read,
            None => {
                return Err(Error::Log { what: format!("entry {slot}, which {key} stands for, is missing") });
            }
        };
        let Action::Sweep { condemned, .. } = entry.action else {
            return Err(Error::Log { what: format!("{key} does not stand for a sweep") });
        };
        if digest != log.digest() {
            return Err(Error::Log { what: format!("entry {slot} is not the one that {key} stands for") });
        }
        log.opened = BTreeMap::from([(log.epoch, condemned)]);
        Ok(log)
    }

    /// By what the checkpoint says, without a look at the entry that it stands for.
    async fn from_checkpoint_alone(repo: &Repository, slot: u64) -> Result<Self> {
        let key = object::checkpoint_key(slot);
        let sealed = repo.store.get_at_most(&key, limits::CHECKPOINT_LEN as u64).await?;
        let plain = repo.unseal("checkpoint", &key, &sealed)?;
        let checkpoint = Checkpoint::decode(&plain).map_err(Error::object(&key))?;
        checkpoint.verify(&repo.keys.owner, repo.config.repo, slot).map_err(Error::object(&key))?;
        repo.keys.check_domain(&checkpoint.certificate).map_err(Error::object(&key))?;
        let mut state = Vec::new();
        for (number, digest) in checkpoint.state.iter().enumerate() {
            let piece = part(repo, slot, &checkpoint, number, digest).await?;
            state.extend_from_slice(State::piece(&piece).map_err(Error::object(&key))?);
        }
        let state = State::decode(&state).map_err(Error::object(&key))?;
        let author = &checkpoint.certificate;
        if state.is_revoked(author.key, author.serial) {
            return Err(Error::Log { what: format!("{key} is by a key that was revoked before") });
        }
        Ok(Self {
            head: slot,
            newest: Some(slot),
            epoch: checkpoint.epoch,
            ended: checkpoint.epoch,
            plan: None,
            last_sweep: slot,
            swept: state.swept.iter().copied().collect(),
            damaged: state.damaged.iter().copied().collect(),
            state,
            verified: HashMap::new(),
            unpublished: None,
            digests: BTreeMap::from([(slot, checkpoint.entry)]),
            unreadable: None,
            opened: BTreeMap::new(),
            has_holes: false,
            renewed: 0,
            base: Some((slot, checkpoint)),
        })
    }

    /// Takes in what was added since.
    pub async fn read_on(&mut self, repo: &Repository) -> Result<()> {
        self.read_to(repo, u64::MAX).await
    }

    async fn read_to(&mut self, repo: &Repository, last: u64) -> Result<()> {
        while let Some(free) = self.read_until_free(repo, last).await? {
            // It may have come while the ones behind it were asked for.
            if read_entry(repo, free).await?.is_none() {
                let what = format!("entry {free} of the log is missing, and there are some behind it");
                return Err(Error::Log { what });
            }
        }
        Ok(())
    }

    /// Reads until a slot is free. Gives that if one of the next is not.
    async fn read_until_free(&mut self, repo: &Repository, last: u64) -> Result<Option<u64>> {
        let mut entries = futures::stream::iter(self.head + 1..=last)
            .map(|slot| async move { (slot, read_entry(repo, slot).await) })
            .buffered(AHEAD);
        while let Some((slot, read)) = entries.next().await {
            let Some((entry, digest)) = read? else {
                let mut behind = entries.take(AHEAD - 1);
                while let Some((_, read)) = behind.next().await {
                    // A store that fails says nothing of what is there.
                    let is_there = read
                        .map_or_else(|error| error.class() == super::Class::Corrupt, |read| read.is_some());
                    if is_there {
                        return Ok(Some(slot));
                    }
                }
                return Ok(None);
            };
            if entry.previous != self.digest() {
                let what =
                    format!("entry {slot} does not continue the one before: the log was forked or changed");
                return Err(Error::Log { what });
            }
            self.take(slot, entry, digest);
        }
        Ok(None)
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
        match entry.action {
            Action::Condemn { packs } => {
                if self.plan.is_none() {
                    let published = self.base_slot().unwrap_or(0);
                    self.unpublished = Some(self.last_sweep).filter(|swept| *swept > published);
                    self.epoch += 1;
                    if !self.has_holes {
                        self.opened.insert(self.epoch, slot);
                    }
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
                    self.state
                        .facts
                        .values_mut()
                        .filter(|fact| fact.forgotten)
                        .for_each(|fact| fact.gone = true);
                }
            }
            Action::Observe { sessions } => self.observe(&sessions, entry.time),
            Action::Forget { sessions } => self.each(&sessions, |fact| fact.forgotten = true),
            Action::Recall { sessions } => self.each(&sessions, |fact| fact.forgotten = fact.gone),
            Action::Hold(hold) => drop(self.state.holds.insert(hold.id, hold)),
            Action::Lift { holds } => {
                for id in holds {
                    if self.state.holds.remove(&id).is_none() {
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
                let known = self.state.revoked.entry(key).or_default();
                *known = serial.max(*known);
            }
        }
    }

    fn observe(&mut self, sessions: &[SessionId], time: Time) {
        let not_before = self.state.last_observed.unwrap_or(Time(i64::MIN));
        // An author whose clock runs behind does not turn the order around.
        let not_after = time.max(not_before);
        self.state.last_observed = Some(not_after);
        let seen = Observed { not_before, not_after };
        self.each(sessions, |fact| fact.observed = fact.observed.or(Some(seen)));
    }

    /// Changes what is known of commits. What is gone, and its epoch ended, stays so.
    fn each(&mut self, sessions: &[SessionId], change: impl Fn(&mut Fact)) {
        let ended_before = self.base_epoch();
        for id in sessions {
            if id.epoch() >= ended_before || self.state.rows.contains_key(id) {
                change(self.state.facts.entry(*id).or_default());
            }
        }
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

    /// Whether a commit of the epoch may have this view, and the log is the one that it has seen.
    pub fn check_view(&self, epoch: u32, view: u64, head: [u8; 32]) -> Result<()> {
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

fn needed(action: &Action) -> &'static str {
    match action {
        Action::Verify { .. } => "reader",
        Action::Revoke { .. } | Action::Renew { .. } => "owner",
        _ => "maintainer",
    }
}

#[cfg(test)]
mod tests;
