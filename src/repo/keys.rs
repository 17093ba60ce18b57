//! What an unlocked key lets its holder do: the keys of its domain, derived once.
//!
//! Spec: chapter 3. A writer has no recipient seed, so it can't open what it has sealed
//! with a lane key once the lane is gone. A mover has still less: [`MoverKeys`].

use std::sync::Arc;

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, sign, wrap};
use crate::format::config::Config;
use crate::format::entry::TreePath;
use crate::format::id::{ChunkId, DomainId, KeyId, LinkGroup, NodeId, RepoId, SessionId, SourceId};
use crate::format::keys::{Certificate, KeyName, Recipient, Role, RoleSecrets, WriterSecrets};
use crate::format::node::{NodeCut, NodeParts, node_id};
use crate::format::session::{WrappedKey, unwrap_lane};
use crate::format::summary::Source;
use crate::repo::{Error, Result};

/// The domain that `init` makes; more of them come with the roles that need them.
const DEFAULT_DOMAIN: DomainId = DomainId([0; 16]);
/// The owner as a writer: its key id, and the scope of its meta keys.
const OWNER: KeyId = KeyId([0; 16]);

/// Which meta keys the holder can derive.
enum MetaKeys {
    /// The owner's: of every scope.
    All { domain: Key },
    /// A writer's own.
    Scope { scope: KeyId, key: Key },
    /// A mover's: of one volume.
    One { name: KeyName, key: Key },
}

/// What opens the data keys of lanes.
enum LaneKeys {
    /// Nothing: who has it can't read contents.
    Closed,
    /// The seed that they are wrapped to; the owner's only.
    Seed(Key),
    /// Somebody who has the seed, asked for one at a time; a restoring mover's.
    Asked(Arc<dyn AskLaneKey>),
}

/// Gives single lane keys to who may open some and has no seed.
pub trait AskLaneKey: Send + Sync {
    /// Blocks until the answer is there. None: it is not given.
    fn lane_key(&self, session: SessionId, lane: u32) -> Option<Key>;
}

/// What a mover needs to add or read one volume, and no more: no signing key that lasts, no recipient
/// seed, no other source's names.
#[derive(Clone)]
pub struct MoverKeys {
    pub certificate: Certificate,
    pub structure: Key,
    pub id: Key,
    pub chunker: Key,
    /// Of the volume's entries.
    pub meta: (KeyName, Key),
}

/// The keys of one role in one domain.
pub struct Keys {
    pub repo: RepoId,
    pub owner: [u8; sign::PUBLIC_LEN],
    pub role: Role,
    pub certificate: Certificate,
    pub structure: Key,
    pub recipients: Vec<Recipient>,
    /// Signs sessions and commits; a mover has none.
    signing: Option<Key>,
    id: Key,
    chunker: Key,
    chunk_id: Key,
    node_id: Key,
    file_hash: Key,
    meta: MetaKeys,
    lane_keys: LaneKeys,
    /// Makes further keys; the owner's only.
    root: Option<Key>,
}

impl Keys {
    /// From the secrets of a slot, for a `config` whose digest was found to be the pinned one.
    pub(super) fn new(config: &Config, secrets: RoleSecrets) -> Result<Self> {
        match secrets {
            RoleSecrets::Owner { root } => Self::owner(config, root),
            RoleSecrets::Writer(writer) => Self::writer(config, *writer),
        }
    }

