//! Slots: a lock in clear, what the owner wants to know, and sealed secrets.
//!
//! Spec: chapter 3. The secrets open with what the lock gives. The info opens with the root only, and holds the
//! slot's unlock key: so the owner can list all slots, and seal each again without its holder.

use zeroize::Zeroizing;

use crate::crypto::kdf::Params;
use crate::crypto::secret::{Key, Passphrase};
use crate::crypto::{context, hash, kdf, seal};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{DomainId, KeyId, RepoId, SlotId};
use crate::format::keys::{Domain, Role, Secrets, Trust, read_name};
use crate::format::{Error, VERSION, limits};
use crate::world::Time;

/// What unlocks a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    Passphrase { params: Params, salt: [u8; 16] },
    KeyFile,
}

/// What the owner knows of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    pub role: Role,
    pub key: KeyId,
    pub serial: u32,
    pub domain: Domain,
    pub name: String,
    /// By the clock of the owner's machine; of this serial.
    pub created: Time,
    pub trust: Trust,
    /// What the lock gives.
    pub unlock: Key,
}

/// `keys/<slot id>`: all of one size, but for the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub lock: Lock,
    info: Vec<u8>,
    secrets: Vec<u8>,
}

const WHAT: &str = "key slot";
const INFO: &str = "key slot info";
const MAGIC: &[u8; 8] = b"KISTSLOT";
/// The info's length before it is sealed: padded, because of the names in it.
pub const INFO_LEN: usize = 256;
/// The secrets are padded to a multiple of this.
const GRANULE: usize = 4096;

impl SlotInfo {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new();
        out.u8(self.role.number());
        out.raw(&self.key.0);
        out.u32(self.serial);
        out.raw(&self.domain.id().0);
        out.i64(self.created.0);
        out.u8(self.trust.number());
        out.raw(self.unlock.expose());
        self.domain.write_name(&mut out);
        out.bytes(self.name.as_bytes());
        let mut plain = Zeroizing::new(out.into_bytes());
        assert!(plain.len() <= INFO_LEN, "names keep to their limits");
        plain.resize(INFO_LEN, 0);
        plain
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(INFO, bytes);
        let role = Role::read(&mut input)?;
        let (key, serial) = (KeyId::read(&mut input)?, input.u32()?);
        let domain = DomainId::read(&mut input)?;
        let (created, trust) = (Time(input.i64()?), Trust::read(&mut input)?);
        let unlock = Key::new(input.array()?);
        let domain = Domain::read_name(&mut input, domain)?;
        let name = read_name(&mut input)?;
        input.zeros()?;
        Ok(Self { role, key, serial, domain, name, created, trust, unlock })
    }
}

impl Slot {
    /// `info_key` is the root's; what is sealed opens with the unlock key that the info has.
    pub fn seal(
        lock: Lock,
        (repo, id): (RepoId, SlotId),
        info_key: &Key,
        info: &SlotInfo,
        secrets: &Secrets,
        nonces: [[u8; seal::NONCE_LEN]; 2],
    ) -> Self {
        let header = header(&lock);
        let [info_nonce, nonce] = nonces;
        let sealed_info = seal::seal(info_key, info_nonce, &info_bound_to(&header, repo, id), &info.encode());
        let mut plain = secrets.encode();
        let padded = plain.len().div_ceil(GRANULE) * GRANULE;
        plain.resize(padded, 0);
        let context = bound_to(&header, &sealed_info, repo, id);
        let secrets = seal::seal(&slot_key(&info.unlock, id), nonce, &context, &plain);
        Self { lock, info: sealed_info, secrets }
    }

    pub fn open(&self, unlock: &Key, repo: RepoId, id: SlotId) -> Result<Secrets, Error> {
        let context = bound_to(&header(&self.lock), &self.info, repo, id);
        let plain = seal::open(&slot_key(unlock, id), &context, &self.secrets)
            .map_err(|source| Error::Crypto { what: WHAT, source })?;
        Secrets::decode(&Zeroizing::new(plain))
    }

