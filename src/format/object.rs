//! The envelope of small sealed objects (index deltas, sessions, commits), and all keys in the store.
//!
//! Spec: chapter 2. An object is sealed under the structure key of its domain, bound to
//! the repository and to its own key in the domain's place, and padded before sealing. Nothing in
//! it can be read without the key, not even what it is.

use crate::crypto::seal;
use crate::crypto::secret::Key;
use crate::format::codec::padded_len;
use crate::format::id::{DomainId, PackId, RepoId, SessionId, SlotId, hex};
use crate::format::{Error, VERSION};

pub const CONFIG: &str = "config";
pub const KEYS: &str = "keys";
pub const DOMAINS: &str = "domains";
pub const PACKS: &str = "packs";
pub const INDEX: &str = "index";
pub const SESSIONS: &str = "sessions";
pub const COMMITS: &str = "commits";
pub const GC_LOG: &str = "gc";
pub const CHECKPOINTS: &str = "checkpoints";
pub const GENERATIONS: &str = "generations";
pub const CHECKS: &str = "checks";

/// Where the objects of a domain lie; none for the default one: at the top.
pub fn domain_folder(id: DomainId) -> Option<String> {
    (id != DomainId::DEFAULT).then(|| format!("{DOMAINS}/{id}"))
}

pub fn slot_key(id: SlotId) -> String {
    format!("{KEYS}/{id}")
}

pub fn pack_key(id: PackId) -> String {
    format!("{PACKS}/{}/{id}", hex(&id.0[..1]))
}

pub fn index_key(session: SessionId, lane: u32, number: u32) -> String {
    format!("{}/{lane}-{number}", of_session(INDEX, session))
}

pub fn session_key(id: SessionId) -> String {
    of_session(SESSIONS, id)
}

pub fn commit_key(id: SessionId) -> String {
    of_session(COMMITS, id)
}

/// The folder of an epoch's sessions, commits or index deltas.
pub fn epoch_folder(folder: &str, epoch: u32) -> String {
    format!("{folder}/{epoch:08x}")
}

fn of_session(folder: &str, id: SessionId) -> String {
    format!("{}/{}", epoch_folder(folder, id.epoch()), id.snapshot_name())
}

/// The session of `<folder>/<epoch>/<rest of its id>`.
pub fn parse_session(folder: &str, key: &str) -> Option<SessionId> {
    let (epoch, rest) = key.strip_prefix(folder)?.strip_prefix('/')?.split_once('/')?;
    (epoch.len() == 8).then(|| SessionId::parse(&format!("{epoch}{rest}"))).flatten()
}

/// Session and lane of `index/<epoch>/<rest of the session's id>/<lane>-<k>`.
pub fn parse_index(key: &str) -> Option<(SessionId, u32)> {
    let (session, name) = key.rsplit_once('/')?;
    let session = parse_session(INDEX, session)?;
    let (lane, number) = name.split_once('-')?;
    let (lane, number) = (lane.parse().ok()?, number.parse().ok()?);
    (index_key(session, lane, number) == key).then_some((session, lane))
}

/// The entry of the gc log in slot `n`, counted from 1.
pub fn log_key(n: u64) -> String {
    format!("{GC_LOG}/{n}")
}

pub fn checkpoint_key(n: u64) -> String {
    format!("{CHECKPOINTS}/{n}")
}

/// The folder of the parts of a checkpoint.
pub fn generation_folder(n: u64, name: [u8; 16]) -> String {
    format!("{GENERATIONS}/{n}-{}", hex(&name))
}

pub fn generation_key(n: u64, name: [u8; 16], part: usize) -> String {
    format!("{}/{part}", generation_folder(n, name))
}

/// What checks have read, the n-th time that it was written down, counted from 1.
pub fn checks_key(n: u64) -> String {
    format!("{CHECKS}/{n}")
}

/// The slot of `checkpoints/<n>`, of `gc/<n>`, or of `checks/<n>`.
pub fn parse_slot(folder: &str, key: &str) -> Option<u64> {
    let n = key.strip_prefix(folder)?.strip_prefix('/')?;
    n.parse().ok().filter(|slot: &u64| *slot > 0 && slot.to_string() == n)
}

/// Seals `plain` as the object stored at `key`.
pub fn seal_object(
    structure: &Key,
    nonce: [u8; seal::NONCE_LEN],
    repo: RepoId,
    key: &str,
    mut plain: Vec<u8>,
) -> Vec<u8> {
    plain.resize(padded_len(plain.len() + seal::OVERHEAD) - seal::OVERHEAD, 0);
    seal::seal(structure, nonce, &bound_to(repo, key), &plain)
}

/// Opens the object stored at `key`. What is inside ends with zeros (padding).
pub fn open_object(
    what: &'static str,
    structure: &Key,
    repo: RepoId,
    key: &str,
    sealed: &[u8],
) -> Result<Vec<u8>, Error> {
    seal::open(structure, &bound_to(repo, key), sealed).map_err(|source| Error::Crypto { what, source })
}

fn bound_to(repo: RepoId, key: &str) -> Vec<u8> {
    let mut context = b"kist object".to_vec();
    context.extend_from_slice(&VERSION.to_le_bytes());
    context.extend_from_slice(&repo.0);
    context.extend_from_slice(key.as_bytes());
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_opens_only_at_its_own_key() {
        let structure = Key::new([1; 32]);
        let sealed = seal_object(&structure, [0; 24], RepoId([2; 16]), "commits/a", b"text".to_vec());
        assert_eq!(sealed.len(), 512);
        let open = |key, repo| open_object("test", &structure, RepoId([repo; 16]), key, &sealed);
        assert!(open("commits/a", 2).unwrap().starts_with(b"text\0"));
        assert!(open("commits/b", 2).is_err());
        assert!(open("commits/a", 3).is_err());
    }
}