    fn owner(config: &Config, root: Key) -> Result<Self> {
        let signing = owner_signing(&root);
        if sign::public(&signing) != config.owner {
            return Err(Error::ConfigChanged);
        }
        let seed = owner_recipient(&root);
        let domain = domain_root(&root, DEFAULT_DOMAIN);
        let certificate = Certificate::issue(
            &signing,
            config.repo,
            (Role::Owner, OWNER, DEFAULT_DOMAIN),
            config.owner,
            "owner",
        );
        let id = hash::derive(context::ID, &domain, b"");
        Ok(Self {
            repo: config.repo,
            owner: config.owner,
            role: Role::Owner,
            certificate,
            structure: hash::derive(context::STRUCTURE, &domain, b""),
            recipients: vec![Recipient { public: wrap::public(&seed) }],
            signing: Some(signing),
            chunker: hash::derive(context::CHUNKER, &domain, b""),
            chunk_id: hash::derive(context::CHUNK_ID, &id, b""),
            node_id: hash::derive(context::NODE_ID, &id, b""),
            file_hash: hash::derive(context::FILE_HASH, &id, b""),
            id,
            meta: MetaKeys::All { domain },
            lane_keys: LaneKeys::Seed(seed),
            root: Some(root),
        })
    }

    fn writer(config: &Config, writer: WriterSecrets) -> Result<Self> {
        writer.certificate.verify(&config.owner, config.repo).map_err(|_| Error::ConfigChanged)?;
        let id = writer.id;
        Ok(Self {
            repo: config.repo,
            owner: config.owner,
            role: Role::Writer,
            structure: writer.structure,
            recipients: writer.recipients,
            signing: Some(writer.signing),
            chunker: writer.chunker,
            chunk_id: hash::derive(context::CHUNK_ID, &id, b""),
            node_id: hash::derive(context::NODE_ID, &id, b""),
            file_hash: hash::derive(context::FILE_HASH, &id, b""),
            id,
            meta: MetaKeys::Scope { scope: writer.certificate.key, key: writer.meta_scope },
            certificate: writer.certificate,
            lane_keys: LaneKeys::Closed,
            root: None,
        })
    }

    /// A mover's, from what it was handed. It reads contents only if there is somebody to ask for lane keys.
    pub(super) fn mover(config: &Config, mover: MoverKeys, asked: Option<Arc<dyn AskLaneKey>>) -> Self {
        let id = mover.id;
        let (name, key) = mover.meta;
        Self {
            repo: config.repo,
            owner: config.owner,
            role: if asked.is_some() { Role::Reader } else { Role::Writer },
            certificate: mover.certificate,
            structure: mover.structure,
            recipients: Vec::new(),
            signing: None,
            chunker: mover.chunker,
            chunk_id: hash::derive(context::CHUNK_ID, &id, b""),
            node_id: hash::derive(context::NODE_ID, &id, b""),
            file_hash: hash::derive(context::FILE_HASH, &id, b""),
            id,
            meta: MetaKeys::One { name, key },
            lane_keys: asked.map_or(LaneKeys::Closed, LaneKeys::Asked),
            root: None,
        }
    }

    /// What a mover gets for the entries that are sealed with the key `meta`.
    pub fn for_mover(&self, meta: KeyName) -> Result<MoverKeys> {
        let key = self.meta_key(&meta).ok_or_else(|| self.lacks("owner"))?;
        Ok(MoverKeys {
            certificate: self.certificate.clone(),
            structure: self.structure.clone(),
            id: self.id.clone(),
            chunker: self.chunker.clone(),
            meta: (meta, key),
        })
    }

