//! Records on their way from pack to pack as they are, sealed: into packs of one kind and origin.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::format::id::{KeyId, RecordId, SessionId};
use crate::format::keys::KeyName;
use crate::format::limits;
use crate::format::pack::PackKind;
use crate::repo::pack_builder::{OpenPack, record_key_of};
use crate::repo::upload::{Share, Uploads};
use crate::repo::{Repository, Result, WriterSettings};

/// The pack that records of one sort are copied into. Not to be used on a thread of the runtime.
pub struct Carrier {
    repo: Repository,
    uploads: Arc<Uploads>,
    kind: PackKind,
    origin: KeyId,
    open: Option<Open>,
}

struct Open {
    pack: OpenPack,
    /// Whose lane keys open what is in it.
    sessions: BTreeSet<SessionId>,
    share: Share,
}

impl Carrier {
    pub fn new(repo: &Repository, uploads: Arc<Uploads>, kind: PackKind, origin: KeyId) -> Self {
        Self { repo: repo.clone(), uploads, kind, origin, open: None }
    }

    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    pub fn kind(&self) -> PackKind {
        self.kind
    }

    /// Takes a record along. False if its header does not open, or is of another.
    pub fn take(&mut self, id: RecordId, sealed: &[u8]) -> Result<bool> {
        let Some(name) = record_key_of(&self.repo.keys, &id, sealed) else { return Ok(false) };
        let open = self.room_for(sealed.len())?;
        open.pack.push(id, sealed);
        if let KeyName::Data { session, .. } = name {
            open.sessions.insert(session);
        }
        Ok(true)
    }

    fn room_for(&mut self, len: usize) -> Result<&mut Open> {
        let settings = WriterSettings::limited(self.repo.store.upload_limit());
        let target = match self.kind {
            PackKind::Data => settings.data_pack_bytes,
            PackKind::Nodes => settings.node_pack_bytes,
        };
        let is_full =
            |open: &Open| open.pack.is_full_for(len, target) || open.sessions.len() == limits::PACK_SESSIONS;
        if self.open.as_ref().is_some_and(is_full) {
            self.send()?;
        }
        if self.open.is_none() {
            let room = target.max(len);
            let mut share = self.uploads.share(room)?;
            let pack = OpenPack::new(self.kind, Vec::new(), &self.repo.world, share.take_buffer());
            self.open = Some(Open { pack, sessions: BTreeSet::new(), share });
        }
        Ok(self.open.as_mut().expect("there is room now"))
    }

    /// Sends what is open to the store.
    pub fn send(&mut self) -> Result<()> {
        let Some(Open { pack, sessions, share }) = self.open.take() else { return Ok(()) };
        let mut sealed = pack.seal(&self.repo.keys, &self.repo.world);
        sealed.index.origin = self.origin;
        sealed.index.sessions = sessions.into_iter().collect();
        self.uploads.send(sealed, share)
    }
}