    pub fn open_info(&self, info_key: &Key, repo: RepoId, id: SlotId) -> Result<SlotInfo, Error> {
        let context = info_bound_to(&header(&self.lock), repo, id);
        let plain = seal::open(info_key, &context, &self.info)
            .map_err(|source| Error::Crypto { what: INFO, source })?;
        SlotInfo::decode(&Zeroizing::new(plain))
    }

    /// The key that a passphrase gives for this slot; none if a passphrase is not what unlocks it.
    pub fn passphrase_key(&self, passphrase: &Passphrase) -> Option<Result<Key, Error>> {
        match &self.lock {
            Lock::Passphrase { params, salt } => Some(
                kdf::passphrase_key(passphrase, salt, *params)
                    .map_err(|source| Error::Crypto { what: WHAT, source }),
            ),
            Lock::KeyFile => None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        [&header(&self.lock)[..], &self.info, &self.secrets].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        if input.array::<8>().ok().as_ref() != Some(MAGIC) {
            return Err(Error::Magic { what: WHAT });
        }
        let version = input.u16()?;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, known: VERSION });
        }
        let lock = match input.u8()? {
            1 => Lock::Passphrase {
                params: Params { memory_kib: input.u32()?, passes: input.u32()?, lanes: input.u32()? },
                salt: input.array()?,
            },
            2 => Lock::KeyFile,
            other => return Err(input.invalid("lock", other)),
        };
        let info = input.raw(INFO_LEN + seal::OVERHEAD)?.to_vec();
        let secrets = input.raw(input.left())?.to_vec();
        let inner = secrets.len().saturating_sub(seal::OVERHEAD);
        if inner == 0 || !inner.is_multiple_of(GRANULE) || secrets.len() > limits::SLOT_LEN {
            return Err(Error::Invalid { what: WHAT, field: "length", found: secrets.len().to_string() });
        }
        Ok(Self { lock, info, secrets })
    }
}

fn header(lock: &Lock) -> Vec<u8> {
    let mut out = Writer::new();
    out.raw(MAGIC);
    out.u16(VERSION);
    match lock {
        Lock::Passphrase { params, salt } => {
            out.u8(1);
            out.u32(params.memory_kib);
            out.u32(params.passes);
            out.u32(params.lanes);
            out.raw(salt);
        }
        Lock::KeyFile => out.u8(2),
    }
    out.into_bytes()
}

fn info_bound_to(header: &[u8], repo: RepoId, id: SlotId) -> Vec<u8> {
    [b"kist slot info".as_slice(), &repo.0, &id.0, header].concat()
}

/// The info too: a slot is of one piece, old or new.
fn bound_to(header: &[u8], sealed_info: &[u8], repo: RepoId, id: SlotId) -> Vec<u8> {
    [b"kist slot".as_slice(), &repo.0, &id.0, header, sealed_info].concat()
}

