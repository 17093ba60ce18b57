//! Managing keys: add, list, rotate, remove. The owner's to do.
//!
//! Spec: chapter 3. One owner manages keys at a time. A slot is put whole, under a name of its own or in place
//! of its former state, so that each key file opens at every moment; and those who read get a new epoch before
//! anybody writes for it, so that a rotation that was cut short leaves nothing that can't be read.

mod listed;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};

use crate::crypto::kdf::{self, Params};
use crate::crypto::secret::{Key, Passphrase};
use crate::format::id::{KeyId, RepoId, SlotId};
use crate::format::keys::{Domain, KeyFile, Lock, Role, RoleSecrets, Secrets, Slot, SlotInfo, Trust};
use crate::format::{Error as Format, config, limits, object};
use crate::repo::open::{read_slot, stored_config};
use crate::repo::owner::Owner;
use crate::repo::revoke::revoke;
use crate::repo::{Error, Log, Repository, Result, chain};
use crate::store::Store;
use crate::world::World;
pub use listed::{KeyInfo, KeyList};

/// Slots that are fetched at the same time.
const PARALLEL_GETS: usize = 16;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub role: Role,
    pub name: String,
    /// None: the one that the repository is opened in. An owner's key is of all.
    pub domain: Option<String>,
    /// Of a writer.
    pub trust: Trust,
}

impl NewKey {
    /// A key in the opened domain whose holder trusts itself only.
    pub fn of(role: Role, name: &str) -> Self {
        Self { role, name: name.to_owned(), domain: None, trust: Trust::Own }
    }
}

/// A lock, and the key that it gives.
pub(super) struct Opens {
    lock: Lock,
    unlock: Key,
}

impl Opens {
    pub fn by_key_file(world: &World) -> Self {
        Self { lock: Lock::KeyFile, unlock: Key::new(world.bytes()) }
    }

    pub fn by_passphrase(passphrase: &Passphrase, params: Params, world: &World) -> Result<Self> {
        let salt = world.bytes();
        let unlock = kdf::passphrase_key(passphrase, &salt, params)
            .map_err(|source| Format::Crypto { what: "key slot", source })
            .map_err(Error::object(object::KEYS))?;
        Ok(Self { lock: Lock::Passphrase { params, salt }, unlock })
    }
}

/// A slot that is about to be put.
pub(super) struct NewSlot {
    id: SlotId,
    lock: Lock,
    info: SlotInfo,
    /// None of an owner's, who signs with a key of the root's.
    signing: Option<Key>,
}

impl NewSlot {
    pub fn of_owner(name: &str, opens: Opens, world: &World) -> Self {
        let info = SlotInfo {
            role: Role::Owner,
            key: KeyId::OWNER,
            serial: 0,
            domain: Domain::default_one(),
            name: name.to_owned(),
            created: world.now(),
            trust: Trust::Own,
            unlock: opens.unlock,
        };
        Self { id: SlotId(world.bytes()), lock: opens.lock, info, signing: None }
    }

    pub fn key_file(&self, repo: RepoId) -> KeyFile {
        KeyFile { repo, slot: self.id, unlock: self.info.unlock.clone() }
    }

    /// Puts it, with all that the owner has, and the info sealed for an epoch.
    pub async fn put(
        &self,
        store: &Store,
        owner: &Owner,
        epoch: usize,
        config_digest: [u8; 32],
        world: &World,
    ) -> Result<()> {
        let holds = owner.secrets_of(&self.info, self.signing.as_ref());
        let secrets = Secrets { config_digest, holds };
        let (place, nonces) = ((owner.repo, self.id), [world.bytes(), world.bytes()]);
        let info_key = &owner.info_keys()[epoch];
        let slot = Slot::seal(self.lock.clone(), place, info_key, &self.info, &secrets, nonces);
        Ok(store.put(&object::slot_key(self.id), slot.encode().into()).await?)
    }
}

/// A slot as it lies there, opened.
struct Held {
    id: SlotId,
    lock: Lock,
    info: SlotInfo,
    /// What the info is sealed with.
    info_key: Key,
    holds: RoleSecrets,
}

impl Held {
    fn shown(&self) -> KeyInfo {
        let info = self.info.clone();
        KeyInfo {
            slot: self.id,
            role: info.role,
            key: info.key,
            serial: info.serial,
            domain: info.domain,
            name: info.name,
            created: info.created,
            trust: info.trust,
            by_passphrase: matches!(self.lock, Lock::Passphrase { .. }),
            is_revoked: false,
            is_old: false,
        }
    }

    fn signing(&self) -> Option<&Key> {
        self.holds.bundle().map(|bundle| &bundle.signing)
    }

