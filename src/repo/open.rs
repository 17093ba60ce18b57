//! Making and opening a repository.
//!
//! Spec: chapters 2 and 3. A repository exists when its `config` does; the owner's slot is
//! written before it. `config` is believed only after an unlocked slot's pin fits it.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use crate::crypto::kdf::Params;
use crate::crypto::secret::{Key, Passphrase};
use crate::format::config::{self, Chunker, Config, FEATURE_SINGLE_WRITER};
use crate::format::id::{DomainId, RepoId, SlotId};
use crate::format::keys::{KeyFile, OwnerSecrets, RoleSecrets, Secrets, Slot};
use crate::format::{limits, object};
use crate::repo::keys::Keys;
use crate::repo::owner::{LikeKeys, Owner};
use crate::repo::slots::{NewSlot, Opens};
use crate::repo::{Error, Repository, Result};
use crate::store::{Class as StoreClass, Created, Store};
use crate::world::World;

/// Slots that are fetched at the same time.
const PARALLEL_GETS: usize = 32;

/// What unlocks a repository.
#[derive(Clone, Debug)]
pub enum Unlock {
    Passphrase(Passphrase),
    KeyFile(KeyFile),
}

/// What to do with a store that can't create exclusively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degrade {
    Refuse,
    /// One writer only, ever: the user's word.
    SingleWriter,
}

/// How a repository is made.
pub struct Init {
    /// The owner's passphrase; none: a key file is made.
    pub passphrase: Option<Passphrase>,
    pub cost: Params,
    pub chunker: Chunker,
    pub degrade: Degrade,
    /// Keys and sizes that are taken over from another repository, in place of `chunker`.
    pub like: Option<LikeKeys>,
}

/// Makes a repository in an empty place, and gives the owner's key file if there is no passphrase.
pub async fn init(store: Store, world: &World, init: Init) -> Result<(Repository, Option<KeyFile>)> {
    if read_config(&store).await?.is_some() {
        return Err(Error::Exists { store: store.to_string() });
    }
    let features = probe(&store, world, init.degrade).await?;
    let store = if features & FEATURE_SINGLE_WRITER != 0 { store.degraded() } else { store };
    let root = Key::new(world.bytes());
    let (sizes, like) = match init.like {
        Some(like) => (like.sizes, Some(like.ids)),
        None => (init.chunker, None),
    };
    let owner = Owner { repo: RepoId(world.bytes()), secrets: OwnerSecrets { root, epochs: vec![], like } };
    let config = Config { repo: owner.repo, features, chunker: sizes, owner: owner.public() };
    let encoded = config.encode(&owner.signing());
    let opens = match &init.passphrase {
        Some(passphrase) => Opens::by_passphrase(passphrase, init.cost, world)?,
        None => Opens::by_key_file(world),
    };
    let slot = NewSlot::of_owner("owner", opens, world);
    slot.put(&store, &owner, 0, config::digest(&encoded), world).await?;
    let key_file = init.passphrase.is_none().then(|| slot.key_file(config.repo));
    match store.create_exclusive(object::CONFIG, encoded.into()).await? {
        Created::Mine => {}
        Created::Other(_) => return Err(Error::Exists { store: store.to_string() }),
    }
    let keys = Arc::new(Keys::new(&config, RoleSecrets::Owner(Box::new(owner.secrets)), None)?);
    let top = store.clone();
    Ok((Repository::of(store, top, config, keys, world), key_file))
}

async fn probe(store: &Store, world: &World, degrade: Degrade) -> Result<u64> {
    let probe = store.probe(world.bytes()).await?;
    if probe.is_sound() {
        return Ok(0);
    }
    if degrade == Degrade::SingleWriter && probe.is_sound_if_degraded() {
        return Ok(FEATURE_SINGLE_WRITER);
    }
    let broken = probe.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(Error::UnfitStore { store: store.to_string(), broken })
}

