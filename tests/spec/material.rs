//! The fixed keys and names that all vectors are made from.

use kist::crypto::secret::Key;
use kist::crypto::{context, hash, sign};
use kist::format::id::{DomainId, KeyId, PackId, RepoId, SessionId, SourceId};
use kist::format::keys::{Certificate, KeyName, Recipient, Role};
use kist::format::summary::Source;
use kist::world::{Random, Time, World, fixed};

pub const NOW: Time = Time(1_700_000_000_123_456_789);

/// One repository, its owner, one writer, one session of it with one lane.
pub struct Material {
    pub root: Key,
    pub repo: RepoId,
    pub owner_seed: Key,
    pub owner: [u8; 32],
    pub recipient_seed: Key,
    pub recipient: Recipient,
    pub id_key: Key,
    pub chunker: Key,
    pub structure: Key,
    pub writer: KeyId,
    pub writer_seed: Key,
    pub meta_root: Key,
    pub meta_scope: Key,
    /// Of the first epoch.
    pub info_key: Key,
    pub certificate: Certificate,
    pub source: SourceId,
    pub meta: KeyName,
    pub meta_key: Key,
    pub session: SessionId,
    pub lane_key: Key,
    pub lane_seed: Key,
    pub pack: PackId,
}

pub fn source() -> Source {
    Source::Files { host: "web-0".into(), paths: vec!["/etc".into(), "/srv".into()] }
}

impl Material {
    pub fn new() -> Self {
        let world = fixed::world(1, NOW);
        let root = Key::new(world.bytes());
        let owner_seed = hash::derive(context::OWNER_SIGNING, &root, b"");
        let recipient_secret = hash::derive(context::OWNER_RECIPIENT, &root, b"");
        let domain = DomainId([0; 16]);
        let domain_key = hash::derive(context::DOMAIN, &root, &domain.0);
        let recipient_seed = hash::derive(context::RECIPIENT, &recipient_secret, &domain.0);
        let id_key = hash::derive(context::ID, &domain_key, b"");
        let (repo, writer) = (RepoId(world.bytes()), KeyId(world.bytes()));
        let writer_seed = Key::new(world.bytes());
        let meta_root = hash::derive(context::META_ROOT, &domain_key, b"");
        let meta_scope = hash::derive(context::META_SCOPE, &meta_root, &writer.0);
        let source_key = hash::derive(context::SOURCE_ID, &id_key, b"");
        let source = SourceId(half(hash::keyed(&source_key, &[&source().canonical()])));
        Self {
            owner: sign::public(&owner_seed),
            recipient: Recipient::of(&recipient_seed),
            info_key: hash::derive(context::SLOT_INFO, &recipient_secret, b""),
            chunker: hash::derive(context::CHUNKER, &domain_key, b""),
            structure: hash::derive(context::STRUCTURE, &domain_key, b""),
            certificate: Certificate::issue(
                &owner_seed,
                repo,
                (Role::Writer, writer, domain, 0),
                sign::public(&writer_seed),
                "shop",
            ),
            meta: KeyName::Meta { scope: writer, source },
            meta_key: hash::derive(context::META, &meta_scope, &source.0),
            session: SessionId::new(0, world.bytes()),
            lane_key: Key::new(world.bytes()),
            lane_seed: Key::new(world.bytes()),
            pack: PackId(world.bytes()),
            root,
            repo,
            owner_seed,
            recipient_seed,
            id_key,
            writer,
            writer_seed,
            meta_root,
            meta_scope,
            source,
        }
    }

    pub fn chunk_id_key(&self) -> Key {
        hash::derive(context::CHUNK_ID, &self.id_key, b"")
    }

    pub fn node_id_key(&self) -> Key {
        hash::derive(context::NODE_ID, &self.id_key, b"")
    }

    pub fn data(&self) -> KeyName {
        KeyName::Data { session: self.session, lane: 0 }
    }
}

/// The first half of a hash.
pub fn half(hash: [u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("a hash has 32 bytes")
}

/// A source of bytes of its own for each vector, so that adding one changes no other.
pub fn draw(name: &str) -> World {
    let seed = hash::plain(name.as_bytes());
    fixed::world(u64::from_le_bytes(*seed.first_chunk().expect("a hash has 32 bytes")), NOW)
}

/// The first bytes of the stream with a seed: what the corpora of the chunker are.
pub fn stream(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let world = fixed::world(seed, NOW);
    let random: &dyn Random = world.random.as_ref();
    random.fill(&mut out);
    out
}