    /// An owner's epochs behind the first.
    fn epochs(&self) -> Option<&[Key]> {
        match &self.holds {
            RoleSecrets::Owner(owner) => Some(&owner.epochs),
            _ => None,
        }
    }

    fn again(&self) -> NewSlot {
        let (lock, info, signing) = (self.lock.clone(), self.info.clone(), self.signing().cloned());
        NewSlot { id: self.id, lock, info, signing }
    }
}

/// All slots, and the owner with every epoch that any of his slots has.
struct Keyring {
    owner: Owner,
    config_digest: [u8; 32],
    held: Vec<Held>,
    unreadable: BTreeMap<SlotId, Error>,
}

impl Keyring {
    async fn load(repo: &Repository) -> Result<Self> {
        let mut owner = repo.keys.owner_keys()?.clone();
        let config_digest = config::digest(&stored_config(repo).await?);
        let listed = repo.top.list(object::KEYS).await?;
        let ids = listed.iter().filter_map(|found| SlotId::parse(found.key.strip_prefix("keys/")?));
        let (known, digest) = (&owner, &config_digest);
        let loading = ids.map(|id| async move {
            match held(repo, known, digest, id).await {
                // One that is refused is listed, and can be removed.
                Err(error) if error.is_outage() => Err(error),
                held => Ok::<_, Error>((id, held)),
            }
        });
        let loading: Vec<_> = loading.collect();
        let loaded: Vec<_> = futures::stream::iter(loading).buffered(PARALLEL_GETS).try_collect().await?;
        let (mut held, mut unreadable) = (Vec::new(), BTreeMap::new());
        for (id, loaded) in loaded {
            match loaded {
                Ok(found) => held.push(found),
                Err(error) => drop(unreadable.insert(id, error)),
            }
        }
        held.sort_by_key(|held| (held.info.created, held.id));
        owner.secrets.epochs = epochs(&owner, &held);
        Ok(Self { owner, config_digest, held, unreadable })
    }

    async fn list(self, repo: &Repository) -> KeyList {
        let all: Vec<&Held> = self.held.iter().collect();
        let revoked = self.revoked(repo, &all).await.unwrap_or_else(|error| {
            // The slots can be listed, and removed, all the same.
            tracing::warn!(error = chain(&error), "nobody can tell which keys were revoked");
            BTreeSet::new()
        });
        let shown = |held: &Held| {
            let is_revoked = revoked.contains(&held.id);
            KeyInfo { is_revoked, is_old: !is_revoked && self.is_old(held), ..held.shown() }
        };
        let keys = self.held.iter().map(shown).collect();
        KeyList { keys, unreadable: self.unreadable }
    }

    /// The slots among these whose keys were revoked, by the logs of their domains: whoever holds the bucket can put a
    /// removed slot back.
    async fn revoked(&self, repo: &Repository, slots: &[&Held]) -> Result<BTreeSet<SlotId>> {
        let (mut logs, mut revoked) = (BTreeMap::new(), BTreeSet::new());
        for held in slots.iter().filter(|held| held.info.role != Role::Owner) {
            let (info, domain) = (&held.info, held.info.domain.name());
            if !logs.contains_key(domain) {
                logs.insert(domain, Log::load(&repo.in_domain(domain)?).await?);
            }
            if logs[domain].is_revoked(info.key, info.serial) {
                revoked.insert(held.id);
            }
        }
        Ok(revoked)
    }

    /// Whether a slot lacks something of what the owner's secrets give now.
    fn is_old(&self, held: &Held) -> bool {
        self.owner.info_keys().last() != Some(&held.info_key)
            || self.owner.secrets_of(&held.info, held.signing()) != held.holds
    }

    /// Puts a slot, its info sealed for the newest epoch: for who has settled.
    async fn put(&self, repo: &Repository, slot: &NewSlot) -> Result<()> {
        self.put_for(repo, slot, self.owner.secrets.epochs.len()).await
    }

    async fn put_for(&self, repo: &Repository, slot: &NewSlot, epoch: usize) -> Result<()> {
        slot.put(&repo.top, &self.owner, epoch, self.config_digest, &repo.world).await
    }

    /// The newest epoch that all of the owner's slots have.
    fn common_epoch(&self) -> usize {
        let lists: Vec<&[Key]> = self.held.iter().filter_map(Held::epochs).collect();
        let is_common = |key: &Key| lists.iter().all(|list| list.contains(key));
        self.owner.secrets.epochs.iter().rposition(is_common).map_or(0, |at| at + 1)
    }

