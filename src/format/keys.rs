//! Keys as stored: names of keys, certificates, slots, and the file that a bundle's holder keeps.
//!
//! Spec: chapter 3. A slot `keys/<id>` holds a role's secrets, sealed under a key that only
//! a passphrase or a key file gives. It pins the digest of `config`.

use crate::crypto::kdf::Params;
use crate::crypto::secret::{Key, Passphrase};
use crate::crypto::{context, hash, kdf, seal, sign, wrap};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{DomainId, KeyId, RepoId, SessionId, SourceId, hex, unhex};
use crate::format::{Error, VERSION, limits};

/// Which key a record is sealed with. The name alone tells its holder how to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyName {
    /// The random key of a lane; wrapped to the recipients in `sessions/<session>`.
    Data { session: SessionId, lane: u32 },
    /// Derived from a bundle's meta scope for one source.
    Meta { scope: KeyId, source: SourceId },
}

impl KeyName {
    pub const LEN: usize = 33;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        match self {
            KeyName::Data { session, lane } => {
                out[0] = 1;
                out[1..17].copy_from_slice(&session.0);
                out[17..21].copy_from_slice(&lane.to_le_bytes());
            }
            KeyName::Meta { scope, source } => {
                out[0] = 2;
                out[1..17].copy_from_slice(&scope.0);
                out[17..].copy_from_slice(&source.0);
            }
        }
        out
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        match input.u8()? {
            1 => {
                let session = SessionId::read(input)?;
                let lane = input.u32()?;
                if input.array::<12>()? != [0; 12] {
                    return Err(input.invalid("key name", "bytes behind the lane"));
                }
                Ok(KeyName::Data { session, lane })
            }
            2 => Ok(KeyName::Meta { scope: KeyId::read(input)?, source: SourceId::read(input)? }),
            other => Err(input.invalid("key name", other)),
        }
    }
}

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    Writer,
    Maintainer,
    Reader,
}

impl Role {
    fn number(self) -> u8 {
        match self {
            Role::Owner => 1,
            Role::Writer => 2,
            Role::Maintainer => 3,
            Role::Reader => 4,
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(match input.u8()? {
            1 => Role::Owner,
            2 => Role::Writer,
            3 => Role::Maintainer,
            4 => Role::Reader,
            other => return Err(input.invalid("role", other)),
        })
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Owner => "owner",
            Role::Writer => "writer",
            Role::Maintainer => "maintainer",
            Role::Reader => "reader",
        })
    }
}

/// The owner's word that a signing key belongs to a role in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub role: Role,
    pub key: KeyId,
    pub domain: DomainId,
    pub signing: [u8; sign::PUBLIC_LEN],
    pub name: String,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

impl Certificate {
    pub fn issue(
        owner_seed: &Key,
        repo: RepoId,
        (role, key, domain): (Role, KeyId, DomainId),
        signing: [u8; sign::PUBLIC_LEN],
        name: &str,
    ) -> Self {
        let mut certificate =
            Self { role, key, domain, signing, name: name.to_owned(), signature: [0; sign::SIGNATURE_LEN] };
        certificate.signature = sign::sign(owner_seed, context::SIGN_CERTIFICATE, &certificate.signed(repo));
        certificate
    }

    pub fn verify(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        sign::verify(owner, context::SIGN_CERTIFICATE, &self.signed(repo), &self.signature)
            .map_err(|source| Error::Crypto { what: "certificate", source })
    }

    /// Verifies, and that the role may add to a repository.
    pub fn verify_adds(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        match self.role {
            Role::Owner | Role::Writer => self.verify(owner, repo),
            other => Err(Error::Invalid {
                what: "certificate",
                field: "role",
                found: format!("{other}, which adds nothing"),
            }),
        }
    }

    /// Verifies, and that the role may forget, prune and repack.
    pub fn verify_maintains(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        self.verify_as(&[Role::Owner, Role::Maintainer], owner, repo)
    }

    /// Verifies, and that the role is one of those.
    pub fn verify_as(
        &self,
        roles: &[Role],
        owner: &[u8; sign::PUBLIC_LEN],
        repo: RepoId,
    ) -> Result<(), Error> {
        match roles.contains(&self.role) {
            true => self.verify(owner, repo),
            false => Err(Error::Invalid {
                what: "certificate",
                field: "role",
                found: format!("{}, which may not do this", self.role),
            }),
        }
    }

