//! Sessions: written before the first pack, so that every record can be opened later, come what may.
//!
//! Spec: chapter 7. Holds the writer's certificate and, for each lane, its data key wrapped
//! to every recipient.

use crate::crypto::secret::Key;
use crate::crypto::{context, wrap};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{RepoId, SessionId};
use crate::format::keys::{Certificate, Recipient};
use crate::format::{Error, limits};
use crate::world::{Random, Time};

const WHAT: &str = "session";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    pub recipient: [u8; 16],
    pub wrapped: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub started: Time,
    pub certificate: Certificate,
    /// Lane n's key, once for each recipient.
    pub lanes: Vec<Vec<WrappedKey>>,
}

impl Session {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.i64(self.started.0);
        self.certificate.write(&mut out);
        out.varint(self.lanes.len() as u64);
        for lane in &self.lanes {
            out.varint(lane.len() as u64);
            for key in lane {
                out.raw(&key.recipient);
                out.raw(&key.wrapped);
            }
        }
        out.into_bytes()
    }

    /// Decodes what [`crate::format::object::open_object`] gave: padding may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let started = Time(input.i64()?);
        let certificate = Certificate::read(&mut input)?;
        let count = input.count("lanes", limits::LANES, 1)?;
        let mut lanes = Vec::with_capacity(count);
        for _ in 0..count {
            let keys = input.count("recipients", limits::RECIPIENTS, 16 + wrap::WRAP_LEN)?;
            let lane = (0..keys)
                .map(|_| {
                    Ok(WrappedKey { recipient: input.array()?, wrapped: input.raw(wrap::WRAP_LEN)?.to_vec() })
                })
                .collect::<Result<_, Error>>()?;
            lanes.push(lane);
        }
        input.zeros()?;
        Ok(Self { started, certificate, lanes })
    }
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
