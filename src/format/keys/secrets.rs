//! What the slots of the roles hold.
//!
//! Spec: chapter 3. Each role has the keys that it needs and no more: a writer none that opens a chunk, a
//! maintainer none that opens a name or makes an id, a reader those of its domain, the owner the root.

use zeroize::Zeroizing;

use crate::crypto::secret::Key;
use crate::crypto::wrap;
use crate::format::codec::{Reader, Writer};
use crate::format::keys::{Certificate, Domain, Recipient, Role, Trust};
use crate::format::{Error, limits};

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    pub config_digest: [u8; 32],
    pub holds: RoleSecrets,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleSecrets {
    Owner(Box<OwnerSecrets>),
    Writer(Box<WriterSecrets>),
    Maintainer(Box<Bundle>),
    Reader(Box<ReaderSecrets>),
}

/// What everything else is derived from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerSecrets {
    pub root: Key,
    /// Secrets of the recipient behind the first, which is the root's; the newest last.
    pub epochs: Vec<Key>,
    /// Take the place of the derived ones in the default domain: those of the repository that this one is like.
    pub like: Option<IdKeys>,
}

/// The keys that ids and cuts are made with. They open nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdKeys {
    pub id: Key,
    pub chunker: Key,
}

/// What each role but the owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub certificate: Certificate,
    pub domain: Domain,
    pub signing: Key,
    pub structure: Key,
}

/// Enough to add to a domain, not enough to open a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSecrets {
    pub bundle: Bundle,
    pub ids: IdKeys,
    pub meta_scope: Key,
    pub trust: Trust,
    pub recipients: Vec<Recipient>,
}

/// Enough to read all of a domain, and to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderSecrets {
    pub bundle: Bundle,
    pub ids: IdKeys,
    pub meta_root: Key,
    /// Of the domain's recipients, the newest last.
    pub seeds: Vec<Key>,
}

const WHAT: &str = "key slot contents";

impl RoleSecrets {
    pub fn role(&self) -> Role {
        match self {
            RoleSecrets::Owner(_) => Role::Owner,
            RoleSecrets::Writer(_) => Role::Writer,
            RoleSecrets::Maintainer(_) => Role::Maintainer,
            RoleSecrets::Reader(_) => Role::Reader,
        }
    }

    /// None of the owner, who signs with a key of the root's.
    pub fn bundle(&self) -> Option<&Bundle> {
        match self {
            RoleSecrets::Owner(_) => None,
            RoleSecrets::Writer(writer) => Some(&writer.bundle),
            RoleSecrets::Maintainer(bundle) => Some(bundle),
            RoleSecrets::Reader(reader) => Some(&reader.bundle),
        }
    }
}

impl Secrets {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::new();
        out.raw(&self.config_digest);
        out.u8(self.holds.role().number());
        match &self.holds {
            RoleSecrets::Owner(owner) => owner.write(&mut out),
            RoleSecrets::Writer(writer) => writer.write(&mut out),
            RoleSecrets::Maintainer(bundle) => bundle.write(&mut out),
            RoleSecrets::Reader(reader) => reader.write(&mut out),
        }
        Zeroizing::new(out.into_bytes())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let config_digest = input.array()?;
        let holds = match Role::read(&mut input)? {
            Role::Owner => RoleSecrets::Owner(Box::new(OwnerSecrets::read(&mut input)?)),
            Role::Writer => RoleSecrets::Writer(Box::new(WriterSecrets::read(&mut input)?)),
            Role::Maintainer => {
                RoleSecrets::Maintainer(Box::new(Bundle::read(&mut input, Role::Maintainer)?))
            }
            Role::Reader => RoleSecrets::Reader(Box::new(ReaderSecrets::read(&mut input)?)),
        };
        input.zeros()?;
        Ok(Self { config_digest, holds })
    }
}

impl OwnerSecrets {
    fn write(&self, out: &mut Writer) {
        out.raw(self.root.expose());
        write_keys(out, &self.epochs);
        out.u8(self.like.is_some().into());
        if let Some(like) = &self.like {
            like.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let root = read_key(input)?;
        let epochs = read_keys(input, limits::EPOCHS - 1)?;
        let like = if input.flag("like")? { Some(IdKeys::read(input)?) } else { None };
        Ok(Self { root, epochs, like })
    }
}

impl IdKeys {
    fn write(&self, out: &mut Writer) {
        out.raw(self.id.expose());
        out.raw(self.chunker.expose());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { id: read_key(input)?, chunker: read_key(input)? })
    }
}

impl Bundle {
    fn write(&self, out: &mut Writer) {
        self.certificate.write(out);
        self.domain.write_name(out);
        out.raw(self.signing.expose());
        out.raw(self.structure.expose());
    }

    fn read(input: &mut Reader<'_>, role: Role) -> Result<Self, Error> {
        let certificate = Certificate::read(input)?;
        if certificate.role != role {
            return Err(input.invalid("certificate", format!("a {}'s in a {role}'s slot", certificate.role)));
        }
        let domain = Domain::read_name(input, certificate.domain)?;
        Ok(Self { certificate, domain, signing: read_key(input)?, structure: read_key(input)? })
    }
}

impl WriterSecrets {
    fn write(&self, out: &mut Writer) {
        self.bundle.write(out);
        self.ids.write(out);
        out.raw(self.meta_scope.expose());
        out.u8(self.trust.number());
        out.varint(self.recipients.len() as u64);
        self.recipients.iter().for_each(|recipient| out.raw(&recipient.public));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let bundle = Bundle::read(input, Role::Writer)?;
        let (ids, meta_scope, trust) = (IdKeys::read(input)?, read_key(input)?, Trust::read(input)?);
        let count = input.count("recipients", limits::RECIPIENTS, wrap::PUBLIC_LEN)?;
        let recipients = (0..count)
            .map(|_| Ok(Recipient { public: input.raw(wrap::PUBLIC_LEN)?.to_vec() }))
            .collect::<Result<_, Error>>()?;
        Ok(Self { bundle, ids, meta_scope, trust, recipients })
    }
}

impl ReaderSecrets {
    fn write(&self, out: &mut Writer) {
        self.bundle.write(out);
        self.ids.write(out);
        out.raw(self.meta_root.expose());
        write_keys(out, &self.seeds);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let bundle = Bundle::read(input, Role::Reader)?;
        let (ids, meta_root) = (IdKeys::read(input)?, read_key(input)?);
        Ok(Self { bundle, ids, meta_root, seeds: read_keys(input, limits::EPOCHS)? })
    }
}

fn write_keys(out: &mut Writer, keys: &[Key]) {
    out.varint(keys.len() as u64);
    keys.iter().for_each(|key| out.raw(key.expose()));
}

fn read_keys(input: &mut Reader<'_>, most: usize) -> Result<Vec<Key>, Error> {
    let count = input.count("epochs", most, 32)?;
    (0..count).map(|_| read_key(input)).collect()
}

fn read_key(input: &mut Reader<'_>) -> Result<Key, Error> {
    Ok(Key::new(input.array()?))
}
