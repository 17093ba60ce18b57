//! Whether a checkpoint is by a key that was revoked before, by what its author has not made.
//!
//! Spec: chapter 11. A checkpoint says itself which keys are revoked. Whoever holds a revoked maintainer's key, and may
//! still write to the store, can create one before the sweep's author does, and leave his own out.

use std::pin::pin;

use futures::StreamExt;

use crate::format::id::KeyId;
use crate::format::keys::Certificate;
use crate::format::log::Action;
use crate::format::object;
use crate::repo::log::Log;
use crate::repo::log::broken::{self, damage, slots};
use crate::repo::log::read::AHEAD_AT_MOST;
use crate::repo::log::stored::each_entry;
use crate::repo::{Error, Repository, Result};

/// What the owner has revoked: slot, key and serial.
#[derive(Default)]
pub struct Revocations(Vec<(u64, KeyId, u32)>);

impl Revocations {
    pub fn take(&mut self, slot: u64, action: &Action) {
        if let Action::Revoke { key, serial } = action {
            self.0.push((slot, *key, *serial));
        }
    }

    /// Whether what a certificate's key makes in a slot does not count.
    pub fn are_of(&self, by: &Certificate, slot: u64) -> bool {
        let is_it =
            |(at, key, serial): &(u64, KeyId, u32)| *at < slot && *key == by.key && by.serial <= *serial;
        by.key != KeyId::OWNER && self.0.iter().any(is_it)
    }

    /// All that the entries say which can be read.
    pub async fn load(repo: &Repository, last: u64) -> Result<Self> {
        let mut all = Self::default();
        let mut entries = pin!(each_entry(repo, 1..=last));
        while let Some((slot, read)) = entries.next().await {
            match read {
                Ok(Some((entry, _))) => all.take(slot, &entry.action),
                Ok(None) => {}
                Err(error) => drop(damage(error)?),
            }
        }
        Ok(all)
    }
}

/// What such a checkpoint is told as.
pub fn by_revoked(slot: u64) -> String {
    format!("{} is by a key that was revoked before", object::checkpoint_key(slot))
}

impl Log {
    /// An alarm if the author of the checkpoint that this began with was revoked before: by the checkpoint before it and
    /// the entries between the two, or if that one is not there, by the whole log. For who builds on it.
    pub(in crate::repo) async fn hold_author(&self, repo: &Repository) -> Result<()> {
        let Some((slot, checkpoint)) = &self.base else { return Ok(()) };
        let by = &checkpoint.certificate;
        if by.key == KeyId::OWNER {
            return Ok(());
        }
        let wrong = match Self::before(repo, *slot).await? {
            Some(known) => known.is_revoked(by.key, by.serial).then(|| by_revoked(*slot)),
            None => broken::verify(repo).await?,
        };
        wrong.map_or(Ok(()), |what| Err(Error::Log { what }))
    }

    /// The log before a checkpoint's slot, from the checkpoint of the sweep before on; none if that does not hold.
    async fn before(repo: &Repository, slot: u64) -> Result<Option<Self>> {
        let older = slots(repo, object::CHECKPOINTS).await?.into_iter().rfind(|older| *older < slot);
        let Some(older) = older else { return Ok(None) };
        let mut log = match Self::from_checkpoint_alone(repo, older).await {
            Err(error) if error.is_damage() => return Ok(None),
            log => log?,
        };
        log.read_to(repo, slot - 1, AHEAD_AT_MOST).await?;
        // If there is a sweep in between, somebody has taken its checkpoint away.
        Ok((log.head == slot - 1 && log.last_sweep == older).then_some(log))
    }
}
