//! Keys as stored: names of keys, roles, domains, certificates; and in the files below, what holds them.
//!
//! Spec: chapter 3. A slot `keys/<slot id>` holds a role's secrets, sealed under a key that only a passphrase
//! or a key file gives, and what the owner wants to know of them. It pins the digest of `config`.

mod file;
mod kit;
mod secrets;
mod slot;

pub use file::KeyFile;
pub use secrets::{Bundle, IdKeys, OwnerSecrets, ReaderSecrets, RoleSecrets, Secrets, WriterSecrets};
pub use slot::{INFO_LEN, Lock, Slot, SlotInfo};

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, sign, wrap};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{DomainId, KeyId, RepoId, SessionId, SourceId};
use crate::format::{Error, limits};

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

/// Onto which packs a writer may deduplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its own, and those that somebody who can read has verified.
    Own,
    /// All of its domain.
    Shared,
}

impl Trust {
    fn number(self) -> u8 {
        match self {
            Trust::Own => 1,
            Trust::Shared => 2,
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        match input.u8()? {
            1 => Ok(Trust::Own),
            2 => Ok(Trust::Shared),
            other => Err(input.invalid("trust", other)),
        }
    }
}

impl std::fmt::Display for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Trust::Own => "own",
            Trust::Shared => "shared",
        })
    }
}

/// A domain by id and name. The default one has zeros and the empty name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    id: DomainId,
    name: String,
}

impl Domain {
    /// What people call the default domain; no other may be called so.
    pub const DEFAULT_NAME: &str = "default";

    pub fn default_one() -> Self {
        Self { id: DomainId::DEFAULT, name: String::new() }
    }

    /// The domain that people mean by a name; none if no domain can have it.
    pub fn named(root: &Key, name: &str) -> Option<Self> {
        if name == Self::DEFAULT_NAME {
            return Some(Self::default_one());
        }
        let id = hash::derive(context::DOMAIN_ID, root, name.as_bytes());
        let id = DomainId(*id.expose().first_chunk().expect("a key has 32 bytes"));
        Self::is_name(name).then(|| Self { id, name: name.to_owned() })
    }

    fn is_name(name: &str) -> bool {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_bounded = (1..=limits::DOMAIN_NAME_LEN).contains(&name.len());
        is_bounded && name.bytes().all(fine) && name != Self::DEFAULT_NAME
    }

    pub fn id(&self) -> DomainId {
        self.id
    }

    /// The name that people see and type.
    pub fn name(&self) -> &str {
        if self.name.is_empty() { Self::DEFAULT_NAME } else { &self.name }
    }

    fn write_name(&self, out: &mut Writer) {
        out.bytes(self.name.as_bytes());
    }

    /// The name stands apart from the id, which a certificate has too.
    fn read_name(input: &mut Reader<'_>, id: DomainId) -> Result<Self, Error> {
        let name = input.bytes("domain name", limits::DOMAIN_NAME_LEN)?;
        let name = std::str::from_utf8(name).map_err(|_| input.invalid("domain name", "not ASCII"))?;
        let fits = match id {
            DomainId::DEFAULT => name.is_empty(),
            _ => Self::is_name(name),
        };
        match fits {
            true => Ok(Self { id, name: name.to_owned() }),
            false => Err(input.invalid("domain name", "not one of this domain")),
        }
    }
}

/// The owner's word that a signing key belongs to a role in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub role: Role,
    pub key: KeyId,
    pub domain: DomainId,
    /// Grows when the key is rotated.
    pub serial: u32,
    pub signing: [u8; sign::PUBLIC_LEN],
    pub name: String,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

impl Certificate {
    pub fn issue(
        owner_seed: &Key,
        repo: RepoId,
        (role, key, domain, serial): (Role, KeyId, DomainId, u32),
        signing: [u8; sign::PUBLIC_LEN],
        name: &str,
    ) -> Self {
        let mut certificate =
            Self { role, key, domain, serial, signing, name: name.to_owned(), signature: [0; 64] };
        certificate.signature = sign::sign(owner_seed, context::SIGN_CERTIFICATE, &certificate.signed(repo));
        certificate
    }

    pub fn verify(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        sign::verify(owner, context::SIGN_CERTIFICATE, &self.signed(repo), &self.signature)
            .map_err(|source| Error::Crypto { what: "certificate", source })
    }

    /// Verifies, and that the role may add snapshots.
    pub fn verify_adds(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        self.verify_as((&[Role::Owner, Role::Writer], "which adds no snapshot"), owner, repo)
    }

