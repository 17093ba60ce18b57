//! What an unlocked key lets its holder do: the keys of its role in one domain, derived once.
//!
//! Spec: chapter 3. What a role can't do it has no keys for: a writer no recipient seed, so it can't open what
//! it has sealed once the lane is gone; a maintainer neither ids nor meta keys. A mover has still less.

use std::sync::Arc;

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, sign};
use crate::format::config::{Chunker, Config};
use crate::format::id::{KeyId, RepoId, SessionId, SourceId};
use crate::format::keys::{
    Bundle, Certificate, Domain, IdKeys, KeyName, OwnerSecrets, ReaderSecrets, Recipient, Role, RoleSecrets,
    Trust, WriterSecrets,
};
use crate::format::session::{WrappedKey, unwrap_lane};
use crate::repo::ids::Ids;
use crate::repo::owner::{LikeKeys, Owner, meta_scope};
use crate::repo::{Error, Result};

/// Which meta keys the holder can derive.
enum MetaKeys {
    /// A maintainer's.
    None,
    /// The owner's and a reader's: of every scope.
    All { root: Key },
    /// A writer's own.
    Scope { scope: KeyId, key: Key },
    /// A mover's: of one volume.
    One { name: KeyName, key: Key },
}

/// What opens the data keys of lanes.
enum LaneKeys {
    /// Nothing: who has it can't read contents.
    Closed,
    /// The seeds that they are wrapped to, with the ids of the recipients; the owner's and a reader's.
    Seeds(Vec<([u8; 16], Key)>),
    /// Somebody who has the seeds, asked for one at a time; a restoring mover's.
    Asked(Arc<dyn AskLaneKey>),
}

impl LaneKeys {
    fn of(seeds: Vec<Key>) -> Self {
        Self::Seeds(seeds.into_iter().map(|seed| (Recipient::of(&seed).id(), seed)).collect())
    }
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
    /// What lane keys are wrapped to: none of who adds no contents.
    pub recipients: Vec<Recipient>,
    /// None of a mover, which needs no name of it.
    domain: Option<Domain>,
    trust: Trust,
    /// Signs what the role may sign; a mover has none.
    signing: Option<Key>,
    ids: Option<Ids>,
    meta: MetaKeys,
    lane_keys: LaneKeys,
    /// Makes further keys; the owner's only.
    root: Option<Owner>,
}

impl Keys {
    /// From the secrets of a slot, for a `config` whose digest was found to be the pinned one. The owner
    /// chooses the domain, others have theirs.
    pub(super) fn new(config: &Config, secrets: RoleSecrets, domain: Option<&str>) -> Result<Self> {
        let keys = match secrets {
            RoleSecrets::Owner(owner) => Self::of_owner(config, *owner, domain)?,
            RoleSecrets::Writer(writer) => Self::of_writer(config, *writer)?,
            RoleSecrets::Maintainer(bundle) => Self::of_bundle(config, *bundle)?,
            RoleSecrets::Reader(reader) => Self::of_reader(config, *reader)?,
        };
        match (domain, keys.domain_name()) {
            (Some(asked), have) if asked != have => {
                let (asked, have) = (asked.to_owned(), have.to_owned());
                Err(Error::OtherDomain { asked, have, role: keys.role.to_string() })
            }
            _ => Ok(keys),
        }
    }

    fn of_owner(config: &Config, secrets: OwnerSecrets, domain: Option<&str>) -> Result<Self> {
        let owner = Owner { repo: config.repo, secrets };
        if owner.public() != config.owner {
            return Err(Error::ConfigChanged);
        }
        let domain = domain.map_or(Ok(Domain::default_one()), |name| owner.domain(name))?;
        let keys = owner.domain_keys(domain.id());
        Ok(Self {
            repo: config.repo,
            owner: config.owner,
            role: Role::Owner,
            certificate: owner.certificate(domain.id()),
            recipients: vec![keys.recipient()],
            structure: keys.structure,
            domain: Some(domain),
            trust: Trust::Own,
            signing: Some(owner.signing()),
            ids: Some(Ids::new(keys.ids)),
            meta: MetaKeys::All { root: keys.meta_root },
            lane_keys: LaneKeys::of(keys.seeds),
            root: Some(owner),
        })
    }