/// Opens a repository with a passphrase or a key file. An owner opens the default domain or the one that is
/// named; who else names one that is not his is refused.
pub async fn open(store: Store, world: &World, unlock: &Unlock, domain: Option<&str>) -> Result<Repository> {
    let (encoded, slots) = tokio::join!(read_config(&store), read_slots(&store, unlock));
    let encoded = encoded?.ok_or_else(|| Error::NotARepository { store: store.to_string() })?;
    let config = Config::decode(&encoded).map_err(Error::object(object::CONFIG))?;
    let secrets = match unlock {
        Unlock::Passphrase(passphrase) => unlock_by_passphrase(slots?, &config, passphrase).await?,
        Unlock::KeyFile(key_file) => unlock_by_file(slots?, &config, key_file)?,
    };
    if secrets.config_digest != config::digest(&encoded) {
        return Err(Error::ConfigChanged);
    }
    let keys = Arc::new(Keys::new(&config, secrets.holds, domain)?);
    let top = if config.single_writer() { store.degraded() } else { store };
    let store = place_of(&top, keys.certificate.domain);
    Ok(Repository::of(store, top, config, keys, world))
}

/// Where the objects of a domain lie.
pub fn place_of(top: &Store, domain: DomainId) -> Store {
    object::domain_folder(domain).map_or_else(|| top.clone(), |folder| top.within(&folder))
}

async fn read_config(store: &Store) -> Result<Option<Bytes>> {
    match store.get_at_most(object::CONFIG, limits::CONFIG_LEN as u64).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.class() == StoreClass::Missing => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `config` as stored; still the one that the repository was opened with.
pub async fn stored_config(repo: &Repository) -> Result<Bytes> {
    let encoded =
        read_config(&repo.top).await?.ok_or_else(|| Error::NotARepository { store: repo.top.to_string() })?;
    let read = Config::decode(&encoded).map_err(Error::object(object::CONFIG))?;
    if read == repo.config { Ok(encoded) } else { Err(Error::ConfigChanged) }
}

pub(super) async fn read_slot(store: &Store, key: &str) -> Result<Slot> {
    let bytes = store.get_at_most(key, limits::SLOT_LEN as u64).await?;
    Slot::decode(&bytes).map_err(Error::object(key))
}

/// The slots that may be opened, or why one can't be read: all for a passphrase, for a key file its own.
async fn read_slots(store: &Store, unlock: &Unlock) -> Result<Vec<(SlotId, Result<Slot>)>> {
    let ids = match unlock {
        Unlock::KeyFile(file) => vec![file.slot],
        Unlock::Passphrase(_) => {
            let listed = store.list(object::KEYS).await?;
            let name = |key: &str| SlotId::parse(key.rsplit('/').next().unwrap_or_default());
            listed.iter().filter_map(|found| name(&found.key)).collect()
        }
    };
    let reading =
        ids.into_iter().map(|id| async move { (id, read_slot(store, &object::slot_key(id)).await) });
    Ok(futures::stream::iter(reading).buffered(PARALLEL_GETS).collect().await)
}

fn unlock_by_file(slots: Vec<(SlotId, Result<Slot>)>, config: &Config, file: &KeyFile) -> Result<Secrets> {
    let wrong = || Error::WrongKeyFile { slot: file.slot.to_string() };
    if file.repo != config.repo {
        return Err(wrong());
    }
    let (id, slot) = slots.into_iter().next().ok_or_else(wrong)?;
    let slot = match slot {
        Err(Error::Store(error)) if error.class() == StoreClass::Missing => return Err(wrong()),
        slot => slot?,
    };
    slot.open(&file.unlock, config.repo, id).map_err(|_| wrong())
}

/// Tries each passphrase slot; a slot that can't be read does not hinder the others.
async fn unlock_by_passphrase(
    slots: Vec<(SlotId, Result<Slot>)>,
    config: &Config,
    passphrase: &Passphrase,
) -> Result<Secrets> {
    let mut unreadable = None;
    for (id, slot) in slots {
        let opened = match slot {
            Ok(slot) => try_passphrase(slot, config, passphrase, id).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(Some(secrets)) => return Ok(secrets),
            Ok(None) => {}
            Err(error) => unreadable = Some(error),
        }
    }
    Err(unreadable.unwrap_or(Error::WrongPassphrase))
}

async fn try_passphrase(
    slot: Slot,
    config: &Config,
    passphrase: &Passphrase,
    id: SlotId,
) -> Result<Option<Secrets>> {
    let (repo, passphrase) = (config.repo, passphrase.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let unlock = slot.passphrase_key(&passphrase)?;
        Some(unlock.map(|unlock| slot.open(&unlock, repo, id).ok()))
    });
    match opened.await.expect("opening a slot does not panic") {
        None => Ok(None),
        Some(Ok(secrets)) => Ok(secrets),
        Some(Err(source)) => Err(Error::Object { key: object::slot_key(id), source }),
    }
}