    /// Verifies, and that the role may begin a session: to add snapshots, or to pack records anew.
    pub fn verify_begins(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        let roles = &[Role::Owner, Role::Writer, Role::Maintainer];
        self.verify_as((roles, "which begins no session"), owner, repo)
    }

    /// Verifies, and that the role may do what maintainers do: forget, prune and repack.
    pub fn verify_maintains(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId) -> Result<(), Error> {
        self.verify_as((&[Role::Owner, Role::Maintainer], "which may not do this"), owner, repo)
    }

    /// Verifies, and that the role is one of those; otherwise the error says what the role is not for.
    pub(super) fn verify_as(
        &self,
        (roles, otherwise): (&[Role], &str),
        owner: &[u8; sign::PUBLIC_LEN],
        repo: RepoId,
    ) -> Result<(), Error> {
        if roles.contains(&self.role) {
            return self.verify(owner, repo);
        }
        let found = format!("{}, {otherwise}", self.role);
        Err(Error::Invalid { what: "certificate", field: "role", found })
    }

    /// Holds a signature of `what` against the certificate's key.
    pub(super) fn holds(
        &self,
        what: &'static str,
        context: &[u8],
        message: &[u8; 32],
        signature: &[u8; sign::SIGNATURE_LEN],
    ) -> Result<(), Error> {
        sign::verify(&self.signing, context, message, signature)
            .map_err(|source| Error::Crypto { what, source })
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
        out.u32(self.serial);
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
        let serial = input.u32()?;
        let signing = input.array()?;
        let name = read_name(input)?;
        Ok(Self { role, key, domain, serial, signing, name, signature: input.array()? })
    }
}

/// The name of a key; any UTF-8.
fn read_name(input: &mut Reader<'_>) -> Result<String, Error> {
    let name = input.bytes("key name", limits::KEY_NAME_LEN)?;
    Ok(std::str::from_utf8(name).map_err(|_| input.invalid("key name", "not UTF-8"))?.to_owned())
}

/// The public key that lane keys are wrapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub public: Vec<u8>,
}

impl Recipient {
    /// The one whose private key is the seed.
    pub fn of(seed: &Key) -> Self {
        Self { public: wrap::public(seed) }
    }

    /// Names the recipient in a session: the first 16 bytes of the hash of its public key.
    pub fn id(&self) -> [u8; 16] {
        *hash::plain(&self.public).first_chunk().expect("a hash has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(role: Role) -> Certificate {
        let of = (role, KeyId([4; 16]), DomainId([5; 16]), 1);
        Certificate::issue(&Key::new([1; 32]), RepoId([3; 16]), of, [2; 32], "shop")
    }

    #[test]
    fn a_certificate_holds_for_its_repository_and_owner_only() {
        let certificate = issued(Role::Writer);
        let owner = sign::public(&Key::new([1; 32]));
        assert!(certificate.verify(&owner, RepoId([3; 16])).is_ok());
        assert!(certificate.verify(&owner, RepoId([4; 16])).is_err());
        let forged = Certificate { role: Role::Owner, ..certificate.clone() };
        assert!(forged.verify(&owner, RepoId([3; 16])).is_err());
        let older = Certificate { serial: 0, ..certificate };
        assert!(older.verify(&owner, RepoId([3; 16])).is_err());
    }

    #[test]
    fn each_role_adds_and_begins_what_it_may() {
        let (owner, repo) = (sign::public(&Key::new([1; 32])), RepoId([3; 16]));
        for (role, adds, begins) in [
            (Role::Owner, true, true),
            (Role::Writer, true, true),
            (Role::Maintainer, false, true),
            (Role::Reader, false, false),
        ] {
            let certificate = issued(role);
            assert!(certificate.verify(&owner, repo).is_ok());
            assert_eq!(certificate.verify_adds(&owner, repo).is_ok(), adds, "{role}");
            assert_eq!(certificate.verify_begins(&owner, repo).is_ok(), begins, "{role}");
        }
    }

    #[test]
    fn a_domain_is_named_by_what_a_name_may_be_and_its_id_is_the_root_s() {
        let (root, other) = (Key::new([1; 32]), Key::new([2; 32]));
        let shop = Domain::named(&root, "shop").unwrap();
        assert_ne!(shop.id(), Domain::named(&other, "shop").unwrap().id());
        assert_ne!(shop.id(), Domain::named(&root, "shop2").unwrap().id());
        assert_eq!(Domain::named(&root, "default"), Some(Domain::default_one()));
        for name in ["", "a b", "a/b", "\u{e4}", &"a".repeat(65)] {
            assert_eq!(Domain::named(&root, name), None, "{name}");
        }
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