    /// The owner's, in another domain.
    pub(super) fn in_domain(&self, config: &Config, name: &str) -> Result<Self> {
        Self::of_owner(config, self.owner_keys()?.secrets.clone(), Some(name))
    }

    /// What every role has but the owner; a maintainer has nothing else.
    fn of_bundle(config: &Config, bundle: Bundle) -> Result<Self> {
        bundle.certificate.verify(&config.owner, config.repo).map_err(|_| Error::ConfigChanged)?;
        Ok(Self {
            repo: config.repo,
            owner: config.owner,
            role: bundle.certificate.role,
            certificate: bundle.certificate,
            structure: bundle.structure,
            recipients: Vec::new(),
            domain: Some(bundle.domain),
            trust: Trust::Own,
            signing: Some(bundle.signing),
            ids: None,
            meta: MetaKeys::None,
            lane_keys: LaneKeys::Closed,
            root: None,
        })
    }

    fn of_writer(config: &Config, writer: WriterSecrets) -> Result<Self> {
        let scope = writer.bundle.certificate.key;
        Ok(Self {
            recipients: writer.recipients,
            trust: writer.trust,
            ids: Some(Ids::new(writer.ids)),
            meta: MetaKeys::Scope { scope, key: writer.meta_scope },
            ..Self::of_bundle(config, writer.bundle)?
        })
    }

    fn of_reader(config: &Config, reader: ReaderSecrets) -> Result<Self> {
        Ok(Self {
            ids: Some(Ids::new(reader.ids)),
            meta: MetaKeys::All { root: reader.meta_root },
            lane_keys: LaneKeys::of(reader.seeds),
            ..Self::of_bundle(config, reader.bundle)?
        })
    }

    /// A mover's, from what it was handed. It reads contents only if there is somebody to ask for lane keys.
    pub(super) fn mover(config: &Config, mover: MoverKeys, asked: Option<Arc<dyn AskLaneKey>>) -> Self {
        let (name, key) = mover.meta;
        Self {
            repo: config.repo,
            owner: config.owner,
            role: if asked.is_some() { Role::Reader } else { Role::Writer },
            certificate: mover.certificate,
            structure: mover.structure,
            recipients: Vec::new(),
            domain: None,
            trust: Trust::Own,
            signing: None,
            ids: Some(Ids::new(IdKeys { id: mover.id, chunker: mover.chunker })),
            meta: MetaKeys::One { name, key },
            lane_keys: asked.map_or(LaneKeys::Closed, LaneKeys::Asked),
            root: None,
        }
    }

    /// What a mover gets for the entries that are sealed with the key `meta`.
    pub fn for_mover(&self, meta: KeyName) -> Result<MoverKeys> {
        let key = self.meta_key(&meta).ok_or_else(|| self.lacks(READERS))?;
        let IdKeys { id, chunker } = self.ids()?.keys().clone();
        let (certificate, structure) = (self.certificate.clone(), self.structure.clone());
        Ok(MoverKeys { certificate, structure, id, chunker, meta: (meta, key) })
    }

    /// What a repository that is made like this one takes over; the owner's to give.
    pub fn like_keys(&self, sizes: Chunker) -> Result<LikeKeys> {
        self.owner_keys()?;
        Ok(LikeKeys { sizes, ids: self.ids()?.keys().clone() })
    }

    /// What makes ids and cuts; not a maintainer's.
    pub fn ids(&self) -> Result<&Ids> {
        self.ids.as_ref().ok_or_else(|| self.lacks("owner's, a writer's or a reader's"))
    }

    /// Name and key of this holder's entries for a source. A mover has the one that it was handed.
    pub fn own_meta_key(&self, source: SourceId) -> Result<(KeyName, Key)> {
        let name = KeyName::Meta { scope: self.certificate.key, source };
        let key = self.meta_key(&name).ok_or_else(|| self.lacks(READERS))?;
        Ok((name, key))
    }

    /// The same of the writer of a snapshot, if one is given; for who has all of them.
    pub fn meta_key_of(
        &self,
        snapshot: Option<&crate::repo::Snapshot>,
        source: SourceId,
    ) -> Result<(KeyName, Key)> {
        let Some(snapshot) = snapshot else { return self.own_meta_key(source) };
        let name = snapshot.commit.meta_key_name(source);
        let key = self.meta_key(&name).ok_or_else(|| self.lacks("owner's"))?;
        Ok((name, key))
    }