    fn signed(&self, repo: RepoId) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(&repo.0);
        self.write_body(&mut out);
        out.into_bytes()
    }

    fn write_body(&self, out: &mut Writer) {
        out.u8(self.role.number());
        out.raw(&self.key.0);
        out.raw(&self.domain.0);
        out.raw(&self.signing);
        out.bytes(self.name.as_bytes());
    }

    pub fn write(&self, out: &mut Writer) {
        self.write_body(out);
        out.raw(&self.signature);
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let role = Role::read(input)?;
        let key = KeyId::read(input)?;
        let domain = DomainId::read(input)?;
        let signing = input.array()?;
        let name = input.bytes("key name", limits::KEY_NAME_LEN)?;
        let name = std::str::from_utf8(name).map_err(|_| input.invalid("key name", "not UTF-8"))?.to_owned();
        Ok(Self { role, key, domain, signing, name, signature: input.array()? })
    }
}

/// The public key that lane keys are wrapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub public: Vec<u8>,
}

impl Recipient {
    /// Names the recipient in a session: the first 16 bytes of the hash of its public key.
    pub fn id(&self) -> [u8; 16] {
        *hash::plain(&self.public).first_chunk().expect("a hash has 32 bytes")
    }
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    pub config_digest: [u8; 32],
    pub holds: RoleSecrets,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleSecrets {
    Owner { root: Key },
    Writer(Box<WriterSecrets>),
}

/// A writer's bundle: enough to add to its domain, not enough to open a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSecrets {
    pub certificate: Certificate,
    pub signing: Key,
    pub id: Key,
    pub chunker: Key,
    pub structure: Key,
    pub meta_scope: Key,
    pub recipients: Vec<Recipient>,
}

const SECRETS: &str = "key slot contents";

impl Secrets {
    fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = Writer::new();
        out.raw(&self.config_digest);
        match &self.holds {
            RoleSecrets::Owner { root } => {
                out.u8(Role::Owner.number());
                out.raw(root.expose());
            }
            RoleSecrets::Writer(writer) => {
                out.u8(Role::Writer.number());
                writer.certificate.write(&mut out);
                for key in
                    [&writer.signing, &writer.id, &writer.chunker, &writer.structure, &writer.meta_scope]
                {
                    out.raw(key.expose());
                }
                out.varint(writer.recipients.len() as u64);
                for recipient in &writer.recipients {
                    out.raw(&recipient.public);
                }
            }
        }
        zeroize::Zeroizing::new(out.into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(SECRETS, bytes);
        let config_digest = input.array()?;
        let holds = match Role::read(&mut input)? {
            Role::Owner => RoleSecrets::Owner { root: Key::new(input.array()?) },
            Role::Writer => {
                let certificate = Certificate::read(&mut input)?;
                let [signing, id, chunker, structure, meta_scope] = read_keys(&mut input)?;
                let count = input.count("recipients", limits::RECIPIENTS, wrap::PUBLIC_LEN)?;
                let recipients = (0..count)
                    .map(|_| Ok(Recipient { public: input.raw(wrap::PUBLIC_LEN)?.to_vec() }))
                    .collect::<Result<_, Error>>()?;
                RoleSecrets::Writer(Box::new(WriterSecrets {
                    certificate,
                    signing,
                    id,
                    chunker,
                    structure,
                    meta_scope,
                    recipients,
                }))
            }
            other => return Err(input.invalid("role", format!("{other}, which this kist does not know yet"))),
        };
        input.zeros()?;
        Ok(Self { config_digest, holds })
    }
}

fn read_keys<const N: usize>(input: &mut Reader<'_>) -> Result<[Key; N], Error> {
    let mut keys = Vec::with_capacity(N);
    for _ in 0..N {
        keys.push(Key::new(input.array()?));
    }
    Ok(keys.try_into().expect("N were read"))
}

/// What unlocks a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    Passphrase { params: Params, salt: [u8; 16] },
    KeyFile,
}

/// `keys/<id>`: a lock in clear and sealed secrets, all of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub lock: Lock,
    sealed: Vec<u8>,
}

const SLOT: &str = "key slot";
const SLOT_MAGIC: &[u8; 8] = b"KISTSLOT";
/// Every slot's contents are padded to a multiple of this.
const SLOT_GRANULE: usize = 4096;

