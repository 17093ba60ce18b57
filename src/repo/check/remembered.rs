//! What checks have read, as it lies in the store: found, and written down anew after a check.
//!
//! Spec: chapter 12. The newest object that holds counts. Who can't write one checks all the same.

use crate::crypto::sign;
use crate::format::checks::{AUTHORS, Checks, Range};
use crate::format::{limits, object};
use crate::repo::{Error, Log, Repository, Result};
use crate::store::Created;

/// How often it is written down anew because another check was quicker.
const ATTEMPTS: usize = 16;

/// What was read so far.
#[derive(Debug, Default)]
pub struct Remembered {
    pub hashed: Vec<Range>,
    pub opened: Vec<Range>,
    /// The highest number that is taken.
    last: u64,
    /// Objects that can't be used, and why.
    pub problems: Vec<Error>,
}

impl Remembered {
    pub async fn load(repo: &Repository, log: &Log) -> Result<Self> {
        let listed = repo.store.list(object::CHECKS).await?;
        let mut numbers: Vec<u64> =
            listed.iter().filter_map(|found| object::parse_slot(object::CHECKS, &found.key)).collect();
        numbers.sort_unstable();
        let mut remembered = Self { last: numbers.last().copied().unwrap_or(0), ..Default::default() };
        for number in numbers.into_iter().rev() {
            match read(repo, log, number).await {
                Ok(Some(checks)) => {
                    (remembered.hashed, remembered.opened) = (checks.hashed, checks.opened);
                    return Ok(remembered);
                }
                // A prune lets older ones go.
                Ok(None) => {}
                Err(Error::Store(error)) if error.class() == crate::store::Class::Missing => {}
                Err(error) if error.is_inconclusive() => return Err(error),
                Err(error) => remembered.problems.push(error),
            }
        }
        Ok(remembered)
    }

    /// Writes down what `change` makes of the newest state, whoever has written that.
    pub async fn write(mut self, repo: &Repository, log: &Log, change: impl Fn(&mut Self)) -> Result<()> {
        let keys = &repo.keys;
        if !AUTHORS.contains(&keys.role) {
            return Err(keys.lacks("owner's, a reader's or a maintainer's"));
        }
        for _ in 0..ATTEMPTS {
            change(&mut self);
            let mut checks = Checks {
                time: repo.world.now(),
                hashed: self.hashed,
                opened: self.opened,
                certificate: keys.certificate.clone(),
                signature: [0; sign::SIGNATURE_LEN],
            };
            let number = self.last + 1;
            checks.sign(keys.signing_as_author()?, repo.config.repo, number);
            let key = object::checks_key(number);
            match repo.store.create_exclusive(&key, repo.seal(&key, checks.encode())).await? {
                Created::Mine => return Ok(()),
                Created::Other(_) => self = Self::load(repo, log).await?,
            }
        }
        Err(Error::Moving)
    }
}

/// None if its author's key was revoked.
async fn read(repo: &Repository, log: &Log, number: u64) -> Result<Option<Checks>> {
    let key = object::checks_key(number);
    let sealed = repo.store.get_at_most(&key, limits::CHECKS_LEN as u64).await?;
    let plain = repo.unseal("check state", &key, &sealed)?;
    let checks = Checks::decode(&plain).map_err(Error::object(&key))?;
    checks.verify(&repo.keys.owner, repo.config.repo, number).map_err(Error::object(&key))?;
    repo.keys.check_domain(&checks.certificate).map_err(Error::object(&key))?;
    let is_revoked = log.is_revoked(checks.certificate.key, checks.certificate.serial);
    Ok((!is_revoked).then_some(checks))
}