fn slot_key(unlock: &Key, id: SlotId) -> Key {
    hash::derive(context::SLOT, unlock, &id.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign;
    use crate::crypto::wrap;
    use crate::format::keys::{
        Bundle, Certificate, IdKeys, OwnerSecrets, ReaderSecrets, Recipient, RoleSecrets, WriterSecrets,
    };

    const REPO: RepoId = RepoId([1; 16]);
    const ID: SlotId = SlotId([2; 16]);

    fn key(byte: u8) -> Key {
        Key::new([byte; 32])
    }

    /// Secrets and info of each role, with the longest names.
    fn of(role: Role) -> (SlotInfo, Secrets) {
        let (name, domain) = ("n".repeat(64), Domain::named(&key(9), &"d".repeat(64)).unwrap());
        let names = (role, KeyId([4; 16]), domain.id(), 7);
        let signing = sign::public(&key(3));
        let certificate = Certificate::issue(&key(1), REPO, names, signing, &name);
        let bundle = Bundle { certificate, domain: domain.clone(), signing: key(3), structure: key(4) };
        let ids = IdKeys { id: key(5), chunker: key(6) };
        let holds = match role {
            Role::Owner => {
                let epochs = vec![key(7); limits::EPOCHS - 1];
                RoleSecrets::Owner(Box::new(OwnerSecrets { root: key(8), epochs, like: Some(ids) }))
            }
            Role::Writer => RoleSecrets::Writer(Box::new(WriterSecrets {
                bundle,
                ids,
                meta_scope: key(7),
                trust: Trust::Shared,
                recipients: vec![Recipient { public: vec![11; wrap::PUBLIC_LEN] }],
            })),
            Role::Maintainer => RoleSecrets::Maintainer(Box::new(bundle)),
            Role::Reader => {
                let seeds = vec![key(8); limits::EPOCHS];
                RoleSecrets::Reader(Box::new(ReaderSecrets { bundle, ids, meta_root: key(7), seeds }))
            }
        };
        let info = SlotInfo {
            role,
            key: KeyId([4; 16]),
            serial: 7,
            domain,
            name,
            created: Time(-1),
            trust: Trust::Own,
            unlock: key(10),
        };
        (info, Secrets { config_digest: [6; 32], holds })
    }

    const ROLES: [Role; 4] = [Role::Owner, Role::Writer, Role::Maintainer, Role::Reader];

    #[test]
    fn a_slot_opens_with_its_key_in_its_place_only_and_its_info_with_the_root_s() {
        for role in ROLES {
            let (info, secrets) = of(role);
            let slot = Slot::seal(Lock::KeyFile, (REPO, ID), &key(12), &info, &secrets, [[0; 24]; 2]);
            let slot = Slot::decode(&slot.encode()).unwrap();
            assert_eq!(slot.open(&key(10), REPO, ID).unwrap(), secrets);
            assert!(slot.open(&key(12), REPO, ID).is_err());
            assert!(slot.open(&key(10), REPO, SlotId([9; 16])).is_err());
            assert!(slot.open(&key(10), RepoId([9; 16]), ID).is_err());
            assert_eq!(slot.open_info(&key(12), REPO, ID).unwrap(), info);
            assert!(slot.open_info(&key(10), REPO, ID).is_err());
            assert!(slot.open_info(&key(12), REPO, SlotId([9; 16])).is_err());
        }
    }

    #[test]
    fn the_slots_of_all_roles_have_one_size() {
        let len = |role| {
            let (info, secrets) = of(role);
            Slot::seal(Lock::KeyFile, (REPO, ID), &key(12), &info, &secrets, [[0; 24]; 2]).encode().len()
        };
        assert_eq!(ROLES.map(len), [11 + 256 + 40 + 4096 + 40; 4]);
    }

    #[test]
    fn the_info_of_another_state_of_a_slot_is_noticed() {
        let (info, secrets) = of(Role::Writer);
        let seal = |nonce| Slot::seal(Lock::KeyFile, (REPO, ID), &key(12), &info, &secrets, [[nonce; 24]; 2]);
        let mixed = Slot { info: seal(1).info, ..seal(2) };
        assert!(mixed.open_info(&key(12), REPO, ID).is_ok());
        assert!(mixed.open(&key(10), REPO, ID).is_err());
    }

    #[test]
    fn a_bundle_of_another_role_is_refused() {
        let (info, secrets) = of(Role::Maintainer);
        let RoleSecrets::Maintainer(mut bundle) = secrets.holds else { unreachable!("made so") };
        bundle.certificate.role = Role::Reader;
        let secrets = Secrets { holds: RoleSecrets::Maintainer(bundle), ..secrets };
        let slot = Slot::seal(Lock::KeyFile, (REPO, ID), &key(12), &info, &secrets, [[0; 24]; 2]);
        assert!(slot.open(&key(10), REPO, ID).unwrap_err().to_string().contains("a reader's"));
    }
}
