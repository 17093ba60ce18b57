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
    format!("{INDEX}/{session}/{lane}-{number}")
}

pub fn session_key(id: SessionId) -> String {
    format!("{SESSIONS}/{id}")
}

pub fn commit_key(id: SessionId) -> String {
    format!("{COMMITS}/{id}")
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
