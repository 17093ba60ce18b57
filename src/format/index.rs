//! Index deltas: which packs a lane wrote, and where each id lies.
//!
//! Spec: chapter 5. Holds the length and the BLAKE3 of each whole pack, so that all bytes
//! can be checked by whoever has the structure key. Signed with the lane's key, which the
//! session names: so nobody can say in another's name where a chunk lies. Sealed as an object.

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, sign};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{KeyId, PackId, RecordId, RepoId, SessionId};
use crate::format::pack::PackKind;
use crate::format::{Error, limits};

const WHAT: &str = "index";
const RECORD_LEN: usize = 33 + 4 + 4;
const PACK_LEN: usize = 16 + 1 + 4 + 32 + 16 + 1 + 1 + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRecord {
    pub id: RecordId,
    pub offset: u32,
    /// Header and parts, in bytes.
    pub len: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPack {
    pub id: PackId,
    pub kind: PackKind,
    pub len: u32,
    /// BLAKE3 of all bytes of the pack, padding included.
    pub hash: [u8; 32],
    /// Whose records they are: the key id of the writer that has sealed them.
    pub origin: KeyId,
    /// Somebody who can read has opened every record and compared its id; in checkpoints only.
    pub verified: bool,
    /// The sessions whose lane keys open the records, ascending. A node pack has none of its own.
    pub sessions: Vec<SessionId>,
    pub records: Vec<IndexRecord>,
}

/// What `index/<sid>/<lane>-<k>` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexDelta {
    pub packs: Vec<IndexPack>,
}

impl IndexPack {
    /// BLAKE3 of what is said of the pack's bytes and records: who names the pack again with the same digest says the
    /// same of it.
    pub fn digest(&self) -> [u8; 32] {
        let named = Self { verified: false, sessions: Vec::new(), ..self.clone() };
        hash::plain(&IndexDelta { packs: vec![named] }.body())
    }
}

impl IndexDelta {
    /// What is stored, before sealing: the delta and the lane's signature, for the object at `key`.
    pub fn encode(&self, lane: &Key, repo: RepoId, key: &str) -> Vec<u8> {
        let mut bytes = self.body();
        let signature = sign::sign(lane, context::SIGN_INDEX, &signed(repo, key, &bytes));
        bytes.extend_from_slice(&signature);
        bytes
    }

    /// What is stored before the signature; a part of a checkpoint's index is no more than this.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.varint(self.packs.len() as u64);
        for pack in &self.packs {
            out.raw(&pack.id.0);
            out.u8(pack.kind.number());
            out.u32(pack.len);
            out.raw(&pack.hash);
            out.raw(&pack.origin.0);
            out.u8(pack.verified.into());
            out.varint(pack.sessions.len() as u64);
            pack.sessions.iter().for_each(|session| out.raw(&session.0));
            out.varint(pack.records.len() as u64);
            for record in &pack.records {
                out.u8(record.id.kind());
                out.raw(record.id.bytes());
                out.u32(record.offset);
                out.u32(record.len);
            }
        }
        out.into_bytes()
    }

    /// Decodes a part of a checkpoint's index: padding may follow.
    pub fn decode_part(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let packs = read_packs(&mut input)?;
        input.zeros()?;
        Ok(Self { packs })
    }

    /// Decodes what [`crate::format::object::open_object`] gave (padding may follow) and holds
    /// the signature against the lane's public key.
    pub fn decode(
        bytes: &[u8],
        lane: &[u8; sign::PUBLIC_LEN],
        repo: RepoId,
        key: &str,
    ) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let packs = read_packs(&mut input)?;
        let message = signed(repo, key, &bytes[..input.at()]);
        let signature = input.array()?;
        input.zeros()?;
        sign::verify(lane, context::SIGN_INDEX, &message, &signature)
            .map_err(|source| Error::Crypto { what: WHAT, source })?;
        Ok(Self { packs })
    }

    pub fn records(&self) -> usize {
        self.packs.iter().map(|pack| pack.records.len()).sum()
    }
}

fn signed(repo: RepoId, key: &str, body: &[u8]) -> Vec<u8> {
    [&repo.0[..], key.as_bytes(), &[0], &hash::plain(body)].concat()
}

fn read_packs(input: &mut Reader<'_>) -> Result<Vec<IndexPack>, Error> {
    let count = input.count("packs", limits::INDEX_PACKS, PACK_LEN)?;
    let mut packs = Vec::with_capacity(count);
    for _ in 0..count {
        packs.push(read_pack(input)?);
    }
    Ok(packs)
}

fn read_pack(input: &mut Reader<'_>) -> Result<IndexPack, Error> {
    let id = PackId::read(input)?;
    let kind = PackKind::read(input)?;
    let len = input.u32()?;
    if len as usize > limits::PACK_LEN {
        return Err(Error::TooMuch {
            what: WHAT,
            field: "pack length",
            found: len.into(),
            most: limits::PACK_LEN as u64,
        });
    }
    let hash = input.array()?;
    let origin = KeyId::read(input)?;
    let verified = input.flag("verified")?;
    let count = input.count("sessions", limits::PACK_SESSIONS, SessionId::LEN)?;
    let sessions = (0..count).map(|_| SessionId::read(input)).collect::<Result<Vec<_>, _>>()?;
    if !sessions.is_sorted_by(|a, b| a < b) {
        return Err(input.invalid("sessions", "not ascending"));
    }
    let count = input.count("records", limits::PACK_RECORDS, RECORD_LEN)?;
    let mut records = Vec::with_capacity(count);
    let mut end = 0u64;
    for _ in 0..count {
        let record = IndexRecord { id: RecordId::read(input)?, offset: input.u32()?, len: input.u32()? };
        if u64::from(record.offset) != end {
            return Err(input.invalid("record offset", record.offset));
        }
        end += u64::from(record.len);
        records.push(record);
    }
    match end <= u64::from(len) {
        true => Ok(IndexPack { id, kind, len, hash, origin, verified, sessions, records }),
        false => Err(input.invalid("records", "beyond the pack's end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::ChunkId;

    #[test]
    fn a_delta_comes_back_and_nothing_may_follow_it_but_zeros() {
        let record = IndexRecord { id: RecordId::Chunk(ChunkId([1; 32])), offset: 0, len: 500 };
        let pack = IndexPack {
            id: PackId([2; 16]),
            kind: PackKind::Data,
            len: 1024,
            hash: [3; 32],
            origin: KeyId([7; 16]),
            verified: false,
            sessions: vec![SessionId([8; 16])],
            records: vec![record],
        };
        let delta = IndexDelta { packs: vec![pack] };
        let (seed, repo) = (Key::new([4; 32]), RepoId([5; 16]));
        let lane = sign::public(&seed);
        let mut bytes = delta.encode(&seed, repo, "index/a/0-0");
        bytes.extend_from_slice(&[0; 9]);
        assert_eq!(IndexDelta::decode(&bytes, &lane, repo, "index/a/0-0").unwrap(), delta);
        assert!(IndexDelta::decode(&bytes, &lane, repo, "index/a/0-1").is_err());
        assert!(IndexDelta::decode(&bytes, &[6; 32], repo, "index/a/0-0").is_err());
        *bytes.last_mut().unwrap() = 1;
        assert!(IndexDelta::decode(&bytes, &lane, repo, "index/a/0-0").is_err());
    }
}