impl Slot {
    pub fn seal(
        lock: Lock,
        unlock: &Key,
        repo: RepoId,
        id: KeyId,
        secrets: &Secrets,
        nonce: [u8; seal::NONCE_LEN],
    ) -> Self {
        let mut plain = secrets.encode();
        let padded = plain.len().div_ceil(SLOT_GRANULE) * SLOT_GRANULE;
        plain.resize(padded, 0);
        let sealed = seal::seal(&slot_key(unlock, id), nonce, &bound_to(&lock, repo, id), &plain);
        Self { lock, sealed }
    }

    pub fn open(&self, unlock: &Key, repo: RepoId, id: KeyId) -> Result<Secrets, Error> {
        let plain = seal::open(&slot_key(unlock, id), &bound_to(&self.lock, repo, id), &self.sealed)
            .map_err(|source| Error::Crypto { what: SLOT, source })?;
        Secrets::decode(&zeroize::Zeroizing::new(plain))
    }

    /// The key that a passphrase gives for this slot; none if a passphrase is not what unlocks it.
    pub fn passphrase_key(&self, passphrase: &Passphrase) -> Option<Result<Key, Error>> {
        match &self.lock {
            Lock::Passphrase { params, salt } => Some(
                kdf::passphrase_key(passphrase, salt, *params)
                    .map_err(|source| Error::Crypto { what: SLOT, source }),
            ),
            Lock::KeyFile => None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = header(&self.lock);
        out.extend_from_slice(&self.sealed);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(SLOT, bytes);
        if input.array::<8>().ok().as_ref() != Some(SLOT_MAGIC) {
            return Err(Error::Magic { what: SLOT });
        }
        let version = input.u16()?;
        if version > VERSION {
            return Err(Error::Version { what: SLOT, found: version, known: VERSION });
        }
        let lock = match input.u8()? {
            1 => Lock::Passphrase {
                params: Params { memory_kib: input.u32()?, passes: input.u32()?, lanes: input.u32()? },
                salt: input.array()?,
            },
            2 => Lock::KeyFile,
            other => return Err(input.invalid("lock", other)),
        };
        let sealed = input.raw(input.left())?;
        let inner = sealed.len().saturating_sub(seal::OVERHEAD);
        if inner == 0 || !inner.is_multiple_of(SLOT_GRANULE) || sealed.len() > limits::SLOT_LEN {
            return Err(Error::Invalid { what: SLOT, field: "length", found: sealed.len().to_string() });
        }
        Ok(Self { lock, sealed: sealed.to_vec() })
    }
}

fn header(lock: &Lock) -> Vec<u8> {
    let mut out = Writer::new();
    out.raw(SLOT_MAGIC);
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

fn bound_to(lock: &Lock, repo: RepoId, id: KeyId) -> Vec<u8> {
    [b"kist slot".as_slice(), &repo.0, &id.0, &header(lock)].concat()
}

fn slot_key(unlock: &Key, id: KeyId) -> Key {
    hash::derive(context::SLOT, unlock, &id.0)
}

/// The file that a bundle's holder keeps (`KIST_KEY_FILE`): where its slot is and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    pub repo: RepoId,
    pub slot: KeyId,
    pub unlock: Key,
}

const KEY_FILE: &str = "key file";
const KEY_FILE_MARK: &str = "kist-key-0:";

impl KeyFile {
    /// One line, after a comment that says what it is. Secret.
    pub fn to_text(&self, comment: &str) -> zeroize::Zeroizing<String> {
        let body = self.body();
        let check = hash::plain(&body);
        let line = zeroize::Zeroizing::new(hex(&body));
        zeroize::Zeroizing::new(format!("# {comment}\n{KEY_FILE_MARK}{}{}\n", *line, hex(&check[..4])))
    }

    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |found: &str| Error::Invalid { what: KEY_FILE, field: "contents", found: found.into() };
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .ok_or_else(|| invalid("no key in it"))?;
        let line = line.strip_prefix(KEY_FILE_MARK).ok_or_else(|| invalid("not a kist key"))?;
        let bytes = zeroize::Zeroizing::new(unhex(line).ok_or_else(|| invalid("not hex"))?);
        let mut input = Reader::new(KEY_FILE, &bytes);
        let key = Self {
            repo: RepoId::read(&mut input)?,
            slot: KeyId::read(&mut input)?,
            unlock: Key::new(input.array()?),
        };
        let check = input.array::<4>()?;
        input.end()?;
        if check != hash::plain(&key.body())[..4] {
            return Err(invalid("mistyped: its check does not fit"));
        }
        Ok(key)
    }

