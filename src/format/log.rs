//! The gc log: what is forgotten, and what may be deleted.
//!
//! Spec: chapter 11. One entry an object, each naming the one before by its hash and signed by its
//! author. Sealed as an object at `gc/<n>`.

use crate::crypto::secret::Key;
use crate::crypto::{context, sign};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{KeyId, PackId, RepoId, SessionId};
use crate::format::keys::{Certificate, Role};
use crate::format::{Error, limits, signed};
use crate::world::Time;

const WHAT: &str = "gc log entry";

/// `gc/<n>`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// BLAKE3 of the entry before, as stored; zeros for the first.
    pub previous: [u8; 32],
    /// By its author's clock.
    pub time: Time,
    pub action: Action,
    pub certificate: Certificate,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

/// What an entry says. Ids are strictly ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// These packs may go; nobody who reads this refers to them. Closes the epoch.
    Condemn {
        packs: Vec<PackId>,
    },
    /// These of the packs condemned in the slot go. Ends the epoch.
    Sweep {
        condemned: u64,
        packs: Vec<PackId>,
    },
    /// These commits are there; seen for the first time.
    Observe {
        sessions: Vec<SessionId>,
    },
    Forget {
        sessions: Vec<SessionId>,
    },
    /// Forgotten, and brought back.
    Recall {
        sessions: Vec<SessionId>,
    },
    Hold(Hold),
    /// Ids of holds, or of commits that were held when they were made.
    Lift {
        holds: Vec<[u8; 16]>,
    },
    /// Every record of these packs was opened and is what its id says.
    Verify {
        packs: Vec<Verified>,
    },
    /// What this key id has made with this serial or a lower one does not count, unless observed before.
    Revoke {
        key: KeyId,
        serial: u32,
    },
    /// These packs are not what was written, or are missing: nobody refers to them, and nothing in them is a copy.
    Damaged {
        packs: Vec<PackId>,
    },
    /// The entries before this one may not hold together, and the owner knows. The epoch is at least this one.
    Renew {
        epoch: u32,
    },
}

/// A pack that was read, and what the index said of it then: whoever names it otherwise names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub pack: PackId,
    /// [`crate::format::index::IndexPack::digest`].
    pub digest: [u8; 32],
}

/// Nothing in its scope is forgotten until it is lifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: [u8; 16],
    pub scope: Scope,
    /// What people want to know of it; a maintainer can read it.
    pub note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Source([u8; 16]),
    Snapshot(SessionId),
}

impl Action {
    fn kind(&self) -> u8 {
        match self {
            Action::Condemn { .. } => 1,
            Action::Sweep { .. } => 2,
            Action::Observe { .. } => 3,
            Action::Forget { .. } => 4,
            Action::Recall { .. } => 5,
            Action::Hold(_) => 6,
            Action::Lift { .. } => 7,
            Action::Verify { .. } => 8,
            Action::Revoke { .. } => 9,
            Action::Damaged { .. } => 10,
            Action::Renew { .. } => 11,
        }
    }

    /// Who may say this.
    pub fn authors(&self) -> &'static [Role] {
        match self {
            Action::Verify { .. } => &[Role::Reader, Role::Owner],
            Action::Revoke { .. } | Action::Renew { .. } => &[Role::Owner],
            _ => &[Role::Maintainer, Role::Owner],
        }
    }

    fn write(&self, out: &mut Writer) {
        out.u8(self.kind());
        match self {
            Action::Condemn { packs } | Action::Damaged { packs } => write_ids(out, packs, |id| &id.0),
            Action::Verify { packs } => {
                out.varint(packs.len() as u64);
                for verified in packs {
                    out.raw(&verified.pack.0);
                    out.raw(&verified.digest);
                }
            }
            Action::Sweep { condemned, packs } => {
                out.u64(*condemned);
                write_ids(out, packs, |id| &id.0);
            }
            Action::Observe { sessions } | Action::Forget { sessions } | Action::Recall { sessions } => {
                write_ids(out, sessions, |id| &id.0);
            }
            Action::Hold(hold) => hold.write(out),
            Action::Lift { holds } => write_ids(out, holds, |id| id),
            Action::Revoke { key, serial } => {
                out.raw(&key.0);
                out.u32(*serial);
            }
            Action::Renew { epoch } => out.u32(*epoch),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let packs = |ids: Vec<[u8; 16]>| ids.into_iter().map(PackId).collect();
        let sessions = |ids: Vec<[u8; 16]>| ids.into_iter().map(SessionId).collect();
        Ok(match input.u8()? {
            1 => Action::Condemn { packs: packs(read_ids(input)?) },
            2 => Action::Sweep { condemned: input.u64()?, packs: packs(read_ids(input)?) },
            3 => Action::Observe { sessions: sessions(read_ids(input)?) },
            4 => Action::Forget { sessions: sessions(read_ids(input)?) },
            5 => Action::Recall { sessions: sessions(read_ids(input)?) },
            6 => Action::Hold(Hold::read(input)?),
            7 => Action::Lift { holds: read_ids(input)? },
            8 => Action::Verify { packs: read_verified(input)? },
            9 => Action::Revoke { key: KeyId::read(input)?, serial: input.u32()? },
            10 => Action::Damaged { packs: packs(read_ids(input)?) },
            11 => Action::Renew { epoch: input.u32()? },
            other => return Err(input.invalid("kind", other)),
        })
    }
}