    /// The seed that signs sessions, commits and checkpoints.
    pub(super) fn signing(&self) -> Result<&Key> {
        let signing = self.signing.as_ref().filter(|_| self.role != Role::Reader);
        signing.ok_or_else(|| self.lacks("owner's or a writer's"))
    }

    /// The seed that signs what is not every role's to say, such as that packs were read: whoever asks for it has held
    /// the role against that. A mover has none.
    pub(super) fn signing_as_author(&self) -> Result<&Key> {
        self.signing.as_ref().ok_or_else(|| self.lacks("owner's"))
    }

    /// The key of entries, if this holder may know it.
    pub fn meta_key(&self, name: &KeyName) -> Option<Key> {
        let KeyName::Meta { scope, source } = name else { return None };
        let scope_key = match &self.meta {
            MetaKeys::All { root } => meta_scope(root, *scope),
            MetaKeys::Scope { scope: own, key } if own == scope => key.clone(),
            MetaKeys::One { name: only, key } if only == name => return Some(key.clone()),
            MetaKeys::Scope { .. } | MetaKeys::One { .. } | MetaKeys::None => return None,
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
            LaneKeys::Seeds(seeds) => {
                let wrapped = wrapped()?;
                let is_wrapped_to = |id: &[u8; 16]| wrapped.iter().any(|key| key.recipient == *id);
                let mut fitting = seeds.iter().filter(|(id, _)| is_wrapped_to(id));
                fitting.find_map(|(_, seed)| unwrap_lane((self.repo, session, lane), seed, wrapped).ok())
            }
            LaneKeys::Asked(asked) => asked.lane_key(session, lane),
        }
    }

    /// Refuses who can't open contents.
    pub fn check_reads_data(&self) -> Result<()> {
        if self.can_read_data() { Ok(()) } else { Err(self.lacks(READERS)) }
    }

    /// Whether contents can be opened with this key.
    pub fn can_read_data(&self) -> bool {
        !matches!(self.lane_keys, LaneKeys::Closed)
    }

    /// Whether the names of all of the domain can be read; a writer reads those of its own.
    pub fn can_read_names(&self) -> bool {
        matches!(self.meta, MetaKeys::All { .. })
    }

    /// Refuses who can't add snapshots.
    pub fn check_adds(&self) -> Result<()> {
        if self.can_add() { Ok(()) } else { Err(self.lacks("owner's or a writer's")) }
    }

    /// Whether snapshots can be added.
    pub fn can_add(&self) -> bool {
        self.signing.is_some() && matches!(self.role, Role::Owner | Role::Writer)
    }

    /// Whether it may forget and prune.
    pub fn can_maintain(&self) -> bool {
        self.signing.is_some() && matches!(self.role, Role::Owner | Role::Maintainer)
    }

    /// Onto which packs this holder may deduplicate.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The domain's name; a mover is not told it.
    pub fn domain_name(&self) -> &str {
        self.domain.as_ref().map_or("", Domain::name)
    }

    /// Refuses who is certified for another domain: keys of two domains don't add up to those of one.
    pub(super) fn check_domain(&self, certificate: &Certificate) -> Result<(), crate::format::Error> {
        if certificate.domain == self.certificate.domain {
            return Ok(());
        }
        let found = certificate.domain.to_string();
        Err(crate::format::Error::Invalid { what: "certificate", field: "domain", found })
    }

    pub(super) fn owner_keys(&self) -> Result<&Owner> {
        self.root.as_ref().ok_or_else(|| self.lacks("owner's"))
    }

    pub(super) fn domain(&self) -> &Domain {
        self.domain.as_ref().expect("only a mover is not told its domain, and it makes no keys")
    }

    /// The error for what the role can't do; `needed` names whose keys can.
    pub(super) fn lacks(&self, needed: &'static str) -> Error {
        Error::Role { needed, have: self.role.to_string() }
    }
}

/// Whose keys read contents, and all names of a domain.
pub(super) const READERS: &str = "owner's or a reader's";