    fn body(&self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new([&self.repo.0[..], &self.slot.0, self.unlock.expose()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer_secrets() -> Secrets {
        let owner = Key::new([1; 32]);
        let signing = Key::new([2; 32]);
        let certificate = Certificate::issue(
            &owner,
            RepoId([3; 16]),
            (Role::Writer, KeyId([4; 16]), DomainId([5; 16])),
            sign::public(&signing),
            "shop",
        );
        Secrets {
            config_digest: [6; 32],
            holds: RoleSecrets::Writer(Box::new(WriterSecrets {
                certificate,
                signing,
                id: Key::new([7; 32]),
                chunker: Key::new([8; 32]),
                structure: Key::new([9; 32]),
                meta_scope: Key::new([10; 32]),
                recipients: vec![Recipient { public: vec![11; wrap::PUBLIC_LEN] }],
            })),
        }
    }

    #[test]
    fn a_slot_opens_with_its_key_in_its_place_only() {
        let (repo, id, unlock) = (RepoId([1; 16]), KeyId([2; 16]), Key::new([3; 32]));
        let secrets = writer_secrets();
        let slot = Slot::seal(Lock::KeyFile, &unlock, repo, id, &secrets, [0; 24]);
        let slot = Slot::decode(&slot.encode()).unwrap();
        assert_eq!(slot.open(&unlock, repo, id).unwrap(), secrets);
        assert!(slot.open(&Key::new([4; 32]), repo, id).is_err());
        assert!(slot.open(&unlock, repo, KeyId([9; 16])).is_err());
        assert!(slot.open(&unlock, RepoId([9; 16]), id).is_err());
    }

    #[test]
    fn owner_and_writer_slots_have_one_size() {
        let (repo, id, unlock) = (RepoId([1; 16]), KeyId([2; 16]), Key::new([3; 32]));
        let owner = Secrets { config_digest: [0; 32], holds: RoleSecrets::Owner { root: Key::new([1; 32]) } };
        let len = |secrets| Slot::seal(Lock::KeyFile, &unlock, repo, id, secrets, [0; 24]).encode().len();
        assert_eq!(len(&owner), len(&writer_secrets()));
    }

    #[test]
    fn a_certificate_holds_for_its_repository_and_owner_only() {
        let RoleSecrets::Writer(writer) = writer_secrets().holds else { unreachable!() };
        let owner = sign::public(&Key::new([1; 32]));
        assert!(writer.certificate.verify(&owner, RepoId([3; 16])).is_ok());
        assert!(writer.certificate.verify(&owner, RepoId([4; 16])).is_err());
        let mut forged = writer.certificate.clone();
        forged.role = Role::Owner;
        assert!(forged.verify(&owner, RepoId([3; 16])).is_err());
        let reader = Certificate::issue(
            &Key::new([1; 32]),
            RepoId([3; 16]),
            (Role::Reader, KeyId([4; 16]), DomainId([5; 16])),
            [0; 32],
            "drill",
        );
        assert!(reader.verify(&owner, RepoId([3; 16])).is_ok());
        assert!(reader.verify_adds(&owner, RepoId([3; 16])).is_err(), "a reader adds nothing");
    }

    #[test]
    fn a_mistyped_key_file_is_noticed() {
        let key = KeyFile { repo: RepoId([1; 16]), slot: KeyId([2; 16]), unlock: Key::new([3; 32]) };
        let text = key.to_text("writer shop");
        assert_eq!(KeyFile::parse(&text).unwrap(), key);
        let typo = text.replacen("0303", "0304", 1);
        assert!(KeyFile::parse(&typo).unwrap_err().to_string().contains("mistyped"));
        assert!(KeyFile::parse("# nothing\n").is_err());
    }

    #[test]
    fn key_names_come_back() {
        for name in [
            KeyName::Data { session: SessionId([1; 16]), lane: 7 },
            KeyName::Meta { scope: KeyId([2; 16]), source: SourceId([3; 16]) },
        ] {
            assert_eq!(KeyName::read(&mut Reader::new("test", &name.to_bytes())).unwrap(), name);
        }
    }
}
