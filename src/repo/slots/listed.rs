//! What the owner sees of the slots, and which of them is meant by a name or an id.

use std::collections::BTreeMap;

use crate::format::id::{KeyId, SlotId};
use crate::format::keys::{Domain, Role, Trust};
use crate::repo::{Error, Result};
use crate::world::Time;

/// Digits that the beginning of an id has at least.
const PREFIX_LEN: usize = 4;

/// What the owner sees of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    pub slot: SlotId,
    pub role: Role,
    pub key: KeyId,
    pub serial: u32,
    pub domain: Domain,
    pub name: String,
    pub created: Time,
    pub trust: Trust,
    pub by_passphrase: bool,
    /// The key was revoked, and its slot put back, or kept by the store.
    pub is_revoked: bool,
    /// The slot is not as the owner's newest epoch has it: a new epoch was cut short, or an old state was put back.
    pub is_old: bool,
}

impl KeyInfo {
    /// Whether these are states of one key: two of them lie there when a rotation was cut short.
    fn is_same_key(&self, other: &Self) -> bool {
        (self.role, self.key, &self.name) == (other.role, other.key, &other.name)
    }

    fn is_called(&self, id: &str) -> bool {
        let by_key = self.role != Role::Owner && self.key.to_string().starts_with(id);
        by_key || self.slot.to_string().starts_with(id)
    }
}

/// All slots.
#[derive(Debug, Default)]
pub struct KeyList {
    /// Oldest first.
    pub keys: Vec<KeyInfo>,
    /// What can't be opened as the owner, and why.
    pub unreadable: BTreeMap<SlotId, Error>,
}

impl KeyList {
    /// The key that a name or the beginning of an id means: all of its slots, the newest last.
    pub fn find(&self, which: &str) -> Result<Vec<&KeyInfo>> {
        let by_name: Vec<_> = self.keys.iter().filter(|key| key.name == which).collect();
        let by_id = || match which.len() >= PREFIX_LEN {
            true => self.keys.iter().filter(|key| key.is_called(which)).collect(),
            false => Vec::new(),
        };
        let mut found = if by_name.is_empty() { by_id() } else { by_name };
        let Some(first) = found.first().copied() else {
            return Err(Error::NoKey { which: which.to_owned() });
        };
        if !found.iter().all(|key| key.is_same_key(first)) {
            let shown = found.iter().map(|key| format!("{} {}", key.slot, key.name));
            let keys = shown.collect::<Vec<_>>().join(", ");
            return Err(Error::AmbiguousKey { which: which.to_owned(), keys });
        }
        found.sort_by_key(|key| key.serial);
        Ok(found)
    }

    /// The slots that a name or the beginning of an id means; one that can't be read, too.
    pub fn slots(&self, which: &str) -> Result<Vec<SlotId>> {
        let called = |id: &&SlotId| which.len() >= PREFIX_LEN && id.to_string().starts_with(which);
        let unreadable: Vec<SlotId> = self.unreadable.keys().filter(called).copied().collect();
        match (self.find(which), &unreadable[..]) {
            (Err(Error::NoKey { .. }), [one]) => Ok(vec![*one]),
            (found, _) => found.map(|keys| keys.into_iter().map(|key| key.slot).collect()),
        }
    }
}
