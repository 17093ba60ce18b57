//! Sessions: written before the first pack, so that every record can be opened later, come what may.
//!
//! Spec: chapter 7. Holds the writer's certificate and, for each lane, its data key wrapped
//! to every recipient and the public key that its index deltas are signed with. Signed by the
//! writer: so each pack can be told to be of one writer, and nobody can plant one in another's name.

use crate::crypto::secret::Key;
use crate::crypto::{context, sign, wrap};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{RepoId, SessionId};
use crate::format::keys::{Certificate, Recipient};
use crate::format::{Error, limits, signed};
use crate::world::{Random, Time};

const WHAT: &str = "session";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    pub recipient: [u8; 16],
    pub wrapped: Vec<u8>,
}

/// One of a session's parallel writers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Signs the lane's index deltas; made for the session, so that a mover needs no lasting key.
    pub signing: [u8; sign::PUBLIC_LEN],
    /// The lane's data key, once for each recipient.
    pub keys: Vec<WrappedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub started: Time,
    pub certificate: Certificate,
    pub lanes: Vec<Lane>,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

impl Session {
    pub fn sign(&mut self, seed: &Key, repo: RepoId, id: SessionId) {
        self.signature = sign::sign(seed, context::SIGN_SESSION, &self.signed(repo, id));
    }

    /// Holds the certificate against the owner's key, and the signature against the certificate.
    pub fn verify(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId, id: SessionId) -> Result<(), Error> {
        self.certificate.verify_begins(owner, repo)?;
        self.certificate.holds(WHAT, context::SIGN_SESSION, &self.signed(repo, id), &self.signature)
    }

    fn signed(&self, repo: RepoId, id: SessionId) -> [u8; 32] {
        signed::message(&[&repo.0, &id.0], |out| self.write_body(out))
    }

    fn write_body(&self, out: &mut Writer) {
        out.i64(self.started.0);
        self.certificate.write(out);
        out.varint(self.lanes.len() as u64);
        for lane in &self.lanes {
            out.raw(&lane.signing);
            out.varint(lane.keys.len() as u64);
            for key in &lane.keys {
                out.raw(&key.recipient);
                out.raw(&key.wrapped);
            }
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        signed::encode(|out| self.write_body(out), &self.signature)
    }

    /// Decodes what [`crate::format::object::open_object`] gave: padding may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let started = Time(input.i64()?);
        let certificate = Certificate::read(&mut input)?;
        let count = input.count("lanes", limits::LANES, sign::PUBLIC_LEN + 1)?;
        let mut lanes = Vec::with_capacity(count);
        for _ in 0..count {
            lanes.push(read_lane(&mut input)?);
        }
        let signature = input.array()?;
        input.zeros()?;
        Ok(Self { started, certificate, lanes, signature })
    }
}

fn read_lane(input: &mut Reader<'_>) -> Result<Lane, Error> {
    let signing = input.array()?;
    let count = input.count("recipients", limits::RECIPIENTS, 16 + wrap::WRAP_LEN)?;
    let keys = (0..count)
        .map(|_| Ok(WrappedKey { recipient: input.array()?, wrapped: input.raw(wrap::WRAP_LEN)?.to_vec() }))
        .collect::<Result<_, Error>>()?;
    Ok(Lane { signing, keys })
}

/// Wraps a lane's key to every recipient.
pub fn wrap_lane(
    (repo, session, lane): (RepoId, SessionId, u32),
    key: &Key,
    recipients: &[Recipient],
    random: &dyn Random,
) -> Result<Vec<WrappedKey>, Error> {
    recipients
        .iter()
        .map(|recipient| {
            let id = recipient.id();
            let wrapped = wrap::wrap(&recipient.public, &lane_info(repo, session, lane, &id), key, random)
                .map_err(|source| Error::Crypto { what: "recipient", source })?;
            Ok(WrappedKey { recipient: id, wrapped })
        })
        .collect()
}

/// Opens a lane's key with the seed of one of its recipients.
pub fn unwrap_lane(
    (repo, session, lane): (RepoId, SessionId, u32),
    seed: &Key,
    keys: &[WrappedKey],
) -> Result<Key, Error> {
    let id = Recipient { public: wrap::public(seed) }.id();
    let missing =
        Error::Crypto { what: "session: no key for this recipient", source: crate::crypto::Error::Unwrap };
    let wrapped = keys.iter().find(|key| key.recipient == id).ok_or(missing)?;
    wrap::unwrap(seed, &lane_info(repo, session, lane, &id), &wrapped.wrapped)
        .map_err(|source| Error::Crypto { what: WHAT, source })
}

fn lane_info(repo: RepoId, session: SessionId, lane: u32, recipient: &[u8; 16]) -> Vec<u8> {
    [context::LANE_WRAP, &repo.0, &session.0, &lane.to_le_bytes(), recipient].concat()
}
