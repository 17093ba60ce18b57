//! What the owner's secrets give: the keys of every domain, and the secrets of every role.
//!
//! Spec: chapter 3. All of it is derived from the root, but for the recipient's later epochs, which are drawn,
//! and for the keys that a repository made like another one has taken over. Pure.

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, sign};
use crate::format::config::Chunker;
use crate::format::id::{DomainId, KeyId, RepoId};
use crate::format::keys::{
    Bundle, Certificate, Domain, IdKeys, OwnerSecrets, ReaderSecrets, Recipient, Role, RoleSecrets, SlotInfo,
    WriterSecrets,
};
use crate::repo::{Error, Result};

/// What a repository takes over from the one that it is made like: then copies deduplicate with what is
/// backed up directly. Secret.
#[derive(Clone)]
pub struct LikeKeys {
    pub sizes: Chunker,
    pub ids: IdKeys,
}

/// The keys of a domain, as the owner derives them.
pub(super) struct DomainKeys {
    pub ids: IdKeys,
    pub structure: Key,
    pub meta_root: Key,
    /// Of the recipients, by epoch.
    pub seeds: Vec<Key>,
}

impl DomainKeys {
    /// The recipient that lane keys are wrapped to: of the newest epoch.
    pub fn recipient(&self) -> Recipient {
        Recipient::of(self.seeds.last().expect("the first epoch is always there"))
    }
}

/// The owner's secrets, for one repository.
#[derive(Clone)]
pub(super) struct Owner {
    pub repo: RepoId,
    pub secrets: OwnerSecrets,
}

impl Owner {
    pub fn signing(&self) -> Key {
        hash::derive(context::OWNER_SIGNING, &self.secrets.root, b"")
    }

    pub fn public(&self) -> [u8; sign::PUBLIC_LEN] {
        sign::public(&self.signing())
    }

    /// The recipient's secrets, by epoch: that of the first is the root's.
    fn epochs(&self) -> impl Iterator<Item = Key> {
        let first = hash::derive(context::OWNER_RECIPIENT, &self.secrets.root, b"");
        [first].into_iter().chain(self.secrets.epochs.iter().cloned())
    }

    /// What infos of slots are sealed with, by epoch.
    pub fn info_keys(&self) -> Vec<Key> {
        self.epochs().map(|epoch| hash::derive(context::SLOT_INFO, &epoch, b"")).collect()
    }

    /// The domain that people call so.
    pub fn domain(&self, name: &str) -> Result<Domain> {
        Domain::named(&self.secrets.root, name).ok_or_else(|| Error::DomainName { name: name.to_owned() })
    }

    pub fn domain_keys(&self, domain: DomainId) -> DomainKeys {
        let root = hash::derive(context::DOMAIN, &self.secrets.root, &domain.0);
        let from = |context| hash::derive(context, &root, b"");
        let derived = || IdKeys { id: from(context::ID), chunker: from(context::CHUNKER) };
        let like = self.secrets.like.clone().filter(|_| domain == DomainId::DEFAULT);
        DomainKeys {
            ids: like.unwrap_or_else(derived),
            structure: from(context::STRUCTURE),
            meta_root: from(context::META_ROOT),
            seeds: self.epochs().map(|epoch| hash::derive(context::RECIPIENT, &epoch, &domain.0)).collect(),
        }
    }

    /// The owner as a writer of a domain.
    pub fn certificate(&self, domain: DomainId) -> Certificate {
        let of = (Role::Owner, KeyId::OWNER, domain, 0);
        Certificate::issue(&self.signing(), self.repo, of, self.public(), "owner")
    }

    /// What a slot with this info is to hold. Without a key to sign with it is an owner's.
    pub fn secrets_of(&self, info: &SlotInfo, signing: Option<&Key>) -> RoleSecrets {
        let Some(signing) = signing.cloned() else {
            return RoleSecrets::Owner(Box::new(self.secrets.clone()));
        };
        let keys = self.domain_keys(info.domain.id());
        let of = (info.role, info.key, info.domain.id(), info.serial);
        let public = sign::public(&signing);
        let certificate = Certificate::issue(&self.signing(), self.repo, of, public, &info.name);
        let recipients = vec![keys.recipient()];
        let bundle = Bundle { certificate, domain: info.domain.clone(), signing, structure: keys.structure };
        let (ids, meta_root) = (keys.ids, keys.meta_root);
        match info.role {
            Role::Owner => RoleSecrets::Owner(Box::new(self.secrets.clone())),
            Role::Maintainer => RoleSecrets::Maintainer(Box::new(bundle)),
            Role::Reader => {
                RoleSecrets::Reader(Box::new(ReaderSecrets { bundle, ids, meta_root, seeds: keys.seeds }))
            }
            Role::Writer => RoleSecrets::Writer(Box::new(WriterSecrets {
                bundle,
                ids,
                meta_scope: meta_scope(&meta_root, info.key),
                trust: info.trust,
                recipients,
            })),
        }
    }
}

pub(super) fn meta_scope(meta_root: &Key, scope: KeyId) -> Key {
    hash::derive(context::META_SCOPE, meta_root, &scope.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(epochs: Vec<Key>, like: Option<IdKeys>) -> Owner {
        let secrets = OwnerSecrets { root: Key::new([1; 32]), epochs, like };
        Owner { repo: RepoId([2; 16]), secrets }
    }

    #[test]
    fn domains_share_no_key_and_an_epoch_changes_the_recipient_only() {
        let first = owner(vec![], None);
        let shop = first.domain("shop").unwrap().id();
        let (a, b) = (first.domain_keys(DomainId::DEFAULT), first.domain_keys(shop));
        assert!(a.ids.id != b.ids.id && a.ids.chunker != b.ids.chunker && a.structure != b.structure);
        assert!(a.meta_root != b.meta_root && a.seeds != b.seeds);
        let later = owner(vec![Key::new([3; 32])], None).domain_keys(shop);
        assert!(later.ids == b.ids && later.structure == b.structure && later.meta_root == b.meta_root);
        assert_eq!((later.seeds.len(), &later.seeds[..1]), (2, &b.seeds[..]));
        assert_ne!(later.recipient(), b.recipient());
    }

    #[test]
    fn keys_that_are_taken_over_are_the_default_domain_s_only() {
        let ids = IdKeys { id: Key::new([4; 32]), chunker: Key::new([5; 32]) };
        let (like, own) = (owner(vec![], Some(ids.clone())), owner(vec![], None));
        let shop = own.domain("shop").unwrap().id();
        assert_eq!(like.domain_keys(DomainId::DEFAULT).ids, ids);
        assert_eq!(like.domain_keys(shop).ids, own.domain_keys(shop).ids);
    }
}