impl Hold {
    pub fn write(&self, out: &mut Writer) {
        out.raw(&self.id);
        let (kind, id) = match self.scope {
            Scope::All => (0, [0; 16]),
            Scope::Source(id) => (1, id),
            Scope::Snapshot(id) => (2, id.0),
        };
        out.u8(kind);
        out.raw(&id);
        out.bytes(self.note.as_bytes());
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let id = input.array()?;
        let kind = input.u8()?;
        let scope = match (kind, input.array()?) {
            (0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => Scope::All,
            (1, id) => Scope::Source(id),
            (2, id) => Scope::Snapshot(SessionId(id)),
            _ => return Err(input.invalid("scope", kind)),
        };
        let note = input.bytes("note", limits::NOTE_LEN)?;
        let note = std::str::from_utf8(note).map_err(|_| input.invalid("note", "not UTF-8"))?.to_owned();
        Ok(Self { id, scope, note })
    }
}

impl Entry {
    /// What is stored, before sealing, as the entry of slot `n`.
    pub fn sign(
        (previous, time, action): ([u8; 32], Time, Action),
        (certificate, seed): (Certificate, &Key),
        repo: RepoId,
        n: u64,
    ) -> Self {
        let mut entry = Self { previous, time, action, certificate, signature: [0; sign::SIGNATURE_LEN] };
        entry.signature = sign::sign(seed, context::SIGN_LOG, &entry.signed(repo, n));
        entry
    }

    /// Holds author and signature against the owner's key.
    pub fn verify(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId, n: u64) -> Result<(), Error> {
        self.certificate.verify_as((self.action.authors(), "which may not do this"), owner, repo)?;
        self.certificate.holds(WHAT, context::SIGN_LOG, &self.signed(repo, n), &self.signature)
    }

    fn signed(&self, repo: RepoId, n: u64) -> [u8; 32] {
        let names: [&[u8]; 3] = [&repo.0, &self.certificate.domain.0, &n.to_le_bytes()];
        signed::message(&names, |out| self.write_body(out))
    }

    fn write_body(&self, out: &mut Writer) {
        out.raw(&self.previous);
        out.i64(self.time.0);
        self.action.write(out);
        self.certificate.write(out);
    }

    pub fn encode(&self) -> Vec<u8> {
        signed::encode(|out| self.write_body(out), &self.signature)
    }

    /// Decodes what [`crate::format::object::open_object`] gave: padding may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let entry = Self {
            previous: input.array()?,
            time: Time(input.i64()?),
            action: Action::read(&mut input)?,
            certificate: Certificate::read(&mut input)?,
            signature: input.array()?,
        };
        input.zeros()?;
        Ok(entry)
    }
}

fn write_ids<T>(out: &mut Writer, ids: &[T], bytes: impl Fn(&T) -> &[u8; 16]) {
    out.varint(ids.len() as u64);
    ids.iter().for_each(|id| out.raw(bytes(id)));
}

fn read_ids(input: &mut Reader<'_>) -> Result<Vec<[u8; 16]>, Error> {
    let count = input.count("ids", limits::LOG_IDS, 16)?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(input.array()?);
    }
    match ids.is_sorted_by(|a, b| a < b) {
        true => Ok(ids),
        false => Err(input.invalid("ids", "not ascending")),
    }
}

fn read_verified(input: &mut Reader<'_>) -> Result<Vec<Verified>, Error> {
    let count = input.count("verified packs", limits::LOG_VERIFIED, 16 + 32)?;
    let read = |_| Ok(Verified { pack: PackId::read(input)?, digest: input.array()? });
    let packs: Vec<Verified> = (0..count).map(read).collect::<Result<_, Error>>()?;
    match packs.is_sorted_by(|a, b| a.pack < b.pack) {
        true => Ok(packs),
        false => Err(input.invalid("verified packs", "not ascending")),
    }
}