    /// Brings all slots to what the owner's secrets give: first the owner's, with infos that each of his keys
    /// opens; then all, those of who reads first. So nobody writes for an epoch that somebody can't read. Those of
    /// revoked keys stay as they are: a new epoch is to shut them out. Gives the number of the others.
    async fn settle(&self, repo: &Repository) -> Result<usize> {
        let old: Vec<&Held> = self.held.iter().filter(|held| self.is_old(held)).collect();
        let revoked = self.revoked(repo, &old).await?;
        let (common, epochs) = (self.common_epoch(), &self.owner.secrets.epochs[..]);
        for held in self.held.iter().filter(|held| held.epochs().is_some_and(|has| has != epochs)) {
            self.put_for(repo, &held.again(), common).await?;
        }
        for role in [Role::Owner, Role::Reader, Role::Maintainer, Role::Writer] {
            let fitting = |held: &&&Held| held.info.role == role && !revoked.contains(&held.id);
            for held in old.iter().filter(fitting) {
                self.put(repo, &held.again()).await?;
            }
        }
        Ok(self.held.len() - revoked.len())
    }

    /// An error if the store did not give a slot, but for one that goes anyhow: nothing is done by half of the slots.
    fn check_given(&mut self, but: Option<SlotId>) -> Result<()> {
        let mut slots = self.unreadable.iter();
        let refused = slots.find(|(id, error)| Some(**id) != but && error.is_uncertain()).map(|(id, _)| *id);
        refused.and_then(|id| self.unreadable.remove(&id)).map_or(Ok(()), Err)
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > limits::KEY_NAME_LEN || !name.chars().all(fine) {
            return Err(Error::KeyName { name: name.to_owned() });
        }
        match self.held.iter().any(|held| held.info.name == name) {
            true => Err(Error::KeyNameTaken { name: name.to_owned() }),
            false => Ok(()),
        }
    }
}

/// Opens a slot as the owner, and holds what is in it against what is known.
async fn held(repo: &Repository, owner: &Owner, config_digest: &[u8; 32], id: SlotId) -> Result<Held> {
    let key = object::slot_key(id);
    let slot = read_slot(&repo.top, &key).await?;
    let mut opened = Err(Format::Short { what: "key slot info", at: 0 });
    for info_key in owner.info_keys().into_iter().rev() {
        opened = slot.open_info(&info_key, owner.repo, id).map(|info| (info_key, info));
        if opened.is_ok() {
            break;
        }
    }
    let (info_key, info) = opened.map_err(Error::object(&key))?;
    let secrets = slot.open(&info.unlock, owner.repo, id).map_err(Error::object(&key))?;
    let is_other = match &secrets.holds {
        RoleSecrets::Owner(other) => other.root != owner.secrets.root,
        holds => holds.bundle().is_none_or(|bundle| bundle.certificate.key != info.key),
    };
    if is_other || secrets.holds.role() != info.role || secrets.config_digest != *config_digest {
        let found = "of another repository or role".to_owned();
        let source = Format::Invalid { what: "key slot", field: "contents", found };
        return Err(Error::Object { key, source });
    }
    Ok(Held { id, lock: slot.lock, info, info_key, holds: secrets.holds })
}

/// The longest list that any of the owner's slots has, and what others have beyond it: a rotation that was
/// cut short has reached some of them only.
fn epochs(owner: &Owner, held: &[Held]) -> Vec<Key> {
    let mut lists: Vec<Vec<Key>> = held.iter().filter_map(Held::epochs).map(<[Key]>::to_vec).collect();
    lists.push(owner.secrets.epochs.clone());
    lists.sort_by_key(|list| std::cmp::Reverse(list.len()));
    let mut all = Vec::new();
    for key in lists.into_iter().flatten() {
        if !all.contains(&key) {
            all.push(key);
        }
    }
    all
}

/// Makes a key: puts its slot and gives the file that opens it.
pub async fn add_key(repo: &Repository, new: &NewKey) -> Result<KeyFile> {
    let keyring = Keyring::load(repo).await?;
    keyring.check_name(&new.name)?;
    let world = &repo.world;
    let mut slot = NewSlot::of_owner(&new.name, Opens::by_key_file(world), world);
    if new.role != Role::Owner {
        let domain = match &new.domain {
            Some(name) => keyring.owner.domain(name)?,
            None => repo.keys.domain().clone(),
        };
        let trust = if new.role == Role::Writer { new.trust } else { Trust::Own };
        slot.info = SlotInfo { role: new.role, key: KeyId(world.bytes()), domain, trust, ..slot.info };
        slot.signing = Some(Key::new(world.bytes()));
    }
    keyring.settle(repo).await?;
    keyring.put(repo, &slot).await?;
    Ok(slot.key_file(repo.config.repo))
}