    /// The secrets of a new writer of the owner's domain.
    pub(super) fn new_writer(&self, key: KeyId, signing: Key, name: &str) -> Result<WriterSecrets> {
        let (Some(root), MetaKeys::All { domain }) = (&self.root, &self.meta) else {
            return Err(self.lacks("owner"));
        };
        let certificate = Certificate::issue(
            &owner_signing(root),
            self.repo,
            (Role::Writer, key, DEFAULT_DOMAIN),
            sign::public(&signing),
            name,
        );
        Ok(WriterSecrets {
            certificate,
            signing,
            id: self.id.clone(),
            chunker: self.chunker.clone(),
            structure: self.structure.clone(),
            meta_scope: meta_scope(domain, key),
            recipients: self.recipients.clone(),
        })
    }

    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(hash::keyed(&self.chunk_id, &[plain]))
    }

    pub fn node_id(&self, key: &KeyName, parts: &NodeParts) -> NodeId {
        node_id(&self.node_id, key, parts)
    }

    /// The hash of a bundled file's whole content.
    pub fn file_hash(&self, content: &[u8]) -> [u8; 32] {
        hash::keyed(&self.file_hash, &[content])
    }

    pub fn source_id(&self, source: &Source) -> SourceId {
        let key = hash::derive(context::SOURCE_ID, &self.id, b"");
        SourceId(*hash::keyed(&key, &[&source.canonical()]).first_chunk().expect("a hash has 32 bytes"))
    }

    /// Names the files that are one file with the one at `first`.
    pub fn link_group(&self, first: &TreePath) -> LinkGroup {
        let key = hash::derive(context::LINK_GROUP, &self.id, b"");
        LinkGroup(*hash::keyed(&key, &[first.sort_key()]).first_chunk().expect("a hash has 32 bytes"))
    }

    /// The table that the chunker rolls with.
    pub fn gear_table(&self) -> [u64; 256] {
        hash::derive_words(context::GEAR, &self.chunker)
    }

    pub fn node_cut(&self) -> NodeCut {
        NodeCut::new(hash::derive(context::NODE_CUT, &self.chunker, b""))
    }

    /// Name and key of this holder's entries for a source. A mover has the one that it was handed.
    pub fn own_meta_key(&self, source: SourceId) -> (KeyName, Key) {
        let name = KeyName::Meta { scope: self.certificate.key, source };
        (name, self.meta_key(&name).expect("a holder derives the keys of its own scope"))
    }

    /// The seed that signs sessions and commits.
    pub(super) fn signing(&self) -> Result<&Key> {
        self.signing.as_ref().ok_or_else(|| self.lacks("writer"))
    }

    /// The key of entries, if this holder may know it.
    pub fn meta_key(&self, name: &KeyName) -> Option<Key> {
        let KeyName::Meta { scope, source } = name else { return None };
        let scope_key = match &self.meta {
            MetaKeys::All { domain } => meta_scope(domain, *scope),
            MetaKeys::Scope { scope: own, key } if own == scope => key.clone(),
            MetaKeys::One { name: only, key } if only == name => return Some(key.clone()),
            MetaKeys::Scope { .. } | MetaKeys::One { .. } => return None,
        };
        Some(hash::derive(context::META, &scope_key, &source.0))
    }

    /// The data key of a lane. `wrapped` gives it as the session has it, wrapped to each recipient.
    pub(super) fn lane_key<'a>(
        &self,
        session: SessionId,
        lane: u32,
        wrapped: impl FnOnce() -> Option<&'a [WrappedKey]>,
    ) -> Option<Key> {
        match &self.lane_keys {
            LaneKeys::Closed => None,
            LaneKeys::Seed(seed) => unwrap_lane((self.repo, session, lane), seed, wrapped()?).ok(),
            LaneKeys::Asked(asked) => asked.lane_key(session, lane),
        }
    }

    /// Whether contents can be opened with this key.
    pub fn can_read_data(&self) -> bool {
        !matches!(self.lane_keys, LaneKeys::Closed)
    }

    pub(super) fn lacks(&self, needed: &'static str) -> Error {
        Error::Role { needed, have: self.role.to_string() }
    }
}

pub(super) fn owner_signing(root: &Key) -> Key {
    hash::derive(context::OWNER_SIGNING, root, b"")
}

fn owner_recipient(root: &Key) -> Key {
    hash::derive(context::OWNER_RECIPIENT, root, b"")
}

fn domain_root(root: &Key, domain: DomainId) -> Key {
    hash::derive(context::DOMAIN, root, &domain.0)
}

fn meta_scope(domain: &Key, scope: KeyId) -> Key {
    hash::derive(context::META_SCOPE, domain, &scope.0)
}