/// Makes a further passphrase of the owner's, and gives its slot.
pub async fn add_passphrase(
    repo: &Repository,
    name: &str,
    passphrase: &Passphrase,
    cost: Params,
) -> Result<SlotId> {
    let keyring = Keyring::load(repo).await?;
    keyring.check_name(name)?;
    let slot = NewSlot::of_owner(name, Opens::by_passphrase(passphrase, cost, &repo.world)?, &repo.world);
    keyring.settle(repo).await?;
    keyring.put(repo, &slot).await?;
    Ok(slot.id)
}

/// All keys that there are, in all domains.
pub async fn list_keys(repo: &Repository) -> Result<KeyList> {
    Ok(Keyring::load(repo).await?.list(repo).await)
}

/// Removes a slot, so that its key file or passphrase opens nothing, and revokes its key: what is made with it from now
/// on does not count, even if somebody has kept what was in the slot. The owner's last one stays.
pub async fn remove_key(repo: &Repository, slot: SlotId) -> Result<()> {
    let mut keyring = Keyring::load(repo).await?;
    if keyring.unreadable.get(&slot).is_some_and(Error::is_uncertain) {
        // By chance, perhaps: a key that can be read is revoked. One that never can be goes all the same.
        keyring = Keyring::load(repo).await?;
    }
    keyring.check_given(Some(slot))?;
    let key = object::slot_key(slot);
    let mut owners = keyring.held.iter().filter(|held| held.info.role == Role::Owner);
    if owners.all(|held| held.id == slot) {
        return Err(Error::LastOwner { key });
    }
    let held = keyring.held.iter().find(|held| held.id == slot);
    match held.map(|held| &held.info) {
        None if !keyring.unreadable.contains_key(&slot) => {
            return Err(Error::NoKey { which: slot.to_string() });
        }
        None | Some(SlotInfo { role: Role::Owner, .. }) => {}
        Some(info) => revoke(&repo.in_domain(info.domain.name())?, info.key, info.serial).await?,
    }
    repo.top.delete(&key).await.map_err(|source| Error::KeyKept { key, source })
}

/// A key that was drawn anew.
pub struct Rotated {
    pub key: KeyFile,
    pub info: KeyInfo,
    /// To be removed when the new file is kept: until then the old one opens too.
    pub replaced: Vec<SlotId>,
}

/// Draws a key anew: its file and what it signs with. Its id stays, and with it what is its own.
pub async fn rotate_key(repo: &Repository, which: &str) -> Result<Rotated> {
    let mut keyring = Keyring::load(repo).await?;
    keyring.check_given(None)?;
    let listed: Vec<KeyInfo> = keyring.held.iter().map(Held::shown).collect();
    let listed = KeyList { keys: listed, unreadable: BTreeMap::new() };
    let found = listed.find(which)?;
    let newest = found.last().expect("what is found is there");
    if newest.by_passphrase {
        return Err(Error::Passphrase { name: newest.name.clone() });
    }
    let old = keyring.held.iter().find(|held| held.id == newest.slot).expect("it was listed from these");
    let serial = old.info.serial.checked_add(1).ok_or(Error::TooLarge {
        what: "the serial of the key",
        found: 1 << 32,
        most: u32::MAX.into(),
    })?;
    let (world, opens) = (&repo.world, Opens::by_key_file(&repo.world));
    let info = SlotInfo { serial, created: world.now(), unlock: opens.unlock, ..old.info.clone() };
    let signing = old.signing().map(|_| Key::new(world.bytes()));
    let slot = NewSlot { id: SlotId(world.bytes()), lock: opens.lock, info, signing };
    keyring.settle(repo).await?;
    keyring.put(repo, &slot).await?;
    let info = KeyInfo { slot: slot.id, serial, created: slot.info.created, ..(*newest).clone() };
    let replaced = found.iter().map(|key| key.slot).collect();
    Ok(Rotated { key: slot.key_file(repo.config.repo), info, replaced })
}

/// Begins a new epoch of the owner's recipient: what sessions write from now on opens only for who has it. All
/// slots are sealed again in their places, and open with what opened them. Gives the number of
/// those that were not revoked.
pub async fn rotate_owner(repo: &Repository) -> Result<usize> {
    let mut keyring = Keyring::load(repo).await?;
    // Of an owner's slot that can't be read nobody would know that it lacks the new epoch.
    if let Some((id, source)) = keyring.unreadable.pop_first() {
        return Err(Error::UnreadableKey { key: object::slot_key(id), source: Box::new(source) });
    }
    let epochs = &mut keyring.owner.secrets.epochs;
    if epochs.len() + 1 >= limits::EPOCHS {
        let (found, most) = (epochs.len() as u64 + 2, limits::EPOCHS as u64);
        return Err(Error::TooLarge { what: "the number of the owner's epochs", found, most });
    }
    epochs.push(Key::new(repo.world.bytes()));
    keyring.settle(repo).await
}
